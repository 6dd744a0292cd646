//! The boundary of a form: which one the body uses, and why a form cannot be split at it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use memchr::memmem;

use crate::api::error::ApiError;
use crate::api::request::body::incoming::{BodyError, IncomingBody};

/// Longest first line that is looked at, in bytes.
const LINE_BYTES_MAX: usize = 512;
/// Most characters of a boundary that a message repeats.
const SHOWN_CHARS: usize = 80;

/// A body whose first line has been read, with the boundary at which it is to be split.
#[derive(Debug)]
pub(super) struct FormBody {
    pub(super) boundary: String,
    pub(super) framing: Framing,
    pub(super) body: ClosedBody,
}

/// What is known of the lines of a form, for messages.
#[derive(Clone, Debug)]
pub(super) struct Framing {
    boundary: String,
    /// The first line without its end.
    first_line: Vec<u8>,
    ends_in_lf: bool,
    empty: bool,
}

impl FormBody {
    /// Reads the first line. A boundary that is announced with two dashes too many or too few is accepted.
    pub(super) async fn read(mut incoming: IncomingBody, announced: String) -> Result<Self, ApiError> {
        let mut start = BytesMut::new();
        let mut ended = false;
        while !ended && start.len() < LINE_BYTES_MAX && !start.contains(&b'\n') {
            match incoming.next().await {
                Some(chunk) => start.extend_from_slice(&chunk?),
                None => ended = true,
            }
        }
        let end = start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len()).min(LINE_BYTES_MAX);
        let line = start[..end].strip_suffix(b"\r").unwrap_or(&start[..end]);
        let ends_in_lf = start.get(end) == Some(&b'\n') && line.len() == end;
        let first_line = line.trim_ascii_end().to_vec();
        let boundary = dashed(&first_line, &announced).map(str::to_owned).unwrap_or(announced);
        let is_used = first_line.strip_prefix(b"--") == Some(boundary.as_bytes());
        let framing = Framing { boundary: boundary.clone(), first_line, ends_in_lf, empty: start.is_empty() };
        let closing = if is_used { format!("--{boundary}--").into_bytes() } else { Vec::new() };
        Ok(Self { boundary, framing, body: ClosedBody::new(start.freeze(), incoming, closing) })
    }
}

/// Returns the boundary where the two dashes that precede it in the body stand in the header too, or twice in the body.
fn dashed<'a>(line: &'a [u8], announced: &'a str) -> Option<&'a str> {
    let line = std::str::from_utf8(line.strip_suffix(b"--").unwrap_or(line)).ok()?;
    if line == announced {
        return announced.strip_prefix("--").filter(|boundary| !boundary.is_empty());
    }
    line.strip_prefix("--").filter(|used| used.strip_prefix("--") == Some(announced))
}

impl Framing {
    /// Returns the error for a form that could not be split before its first part was read.
    pub(super) fn explain(&self, error: multer::Error) -> ApiError {
        let body_error = malformed(error);
        let is_of_form = matches!(body_error, ApiError::MalformedBody { .. });
        match self.problem().filter(|_| is_of_form) {
            Some(problem) => ApiError::MalformedBody { problem: problem.into() },
            None => body_error,
        }
    }

