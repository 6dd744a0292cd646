//! Texts in the place of a picture: data URLs, base64 and http(s) addresses are read, and everything else is refused with
//! what it looks like.

use std::borrow::Cow;
use std::io::{self, Read};

use url::Url;

use super::form::FormLimits;
use super::form::names::FieldHint;
use crate::api::error::ApiError;
use crate::model::picture::FileKind;
use crate::model::{Format, Input};
use crate::storage::spool::Upload;
use base64::Decoder;

pub(crate) mod base64;
mod problem;

pub(crate) use problem::is_quoted_upload;

/// Longest http(s) address of a picture, in bytes.
const LINK_BYTES_MAX: usize = 8192;
/// How much of a text is inspected to find its kind; also the longest head of a data URL, in bytes.
pub(crate) const HEAD_BYTES: usize = 1024;
/// Bytes read at once. Few, because the buffer is zeroed for each text.
const BUFFER_BYTES: usize = 16 * 1024;
/// Shortest base64 of a picture that is recognised under an unknown name, in characters.
const UNKNOWN_BASE64_MIN: usize = 48;

/// The parameter of a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PictureParameter<'a> {
    /// `image` or `mask`.
    pub(crate) param: &'static str,
    /// The name in messages about the picture itself: `image[2]`.
    pub(crate) name: &'a str,
}

impl PictureParameter<'_> {
    /// Returns the error for a text that cannot be used.
    pub(crate) fn unacceptable(self, problem: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError::Unacceptable { param: self.param, problem: problem.into() }
    }

    /// Returns the error for the id of a file.
    pub(crate) fn file_id(self) -> ApiError {
        ApiError::FileIdUnsupported { param: self.name.to_owned() }
    }
}

/// Reads the picture of a text, into the spool where the text holds it; `None` for a blank text. Blocks unless the text is in
/// memory. `explain` returns the error of a text that cannot be read.
///
/// # Errors
///
/// The error of the spool, of `explain`, or of the text, naming `place`.
pub(crate) fn read_picture(
    mut text: impl Read,
    upload: &mut Upload,
    limits: &FormLimits,
    place: PictureParameter<'_>,
    explain: impl Fn(&io::Error) -> ApiError,
) -> Result<Option<Input>, ApiError> {
    let mut head = Vec::new();
    text.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(|error| explain(&error))?;
    let whole = head.len() < HEAD_BYTES;
    let digits = match kind_of(head.trim_ascii_start(), whole) {
        TextKind::Empty => return Ok(None),
        TextKind::FileId => return Err(place.file_id()),
        TextKind::Other(problem) => return Err(place.unacceptable(problem)),
        TextKind::Link => {
            let rest = (LINK_BYTES_MAX + 1).saturating_sub(head.len()) as u64;
            text.by_ref().take(rest).read_to_end(&mut head).map_err(|error| explain(&error))?;
            return link(head, place.param).map(Some);
        }
        TextKind::Base64(digits) => digits,
    };
    let is_bare = !starts_with(head.trim_ascii_start(), "data:");
    let wrong = |_| place.unacceptable("the picture is not valid base64; it may have been cut or changed on the way");
    let full = |error| ApiError::from_spool(error, place.name);
    let mut writer = upload.picture(limits.image_bytes_max);
    let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
    decoder.push(digits, &mut bytes).map_err(wrong)?;
    let mut start = bytes.get(..bytes.len().min(64)).unwrap_or_default().to_vec();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        writer.write_blocking(&bytes).map_err(full)?;
        bytes.clear();
        match text.read(&mut buffer).map_err(|error| explain(&error))? {
            0 => break,
            count => decoder.push(&buffer[..count], &mut bytes).map_err(wrong)?,
        }
    }
    decoder.finish(&mut bytes).map_err(wrong)?;
    start.extend(bytes.iter().take(64 - start.len()));
    writer.write_blocking(&bytes).map_err(full)?;
    let (picture, source) = writer.finish_blocking().map_err(full)?;
    // What a data URL announces as a picture is judged by its bytes, like a file, and so is what they have a name for.
    if is_bare && picture.bytes > 0 && !is_picture(&start) && FileKind::of(&start) == FileKind::Unknown {
        let count = picture.bytes;
        return Err(place.unacceptable(format!(
            "the text can be read as base64, but the {count} bytes in it are no picture; send a data URL, the base64 of a \
             picture, or an http(s) address"
        )));
    }
    Ok(Some(Input::Bytes { picture, source }))
}

