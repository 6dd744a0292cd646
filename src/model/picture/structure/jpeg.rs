//! The structure of a JPEG: segments with lengths, and scans of entropy-coded data with markers inside.
//!
//! Thumbnails and whole pictures within metadata lie inside segments and are passed over with them; pictures that some
//! cameras append lie behind the end.

use memchr::memchr;

use crate::model::picture::damage::{Damage, Stop, fault};
use crate::model::picture::orientation::{EXIF_HEADER, Orientation};
use crate::model::picture::properties::Structure;
use crate::model::picture::window::Window;

const START: u8 = 0xd8;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
/// The segment of EXIF metadata, among others.
const METADATA: u8 = 0xe1;
/// Bytes between two segments that belong to neither. More of them are what is left of a segment whose marker is lost: the
/// shortest that matters, a restart interval, has five.
const STRAY_BYTES_MAX: u32 = 4;
/// Parameters of a frame header before its components, with the length.
const FRAME_BYTES: usize = 8;
/// Marker and length before the content of a segment.
const SEGMENT_HEAD_BYTES: u64 = 4;

/// Reads all segments and scans up to the end-of-image marker.
pub(super) fn walk(window: &mut Window<'_>, structure: &mut Structure) -> Result<(), Stop> {
    let (mut has_frame, mut has_scan, mut has_exif) = (false, false, false);
    let mut at = 2;
    loop {
        let (marker, begin) = marker(window, at)?;
        at = begin + 2;
        match marker {
            // Stand alone.
            0x01 | 0xd0..=0xd7 => continue,
            END if !has_scan => return fault("the JPEG ends without pixels", begin),
            END => return Ok(()),
            START => return fault("a JPEG marker is out of place", begin),
            _ => {}
        }
        let end = segment_end(window, begin)?;
        match marker {
            // All but the tables between them.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                if has_frame {
                    return fault("the JPEG has a second frame header", begin);
                }
                frame(window, begin, end, structure)?;
                has_frame = true;
            }
            // The first one counts, and only before the pixels, as decoders have it.
            METADATA if !has_exif && !has_scan => has_exif = exif(window, begin, end, structure)?,
            SCAN => {
                if !has_frame {
                    return fault("a JPEG scan comes before the frame header", begin);
                }
                scan_header(window, begin, end)?;
                has_scan = true;
                at = scan(window, begin, end)?;
                continue;
            }
            _ => {}
        }
        at = end;
    }
}

/// Reads the marker at an offset; returns it with the offset of its last `0xff`, of which there may be several. A few stray
/// bytes before it are passed over, as decoders do.
fn marker(window: &mut Window<'_>, mut at: u64) -> Result<(u8, u64), Stop> {
    let (begin, mut stray) = (at, 0);
    loop {
        let size = window.size();
        match *window.bytes(at, 2)? {
            [0xff, 0xff] => at += 1,
            [0xff, marker] if marker != 0 => return Ok((marker, at)),
            [] | [0xff] => return Err(Damage::CutShort { size, at: begin }.into()),
            _ if stray == STRAY_BYTES_MAX => return fault("no JPEG marker follows the last segment", begin),
            _ => (at, stray) = (at + 1, stray + 1),
        }
    }
}

/// Returns the offset behind the segment whose marker is at `begin`.
fn segment_end(window: &mut Window<'_>, begin: u64) -> Result<u64, Stop> {
    let size = window.size();
    let &[l0, l1] = window.bytes(begin + 2, 2)? else {
        return Err(Damage::CutShort { size, at: begin }.into());
    };
    let length = u16::from_be_bytes([l0, l1]);
    if length < 2 {
        return fault("the length of a JPEG segment is out of range", begin);
    }
    let end = begin + 2 + u64::from(length);
    if end > size {
        return Err(Damage::CutShort { size, at: begin }.into());
    }
    Ok(end)
}

/// Reads the orientation of the segment at `begin`, if it is EXIF; returns whether it is.
fn exif(window: &mut Window<'_>, begin: u64, end: u64, structure: &mut Structure) -> Result<bool, Stop> {
    let content = begin + SEGMENT_HEAD_BYTES;
    let length = usize::try_from(end.saturating_sub(content)).unwrap_or(0);
    if length < EXIF_HEADER.len() || window.bytes(content, EXIF_HEADER.len())? != EXIF_HEADER {
        return Ok(false);
    }
    structure.orientation = Orientation::of_exif(window.bytes(content, length)?).unwrap_or_default();
    Ok(true)
}

/// Reads the frame header at `begin`.
fn frame(window: &mut Window<'_>, begin: u64, end: u64, structure: &mut Structure) -> Result<(), Stop> {
    let wrong = "a JPEG frame header is wrong";
    let &[_, _, precision, h0, h1, w0, w1, components] = window.bytes(begin + 2, FRAME_BYTES)? else {
        return fault(wrong, begin);
    };
    let (width, height) = (u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1]));
    if !structure.set_dimensions(width.into(), height.into()) {
        return fault("the JPEG has no pixels by its frame header", begin);
    }
    let length = FRAME_BYTES as u64 + 3 * u64::from(components);
    if end - begin - 2 != length || !(1..=4).contains(&components) || !(2..=16).contains(&precision) {
        return fault(wrong, begin);
    }
    Ok(())
}

/// Checks the header of the scan at `begin`.
fn scan_header(window: &mut Window<'_>, begin: u64, end: u64) -> Result<(), Stop> {
    let components = window.bytes(begin + 4, 1)?.first().copied().unwrap_or_default();
    if end - begin - 2 != 6 + 2 * u64::from(components) || !(1..=4).contains(&components) {
        return fault("the header of a JPEG scan is wrong", begin);
    }
    Ok(())
}

/// Passes over the data of the scan whose header is from `begin` to `at`; returns the offset of the marker behind it.
fn scan(window: &mut Window<'_>, begin: u64, mut at: u64) -> Result<u64, Stop> {
    let size = window.size();
    let (data, mut restart) = (at, 0xd0);
    loop {
        let bytes = window.next(at, u64::MAX)?;
        if bytes.is_empty() {
            return Err(Damage::CutShort { size, at: begin }.into());
        }
        let Some(found) = memchr(0xff, bytes) else {
            at += bytes.len() as u64;
            continue;
        };
        at += found as u64;
        match *window.bytes(at, 2)? {
            [_, 0x00] => at += 2,
            [_, 0xff] => at += 1,
            [_, marker] if marker == restart => {
                restart = 0xd0 | (restart + 1) & 7;
                at += 2;
            }
            [_, 0xd0..=0xd7] => return fault("a part of a JPEG scan is missing before this restart marker", at),
            [_, _] if at == data => return fault("a JPEG scan is empty", begin),
            [_, _] => return Ok(at),
            _ => return Err(Damage::CutShort { size, at: begin }.into()),
        }
    }
}
