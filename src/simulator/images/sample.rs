//! The sample picture of the sandbox: a sun over hills.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

const WIDTH: u32 = 768;
const HEIGHT: u32 = 512;

/// Returns the sample picture of the sandbox as a PNG file.
///
/// # Panics
///
/// Never: encoding into memory cannot fail.
#[must_use]
pub fn sample_picture() -> Vec<u8> {
    let picture = RgbImage::from_fn(WIDTH, HEIGHT, |x, y| Rgb(colour(f64::from(x), f64::from(y))));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).expect("encoding into memory cannot fail");
    bytes.into_inner()
}

fn colour(x: f64, y: f64) -> [u8; 3] {
    let height = f64::from(HEIGHT);
    let near = height * 0.78 + (x / 90.0).sin() * 28.0;
    let far = height * 0.62 + (x / 140.0 + 2.0).sin() * 40.0;
    if y > near {
        [58, 125, 68]
    } else if y > far {
        [96, 163, 104]
    } else if (x - 570.0).hypot(y - 150.0) < 62.0 {
        [255, 214, 92]
    } else {
        // Deep blue above, pale at the horizon.
        [channel(110.0 + y * 0.28), channel(170.0 + y * 0.18), channel(226.0 + y * 0.05)]
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range of a byte")]
fn channel(value: f64) -> u8 {
    value.clamp(0.0, 255.0) as u8
}
