//! Shapes with smooth edges, drawn on pictures of any size: outlines of straight lines and curves, discs, and soft lights.

use image::RgbImage;

/// A colour, from 0 to 255 each.
pub(super) type Colour = [u8; 3];

/// Lines into which a row of pixels is cut for smooth edges.
const CUTS: usize = 4;
/// Straight pieces of a curve.
const PIECES: u8 = 16;

/// An outline, in coordinates of its own that a [`Canvas`] scales.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    points: Vec<[f32; 2]>,
}

impl Outline {
    /// Begins at a point.
    pub(super) fn from(x: f32, y: f32) -> Self {
        Self { points: vec![[x, y]] }
    }

    /// Goes straight to each point.
    pub(super) fn lines(mut self, points: &[[f32; 2]]) -> Self {
        self.points.extend(points);
        self
    }

    /// Goes to `to`, bent towards two points.
    pub(super) fn curve(mut self, one: [f32; 2], two: [f32; 2], to: [f32; 2]) -> Self {
        let from = *self.points.last().unwrap_or(&to);
        for piece in 1..=PIECES {
            let t = f32::from(piece) / f32::from(PIECES);
            let u = 1.0 - t;
            let weights = [u * u * u, 3.0 * u * u * t, 3.0 * u * t * t, t * t * t];
            let at = |axis: usize| {
                from[axis] * weights[0] + one[axis] * weights[1] + two[axis] * weights[2] + to[axis] * weights[3]
            };
            self.points.push([at(0), at(1)]);
        }
        self
    }

    /// An ellipse around a point.
    pub(super) fn ellipse([x, y]: [f32; 2], [width, height]: [f32; 2]) -> Self {
        const STEPS: u8 = 40;
        let point = |step: u8| {
            let angle = f32::from(step) / f32::from(STEPS) * std::f32::consts::TAU;
            [x + angle.cos() * width, y + angle.sin() * height]
        };
        Self { points: (0..STEPS).map(point).collect() }
    }

    /// Scales around the origin and moves.
    pub(super) fn placed(mut self, [x, y]: [f32; 2], [across, down]: [f32; 2]) -> Self {
        for point in &mut self.points {
            *point = [point[0] * across + x, point[1] * down + y];
        }
        self
    }
}

/// A picture to draw on.
#[derive(Debug)]
pub(super) struct Canvas<'a> {
    image: &'a mut RgbImage,
    /// Pixels for one unit of the coordinates.
    scale: f32,
}

impl<'a> Canvas<'a> {
    /// Draws in coordinates whose `units` are the width of the picture.
    pub(super) fn new(image: &'a mut RgbImage, units: f32) -> Self {
        let scale = float(image.width()) / units;
        Self { image, scale }
    }

    /// Fills an outline; `opacity` is from 0 to 1.
    pub(super) fn fill(&mut self, outline: &Outline, colour: Colour, opacity: f32) {
        let points: Vec<[f32; 2]> = outline.points.iter().map(|point| point.map(|value| value * self.scale)).collect();
        let (top, bottom) = bounds(points.iter().map(|point| point[1]), self.image.height());
        let width = self.image.width() as usize;
        let mut cover = vec![0.0_f32; width];
        let mut crossings = Vec::new();
        for row in top..bottom {
            let (mut from, mut to) = (width, 0);
            for cut in 0..CUTS {
                let y = float(row) + (float(cut) + 0.5) / float(CUTS);
                cross(&points, y, &mut crossings);
                for pair in crossings.chunks_exact(2) {
                    if let Some((first, last)) = add(&mut cover, pair[0], pair[1]) {
                        (from, to) = (from.min(first), to.max(last));
                    }
                }
            }
            if from < to {
                let start = row as usize * width * 3;
                let values: &mut [u8] = self.image;
                blend_row(
                    &mut values[start + from * 3..start + to * 3],
                    &mut cover[from..to],
                    colour,
                    opacity / float(CUTS),
                );
            }
        }
    }

    /// Adds a light that is strongest in the middle and ends at `radius`.
    pub(super) fn glow(&mut self, [x, y]: [f32; 2], radius: f32, colour: Colour, opacity: f32) {
        let ([x, y], radius) = ([x * self.scale, y * self.scale], radius * self.scale);
        let (top, bottom) = bounds([y - radius, y + radius].into_iter(), self.image.height());
        let (left, right) = bounds([x - radius, x + radius].into_iter(), self.image.width());
        for row in top..bottom {
            for column in left..right {
                let distance = (float(column) - x).hypot(float(row) - y) / radius;
                if distance < 1.0 {
                    let strength = (1.0 - distance) * (1.0 - distance) * opacity;
                    let pixel = &mut self.image.get_pixel_mut(column, row).0;
                    blend(pixel, colour, strength);
                }
            }
        }
    }
}

