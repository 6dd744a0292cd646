//! Changes of single pixels: colours and light.

use image::RgbImage;

use super::super::shapes::{byte, float};
use super::super::words::{Grade, Tint};

/// A pixel from 0 to 1.
type Pixel = [f32; 3];

/// Makes changes of single pixels.
pub(super) fn apply(image: &mut RgbImage, grades: &[Grade]) {
    if grades.is_empty() {
        return;
    }
    let (width, height) = (float(image.width()), float(image.height()));
    let row_bytes = image.width() as usize * 3;
    for (y, row) in image.chunks_exact_mut(row_bytes).enumerate() {
        let y = float(y) / height;
        // Equal neighbours are common in drawings, and have equal results where the column makes no difference.
        let mut last: Option<([u8; 3], [u8; 3])> = None;
        let by_column = grades.contains(&Grade::Vintage);
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let before = [pixel[0], pixel[1], pixel[2]];
            let after = match last {
                Some((known, result)) if known == before && !by_column => result,
                _ => {
                    let at = [float(x) / width, y];
                    let values = before.map(|value| f32::from(value) / 255.0);
                    grades
                        .iter()
                        .fold(values, |values, grade| changed(values, *grade, at))
                        .map(|part| byte(part * 255.5))
                }
            };
            last = Some((before, after));
            pixel.copy_from_slice(&after);
        }
    }
}

fn changed(pixel: Pixel, grade: Grade, [x, y]: [f32; 2]) -> Pixel {
    let light = luma(pixel);
    let grey = [light; 3];
    match grade {
        Grade::Spring => {
            let fresh = mix(pixel, [pixel[0] * 1.02, pixel[1] * 1.16, pixel[2] * 0.92], greenness(pixel));
            mix(fresh, [1.0, 0.93, 0.95], 0.1)
        }
        Grade::Autumn => {
            let leaf = [light * 1.75 + 0.1, light * 0.95, light * 0.28];
            let turned = mix(pixel, leaf, greenness(pixel) * 0.95);
            multiply(turned, [1.04, 0.97, 0.86])
        }
        Grade::Snow => {
            let cold = multiply(mix(pixel, grey, 0.35), [0.97, 1.02, 1.1]);
            let cover = [0.62 + light * 0.5, 0.68 + light * 0.48, 0.78 + light * 0.4];
            mix(cold, cover, greenness(pixel))
        }
        Grade::Desert => {
            let sand = [light * 1.25 + 0.12, light * 0.98 + 0.06, light * 0.62];
            mix(multiply(pixel, [1.1, 0.98, 0.82]), sand, (greenness(pixel) + blueness(pixel) * 0.5).min(1.0) * 0.9)
        }
        Grade::Underwater => {
            let water = [light * 0.25, light * 0.7 + 0.12, light * 0.75 + 0.2];
            multiply(mix(pixel, water, 0.72), [1.0 - y * 0.35; 3])
        }
        Grade::Sunset => {
            let low = 1.0 - ((y - 0.52).abs() * 2.2).min(1.0);
            let (above, glow) = ([0.66, 0.45, 0.66], [1.22, 0.74, 0.42]);
            let lit = multiply(pixel, mix(above, glow, low));
            mix(lit, [1.0, 0.52, 0.22], low * light * 0.34)
        }
        Grade::Night => {
            // Of what shines by day little is left: the moon is drawn elsewhere.
            let moonlit = multiply(mix(pixel, grey, 0.25), [0.34, 0.4, 0.62]);
            let shine = ((light - 0.88) * 6.0).clamp(0.0, 1.0);
            mix(multiply(moonlit, [0.62 + y * 0.38; 3]), [0.72, 0.78, 0.86], shine * 0.1)
        }
        Grade::Dark => contrast(multiply(pixel, [0.62, 0.62, 0.68]), 1.15),
        Grade::Bright => multiply(mix(pixel, [1.0, 0.97, 0.86], 0.12), [1.12, 1.1, 1.04]),
        Grade::Storm => multiply(mix(pixel, grey, 0.6), [0.46 + y * 0.16, 0.5 + y * 0.16, 0.58 + y * 0.14]),
        Grade::Rain => multiply(mix(pixel, grey, 0.45), [0.7, 0.76, 0.86]),
        Grade::Fog => {
            let depth = 1.0 - ((y - 0.5).abs() * 1.5).min(1.0);
            mix(mix(pixel, grey, 0.3), [0.86, 0.88, 0.9], 0.38 + depth * 0.42)
        }
        Grade::Tint(tint) => {
            let colour = colour(tint);
            mix(pixel, colour.map(|part| part * (light * 1.1 + 0.08)), 0.62)
        }
        Grade::Sepia => [light * 1.06 + 0.06, light * 0.86 + 0.04, light * 0.62 + 0.02],
        Grade::Vintage => {
            let faded = mix(multiply(mix(pixel, grey, 0.35), [1.04, 0.96, 0.8]), [0.5, 0.42, 0.36], 0.22);
            let corner = ((x - 0.5).powi(2) + (y - 0.5).powi(2)) * 1.3;
            multiply(faded, [1.06 - corner; 3])
        }
        Grade::BlackAndWhite => contrast(grey, 1.25),
        Grade::Inverted => pixel.map(|part| 1.0 - part),
    }
}

fn colour(tint: Tint) -> Pixel {
    match tint {
        Tint::Red => [1.0, 0.2, 0.18],
        Tint::Orange => [1.0, 0.55, 0.14],
        Tint::Gold => [1.0, 0.82, 0.28],
        Tint::Green => [0.26, 0.86, 0.36],
        Tint::Blue => [0.24, 0.5, 1.0],
        Tint::Purple => [0.64, 0.32, 0.95],
        Tint::Pink => [1.0, 0.48, 0.72],
    }
}

pub(super) fn luma([red, green, blue]: Pixel) -> f32 {
    red * 0.299 + green * 0.587 + blue * 0.114
}

/// Returns how green a pixel is, as leaves and grass are.
fn greenness([red, green, blue]: Pixel) -> f32 {
    ((green - red.max(blue)) * 5.0).clamp(0.0, 1.0)
}

fn blueness([red, green, blue]: Pixel) -> f32 {
    ((blue - red.max(green)) * 4.0).clamp(0.0, 1.0)
}

fn multiply(pixel: Pixel, by: Pixel) -> Pixel {
    [pixel[0] * by[0], pixel[1] * by[1], pixel[2] * by[2]]
}

pub(super) fn mix(one: Pixel, other: Pixel, share: f32) -> Pixel {
    let part = |index: usize| one[index] + (other[index] - one[index]) * share;
    [part(0), part(1), part(2)]
}

fn contrast(pixel: Pixel, by: f32) -> Pixel {
    pixel.map(|part| (part - 0.5) * by + 0.5)
}
