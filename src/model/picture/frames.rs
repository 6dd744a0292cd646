//! The number of frames of an animated picture, from the headers of its chunks.

use std::io;

use super::format::Format;
use super::source::{ByteSource, read_full};

/// Largest number of frames that is counted.
pub(crate) const FRAMES_COUNTED_MAX: u32 = 10_000;
/// Chunks that may precede the pixels of a PNG; common files have a dozen.
const CHUNKS_MAX: usize = 1024;

/// Counts the frames; `None` when no end of the header is found.
///
/// # Errors
///
/// As [`ByteSource::read_at`].
pub(super) fn count(source: &dyn ByteSource, format: Format) -> io::Result<Option<u32>> {
    match format {
        Format::Png => of_png(source),
        Format::Webp => of_webp(source).map(Some),
        Format::Jpeg => Ok(Some(1)),
    }
}

/// `acTL` has the number, and precedes the pixels in an animated PNG.
fn of_png(source: &dyn ByteSource) -> io::Result<Option<u32>> {
    let mut at = 8;
    for _ in 0..CHUNKS_MAX {
        let head = read_full(source, at, 12)?;
        let Ok([l0, l1, l2, l3, kind @ .., f0, f1, f2, f3]) = <[u8; 12]>::try_from(head) else { return Ok(Some(1)) };
        match &kind {
            b"IDAT" | b"IEND" => return Ok(Some(1)),
            b"acTL" => return Ok(Some(u32::from_be_bytes([f0, f1, f2, f3]).max(1))),
            // Length, type and checksum around the content.
            _ => at += u64::from(u32::from_be_bytes([l0, l1, l2, l3])) + 12,
        }
    }
    Ok(None)
}

/// If the first chunk announces an animation, every `ANMF` is a frame.
fn of_webp(source: &dyn ByteSource) -> io::Result<u32> {
    const ANIMATION: u8 = 0b10;
    let first = read_full(source, 12, 9)?;
    let animated = first.starts_with(b"VP8X") && first.get(8).is_some_and(|flags| flags & ANIMATION != 0);
    if !animated {
        return Ok(1);
    }
    let (mut at, mut frames) = (12, 0_u32);
    // Every chunk costs a read, so the limit is for all chunks.
    for _ in 0..FRAMES_COUNTED_MAX {
        let head = read_full(source, at, 8)?;
        let ended = || Ok(frames.max(1));
        let Ok([kind @ .., l0, l1, l2, l3]) = <[u8; 8]>::try_from(head) else { return ended() };
        frames += u32::from(&kind == b"ANMF");
        at += 8 + u64::from(u32::from_le_bytes([l0, l1, l2, l3])).next_multiple_of(2);
    }
    Ok(FRAMES_COUNTED_MAX)
}
