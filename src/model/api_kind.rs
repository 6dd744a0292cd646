//! The faces of the upstream a prediction can be asked through.

/// Which face of the upstream a prediction is bought at, and asked for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ApiKind {
    /// The prediction API: an id at once, the pictures by polls.
    Prediction,
    /// The OpenAI-format endpoints: one call, held until the pictures are in its answer.
    OpenAi,
    /// The unified API: an id at once, the pictures by polls, in words of its own.
    Unified,
}

impl ApiKind {
    /// The name, also in the configuration, the journal and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::OpenAi => "openai",
            Self::Unified => "unified",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Prediction, Self::OpenAi, Self::Unified].into_iter().find(|api_kind| api_kind.name() == name)
    }
}
