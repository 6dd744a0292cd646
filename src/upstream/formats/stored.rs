//! What is known about formats, as it survives a restart.

use serde::{Deserialize, Serialize};

/// The known formats, in the state file `contact.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredFormats {}
