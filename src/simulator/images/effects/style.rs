//! Ways to draw: lines, flat colours, light on darkness.

use image::{DynamicImage, GrayImage, RgbImage};

use super::super::shapes::{byte, float};
use super::super::words::Style;
use super::grade::{luma, mix};

/// Draws a picture again in a style.
pub(super) fn draw(image: &mut RgbImage, style: Style) {
    match style {
        Style::Neon => neon(image),
        Style::Watercolour => watercolour(image),
        Style::PixelArt => pixel_art(image),
        Style::PopArt => pop_art(image),
        Style::Ink => ink(image),
        Style::Pencil => pencil(image),
    }
}

/// Edges of bright on dark, coloured from left to right.
fn neon(image: &mut RgbImage) {
    let edges = edges(image);
    // A small copy that is enlarged again is blurred: the light around the lines.
    let (width, height) = edges.dimensions();
    let small = DynamicImage::ImageLuma8(edges.clone()).thumbnail_exact((width / 12).max(1), (height / 12).max(1));
    let glow = enlarged::<1>(small.into_luma8().as_raw(), (width / 12).max(1), (width, height));
    let right = float(width);
    for (((pixel, edge), glow), at) in image.chunks_exact_mut(3).zip(edges.as_raw()).zip(&glow).zip((0..width).cycle())
    {
        let values = [pixel[0], pixel[1], pixel[2]].map(|value| f32::from(value) / 255.0);
        let light = luma(values);
        let base = [light * light * 0.2 + 0.03, light * light * 0.08 + 0.01, light * light * 0.36 + 0.09];
        let colour = mix([1.0, 0.16, 0.66], [0.1, 0.9, 1.0], float(at) / right);
        let base = mix(base, colour, (f32::from(*glow) / 255.0 * 3.2).min(0.7));
        let lit = mix(base, mix(colour, [1.0; 3], 0.3), (f32::from(*edge) / 255.0 * 4.0).min(1.0));
        set(pixel, lit);
    }
}

/// Black lines on paper, with flat shadows.
fn ink(image: &mut RgbImage) {
    let edges = edges(image);
    for (pixel, edge) in image.chunks_exact_mut(3).zip(edges.as_raw()) {
        let light = luma([pixel[0], pixel[1], pixel[2]].map(|value| f32::from(value) / 255.0));
        let wash = match light {
            light if light < 0.22 => 0.16,
            light if light < 0.42 => 0.62,
            light if light < 0.6 => 0.84,
            _ => 1.0,
        };
        let line = (f32::from(*edge) / 255.0 * 5.0).min(1.0);
        set(pixel, [0.97, 0.95, 0.9].map(|paper| paper * wash * (1.0 - line) + 0.06 * line));
    }
}

/// Grey lines on white, and hatching in the shadows.
fn pencil(image: &mut RgbImage) {
    const HATCH: usize = 6;
    let edges = edges(image);
    let width = image.width() as usize;
    for ((at, pixel), edge) in image.chunks_exact_mut(3).enumerate().zip(edges.as_raw()) {
        let light = luma([pixel[0], pixel[1], pixel[2]].map(|value| f32::from(value) / 255.0));
        let (x, y) = (at % width, at / width);
        let mut tone = 0.98 - (1.0 - light) * 0.3;
        if light < 0.72 && (x + y) % HATCH < 2 {
            tone -= 0.16;
        }
        if light < 0.5 && (x + HATCH * 1000 - y % (HATCH * 1000)) % HATCH < 2 {
            tone -= 0.18;
        }
        let line = (f32::from(*edge) / 255.0 * 4.5).min(0.9);
        set(pixel, [tone * (1.0 - line) + 0.2 * line; 3]);
    }
}

/// Few flat colours that run into each other.
fn watercolour(image: &mut RgbImage) {
    let (width, height) = image.dimensions();
    let small = DynamicImage::ImageRgb8(image.clone()).thumbnail_exact((width / 7).max(1), (height / 7).max(1));
    let soft = enlarged::<3>(small.into_rgb8().as_raw(), (width / 7).max(1), (width, height));
    let soft = RgbImage::from_raw(width, height, soft).expect("it has the size of the picture");
    let edges = edges(&soft);
    for ((pixel, soft), edge) in image.chunks_exact_mut(3).zip(soft.chunks_exact(3)).zip(edges.as_raw()) {
        let flat = [soft[0], soft[1], soft[2]].map(|value| (f32::from(value) / 255.0 * 9.0).round() / 9.0);
        let paper = mix(flat, [1.0, 0.99, 0.96], 0.24);
        // Paint gathers at the edges of a stroke.
        set(pixel, mix(paper, flat.map(|part| part * 0.7), (f32::from(*edge) / 255.0 * 2.5).min(0.6)));
    }
}

