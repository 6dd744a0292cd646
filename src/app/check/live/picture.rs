//! The picture that is sent, and what the answer shows of it.
//!
//! The left half is red and the right half is blue, and the prompt names no colour. So a result with these halves was
//! made from the picture, and not from the text alone.

use std::io::Cursor;

use bytes::Bytes;
use image::{DynamicImage, ImageFormat, ImageReader, Limits, Rgb, RgbImage, Rgba, RgbaImage};

/// The edge of the picture and of the mask, in pixels.
pub(super) const EDGE: u32 = 512;
pub(super) const PROMPT: &str = "return the same picture unchanged";

const RED: [u8; 3] = [224, 32, 32];
const BLUE: [u8; 3] = [32, 32, 224];
/// By how much the expected colour of a half exceeds the other two, at least.
const DOMINANCE_MIN: f64 = 40.0;
/// A mask is respected where the pixels outside of it differ by less on average, of 255.
const CHANGE_MAX: f64 = 24.0;
/// Larger results are not decoded.
const PIXELS_MAX: u64 = 64 << 20;

/// What a result shows of the picture that was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measurement {
    pub(super) left: [u8; 3],
    pub(super) right: [u8; 3],
    /// By how much the pixels outside of the mask differ from what was sent, on average of 255.
    pub(super) outside_change: f64,
}

impl Measurement {
    /// Whether the result was made from the picture.
    pub(super) fn input_was_seen(&self) -> bool {
        dominates(self.left, 0) && dominates(self.right, 2)
    }

    /// Whether the result is unchanged outside of the mask.
    pub(super) fn mask_was_kept(&self) -> bool {
        self.outside_change < CHANGE_MAX
    }
}

/// Whether one part of a colour exceeds each of the others.
fn dominates(colour: [u8; 3], part: usize) -> bool {
    let others = colour.iter().enumerate().filter(|(index, _)| *index != part);
    others.into_iter().all(|(_, &other)| f64::from(colour[part]) - f64::from(other) >= DOMINANCE_MIN)
}

/// Returns the picture as a PNG. Pictures of different numbers differ in one pixel, so that equal requests are jobs of
/// their own.
pub(super) fn input(number: u8) -> Bytes {
    let mut picture = RgbImage::from_fn(EDGE, EDGE, |x, _| Rgb(if x < EDGE / 2 { RED } else { BLUE }));
    picture.put_pixel(0, 0, Rgb([RED[0], RED[1], number]));
    encoded(&DynamicImage::ImageRgb8(picture))
}

/// Returns a mask whose middle may be changed.
pub(super) fn mask() -> Bytes {
    let mask =
        RgbaImage::from_fn(EDGE, EDGE, |x, y| Rgba([0, 0, 0, if is_masked(x, y, EDGE, EDGE) { 0 } else { 255 }]));
    encoded(&DynamicImage::ImageRgba8(mask))
}

/// Whether a pixel is in the middle, which the mask releases.
fn is_masked(x: u32, y: u32, width: u32, height: u32) -> bool {
    let middle = |at: u32, edge: u32| at >= edge / 4 && at < edge - edge / 4;
    middle(x, width) && middle(y, height)
}

fn encoded(picture: &DynamicImage) -> Bytes {
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png).expect("a picture in memory can be encoded");
    Bytes::from(png.into_inner())
}

/// Measures a result. Blocks for a time in proportion to its pixels.
///
/// # Errors
///
/// Why the result cannot be decoded.
pub(super) fn measure(result: &[u8]) -> Result<Measurement, String> {
    let mut reader = ImageReader::new(Cursor::new(result)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(PIXELS_MAX * 8);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| error.to_string())?.into_rgb8();
    let (width, height) = picture.dimensions();
    let (mut left, mut right) = (Mean::default(), Mean::default());
    let (mut change, mut outside) = (0.0, 0.0);
    for (x, y, Rgb(pixel)) in picture.enumerate_pixels() {
        let (half, sent) = if x < width / 2 { (&mut left, RED) } else { (&mut right, BLUE) };
        half.add(*pixel);
        if !is_masked(x, y, width, height) {
            change += pixel.iter().zip(sent).map(|(one, other)| f64::from(one.abs_diff(other))).sum::<f64>() / 3.0;
            outside += 1.0;
        }
    }
    Ok(Measurement { left: left.colour(), right: right.colour(), outside_change: change / f64::max(outside, 1.0) })
}

/// The mean of colours.
#[derive(Default)]
struct Mean {
    sums: [u64; 3],
    count: u64,
}

impl Mean {
    fn add(&mut self, pixel: [u8; 3]) {
        for (sum, part) in self.sums.iter_mut().zip(pixel) {
            *sum += u64::from(part);
        }
        self.count += 1;
    }

    fn colour(&self) -> [u8; 3] {
        self.sums.map(|sum| u8::try_from((sum + self.count / 2) / self.count.max(1)).unwrap_or(u8::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl Fn(u32, u32, [u8; 3]) -> [u8; 3]) -> Measurement {
        let sent = image::load_from_memory(&input(0)).unwrap().into_rgb8();
        let result = RgbImage::from_fn(EDGE, EDGE, |x, y| Rgb(change(x, y, sent.get_pixel(x, y).0)));
        measure(&encoded(&DynamicImage::ImageRgb8(result))).unwrap()
    }

    #[test]
    fn the_picture_itself_a_tint_and_a_jpeg_show_that_it_was_seen() {
        let same = changed(|_, _, pixel| pixel);
        assert!(same.input_was_seen() && same.mask_was_kept(), "{same:?}");
        assert_eq!((same.left, same.right), (RED, BLUE));
        let tinted = changed(|_, _, pixel| pixel.map(|part| part / 2 + 60));
        assert!(tinted.input_was_seen() && !tinted.mask_was_kept(), "{tinted:?}");
        let mut jpeg = Cursor::new(Vec::new());
        image::load_from_memory(&input(0)).unwrap().into_rgb8().write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
        let jpeg = measure(&jpeg.into_inner()).unwrap();
        assert!(jpeg.input_was_seen() && jpeg.mask_was_kept(), "{jpeg:?}");
    }

    #[test]
    fn a_picture_of_one_colour_or_with_swapped_halves_was_not_made_from_it() {
        for unseen in [
            changed(|_, _, _| RED),
            changed(|_, _, _| [128; 3]),
            changed(|_, y, _| [200, 60, (y / 4).to_le_bytes()[0]]),
            changed(|_, _, [red, green, blue]| [blue, green, red]),
        ] {
            assert!(!unseen.input_was_seen() && !unseen.mask_was_kept(), "{unseen:?}");
        }
    }

    #[test]
    fn a_change_inside_of_the_mask_keeps_it() {
        let edited = changed(|x, y, pixel| if is_masked(x, y, EDGE, EDGE) { [9, 200, 9] } else { pixel });
        assert!(edited.mask_was_kept(), "{edited:?}");
        let mask = image::load_from_memory(&mask()).unwrap().into_rgba8();
        assert_eq!((mask.get_pixel(0, 0).0[3], mask.get_pixel(EDGE / 2, EDGE / 2).0[3]), (255, 0));
        assert_ne!(input(0), input(1));
    }

    #[test]
    fn what_is_no_picture_is_an_error() {
        assert!(measure(b"<html>").is_err());
        assert!(measure(&input(0)[..200]).is_err());
    }
}
