//! Encodes pictures as PNG, with their colour profile. Results share what concerns profiles.

use std::io::{self, Write};

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageEncoder, ImageError, ImageFormat, ImageResult};

use crate::model::Format;

/// Returns the name that the decoders have for a format.
pub(crate) fn image_format(format: Format) -> ImageFormat {
    match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Webp => ImageFormat::WebP,
    }
}

/// Whether a profile describes RGB: bytes 16 to 20 name its colour space (ICC.1:2022 §7.2).
pub(crate) fn is_rgb(profile: &[u8]) -> bool {
    profile.get(16..20) == Some(b"RGB ")
}

/// Makes an encoder write this colour profile.
///
/// # Errors
///
/// When its format has none.
pub(crate) fn with_profile<E: ImageEncoder>(mut encoder: E, profile: Option<Vec<u8>>) -> ImageResult<E> {
    if let Some(profile) = profile {
        encoder.set_icc_profile(profile).map_err(ImageError::Unsupported)?;
    }
    Ok(encoder)
}

/// Passes what is written on.
struct Chunks<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<()>> Write for Chunks<F> {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        (self.0)(chunk)?;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Encodes a picture as PNG, and hands its bytes on as they are made.
///
/// # Errors
///
/// Those of the encoder and of `take`.
pub(super) fn write_png(
    picture: &DynamicImage,
    profile: Option<Vec<u8>>,
    take: impl FnMut(&[u8]) -> io::Result<()>,
) -> ImageResult<()> {
    picture.write_with_encoder(with_profile(PngEncoder::new(Chunks(take)), profile)?)
}
