//! What may be said of the client face's connections.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::{Error, ServerConfig};

/// The HTTP library takes no smaller buffer.
const HEADER_BYTES_MIN: usize = 8192;
/// The largest window of HTTP/2 (RFC 9113 §6.9.1).
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The longest path of a socket on Linux, without the zero at its end.
const SOCKET_PATH_MAX: usize = 107;

/// Permissions of a file, as `chmod` takes them: three or four octal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct FileMode(pub(crate) u32);

/// What is wrong with a mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server.unix_socket_mode {0:?} is no file mode: write it as for chmod, \"0600\" or \"0660\"")]
pub(crate) struct InvalidFileMode(String);

impl TryFrom<String> for FileMode {
    type Error = InvalidFileMode;

    fn try_from(text: String) -> Result<Self, InvalidFileMode> {
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o777 && (3..=4).contains(&text.len()) => Ok(Self(mode)),
            Ok(_) | Err(_) => Err(InvalidFileMode(text)),
        }
    }
}

impl ServerConfig {
    /// The files of the certificate and its key, where the listener speaks TLS.
    pub(crate) fn tls(&self) -> Option<(&Path, &Path)> {
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        let (certificate, key) = (self.tls_certificate_file.as_path(), self.tls_key_file.as_path());
        (is_set(certificate) && is_set(key)).then_some((certificate, key))
    }

    /// Where else there is a socket.
    pub(crate) fn unix_socket(&self) -> Option<&Path> {
        (!self.unix_socket.as_os_str().is_empty()).then_some(self.unix_socket.as_path())
    }

    /// What addresses of this gateway begin with, where nobody says otherwise.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls().is_some() { "https" } else { "http" }
    }

    /// Checks what belongs together.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the key.
    pub(super) fn check(&self) -> Result<(), Error> {
        let complain = |key: &str, problem: &str| Err(Error::invalid(format!("server.{key}"), problem));
        if self.tls_certificate_file.as_os_str().is_empty() != self.tls_key_file.as_os_str().is_empty() {
            return complain("tls_certificate_file", "and server.tls_key_file must be set both, or neither");
        }
        if self.unix_socket.as_os_str().len() > SOCKET_PATH_MAX {
            return complain("unix_socket", &format!("must be a path of at most {SOCKET_PATH_MAX} bytes"));
        }
        for (key, value) in [
            ("header_timeout_s", self.header_timeout),
            ("keep_alive_timeout_s", self.keep_alive_timeout),
            ("write_timeout_s", self.write_timeout),
            ("tls_handshake_timeout_s", self.tls_handshake_timeout),
            ("tls_reload_interval_s", self.tls_reload_interval),
            ("http2_ping_interval_s", self.http2_ping_interval),
            ("http2_ping_timeout_s", self.http2_ping_timeout),
            ("body_rate_window_s", self.body_rate_window),
        ] {
            if value < Duration::from_secs(1) {
                return complain(key, "must not be 0");
            }
        }
        if self.header_bytes_max < HEADER_BYTES_MIN {
            return complain("header_bytes_max", &format!("must be at least {HEADER_BYTES_MIN}"));
        }
        for (key, bytes) in [
            ("http2_stream_window_bytes", self.http2_stream_window_bytes),
            ("http2_connection_window_bytes", self.http2_connection_window_bytes),
        ] {
            if !(1..=WINDOW_MAX).contains(&bytes) {
                return complain(key, &format!("must be from 1 to {WINDOW_MAX}"));
            }
        }
        for (key, count) in [
            ("headers_max", self.headers_max),
            ("http2_streams_max", self.http2_streams_max as usize),
            ("http2_header_bytes_max", self.http2_header_bytes_max as usize),
            ("http2_send_buffer_bytes", self.http2_send_buffer_bytes),
        ] {
            if count == 0 {
                return complain(key, "must not be 0");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    #[test]
    fn modes_are_octal() {
        let mode = |text: &str| FileMode::try_from(text.to_owned()).map(|FileMode(mode)| mode);
        assert_eq!(mode("0600"), Ok(0o600));
        assert_eq!(mode("660"), Ok(0o660));
        for bad in ["", "6", "0o600", "0888", "rw-------", "00600", "1600", "-600"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn proxies_are_networks_and_may_be_none() {
        let load = |networks: &str| {
            let variable = ("GATEWAY_SERVER__PROXY_NETWORKS".to_owned(), networks.to_owned());
            Config::load(None, &Environment::from([variable])).unwrap().server.proxy_networks
        };
        assert!(load("").is_empty());
        assert_eq!(load("192.0.2.0/24, 2001:db8::/32").len(), 2);
    }
}
