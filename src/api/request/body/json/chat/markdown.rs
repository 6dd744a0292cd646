//! Separates the pictures that the Markdown of a message embeds, `![…](address)`, from its text, without holding either whole.

use std::borrow::Cow;
use std::io::{self, BufRead};

use super::pictures::{PictureReader, Position, ReadTextError, ends_data};
use crate::api::error::ApiError;

/// Longest text between the brackets, in bytes. What is longer is text.
const ALT_BYTES_MAX: usize = 1024;
/// Longest address that is no data URL, and longest head of a data URL, in bytes.
const ADDRESS_BYTES_MAX: usize = 8192;
/// Longest title behind an address, in bytes.
const TITLE_BYTES_MAX: usize = 1024;

/// The text of a message. Keeps at most `max` bytes.
#[derive(Debug, Default)]
pub(super) struct MessageText {
    bytes: Vec<u8>,
    max: usize,
    is_too_long: bool,
    /// Where its last part begins.
    part_start: usize,
    /// A picture was taken out of it.
    had_picture: bool,
}

impl MessageText {
    pub(super) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    pub(super) fn push(&mut self, text: &[u8]) {
        if self.bytes.len() + text.len() > self.max {
            self.is_too_long = true;
        } else {
            self.bytes.extend_from_slice(text);
        }
    }

    /// Begins a new part, on a line of its own unless nothing precedes it.
    pub(super) fn begin_part(&mut self) {
        if !self.bytes.is_empty() {
            self.push(b"\n");
        }
        self.part_start = self.bytes.len();
    }

    /// Returns the text, without white space around it where a picture was taken out; as it was written otherwise.
    ///
    /// # Errors
    ///
    /// [`ApiError::TextTooLong`] for `param`, and [`ApiError::MalformedBody`] for bytes that are not UTF-8.
    pub(super) fn into_text(self, param: String) -> Result<String, ApiError> {
        if self.is_too_long {
            return Err(ApiError::TextTooLong { param, unit: "bytes", max: self.max });
        }
        let text =
            String::from_utf8(self.bytes).map_err(|_| ApiError::MalformedBody { problem: "it is not UTF-8".into() })?;
        Ok(if self.had_picture { text.trim().to_owned() } else { text })
    }

    /// Returns as much of the text as was kept.
    pub(super) fn lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// Returns as much of its last part as was kept.
    pub(super) fn last_part(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes[self.part_start..])
    }
}

/// Where the address of an embedded picture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// At the bracket that ends the picture.
    Bracket,
    /// At white space or `>`: a title may follow.
    Address,
    /// At the comma of a data URL.
    Comma,
    /// The text ended, or the address is too long for one.
    None,
}

/// Reads a text to its end: pictures go to `pictures`, the rest to `text`.
///
/// # Errors
///
/// [`ReadTextError`].
pub(super) fn read_text(
    source: &mut impl BufRead,
    text: &mut MessageText,
    pictures: &mut PictureReader<'_>,
) -> Result<(), ReadTextError> {
    loop {
        let ready = source.fill_buf()?;
        if ready.is_empty() {
            return Ok(());
        }
        let Some(at) = memchr::memchr(b'!', ready) else {
            let length = ready.len();
            text.push(ready);
            source.consume(length);
            continue;
        };
        text.push(&ready[..at]);
        source.consume(at + 1);
        embedded(source, text, pictures)?;
    }
}

/// Reads what follows a `!`: a picture, or text.
fn embedded(
    source: &mut impl BufRead,
    text: &mut MessageText,
    pictures: &mut PictureReader<'_>,
) -> Result<(), ReadTextError> {
    let mut seen = b"!".to_vec();
    if !opens(source, &mut seen)? {
        text.push(&seen);
        return Ok(());
    }
    let start = seen.len();
    let stop = read_address(source, &mut seen)?;
    let address = seen[start..].strip_prefix(b"<").unwrap_or(&seen[start..]).to_vec();
    let scheme =
        |prefix: &str| address.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    match stop {
        Stop::Comma => {
            text.had_picture = true;
            let end = match pictures.next() {
                Position::Wanted => pictures.data(&address, source)?,
                Position::Passed => pass_data(source)?,
            };
            if end == Some(b')') {
                return Ok(());
            }
            pass_title(source, &mut Vec::new())?;
        }
        Stop::Bracket | Stop::Address => {
            let is_web = scheme("http://") || scheme("https://");
            // A path means a picture that the program which wrote it has, and the gateway does not.
            let is_path = [&b"/"[..], b"./", b"../", b"file:", b"sandbox:", b"attachment:", b"blob:"]
                .iter()
                .any(|start| address.starts_with(start));
            if !is_web && !is_path || stop == Stop::Address && !pass_title(source, &mut seen)? {
                if stop == Stop::Bracket {
                    seen.push(b')');
                }
                text.push(&seen);
                return Ok(());
            }
            text.had_picture = true;
            if pictures.next() == Position::Wanted {
                pictures.address(&address)?;
            }
        }
        Stop::None => text.push(&seen),
    }
    Ok(())
}

