//! `[server]`: the client listener, what a request may contain, and how long each step may take.
//!
//! The struct has the keys of the file; what belongs together is checked together, in the files of this folder.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use super::{Error, millis, optional_count, optional_path, optional_seconds, optional_url, seconds};
use crate::model::HostName;

mod http;
mod page_origin;
mod tls;
mod unix_socket;

pub(crate) use page_origin::PageOrigin;
use unix_socket::FileMode;

/// `[server]`. `config/default.toml` explains every key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) hosts: Vec<HostName>,
    pub(crate) cors_origins: Vec<PageOrigin>,
    #[serde(deserialize_with = "optional_url")]
    pub(crate) public_url: Option<Url>,
    #[serde(deserialize_with = "optional_path")]
    unix_socket: Option<PathBuf>,
    pub(crate) unix_socket_mode: FileMode,

    // How long a response may take, and how a waiting client is kept informed.
    #[serde(rename = "response_timeout_s", deserialize_with = "seconds")]
    pub(crate) response_timeout: Duration,
    #[serde(rename = "response_timeout_margin_ms", deserialize_with = "millis")]
    pub(crate) response_timeout_margin: Duration,
    #[serde(rename = "async_start_timeout_s", deserialize_with = "seconds")]
    pub(crate) async_start_timeout: Duration,
    #[serde(rename = "streamed_response_timeout_s", deserialize_with = "seconds")]
    pub(crate) streamed_response_timeout: Duration,
    #[serde(rename = "stream_heartbeat_ms", deserialize_with = "millis")]
    pub(crate) stream_heartbeat: Duration,
    #[serde(rename = "stream_grace_ms", deserialize_with = "millis")]
    pub(crate) stream_grace: Duration,
    /// `None`: a late response begins with its status.
    #[serde(rename = "json_heartbeat_s", deserialize_with = "optional_seconds")]
    pub(crate) json_heartbeat: Option<Duration>,
    pub(crate) interim_responses: InterimResponses,
    #[serde(rename = "interim_interval_s", deserialize_with = "seconds")]
    pub(crate) interim_interval: Duration,
    /// Prefixes of words in a `User-Agent`.
    pub(crate) interim_clients: Vec<String>,
    #[serde(rename = "result_url_ttl_s", deserialize_with = "seconds")]
    pub(crate) result_url_ttl: Duration,
    pub(crate) waiters_max: usize,

    // What a request may ask for and contain.
    pub(crate) unsupported_parameters: UnsupportedParameters,
    pub(crate) convert_pixels_max: u64,
    pub(crate) concurrent_conversions_max: NonZeroUsize,
    pub(crate) converted_bytes_max: u64,
    pub(crate) image_check: ImageCheck,
    pub(crate) picture_pixels_max: u64,
    pub(crate) picture_side_max: u32,
    pub(crate) picture_frames_max: u32,
    pub(crate) body_bytes_max: u64,
    pub(crate) text_bytes_max: usize,
    pub(crate) form_parts_max: usize,
    pub(crate) json_depth_max: u32,
    pub(crate) json_values_max: u32,
    #[serde(rename = "body_idle_timeout_s", deserialize_with = "seconds")]
    pub(crate) body_idle_timeout: Duration,
    /// `None`: no minimum rate.
    #[serde(deserialize_with = "optional_count")]
    pub(crate) body_bytes_per_second_min: Option<NonZeroU64>,
    #[serde(rename = "body_rate_window_s", deserialize_with = "seconds")]
    pub(crate) body_rate_window: Duration,
    pub(crate) drain_bytes_max: u64,
    #[serde(rename = "drain_timeout_s", deserialize_with = "seconds")]
    pub(crate) drain_timeout: Duration,

    // Connections.
    pub(crate) connections_max: NonZeroUsize,
    /// `None`: no limit for one address.
    #[serde(deserialize_with = "optional_count")]
    pub(crate) connections_per_address_max: Option<NonZeroUsize>,
    pub(crate) proxy_networks: Vec<IpNet>,
    #[serde(rename = "header_timeout_s", deserialize_with = "seconds")]
    pub(crate) header_timeout: Duration,
    #[serde(rename = "keep_alive_timeout_s", deserialize_with = "seconds")]
    pub(crate) keep_alive_timeout: Duration,
    #[serde(rename = "write_timeout_s", deserialize_with = "seconds")]
    pub(crate) write_timeout: Duration,
    pub(crate) headers_max: usize,
    pub(crate) header_bytes_max: usize,
    pub(crate) http2_streams_max: u32,
    pub(crate) http2_header_bytes_max: u32,
    pub(crate) http2_pending_resets_max: usize,
    pub(crate) http2_error_resets_max: usize,
    pub(crate) http2_stream_window_bytes: u32,
    pub(crate) http2_connection_window_bytes: u32,
    pub(crate) http2_send_buffer_bytes: usize,
    #[serde(rename = "http2_ping_interval_s", deserialize_with = "seconds")]
    pub(crate) http2_ping_interval: Duration,
    #[serde(rename = "http2_ping_timeout_s", deserialize_with = "seconds")]
    pub(crate) http2_ping_timeout: Duration,
    #[serde(deserialize_with = "optional_path")]
    tls_certificate_file: Option<PathBuf>,
    #[serde(deserialize_with = "optional_path")]
    tls_key_file: Option<PathBuf>,
    #[serde(rename = "tls_handshake_timeout_s", deserialize_with = "seconds")]
    pub(crate) tls_handshake_timeout: Duration,
    #[serde(rename = "tls_reload_interval_s", deserialize_with = "seconds")]
    pub(crate) tls_reload_interval: Duration,

    // Shutdown.
    #[serde(rename = "shutdown_delay_s", deserialize_with = "seconds")]
    pub(crate) shutdown_delay: Duration,
    #[serde(rename = "shutdown_grace_s", deserialize_with = "seconds")]
    pub(crate) shutdown_grace: Duration,
}

