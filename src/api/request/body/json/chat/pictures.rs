//! The pictures of a conversation in their order: which of them are read, and which are passed over.
//!
//! A conversation carries all its pictures again with every message, and a request needs those of one message. So a body is
//! read twice: first to find out which pictures are needed, then to decode these into the spool.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::ops::Range;

use crate::api::error::ApiError;
use crate::api::request::body::form::FormLimits;
use crate::api::request::body::picture_text::{PictureParameter, read_picture};
use crate::model::Input;
use crate::storage::spool::Upload;

/// Why a text could not be read: its source failed, or a picture in it is invalid.
#[derive(Debug)]
pub(super) enum ReadTextError {
    Source(io::Error),
    Picture(ApiError),
}

impl From<io::Error> for ReadTextError {
    fn from(error: io::Error) -> Self {
        Self::Source(error)
    }
}

impl From<ApiError> for ReadTextError {
    fn from(error: ApiError) -> Self {
        Self::Picture(error)
    }
}

/// Whether the data of a picture in a text ends at this byte.
pub(super) fn ends_data(byte: u8) -> bool {
    matches!(byte, b')' | b'>' | b'"') || byte.is_ascii_whitespace()
}

/// Whether the next picture is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Wanted,
    Passed,
}

/// Counts the pictures of a conversation, and keeps those that are wanted.
#[derive(Debug)]
pub(super) struct PictureSelection {
    wanted: Range<usize>,
    count: usize,
    pub(super) pictures: Vec<Input>,
}

impl PictureSelection {
    pub(super) fn new(wanted: Range<usize>) -> Self {
        Self { wanted, count: 0, pictures: Vec::new() }
    }

    /// Returns the number of pictures so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Counts one more picture.
    pub(super) fn next(&mut self) -> Position {
        let position = if self.wanted.contains(&self.count) { Position::Wanted } else { Position::Passed };
        self.count += 1;
        position
    }
}

/// Reads the pictures that the text of one message embeds.
pub(super) struct PictureReader<'a> {
    pub(super) selection: &'a mut PictureSelection,
    pub(super) limits: &'a FormLimits,
    pub(super) upload: &'a mut Upload,
    /// Names the message in errors.
    pub(super) param: &'a str,
    /// Returns the error of a text that cannot be read.
    pub(super) explain: &'a dyn Fn(&io::Error) -> ApiError,
}

impl fmt::Debug for PictureReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PictureReader").field("selection", &self.selection).finish_non_exhaustive()
    }
}

impl PictureReader<'_> {
    pub(super) fn next(&mut self) -> Position {
        self.selection.next()
    }

    /// Keeps a picture that is given by its address.
    ///
    /// # Errors
    ///
    /// [`ApiError::Unacceptable`] for an address that nothing can be fetched from.
    pub(super) fn address(&mut self, address: &[u8]) -> Result<(), ReadTextError> {
        let is_web = address.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"http"));
        if !is_web {
            let path: String = String::from_utf8_lossy(address).chars().take(100).collect();
            let problem = format!(
                "the picture to edit is '{path}' in the conversation, which the gateway cannot read; send the picture \
                 itself with your message"
            );
            return Err(ApiError::Unacceptable { param: "messages", problem: problem.into() }.into());
        }
        self.read(address)
    }

    /// Decodes the data of a picture into the spool; `head` is what precedes the comma. Returns the byte at which the data
    /// ended, which is consumed.
    ///
    /// # Errors
    ///
    /// The error of [`read_picture`].
    pub(super) fn data(&mut self, head: &[u8], source: &mut impl BufRead) -> Result<Option<u8>, ReadTextError> {
        let mut data = PictureData { source, end: None, has_ended: false };
        self.read(head.chain(&b","[..]).chain(&mut data))?;
        // What follows a picture that was refused at its head is not read.
        Ok(data.end)
    }

    fn read(&mut self, text: impl Read) -> Result<(), ReadTextError> {
        let place = PictureParameter { param: "messages", name: self.param };
        let picture = read_picture(text, self.upload, self.limits, place, self.explain)?;
        self.selection.pictures.extend(picture);
        Ok(())
    }
}

/// The data of a picture in a text, up to the byte at which it ends.
#[derive(Debug)]
struct PictureData<'a, S> {
    source: &'a mut S,
    /// The byte at which the data has ended.
    end: Option<u8>,
    has_ended: bool,
}

impl<S: BufRead> Read for PictureData<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_ended || buffer.is_empty() {
            return Ok(0);
        }
        let ready = self.source.fill_buf()?;
        let end = ready.iter().position(|&byte| ends_data(byte));
        let count = end.unwrap_or(ready.len()).min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        if count == 0 {
            (self.has_ended, self.end) = (true, ready.first().copied());
        }
        let consumed = count + usize::from(self.end.is_some());
        self.source.consume(consumed);
        Ok(count)
    }
}
