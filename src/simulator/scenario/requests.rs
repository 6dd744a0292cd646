//! Which requests are accepted, and how a refusal looks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `[errors]`: how refusals look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Errors {
    /// The shape of every refusal except 429.
    pub shape: ErrorShape,
    /// The texts about balance, channels and content policy.
    pub texts: ErrorTexts,
}

/// `[auth]`: which keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Revoked keys: 403 `Invalid Token`.
    pub revoked: Vec<String>,
    /// How a key may be sent; 401 `Invalid signature` otherwise.
    pub accepts: KeyForm,
}

/// `[models]`: which models are available, and how strictly a request is validated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Models without a channel for this account.
    pub no_channel: Vec<String>,
    /// The status of a request for such a model.
    pub no_channel_status: u16,
    /// Overloaded models: 429.
    pub overloaded: Vec<String>,
    /// Models for which the keys have no permission: 403.
    pub no_permission: Vec<String>,
    /// Fields that the model does not support.
    pub unknown_fields: Unknown,
    /// `n` and `quality` on gpt-image-2-plus.
    pub plus_extras: Unknown,
    /// `mask` on a model without masks.
    pub foreign_mask: Unknown,
    /// Which table of parameters the -plus models follow.
    pub plus_table: PlusTable,
    /// Differences of single models: sections of the scenario, with the keys that differ.
    pub by_name: BTreeMap<String, Value>,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            no_channel: Vec::new(),
            no_channel_status: 429,
            overloaded: Vec::new(),
            no_permission: Vec::new(),
            unknown_fields: Unknown::Ignore,
            plus_extras: Unknown::Reject,
            foreign_mask: Unknown::Ignore,
            plus_table: PlusTable::Documented,
            by_name: BTreeMap::new(),
        }
    }
}

/// `[inputs]`: input pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inputs {
    /// Which links are fetched before the prediction runs. The prediction fails if a link cannot be fetched.
    pub fetch_links: FetchLinks,
    /// Pictures in `base64_images`.
    pub base64_images: InlinePictures,
    /// The text of the refusal of `base64_images`.
    pub base64_refusal: String,
    /// The name of the field for links.
    pub links_field: LinksField,
    /// Links, whatever the field.
    pub links: Links,
    /// Data URIs in the field for links.
    pub data_uris: DataUris,
}

impl Default for Inputs {
    fn default() -> Self {
        Self {
            fetch_links: FetchLinks::Loopback,
            base64_images: InlinePictures::Accept,
            base64_refusal: "images is required".to_owned(),
            links_field: LinksField::Documented,
            links: Links::Accept,
            data_uris: DataUris::Refuse,
        }
    }
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
    /// The texts about balance, channels and content policy.
    ErrorTexts {
        /// Those of the vendor.
        #[default]
        Vendor,
        /// Those of relays, in Chinese.
        Relay,
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
    /// How a key may be sent.
    KeyForm {
        /// Raw or as `Bearer`.
        #[default]
        Both,
        /// As `Bearer`.
        BearerOnly,
        /// Raw.
        RawOnly,
    }
}

choices! {
    /// Which table of parameters the -plus models follow.
    PlusTable {
        /// That of each model's own page.
        #[default]
        Documented,
        /// That of 2026: neither `n`, `quality`, `background` nor `mask`, and five sizes without 1024x1024.
        Strict,
    }
}

choices! {
    /// What happens to pictures in `base64_images`.
    InlinePictures {
        /// They are read.
        #[default]
        Accept,
        /// The request is refused with 400.
        Refuse,
        /// The request is refused with 422.
        #[serde(rename = "refuse_422")]
        Refuse422,
        /// The request is refused with an error object under HTTP 200.
        #[serde(rename = "refuse_200")]
        Refuse200,
        /// They are ignored: the picture is made from the text alone.
        Ignore,
    }
}

choices! {
    /// The name of the field for links.
    LinksField {
        /// That of the model's page.
        #[default]
        Documented,
        /// `images`; `image` is unknown.
        ImagesOnly,
        /// `image`; `images` is unknown.
        ImageOnly,
    }
}

choices! {
    /// What happens to links.
    Links {
        /// They are accepted, and fetched as `fetch_links` says.
        #[default]
        Accept,
        /// The request is refused with 400 `wrong image url`.
        Refuse,
        /// The submit is accepted and the prediction fails with `wrong image url`.
        FailTask,
    }
}

choices! {
    /// Whether data URIs are accepted in a field for links.
    DataUris {
        /// They are accepted.
        Accept,
        /// They are refused with 400.
        #[default]
        Refuse,
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
