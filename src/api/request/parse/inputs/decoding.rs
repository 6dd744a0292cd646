//! Decodes an input picture, upright and within limits. Everything here blocks.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage};

use super::container::{self, Container, ContainerProblem};
use super::encoding::{image_format, is_rgb};
use crate::model::Format;
use crate::model::picture::{ConvertibleFormat, Orientation, PictureLimits, PictureProblem};

/// What decodes a picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    from: From,
    pixels_max: u64,
    /// Of a mask, only what is transparent counts.
    keeps_colours: bool,
}

#[derive(Clone, Copy, Debug)]
enum From {
    /// A format that is sent on as it is, unless it has to be made upright.
    Known(Format, Orientation),
    Other(ConvertibleFormat),
}

/// A picture that is upright, and its colour profile, if that is of RGB.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) picture: DynamicImage,
    pub(super) profile: Option<Vec<u8>>,
}

/// Why a picture was not decoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error(transparent)]
    Limit(PictureProblem),
    #[error("{width}x{height} pixels are more than the {pixels_max} that are converted")]
    TooManyPixels { width: u32, height: u32, pixels_max: u64 },
    #[error("the decoder needs more memory than that of {pixels_max} usual pixels")]
    TooMuchMemory { pixels_max: u64 },
    #[error("it is an animation")]
    Animated,
    /// The text ends a sentence that names the format.
    #[error("it is one {0}")]
    Rare(&'static str),
    #[error("the decoder refuses it: {0}")]
    Broken(String),
}

/// Largest size of a decoded pixel, in bytes: four channels of 16 bits.
const PIXEL_BYTES_MAX: u64 = 8;
/// What decoders allocate besides the pixels, for tables and the like.
const TABLES_BYTES_MAX: u64 = 1 << 20;

/// Returns the error for what a decoder says.
fn broken(error: impl std::fmt::Display) -> DecodeError {
    DecodeError::Broken(error.to_string())
}

impl Decoder {
    /// The decoder of a format that is converted, for at most this number of pixels.
    pub(super) fn of(format: ConvertibleFormat, pixels_max: u64) -> Self {
        Self { from: From::Other(format), pixels_max, keeps_colours: true }
    }

    /// The decoder of a PNG, JPEG or WebP with an orientation.
    pub(super) fn of_known(format: Format, orientation: Orientation, pixels_max: u64) -> Self {
        Self { from: From::Known(format, orientation), pixels_max, keeps_colours: true }
    }

    /// Makes the picture black and keeps its transparency, so that a PNG of it is not larger than the one that was sent.
    pub(super) fn without_colours(self) -> Self {
        Self { keeps_colours: false, ..self }
    }

    pub(super) fn is_for(self, format: Format) -> bool {
        matches!(self.from, From::Known(known, _) if known == format)
    }

    /// Returns the name of the format, for messages and metrics.
    pub(super) fn name(self) -> &'static str {
        match self.from {
            From::Known(Format::Png, _) => "PNG",
            From::Known(Format::Jpeg, _) => "JPEG",
            From::Known(Format::Webp, _) => "WebP",
            From::Other(ConvertibleFormat::Gif) => "GIF",
            From::Other(ConvertibleFormat::Bmp) => "BMP",
            From::Other(ConvertibleFormat::Tiff) => "TIFF",
            From::Other(ConvertibleFormat::Heic) => "HEIC",
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self.from {
            From::Known(format, _) => format.media_type(),
            From::Other(format) => format.media_type(),
        }
    }

