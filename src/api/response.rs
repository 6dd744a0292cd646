//! From the result of a job to the bytes of a response.

pub(super) mod conversion;
pub(super) mod events;
pub(super) mod headers;
pub(super) mod image_response;
pub(super) mod mode;
pub(super) mod padded_json;
pub(super) mod prediction_object;
pub(super) mod presenter;
pub(super) mod signature;
pub(super) mod status_events;
pub(super) mod streaming;
