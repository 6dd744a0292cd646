//! Which API of the upstream is used, and how input pictures are sent.

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

    /// Returns the address below which input pictures are published: `server.public_url`, where the list has links and the
    /// upstream may be able to reach it. The unified API takes either form, so it is used there only if links come first.
    pub(crate) fn published_below<'a>(
        &self,
        addresses: &'a AddressConfig,
        api: ApiPolicy,
        upstream_is_local: bool,
    ) -> Option<&'a Url> {
        let base = addresses.public_url.as_ref()?;
        let of_unified = self.iter().find(|&transport| transport != InputTransport::Multipart);
        let is_used = match api {
            ApiPolicy::Unified => of_unified == Some(InputTransport::Links),
            ApiPolicy::Auto | ApiPolicy::Prediction | ApiPolicy::OpenAi => self.0.contains(&InputTransport::Links),
        };
        (is_used && (upstream_is_local || addresses.is_reachable(base))).then_some(base)
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

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    #[test]
    fn pictures_are_published_where_the_upstream_may_reach_them() {
        let published = |public_url: &str, upstream: &str| {
            let text = format!("[server]\npublic_url = \"{public_url}\"\n[upstream]\n{upstream}");
            let config = load(&text, &[]).unwrap();
            let is_local = config.upstream.is_loopback();
            config
                .upstream
                .inputs
                .published_below(&config.server.addresses, config.upstream.api, is_local)
                .map(ToString::to_string)
        };
        for public in ["https://images.example.com/base", "https://93.184.216.34:8443", "http://[2606:4700::1111]"] {
            assert!(published(public, "").is_some_and(|base| base.starts_with(public)), "{public}");
            assert_eq!(published(public, "inputs = [\"base64_images\"]"), None, "{public}");
        }
        for own in [
            "http://localhost:8787",
            "http://app.localhost",
            "http://127.0.0.1:8787",
            "http://10.1.2.3",
            "http://192.168.0.1",
            "http://169.254.1.1",
            "http://0.0.0.0:8787",
            "http://[::1]:8787",
            "http://[fd00::1]",
            "http://[fe80::1]",
            "http://[::ffff:10.0.0.1]",
            "http://gateway:8787",
            "http://gateway.internal",
        ] {
            assert_eq!(published(own, ""), None, "{own}");
            // A simulator on this machine reaches it.
            assert!(published(own, "base_url = \"http://127.0.0.1:1\"").is_some(), "{own}");
        }
        assert_eq!(published("", ""), None);
        let own = "http://10.1.2.3\"\npicture_addresses = \"any";
        assert!(published(own, "").is_some(), "the operator says that the service reaches it");
    }

    #[test]
    fn the_unified_api_gets_links_only_where_they_come_first() {
        let publishes = |api: &str, list: &str| {
            let keys = format!("api = \"{api}\"\ninputs = {list}");
            let text = format!("[server]\npublic_url = \"https://a.example\"\n[upstream]\n{keys}");
            let config = load(&text, &[]).unwrap();
            config.upstream.inputs.published_below(&config.server.addresses, config.upstream.api, false).is_some()
        };
        assert!(publishes("unified", "[\"multipart\", \"links\", \"base64_images\"]"));
        assert!(!publishes("unified", "[\"multipart\", \"base64_images\", \"links\"]"));
        assert!(publishes("auto", "[\"base64_images\", \"links\"]"));
    }
}