/// Mixes a colour into a pixel.
pub(super) fn blend(pixel: &mut [u8], colour: Colour, opacity: f32) {
    for (value, part) in pixel.iter_mut().zip(colour) {
        *value = byte(f32::from(*value) + (f32::from(part) - f32::from(*value)) * opacity);
    }
}

/// Mixes a colour into pixels as far as they are covered, and clears the cover.
fn blend_row(pixels: &mut [u8], cover: &mut [f32], colour: Colour, unit: f32) {
    const NEARLY: f32 = 0.996;
    for (pixel, cover) in pixels.chunks_exact_mut(3).zip(cover) {
        let opacity = *cover * unit;
        *cover = 0.0;
        if opacity > NEARLY {
            pixel.copy_from_slice(&colour);
        } else if opacity > 0.0 {
            blend(pixel, colour, opacity);
        }
    }
}

/// Finds where a closed line of points crosses a height, from left to right.
fn cross(points: &[[f32; 2]], y: f32, crossings: &mut Vec<f32>) {
    crossings.clear();
    let next = points.iter().skip(1).chain(points.first());
    for (from, to) in points.iter().zip(next) {
        if (from[1] <= y) != (to[1] <= y) {
            crossings.push(from[0] + (y - from[1]) / (to[1] - from[1]) * (to[0] - from[0]));
        }
    }
    crossings.sort_by(f32::total_cmp);
}

/// Adds the part of a row between two places. Returns the pixels concerned.
fn add(cover: &mut [f32], left: f32, right: f32) -> Option<(usize, usize)> {
    let (left, right) = (left.max(0.0), right.min(float(cover.len())));
    if left >= right {
        return None;
    }
    let (first, last) = (whole(left), whole(right).min(cover.len() - 1));
    if first == last {
        cover[first] += right - left;
    } else {
        cover[first] += float(first + 1) - left;
        for value in &mut cover[first + 1..last] {
            *value += 1.0;
        }
        cover[last] += right - float(last);
    }
    Some((first, last + 1))
}

/// Returns the rows or columns that values lie in, within the picture.
fn bounds(values: impl Iterator<Item = f32>, end: u32) -> (u32, u32) {
    let (least, most) = values.fold((f32::MAX, f32::MIN), |(least, most), value| (least.min(value), most.max(value)));
    let limit = |value: f32| u32::try_from(whole(value.clamp(0.0, float(end)))).unwrap_or(end);
    (limit(least.floor()), limit(most.ceil()))
}

/// Converts a number of pixels.
pub(super) fn float(value: impl TryInto<u16>) -> f32 {
    f32::from(value.try_into().unwrap_or(u16::MAX))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the caller's value is not negative, and small"
)]
fn whole(value: f32) -> usize {
    value as usize
}

/// Converts a part of a colour; values beyond the ends become the ends.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of a byte")]
pub(super) fn byte(value: f32) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

/// Reproducible numbers, so that equal requests make equal pictures.
#[derive(Debug)]
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number from 0 to below 1 (splitmix64).
    pub(super) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        float((mixed >> 48) & 0xFFFF) / 65_536.0
    }

    /// Returns a number between two others.
    pub(super) fn between(&mut self, least: f32, most: f32) -> f32 {
        least + self.next() * (most - least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_smooth_and_shapes_outside_are_clipped() {
        let mut image = RgbImage::new(10, 10);
        let square = Outline::from(2.5, 2.0).lines(&[[7.0, 2.0], [7.0, 30.0], [2.5, 30.0]]);
        Canvas::new(&mut image, 10.0).fill(&square, [200; 3], 1.0);
        assert_eq!(image.get_pixel(1, 5).0, [0; 3]);
        assert_eq!(image.get_pixel(2, 5).0, [100; 3], "half covered");
        assert_eq!((image.get_pixel(4, 9).0, image.get_pixel(7, 5).0), ([200; 3], [0; 3]));
        for place in [[-50.0, 5.0], [50.0, 5.0], [5.0, -50.0], [5.0, 500.0]] {
            let mut canvas = Canvas::new(&mut image, 10.0);
            canvas.fill(&Outline::ellipse(place, [3.0, 3.0]), [9; 3], 1.0);
            canvas.glow(place, 3.0, [9; 3], 1.0);
        }
        assert_eq!(image.get_pixel(4, 9).0, [200; 3]);
    }

    #[test]
    fn numbers_repeat_by_their_seed() {
        let take = |seed| {
            let mut numbers = Numbers::new(seed);
            vec![numbers.next(), numbers.next(), numbers.between(5.0, 6.0)]
        };
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
        assert!(take(3)[..2].iter().all(|value| (0.0..1.0).contains(value)) && (5.0..6.0).contains(&take(3)[2]));
    }
}
