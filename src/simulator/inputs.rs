//! Input pictures, as they are sent: what counts as one, how large it may be, and which mask fits it.

use std::sync::Arc;

use super::errors::Refusal;

/// Inputs of one order.
const INPUTS_MAX: usize = 16;
/// One input, per the vendor's table.
pub(super) const INPUT_BYTES_MAX: usize = 50 * 1024 * 1024;
const MASK_BYTES_MAX: usize = 4 * 1024 * 1024;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// One input picture.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// An address that was not fetched, or not yet.
    Url(String),
    /// A picture whose bytes are here: they came in the body, or were fetched.
    Picture(Picture),
}

/// A picture whose bytes are here.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) digest: blake3::Hash,
    pub(super) width: u64,
    pub(super) height: u64,
}

impl Input {
    /// The digest that the drawn picture carries.
    pub(super) fn digest(&self) -> String {
        match self {
            Self::Url(url) => format!("url-{}", blake3::hash(url.as_bytes()).to_hex()),
            Self::Picture(picture) => picture.digest.to_hex().to_string(),
        }
    }

    /// An address of a picture.
    pub(super) fn address(text: &str) -> Result<Self, Refusal> {
        if is_address(text) { Ok(Self::Url(text.to_owned())) } else { Err(Refusal::bad("wrong image url")) }
    }

    /// An address, or a data URI.
    pub(super) fn address_or_data_uri(text: &str) -> Result<Self, Refusal> {
        if !text.starts_with("data:") {
            return Self::address(text);
        }
        let bytes = super::body::decoded(text)
            .ok_or_else(|| Refusal::bad("wrong image url: a data URI must be data:image/png;base64,..."))?;
        Picture::read(bytes).map(Self::Picture)
    }
}

impl Picture {
    /// Takes bytes for a picture if they look like one and are not too many.
    pub(super) fn read(bytes: Vec<u8>) -> Result<Self, Refusal> {
        if bytes.len() > INPUT_BYTES_MAX {
            return Err(Refusal::bad("each image must be less than 50MB"));
        }
        let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
        if !(bytes.starts_with(PNG) || bytes.starts_with(b"\xff\xd8\xff") || is_webp) {
            return Err(Refusal::bad("unsupported image format: png, webp or jpg is expected"));
        }
        let size = imagesize::blob_size(&bytes).map_err(|_| Refusal::bad("the image cannot be read"))?;
        Ok(Self {
            digest: blake3::hash(&bytes),
            bytes: Arc::new(bytes),
            width: size.width as u64,
            height: size.height as u64,
        })
    }
}

/// Refuses none and more than the service takes; `names` is what the refusal calls the field.
pub(super) fn check_count(count: usize, names: &str) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::bad(format!("{names} is required"))),
        1..=INPUTS_MAX => Ok(()),
        _ => Err(Refusal::bad(format!("at most {INPUTS_MAX} images are allowed"))),
    }
}

/// Whether a mask fits the first input; one that is only an address cannot be compared.
pub(super) fn check_mask(mask: &Picture, first: Option<&Input>) -> Result<(), Refusal> {
    if !mask.bytes.starts_with(PNG) {
        return Err(Refusal::bad("mask must be a PNG"));
    }
    if mask.bytes.len() >= MASK_BYTES_MAX {
        return Err(Refusal::bad("mask must be less than 4MB"));
    }
    if let Some(Input::Picture(first)) = first
        && (first.width, first.height) != (mask.width, mask.height)
    {
        return Err(Refusal::bad("mask must have the same size as the image"));
    }
    Ok(())
}

pub(super) fn is_address(text: &str) -> bool {
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let host = ["http://", "https://"].iter().find(|scheme| lower.starts_with(*scheme));
    host.is_some_and(|scheme| text.len() > scheme.len()) && !text.contains(char::is_whitespace)
}
