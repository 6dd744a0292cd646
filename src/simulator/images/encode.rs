//! Encodes pictures, and adds text chunks to PNG files.

use image::DynamicImage;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;

use crate::simulator::scenario::Format;

/// Encodes a picture.
pub(super) fn encode(image: &DynamicImage, format: Format, jpeg_quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    match format {
        Format::Png => {
            let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Sub);
            image.write_with_encoder(encoder)
        }
        Format::Jpeg => image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, jpeg_quality)),
        Format::Webp => image.write_with_encoder(WebPEncoder::new_lossless(&mut bytes)),
    }
    .expect("the buffer grows and has the size of the picture");
    bytes
}

/// End of the header chunk: the signature of 8 bytes, then length, type, 13 bytes and checksum.
const AFTER_HEADER: usize = 8 + 4 + 4 + 13 + 4;

/// Inserts `tEXt` chunks after the header of a PNG, which the encoder cannot do.
pub(super) fn with_texts(png: &[u8], texts: &[(&str, String)]) -> Vec<u8> {
    let (head, tail) = png.split_at(AFTER_HEADER);
    let mut out = head.to_vec();
    for (key, text) in texts {
        let mut chunk = b"tEXt".to_vec();
        chunk.extend(key.bytes());
        chunk.push(0);
        chunk.extend(text.bytes());
        let length = u32::try_from(chunk.len() - 4).expect("a text is short");
        out.extend(length.to_be_bytes());
        out.extend(&chunk);
        out.extend(crc(&chunk).to_be_bytes());
    }
    out.extend(tail);
    out
}

/// Computes the checksum of a PNG chunk (RFC 2083 §15), bit by bit because the texts are short.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}
