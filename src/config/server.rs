//! `[server]`: the client listener, what a request may contain, and how long each step may take.
//!
//! The section of the file is flat. Here the keys that are used together have a type of their own, with its checks, in a
//! file of this folder.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Error;

mod addresses;
mod bodies;
mod connections;
mod http2;
mod listen;
mod operator;
mod page_origin;
mod requests;
mod responses;
mod shutdown;
mod tls;
mod unix_socket;

pub(crate) use addresses::{AddressConfig, PictureAddresses, WebPages};
pub(crate) use bodies::BodyConfig;
use connections::ConnectionConfig;
use http2::Http2Config;
pub(crate) use listen::{ListenAddresses, ResolvedAddress};
pub(crate) use operator::OperatorConfig;
pub(crate) use page_origin::PageOrigin;
#[cfg(test)]
pub(crate) use requests::ImageCheck;
pub(crate) use requests::{ConversionConfig, DefaultResponseFormat, RequestConfig, UnsupportedParameters};
pub(crate) use responses::{HeartbeatConfig, InterimResponses, ResponseConfig};
use shutdown::ShutdownConfig;
use tls::TlsConfig;

/// `[server]`. `config/default.toml` explains every key.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) addresses: AddressConfig,
    pub(crate) responses: ResponseConfig,
    pub(crate) heartbeats: HeartbeatConfig,
    pub(crate) requests: RequestConfig,
    pub(crate) conversions: ConversionConfig,
    pub(crate) bodies: BodyConfig,
    pub(crate) connections: ConnectionConfig,
    pub(crate) http2: Http2Config,
    pub(crate) tls: TlsConfig,
    pub(crate) shutdown: ShutdownConfig,
}

impl ServerConfig {
    /// Reads the section. Keys that no part has are ignored here: `layers::check_known` refuses those that
    /// `config/default.toml` does not have, and a test holds that file to the parts.
    ///
    /// # Errors
    ///
    /// A text that names the key, when its value is missing, of the wrong type or out of range.
    pub(super) fn read(section: &Table) -> Result<Self, toml::de::Error> {
        Ok(Self {
            addresses: part(section)?,
            responses: part(section)?,
            heartbeats: part(section)?,
            requests: part(section)?,
            conversions: part(section)?,
            bodies: part(section)?,
            connections: part(section)?,
            http2: part(section)?,
            tls: part(section)?,
            shutdown: part(section)?,
        })
    }

    /// Checks values that depend on each other.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the key.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.tls.check()?;
        self.addresses.check()
    }
}

/// Reads the keys of one part. `#[serde(flatten)]` would read all parts at once, but its errors do not name the key.
fn part<T: DeserializeOwned>(section: &Table) -> Result<T, toml::de::Error> {
    #[derive(Deserialize)]
    struct Section<T> {
        server: T,
    }
    let table = Table::from_iter([("server".to_owned(), Value::Table(section.clone()))]);
    table.try_into().map(|Section { server }| server)
}

/// An error about a key of this section.
fn invalid(key: &str, problem: impl std::fmt::Display) -> Error {
    Error::invalid(format!("server.{key}"), problem)
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};
    use std::time::Duration;

    use super::super::tests::{load, refusal};
    use super::*;

    #[test]
    fn every_key_of_the_defaults_belongs_to_a_part() {
        let defaults: Table = super::super::DEFAULTS.parse().unwrap();
        let Value::Table(section) = &defaults["server"] else { panic!("[server] is a section") };
        ServerConfig::read(section).unwrap();
        for key in section.keys() {
            let mut without = section.clone();
            without.remove(key);
            let error = ServerConfig::read(&without).map(drop).unwrap_err().to_string();
            assert!(error.contains(&format!("missing field `{key}`")), "{key}: {error}");
        }
    }

    #[test]
    fn mistakes_name_the_key() {
        for (lines, named) in [
            ("listen = \"here\"", "server.listen"),
            ("hosts = [\"gateway:8787\"]", "server.hosts"),
            ("hosts = \"gateway\"", "server.hosts"),
            ("cors_origins = [\"https://app.example.com/\"]", "server.cors_origins"),
            ("concurrent_conversions_max = 0", "server.concurrent_conversions_max"),
            ("concurrent_input_conversions_max = 0", "server.concurrent_input_conversions_max"),
            ("input_conversion_timeout_s = 0", "server.input_conversion_timeout_s"),
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
        assert_eq!(server.heartbeats.json_heartbeat, Some(Duration::from_secs(20)));
        assert_eq!((server.bodies.bytes_per_second_min, server.connections.per_address_max), (None, None));
        let server = load("", &[]).unwrap().server;
        assert_eq!(server.heartbeats.json_heartbeat, None);
        assert_eq!(server.bodies.bytes_per_second_min.map(NonZeroU64::get), Some(1024));
        assert_eq!(server.connections.per_address_max.map(NonZeroUsize::get), Some(1000));
    }

    #[test]
    fn proxy_networks_may_be_empty() {
        let networks = |text: &str| {
            load("", &[("GATEWAY_SERVER__PROXY_NETWORKS", text)]).unwrap().server.connections.proxy_networks
        };
        assert!(networks("").is_empty());
        assert_eq!(networks("192.0.2.0/24, 2001:db8::/32").len(), 2);
    }
}
