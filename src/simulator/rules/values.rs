//! The values that requests and refusals are made of.

use serde::Serialize;

/// The API that a call came in through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Api {
    /// `/api/v3/openai/...`
    Prediction,
    /// `/v1/images/...`
    OpenAi,
    /// `/api/v3/images`
    Unified,
}

/// The kind of picture request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    ImageEdit,
    TextToImage,
}

impl Capability {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "image-edit" => Some(Self::ImageEdit),
            "text-to-image" => Some(Self::TextToImage),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ImageEdit => "image-edit",
            Self::TextToImage => "text-to-image",
        }
    }
}

/// The quality of a picture, which sets latency and price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    Low,
    Medium,
    High,
}

/// The form in which a client asks for pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseFormat {
    Url,
    B64Json,
}

/// Whether the answer to a submit waits until the prediction has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Async,
    Sync,
}

/// The background of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Background {
    Opaque,
    Transparent,
}

/// The limit that refused a call with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LimitKind {
    /// Submits in a window, or polls in a second.
    Rate,
    /// Predictions that have not ended.
    Concurrent,
    /// Submits and polls in a window.
    Requests,
    /// The shortest time between two polls of one prediction.
    Interval,
    /// The model has no channel.
    Channel,
    /// The model is overloaded.
    Overload,
    /// An injected fault.
    Fault,
}
