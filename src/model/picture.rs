//! Pictures: what their bytes say of them. Declares and exports only.
//!
//! The type of a picture comes from its bytes, never from a declared type or a file name. Nothing here decodes pixels.

mod damage;
mod format;
mod jpeg;
mod limits;
mod png;
mod properties;
mod source;
mod structure;
#[cfg(test)]
pub(crate) mod test_support;
mod webp;
mod window;

pub(crate) use format::Format;
pub(crate) use limits::{InvalidPicture, PictureLimits, PictureProblem, check_complete};
pub(crate) use properties::{Picture, Structure};
pub(crate) use source::{ByteSource, fill, read_full};
#[cfg(fuzzing)]
pub(crate) use structure::fuzz;
#[cfg(test)]
pub(crate) use window::WINDOW_BYTES;
