//! The properties of a picture, as its bytes say.

use super::damage::Damage;
use super::format::Format;
use super::orientation::Orientation;
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
    /// Width and height of the stored pixels, from the header.
    pub(crate) dimensions: Option<(u32, u32)>,
    /// By EXIF; upright where it says nothing.
    pub(crate) orientation: Orientation,
    pub(crate) transparency: Transparency,
    /// Number of frames, more than one when animated.
    pub(crate) frames: u32,
    /// `None` for a picture that is complete.
    pub(crate) damage: Option<Damage>,
}

/// Whether a picture can have transparent pixels, or has them. Read of PNG only, the format of masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transparency {
    Unknown,
    /// All pixels are opaque.
    Absent,
    /// The header allows it.
    Possible,
}

impl Structure {
    /// Returns the structure of which only the format is known.
    pub(crate) fn new(format: Option<Format>) -> Self {
        Self {
            format,
            dimensions: None,
            orientation: Orientation::UPRIGHT,
            transparency: Transparency::Unknown,
            frames: 1,
            damage: None,
        }
    }

    /// Returns width and height as they are seen, with the picture turned as EXIF says.
    pub(crate) fn upright_dimensions(&self) -> Option<(u32, u32)> {
        let (width, height) = self.dimensions?;
        Some(if self.orientation.swaps_sides() { (height, width) } else { (width, height) })
    }

    /// Sets the dimensions; returns whether there are any.
    pub(super) fn set_dimensions(&mut self, width: u32, height: u32) -> bool {
        let exist = width > 0 && height > 0;
        self.dimensions = exist.then_some((width, height));
        exist
    }
}
