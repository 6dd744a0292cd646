//! The structure of a PNG: chunks with lengths and checksums.

use crate::model::picture::damage::{ChunkName, Damage, Stop, fault};
use crate::model::picture::orientation::Orientation;
use crate::model::picture::properties::{Structure, Transparency};
use crate::model::picture::window::{WINDOW_BYTES, Window};

const SIGNATURE_BYTES: u64 = 8;
/// Length and name before the content of a chunk, and the checksum after it.
const HEAD_BYTES: usize = 8;
const CHECKSUM_LENGTH: usize = 4;
const CHECKSUM_BYTES: u64 = CHECKSUM_LENGTH as u64;
const NAME_BYTES: usize = 4;
/// Of a chunk, and of a side in pixels.
const LENGTH_MAX: u32 = 0x7fff_ffff;
const INDEXED: u8 = 3;
/// Grey and RGB with an alpha channel.
const WITH_ALPHA: [u8; 2] = [4, 6];
/// Chunks that the pixels depend on.
const PIXEL_CHUNKS: [&[u8; 4]; 5] = [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"fdAT"];

/// What the chunks so far have said.
#[derive(Debug, Default)]
struct Progress {
    has_header: bool,
    needs_palette: bool,
    pixels: Pixels,
    pixel_bytes: u64,
    has_exif: bool,
}

/// The chunks of pixels, which follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pixels {
    #[default]
    Expected,
    Begun,
    /// Another chunk has followed them.
    Ended,
}

/// A chunk whose name and length are known.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    name: ChunkName,
    length: u32,
    at: u64,
}

/// Reads all chunks up to `IEND`.
pub(super) fn walk(window: &mut Window<'_>, structure: &mut Structure) -> Result<(), Stop> {
    let mut progress = Progress::default();
    let mut at = SIGNATURE_BYTES;
    loop {
        let chunk = chunk(window, at)?;
        progress.read(window, chunk, structure)?;
        if chunk.is_checked() {
            verify(window, chunk)?;
        }
        if &chunk.name.0 == b"IEND" {
            return progress.end(chunk);
        }
        at = chunk.end();
    }
}

/// Reads the length and the name of the chunk at an offset.
fn chunk(window: &mut Window<'_>, at: u64) -> Result<Chunk, Stop> {
    let size = window.size();
    let head = <[u8; HEAD_BYTES]>::try_from(window.bytes(at, HEAD_BYTES)?);
    let Ok([l0, l1, l2, l3, name @ ..]) = head else {
        return Err(Damage::CutShort { size, at }.into());
    };
    if !name.iter().all(u8::is_ascii_alphabetic) {
        return fault("something that is no PNG chunk follows the last one", at);
    }
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if length > LENGTH_MAX {
        return fault("the length of a PNG chunk is out of range", at);
    }
    let chunk = Chunk { name: ChunkName(name), length, at };
    if chunk.end() > size {
        return Err(Damage::CutShort { size, at }.into());
    }
    Ok(chunk)
}

/// Compares the checksum of a chunk with its name and content.
fn verify(window: &mut Window<'_>, chunk: Chunk) -> Result<(), Stop> {
    let mut hasher = crc32fast::Hasher::new();
    let (mut at, end) = (chunk.at + 4, chunk.end() - CHECKSUM_BYTES);
    while at < end {
        let bytes = window.next(at, end - at)?;
        if bytes.is_empty() {
            return Err(Damage::CutShort { size: at, at: chunk.at }.into());
        }
        hasher.update(bytes);
        at += bytes.len() as u64;
    }
    if window.bytes(end, 4)? != hasher.finalize().to_be_bytes() {
        return Err(Damage::Checksum { chunk: chunk.name, at: chunk.at }.into());
    }
    Ok(())
}

/// Reads the orientation of an `eXIf` chunk; `None` where there is none, and where the checksum is wrong, because decoders pass
/// over such a chunk. The checksum of one that is larger than the window is not compared.
fn exif(window: &mut Window<'_>, chunk: Chunk) -> Result<Option<Orientation>, Stop> {
    let length = usize::try_from(chunk.length).unwrap_or(WINDOW_BYTES);
    let checked = NAME_BYTES + length + CHECKSUM_LENGTH;
    let bytes = window.bytes(chunk.content() - NAME_BYTES as u64, checked.min(WINDOW_BYTES))?;
    let Some(content) = bytes.get(NAME_BYTES..) else { return Ok(None) };
    if checked > WINDOW_BYTES {
        return Ok(Orientation::of_exif(content));
    }
    let Some((named, checksum)) = bytes.split_at_checked(NAME_BYTES + length) else { return Ok(None) };
    let is_whole = checksum == crc32fast::hash(named).to_be_bytes();
    Ok(named.get(NAME_BYTES..).filter(|_| is_whole).and_then(Orientation::of_exif))
}

