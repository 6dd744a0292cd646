//! Input pictures: accepted formats, sizes, and masks.

use std::sync::Arc;

use url::{Host, Url};

use super::errors::Refusal;
use super::json::decode_data_uri;
use crate::simulator::scenario::{DataUris, Inputs, Links};

/// Inputs of one request.
const INPUTS_MAX: usize = 16;
/// Size of one input, from the vendor's table.
pub(crate) const INPUT_BYTES_MAX: usize = 50 * 1024 * 1024;
const MASK_BYTES_MAX: usize = 4 * 1024 * 1024;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The text about a link that is not accepted.
pub(crate) const WRONG_URL: &str = "wrong image url";

/// One input picture.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A link: a URL that is not fetched, or not yet.
    Url(String),
    /// A picture that was sent in the body, or fetched.
    Picture(Picture),
}

/// A picture with its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) digest: blake3::Hash,
    pub(crate) width: u64,
    pub(crate) height: u64,
}

impl Input {
    /// Returns the digest that is written into drawn pictures.
    pub(crate) fn digest(&self) -> String {
        match self {
            Self::Url(url) => format!("url-{}", blake3::hash(url.as_bytes()).to_hex()),
            Self::Picture(picture) => picture.digest.to_hex().to_string(),
        }
    }

    /// Returns the number of bytes in memory.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Url(_) => 0,
            Self::Picture(picture) => picture.bytes.len(),
        }
    }

    /// Returns the URL of a link to this machine. No other links are fetched.
    pub(crate) fn loopback_url(&self) -> Option<Url> {
        let Self::Url(text) = self else { return None };
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "http")?;
        let is_loopback = match url.host()? {
            Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
            Host::Ipv4(ip) => ip.is_loopback(),
            Host::Ipv6(ip) => ip.is_loopback(),
        };
        is_loopback.then_some(url)
    }

    /// Parses a link, or a data URI where the field accepts them.
    pub(crate) fn link(text: &str, data_uris: DataUris, rules: &Inputs) -> Result<Self, Refusal> {
        if !text.starts_with("data:") || data_uris == DataUris::Refuse {
            let accepted = is_url(text) && rules.links != Links::Refuse;
            return if accepted { Ok(Self::Url(text.to_owned())) } else { Err(Refusal::invalid(WRONG_URL)) };
        }
        let bytes = decode_data_uri(text)
            .ok_or_else(|| Refusal::invalid("wrong image url: a data URI must be data:image/png;base64,..."))?;
        Picture::parse(bytes).map(Self::Picture)
    }
}

impl Picture {
    /// Checks the format and size of a picture.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Refusal> {
        if bytes.len() > INPUT_BYTES_MAX {
            return Err(Refusal::invalid("each image must be less than 50MB"));
        }
        let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
        if !(bytes.starts_with(PNG) || bytes.starts_with(b"\xff\xd8\xff") || is_webp) {
            return Err(Refusal::invalid("unsupported image format: png, webp or jpg is expected"));
        }
        let size = imagesize::blob_size(&bytes).map_err(|_| Refusal::invalid("the image cannot be read"))?;
        Ok(Self {
            digest: blake3::hash(&bytes),
            bytes: Arc::new(bytes),
            width: size.width as u64,
            height: size.height as u64,
        })
    }
}

/// Fails unless the number of inputs is from 1 to 16; `names` is the field in the refusal.
pub(crate) fn check_count(count: usize, names: &str) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::invalid(format!("{names} is required"))),
        1..=INPUTS_MAX => Ok(()),
        _ => Err(Refusal::invalid(format!("at most {INPUTS_MAX} images are allowed"))),
    }
}

/// Fails unless the mask fits the first input. A link that is not fetched cannot be compared.
pub(crate) fn check_mask(mask: &Picture, first: Option<&Input>) -> Result<(), Refusal> {
    if !mask.bytes.starts_with(PNG) {
        return Err(Refusal::invalid("mask must be a PNG"));
    }
    if mask.bytes.len() >= MASK_BYTES_MAX {
        return Err(Refusal::invalid("mask must be less than 4MB"));
    }
    if let Some(Input::Picture(first)) = first
        && (first.width, first.height) != (mask.width, mask.height)
    {
        return Err(Refusal::invalid("mask must have the same size as the image"));
    }
    Ok(())
}

/// Returns whether a text is an `http` or `https` URL.
pub(crate) fn is_url(text: &str) -> bool {
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let host = ["http://", "https://"].iter().find(|scheme| lower.starts_with(*scheme));
    host.is_some_and(|scheme| text.len() > scheme.len()) && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_this_machine_are_fetched() {
        let is_fetched = |text: &str| Input::Url(text.to_owned()).loopback_url().is_some();
        for text in ["http://127.0.0.1/x.png", "http://127.9.9.9:80/", "http://LOCALHOST:8080/a", "http://[::1]:1/"] {
            assert!(is_fetched(text), "{text}");
        }
        for text in [
            "https://127.0.0.1/x.png",
            "http://localhost.example.com/",
            "http://10.0.0.1/",
            "http://127.0.0.1@example.com/",
            "http://[::ffff:10.0.0.1]/",
            "https://example.com/x.png",
        ] {
            assert!(!is_fetched(text), "{text}");
        }
    }
}
