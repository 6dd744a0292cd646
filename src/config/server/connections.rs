//! How many connections clients may open, how long each step of one may take, and the heads of HTTP/1.1.

use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{Error, at_least_a_second, at_least_one, invalid};
use crate::config::{optional_count, seconds};

/// The smallest buffer that the HTTP library takes.
const HEADER_BYTES_MIN: usize = 8192;

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

impl ConnectionConfig {
    pub(super) fn check(&self) -> Result<(), Error> {
        at_least_a_second("header_timeout_s", self.header_timeout)?;
        at_least_a_second("keep_alive_timeout_s", self.keep_alive_timeout)?;
        at_least_a_second("write_timeout_s", self.write_timeout)?;
        if self.header_bytes_max < HEADER_BYTES_MIN {
            return Err(invalid("header_bytes_max", format!("must be at least {HEADER_BYTES_MIN}")));
        }
        at_least_one("headers_max", self.headers_max)
    }
}
