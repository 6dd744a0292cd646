//! The entry points of the fuzz targets in `tests/fuzz`: one for each parser of foreign bytes, with the properties that must
//! hold. Compiled with `cfg(fuzzing)` only.

pub use crate::api::fuzz::{form, json};
pub use crate::upstream::fuzz::answer;
