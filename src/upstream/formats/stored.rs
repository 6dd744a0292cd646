//! What is known about formats, as it survives a restart: plain texts and numbers, which another version can read or
//! ignore.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::model::{Catalogue, Digest};

/// The version of [`StoredFormats`].
const VERSION: u32 = 1;

/// Texts of the upstream that are kept, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// What the knowledge was gained with: it does not apply to another version, catalogue or upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FormatBasis {
    /// The version of the gateway.
    gateway: String,
    /// The digest of the catalogue.
    catalogue: String,
    /// The origin of the upstream.
    upstream: String,
}

impl FormatBasis {
    pub(crate) fn of(catalogue: &Catalogue, upstream: &Url) -> Self {
        Self {
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            catalogue: Digest::of(format!("{catalogue:?}").as_bytes()).to_string(),
            upstream: upstream.as_str().to_owned(),
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(catalogue: &str) -> Self {
        let upstream = "https://upstream.test/".to_owned();
        Self { gateway: "1.0.0".to_owned(), catalogue: catalogue.to_owned(), upstream }
    }
}

/// The known formats, in the state file `contact.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StoredFormats {
    version: u32,
    basis: FormatBasis,
    pub(super) accounts: Vec<StoredAuth>,
    pub(super) subjects: Vec<StoredSubject>,
    pub(super) parameters: Vec<StoredParameter>,
}

/// How the key of an account is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StoredAuth {
    pub(super) account: String,
    pub(super) raw: bool,
    pub(super) proven: bool,
}

/// What is known about requests of one kind for one model through one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StoredSubject {
    pub(super) account: String,
    pub(super) model: String,
    pub(super) task: String,
    pub(super) inputs: String,
    pub(super) masked: bool,
    /// Methods in which a submit was ever accepted.
    pub(super) accepted: Vec<String>,
    pub(super) methods: Vec<StoredMethod>,
}

/// What is known about one input method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StoredMethod {
    pub(super) method: String,
    pub(super) fetch_links: bool,
    /// `proven`, `refused` or `suspect`.
    pub(super) state: String,
    /// Milliseconds since the Unix epoch.
    pub(super) at: i64,
    pub(super) text: String,
    /// Refusals: how often, and whether the request was accepted another way.
    pub(super) count: u32,
    pub(super) confirmed: bool,
}

/// A parameter that is left out, or `size` where the other table's is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StoredParameter {
    pub(super) account: String,
    pub(super) model: String,
    pub(super) task: String,
    pub(super) name: String,
    pub(super) at: i64,
    pub(super) text: String,
    pub(super) confirmed: bool,
}

impl StoredFormats {
    pub(super) fn new(basis: FormatBasis) -> Self {
        Self { version: VERSION, basis, ..Self::default() }
    }

    /// Returns the knowledge if it was stored by this version and gained with this basis; else none.
    pub(super) fn if_gained_with(self, basis: &FormatBasis) -> Self {
        if self.version == VERSION && self.basis == *basis { self } else { Self::default() }
    }
}

/// Bounds a text of the upstream, and removes its control characters, which would break lines of the log.
pub(super) fn clipped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// Where what is known is stored.
pub(crate) trait FormatStore: Send + Sync + std::fmt::Debug {
    /// Replaces what is stored. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be written; what was stored before is then unchanged.
    fn save(&self, formats: &StoredFormats) -> std::io::Result<()>;
}
