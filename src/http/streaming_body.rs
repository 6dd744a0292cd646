//! Bodies with pictures inside: text known beforehand, and pictures as base64, or bare, made as they leave.
//!
//! The same shape goes both ways: up to GPTProto as data URIs, down to clients as `b64_json` or files. The length is known from
//! the start, no picture is held whole, and files are read off the asynchronous threads.

use std::collections::VecDeque;
use std::io;
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

/// Picture bytes encoded at a time. A multiple of three, so that pieces join without padding between them.
const PIECE_BYTES: usize = 192 * 1024;
/// The same of a file, each piece of which is a trip to another thread.
const FILE_PIECE_BYTES: usize = 2 * PIECE_BYTES;

/// A body under construction, and then the body itself.
#[derive(Debug, Default)]
pub(crate) struct StreamingBody {
    segments: VecDeque<Segment>,
    /// Bytes that have not left yet.
    remaining: u64,
    /// A piece of a file that is being read and encoded, while the one before it leaves.
    reading: Option<JoinHandle<io::Result<Piece>>>,
    /// What files are read into before they are encoded; absent while a piece is being read.
    scratch: Vec<u8>,
    /// Memory of pieces that have left, for those that follow.
    returned: Returned,
}

/// A piece of a file as it leaves, and the scratch memory that comes back.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    scratch: Vec<u8>,
}

/// Memory that comes back when what it held has left. Fresh memory for every piece costs as much as encoding it.
type Returned = Arc<Mutex<Vec<Vec<u8>>>>;

/// An encoded piece whose memory comes back.
#[derive(Debug)]
struct Borrowed {
    bytes: Vec<u8>,
    returned: Returned,
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

#[derive(Debug)]
enum Segment {
    Text(Bytes),
    /// The bytes from `offset` on are still to leave.
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
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        let text = Bytes::from(text.into());
        self.remaining += text.len() as u64;
        // Neighbouring texts stay apart: joining them would copy, and bodies have few.
        self.segments.push_back(Segment::Text(text));
        self
    }

    /// Appends a value as JSON.
    ///
    /// # Panics
    ///
    /// On a value that JSON cannot hold, such as a map with keys that are not strings.
    #[must_use]
    pub(crate) fn json(self, value: &impl Serialize) -> Self {
        self.text(serde_json::to_string(value).expect("our own values are JSON"))
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

    /// Appends another body, of which nothing has left yet.
    #[must_use]
    pub(crate) fn then(mut self, other: Self) -> Self {
        self.remaining += other.remaining;
        self.segments.extend(other.segments);
        self
    }

    /// Length in bytes, of what has not left yet.
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
                        return Poll::Ready(Some(Ok(text)));
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
                        // As one piece: it is there already, and stays there.
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

    /// Begins to read the next piece of a picture in a file.
    fn read_ahead(&mut self) {
        let Some(Segment::Picture { source, offset, encoding }) = self.segments.front_mut() else { return };
        let left = source.size() - *offset;
        if left > 0 {
            let (source, start, encoding, size) =
                (Arc::clone(source), *offset, *encoding, size_of_piece(left, FILE_PIECE_BYTES));
            *offset += size as u64;
            let scratch = std::mem::take(&mut self.scratch);
            let returned = Arc::clone(&self.returned);
            let read = move || piece_of_file(&*source, start, size, encoding, scratch, returned);
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

/// Blocks for as long as a disk does.
fn piece_of_file(
    source: &dyn ByteSource,
    offset: u64,
    size: usize,
    encoding: Encoding,
    mut scratch: Vec<u8>,
    returned: Returned,
) -> io::Result<Piece> {
    scratch.resize(size, 0);
    if fill(source, offset, &mut scratch)? != size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a stored picture became shorter"));
    }
    Ok(match encoding {
        Encoding::Base64 => {
            let mut bytes = returned.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            STANDARD.encode_append(&scratch, &mut bytes);
            Piece { bytes: Bytes::from_owner(Borrowed { bytes, returned }), scratch }
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

    /// Bytes that pretend to be in a file.
    #[derive(Debug)]
    struct Filed(Bytes);

    impl ByteSource for Filed {
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
    async fn pieces_join_to_the_plain_encoding() {
        for size in [0, 1, 2, 3, 1000, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES - 1, 9 * PIECE_BYTES + 2] {
            let bytes = Bytes::from((0..size).map(|i| i.to_le_bytes()[0]).collect::<Vec<u8>>());
            let sources: [Arc<dyn ByteSource>; 2] = [Arc::new(bytes.clone()), Arc::new(Filed(bytes.clone()))];
            for source in sources {
                let payload = StreamingBody::default().text("{\"a\":\"").base64(source).text("\"}");
                let expected = format!("{{\"a\":\"{}\"}}", STANDARD.encode_to_string(&bytes));
                assert_eq!(payload.length(), expected.len() as u64);
                assert_eq!(payload.size_hint().exact(), Some(expected.len() as u64));
                assert_eq!(payload.collect().await.unwrap().to_bytes(), expected.as_bytes());
                let inner = StreamingBody::default().text("\"").base64(Arc::new(bytes.clone())).text("\"");
                let payload = StreamingBody::default().text("{\"a\":").then(inner).text("}");
                assert_eq!(payload.length(), expected.len() as u64);
                assert_eq!(payload.collect().await.unwrap().to_bytes(), expected.as_bytes());
            }
            let sources: [Arc<dyn ByteSource>; 2] = [Arc::new(bytes.clone()), Arc::new(Filed(bytes.clone()))];
            for source in sources {
                assert_eq!(StreamingBody::default().bare(source).collect().await.unwrap().to_bytes(), bytes);
            }
        }
    }
}
