//! The sample picture of the sandbox.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

use super::scene::{Animal, draw};

/// Width and height in pixels.
const EDGE: u32 = 1024;

/// Returns the sample picture of the sandbox as a PNG file: a fox on a meadow.
///
/// # Panics
///
/// Never: encoding into memory cannot fail.
#[must_use]
pub fn sample_picture() -> Vec<u8> {
    let picture: RgbImage = draw(Animal::Fox, EDGE);
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).expect("encoding into memory cannot fail");
    bytes.into_inner()
}