/// Reads `[…](`, behind the `!`; returns whether a picture begins. Appends what it has read to `seen`.
fn opens(source: &mut impl BufRead, seen: &mut Vec<u8>) -> io::Result<bool> {
    if peek(source)? != Some(b'[') {
        return Ok(false);
    }
    while let Some(byte) = peek(source)? {
        if byte == b'\n' || seen.len() > ALT_BYTES_MAX {
            return Ok(false);
        }
        source.consume(1);
        seen.push(byte);
        if byte == b']' && peek(source)? == Some(b'(') {
            source.consume(1);
            seen.push(b'(');
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads an address to its end, or a data URL to its comma. Appends it to `seen`, with the `<` before it. Brackets in pairs
/// belong to the address, and all of them between `<` and `>`.
fn read_address(source: &mut impl BufRead, seen: &mut Vec<u8>) -> io::Result<Stop> {
    let is_quoted = peek(source)? == Some(b'<');
    if is_quoted {
        source.consume(1);
        seen.push(b'<');
    }
    let (start, mut open) = (seen.len(), 0_usize);
    while let Some(byte) = peek(source)? {
        if seen.len() - start > ADDRESS_BYTES_MAX {
            return Ok(Stop::None);
        }
        match byte {
            b')' if !is_quoted && open == 0 => {
                source.consume(1);
                return Ok(Stop::Bracket);
            }
            b',' if seen[start..].get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"data:")) => {
                source.consume(1);
                return Ok(Stop::Comma);
            }
            b'>' | b' ' | b'\t' | b'\n' | b'\r' => {
                // An address with one bracket too few, at the end of its line: the last bracket ends the picture.
                let is_ended = !is_quoted && matches!(byte, b'\n' | b'\r') && seen.last() == Some(&b')');
                return Ok(if is_ended { end_at_bracket(seen) } else { Stop::Address });
            }
            other => {
                match other {
                    b'(' => open += 1,
                    b')' => open = open.saturating_sub(1),
                    _ => {}
                }
                source.consume(1);
                seen.push(other);
            }
        }
    }
    let is_ended = !is_quoted && seen.len() > start && seen.last() == Some(&b')');
    Ok(if is_ended { end_at_bracket(seen) } else { Stop::None })
}

/// Takes the bracket that ends a picture from what was read.
fn end_at_bracket(seen: &mut Vec<u8>) -> Stop {
    seen.pop();
    Stop::Bracket
}

/// Passes over the data of a picture; returns the byte at which it ended, which is consumed.
fn pass_data(source: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let ready = source.fill_buf()?;
        if ready.is_empty() {
            return Ok(None);
        }
        if let Some(at) = ready.iter().position(|&byte| ends_data(byte)) {
            let end = ready[at];
            source.consume(at + 1);
            return Ok(Some(end));
        }
        let length = ready.len();
        source.consume(length);
    }
}

/// Passes over what follows an address up to the bracket that ends the picture; returns whether that came. Appends what it
/// has read to `seen`.
fn pass_title(source: &mut impl BufRead, seen: &mut Vec<u8>) -> io::Result<bool> {
    for _ in 0..TITLE_BYTES_MAX {
        let Some(byte) = peek(source)? else { return Ok(false) };
        source.consume(1);
        seen.push(byte);
        if byte == b')' {
            return Ok(true);
        }
    }
    Ok(false)
}

fn peek(source: &mut impl BufRead) -> io::Result<Option<u8>> {
    Ok(source.fill_buf()?.first().copied())
}
