//! The properties of a picture, as its bytes say.

use super::damage::Damage;
use super::format::Format;
use crate::model::ids::Digest;

/// The properties of a picture whose structure has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) structure: Structure,
}

/// What the bytes of a picture say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Structure {
    /// `None` for an unknown format, which is passed on with `server.image_check = "off"`.
    pub(crate) format: Option<Format>,
    /// Width and height in pixels, from the header.
    pub(crate) dimensions: Option<(u32, u32)>,
    /// Number of frames, more than one when animated.
    pub(crate) frames: u32,
    /// `None` for a picture that is complete.
    pub(crate) damage: Option<Damage>,
}

impl Structure {
    /// Sets the dimensions; returns whether there are any.
    pub(super) fn set_dimensions(&mut self, width: u32, height: u32) -> bool {
        let exist = width > 0 && height > 0;
        self.dimensions = exist.then_some((width, height));
        exist
    }
}
