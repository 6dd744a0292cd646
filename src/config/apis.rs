//! How requests get to the upstream, and how their input pictures do.

use serde::Deserialize;

use super::{Error, ServerConfig};
use crate::model::ApiKind;

/// `upstream.api`: which face of the upstream a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ApiPolicy {
    /// The prediction API, and the OpenAI-format endpoints for what only they have.
    Auto,
    Prediction,
    OpenAi,
    Unified,
}

impl ApiPolicy {
    /// What a request may take, the first that can do what it asks for.
    pub(crate) fn api_kinds(self) -> &'static [ApiKind] {
        match self {
            Self::Auto => &[ApiKind::Prediction, ApiKind::OpenAi],
            Self::Prediction => &[ApiKind::Prediction],
            Self::OpenAi => &[ApiKind::OpenAi],
            Self::Unified => &[ApiKind::Unified],
        }
    }

    /// As it is written in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Prediction => "prediction",
            Self::OpenAi => "openai",
            Self::Unified => "unified",
        }
    }
}

/// `upstream.inputs`: how input pictures travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InputTransport {
    /// In the request, as data URIs.
    Inline,
    /// By addresses below `server.public_url`, where the upstream fetches them.
    Link,
}

impl InputTransport {
    pub(super) fn check(self, server: &ServerConfig) -> Result<(), Error> {
        match self {
            Self::Link if server.public_url.is_none() => Err(Error::invalid(
                "upstream.inputs",
                "\"link\" needs server.public_url, the address at which the upstream can reach this gateway",
            )),
            Self::Link | Self::Inline => Ok(()),
        }
    }
}
