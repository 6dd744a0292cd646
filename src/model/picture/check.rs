//! Whether a picture is complete.

use std::io;

use super::format::Format;
use super::header::{HEAD_BYTES, dimensions};
use super::source::{ByteSource, read_full};

/// Why bytes are not a complete picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPicture {
    #[error("not a PNG, JPEG or WebP picture")]
    UnknownFormat,
    #[error("the picture ends before its end marker")]
    CutShort,
    #[error("the picture's header has no readable dimensions")]
    NoDimensions,
}

/// The format of a picture, and its width and height in pixels.
pub(crate) type FormatAndDimensions = (Format, (u32, u32));

/// Checks that a picture is complete by its signature and its end: PNG `IEND`, JPEG end-of-image, the RIFF length.
///
/// # Errors
///
/// [`InvalidPicture`], or the error of reading.
pub(crate) fn check_complete(source: &dyn ByteSource) -> io::Result<Result<FormatAndDimensions, InvalidPicture>> {
    let size = source.size();
    let head = read_full(source, 0, usize::try_from(size).unwrap_or(HEAD_BYTES).min(HEAD_BYTES))?;
    let Some(format) = Format::sniff(&head) else {
        return Ok(Err(InvalidPicture::UnknownFormat));
    };
    let tail = read_full(source, size.saturating_sub(TAIL_BYTES as u64), TAIL_BYTES)?;
    let ended = match format {
        Format::Png => tail.ends_with(PNG_END),
        // Some encoders add padding after the end-of-image marker.
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
    use bytes::Bytes;

    use super::*;

    fn encoded(format: image::ImageFormat) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        let pixels = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 7]));
        pixels.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn complete_pictures_pass_and_every_truncation_fails() {
        let formats = [
            (image::ImageFormat::Png, Format::Png),
            (image::ImageFormat::Jpeg, Format::Jpeg),
            (image::ImageFormat::WebP, Format::Webp),
        ];
        for (encoder, format) in formats {
            let picture = Bytes::from(encoded(encoder));
            assert_eq!(check_complete(&picture).unwrap(), Ok((format, (40, 30))));
            for cut in 0..picture.len() {
                let part = picture.slice(..cut);
                assert!(check_complete(&part).unwrap().is_err(), "{format:?} cut at {cut} of {}", picture.len());
            }
        }
    }

    #[test]
    fn text_is_not_a_picture() {
        let page = Bytes::from_static(b"<html>not found</html>");
        assert_eq!(check_complete(&page).unwrap(), Err(InvalidPicture::UnknownFormat));
    }
}
