//! The header of a picture: format, dimensions, number of frames.

use std::io;

use super::format::Format;
use super::frames;
use super::source::{ByteSource, read_full};
use crate::model::ids::Digest;

/// The properties of a picture whose header has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    /// `None` for an unknown format, which is passed on with `server.image_check = "off"`.
    pub(crate) format: Option<Format>,
    /// Width and height in pixels, from the header.
    pub(crate) dimensions: Option<(u32, u32)>,
    /// Number of frames, more than one when animated; `None` when the end of the header was not found.
    pub(crate) frames: Option<u32>,
}

/// Bytes that are read for the dimensions. In a JPEG they follow the metadata.
pub(crate) const HEAD_BYTES: usize = 256 * 1024;

/// What the header of a picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) format: Option<Format>,
    pub(crate) dimensions: Option<(u32, u32)>,
    pub(crate) frames: Option<u32>,
}

/// Bytes that suffice for every format but a JPEG with metadata.
const SHORT_HEAD_BYTES: usize = 4096;

/// Reads the header of a picture, in a few small reads whatever its declared dimensions.
///
/// # Errors
///
/// As [`ByteSource::read_at`].
pub(crate) fn header(source: &dyn ByteSource) -> io::Result<Header> {
    let size = usize::try_from(source.size()).unwrap_or(usize::MAX);
    let mut head = read_full(source, 0, size.min(SHORT_HEAD_BYTES))?;
    let format = Format::sniff(&head);
    let mut found = dimensions(&head);
    if found.is_none() && format == Some(Format::Jpeg) && size > head.len() {
        head = read_full(source, 0, size.min(HEAD_BYTES))?;
        found = dimensions(&head);
    }
    let frames = match format {
        Some(format) => frames::count(source, format)?,
        None => Some(1),
    };
    Ok(Header { format, dimensions: found, frames })
}

/// Returns width and height in pixels from the first bytes of a picture.
pub(super) fn dimensions(head: &[u8]) -> Option<(u32, u32)> {
    let size = imagesize::blob_size(head).ok()?;
    let (width, height) = (u32::try_from(size.width).ok()?, u32::try_from(size.height).ok()?);
    (width > 0 && height > 0).then_some((width, height))
}
