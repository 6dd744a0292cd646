//! The temporary store of uploads: hashed and measured as they arrive, small parts in memory, larger ones in an unlinked
//! file. Declares and exports only.
//!
//! Wanted:
//! - All uploads together hold at most `bytes_max` bytes. An upload of known length reserves its space before its first
//!   byte is read, and waits for it in turn; so an upload that has begun can end, and no two block each other. An upload
//!   of unknown length reserves space as it arrives, and is refused at once when none is left.
//! - At most `memory_bytes_max` of these bytes are in memory, buffers included; the rest goes to the file.
//! - An upload costs at most one file descriptor: its parts are ranges of one file.
//! - The space of an upload is released when its last part is dropped; unused space, when the upload is complete.
//!
//! Nothing here survives a restart, and nothing has a name in the file system.

mod error;
mod file;
mod memory;
mod part;
mod space;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use error::SpoolError;
pub(crate) use store::{Spool, SpoolLimits, SpoolStatus, Upload};
