//! What is known about formats, as it survives a restart.

use serde::{Deserialize, Serialize};

use crate::model::{Catalogue, Digest};

/// What the knowledge was gained with: it does not apply to another version, catalogue or upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FormatBasis {
    gateway: String,
    /// The digest of the catalogue.
    catalogue: String,
    /// The origin of the upstream.
    upstream: String,
}

impl FormatBasis {
    pub(crate) fn of(catalogue: &Catalogue, upstream: &url::Url) -> Self {
        Self {
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            catalogue: Digest::of(format!("{catalogue:?}").as_bytes()).to_string(),
            upstream: upstream.as_str().to_owned(),
        }
    }
}

/// The known formats, in the state file `contact.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredFormats {}

/// Where what is known is stored.
pub(crate) trait FormatStore: Send + Sync + std::fmt::Debug {
    /// Replaces what is stored. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be written; what was stored before is then unchanged.
    fn save(&self, formats: &StoredFormats) -> std::io::Result<()>;
}
