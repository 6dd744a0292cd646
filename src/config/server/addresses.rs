//! Where clients reach the gateway, and by which names.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::unix_socket::{self, FileMode};
use super::{Error, ListenAddresses, PageOrigin, invalid};
use crate::config::{optional_path, optional_url, seconds};
use crate::model::{HostName, unreachable_from_outside};

/// The addresses of the client listener, and those that clients are given.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AddressConfig {
    pub(crate) listen: ListenAddresses,
    pub(crate) hosts: Vec<HostName>,
    pub(crate) cors_origins: Vec<PageOrigin>,
    #[serde(deserialize_with = "public_url")]
    pub(crate) public_url: Option<Url>,
    #[serde(rename = "result_url_ttl_s", deserialize_with = "seconds")]
    pub(crate) result_url_ttl: Duration,
    #[serde(deserialize_with = "optional_path")]
    pub(crate) unix_socket: Option<PathBuf>,
    pub(crate) unix_socket_mode: FileMode,
    pub(crate) picture_addresses: PictureAddresses,
    pub(crate) web: WebPages,
}

/// Whether the playground is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WebPages {
    On,
    Off,
}

/// Which addresses of pictures the upstream may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PictureAddresses {
    /// Those that can be reached from outside.
    Public,
    /// The upstream is in the same network.
    Any,
}

impl PictureAddresses {
    /// Returns why the upstream cannot reach a host, as [`unreachable_from_outside`] does.
    pub(crate) fn unreachable(self, host: &str) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Public => unreachable_from_outside(host),
        }
    }
}

impl AddressConfig {
    /// Returns whether the upstream may be able to reach the host of an address.
    pub(crate) fn is_reachable(&self, address: &Url) -> bool {
        address.host_str().is_some_and(|host| self.picture_addresses.unreachable(host).is_none())
    }

    fn check_public_url(&self) -> Result<(), Error> {
        let Some(url) = &self.public_url else { return Ok(()) };
        let problem = if !matches!(url.scheme(), "http" | "https") {
            "must begin with https:// (or http://)"
        } else if !url.username().is_empty() || url.password().is_some() {
            "must not contain a user name or a password"
        } else if url.query().is_some() || url.fragment().is_some() {
            "must end after the path, without a query or a fragment"
        } else {
            return Ok(());
        };
        Err(invalid("public_url", problem))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.check_public_url()?;
        self.unix_socket.as_deref().map_or(Ok(()), unix_socket::check_path)
    }
}

/// Reads `public_url`, and says what is missing where only a host is given.
fn public_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let has_scheme = text.contains("://");
    optional_url(text.into_deserializer()).map_err(|error: D::Error| {
        let problem = if has_scheme { error.to_string() } else { "must begin with https:// (or http://)".to_owned() };
        // The text may contain a password.
        serde::de::Error::custom(problem)
    })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, refusal};

    #[test]
    fn a_public_address_is_a_whole_one() {
        for (text, part) in [
            ("img.example.com", "must begin with https://"),
            ("img.example.com:8443", "must begin with https://"),
            ("//img.example.com", "must begin with https://"),
            ("localhost", "must begin with https://"),
            ("localhost:8787", "must begin with https://"),
            ("ftp://img.example.com", "must begin with https://"),
            ("https://", "empty host"),
            ("https://me:secret@img.example.com", "a user name or a password"),
            ("https://img.example.com/?a=b", "without a query"),
            ("https://img.example.com/#top", "without a query or a fragment"),
        ] {
            let error = refusal(&format!("[server]\npublic_url = {text:?}"), &[]);
            assert!(error.contains("server.public_url") && error.contains(part), "{error}");
        }
        for text in ["https://img.example.com", "http://10.0.0.7:8787/base/", ""] {
            load(&format!("[server]\npublic_url = {text:?}"), &[]).unwrap();
        }
    }
}
