//! How requests get to the upstream, and how their input pictures do.

use serde::Deserialize;

use super::{Error, ServerConfig};
use crate::model::Route;

/// `upstream.route`: which face of the upstream a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoutePolicy {
    /// The prediction API, and the OpenAI-format endpoints for what only they have.
    Auto,
    Prediction,
    OpenAi,
    Unified,
}

impl RoutePolicy {
    /// What a request may take, the first that can do what it asks for.
    pub(crate) fn routes(self) -> &'static [Route] {
        match self {
            Self::Auto => &[Route::Prediction, Route::OpenAi],
            Self::Prediction => &[Route::Prediction],
            Self::OpenAi => &[Route::OpenAi],
            Self::Unified => &[Route::Unified],
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
pub(crate) enum Inputs {
    /// In the request, as data URIs.
    Inline,
    /// By addresses below `server.public_url`, where the upstream fetches them.
    Link,
}

impl Inputs {
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