    fn problem(&self) -> Option<String> {
        if self.empty {
            return Some("it is empty; a form with its parts is expected".to_owned());
        }
        let announced = shown(self.boundary.as_bytes());
        let line = self.first_line.as_slice();
        let used = line.strip_prefix(b"--").filter(|used| !used.is_empty());
        if used == Some(self.boundary.as_bytes()) {
            return self
                .ends_in_lf
                .then(|| "the lines of the form end in LF alone; they must end in CRLF (\\r\\n)".to_owned());
        }
        match (used, line) {
            (Some(used), _) => Some(format!(
                "the Content-Type header announces the boundary '{announced}', and the form begins with the boundary '{}'; leave \
                 the header to the library that writes the form",
                shown(used)
            )),
            (None, [b'{' | b'[', ..]) => {
                Some("it is JSON, and its Content-Type says multipart/form-data; send application/json".to_owned())
            }
            (None, _) if line == self.boundary.as_bytes() => Some(format!(
                "the form begins with its boundary without the two dashes before it: '--{announced}' is expected"
            )),
            (None, _) => {
                Some(format!("it does not begin with the boundary '--{announced}' of its Content-Type header"))
            }
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Returns the error for a form that cannot be read.
pub(super) fn malformed(error: multer::Error) -> ApiError {
    let cut_short = matches!(error, multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. });
    let problem = if cut_short {
        "the form ends before its closing boundary"
    } else if matches!(error, multer::Error::ReadHeaderFailed(_) | multer::Error::IncompleteHeaders) {
        "the head of a part cannot be read: each of its lines must be 'Name: value' and end in CRLF, and none may be folded"
    } else {
        "the form is not valid: its boundary or the head of a part cannot be read"
    };
    if let multer::Error::StreamReadFailed(error) = error
        && let Ok(error) = error.downcast::<BodyError>()
    {
        return ApiError::from(*error);
    }
    ApiError::MalformedBody { problem: problem.into() }
}

/// The chunks of a form. Where no line break precedes the closing boundary, which ends the body, it is added.
#[derive(Debug)]
pub(super) struct ClosedBody {
    incoming: IncomingBody,
    /// The first chunk, which has been read.
    start: Option<Bytes>,
    /// The closing boundary; empty where it is not known.
    closing: Vec<u8>,
    /// The last bytes so far, which may be the closing boundary.
    held: Bytes,
    /// Follows what was returned last.
    next: Option<Bytes>,
    ended: bool,
}

impl ClosedBody {
    fn new(start: Bytes, incoming: IncomingBody, closing: Vec<u8>) -> Self {
        Self { incoming, start: Some(start), closing, held: Bytes::new(), next: None, ended: false }
    }

    /// The closing boundary, what precedes it, and the line break behind it.
    fn held_bytes(&self) -> usize {
        self.closing.len() + 6
    }

    /// Takes a chunk; returns the bytes that cannot be part of the closing boundary, in two pieces.
    fn pass(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let keep = self.held_bytes();
        if chunk.len() >= keep {
            let last = chunk.split_off(chunk.len() - keep);
            let held = std::mem::replace(&mut self.held, last);
            self.next = Some(chunk).filter(|chunk| !chunk.is_empty());
            return Some(held).filter(|held| !held.is_empty()).or_else(|| self.next.take());
        }
        let mut joined = BytesMut::with_capacity(self.held.len() + chunk.len());
        joined.extend_from_slice(&self.held);
        joined.extend_from_slice(&chunk);
        let passed = joined.split_to(joined.len().saturating_sub(keep));
        self.held = joined.freeze();
        Some(passed.freeze()).filter(|passed| !passed.is_empty())
    }

    /// Returns the last bytes, with the line break that the closing boundary lacks.
    fn last(&mut self) -> Option<Bytes> {
        let last = std::mem::take(&mut self.held);
        let at = memmem::rfind(&last, &self.closing).filter(|&at| {
            let behind = &last[at + self.closing.len()..];
            !self.closing.is_empty() && behind.trim_ascii().is_empty() && at > 0 && !last[..at].ends_with(b"\r\n")
        });
        let Some(at) = at else { return Some(last).filter(|last| !last.is_empty()) };
        Some([&last[..at], b"\r\n", &last[at..]].concat().into())
    }
}

impl Stream for ClosedBody {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(next) = self.next.take() {
                return Poll::Ready(Some(Ok(next)));
            }
            let chunk = match self.start.take() {
                Some(start) => start,
                None if self.ended => return Poll::Ready(None),
                None => match std::task::ready!(self.incoming.poll_next_unpin(cx)) {
                    Some(Ok(chunk)) => chunk,
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => {
                        self.ended = true;
                        return Poll::Ready(self.last().map(Ok));
                    }
                },
            };
            if let Some(passed) = self.pass(chunk) {
                return Poll::Ready(Some(Ok(passed)));
            }
        }
    }
}
