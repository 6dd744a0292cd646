//! The structure of a WebP: chunks in a RIFF container, and the headers of the frames in them.

use crate::model::picture::damage::{Damage, Stop, fault};
use crate::model::picture::orientation::Orientation;
use crate::model::picture::properties::Structure;
use crate::model::picture::window::{WINDOW_BYTES, Window};

/// Name and length before the content of a chunk.
const HEAD_BYTES: u64 = 8;
/// `RIFF`, its length, and `WEBP`.
const CONTAINER_BYTES: u64 = 12;
const ANIMATED: u8 = 0b10;
/// Position, size, duration and flags of a frame.
const FRAME_BYTES: usize = 16;
/// The header of a lossy frame, and that of a lossless one.
const LOSSY_BYTES: usize = 10;
const LOSSLESS_BYTES: usize = 5;

/// A chunk that lies within its container.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    name: [u8; 4],
    at: u64,
    length: u32,
}

/// Reads all chunks up to the end that the container declares.
pub(super) fn walk(window: &mut Window<'_>, structure: &mut Structure) -> Result<(), Stop> {
    let size = window.size();
    let length = window.bytes(4, 4)?.try_into().map_or(0, u32::from_le_bytes);
    let end = HEAD_BYTES + u64::from(length);
    if end > size {
        return Err(Damage::CutShort { size, at: 0 }.into());
    }
    let Some(first) = chunk(window, CONTAINER_BYTES, end)? else {
        return fault("the WebP is empty", CONTAINER_BYTES);
    };
    match &first.name {
        b"VP8X" => extended(window, first, end, structure),
        _ => match frame(window, first)? {
            // What may follow is ignored by every decoder.
            Some((width, height)) if structure.set_dimensions(width, height) => Ok(()),
            Some(_) => fault("the WebP has no pixels by its header", first.at),
            None => fault("the first WebP chunk is no picture", first.at),
        },
    }
}

/// Reads the head of the chunk at an offset; `None` where there is no space for one before `end`.
fn chunk(window: &mut Window<'_>, at: u64, end: u64) -> Result<Option<Chunk>, Stop> {
    if at + HEAD_BYTES > end {
        return Ok(None);
    }
    let &[n0, n1, n2, n3, l0, l1, l2, l3] = window.bytes(at, 8)? else {
        return Err(Damage::CutShort { size: window.size(), at }.into());
    };
    let chunk = Chunk { name: [n0, n1, n2, n3], at, length: u32::from_le_bytes([l0, l1, l2, l3]) };
    if chunk.end() > end {
        return fault("a WebP chunk is longer than what contains it", at);
    }
    Ok(Some(chunk))
}

impl Chunk {
    fn content(self) -> u64 {
        self.at + HEAD_BYTES
    }

    /// Without the byte that pads an odd length.
    fn end(self) -> u64 {
        self.content() + u64::from(self.length)
    }

    fn next(self) -> u64 {
        self.content() + u64::from(self.length).next_multiple_of(2)
    }
}

/// Reads the chunks behind a canvas: one picture of its size, or frames within it.
fn extended(window: &mut Window<'_>, canvas: Chunk, end: u64, structure: &mut Structure) -> Result<(), Stop> {
    let content = <[u8; 10]>::try_from(window.bytes(canvas.content(), 10)?).ok().filter(|_| canvas.length >= 10);
    let Some([flags, _, _, _, w0, w1, w2, h0, h1, h2]) = content else {
        return fault("the WebP's header is too short", canvas.at);
    };
    let (width, height) = (1 + from_24_bits([w0, w1, w2]), 1 + from_24_bits([h0, h1, h2]));
    structure.set_dimensions(width, height);
    if width.checked_mul(height).is_none() {
        return fault("the WebP's canvas is out of range", canvas.at);
    }
    let animated = flags & ANIMATED != 0;
    let (mut has_picture, mut has_animation, mut has_exif, mut frames) = (false, false, false, 0_u32);
    let mut at = canvas.next();
    while let Some(chunk) = chunk(window, at, end)? {
        match &chunk.name {
            b"ANIM" => has_animation = true,
            b"ANMF" if animated => {
                if !has_animation {
                    return fault("a frame comes before the header of the WebP's animation", chunk.at);
                }
                animation_frame(window, chunk, (width, height))?;
                frames = frames.saturating_add(1);
                structure.frames = frames;
            }
            b"EXIF" if !has_exif => {
                has_exif = true;
                let length = usize::try_from(chunk.length).unwrap_or(WINDOW_BYTES).min(WINDOW_BYTES);
                let exif = window.bytes(chunk.content(), length)?;
                structure.orientation = Orientation::of_exif(exif).unwrap_or_default();
            }
            _ if !animated && !has_picture => {
                if let Some(dimensions) = frame(window, chunk)? {
                    if dimensions != (width, height) {
                        return fault("the WebP's picture and its canvas have different sizes", chunk.at);
                    }
                    has_picture = true;
                }
            }
            _ => {}
        }
        at = chunk.next();
    }
    if !has_picture && frames == 0 {
        return fault("the WebP ends without a picture", end);
    }
    Ok(())
}

