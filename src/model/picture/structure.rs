//! The structure of a picture, in one pass over its bytes: format, dimensions, number of frames, and the first damage.
//!
//! Whatever the format can show without its pixels is checked: lengths and order of the parts, the checksums of a PNG, the
//! markers inside the scans of a JPEG, the frames of a WebP. Bytes behind the end are no damage, because every decoder takes
//! them.

use std::io;

use super::damage::{Damage, Stop};
use super::format::Format;
use super::source::ByteSource;
use super::window::Window;
use super::{jpeg, png, webp};
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
    /// Reads a source once from its start to the end of the picture. Blocks for as long as a disk takes.
    ///
    /// # Errors
    ///
    /// As [`ByteSource::read_at`].
    pub(crate) fn of(source: &dyn ByteSource) -> io::Result<Self> {
        let mut window = Window::new(source);
        let format = Format::sniff(window.bytes(0, 12)?);
        let mut structure = Self { format, dimensions: None, frames: 1, damage: None };
        let walked = match format {
            None => Err(Damage::UnknownFormat.into()),
            Some(Format::Png) => png::walk(&mut window, &mut structure),
            Some(Format::Jpeg) => jpeg::walk(&mut window, &mut structure),
            Some(Format::Webp) => webp::walk(&mut window, &mut structure),
        };
        match walked {
            Ok(()) => {}
            Err(Stop::Damage(damage)) => structure.damage = Some(damage),
            Err(Stop::Io(error)) => return Err(error),
        }
        Ok(structure)
    }

    /// Sets the dimensions; returns whether there are any.
    pub(super) fn set_dimensions(&mut self, width: u32, height: u32) -> bool {
        let exist = width > 0 && height > 0;
        self.dimensions = exist.then_some((width, height));
        exist
    }
}

#[cfg(fuzzing)]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
