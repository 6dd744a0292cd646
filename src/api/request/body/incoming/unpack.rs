//! Unpacks compressed bodies (`Content-Encoding`) as they arrive, in steps of bounded length.
//!
//! Which limit sees which bytes: the pauses and the rate of the sender are measured on the bytes as they arrive; the size of
//! the body, the head of a part, and all that its reader limits, on the unpacked ones. So a body that unpacks to a multiple
//! of its length ends at `server.body_bytes_max`, and its space in the spool is reserved as it is unpacked. The bytes as
//! they arrive may not be more than that limit either, because a body may consist of members that unpack to nothing.
//!
//! A step reads at most [`INPUT_STEP_BYTES`] and returns at most [`CHUNK_BYTES`]: some 100 µs, which is no more than the
//! reader of a chunk takes, so no other thread is involved.

use std::fmt;
use std::io::{self, BufRead, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Largest chunk of unpacked bytes.
const CHUNK_BYTES: usize = 32 * 1024;
/// Most packed bytes of one step.
const INPUT_STEP_BYTES: usize = 16 * 1024;
/// The base 2 logarithm of the largest window of zstd: 8 MB, which RFC 8878 §3.1.1.1.2 asks every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Bodies in zstd that are unpacked at the same time: together they need at most 512 MB.
const ZSTD_BODIES_MAX: usize = 64;

static ZSTD_BODIES: Semaphore = Semaphore::const_new(ZSTD_BODIES_MAX);

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentCoding {
    Gzip,
    /// With or without the header of zlib: senders disagree about the meaning of the name.
    Deflate,
    Zstd,
}

impl ContentCoding {
    /// Reads `Content-Encoding`; `Ok(None)` for a body that is not compressed.
    ///
    /// # Errors
    ///
    /// For a coding that is not known, and for several of them.
    pub(crate) fn parse(value: &str) -> Result<Option<Self>, UnknownCoding> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            "zstd" => Ok(Some(Self::Zstd)),
            _ => Err(UnknownCoding),
        }
    }
}

impl ContentCoding {
    /// Whether a further member may begin with this byte: the first of its magic number (RFC 1952 §2.3.1, RFC 8878 §3.1).
    fn begins_with(self, byte: u8) -> bool {
        match self {
            Self::Gzip => byte == 0x1f,
            Self::Deflate => false,
            // A frame, or one to skip.
            Self::Zstd => matches!(byte, 0x28 | 0x50..=0x5f),
        }
    }
}

impl fmt::Display for ContentCoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        })
    }
}

/// The coding cannot be unpacked here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownCoding;

/// Why a body cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnpackProblem {
    #[error("it ends before its {0} data is complete (Content-Encoding)")]
    Truncated(ContentCoding),
    #[error("it is not valid {coding} (Content-Encoding): the data is damaged near byte {at}")]
    Invalid { coding: ContentCoding, at: u64 },
    #[error("something follows its {0} data (Content-Encoding)")]
    Trailing(ContentCoding),
    #[error("its zstd data needs a window of more than 8 MB (Content-Encoding); compress it at a lower level")]
    WindowTooLarge,
    /// Too many others are unpacked at the moment.
    #[error("too many bodies are being unpacked")]
    Busy,
}

/// What a step did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next unpacked bytes; never empty.
    Unpacked(Bytes),
    /// Bytes were read and nothing came of them yet: the next step goes on.
    Working,
    /// All bytes that have arrived were read.
    Starved,
    /// The data is complete, and so is the body.
    Ended,
}

/// Unpacks one body. Data in gzip may have several members, and in zstd several frames, one behind the other.
#[derive(Debug)]
pub(super) struct Unpacker {
    coding: ContentCoding,
    decoder: Decoder,
    /// All bytes of the body have been given.
    is_whole: bool,
    /// A member, or all data where there are none, is complete.
    has_member: bool,
    /// Bytes given so far.
    given: u64,
    /// For the window of zstd.
    permit: Option<SemaphorePermit<'static>>,
}

