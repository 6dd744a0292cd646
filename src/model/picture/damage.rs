//! What is wrong with the structure of a picture.

use std::{fmt, io};

/// The first fault in the structure of a picture; its text is the end of a sentence about the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it is no PNG, JPEG or WebP picture")]
    UnknownFormat,
    /// `size`: of what is there; `at`: where the part begins that is cut.
    #[error("it ends at byte {size}, within what begins at byte {at}")]
    CutShort { size: u64, at: u64 },
    #[error("the checksum of PNG chunk {chunk} at byte {at} is wrong")]
    Checksum { chunk: ChunkName, at: u64 },
    #[error("{what} (at byte {at})")]
    Other { what: &'static str, at: u64 },
}

/// The name of a chunk: four ASCII letters in a PNG.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkName(pub(super) [u8; 4]);

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a check of the structure ended early.
#[derive(Debug)]
pub(super) enum Stop {
    Damage(Damage),
    Io(io::Error),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Returns the end of a check at a fault.
pub(super) fn fault<T>(what: &'static str, at: u64) -> Result<T, Stop> {
    Err(Stop::Damage(Damage::Other { what, at }))
}
