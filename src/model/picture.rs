//! Pictures by their first bytes and their last: what a picture is, and whether it is whole.
//!
//! The type of a picture comes from its bytes, never from a declared type or a file name. Nothing here decodes pixels.

use std::fmt;
use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Digest;

mod frames;

/// Random-access bytes: a picture in memory or in a file. Reads may block for as long as a disk does.
pub(crate) trait ByteSource: Send + Sync + fmt::Debug {
    /// Total length in bytes.
    fn size(&self) -> u64;

    /// Reads into `buffer` from `offset`; returns how many bytes were read, 0 only at the end.
    ///
    /// # Errors
    ///
    /// Whatever the storage beneath reports.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The bytes themselves where they already are in memory.
    fn in_memory(&self) -> Option<Bytes> {
        None
    }

    /// The bytes as base64, standard and with padding, where that already is in memory.
    fn base64(&self) -> Option<Bytes> {
        None
    }
}

impl ByteSource for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).map_or(self.len(), |offset| offset.min(self.len()));
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(self.clone())
    }
}

/// Reads `size` bytes at `offset`, fewer only at the end.
///
/// # Errors
///
/// As [`ByteSource::read_at`].
pub(crate) fn read_full(source: &dyn ByteSource, offset: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; size];
    let filled = fill(source, offset, &mut buffer)?;
    buffer.truncate(filled);
    Ok(buffer)
}

/// Fills `buffer` from `offset`; returns how much of it was filled, less than all only at the end.
///
/// # Errors
///
/// As [`ByteSource::read_at`].
pub(crate) fn fill(source: &dyn ByteSource, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The picture formats that travel between client and upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Png,
    Jpeg,
    Webp,
}

impl Format {
    /// The format of a picture that begins with these bytes; twelve of them are enough.
    pub(crate) fn sniff(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if head.starts_with(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if head.len() >= 12 && head.starts_with(b"RIFF") && &head[8..12] == b"WEBP" {
            Some(Self::Webp)
        } else {
            None
        }
    }

    /// The name OpenAI uses in `output_format`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "png" => Some(Self::Png),
            "jpeg" | "jpg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }
}

/// A picture that was looked at: what it is, how large, and which bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    /// `None` for bytes of a type this version does not know, passed on with `server.image_check = "off"`.
    pub(crate) format: Option<Format>,
    /// Width and height in pixels, from the header.
    pub(crate) dimensions: Option<(u32, u32)>,
    /// How many pictures follow each other in it; `None` where its header has no end.
    pub(crate) frames: Option<u32>,
}

/// How much of a picture's head is read for its dimensions. JPEG puts them behind its metadata.
pub(crate) const HEAD_BYTES: usize = 256 * 1024;

/// What a picture says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) format: Option<Format>,
    pub(crate) dimensions: Option<(u32, u32)>,
    pub(crate) frames: Option<u32>,
}

/// Enough of the head for every format but a JPEG with metadata.
const SHORT_HEAD_BYTES: usize = 4096;

/// Reads what a picture says of itself. Costs a few small reads, however large the picture claims to be.
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

/// Why bytes are not a picture one could answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPicture {
    #[error("not a PNG, JPEG or WebP picture")]
    UnknownFormat,
    #[error("the picture ends before its end marker")]
    CutShort,
    #[error("the picture's header has no readable dimensions")]
    NoDimensions,
}

/// Width and height in pixels from the first bytes of a picture.
pub(crate) fn dimensions(head: &[u8]) -> Option<(u32, u32)> {
    let size = imagesize::blob_size(head).ok()?;
    let (width, height) = (u32::try_from(size.width).ok()?, u32::try_from(size.height).ok()?);
    (width > 0 && height > 0).then_some((width, height))
}

/// A picture that is whole: its format, and its width and height in pixels.
pub(crate) type Whole = (Format, (u32, u32));

/// Checks that a picture is whole by its signature and its end: PNG `IEND`, JPEG end-of-image, the RIFF length.
///
/// # Errors
///
/// [`InvalidPicture`], or the error of reading.
pub(crate) fn check_complete(source: &dyn ByteSource) -> io::Result<Result<Whole, InvalidPicture>> {
    let size = source.size();
    let head = read_full(source, 0, usize::try_from(size).unwrap_or(HEAD_BYTES).min(HEAD_BYTES))?;
    let Some(format) = Format::sniff(&head) else {
        return Ok(Err(InvalidPicture::UnknownFormat));
    };
    let tail = read_full(source, size.saturating_sub(TAIL_BYTES as u64), TAIL_BYTES)?;
    let ended = match format {
        Format::Png => tail.ends_with(PNG_END),
        // Some encoders pad after the end-of-image marker.
        Format::Jpeg => tail.windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
        Format::Webp => head.get(4..8).is_some_and(|length| {
            let declared = u64::from(u32::from_le_bytes([length[0], length[1], length[2], length[3]])) + 8;
            declared == size || declared + 1 == size
        }),
    };
    if !ended {
        return Ok(Err(InvalidPicture::CutShort));
    }
    Ok(dimensions(&head).map(|dimensions| (format, dimensions)).ok_or(InvalidPicture::NoDimensions))
}

const TAIL_BYTES: usize = 64;
/// Length 0, type `IEND`, and its checksum.
const PNG_END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(format: image::ImageFormat) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        let pixels = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 7]));
        pixels.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn whole_pictures_pass_and_every_cut_fails() {
        let formats = [
            (image::ImageFormat::Png, Format::Png),
            (image::ImageFormat::Jpeg, Format::Jpeg),
            (image::ImageFormat::WebP, Format::Webp),
        ];
        for (encoder, format) in formats {
            let whole = Bytes::from(encoded(encoder));
            assert_eq!(check_complete(&whole).unwrap(), Ok((format, (40, 30))));
            for cut in 0..whole.len() {
                let part = whole.slice(..cut);
                assert!(check_complete(&part).unwrap().is_err(), "{format:?} cut at {cut} of {}", whole.len());
            }
        }
    }

    #[test]
    fn text_is_not_a_picture() {
        let page = Bytes::from_static(b"<html>not found</html>");
        assert_eq!(check_complete(&page).unwrap(), Err(InvalidPicture::UnknownFormat));
    }
}