enum Decoder {
    /// Between two members.
    Waiting(Packed),
    Gzip(Box<GzDecoder<Packed>>),
    Zlib(Box<ZlibDecoder<Packed>>),
    Deflate(Box<DeflateDecoder<Packed>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Packed>>),
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

/// Packed bytes that have arrived and are not read yet. Reading more than the quota of a step, or more than has arrived,
/// would block.
#[derive(Debug, Default)]
struct Packed {
    bytes: Bytes,
    quota: usize,
    is_whole: bool,
}

impl BufRead for Packed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let ready = self.bytes.len().min(self.quota);
        if ready > 0 || (self.is_whole && self.bytes.is_empty()) {
            Ok(&self.bytes[..ready])
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn consume(&mut self, count: usize) {
        self.bytes.advance(count);
        self.quota -= count;
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl Unpacker {
    pub(super) fn new(coding: ContentCoding) -> Self {
        let decoder = Decoder::Waiting(Packed::default());
        Self { coding, decoder, is_whole: false, has_member: false, given: 0, permit: None }
    }

    /// Gives the next bytes of the body. Every step before must have read what was given.
    pub(super) fn give(&mut self, bytes: Bytes) {
        self.given += bytes.len() as u64;
        let packed = self.packed();
        packed.bytes = if packed.bytes.is_empty() { bytes } else { [&packed.bytes[..], &bytes[..]].concat().into() };
    }

    /// Says that all bytes have been given.
    pub(super) fn finish(&mut self) {
        self.is_whole = true;
        self.packed().is_whole = true;
    }

    /// Unpacks the next bytes.
    ///
    /// # Errors
    ///
    /// [`UnpackProblem`]; nothing can be unpacked afterwards.
    pub(super) fn step(&mut self) -> Result<Step, UnpackProblem> {
        if let Some(step) = self.start()? {
            return Ok(step);
        }
        self.packed().quota = INPUT_STEP_BYTES;
        let mut unpacked = vec![0; CHUNK_BYTES];
        match self.decoder.read(&mut unpacked) {
            Ok(0) => {
                self.has_member = true;
                self.decoder = Decoder::Waiting(std::mem::take(self.packed()));
                Ok(Step::Working)
            }
            Ok(count) => {
                unpacked.truncate(count);
                // Without the rest of its buffer, as it may be kept for a while.
                Ok(Step::Unpacked(unpacked.into_boxed_slice().into()))
            }
            Err(error) => self.problem(&error),
        }
    }

    /// Returns the step, or the problem, of an error of the decoder.
    fn problem(&mut self, error: &io::Error) -> Result<Step, UnpackProblem> {
        let (coding, rest) = (self.coding, self.packed().bytes.len() as u64);
        if error.kind() == io::ErrorKind::WouldBlock {
            return Ok(if rest == 0 { Step::Starved } else { Step::Working });
        }
        Err(if error.kind() == io::ErrorKind::UnexpectedEof {
            UnpackProblem::Truncated(coding)
        } else if error.to_string().contains("too much memory") {
            UnpackProblem::WindowTooLarge
        } else {
            UnpackProblem::Invalid { coding, at: self.given - rest }
        })
    }

    /// Begins the next member. Returns a step where none begins now.
    fn start(&mut self) -> Result<Option<Step>, UnpackProblem> {
        let Decoder::Waiting(packed) = &mut self.decoder else { return Ok(None) };
        let bytes = &packed.bytes;
        match (bytes.first(), self.is_whole) {
            // An empty body has an error of its own.
            (None, true) if self.has_member || self.given == 0 => return Ok(Some(Step::Ended)),
            (None, true) => return Err(UnpackProblem::Truncated(self.coding)),
            (None, false) => return Ok(Some(Step::Starved)),
            (Some(&first), _) if self.has_member && !self.coding.begins_with(first) => {
                return Err(UnpackProblem::Trailing(self.coding));
            }
            // Two bytes tell zlib from raw deflate.
            (Some(_), false) if self.coding == ContentCoding::Deflate && bytes.len() < 2 => {
                return Ok(Some(Step::Starved));
            }
            (Some(_), _) => {}
        }
        if self.coding == ContentCoding::Zstd && self.permit.is_none() {
            self.permit = Some(ZSTD_BODIES.try_acquire().map_err(|_| UnpackProblem::Busy)?);
        }
        let packed = std::mem::take(packed);
        self.decoder = match self.coding {
            ContentCoding::Gzip => Decoder::Gzip(Box::new(GzDecoder::new(packed))),
            ContentCoding::Deflate if has_zlib_header(&packed.bytes) => {
                Decoder::Zlib(Box::new(ZlibDecoder::new(packed)))
            }
            ContentCoding::Deflate => Decoder::Deflate(Box::new(DeflateDecoder::new(packed))),
            ContentCoding::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(packed).and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                    Ok(decoder.single_frame())
                });
                // Fails where its memory cannot be allocated.
                Decoder::Zstd(Box::new(decoder.map_err(|_| UnpackProblem::Busy)?))
            }
        };
        Ok(None)
    }

    fn packed(&mut self) -> &mut Packed {
        match &mut self.decoder {
            Decoder::Waiting(packed) => packed,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zlib(decoder) => decoder.get_mut(),
            Decoder::Deflate(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

impl Read for Decoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Waiting(_) => Err(io::ErrorKind::WouldBlock.into()),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zlib(decoder) => decoder.read(buffer),
            Self::Deflate(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Whether deflate data begins with the header of zlib (RFC 1950 §2.2).
fn has_zlib_header(bytes: &[u8]) -> bool {
    let &[method, flags, ..] = bytes else { return false };
    method & 0x0f == 8 && method >> 4 <= 7 && (u16::from(method) * 256 + u16::from(flags)).is_multiple_of(31)
}

#[cfg(test)]
mod tests;
