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
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
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
    #[error(
        "it is not valid {coding} (Content-Encoding): the data is damaged, or something follows it, near byte {at}"
    )]
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

/// Unpacks one body.
#[derive(Debug)]
pub(super) struct Unpacker {
    coding: ContentCoding,
    decoder: Decoder,
    /// All bytes of the body have been given.
    is_whole: bool,
    /// The data is complete.
    is_complete: bool,
    /// Bytes given so far.
    given: u64,
}

enum Decoder {
    /// Nothing has arrived, or too little to tell zlib from raw deflate.
    Waiting(Packed),
    Gzip(Box<MultiGzDecoder<Packed>>),
    Zlib(Box<ZlibDecoder<Packed>>),
    Deflate(Box<DeflateDecoder<Packed>>),
    Zstd(Box<ZstdDecoder>),
}

/// The decoder of zstd, with the permit for its window.
struct ZstdDecoder {
    decoder: zstd::stream::read::Decoder<'static, Packed>,
    _permit: SemaphorePermit<'static>,
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
        Self { coding, decoder, is_whole: false, is_complete: false, given: 0 }
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
        let coding = self.coding;
        if self.is_complete || (self.is_whole && self.given == 0) {
            return match (self.packed().bytes.is_empty(), self.is_whole) {
                (false, _) => Err(UnpackProblem::Trailing(coding)),
                (true, true) => Ok(Step::Ended),
                (true, false) => Ok(Step::Starved),
            };
        }
        if !self.start()? {
            return Ok(Step::Starved);
        }
        self.packed().quota = INPUT_STEP_BYTES;
        let mut unpacked = vec![0; CHUNK_BYTES];
        match self.decoder.read(&mut unpacked) {
            Ok(0) => {
                self.is_complete = true;
                Ok(Step::Working)
            }
            Ok(count) => {
                unpacked.truncate(count);
                // Without the rest of its buffer, as it may be kept for a while.
                Ok(Step::Unpacked(unpacked.into_boxed_slice().into()))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock if self.packed().bytes.is_empty() => Ok(Step::Starved),
                io::ErrorKind::WouldBlock => Ok(Step::Working),
                io::ErrorKind::UnexpectedEof => Err(UnpackProblem::Truncated(coding)),
                _ if error.to_string().contains("too much memory") => Err(UnpackProblem::WindowTooLarge),
                _ => {
                    let rest = self.packed().bytes.len() as u64;
                    Err(UnpackProblem::Invalid { coding, at: self.given - rest })
                }
            },
        }
    }

    /// Chooses the decoder when enough bytes are there to do so. Returns whether it is chosen.
    fn start(&mut self) -> Result<bool, UnpackProblem> {
        let Decoder::Waiting(packed) = &mut self.decoder else { return Ok(true) };
        let needed = if self.coding == ContentCoding::Deflate { 2 } else { 1 };
        if packed.bytes.len() < needed && !self.is_whole {
            return Ok(false);
        }
        let packed = std::mem::take(packed);
        self.decoder = match self.coding {
            ContentCoding::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(packed))),
            ContentCoding::Deflate if has_zlib_header(&packed.bytes) => {
                Decoder::Zlib(Box::new(ZlibDecoder::new(packed)))
            }
            ContentCoding::Deflate => Decoder::Deflate(Box::new(DeflateDecoder::new(packed))),
            ContentCoding::Zstd => {
                let permit = ZSTD_BODIES.try_acquire().map_err(|_| UnpackProblem::Busy)?;
                let decoder = zstd::stream::read::Decoder::with_buffer(packed).and_then(|mut decoder| {
                    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                    Ok(decoder)
                });
                // Fails where its memory cannot be allocated.
                let decoder = decoder.map_err(|_| UnpackProblem::Busy)?;
                Decoder::Zstd(Box::new(ZstdDecoder { decoder, _permit: permit }))
            }
        };
        Ok(true)
    }

    fn packed(&mut self) -> &mut Packed {
        match &mut self.decoder {
            Decoder::Waiting(packed) => packed,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zlib(decoder) => decoder.get_mut(),
            Decoder::Deflate(decoder) => decoder.get_mut(),
            Decoder::Zstd(zstd) => zstd.decoder.get_mut(),
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
            Self::Zstd(zstd) => zstd.decoder.read(buffer),
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
