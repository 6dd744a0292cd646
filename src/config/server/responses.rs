//! How long a response may take, and how a waiting client is kept informed.

use std::time::Duration;

use serde::Deserialize;

use crate::config::{millis, optional_seconds, seconds};

/// How long requests may wait for a response, and how many of them.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ResponseConfig {
    #[serde(rename = "response_timeout_s", deserialize_with = "seconds")]
    pub(crate) timeout: Duration,
    #[serde(rename = "response_timeout_margin_ms", deserialize_with = "millis")]
    pub(crate) timeout_margin: Duration,
    #[serde(rename = "streamed_response_timeout_s", deserialize_with = "seconds")]
    pub(crate) streamed_timeout: Duration,
    #[serde(rename = "async_start_timeout_s", deserialize_with = "seconds")]
    pub(crate) async_start_timeout: Duration,
    pub(crate) waiters_max: usize,
}

/// What a client receives while it waits.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HeartbeatConfig {
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
}

/// Which clients receive `102 Processing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InterimResponses {
    Off,
    KnownClients,
}
