//! Which API of the upstream is used, and how input pictures are sent.

use serde::Deserialize;

use crate::config::{AddressConfig, Error};
use crate::model::ApiKind;

/// `upstream.api`: which API of the upstream a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ApiPolicy {
    /// The prediction API, and the OpenAI-format endpoints for parameters that only they have.
    Auto,
    Prediction,
    OpenAi,
    Unified,
}

impl ApiPolicy {
    /// The APIs that a request may use, in order of preference; the first that supports all its parameters is taken.
    pub(crate) fn api_kinds(self) -> &'static [ApiKind] {
        match self {
            Self::Auto => &[ApiKind::Prediction, ApiKind::OpenAi],
            Self::Prediction => &[ApiKind::Prediction],
            Self::OpenAi => &[ApiKind::OpenAi],
            Self::Unified => &[ApiKind::Unified],
        }
    }

    /// The value in the configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Prediction => "prediction",
            Self::OpenAi => "openai",
            Self::Unified => "unified",
        }
    }
}

/// `upstream.first_contact`: what follows when the upstream refuses the format of a submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FirstContact {
    /// The next format that the request can be written in is tried, and what is learned is remembered.
    Adapt,
    /// The documented format is the only one.
    Strict,
}

/// `upstream.inputs`: how input pictures are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum InputTransport {
    /// In the request, as data URIs.
    Inline,
    /// As addresses below `server.public_url`, from which the upstream fetches them.
    Link,
}

impl InputTransport {
    /// Fails when the upstream could not fetch the pictures.
    pub(in crate::config) fn check(self, addresses: &AddressConfig) -> Result<(), Error> {
        match self {
            Self::Link if addresses.public_url.is_none() => Err(Error::invalid(
                "upstream.inputs",
                "\"link\" needs server.public_url, the address at which the upstream can reach this gateway",
            )),
            Self::Link | Self::Inline => Ok(()),
        }
    }
}
