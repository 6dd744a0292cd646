//! Bodies of text and pictures; the pictures are encoded as base64, or not at all, while the body is being sent.
//!
//! Requests to GPTProto have pictures as data URIs, responses to clients as `b64_json` or as files. The length is known from the
//! start, no picture is in memory whole, and files are read on threads that may block.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use base64_simd::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::model::ByteSource;
use crate::model::picture::fill;

/// Picture bytes encoded at a time. A multiple of three, so that there is no padding between pieces.
const PIECE_BYTES: usize = 192 * 1024;
/// The same for a file, each piece of which is read on another thread.
const FILE_PIECE_BYTES: usize = 2 * PIECE_BYTES;

/// Room for text that is appended piece by piece, in bytes; most texts around a picture fit in.
const TEXT_BYTES: usize = 256;

/// A body under construction, and then the body itself.
#[derive(Debug, Default)]
pub(crate) struct StreamingBody {
    segments: VecDeque<Segment>,
    /// Bytes that have not been produced yet.
    remaining: u64,
    /// The next piece of a file, read and encoded while the one before it is being sent.
    reading: Option<JoinHandle<io::Result<Piece>>>,
    /// Buffer for a file's bytes before they are encoded; empty while a piece is being read.
    scratch: Vec<u8>,
    /// Buffers of pieces that have been sent, for the next ones; none before the first piece of a file.
    pool: Option<BufferPool>,
}

/// An encoded piece of a file, and the scratch buffer to use again.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    scratch: Vec<u8>,
}

/// Buffers for reuse: to allocate a new one for every piece costs as much as encoding the piece. Holds no more buffers than one
/// body had pieces being sent at the same time.
type BufferPool = Arc<Mutex<Vec<Vec<u8>>>>;

/// An encoded piece whose buffer returns to the pool when it is dropped.
#[derive(Debug)]
struct Pooled {
    bytes: Vec<u8>,
    pool: BufferPool,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

#[derive(Debug)]
enum Segment {
    Text(Vec<u8>),
    /// The bytes from `offset` on are still to be produced.
    Picture {
        source: Arc<dyn ByteSource>,
        offset: u64,
        encoding: Encoding,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Base64,
    Bare,
}

impl StreamingBody {
    /// Appends text as it is.
    #[must_use]
    pub(crate) fn text(self, text: impl AsRef<str>) -> Self {
        self.append(|end| end.extend_from_slice(text.as_ref().as_bytes()))
    }

    /// Appends formatted text.
    #[must_use]
    pub(crate) fn format(self, text: fmt::Arguments<'_>) -> Self {
        self.append(|end| end.write_fmt(text).expect("writing to memory cannot fail"))
    }

    /// Appends a value as JSON.
    ///
    /// # Panics
    ///
    /// On a value that JSON cannot hold, such as a map with keys that are not strings.
    #[must_use]
    pub(crate) fn json(self, value: &impl Serialize) -> Self {
        self.append(|end| serde_json::to_writer(end, value).expect("our own values are JSON"))
    }

    /// Writes to the text at the end of the body. Neighbouring texts are one segment: they leave in one piece.
    fn append(mut self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        if !matches!(self.segments.back(), Some(Segment::Text(_))) {
            self.segments.push_back(Segment::Text(Vec::with_capacity(TEXT_BYTES)));
        }
        if let Some(Segment::Text(text)) = self.segments.back_mut() {
            let before = text.len();
            write(text);
            self.remaining += (text.len() - before) as u64;
        }
        self
    }

    /// Appends the bytes of `source` as standard base64 with padding and without line breaks.
    #[must_use]
    pub(crate) fn base64(mut self, source: Arc<dyn ByteSource>) -> Self {
        self.remaining += source.size().div_ceil(3) * 4;
        self.segments.push_back(Segment::Picture { source, offset: 0, encoding: Encoding::Base64 });
        self
    }

    /// Appends the bytes of `source` as they are.
    #[must_use]
    pub(crate) fn bare(mut self, source: Arc<dyn ByteSource>) -> Self {
        self.remaining += source.size();
        self.segments.push_back(Segment::Picture { source, offset: 0, encoding: Encoding::Bare });
        self
    }

    /// Appends another body that has not been read from yet.
    #[must_use]
    pub(crate) fn then(mut self, other: Self) -> Self {
        self.remaining += other.remaining;
        self.segments.extend(other.segments);
        self
    }

