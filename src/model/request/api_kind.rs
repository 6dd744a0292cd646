//! The APIs of the upstream.

/// The upstream API that a purchase is submitted to and polled at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ApiKind {
    /// The prediction API: the submit returns an id, polls return the pictures.
    Prediction,
    /// The OpenAI-format endpoints: one call, whose answer contains the pictures.
    OpenAi,
    /// The unified API: like the prediction API, with other names.
    Unified,
}

impl ApiKind {
    /// Returns the name, also in the configuration, the journal and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::OpenAi => "openai",
            Self::Unified => "unified",
        }
    }

    /// Returns the API at which a purchase with an id is polled: the OpenAI-format endpoints answer no polls, and an id
    /// from there is one of the prediction API.
    pub(crate) fn polled_at(self) -> Self {
        match self {
            Self::Prediction | Self::OpenAi => Self::Prediction,
            Self::Unified => Self::Unified,
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Prediction, Self::OpenAi, Self::Unified].into_iter().find(|api_kind| api_kind.name() == name)
    }
}