/// Large square pixels.
fn pixel_art(image: &mut RgbImage) {
    let (width, height) = image.dimensions();
    let (columns, rows) = ((width / 14).max(1), (height / 14).max(1));
    let small = DynamicImage::ImageRgb8(image.clone()).thumbnail_exact(columns, rows).into_rgb8();
    let row_bytes = width as usize * 3;
    for (y, row) in (0_u32..).zip(image.chunks_exact_mut(row_bytes)) {
        for (x, pixel) in (0_u32..).zip(row.chunks_exact_mut(3)) {
            let square = small.get_pixel(x * columns / width, y * rows / height).0;
            // Few shades, as old screens had.
            pixel.copy_from_slice(&square.map(|value| byte((f32::from(value) / 36.0).round() * 36.0)));
        }
    }
}

/// Bold flat colours by brightness, and dots in the shadows.
fn pop_art(image: &mut RgbImage) {
    const COLOURS: [[f32; 3]; 5] =
        [[0.1, 0.07, 0.2], [0.87, 0.1, 0.36], [0.98, 0.46, 0.16], [1.0, 0.82, 0.16], [0.99, 0.96, 0.86]];
    let cell = (image.width() / 90).max(4);
    let width = image.width();
    for (at, pixel) in (0_u32..).zip(image.chunks_exact_mut(3)) {
        let values = [pixel[0], pixel[1], pixel[2]].map(|value| f32::from(value) / 255.0);
        let light = luma(values);
        let step = match light {
            light if light < 0.2 => 0,
            light if light < 0.42 => 1,
            light if light < 0.6 => 2,
            light if light < 0.78 => 3,
            _ => 4,
        };
        let is_blue = values[2] > values[0] + 0.1;
        let base = if is_blue {
            [[0.06, 0.1, 0.35], [0.1, 0.3, 0.75], [0.16, 0.55, 0.86], [0.36, 0.8, 0.9], [0.9, 0.98, 0.98]][step]
        } else {
            COLOURS[step]
        };
        let (x, y) = (at % width % cell, at / width % cell);
        let from_middle = |at: u32| float(at) - float(cell) / 2.0 + 0.5;
        let dot = from_middle(x).hypot(from_middle(y)) < float(cell) * (0.46 - light * 0.34);
        set(pixel, if dot && step > 0 { base.map(|part| part * 0.72) } else { base });
    }
}

fn set(pixel: &mut [u8], values: [f32; 3]) {
    for (slot, value) in pixel.iter_mut().zip(values) {
        *slot = byte(value * 255.5);
    }
}

/// Returns how much each pixel differs from its neighbours to the right and below.
fn edges(image: &RgbImage) -> GrayImage {
    const SOFT: u8 = 5;
    let grey = DynamicImage::ImageRgb8(image.clone()).into_luma8();
    let (width, height) = grey.dimensions();
    let values = grey.as_raw();
    let mut edges = GrayImage::new(width, height);
    let width = width as usize;
    // Two pixels away, for lines that are seen on a large picture.
    let reach = (width / 700).clamp(1, 3);
    for (y, row) in edges.chunks_exact_mut(width).enumerate() {
        let (here, below) = (y * width, (y + reach).min(height as usize - 1) * width);
        for (x, edge) in row.iter_mut().enumerate() {
            let value = values[here + x];
            let across = value.abs_diff(values[here + (x + reach).min(width - 1)]);
            // A soft change of colour is no line.
            *edge = across.saturating_add(value.abs_diff(values[below + x])).saturating_sub(SOFT);
        }
    }
    edges
}

/// Enlarges a small picture of `N` values a pixel, smoothly.
fn enlarged<const N: usize>(small: &[u8], columns: u32, (width, height): (u32, u32)) -> Vec<u8> {
    let columns = columns as usize;
    let rows = small.len() / N / columns;
    let mut large = Vec::with_capacity(width as usize * height as usize * N);
    // Where a pixel lies between two of the small picture, and how near to the second.
    let between = |at: u32, of: u32, count: usize| {
        let place = ((float(at) + 0.5) / float(of) * float(count) - 0.5).clamp(0.0, float(count - 1));
        let first = usize::from(whole(place)).min(count - 1);
        (first, (first + 1).min(count - 1), place - float(first))
    };
    let across: Vec<_> = (0..width).map(|x| between(x, width, columns)).collect();
    for y in 0..height {
        let (above, below, down) = between(y, height, rows);
        for &(left, right, share) in &across {
            for part in 0..N {
                let value = |row: usize, column: usize| f32::from(small[(row * columns + column) * N + part]);
                let top = value(above, left) + (value(above, right) - value(above, left)) * share;
                let bottom = value(below, left) + (value(below, right) - value(below, left)) * share;
                large.push(byte(top + (bottom - top) * down + 0.5));
            }
        }
    }
    large
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a column of a small picture")]
fn whole(value: f32) -> u16 {
    value as u16
}
