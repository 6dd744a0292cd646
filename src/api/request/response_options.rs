//! The options of a response: the part of a request that changes nothing of what is bought.

use serde::{Deserialize, Serialize};

use crate::model::Format;

/// The part of a request that concerns only its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseOptions {
    pub(crate) response_format: ResponseFormat,
    /// What the pictures are converted to; `None` to deliver them as they are stored.
    pub(crate) conversion: Option<Conversion>,
    /// As server-sent events.
    pub(crate) stream: bool,
    pub(crate) user: Option<String>,
    pub(crate) safety_identifier: Option<String>,
}

/// How the pictures travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseFormat {
    B64Json,
    Url,
}

/// How the answer to a chat completion is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompletionOptions {
    pub(crate) location: PictureLocation,
    /// How the pictures travel, where the client says it.
    pub(crate) format: Option<ResponseFormat>,
    /// A stream ends with the token counts.
    pub(crate) include_usage: bool,
}

/// Where the pictures of a chat completion stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PictureLocation {
    /// In the text of the answer, as Markdown.
    #[default]
    Text,
    /// In `images`, beside the text.
    Images,
}

impl CompletionOptions {
    /// Returns how the pictures travel: as addresses in a text, which a conversation repeats with every message, and as data
    /// beside it.
    pub(crate) fn response_format(self) -> ResponseFormat {
        self.format.unwrap_or(match self.location {
            PictureLocation::Text => ResponseFormat::Url,
            PictureLocation::Images => ResponseFormat::B64Json,
        })
    }
}

/// The format that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Conversion {
    pub(crate) format: Format,
    /// Quality of JPEG and WebP, 0 to 99; `None` is 100.
    pub(crate) compression: Option<u8>,
}

impl Conversion {
    pub(crate) fn new(format: Format, compression: Option<u8>) -> Self {
        Self { format, compression: compression.filter(|&compression| compression < 100) }
    }

    /// Whether a picture of this format can be delivered as it is.
    pub(crate) fn is_met_by(self, format: Format) -> bool {
        self.format == format && self.compression.is_none()
    }

    /// Returns the quality of JPEG and WebP, 0 to 100.
    pub(crate) fn quality(self) -> u8 {
        self.compression.unwrap_or(100)
    }
}
