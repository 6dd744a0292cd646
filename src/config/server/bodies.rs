//! Size, shape and pace of request bodies.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{optional_count, seconds};

/// Limits of request bodies.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BodyConfig {
    #[serde(rename = "body_bytes_max")]
    pub(crate) bytes_max: u64,
    pub(crate) text_bytes_max: usize,
    pub(crate) form_parts_max: usize,
    pub(crate) json_depth_max: u32,
    pub(crate) json_values_max: u32,
    #[serde(rename = "body_idle_timeout_s", deserialize_with = "seconds")]
    pub(crate) idle_timeout: Duration,
    /// `None`: no minimum rate.
    #[serde(rename = "body_bytes_per_second_min", deserialize_with = "optional_count")]
    pub(crate) bytes_per_second_min: Option<NonZeroU64>,
    #[serde(rename = "body_rate_window_s", deserialize_with = "seconds")]
    pub(crate) rate_window: Duration,
    pub(crate) drain_bytes_max: u64,
    #[serde(rename = "drain_timeout_s", deserialize_with = "seconds")]
    pub(crate) drain_timeout: Duration,
}
