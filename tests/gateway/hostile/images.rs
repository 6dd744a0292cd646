//! Pictures of the hostile upstream: one for each purchase, and what can be done to it.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};

const EDGE: u32 = 24;

/// The picture of a purchase, different for each id.
pub(super) fn picture(id: &str, format: &str) -> Vec<u8> {
    let format = match format {
        "jpeg" => ImageFormat::Jpeg,
        "webp" => ImageFormat::WebP,
        _ => ImageFormat::Png,
    };
    noise(id, EDGE, format)
}

/// An upload of about this number of bytes.
pub(super) fn large_picture(bytes: usize) -> Vec<u8> {
    let edge = u32::try_from((bytes / 3).isqrt()).unwrap() + 1;
    noise("upload", edge, ImageFormat::Png)
}

/// Noise, which no encoder makes smaller.
fn noise(seed: &str, edge: u32, format: ImageFormat) -> Vec<u8> {
    let mut pixels = vec![0; (edge * edge * 3) as usize];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut pixels);
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_raw(edge, edge, pixels).unwrap().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The start of the data of the first chunk of a kind, in a PNG.
fn chunk(png: &[u8], kind: [u8; 4]) -> usize {
    png.windows(4).position(|window| window == kind).unwrap() + 4
}

/// A byte of the pixels is another, so that the checksum is wrong.
pub(super) fn flipped(png: &[u8]) -> Vec<u8> {
    let mut png = png.to_vec();
    let at = chunk(&png, *b"IDAT") + 40;
    png[at] ^= 0x55;
    png
}

/// The middle is zeros.
pub(super) fn zeroed(picture: &[u8]) -> Vec<u8> {
    let mut picture = picture.to_vec();
    let (start, end) = (picture.len() / 3, picture.len() * 2 / 3);
    picture[start..end].fill(0);
    picture
}

/// Some bytes of the middle are left out.
pub(super) fn with_hole(picture: &[u8]) -> Vec<u8> {
    let (start, end) = (picture.len() / 3, picture.len() / 3 + 100);
    [&picture[..start], &picture[end..]].concat()
}

/// A PNG with its header and its end, and no pixels.
pub(super) fn without_pixels(png: &[u8]) -> Vec<u8> {
    let start = chunk(png, *b"IDAT") - 8;
    [&png[..start], &png[png.len() - 12..]].concat()
}

/// A PNG of 2³¹ by 2³¹ pixels, with a right checksum.
pub(super) fn immense(png: &[u8]) -> Vec<u8> {
    let mut png = png.to_vec();
    let at = chunk(&png, *b"IHDR");
    png[at..at + 8].copy_from_slice(&[0x80, 0, 0, 0, 0x80, 0, 0, 0]);
    let sum = checksum(&png[at - 4..at + 13]).to_be_bytes();
    png[at + 13..at + 17].copy_from_slice(&sum);
    png
}

/// The CRC-32 of PNG chunks.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    })
}
