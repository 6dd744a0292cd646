//! Pictures as they are drawn and served.

use serde::{Deserialize, Serialize};

/// `[pictures]`: pictures as they are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pictures {
    /// The encoding.
    pub format: Format,
    /// Number of pictures kept in memory; older ones are drawn again on request.
    pub kept: usize,
    /// Bytes added to every picture, to test limits: inside a PNG, as zeros after the end of other formats.
    pub padding_bytes: usize,
    /// A generation is a scene in place of a plain background.
    pub scenes: bool,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { format: Format::Png, kept: 64, padding_bytes: 0, scenes: false }
    }
}

/// `[files]`: pictures as they are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Origin of the URLs, such as `http://127.0.0.1:9000`; empty for the origin of the request.
    pub origin: String,
    /// Whether a download needs a key.
    pub needs_key: NeedsKey,
    /// Seconds after completion in which a URL works, not scaled by `speed`; 0 for no limit.
    pub expires_after_s: u64,
    /// The status after that.
    pub expired_status: u16,
    /// Number of downloads of each picture that fail with 500 first.
    pub fail_first: u32,
    /// The content type.
    pub content_type: ContentType,
    /// Number of redirects before the picture.
    pub redirects: u32,
    /// Pause between pieces of 16 KiB, in milliseconds; 0 for none.
    pub piece_pause_ms: u64,
    /// Bytes after which a download is cut; 0 for no cut.
    pub cut_at_bytes: usize,
    /// Percentage after which a download is cut; 0 for no cut.
    pub cut_at_percent: u8,
    /// How a download is cut.
    pub cut: Cut,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            origin: String::new(),
            needs_key: NeedsKey::No,
            expires_after_s: 0,
            expired_status: 403,
            fail_first: 0,
            content_type: ContentType::Right,
            redirects: 0,
            piece_pause_ms: 0,
            cut_at_bytes: 0,
            cut_at_percent: 0,
            cut: Cut::Abort,
        }
    }
}

choices! {
    /// The encoding of the pictures.
    Format {
        /// PNG, with text chunks that repeat the request.
        #[default]
        Png,
        /// JPEG.
        Jpeg,
        /// Lossless WebP.
        Webp,
    }
}

impl Format {
    /// Returns the media type.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// Returns the file extension, without the dot.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }
}

choices! {
    /// Whether a download needs a key.
    NeedsKey {
        /// It needs none.
        #[default]
        No,
        /// Without a valid key: 401.
        Yes,
    }
}

choices! {
    /// The content type of served pictures.
    ContentType {
        /// The media type of the bytes.
        #[default]
        Right,
        /// `application/octet-stream`
        OctetStream,
        /// `text/html`
        Html,
        /// None.
        Missing,
    }
}

choices! {
    /// How a served picture is cut.
    Cut {
        /// The connection breaks before the full `Content-Length` is sent.
        #[default]
        Abort,
        /// The answer is well-formed; the file itself is cut.
        Short,
    }
}
