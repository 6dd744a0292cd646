//! The bytes of a spooled JSON text, in bounds, and why reading them failed.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;
use std::sync::Arc;

use struson::reader::{JsonSyntaxError, ReaderError};

use super::{ReadError, problems};
use crate::api::error::ApiError;
use crate::model::ByteSource;

/// Bounds how much struson reads, and records why its input failed.
#[derive(Debug)]
pub(crate) struct Meter {
    source: Arc<dyn ByteSource>,
    /// Length of the byte order mark.
    start: u64,
    /// Bytes that may still be read.
    allowance: Cell<u64>,
    exhausted: Cell<bool>,
    /// The spool could not be read.
    unreadable: Cell<bool>,
}

impl Meter {
    pub(super) fn new(source: Arc<dyn ByteSource>, start: u64) -> Self {
        let (exhausted, unreadable) = (Cell::new(false), Cell::new(false));
        Self { source, start, allowance: Cell::new(u64::MAX), exhausted, unreadable }
    }

    pub(super) fn allow(&self, bytes: u64) {
        self.allowance.set(bytes);
    }

    /// Returns the error for the client when the JSON reader failed with `error`.
    pub(super) fn explain(&self, error: &ReaderError) -> ApiError {
        self.refusal(error).unwrap_or_else(|| {
            if let ReaderError::SyntaxError(error) = error {
                return self.of_syntax(error);
            }
            let is_io = matches!(error, ReaderError::IoError { .. });
            malformed(if is_io { problems::NOT_UTF8 } else { "it is not valid JSON" })
        })
    }

    /// Returns the error when reading a string failed.
    pub(in crate::api::request::body) fn string_error(&self, error: &io::Error) -> ReadError {
        ReadError::Api(self.explain_string(error))
    }

    /// Returns the error for the client when a string could not be read.
    pub(crate) fn explain_string(&self, error: &io::Error) -> ApiError {
        let syntax = error.get_ref().and_then(|inner| inner.downcast_ref::<JsonSyntaxError>());
        self.refusal(error)
            .unwrap_or_else(|| syntax.map_or_else(|| malformed(problems::NOT_UTF8), |error| self.of_syntax(error)))
    }

    fn of_syntax(&self, error: &JsonSyntaxError) -> ApiError {
        let position = error.location.data_pos.map(|position| position + self.start);
        let mut near = [0; problems::NEAR_BYTES];
        // Just written, or in the page cache; what cannot be read only makes the message shorter.
        let count = position.and_then(|position| self.source.read_at(&mut near, position).ok()).unwrap_or(0);
        malformed(problems::of_syntax(error.kind, position, &near[..count]))
    }

    /// Returns the error when the meter has refused to read on, or the spool could not be read.
    fn refusal(&self, error: &dyn std::error::Error) -> Option<ApiError> {
        if self.unreadable.get() {
            return Some(ApiError::internal(format!("the spooled body cannot be read: {error}")));
        }
        self.exhausted.get().then(|| malformed("the name of a member is too long"))
    }
}

pub(super) fn malformed(problem: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::MalformedBody { problem: problem.into() }
}

/// A JSON text, while its meter allows reading.
#[derive(Debug)]
pub(crate) struct LimitedReader {
    bytes: BufReader<SourceReader>,
    meter: Rc<Meter>,
}

impl LimitedReader {
    pub(super) fn new(meter: &Rc<Meter>, buffer_bytes: usize) -> Self {
        let bytes = SourceReader { source: Arc::clone(&meter.source), offset: meter.start };
        Self { bytes: BufReader::with_capacity(buffer_bytes, bytes), meter: Rc::clone(meter) }
    }
}

impl Read for LimitedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowance = self.meter.allowance.get();
        if allowance == 0 {
            self.meter.exhausted.set(true);
            return Err(io::Error::other("too long"));
        }
        let count = self.bytes.read(buffer).inspect_err(|_| self.meter.unreadable.set(true))?;
        self.meter.allowance.set(allowance.saturating_sub(count as u64));
        Ok(count)
    }
}

/// Reads bytes of the spool from the first to the last.
#[derive(Debug)]
pub(crate) struct SourceReader {
    pub(crate) source: Arc<dyn ByteSource>,
    pub(crate) offset: u64,
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
