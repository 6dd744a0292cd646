//! A stored picture in the format that a client asked for. The purchase knows nothing of it: what was paid for stays as
//! it came, and a copy is made for the answer.
//!
//! - Size first: the header says how many pixels there are, before any is decoded.
//! - Transparency becomes white in JPEG, which has none.
//! - `output_compression` is the quality of JPEG and of lossy WebP, 100 where nothing is said; PNG has no such choice.
//! - An RGB colour profile is kept, in every format; profiles of other colour spaces go with their colour space.
//! - A camera's orientation is applied. EXIF and other notes (provenance marks, too) stay behind in the original.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use img_parts::ImageICC;
use img_parts::webp::WebP;
use serde::{Deserialize, Serialize};

use crate::model::Format;

/// What pictures are to be, as a client asked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Conversion {
    pub(super) format: Format,
    /// Quality of JPEG and WebP, 0 to 99; `None` is 100.
    pub(super) compression: Option<u8>,
}

impl Conversion {
    pub(super) fn new(format: Format, compression: Option<u8>) -> Self {
        Self { format, compression: compression.filter(|&compression| compression < 100) }
    }

    /// Whether a picture of this format can be delivered as it is.
    pub(super) fn is_met_by(self, format: Format) -> bool {
        self.format == format && self.compression.is_none()
    }

    fn quality(self) -> u8 {
        self.compression.unwrap_or(100)
    }
}

/// A picture that was encoded anew.
#[derive(Clone, Debug)]
pub(super) struct Converted {
    pub(super) bytes: Bytes,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Why a picture stays as it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConversionError {
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

/// The most bytes that one decoded pixel takes: four channels of 16 bits.
const PIXEL_BYTES_MAX: u64 = 8;

/// Decodes a picture and encodes it anew. Takes as long as its pixels do.
///
/// # Errors
///
/// [`ConversionError`]; the picture itself may be fine all the same.
pub(super) fn convert(
    bytes: &[u8],
    from: Format,
    conversion: Conversion,
    pixels_max: u64,
) -> Result<Converted, ConversionError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), image_format(from));
    // For what decoders keep besides the pixels; these are counted below.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(pixels_max.saturating_mul(PIXEL_BYTES_MAX));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(ConversionError::Undecodable)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > pixels_max {
        return Err(ConversionError::TooLarge { width, height, pixels_max });
    }
    // Notes that cannot be read are no reason to keep a picture back.
    let profile = decoder.icc_profile().ok().flatten().filter(|profile| is_rgb(profile));
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(ConversionError::Undecodable)?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    // Greys have profiles of their own kind.
    let profile = profile.filter(|_| picture.color().has_color());
    let (width, height) = (picture.width(), picture.height());
    let bytes = match conversion.format {
        Format::Png => png(&picture, profile)?,
        Format::Jpeg => jpeg(&flattened(picture), profile, conversion.quality())?,
        Format::Webp => webp(picture, profile, conversion.quality())?,
    };
    Ok(Converted { bytes, width, height })
}

fn image_format(format: Format) -> ImageFormat {
    match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Webp => ImageFormat::WebP,
    }
}

/// Whether a profile describes RGB: bytes 16 to 20 name its colour space (ICC.1:2022 §7.2).
fn is_rgb(profile: &[u8]) -> bool {
    profile.get(16..20) == Some(b"RGB ")
}

/// Without transparency, on white.
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
    let encoder = with_profile(PngEncoder::new(&mut bytes), profile)?;
    picture.write_with_encoder(encoder).map_err(ConversionError::Unencodable)?;
    Ok(bytes.into())
}

fn jpeg(picture: &RgbImage, profile: Option<Vec<u8>>, quality: u8) -> Result<Bytes, ConversionError> {
    let mut bytes = Vec::new();
    // This encoder knows no quality 0.
    let encoder = with_profile(JpegEncoder::new_with_quality(&mut bytes, quality.max(1)), profile)?;
    picture.write_with_encoder(encoder).map_err(ConversionError::Unencodable)?;
    Ok(bytes.into())
}

/// An encoder that writes this colour profile.
fn with_profile<E: ImageEncoder>(mut encoder: E, profile: Option<Vec<u8>>) -> Result<E, ConversionError> {
    if let Some(profile) = profile {
        encoder
            .set_icc_profile(profile)
            .map_err(|error| ConversionError::Unencodable(ImageError::Unsupported(error)))?;
    }
    Ok(encoder)
}

fn webp(picture: DynamicImage, profile: Option<Vec<u8>>, quality: u8) -> Result<Bytes, ConversionError> {
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
