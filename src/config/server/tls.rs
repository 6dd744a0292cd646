//! Where the certificate and its key are.

use std::path::Path;
use std::time::Duration;

use super::{Error, ServerConfig, invalid};

impl ServerConfig {
    /// The files of the certificate and its key; `None` when the listener speaks plain HTTP.
    pub(crate) fn tls(&self) -> Option<(&Path, &Path)> {
        self.tls_certificate_file.as_deref().zip(self.tls_key_file.as_deref())
    }

    /// The scheme of this gateway's addresses where no header or `public_url` names another.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls().is_some() { "https" } else { "http" }
    }

    pub(super) fn check_tls(&self) -> Result<(), Error> {
        match (&self.tls_certificate_file, &self.tls_key_file) {
            (Some(_), None) => return Err(invalid("tls_key_file", "must be set too, as tls_certificate_file is set")),
            (None, Some(_)) => {
                return Err(invalid("tls_certificate_file", "must be set too, as tls_key_file is set"));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        for (key, value) in [
            ("tls_handshake_timeout_s", self.tls_handshake_timeout),
            ("tls_reload_interval_s", self.tls_reload_interval),
        ] {
            if value < Duration::from_secs(1) {
                return Err(invalid(key, "must be at least 1"));
            }
        }
        Ok(())
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
        assert_eq!(load("", &[certificate, key]).unwrap().server.scheme(), "https");
        assert_eq!(load("", &[]).unwrap().server.scheme(), "http");
    }
}
