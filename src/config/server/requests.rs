//! What a request may ask for, and which pictures it may contain.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;

use crate::config::seconds;
use crate::model::picture::PictureLimits;

/// Parameters and input pictures.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RequestConfig {
    pub(crate) unsupported_parameters: UnsupportedParameters,
    pub(crate) response_format_default: DefaultResponseFormat,
    pub(crate) image_check: ImageCheck,
    pub(crate) picture_pixels_max: u64,
    pub(crate) picture_side_max: u32,
    pub(crate) picture_frames_max: u32,
}

impl RequestConfig {
    /// Returns the limits of input pictures.
    pub(crate) fn picture_limits(&self) -> PictureLimits {
        PictureLimits {
            known_only: self.image_check == ImageCheck::Strict,
            pixels_max: self.picture_pixels_max,
            side_max: self.picture_side_max,
            frames_max: self.picture_frames_max,
        }
    }
}

/// Conversion of results to the format that a request asks for, and of input pictures to one that can be sent on.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConversionConfig {
    #[serde(rename = "convert_pixels_max")]
    pub(crate) pixels_max: u64,
    #[serde(rename = "concurrent_conversions_max")]
    pub(crate) slots: NonZeroUsize,
    #[serde(rename = "converted_bytes_max")]
    pub(crate) cache_bytes_max: u64,
    pub(crate) input_pixels_max: u64,
    #[serde(rename = "concurrent_input_conversions_max")]
    pub(crate) input_slots: NonZeroUsize,
    /// Of a request: waiting for a slot, and the conversions.
    #[serde(rename = "input_conversion_timeout_s", deserialize_with = "seconds")]
    pub(crate) input_timeout: Duration,
}

/// What happens to a parameter that the model does not support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnsupportedParameters {
    Refuse,
    Drop,
}

/// How pictures travel where a request does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DefaultResponseFormat {
    B64Json,
    Url,
}

/// Whether input pictures must be of a known type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImageCheck {
    Strict,
    Off,
}
