//! Which requests are accepted, and how a refusal looks.

use serde::{Deserialize, Serialize};

/// `[errors]`: how refusals look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Errors {
    /// The shape of every refusal except 429.
    pub shape: ErrorShape,
}

/// `[auth]`: which keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Revoked keys: 403 `Invalid Token`.
    pub revoked: Vec<String>,
}

/// `[models]`: which models are available, and how strictly a request is validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Models without a channel for this account.
    pub no_channel: Vec<String>,
    /// The status of a request for such a model.
    pub no_channel_status: u16,
    /// Fields that the model does not support.
    pub unknown_fields: Unknown,
    /// `n` and `quality` on gpt-image-2-plus.
    pub plus_extras: Unknown,
    /// `mask` on a model without masks.
    pub foreign_mask: Unknown,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            no_channel: Vec::new(),
            no_channel_status: 429,
            unknown_fields: Unknown::Ignore,
            plus_extras: Unknown::Reject,
            foreign_mask: Unknown::Ignore,
        }
    }
}

/// `[inputs]`: input pictures.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inputs {
    /// Which links are fetched before the prediction runs. The prediction fails if a link cannot be fetched.
    pub fetch_links: FetchLinks,
}

/// `[policy]`: content policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// A prompt that contains one of these (case-insensitive) is refused.
    pub words: Vec<String>,
    /// How a prompt is refused.
    pub answer: PolicyAnswer,
}

impl Default for Policy {
    fn default() -> Self {
        Self { words: vec!["forbidden-picture".to_owned()], answer: PolicyAnswer::Submit400 }
    }
}

choices! {
    /// The shape of a refusal.
    ErrorShape {
        /// A, except the flat shape C for a missing key.
        #[default]
        Documented,
        /// `{"error":{"message","type":"401"}}`
        A,
        /// `{"error":{"message","type":"authentication_error","code":"invalid_api_key"}}`
        B,
        /// `{"code":401,"message","type":"error"}`
        C,
        /// `{"error":{"code":401,"message"}}`
        D,
    }
}

choices! {
    /// What happens to a field that the model does not support.
    Unknown {
        /// The field is ignored.
        #[default]
        Ignore,
        /// The request is refused with 400.
        Reject,
    }
}

choices! {
    /// Which links (input pictures given by URL) are fetched.
    FetchLinks {
        /// `http` URLs on the loopback; all others are accepted without a fetch.
        #[default]
        Loopback,
        /// None; all are accepted without a fetch.
        Never,
    }
}

choices! {
    /// How content policy refuses.
    PolicyAnswer {
        /// HTTP 400, shape A with `type: "503"`.
        #[default]
        Submit400,
        /// HTTP 503.
        Submit503,
        /// The submit is accepted and the prediction fails.
        Task,
    }
}
