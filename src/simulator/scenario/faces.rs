//! Links, and the two faces beside the predictions: tables and words.

use serde::{Deserialize, Serialize};

/// `[inputs]`: pictures to edit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inputs {
    /// Which addresses are really fetched, before the prediction runs; it fails if that is not possible.
    pub fetch_links: FetchLinks,
}

/// `[openai]`: `POST /v1/images/...`, which is answered when the pictures are done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenAi {
    /// Which pictures are data URIs.
    pub data_prefix: DataPrefix,
    /// When the edge cuts a call that is not answered yet, divided by `speed`; 0 for never.
    pub edge_cut_s: u64,
}

/// `[unified]`: `POST /api/v3/images`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unified {
    /// Data URIs in `input_references`.
    pub data_uris: DataUris,
    /// Usage.
    pub usage: UnifiedUsage,
}

words! {
    /// Which input pictures that are sent as addresses are really fetched.
    FetchLinks {
        /// `http` addresses on the loopback; all others are taken as given.
        #[default]
        Loopback,
        /// None: all are taken as given.
        Never,
    }
}

words! {
    /// Which pictures of the OpenAI-format face are data URIs in place of bare base64.
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

words! {
    /// Whether the unified face takes data URIs in `input_references`.
    DataUris {
        /// It does.
        #[default]
        Accept,
        /// 400.
        Refuse,
    }
}

words! {
    /// Whether the unified face reports usage, which it does «only when reliable».
    UnifiedUsage {
        /// It does.
        #[default]
        Reported,
        /// It does not.
        Absent,
    }
}
