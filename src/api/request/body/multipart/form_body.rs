//! The body of a form, split into its parts as it arrives.
//!
//! A short form that has arrived is one buffer, of which its parts are slices. A form that is still arriving is split as it arrives,
//! so that a refusal of its first part does not wait for the last.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};

use super::framing::Framing;
use super::headers::PartHeaders;
use super::splitter::{Piece, Splitter, joined};
use crate::api::error::ApiError;
use crate::api::request::body::incoming::{BodyError, IncomingBody};
use crate::storage::spool::Upload;

/// Longest form that is read whole, in bytes.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// A form whose first line has been read.
#[derive(Debug)]
pub(super) struct FormBody {
    framing: Framing,
    splitter: Splitter,
    /// What follows the bytes that the splitter has.
    rest: Rest,
    /// Parts whose heads were returned.
    pub(super) parts: usize,
    /// All of it is in the memory of the spool.
    pub(super) is_spooled: bool,
}

/// The bytes of a body that were not split yet.
#[derive(Debug)]
struct Rest {
    /// The next chunk, where it was read already, or why there is none.
    ahead: Option<Result<Bytes, BodyError>>,
    incoming: IncomingBody,
}

impl Rest {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        match self.ahead.take() {
            Some(ahead) => Some(ahead),
            None => self.incoming.next().await,
        }
    }

    /// Reads what has arrived of a body of `announced` bytes, and its first chunk in any case, into the memory of the spool; returns
    /// what fits, and whether that is the whole body.
    async fn gather(&mut self, upload: &Upload, announced: u64) -> (Bytes, bool) {
        let Some(mut buffer) = upload.buffer(announced) else { return (Bytes::new(), false) };
        let mut next = Some(self.incoming.next().await);
        while let Some(Some(chunk)) = next {
            match chunk {
                Ok(chunk) if buffer.extend(&chunk) => {}
                stop => {
                    self.ahead = Some(stop);
                    return (buffer.into_bytes(), false);
                }
            }
            next = self.arrived().await;
        }
        (buffer.into_bytes(), next.is_some())
    }

    /// Returns the next chunk, if it has arrived.
    async fn arrived(&mut self) -> Option<Option<Result<Bytes, BodyError>>> {
        if let Some(next) = self.incoming.next().now_or_never() {
            return Some(next);
        }
        // The connection fetches a chunk from the socket once it was asked for, when this task gives way.
        tokio::task::yield_now().await;
        self.incoming.next().now_or_never()
    }
}

impl FormBody {
    /// Reads the first line, and the rest where that is short.
    pub(super) async fn open(
        incoming: IncomingBody,
        boundary: String,
        upload: &Upload,
        announced: Option<u64>,
    ) -> Result<Self, ApiError> {
        let mut rest = Rest { ahead: None, incoming };
        let (mut start, is_spooled) = match announced.filter(|&bytes| bytes <= WHOLE_BYTES_MAX) {
            Some(announced) => rest.gather(upload, announced).await,
            None => (Bytes::new(), false),
        };
        while !Framing::is_known(&start) {
            let Some(chunk) = rest.next().await else { break };
            start = joined(start, chunk?);
        }
        let framing = Framing::of(&start, boundary);
        let mut splitter = Splitter::new(&framing.boundary, framing.is_used());
        splitter.push(start);
        if is_spooled {
            splitter.end();
        }
        Ok(Self { framing, splitter, rest, parts: 0, is_spooled })
    }

    /// Returns the head of the next part, behind the rest of the one before; `None` at the end of the form.
    pub(super) async fn next_head(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let piece = self.piece().await;
            match piece.map_err(|error| if self.parts == 0 { self.framing.explain(error) } else { error })? {
                Piece::Head(head) => {
                    self.parts += 1;
                    return Ok(Some(head));
                }
                Piece::FormEnd => return Ok(None),
                Piece::Data(_) | Piece::PartEnd | Piece::Starved => {}
            }
        }
    }

    /// Returns the headers of the head that was returned last.
    pub(super) fn headers<'h>(&self, head: &'h [u8]) -> Result<PartHeaders<'h>, ApiError> {
        let headers = PartHeaders::parse(head).map_err(ApiError::from);
        headers.map_err(|error| if self.parts == 1 { self.framing.explain(error) } else { error })
    }

    /// Returns the next bytes of a part, which has not ended before; `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        match self.piece().await? {
            Piece::Data(bytes) => Ok(Some(bytes)),
            Piece::PartEnd | Piece::Head(_) | Piece::FormEnd | Piece::Starved => Ok(None),
        }
    }

    async fn piece(&mut self) -> Result<Piece, ApiError> {
        loop {
            let piece = self.splitter.next()?;
            if piece != Piece::Starved {
                return Ok(piece);
            }
            match self.rest.next().await {
                Some(chunk) => self.splitter.push(chunk?),
                None => self.splitter.end(),
            }
        }
    }
}
