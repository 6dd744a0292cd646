//! Limits of HTTP/2.

use std::time::Duration;

use serde::Deserialize;

use crate::config::seconds;

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
