//! Which API of the upstream is used, and how input pictures are sent.

use std::net::Ipv4Addr;

use serde::Deserialize;
use url::Url;

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

/// `upstream.inputs`: how input pictures are sent, in order of preference.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct InputPreferences(Vec<InputTransport>);

/// A way to send input pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputTransport {
    /// As data URIs in the field for them.
    Base64Images,
    /// As addresses below `server.public_url`, from which the upstream fetches them.
    Links,
    /// As files of a form, through the OpenAI-format endpoints.
    Multipart,
    /// As data URIs in the field for addresses.
    DataUris,
}

impl InputPreferences {
    pub(crate) fn iter(&self) -> impl Iterator<Item = InputTransport> {
        self.0.iter().copied()
    }

    /// Returns one method by itself, where it is listed.
    pub(crate) fn only(&self, transport: InputTransport) -> Self {
        Self(self.iter().filter(|&listed| listed == transport).collect())
    }

    /// Returns the other methods.
    pub(crate) fn without(&self, transport: InputTransport) -> Self {
        Self(self.iter().filter(|&listed| listed != transport).collect())
    }

    /// Returns whether addresses come before data URIs.
    pub(crate) fn prefers_links(&self) -> bool {
        self.iter().find(|&transport| transport != InputTransport::Multipart) == Some(InputTransport::Links)
    }

    /// Returns the address below which input pictures are published: `server.public_url`, where the order has links and
    /// the upstream may be able to reach it.
    pub(crate) fn published_below<'a>(&self, addresses: &'a AddressConfig, upstream_is_local: bool) -> Option<&'a Url> {
        let base = addresses.public_url.as_ref()?;
        (self.0.contains(&InputTransport::Links) && (upstream_is_local || is_reachable(base))).then_some(base)
    }

    /// Fails when a method is listed twice, or none can be used with this `upstream.api`.
    pub(in crate::config) fn check(&self, api: ApiPolicy, publishes: bool) -> Result<(), Error> {
        let twice = |(position, transport): &(usize, &InputTransport)| self.0[..*position].contains(*transport);
        if self.0.iter().enumerate().any(|one| twice(&one)) {
            return Err(Error::invalid("upstream.inputs", "lists the same method twice"));
        }
        let is_usable = |transport: InputTransport| match transport {
            InputTransport::Links => publishes && api != ApiPolicy::OpenAi,
            InputTransport::Base64Images | InputTransport::DataUris => api != ApiPolicy::OpenAi,
            InputTransport::Multipart => api.api_kinds().contains(&ApiKind::OpenAi),
        };
        if self.iter().any(is_usable) {
            return Ok(());
        }
        Err(Error::invalid(
            "upstream.inputs",
            format!(
                "lists no method that can be used: upstream.api = \"{}\" allows {}, and \"links\" needs server.public_url, \
                 an address of this gateway that the upstream can reach",
                api.name(),
                match api {
                    ApiPolicy::Auto => "every method",
                    ApiPolicy::OpenAi => "\"multipart\" only",
                    ApiPolicy::Prediction | ApiPolicy::Unified => "\"base64_images\", \"links\" and \"data_uris\"",
                }
            ),
        ))
    }
}

/// Returns whether the host of an address may be reached from outside: it is neither this machine nor a private address.
fn is_reachable(address: &Url) -> bool {
    match address.host() {
        Some(url::Host::Domain(name)) => name != "localhost" && !name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => !is_private(ip),
        Some(url::Host::Ipv6(ip)) => ip.to_ipv4_mapped().map_or_else(
            || !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local()),
            |ip| !is_private(ip),
        ),
        None => false,
    }
}

fn is_private(ip: Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
}
