//! Limits of HTTP/2.

use std::time::Duration;

use serde::Deserialize;

use super::{Error, at_least_a_second, at_least_one, invalid};
use crate::config::seconds;

/// The largest window of HTTP/2 (RFC 9113 §6.9.1).
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// Limits of a connection that speaks HTTP/2.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Http2Config {
    #[serde(rename = "http2_streams_max")]
    pub(crate) streams_max: u32,
    #[serde(rename = "http2_header_bytes_max")]
    pub(crate) header_bytes_max: u32,
    #[serde(rename = "http2_pending_resets_max")]
    pub(crate) pending_resets_max: usize,
    #[serde(rename = "http2_error_resets_max")]
    pub(crate) error_resets_max: usize,
    #[serde(rename = "http2_stream_window_bytes")]
    pub(crate) stream_window_bytes: u32,
    #[serde(rename = "http2_connection_window_bytes")]
    pub(crate) connection_window_bytes: u32,
    #[serde(rename = "http2_send_buffer_bytes")]
    pub(crate) send_buffer_bytes: usize,
    #[serde(rename = "http2_ping_interval_s", deserialize_with = "seconds")]
    pub(crate) ping_interval: Duration,
    #[serde(rename = "http2_ping_timeout_s", deserialize_with = "seconds")]
    pub(crate) ping_timeout: Duration,
}

impl Http2Config {
    pub(super) fn check(&self) -> Result<(), Error> {
        at_least_a_second("http2_ping_interval_s", self.ping_interval)?;
        at_least_a_second("http2_ping_timeout_s", self.ping_timeout)?;
        for (key, bytes) in [
            ("http2_stream_window_bytes", self.stream_window_bytes),
            ("http2_connection_window_bytes", self.connection_window_bytes),
        ] {
            if !(1..=WINDOW_MAX).contains(&bytes) {
                return Err(invalid(key, format!("must be from 1 to {WINDOW_MAX}")));
            }
        }
        at_least_one("http2_streams_max", self.streams_max as usize)?;
        at_least_one("http2_header_bytes_max", self.header_bytes_max as usize)?;
        at_least_one("http2_send_buffer_bytes", self.send_buffer_bytes)
    }
}
