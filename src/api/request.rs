//! From the bytes of a request to a valid request for the engine.

pub(super) mod available_models;
pub(super) mod body;
pub(super) mod context;
pub(super) mod parse;
pub(super) mod prefer;
pub(super) mod response_deadline;
pub(super) mod response_options;
pub(super) mod validate;

#[cfg(test)]
pub(super) mod test_support;
