//! `[webhooks]`: where events may be sent, and the secret that signs them.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use base64_simd::STANDARD;
use serde::Deserialize;
use url::{Origin, Url};

use super::{Environment, Error, Secret, millis, optional_path, seconds, secret};

/// The variable that contains the secret.
const SECRET: &str = "GATEWAY_WEBHOOK_SECRET";
/// The prefix that the Standard Webhooks specification demands.
const SECRET_PREFIX: &str = "whsec_";
/// How many bytes a secret may have, decoded.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// `[webhooks]`, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhooksSection {
    allowed_origins: Vec<String>,
    #[serde(deserialize_with = "optional_path")]
    secret_file: Option<PathBuf>,
    attempts_max: NonZeroU32,
    #[serde(rename = "timeout_s", deserialize_with = "seconds")]
    timeout: Duration,
    #[serde(rename = "retry_delay_min_ms", deserialize_with = "millis")]
    retry_delay_min: Duration,
    #[serde(rename = "retry_delay_max_s", deserialize_with = "seconds")]
    retry_delay_max: Duration,
    concurrent_max: NonZeroUsize,
    pending_max: usize,
}

/// `[webhooks]`, checked.
#[derive(Clone, Debug)]
pub(crate) struct WebhooksConfig {
    /// `None`: `webhook_url` is refused.
    pub(crate) allowed: Option<AllowedTargets>,
    pub(crate) attempts_max: u32,
    pub(crate) timeout: Duration,
    pub(crate) retry_delay_min: Duration,
    pub(crate) retry_delay_max: Duration,
    pub(crate) concurrent_max: usize,
    pub(crate) pending_max: usize,
}

/// Where events may be sent, and the secret that signs them. Neither is of use without the other.
#[derive(Clone, Debug)]
pub(crate) struct AllowedTargets {
    pub(crate) origins: Vec<Origin>,
    pub(crate) secret: SigningSecret,
}

/// A valid `whsec_…` secret: a redacted `Debug`, wiped when dropped.
#[derive(Clone, Debug)]
pub(crate) struct SigningSecret {
    text: Secret,
}

impl WebhooksConfig {
    /// Returns whether events are signed with the same secret as by another configuration.
    pub(crate) fn has_same_secret(&self, other: &Self) -> bool {
        let secret = |config: &Self| config.allowed.as_ref().map(|allowed| allowed.secret.expose());
        secret(self) == secret(other)
    }
}

impl SigningSecret {
    fn new(text: Secret) -> Result<Self, Error> {
        let secret = Self { text };
        match secret.bytes() {
            Some(bytes) if SECRET_BYTES.contains(&bytes.len()) => Ok(secret),
            _ => Err(Error::invalid(
                SECRET,
                "must be whsec_ and the base64 of 24 to 64 random bytes: echo whsec_$(openssl rand -base64 32)",
            )),
        }
    }

    /// Decodes the secret; `None` when it is not valid.
    fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode_to_vec(self.text.expose().strip_prefix(SECRET_PREFIX)?).ok()
    }

    /// Returns the bytes of the key. Call it only where something is signed.
    ///
    /// # Panics
    ///
    /// Never: [`SigningSecret::new`] has decoded them.
    pub(crate) fn expose(&self) -> Vec<u8> {
        self.bytes().expect("checked with the configuration")
    }
}

impl WebhooksSection {
    /// Checks the section and reads the secret.
    ///
    /// # Errors
    ///
    /// [`Error`], naming the key or the variable.
    pub(super) fn check(self, environment: &Environment) -> Result<WebhooksConfig, Error> {
        let origins = self.allowed_origins.iter().map(|text| origin(text)).collect::<Result<Vec<_>, _>>()?;
        let secret = secret::from_environment(environment, SECRET, self.secret_file.as_deref())?;
        let secret = secret.map(SigningSecret::new).transpose()?;
        Ok(WebhooksConfig {
            allowed: allowed(origins, secret)?,
            attempts_max: self.attempts_max.get(),
            timeout: self.timeout,
            retry_delay_min: self.retry_delay_min,
            retry_delay_max: self.retry_delay_max,
            concurrent_max: self.concurrent_max.get(),
            pending_max: self.pending_max,
        })
    }
}

fn allowed(origins: Vec<Origin>, secret: Option<SigningSecret>) -> Result<Option<AllowedTargets>, Error> {
    match secret {
        _ if origins.is_empty() => Ok(None),
        Some(secret) => Ok(Some(AllowedTargets { origins, secret })),
        None => Err(Error::invalid(
            "webhooks.allowed_origins",
            format!("needs a secret to sign events with; set {SECRET} to whsec_$(openssl rand -base64 32)"),
        )),
    }
}

/// Parses an origin such as `https://hooks.example.com` or `https://x.test:8443`.
fn origin(text: &str) -> Result<Origin, Error> {
    // A text with an @ may contain a password.
    let shown = if text.contains('@') { "an entry".to_owned() } else { format!("{text:?}") };
    let problem = |problem: &str| Error::invalid("webhooks.allowed_origins", format!("{shown} {problem}"));
    let url: Url = text.parse().map_err(|error| problem(&format!("is not an address: {error}")))?;
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        "https" | "http" if bare && anonymous => Ok(url.origin()),
        "https" | "http" => Err(problem("must have a scheme, a host and an optional port, and nothing else")),
        _ => Err(problem("must begin with https:// (or http:// in a private network)")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const GOOD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn load(variables: &[(&str, &str)]) -> Result<WebhooksConfig, String> {
        let environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Config::load(None, &environment).map(|config| config.webhooks).map_err(|error| error.to_string())
    }

    #[test]
    fn an_origin_needs_a_secret_and_a_secret_alone_allows_nothing() {
        assert!(load(&[]).unwrap().allowed.is_none());
        assert!(load(&[(SECRET, GOOD)]).unwrap().allowed.is_none());
        let origins = ("GATEWAY_WEBHOOKS__ALLOWED_ORIGINS", "https://hooks.example.com, http://127.0.0.1:9");
        let error = load(&[origins]).unwrap_err();
        assert!(error.contains("webhooks.allowed_origins") && error.contains(SECRET), "{error}");
        let allowed = load(&[origins, (SECRET, GOOD)]).unwrap().allowed.unwrap();
        let origins: Vec<String> = allowed.origins.iter().map(Origin::ascii_serialization).collect();
        assert_eq!(origins, ["https://hooks.example.com", "http://127.0.0.1:9"]);
        assert_eq!(allowed.secret.expose().len(), 24);
        assert!(!format!("{allowed:?}").contains(&GOOD[6..]), "{allowed:?}");
    }

    #[test]
    fn mistakes_name_the_key() {
        for wrong in ["whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8G"] {
            let error = load(&[(SECRET, wrong)]).unwrap_err();
            assert!(error.contains(SECRET), "{error}");
            assert!(wrong.len() < 8 || !error.contains(wrong), "{error}");
        }
        for wrong in
            ["hooks.example.com", "ftp://x.test", "https://x.test/path", "https://me@x.test", "https://x.test/?a"]
        {
            let error = load(&[("GATEWAY_WEBHOOKS__ALLOWED_ORIGINS", wrong), (SECRET, GOOD)]).unwrap_err();
            assert!(error.contains("webhooks.allowed_origins"), "{error}");
        }
    }
}
