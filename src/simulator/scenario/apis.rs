//! The two APIs besides the prediction API, and the small routes.

use serde::{Deserialize, Serialize};

use super::requests::DataUris;

/// `[openai]`: `POST /v1/images/...`, answered when the pictures are done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenAi {
    /// Which pictures are data URIs.
    pub data_prefix: DataPrefix,
    /// Seconds without a byte after which the edge cuts a call, divided by `speed`; 0 for never.
    pub edge_cut_s: u64,
    /// Streamed answers.
    pub stream: Streaming,
}

/// `[unified]`: `POST /api/v3/images`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unified {
    /// Data URIs in `input_references`.
    pub data_uris: DataUris,
    /// Usage.
    pub usage: UnifiedUsage,
}

impl Default for Unified {
    fn default() -> Self {
        Self { data_uris: DataUris::Accept, usage: UnifiedUsage::Reported }
    }
}

/// `[extras]`: the small routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are the keys of the scenario")]
pub struct Extras {
    /// Status of `GET /v1/models` for a valid key.
    pub models_status: u16,
    /// Status of `GET /v1/cli/models` and of the description of a model, for a valid key.
    pub cli_status: u16,
    /// Status of `GET /api/v3/user/me` for a valid key.
    pub user_me_status: u16,
}

impl Default for Extras {
    fn default() -> Self {
        Self { models_status: 200, cli_status: 200, user_me_status: 404 }
    }
}

choices! {
    /// Which pictures of the OpenAI API are data URIs in place of bare base64.
    DataPrefix {
        /// Those of the -plus models, as documented.
        #[default]
        Plus,
        /// All.
        Always,
        /// None.
        Never,
    }
}

choices! {
    /// What the OpenAI API does with `stream`.
    Streaming {
        /// The answer is a stream of events.
        #[default]
        Serve,
        /// The answer is JSON all the same.
        Ignore,
        /// The request is refused with 400.
        Refuse,
    }
}

choices! {
    /// Whether the unified API reports usage, documented as "only when reliable".
    UnifiedUsage {
        /// Usage is reported.
        #[default]
        Reported,
        /// Usage is absent.
        Absent,
    }
}