/// Whether a text under an unknown name holds a picture, by its head; `hint` is what the name says of an address.
pub(crate) fn holds_picture(head: &[u8], hint: FieldHint) -> bool {
    let whole = head.len() < HEAD_BYTES;
    let head = head.trim_ascii();
    if starts_with(head, "data:") {
        let decoded = decoded_start(head.splitn(2, |&b| b == b',').nth(1).unwrap_or_default());
        return starts_with(head, "data:image/") || is_picture(&decoded);
    }
    if starts_with(head, "http://") || starts_with(head, "https://") {
        return match hint {
            FieldHint::Metadata => false,
            FieldHint::Unclear | FieldHint::File => whole && ends_like_picture(head),
            FieldHint::Picture => true,
        };
    }
    if starts_with(head, "file-") || starts_with(head, "blob:") {
        return hint >= FieldHint::File && whole && !head.contains(&b' ');
    }
    head.len() >= UNKNOWN_BASE64_MIN && is_picture(&decoded_start(head))
}

/// Whether these first bytes begin a picture, be it of a format that is not sent on.
pub(crate) fn is_picture(start: &[u8]) -> bool {
    Format::sniff(start).is_some()
        || match FileKind::of(start) {
            FileKind::Convertible(_) => true,
            FileKind::Foreign { media_type, .. } => media_type.starts_with("image/"),
            FileKind::Altered(_) | FileKind::Unknown => false,
        }
}

/// Whether a whole text is the base64 of a picture, or a data URL, by its head.
pub(crate) fn is_encoded_picture(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    starts_with(head, "data:") || is_picture(&decoded_start(head))
}

/// Whether a form's part without a file name begins a picture. The two letters of a Netpbm picture begin many texts.
pub(crate) fn begins_picture(start: &[u8], is_text: bool) -> bool {
    is_picture(start) && !(is_text && start.first() == Some(&b'P'))
}

fn ends_like_picture(address: &[u8]) -> bool {
    let Some(url) = std::str::from_utf8(address).ok().and_then(|address| Url::parse(address).ok()) else {
        return false;
    };
    let path = url.path().to_ascii_lowercase();
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif"]
        .iter()
        .any(|format| path.strip_suffix(format).is_some_and(|path| path.ends_with('.')))
}

/// Decodes the beginning of a text, as far as it is base64.
fn decoded_start(text: &[u8]) -> Vec<u8> {
    let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
    for piece in text[..text.len().min(96)].chunks(4) {
        if decoder.push(piece, &mut bytes).is_err() {
            break;
        }
    }
    bytes
}

/// The kind of a text in the place of a picture, by its head.
#[derive(Debug, PartialEq, Eq)]
enum TextKind<'a> {
    Empty,
    /// With the beginning of the base64 text.
    Base64(&'a [u8]),
    Link,
    FileId,
    /// No picture, with what it is.
    Other(Cow<'static, str>),
}

fn starts_with(head: &[u8], prefix: &str) -> bool {
    head.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
}

fn kind_of(head: &[u8], whole: bool) -> TextKind<'_> {
    // A string of more white space than this is left to the decoder, which reads it to its end.
    if head.is_empty() && whole {
        TextKind::Empty
    } else if starts_with(head, "http://") || starts_with(head, "https://") {
        TextKind::Link
    } else if starts_with(head, "file-") {
        TextKind::FileId
    } else if starts_with(head, "data:") {
        let Some(comma) = head.iter().position(|&b| b == b',') else {
            return TextKind::Other("the data URL has no comma, behind which its base64 begins".into());
        };
        let last = head[..comma].rsplit(|&b| b == b';').next().unwrap_or_default();
        if last.trim_ascii().eq_ignore_ascii_case(b"base64") {
            TextKind::Base64(&head[comma + 1..])
        } else {
            TextKind::Other("the data URL is not base64: 'data:image/png;base64,' and the picture are expected".into())
        }
    } else if is_picture(&decoded_start(head)) {
        TextKind::Base64(head)
    } else {
        problem::of(head, whole).map_or(TextKind::Base64(head), TextKind::Other)
    }
}

/// Checks an http(s) address of a picture, which is passed on as it is.
///
/// # Errors
///
/// [`ApiError::Unacceptable`] or [`ApiError::TextTooLong`] for `param`.
pub(crate) fn link(address: Vec<u8>, param: &'static str) -> Result<Input, ApiError> {
    if address.len() > LINK_BYTES_MAX {
        let (param, unit) = (param.to_owned(), "bytes in an address");
        return Err(ApiError::TextTooLong { param, unit, max: LINK_BYTES_MAX });
    }
    let address = String::from_utf8(address).unwrap_or_default();
    let address = address.trim();
    let refused = |problem: &'static str| ApiError::Unacceptable { param, problem: problem.into() };
    let host =
        address.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#', '\\']).next().unwrap_or_default());
    if host.is_empty() {
        return Err(refused("the address of the picture names no host"));
    }
    // The service may quote it in an error, of which it must then be one word.
    if address.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(refused("the address of the picture contains white space, which must be written as %20"));
    }
    if !Url::parse(address).is_ok_and(|url| url.has_host()) {
        return Err(refused("the address of the picture is not a valid URL"));
    }
    Ok(Input::Link(address.to_owned()))
}

#[cfg(test)]
mod tests;
