//! Pictures: what their bytes say of them. Declares and exports only.
//!
//! The type of a picture comes from its bytes, never from a declared type or a file name. Nothing here decodes pixels.

mod damage;
mod file_kind;
mod format;
mod limits;
mod orientation;
mod properties;
mod source;
mod structure;
#[cfg(test)]
pub(crate) mod test_support;
mod window;

pub(crate) use file_kind::{ConvertibleFormat, FileKind, HEAD_BYTES};
pub(crate) use format::Format;
pub(crate) use limits::{InvalidPicture, PictureLimits, PictureProblem, check_complete};
pub(crate) use orientation::Orientation;
pub(crate) use properties::{Picture, Structure, Transparency};
pub(crate) use source::{ByteSource, fill, read_full, read_whole};
#[cfg(fuzzing)]
pub(crate) use structure::fuzz;
#[cfg(test)]
pub(crate) use window::WINDOW_BYTES;
