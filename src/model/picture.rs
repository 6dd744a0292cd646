//! Pictures: what their bytes say of them. Declares and exports only.
//!
//! The type of a picture comes from its bytes, never from a declared type or a file name. Nothing here decodes pixels.

mod check;
mod format;
mod frames;
mod header;
mod limits;
mod source;

pub(crate) use check::{InvalidPicture, check_complete};
pub(crate) use format::Format;
#[cfg(test)]
pub(crate) use header::HEAD_BYTES;
pub(crate) use header::{Header, Picture, header};
pub(crate) use limits::{PictureLimits, PictureProblem};
pub(crate) use source::{ByteSource, fill, read_full};
