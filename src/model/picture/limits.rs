//! Whether an input picture may be sent on, and whether one from the upstream may be delivered.

use std::io;

use super::damage::Damage;
use super::format::Format;
use super::properties::{Picture, Structure, Transparency};
use super::source::ByteSource;

/// The longest side of a picture from the upstream, in pixels: eight times that of the largest picture that a model makes.
const RESULT_SIDE_MAX: u32 = 32_768;
/// The largest area of a picture from the upstream, in pixels: 32 times that of the largest picture that a model makes.
const RESULT_PIXELS_MAX: u64 = 1 << 28;

/// Why bytes from the upstream are no picture that can be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPicture {
    #[error("the picture is damaged: {0}")]
    Damaged(Damage),
    #[error("the picture is {width}x{height} pixels by its header, which no model makes")]
    TooLarge { width: u32, height: u32 },
}

/// The format of a picture, and its width and height in pixels.
pub(crate) type FormatAndDimensions = (Format, (u32, u32));

/// Checks that a picture from the upstream is complete, and that a model can have made it.
///
/// # Errors
///
/// [`InvalidPicture`], or the error of reading.
pub(crate) fn check_complete(source: &dyn ByteSource) -> io::Result<Result<FormatAndDimensions, InvalidPicture>> {
    let Structure { format, dimensions, damage, .. } = Structure::of(source)?;
    if let Some((width, height)) = dimensions
        && (width.max(height) > RESULT_SIDE_MAX || u64::from(width) * u64::from(height) > RESULT_PIXELS_MAX)
    {
        return Ok(Err(InvalidPicture::TooLarge { width, height }));
    }
    match (format.zip(dimensions), damage) {
        (Some(complete), None) => Ok(Ok(complete)),
        (_, damage) => Ok(Err(InvalidPicture::Damaged(damage.unwrap_or(Damage::UnknownFormat)))),
    }
}

/// The limits of input pictures, beside those of their model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PictureLimits {
    /// A picture of an unknown format is refused, not passed on unseen.
    pub(crate) known_only: bool,
    pub(crate) pixels_max: u64,
    pub(crate) side_max: u32,
    pub(crate) frames_max: u32,
}

/// Why an input picture may not be sent on; each ends a sentence about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PictureProblem {
    #[error("it is empty")]
    Empty,
    #[error("it is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("it is no PNG, JPEG or WebP picture")]
    UnknownFormat,
    #[error(transparent)]
    Damaged(Damage),
    /// `key`: of the configuration, in `[server]`.
    #[error("{got}, and {max} {unit} are allowed")]
    BeyondLimit { got: String, max: u64, unit: &'static str, key: &'static str },
    #[error(
        "it must be a PNG with an alpha channel, whose transparent pixels mark what to edit; no other format is taken as a \
         mask"
    )]
    MaskFormat,
    #[error(
        "it has no transparent pixel, so it marks nothing; send a PNG with an alpha channel, whose transparent pixels mark \
         what to edit. Of a black and white mask, make the white part transparent (magick mask.png -transparent white \
         mask-alpha.png)"
    )]
    OpaqueMask,
    #[error("the mask is {}x{} and the image {}x{}; they must have the same size", .mask.0, .mask.1, .image.0, .image.1)]
    MaskSize { mask: (u32, u32), image: (u32, u32) },
    /// The mask has the size of the stored pixels.
    #[error(
        "the mask is {}x{}, as the pixels of the image are stored, and the image carries a rotation (EXIF orientation \
         {orientation}); the mask must have the upright size, {}x{}", .mask.0, .mask.1, .upright.0, .upright.1
    )]
    TurnedMask { mask: (u32, u32), upright: (u32, u32), orientation: u8 },
}

impl PictureLimits {
    /// Checks a picture of at most `bytes_max` bytes by its structure; nothing is decoded.
    ///
    /// # Errors
    ///
    /// The first problem.
    pub(crate) fn check(&self, picture: &Picture, bytes_max: u64) -> Result<(), PictureProblem> {
        if picture.bytes == 0 {
            return Err(PictureProblem::Empty);
        }
        if picture.bytes > bytes_max {
            return Err(PictureProblem::TooLarge { bytes_max });
        }
        let Structure { format, dimensions, frames, damage, .. } = picture.structure;
        if format.is_none() && self.known_only {
            return Err(PictureProblem::UnknownFormat);
        }
        if let Some(dimensions) = dimensions {
            self.check_header(dimensions, frames)?;
        }
        match damage {
            Some(damage) if self.known_only => Err(PictureProblem::Damaged(damage)),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks a mask: as a picture, that it is a PNG of the upright size of the first image, where that is known, and that it
    /// can mark something.
    ///
    /// # Errors
    ///
    /// The first problem.
    pub(crate) fn check_mask(
        &self,
        mask: &Picture,
        image: Option<&Structure>,
        bytes_max: u64,
    ) -> Result<(), PictureProblem> {
        self.check(mask, bytes_max)?;
        if self.known_only && mask.structure.format != Some(Format::Png) {
            return Err(PictureProblem::MaskFormat);
        }
        if let (Some(mask), Some(image)) = (mask.structure.upright_dimensions(), image)
            && let Some(upright) = image.upright_dimensions()
            && mask != upright
        {
            let orientation = image.orientation.number();
            return Err(match image.dimensions {
                Some(stored) if stored == mask => PictureProblem::TurnedMask { mask, upright, orientation },
                Some(_) | None => PictureProblem::MaskSize { mask, image: upright },
            });
        }
        if self.known_only && mask.structure.transparency == Transparency::Absent {
            return Err(PictureProblem::OpaqueMask);
        }
        Ok(())
    }

    /// Checks what the header of a picture claims, because a decoder at the upstream or in the gateway allocates memory by
    /// these figures.
    ///
    /// # Errors
    ///
    /// [`PictureProblem::BeyondLimit`].
    pub(crate) fn check_header(&self, (width, height): (u32, u32), frames: u32) -> Result<(), PictureProblem> {
        let (pixels, side) = (u64::from(width) * u64::from(height), u64::from(width.max(height)));
        let shown = || format!("it is {width}x{height} pixels");
        let (got, max, unit, key) = if side > u64::from(self.side_max) {
            (shown(), u64::from(self.side_max), "pixels on a side", "picture_side_max")
        } else if pixels > self.pixels_max {
            (shown(), self.pixels_max, "pixels", "picture_pixels_max")
        } else if frames > self.frames_max {
            let got = format!("it has {frames} frames or more");
            (got, u64::from(self.frames_max), "frames", "picture_frames_max")
        } else {
            return Ok(());
        };
        Err(PictureProblem::BeyondLimit { got, max, unit, key })
    }
}
