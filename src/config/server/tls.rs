//! Where the certificate and its key are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Error, invalid};
use crate::config::{Environment, optional_path, seconds, secret};

/// Keys of the two files.
const CERTIFICATE: &str = "server.tls_certificate_file";
const KEY: &str = "server.tls_key_file";

/// TLS of the client listener.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TlsConfig {
    #[serde(rename = "tls_certificate_file", deserialize_with = "optional_path")]
    certificate_file: Option<PathBuf>,
    #[serde(rename = "tls_key_file", deserialize_with = "optional_path")]
    key_file: Option<PathBuf>,
    #[serde(rename = "tls_handshake_timeout_s", deserialize_with = "seconds")]
    pub(crate) handshake_timeout: Duration,
    #[serde(rename = "tls_reload_interval_s", deserialize_with = "seconds")]
    pub(crate) reload_interval: Duration,
}

impl TlsConfig {
    /// The files of the certificate and its key; `None` when the listener speaks plain HTTP.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        self.certificate_file.as_deref().zip(self.key_file.as_deref())
    }

    /// The scheme of this gateway's addresses where no header or `public_url` names another.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.files().is_some() { "https" } else { "http" }
    }

    /// Takes the files of the supervisor's credentials for what the configuration names no file.
    pub(in crate::config) fn read_credentials(&mut self, environment: &Environment) {
        let credential = |key| secret::credential(environment, key);
        self.certificate_file = self.certificate_file.take().or_else(|| credential(CERTIFICATE));
        self.key_file = self.key_file.take().or_else(|| credential(KEY));
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => Err(invalid("tls_key_file", "must be set too, as tls_certificate_file is set")),
            (None, Some(_)) => Err(invalid("tls_certificate_file", "must be set too, as tls_key_file is set")),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{load, refusal};

    #[test]
    fn the_certificate_needs_its_key_and_the_key_its_certificate() {
        let (certificate, key) =
            (("GATEWAY_SERVER__TLS_CERTIFICATE_FILE", "a.pem"), ("GATEWAY_SERVER__TLS_KEY_FILE", "b.pem"));
        assert!(refusal("", &[key]).starts_with("server.tls_certificate_file: "));
        assert!(refusal("", &[certificate]).starts_with("server.tls_key_file: "));
        assert_eq!(load("", &[certificate, key]).unwrap().server.tls.scheme(), "https");
        assert_eq!(load("", &[]).unwrap().server.tls.scheme(), "http");
    }
}
