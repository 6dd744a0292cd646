//! How many connections clients may open, how long each step of one may take, and the heads of HTTP/1.1.

use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::config::{optional_count, seconds};

/// Limits of client connections.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConnectionConfig {
    pub(crate) connections_max: NonZeroUsize,
    /// `None`: no limit for one address.
    #[serde(rename = "connections_per_address_max", deserialize_with = "optional_count")]
    pub(crate) per_address_max: Option<NonZeroUsize>,
    pub(crate) proxy_networks: Vec<IpNet>,
    #[serde(rename = "header_timeout_s", deserialize_with = "seconds")]
    pub(crate) header_timeout: Duration,
    #[serde(rename = "keep_alive_timeout_s", deserialize_with = "seconds")]
    pub(crate) keep_alive_timeout: Duration,
    #[serde(rename = "write_timeout_s", deserialize_with = "seconds")]
    pub(crate) write_timeout: Duration,
    pub(crate) headers_max: usize,
    pub(crate) header_bytes_max: usize,
}
