//! What a request must look like to be accepted: fields, input pictures, models, limits, and how it is refused.

pub(super) mod edge;
pub(super) mod errors;
pub(super) mod fields;
pub(super) mod inputs;
pub(super) mod json;
pub(super) mod limits;
pub(super) mod models;
pub(super) mod request;
pub(super) mod values;
