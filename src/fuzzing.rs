//! What the fuzz targets in `tests/fuzz` call: every parser of foreign bytes, with what must hold of it. Compiled for
//! them alone.

pub use crate::api::fuzz::{form, json};
pub use crate::upstream::fuzz::answer;