/// What happens to a parameter that the model does not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnsupportedParameters {
    Refuse,
    Drop,
}

/// Which clients receive `102 Processing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InterimResponses {
    Off,
    KnownClients,
}

/// Whether input pictures must be of a known type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImageCheck {
    Strict,
    Off,
}

impl ServerConfig {
    /// Checks values that depend on each other or have a range.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the key and the allowed range.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.check_tls()?;
        self.check_unix_socket()?;
        self.check_http()
    }
}

/// An error about a key of this section.
fn invalid(key: &str, problem: impl std::fmt::Display) -> Error {
    Error::invalid(format!("server.{key}"), problem)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, refusal};
    use super::*;

    #[test]
    fn mistakes_name_the_key() {
        for (lines, named) in [
            ("listen = \"here\"", "server.listen"),
            ("hosts = [\"gateway:8787\"]", "server.hosts"),
            ("hosts = \"gateway\"", "server.hosts"),
            ("cors_origins = [\"https://app.example.com/\"]", "server.cors_origins"),
            ("concurrent_conversions_max = 0", "server.concurrent_conversions_max"),
            ("connections_max = 0", "server.connections_max"),
            ("json_heartbeat_s = -1", "server.json_heartbeat_s"),
        ] {
            let error = refusal(&format!("[server]\n{lines}"), &[]);
            assert!(error.contains(named), "{error:?} does not name {named}");
        }
        for (variable, value, named) in [
            ("GATEWAY_SERVER__HOSTS", "a.test,https://b.test", "server.hosts"),
            ("GATEWAY_SERVER__CORS_ORIGINS", "app.example.com", "server.cors_origins"),
            ("GATEWAY_SERVER__PROXY_NETWORKS", "10.0.0.0/8,here", "server.proxy_networks"),
        ] {
            let error = refusal("", &[(variable, value)]);
            assert!(error.contains(named), "{error:?} does not name {named}");
        }
    }

    #[test]
    fn zero_switches_a_limit_off() {
        let server = load(
            "[server]\njson_heartbeat_s = 20\nbody_bytes_per_second_min = 0\nconnections_per_address_max = 0",
            &[],
        )
        .unwrap()
        .server;
        assert_eq!(server.json_heartbeat, Some(Duration::from_secs(20)));
        assert_eq!((server.body_bytes_per_second_min, server.connections_per_address_max), (None, None));
        let server = load("", &[]).unwrap().server;
        assert_eq!(server.json_heartbeat, None);
        assert_eq!(server.body_bytes_per_second_min.map(NonZeroU64::get), Some(1024));
        assert_eq!(server.connections_per_address_max.map(NonZeroUsize::get), Some(1000));
    }

    #[test]
    fn proxy_networks_may_be_empty() {
        let networks =
            |text: &str| load("", &[("GATEWAY_SERVER__PROXY_NETWORKS", text)]).unwrap().server.proxy_networks;
        assert!(networks("").is_empty());
        assert_eq!(networks("192.0.2.0/24, 2001:db8::/32").len(), 2);
    }
}
