//! Bodies as they arrive, and what a client sent in them.

pub(in crate::api) mod form;
pub(in crate::api) mod incoming;
pub(in crate::api) mod json;
pub(in crate::api) mod multipart;

mod blocking;
mod picture_text;
