//! Converts a stored picture to the format that a client asked for. The purchase is not affected: the stored picture stays
//! as it came, and a copy is made for the response.
//!
//! - The size is checked first: the header gives the number of pixels before any is decoded.
//! - Transparency becomes white in JPEG, which has none.
//! - `output_compression` is the quality of JPEG and of lossy WebP, 100 by default; PNG has none.
//! - An RGB colour profile is kept, in every format; profiles of other colour spaces are dropped.
//! - A camera's orientation is applied. EXIF and other metadata (provenance marks, too) are not copied.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage};
use img_parts::ImageICC;
use img_parts::webp::WebP;

use crate::api::request::parse::inputs::encoding::{image_format, is_rgb, with_profile};
use crate::api::request::response_options::Conversion;
use crate::model::Format;

/// A picture that was encoded anew.
#[derive(Clone, Debug)]
pub(crate) struct Converted {
    pub(crate) bytes: Bytes,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Why a picture was not converted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConversionError {
    #[error("{width}x{height} pixels are more than the {pixels_max} that are converted")]
    TooLarge { width: u32, height: u32, pixels_max: u64 },
    #[error("it cannot be decoded: {0}")]
    Undecodable(ImageError),
    #[error("it cannot be encoded: {0}")]
    Unencodable(ImageError),
    #[error("it cannot be encoded as WebP: {0:?}")]
    Webp(webp::WebPEncodingError),
    #[error("its colour profile cannot be written: {0}")]
    Profile(img_parts::Error),
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Largest size of a decoded pixel, in bytes: four channels of 16 bits.
const PIXEL_BYTES_MAX: u64 = 8;

/// A decoded picture that is upright, and its colour profile, if that is of RGB.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) picture: DynamicImage,
    pub(super) profile: Option<Vec<u8>>,
}

/// Decodes a picture and encodes it anew. Blocks for a time in proportion to its pixels.
///
/// # Errors
///
/// [`ConversionError`]; the picture itself may still be valid.
pub(crate) fn convert(
    bytes: &[u8],
    from: Format,
    conversion: Conversion,
    pixels_max: u64,
) -> Result<Converted, ConversionError> {
    let Decoded { picture, profile } = decode(bytes, from, pixels_max)?;
    let (width, height) = (picture.width(), picture.height());
    let bytes = match conversion.format {
        Format::Png => png(&picture, profile)?,
        Format::Jpeg => jpeg(&flattened(picture), profile, conversion.quality())?,
        Format::Webp => webp(picture, profile, conversion.quality())?,
    };
    Ok(Converted { bytes, width, height })
}

/// Decodes a picture and makes it upright. Blocks for a time in proportion to its pixels.
///
/// # Errors
///
/// [`ConversionError`]; the number of pixels is looked at before any is decoded.
pub(super) fn decode(bytes: &[u8], from: Format, pixels_max: u64) -> Result<Decoded, ConversionError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), image_format(from));
    // Bounds what decoders allocate besides the pixels, which are counted below.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(pixels_max.saturating_mul(PIXEL_BYTES_MAX));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(ConversionError::Undecodable)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(ConversionError::TooLarge { width, height, pixels_max });
    }
    // Unreadable metadata does not prevent a conversion.
    let profile = decoder.icc_profile().ok().flatten().filter(|profile| is_rgb(profile));
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(ConversionError::Undecodable)?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    // Grey pictures need a profile of another kind.
    let profile = profile.filter(|_| picture.color().has_color());
    Ok(Decoded { picture, profile })
}

/// Removes the transparency, over white.
fn flattened(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    let over_white = |colour: u8, alpha: u8| {
        let (colour, alpha) = (u16::from(colour), u16::from(alpha));
        // At most 255 * 255 + 127, which fits.
        let blended = (colour * alpha + 255 * (255 - alpha) + 127) / 255;
        u8::try_from(blended).unwrap_or(u8::MAX)
    };
    let mut flat = RgbImage::new(picture.width(), picture.height());
    for (to, from) in flat.pixels_mut().zip(picture.pixels()) {
        let [red, green, blue, alpha] = from.0;
        to.0 = [red, green, blue].map(|colour| over_white(colour, alpha));
    }
    flat
}

fn png(picture: &DynamicImage, profile: Option<Vec<u8>>) -> Result<Bytes, ConversionError> {
    let mut bytes = Vec::new();
    let encoder = with_profile(PngEncoder::new(&mut bytes), profile).map_err(ConversionError::Unencodable)?;
    picture.write_with_encoder(encoder).map_err(ConversionError::Unencodable)?;
    Ok(bytes.into())
}

fn jpeg(picture: &RgbImage, profile: Option<Vec<u8>>, quality: u8) -> Result<Bytes, ConversionError> {
    let mut bytes = Vec::new();
    // The encoder has no quality 0.
    let encoder = JpegEncoder::new_with_quality(&mut bytes, quality.max(1));
    let encoder = with_profile(encoder, profile).map_err(ConversionError::Unencodable)?;
    picture.write_with_encoder(encoder).map_err(ConversionError::Unencodable)?;
    Ok(bytes.into())
}

pub(super) fn webp(picture: DynamicImage, profile: Option<Vec<u8>>, quality: u8) -> Result<Bytes, ConversionError> {
    let (width, height) = (picture.width(), picture.height());
    let quality = f32::from(quality);
    let encoded = if picture.color().has_alpha() {
        let pixels = picture.into_rgba8();
        webp::Encoder::from_rgba(&pixels, width, height).encode_simple(false, quality)
    } else {
        let pixels = picture.into_rgb8();
        webp::Encoder::from_rgb(&pixels, width, height).encode_simple(false, quality)
    };
    let bytes = Bytes::copy_from_slice(&encoded.map_err(ConversionError::Webp)?);
    let Some(profile) = profile else { return Ok(bytes) };
    let mut container = WebP::from_bytes(bytes).map_err(ConversionError::Profile)?;
    container.set_icc_profile(Some(profile.into()));
    Ok(container.encoder().bytes())
}

#[cfg(test)]
mod tests;
