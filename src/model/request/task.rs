//! What a model is asked to do.

use serde::Deserialize;

/// What a model is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    Edit,
    Generate,
}

impl Task {
    /// Returns the name of the capability, also in the journal and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Edit => "image-edit",
            Self::Generate => "text-to-image",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Edit, Self::Generate].into_iter().find(|task| task.name() == name)
    }
}
