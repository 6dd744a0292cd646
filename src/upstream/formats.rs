//! Request formats: the ways in which one purchase can be written, and which of them the upstream is known to accept.
//!
//! The vendor's documents contradict one another, so a format that is documented may be refused. A purchase that is
//! refused for its format, certainly without being bought, is submitted again in the next one; what is learned is
//! remembered for each account, model and kind of request.
//!
//! - `options`: the formats that a request can be written in, in order of preference, without altering what its client
//!   asked for.
//! - `table`: what is known, and which format the next submit takes. Pure: no clock, no lock, no I/O.
//! - `stored`: what survives a restart.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::config::InputTransport;
use crate::model::{AccountId, ApiKind, ModelId, Size, Task};

mod options;
mod stored;
mod table;
#[cfg(test)]
mod test_support;

pub(crate) use options::{FormatOptions, FormatRules};
pub(crate) use stored::{FormatBasis, FormatStore, StoredFormats};
pub(crate) use table::{FormatChange, FormatChoice, FormatRow, FormatTable, FormatTries, FormatVerdict};

/// How a submit is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestFormat {
    pub(crate) method: InputMethod,
    /// The gateway fetches pictures that its client gave as addresses, and sends the bytes.
    pub(crate) fetch_links: bool,
    pub(crate) auth: AuthStyle,
    /// Parameters that are left out. The client did not ask for them, and each is at its documented default.
    pub(crate) omitted: BTreeSet<String>,
    /// The size in place of the request's, which the client left to the gateway.
    pub(crate) size: Option<Size>,
}

/// How the input pictures of a submit reach the upstream, and through which API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputMethod {
    /// The prediction API, without pictures: text to image.
    None,
    /// The prediction API, with data URIs in the field for them.
    Base64Images,
    /// The prediction API, with addresses in the documented field: the client's, or those that the gateway publishes.
    Links,
    /// The same, in the field that other pages of the vendor document.
    OtherLinks,
    /// The prediction API, with data URIs in the field for addresses.
    DataUris,
    /// The OpenAI-format endpoints: a form with files, or JSON without pictures.
    Multipart,
    /// The same, with an answer that is streamed, so that bytes flow while the picture is made.
    MultipartStream,
    /// The unified API.
    Unified,
}

/// How the key is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuthStyle {
    /// `Authorization: Bearer sk-…`
    #[default]
    Bearer,
    /// `Authorization: sk-…`
    Raw,
}

/// What the knowledge about a format applies to: requests of one kind for one model through one account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FormatSubject {
    pub(crate) account: AccountId,
    pub(crate) model: ModelId,
    pub(crate) task: Task,
    pub(crate) inputs: InputKind,
    pub(crate) masked: bool,
}

/// What a client sent its pictures as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputKind {
    /// It sent none: text to image.
    None,
    Files,
    /// Addresses.
    Links,
}

/// A format for one submit, with what the meaning of its answer depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SubmitFormat {
    pub(crate) format: RequestFormat,
    /// A submit of this account, model and task was accepted before at the same API, so a path that is not found is no
    /// proof of a refusal.
    pub(crate) accepted_before: bool,
    /// The key may be tried raw: no submit of this account was accepted with the present style.
    pub(crate) may_change_auth: bool,
}

/// Why a format that was accepted is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormatProblem<'a> {
    /// The pictures were made without looking at the inputs. Some channels may not count them, so the format stays in use
    /// where there is no other.
    InputsUnseen,
    /// The task failed for the way in which its input pictures were sent, as this text says. It may have been billed.
    TaskFailed(&'a str),
}

/// What the upstream refuses about the format of a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FormatRefusal {
    /// The key, in the way it was sent.
    Auth,
    /// The input pictures, in the way they were sent.
    Inputs,
    /// A parameter that was sent.
    Field(String),
    Size,
    /// The path is not served.
    Path,
    /// The request, without saying what of it.
    Unclear,
}

impl RequestFormat {
    /// Returns the documented format of an input method.
    pub(crate) fn documented(method: InputMethod) -> Self {
        Self { method, fetch_links: false, auth: AuthStyle::default(), omitted: BTreeSet::new(), size: None }
    }

    /// Returns whether it is the documented format of an input method, however the key is sent.
    pub(crate) fn is_documented(&self, method: InputMethod) -> bool {
        *self == Self { auth: self.auth, ..Self::documented(method) }
    }

    /// Returns a description for logs, the ledger and the status page: the input method, and how the format differs from
    /// the documented one.
    pub(crate) fn describe(&self) -> String {
        let mut text = self.method.name().to_owned();
        if self.fetch_links {
            text.push_str(", fetched links");
        }
        if self.auth == AuthStyle::Raw {
            text.push_str(", raw key");
        }
        for field in &self.omitted {
            text.push_str(", without ");
            text.push_str(field);
        }
        if let Some(size) = self.size {
            text.push_str(", size ");
            text.push_str(&size.to_string());
        }
        text
    }
}

impl AuthStyle {
    /// Returns the other style.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Bearer => Self::Raw,
            Self::Raw => Self::Bearer,
        }
    }
}

impl<'a> FormatProblem<'a> {
    /// Returns why, for the log and the status page.
    fn text(self) -> &'a str {
        match self {
            Self::InputsUnseen => "the input pictures were not looked at",
            Self::TaskFailed(reason) => reason,
        }
    }
}

impl InputKind {
    /// Returns the name in the state file and on the status page.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Files => "files",
            Self::Links => "links",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Files, Self::Links].into_iter().find(|kind| kind.name() == name)
    }
}

impl InputMethod {
    const ALL: [Self; 8] = [
        Self::None,
        Self::Base64Images,
        Self::Links,
        Self::OtherLinks,
        Self::DataUris,
        Self::Multipart,
        Self::MultipartStream,
        Self::Unified,
    ];

    /// Returns the name in metrics, logs, the journal and the status page.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no_pictures",
            Self::Base64Images => "base64_images",
            Self::Links => "links",
            Self::OtherLinks => "other_links",
            Self::DataUris => "data_uris",
            Self::Multipart => "multipart",
            Self::MultipartStream => "multipart_stream",
            Self::Unified => "unified",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Returns the setting in `upstream.inputs` that allows the method; `None` for those that no setting is about.
    pub(crate) fn transport(self) -> Option<InputTransport> {
        match self {
            Self::Base64Images => Some(InputTransport::Base64Images),
            Self::Links | Self::OtherLinks => Some(InputTransport::Links),
            Self::DataUris => Some(InputTransport::DataUris),
            Self::Multipart | Self::MultipartStream => Some(InputTransport::Multipart),
            Self::None | Self::Unified => None,
        }
    }

    /// Returns the API that a submit of this method is sent to.
    pub(crate) fn api_kind(self) -> ApiKind {
        match self {
            Self::None | Self::Base64Images | Self::Links | Self::OtherLinks | Self::DataUris => ApiKind::Prediction,
            Self::Multipart | Self::MultipartStream => ApiKind::OpenAi,
            Self::Unified => ApiKind::Unified,
        }
    }
}