impl Chunk {
    /// Whether a wrong checksum is damage. Decoders pass over an ancillary chunk that has one: a name that begins with a
    /// small letter. A critical name, one letter of which became small, is none.
    fn is_checked(self) -> bool {
        let ChunkName(name) = self.name;
        name[0].is_ascii_uppercase() || PIXEL_CHUNKS.iter().any(|critical| name.eq_ignore_ascii_case(&critical[..]))
    }

    fn content(self) -> u64 {
        self.at + HEAD_BYTES as u64
    }

    fn end(self) -> u64 {
        self.content() + u64::from(self.length) + CHECKSUM_BYTES
    }
}

impl Progress {
    /// Reads what a chunk says of the picture, and checks its place among the others.
    fn read(&mut self, window: &mut Window<'_>, chunk: Chunk, structure: &mut Structure) -> Result<(), Stop> {
        let is_pixels = &chunk.name.0 == b"IDAT";
        if self.pixels == Pixels::Begun && !is_pixels {
            self.pixels = Pixels::Ended;
        }
        match &chunk.name.0 {
            b"IHDR" => self.header(window, chunk, structure),
            _ if !self.has_header => fault("the first PNG chunk is not IHDR", chunk.at),
            b"PLTE" => self.palette(chunk),
            b"IDAT" if self.needs_palette => {
                fault("a PNG of palette colours has no palette before its pixels", chunk.at)
            }
            b"IDAT" if self.pixels == Pixels::Ended => fault("another PNG chunk lies between the pixels", chunk.at),
            b"IDAT" => {
                self.pixels = Pixels::Begun;
                self.pixel_bytes += u64::from(chunk.length);
                Ok(())
            }
            b"acTL" if self.pixels == Pixels::Expected && chunk.length >= 4 => {
                if let Ok(frames) = <[u8; 4]>::try_from(window.bytes(chunk.content(), 4)?) {
                    structure.frames = u32::from_be_bytes(frames).max(1);
                }
                Ok(())
            }
            // Behind the pixels a decoder passes over it.
            b"tRNS" if self.pixels == Pixels::Expected && chunk.length > 0 => {
                structure.transparency = Transparency::Possible;
                Ok(())
            }
            b"eXIf" if !self.has_exif => {
                self.has_exif = true;
                structure.orientation = exif(window, chunk)?.unwrap_or_default();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn header(&mut self, window: &mut Window<'_>, chunk: Chunk, structure: &mut Structure) -> Result<(), Stop> {
        if self.has_header {
            return fault("the PNG has a second IHDR", chunk.at);
        }
        let content = <[u8; 13]>::try_from(window.bytes(chunk.content(), 13)?).ok().filter(|_| chunk.length == 13);
        let Some([w0, w1, w2, w3, h0, h1, h2, h3, depth, colour, compression, filter, interlace]) = content else {
            return fault("the PNG's IHDR has another length than 13 bytes", chunk.at);
        };
        let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
        if !structure.set_dimensions(width, height) {
            return fault("the PNG has no pixels by its IHDR", chunk.at);
        }
        if width > LENGTH_MAX || height > LENGTH_MAX {
            return fault("the PNG's width or height is out of range", chunk.at);
        }
        let is_depth = match colour {
            0 => matches!(depth, 1 | 2 | 4 | 8 | 16),
            INDEXED => matches!(depth, 1 | 2 | 4 | 8),
            2 | 4 | 6 => matches!(depth, 8 | 16),
            _ => false,
        };
        if !is_depth {
            return fault("the PNG's colour type and bit depth do not go together", chunk.at);
        }
        if compression != 0 || filter != 0 || interlace > 1 {
            return fault("the PNG's IHDR names an unknown compression, filter or interlacing", chunk.at);
        }
        self.has_header = true;
        self.needs_palette = colour == INDEXED;
        structure.transparency =
            if WITH_ALPHA.contains(&colour) { Transparency::Possible } else { Transparency::Absent };
        Ok(())
    }

    fn palette(&mut self, chunk: Chunk) -> Result<(), Stop> {
        if self.pixels != Pixels::Expected {
            return fault("the PNG's palette follows its pixels", chunk.at);
        }
        if !chunk.length.is_multiple_of(3) || !(1..=256).contains(&(chunk.length / 3)) {
            return fault("the PNG's palette has a wrong length", chunk.at);
        }
        self.needs_palette = false;
        Ok(())
    }

    /// Checks at `IEND` that nothing was missing.
    fn end(&self, chunk: Chunk) -> Result<(), Stop> {
        if chunk.length > 0 {
            return fault("the PNG's IEND is not empty", chunk.at);
        }
        if self.pixel_bytes == 0 {
            return fault("the PNG ends without pixels", chunk.at);
        }
        Ok(())
    }
}
