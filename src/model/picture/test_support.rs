//! Pictures for tests, built from their parts or encoded.

use std::io::{self, Cursor};
use std::sync::atomic::{AtomicUsize, Ordering};

use image::{DynamicImage, ImageFormat, RgbaImage};

use super::source::ByteSource;

/// Bytes that are not in memory for their readers. Counts the reads and the bytes read.
#[derive(Debug, Default)]
pub(crate) struct CountingSource {
    pub(crate) content: Vec<u8>,
    pub(crate) reads: AtomicUsize,
    pub(crate) read: AtomicUsize,
}

impl CountingSource {
    pub(crate) fn new(content: Vec<u8>) -> Self {
        Self { content, ..Self::default() }
    }
}

impl ByteSource for CountingSource {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.content.len());
        let count = buffer.len().min(self.content.len() - start);
        buffer[..count].copy_from_slice(&self.content[start..start + count]);
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }
}

/// Returns a picture of 24x20 pixels without a pattern.
pub(crate) fn pixels() -> DynamicImage {
    let pixel = |x: u32, y: u32| {
        let hash = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).to_le_bytes();
        image::Rgba([hash[1], hash[2], hash[3], hash[0] | 1])
    };
    RgbaImage::from_fn(24, 20, pixel).into()
}

pub(crate) fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn png_chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let named = [name, content].concat();
    [&length[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat()
}

/// Returns the header of a PNG: signature and `IHDR`. Colour type 6 is RGBA, 3 a palette.
pub(crate) fn png_head(width: u32, height: u32, colour: u8) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, colour, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), png_chunk(b"IHDR", &header)].concat()
}

/// Returns an RGBA PNG with these chunks between its header and its end.
pub(crate) fn png_of(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    [png_head(width, height, 6), chunks.concat(), png_chunk(b"IEND", b"")].concat()
}

pub(crate) fn webp_chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [name, &length, content, &vec![0; content.len() % 2]].concat()
}

pub(crate) fn webp(chunks: &[Vec<u8>]) -> Vec<u8> {
    let length = u32::try_from(chunks.concat().len() + 4).unwrap().to_le_bytes();
    [b"RIFF", &length[..], b"WEBP", &chunks.concat()].concat()
}

/// Returns the content of a `VP8L` chunk whose pixels are not there.
pub(crate) fn lossless_pixels(width: u32, height: u32) -> Vec<u8> {
    let sides = ((width - 1) | ((height - 1) << 14)).to_le_bytes();
    [&[0x2f], &sides[..], &[0; 20]].concat()
}

/// Returns the start of a WebP with a canvas: flag 2 is an animation.
pub(crate) fn canvas(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let sides = [&(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat();
    webp_chunk(b"VP8X", &[&[flags, 0, 0, 0], &sides[..]].concat())
}

/// Returns a frame of an animation at a position in units of two pixels, with its pixels in another chunk.
pub(crate) fn webp_frame((left, top): (u8, u8), (width, height): (u32, u32), pixels: &[u8]) -> Vec<u8> {
    let sides = [&(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat();
    webp_chunk(b"ANMF", &[&[left, 0, 0, top, 0, 0], &sides[..], &[100, 0, 0, 0], pixels].concat())
}

/// Returns an animation of lossless frames that fill its canvas.
pub(crate) fn animated_webp(side: u32, frames: usize) -> Vec<u8> {
    let frame = webp_frame((0, 0), (side, side), &webp_chunk(b"VP8L", &lossless_pixels(side, side)));
    let head = [canvas(2, side, side), webp_chunk(b"ANIM", &[0; 6])];
    webp(&head.into_iter().chain(std::iter::repeat_n(frame, frames)).collect::<Vec<_>>())
}

pub(crate) fn jpeg_segment(marker: u8, content: &[u8]) -> Vec<u8> {
    [&[0xff, marker], &u16::try_from(content.len() + 2).unwrap().to_be_bytes()[..], content].concat()
}

/// Returns a JPEG with these segments before its frame header, and a scan of zeros.
pub(crate) fn jpeg_of(width: u16, height: u16, segments: &[Vec<u8>]) -> Vec<u8> {
    let frame = [&[8], &height.to_be_bytes()[..], &width.to_be_bytes(), &[1, 1, 0x11, 0]].concat();
    [
        b"\xff\xd8".to_vec(),
        segments.concat(),
        jpeg_segment(0xc0, &frame),
        jpeg_segment(0xda, &[1, 1, 0, 0, 63, 0]),
        b"\0\0\0\xff\xd9".to_vec(),
    ]
    .concat()
}

/// Returns a lossy WebP, with alpha where the picture has it.
pub(crate) fn lossy(picture: &DynamicImage) -> Vec<u8> {
    let (width, height) = (picture.width(), picture.height());
    let bytes = picture.as_bytes();
    let encoder = if picture.color().has_alpha() {
        ::webp::Encoder::from_rgba(bytes, width, height)
    } else {
        ::webp::Encoder::from_rgb(bytes, width, height)
    };
    encoder.encode(60.0).to_vec()
}

/// Returns EXIF metadata of two tags, the second of which is an orientation.
pub(crate) fn exif(orientation: u16, little_endian: bool) -> Vec<u8> {
    let short = |value: u16| if little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
    let long = |value: u32| if little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
    let entry = |tag: u16, value: u16| [&short(tag)[..], &short(3), &long(1), &short(value), &[0, 0]].concat();
    let start: &[u8] = if little_endian { b"II*\0" } else { b"MM\0*" };
    [start, &long(8), &short(2), &entry(0x0103, 6), &entry(0x0112, orientation), &long(0)].concat()
}