/// Checks a frame of an animation: it lies on the canvas, and its pixels have its size.
fn animation_frame(window: &mut Window<'_>, whole: Chunk, canvas: (u32, u32)) -> Result<(), Stop> {
    let content = window.bytes(whole.content(), FRAME_BYTES)?;
    let content = <[u8; FRAME_BYTES]>::try_from(content).ok().filter(|_| whole.length as usize >= FRAME_BYTES);
    let Some([x0, x1, x2, y0, y1, y2, w0, w1, w2, h0, h1, h2, ..]) = content else {
        return fault("a frame of the WebP is too short", whole.at);
    };
    let (left, top) = (2 * from_24_bits([x0, x1, x2]), 2 * from_24_bits([y0, y1, y2]));
    let (width, height) = (1 + from_24_bits([w0, w1, w2]), 1 + from_24_bits([h0, h1, h2]));
    if left + width > canvas.0 || top + height > canvas.1 {
        return fault("a frame of the WebP lies outside its canvas", whole.at);
    }
    let mut at = whole.content() + FRAME_BYTES as u64;
    while let Some(chunk) = chunk(window, at, whole.end())? {
        match frame(window, chunk)? {
            None => at = chunk.next(),
            Some(dimensions) if dimensions == (width, height) => return Ok(()),
            Some(_) => return fault("a frame of the WebP has another size than it declares", chunk.at),
        }
    }
    fault("a frame of the WebP has no pixels", whole.at)
}

/// Reads the header of pixels; returns their width and height, or `None` for a chunk of another kind.
fn frame(window: &mut Window<'_>, chunk: Chunk) -> Result<Option<(u32, u32)>, Stop> {
    match &chunk.name {
        b"VP8 " => lossy(window, chunk).map(Some),
        b"VP8L" => lossless(window, chunk).map(Some),
        _ => Ok(None),
    }
}

/// Reads a lossy frame: a shown key frame, whose first partition lies within the chunk.
fn lossy(window: &mut Window<'_>, chunk: Chunk) -> Result<(u32, u32), Stop> {
    let head = <[u8; LOSSY_BYTES]>::try_from(window.bytes(chunk.content(), LOSSY_BYTES)?);
    let head = head.ok().filter(|_| chunk.length as usize > LOSSY_BYTES);
    let Some([t0, t1, t2, 0x9d, 0x01, 0x2a, w0, w1, h0, h1]) = head else {
        return fault("the WebP's lossy pixels have no header", chunk.at);
    };
    let tag = from_24_bits([t0, t1, t2]);
    let (is_key_frame, version, is_shown, partition) = (tag & 1 == 0, (tag >> 1) & 7, (tag >> 4) & 1 == 1, tag >> 5);
    if !is_key_frame || version > 3 || !is_shown {
        return fault("the header of the WebP's lossy pixels is wrong", chunk.at);
    }
    if partition == 0 || u64::from(partition) + LOSSY_BYTES as u64 > u64::from(chunk.length) {
        return fault("the WebP's lossy pixels are cut", chunk.at);
    }
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Ok((side(w0, w1), side(h0, h1)))
}

/// Reads the header of lossless pixels.
fn lossless(window: &mut Window<'_>, chunk: Chunk) -> Result<(u32, u32), Stop> {
    let head = <[u8; LOSSLESS_BYTES]>::try_from(window.bytes(chunk.content(), LOSSLESS_BYTES)?);
    let head = head.ok().filter(|_| chunk.length as usize > LOSSLESS_BYTES);
    let Some([0x2f, b0, b1, b2, b3]) = head else {
        return fault("the WebP's lossless pixels have no header", chunk.at);
    };
    let bits = u32::from_le_bytes([b0, b1, b2, b3]);
    if bits >> 29 != 0 {
        return fault("the WebP's lossless pixels are of an unknown version", chunk.at);
    }
    Ok((1 + (bits & 0x3fff), 1 + ((bits >> 14) & 0x3fff)))
}

fn from_24_bits([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}
