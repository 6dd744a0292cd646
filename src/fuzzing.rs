//! The entry points of the fuzz targets in `tests/fuzz`: one for each parser of foreign bytes, with the properties that must
//! hold. Compiled with `cfg(fuzzing)` only.

pub use crate::api::fuzz::{chat, form, input, json, unpack};
pub use crate::model::picture::fuzz::picture;
pub use crate::upstream::fuzz::answer;