    /// Returns the number of bytes that have not been produced yet.
    pub(crate) fn length(&self) -> u64 {
        self.remaining
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let piece = std::task::ready!(reading.poll_unpin(cx));
                self.reading = None;
                let piece = piece.unwrap_or_else(|error| Err(io::Error::other(error)));
                return Poll::Ready(Some(piece.map(|Piece { bytes, scratch }| {
                    self.scratch = scratch;
                    self.read_ahead();
                    bytes
                })));
            }
            match self.segments.front_mut() {
                None => return Poll::Ready(None),
                Some(Segment::Text(_)) => {
                    let Some(Segment::Text(text)) = self.segments.pop_front() else { unreachable!("just seen") };
                    if !text.is_empty() {
                        return Poll::Ready(Some(Ok(text.into())));
                    }
                }
                Some(Segment::Picture { source, offset, encoding }) => {
                    let left = source.size() - *offset;
                    if left == 0 {
                        self.segments.pop_front();
                        continue;
                    }
                    if *encoding == Encoding::Base64
                        && *offset == 0
                        && let Some(text) = source.base64()
                    {
                        // As one piece: it is in memory already and stays there.
                        self.segments.pop_front();
                        return Poll::Ready(Some(Ok(text)));
                    }
                    if let Some(bytes) = source.in_memory() {
                        let size = size_of_piece(left, PIECE_BYTES);
                        let (start, encoding) = (*offset, *encoding);
                        *offset += size as u64;
                        return Poll::Ready(Some(piece_of_memory(&bytes, start, size, encoding)));
                    }
                    self.read_ahead();
                }
            }
        }
    }

    /// Starts to read the next piece of a picture in a file.
    fn read_ahead(&mut self) {
        let Some(Segment::Picture { source, offset, encoding }) = self.segments.front_mut() else { return };
        let left = source.size() - *offset;
        if left > 0 {
            let (source, start, encoding, size) =
                (Arc::clone(source), *offset, *encoding, size_of_piece(left, FILE_PIECE_BYTES));
            *offset += size as u64;
            let scratch = std::mem::take(&mut self.scratch);
            let pool = Arc::clone(self.pool.get_or_insert_default());
            let read = move || piece_of_file(&*source, start, size, encoding, scratch, pool);
            self.reading = Some(tokio::task::spawn_blocking(read));
        }
    }
}

fn size_of_piece(left: u64, most: usize) -> usize {
    usize::try_from(left).unwrap_or(most).min(most)
}

fn piece_of_memory(bytes: &Bytes, offset: u64, size: usize, encoding: Encoding) -> io::Result<Bytes> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let raw = bytes.slice(start..start + size);
    Ok(match encoding {
        Encoding::Base64 => Bytes::from(STANDARD.encode_type::<Vec<u8>>(&raw)),
        Encoding::Bare => raw,
    })
}

/// Reads and encodes a piece. Blocks.
fn piece_of_file(
    source: &dyn ByteSource,
    offset: u64,
    size: usize,
    encoding: Encoding,
    mut scratch: Vec<u8>,
    pool: BufferPool,
) -> io::Result<Piece> {
    scratch.resize(size, 0);
    if fill(source, offset, &mut scratch)? != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a stored picture is shorter than recorded"));
    }
    Ok(match encoding {
        Encoding::Base64 => {
            let mut bytes = pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            STANDARD.encode_append(&scratch, &mut bytes);
            Piece { bytes: Bytes::from_owner(Pooled { bytes, pool }), scratch }
        }
        Encoding::Bare => Piece { bytes: Bytes::from(scratch), scratch: Vec::new() },
    })
}

impl Body for StreamingBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = std::task::ready!(self.poll_piece(cx));
        Poll::Ready(piece.map(|piece| {
            piece.map(|bytes| {
                self.remaining -= bytes.len() as u64;
                Frame::data(bytes)
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// A source that is read like a file.
    #[derive(Debug)]
    struct FileLike(Bytes);

    impl ByteSource for FileLike {
        fn size(&self) -> u64 {
            self.0.size()
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            // Short reads happen.
            let most = buffer.len().min(1000);
            self.0.read_at(&mut buffer[..most], offset)
        }
    }

    #[tokio::test]
    async fn the_pieces_together_are_the_encoding_of_the_whole() {
        for size in [0, 1, 2, 3, 1000, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES - 1, 9 * PIECE_BYTES + 2] {
            let bytes = Bytes::from((0..size).map(|i| i.to_le_bytes()[0]).collect::<Vec<u8>>());
            let sources: [Arc<dyn ByteSource>; 2] = [Arc::new(bytes.clone()), Arc::new(FileLike(bytes.clone()))];
            for source in sources {
                let body = StreamingBody::default().text("{\"a\":\"").base64(source).text("\"}");
                let expected = format!("{{\"a\":\"{}\"}}", STANDARD.encode_to_string(&bytes));
                assert_eq!(body.length(), expected.len() as u64);
                assert_eq!(body.size_hint().exact(), Some(expected.len() as u64));
                assert_eq!(body.collect().await.unwrap().to_bytes(), expected.as_bytes());
                let inner = StreamingBody::default().text("\"").base64(Arc::new(bytes.clone())).text("\"");
                let body = StreamingBody::default().text("{\"a\":").then(inner).text("}");
                assert_eq!(body.length(), expected.len() as u64);
                assert_eq!(body.collect().await.unwrap().to_bytes(), expected.as_bytes());
            }
            let sources: [Arc<dyn ByteSource>; 2] = [Arc::new(bytes.clone()), Arc::new(FileLike(bytes.clone()))];
            for source in sources {
                assert_eq!(StreamingBody::default().bare(source).collect().await.unwrap().to_bytes(), bytes);
            }
        }
    }
}