    /// Returns why a picture of a known format has to be converted, as the end of a clause.
    pub(super) fn reason(self) -> &'static str {
        match self.from {
            From::Known(..) => " that EXIF turns and that has a mask",
            From::Other(_) => "",
        }
    }

    /// Decodes a picture.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the limits are looked at before any pixel is decoded.
    pub(super) fn decode(self, bytes: &[u8], limits: &PictureLimits) -> Result<Decoded, DecodeError> {
        match self.from {
            From::Known(format, orientation) => self.with_image(bytes, image_format(format), Some(orientation), limits),
            From::Other(ConvertibleFormat::Gif) if is_animated(bytes) => Err(DecodeError::Animated),
            From::Other(ConvertibleFormat::Gif) => self.with_image(bytes, ImageFormat::Gif, None, limits),
            From::Other(ConvertibleFormat::Bmp) => self.with_image(bytes, ImageFormat::Bmp, None, limits),
            From::Other(ConvertibleFormat::Tiff) => self.with_image(bytes, ImageFormat::Tiff, None, limits),
            From::Other(ConvertibleFormat::Heic) => self.heic(bytes, limits),
        }
    }

    /// Decodes what the `image` crate can. Without an orientation, the one of the decoder counts.
    fn with_image(
        self,
        bytes: &[u8],
        format: ImageFormat,
        orientation: Option<Orientation>,
        limits: &PictureLimits,
    ) -> Result<Decoded, DecodeError> {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut allocations = Limits::no_limits();
        allocations.max_alloc = Some(self.pixels_max.saturating_mul(PIXEL_BYTES_MAX).saturating_add(TABLES_BYTES_MAX));
        reader.limits(allocations);
        let mut decoder = reader.into_decoder().map_err(|error| self.image_error(error))?;
        self.check(decoder.dimensions(), limits)?;
        // Unreadable metadata does not prevent a conversion.
        let profile = decoder.icc_profile().ok().flatten().filter(|profile| is_rgb(profile));
        let orientation = match orientation {
            Some(orientation) => image::metadata::Orientation::from_exif(orientation.number()),
            None => decoder.orientation().ok(),
        };
        let picture = DynamicImage::from_decoder(decoder).map_err(|error| self.image_error(error))?;
        let mut picture = without_floats(picture);
        if let Some(orientation) = orientation {
            picture.apply_orientation(orientation);
        }
        if !self.keeps_colours {
            let mut black = picture.into_rgba8();
            black.pixels_mut().for_each(|pixel| pixel.0[..3].fill(0));
            return Ok(Decoded { picture: black.into(), profile: None });
        }
        // Grey pictures need a profile of another kind.
        let profile = profile.filter(|_| picture.color().has_color());
        Ok(Decoded { picture, profile })
    }

    /// Decodes a HEIC. It says itself how it is turned, and the decoder obeys; its EXIF says the same once more.
    fn heic(self, bytes: &[u8], limits: &PictureLimits) -> Result<Decoded, DecodeError> {
        let Container { dimensions, pixels, profile } =
            container::check(bytes, self.pixels_max).map_err(|problem| self.container_error(problem))?;
        self.check(dimensions, limits)?;
        // 0 would stand for the decoder's own default.
        let options = heifer::Options { max_threads: 1, max_pixels: pixels.max(1) };
        let heifer::Image { width, height, has_alpha, mut data, .. } =
            heifer::decode_rgba8(bytes, &options).map_err(broken)?;
        let picture = if has_alpha {
            RgbaImage::from_raw(width, height, data).map(DynamicImage::from)
        } else {
            // In place: a second copy would be as large as the picture.
            let pixels = data.len() / 4;
            for pixel in 1..pixels {
                data.copy_within(4 * pixel..4 * pixel + 3, 3 * pixel);
            }
            data.truncate(3 * pixels);
            RgbImage::from_raw(width, height, data).map(DynamicImage::from)
        };
        let picture = picture.ok_or_else(|| broken("pixels are missing"))?;
        Ok(Decoded { picture, profile: profile.filter(|profile| is_rgb(profile)) })
    }

    fn image_error(self, error: ImageError) -> DecodeError {
        if matches!(error, ImageError::Limits(_)) {
            return DecodeError::TooMuchMemory { pixels_max: self.pixels_max };
        }
        broken(error)
    }

    fn container_error(self, problem: ContainerProblem) -> DecodeError {
        match problem {
            ContainerProblem::Broken(problem) => DecodeError::Broken(problem),
            ContainerProblem::Rare(kind) => DecodeError::Rare(kind),
            ContainerProblem::TooManyPixels { width, height } => {
                DecodeError::TooManyPixels { width, height, pixels_max: self.pixels_max }
            }
        }
    }

    /// Checks the size that a header claims.
    fn check(self, (width, height): (u32, u32), limits: &PictureLimits) -> Result<(), DecodeError> {
        limits.check_header((width, height), 1).map_err(DecodeError::Limit)?;
        if u64::from(width) * u64::from(height) > self.pixels_max {
            return Err(DecodeError::TooManyPixels { width, height, pixels_max: self.pixels_max });
        }
        Ok(())
    }
}

impl Decoded {
    /// Whether no pixel is transparent, not even in part.
    pub(super) fn is_opaque(&self) -> bool {
        let Self { picture, .. } = self;
        if let Some(picture) = picture.as_rgba8() {
            return picture.pixels().all(|pixel| pixel.0[3] == u8::MAX);
        }
        if let Some(picture) = picture.as_luma_alpha8() {
            return picture.pixels().all(|pixel| pixel.0[1] == u8::MAX);
        }
        // Of 16 bits; those are rare.
        !picture.color().has_alpha() || picture.to_rgba16().pixels().all(|pixel| pixel.0[3] == u16::MAX)
    }
}

/// Makes samples of 16 bits of floating-point ones, which PNG has not.
fn without_floats(picture: DynamicImage) -> DynamicImage {
    if picture.as_rgb32f().is_some() {
        picture.into_rgb16().into()
    } else if picture.as_rgba32f().is_some() {
        picture.into_rgba16().into()
    } else {
        picture
    }
}

/// Whether a GIF has a second frame. Nothing is decoded: its blocks have lengths.
fn is_animated(gif: &[u8]) -> bool {
    let byte = |at: usize| gif.get(at).copied();
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    // Passes over blocks that begin with their length, up to the empty one.
    let blocks = |mut at: usize| {
        while let Some(length) = byte(at) {
            at += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
        at
    };
    let mut at = 13 + table(byte(10).unwrap_or(0));
    let mut frames = 0;
    while let Some(block) = byte(at) {
        at = match block {
            0x21 => blocks(at + 2),
            0x2c if frames == 1 => return true,
            0x2c => {
                frames = 1;
                blocks(at + 11 + table(byte(at + 9).unwrap_or(0)))
            }
            _ => return false,
        };
    }
    false
}
