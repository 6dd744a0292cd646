//! Small real pictures.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};

const EDGE: u32 = 32;

/// A PNG that differs for every `seed`.
pub(crate) fn picture(seed: u8) -> Vec<u8> {
    let pixel = |x: u32, y: u32| Rgb([seed, (x * 8).to_le_bytes()[0], (y * 8).to_le_bytes()[0]]);
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_fn(EDGE, EDGE, pixel).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A PNG of one colour, whose edits are quick to encode.
pub(crate) fn plain_picture() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(EDGE, EDGE, Rgb([200, 180, 40])).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A mask of the same size, its left half transparent.
pub(crate) fn mask() -> Vec<u8> {
    let pixel = |x: u32, _| Rgba([0, 0, 0, if x < EDGE / 2 { 0 } else { 255 }]);
    let mut bytes = Cursor::new(Vec::new());
    RgbaImage::from_fn(EDGE, EDGE, pixel).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The name that the simulator gives to received bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

pub(crate) fn data_url(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64_simd::STANDARD.encode_to_string(bytes))
}

/// Width and height of a picture that decodes to its last pixel.
pub(crate) fn size_of(bytes: &[u8]) -> (u32, u32) {
    let decoded = image::load_from_memory(bytes).expect("the picture decodes");
    (decoded.width(), decoded.height())
}
