//! How long a shutdown may take.

use std::time::Duration;

use serde::Deserialize;

use crate::config::seconds;

/// The two stages of a shutdown.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ShutdownConfig {
    #[serde(rename = "shutdown_delay_s", deserialize_with = "seconds")]
    pub(crate) delay: Duration,
    #[serde(rename = "shutdown_grace_s", deserialize_with = "seconds")]
    pub(crate) grace: Duration,
}
