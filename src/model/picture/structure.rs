//! Reads the structure of a picture in one pass over its bytes.
//!
//! Whatever the format can show without its pixels is checked: lengths and order of the parts, the checksums of a PNG's pixels, the
//! markers inside the scans of a JPEG, the frames of a WebP. The orientation is read on the way: EXIF comes before the pixels of a
//! JPEG, and before or behind those of a PNG or WebP. Bytes behind the end are no damage, because every decoder takes
//! them.

use std::io;

use super::damage::{Damage, Stop};
use super::format::Format;
use super::properties::Structure;
use super::source::ByteSource;
use super::window::Window;

mod jpeg;
mod png;
mod webp;

impl Structure {
    /// Reads a source once from its start to the end of the picture. Blocks for as long as a disk takes.
    ///
    /// # Errors
    ///
    /// As [`ByteSource::read_at`].
    pub(crate) fn of(source: &dyn ByteSource) -> io::Result<Self> {
        let mut window = Window::new(source);
        let format = Format::sniff(window.bytes(0, 12)?);
        let mut structure = Self::new(format);
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
}

#[cfg(fuzzing)]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
