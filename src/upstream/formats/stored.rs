//! What is known about formats, as it survives a restart.

use serde::{Deserialize, Serialize};

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
