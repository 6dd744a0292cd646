//! The pictures of a conversation in their order: which of them are read, and which are passed over.
//!
//! A conversation carries all its pictures again with every message, and a request needs those of one message. So a body is
//! read twice: first to find out which pictures are needed, then to decode these into the spool.

use std::io::{self, BufRead};
use std::ops::Range;

use crate::api::error::ApiError;
use crate::api::request::body::base64::Decoder;
use crate::api::request::body::form::FormLimits;
use crate::api::request::body::picture_text::link;
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
#[derive(Debug)]
pub(super) struct PictureReader<'a> {
    pub(super) selection: &'a mut PictureSelection,
    pub(super) limits: &'a FormLimits,
    pub(super) upload: &'a mut Upload,
    /// Names the message in errors.
    pub(super) param: &'a str,
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
        self.selection.pictures.push(link(address.to_vec(), "messages")?);
        Ok(())
    }

    /// Decodes the data of a picture into the spool; `head` is what precedes the comma. Returns the byte at which the data
    /// ended, which is consumed.
    ///
    /// # Errors
    ///
    /// [`ApiError::Unacceptable`] for data that is not base64; [`ApiError::from_spool`].
    pub(super) fn data(&mut self, head: &[u8], source: &mut impl BufRead) -> Result<Option<u8>, ReadTextError> {
        let wrong = || ApiError::Unacceptable {
            param: "messages",
            problem: "the picture to edit is a data URL in the text of the conversation that is not valid base64"
                .into(),
        };
        let last = head.rsplit(|&byte| byte == b';').next().unwrap_or_default();
        if !last.trim_ascii().eq_ignore_ascii_case(b"base64") {
            return Err(wrong().into());
        }
        let full = |error| ApiError::from_spool(error, self.param);
        let mut writer = self.upload.picture(self.limits.image_bytes_max);
        let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
        let end = loop {
            let ready = source.fill_buf()?;
            let end = ready.iter().position(|&byte| ends_data(byte));
            let data = end.map_or(ready, |at| &ready[..at]);
            decoder.push(data, &mut bytes).map_err(|_| wrong())?;
            writer.write_blocking(&bytes).map_err(full)?;
            bytes.clear();
            let (byte, consumed) = (end.map(|at| ready[at]), data.len() + usize::from(end.is_some()));
            let is_last = ready.is_empty() || end.is_some();
            source.consume(consumed);
            if is_last {
                break byte;
            }
        };
        decoder.finish(&mut bytes).map_err(|_| wrong())?;
        writer.write_blocking(&bytes).map_err(full)?;
        let (picture, source) = writer.finish_blocking().map_err(full)?;
        self.selection.pictures.push(Input::Bytes { picture, source });
        Ok(end)
    }
}
