//! From the result of a job to the bytes of a response.

pub(super) mod cache_headers;
pub(super) mod converter;
pub(super) mod events;
pub(super) mod image_response;
pub(super) mod mode;
pub(super) mod padded_json;
pub(super) mod prediction_object;
pub(super) mod signature;
pub(super) mod status_events;
pub(super) mod streaming;
