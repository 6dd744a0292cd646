//! Prepares input pictures that cannot be sent on as they are: on the blocking threads, and before anything is bought.
//!
//! Wanted:
//! - GIF, BMP, TIFF and HEIC become PNG. PNG, JPEG and WebP are sent as they are, byte for byte, with one exception: the first
//!   picture of a request with a mask is made upright where EXIF turns it, because what the upstream does with EXIF is not known,
//!   and picture and mask must lie on each other.
//! - A mask is looked at, whether one of its pixels is transparent. One that is too large for that is taken as it is.
//! - What cannot be used as a whole is refused by name: an animated GIF, a picture above the limits, a PNG that is too large. Of a
//!   TIFF the first page is used, because others are previews as a rule.
//! - The same bytes become the same PNG, so a retry has the same fingerprint.
//! - Work is bounded: conversions at the same time (`server.concurrent_input_conversions_max`), apart from those of results, which
//!   are paid for; pixels of each (`server.input_pixels_max`); and the time of a request (`server.input_conversion_timeout_s`).
//!   The PNG is written to the spool as it is made, within the limits of an upload.
//! - With `server.image_check = "off"` nothing is decoded.
//!
//! Known races:
//! - A client disconnects or the time is over during a conversion: the work ends all the same and holds its slot until then. Its
//!   bytes are released.
//!
//! Decoders were chosen by licence, upkeep, and a build with a C compiler alone. HEIC: `heifer` reads what phones and libheif
//! write (grids, 4:4:4, lossless, alpha, 10 bits); `heic-rs`, as permissive, fails on two of these, `heic` is AGPL, and libheif is
//! LGPL and a library of the system. AVIF is refused by name: `rav1d` without assembly is unsafe code throughout, `avif-decode`
//! needs a newer compiler, and `dav1d` is a library of the system.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::timeout;

use crate::api::error::ApiError;
use crate::api::request::body::form::{Form, image_name};
use crate::api::request::validate::picture_error;
use crate::config::ConversionConfig;
use crate::model::picture::{
    FileKind, HEAD_BYTES, Orientation, Picture, PictureLimits, Transparency, read_full, read_whole,
};
use crate::model::{ByteSource, Format, Input};
use crate::storage::spool::{Spool, SpoolError, Upload};
use crate::telemetry::Metrics;
use decoding::{DecodeError, Decoded, Decoder};
use slots::ConversionSlots;

mod container;
mod decoding;
pub(crate) mod encoding;
pub(crate) mod slots;

/// Converts input pictures. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct InputConverter {
    slots: Arc<ConversionSlots>,
    pixels_max: u64,
    timeout: Duration,
    conversions: Family<InputLabels, Counter>,
}

/// Where converted pictures go, and what they must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputLimits<'a> {
    pub(crate) spool: &'a Spool,
    pub(crate) pictures: PictureLimits,
    /// Of the PNG that a picture becomes.
    pub(crate) bytes_max: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InputLabels {
    /// Of the input.
    format: &'static str,
    /// `converted` or `refused`; of a mask, `checked` or `refused`.
    result: &'static str,
}

/// Why an input picture was not converted.
#[derive(Debug, thiserror::Error)]
enum InputProblem {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("it cannot be encoded: {0}")]
    Unencodable(String),
    #[error("the spool refuses it: {0}")]
    Spool(SpoolError),
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl InputConverter {
    pub(crate) fn new(conversions: &ConversionConfig, metrics: &Metrics) -> Self {
        let counted: Family<InputLabels, Counter> = Family::default();
        for format in ["GIF", "BMP", "TIFF", "HEIC"] {
            for result in ["converted", "refused"] {
                counted.get_or_create_owned(&InputLabels { format, result });
            }
        }
        let slots = ConversionSlots::new(conversions.input_slots.get());
        metrics.register("api", |registry| {
            let help = "Input pictures that had to be decoded, by format and result";
            registry.register("input_conversions", help, counted.clone());
            slots.register(registry, "input_conversion", "decode one input picture, and to encode it as PNG");
        });
        Self {
            slots: Arc::new(slots),
            pixels_max: conversions.input_pixels_max,
            timeout: conversions.input_timeout,
            conversions: counted,
        }
    }

    /// Whether a picture of a form will be converted.
    pub(crate) fn converts(&self, form: &Form, limits: InputLimits<'_>) -> bool {
        let is_converted = |(index, image)| self.decoder(image, is_upright_needed(form, index)).is_some();
        limits.pictures.known_only && form.images.iter().enumerate().any(is_converted)
    }

    /// Prepares the pictures and the mask of a form.
    ///
    /// # Errors
    ///
    /// The first picture that cannot be used, and [`ApiError::TooManyConversions`] when that takes too long. A mask without a
    /// transparent pixel is marked as such, and no error here.
    pub(crate) async fn prepare(&self, form: Form, limits: InputLimits<'_>) -> Result<Form, ApiError> {
        if !limits.pictures.known_only || (form.mask.is_none() && !self.converts(&form, limits)) {
            return Ok(form);
        }
        timeout(self.timeout, self.prepare_all(form, limits)).await.unwrap_or(Err(ApiError::TooManyConversions))
    }

    async fn prepare_all(&self, mut form: Form, limits: InputLimits<'_>) -> Result<Form, ApiError> {
        for index in 0..form.images.len() {
            let image = &form.images[index];
            if let Some(decoder) = self.decoder(image, is_upright_needed(&form, index)) {
                form.images[index] = self.convert(image, &image_name(index), decoder, limits).await?;
            }
        }
        if let Some(mask) = &mut form.mask {
            if let Some(decoder) = turned(mask, self.pixels_max).filter(|decoder| decoder.is_for(Format::Png)) {
                *mask = self.convert(mask, "mask", decoder.without_colours(), limits).await?;
            }
            self.look_at_mask(mask, limits).await?;
        }
        Ok(form)
    }

    /// Returns the decoder of a picture that has to be converted.
    fn decoder(&self, image: &Input, upright: bool) -> Option<Decoder> {
        let Input::Bytes { picture, source } = image else { return None };
        if picture.structure.format.is_some() {
            return upright.then(|| turned(image, self.pixels_max)).flatten();
        }
        // Just written, so in memory or in the page cache: this does not block.
        match FileKind::of(&read_full(&**source, 0, HEAD_BYTES).unwrap_or_default()) {
            FileKind::Convertible(format) => Some(Decoder::of(format, self.pixels_max)),
            FileKind::Foreign { .. } | FileKind::Altered(_) | FileKind::Unknown => None,
        }
    }

    /// Makes a PNG of a picture.
    async fn convert(
        &self,
        input: &Input,
        name: &str,
        decoder: Decoder,
        limits: InputLimits<'_>,
    ) -> Result<Input, ApiError> {
        let Input::Bytes { source, picture } = input else { return Ok(input.clone()) };
        if picture.structure.frames > 1 {
            return Err(refusal(name, decoder, DecodeError::Animated.into(), limits));
        }
        // Grows with what is written, because waiting for space while holding some could block others for good.
        let upload = limits.spool.upload(None).await.map_err(|error| ApiError::from_spool(error, name))?;
        let (bytes, pictures, bytes_max) = (Arc::clone(source), limits.pictures, limits.bytes_max);
        let work = move || to_png(&read_whole(&*bytes)?, decoder, &pictures, upload, bytes_max);
        let (picture, png) =
            self.run(decoder.name(), "converted", work).await.map_err(|error| refusal(name, decoder, error, limits))?;
        Ok(Input::Bytes { picture, source: png })
    }

    /// Marks a mask that turns out to have no transparent pixel.
    async fn look_at_mask(&self, mask: &mut Input, limits: InputLimits<'_>) -> Result<(), ApiError> {
        let Input::Bytes { picture, source } = mask else { return Ok(()) };
        let structure = picture.structure;
        let (Some(Format::Png), None, Some((width, height))) =
            (structure.format, structure.damage, structure.dimensions)
        else {
            return Ok(());
        };
        let is_large = u64::from(width) * u64::from(height) > self.pixels_max;
        if structure.transparency != Transparency::Possible || is_large {
            return Ok(());
        }
        let decoder = Decoder::of_known(Format::Png, Orientation::UPRIGHT, self.pixels_max);
        let (bytes, pictures) = (Arc::clone(source), limits.pictures);
        let work = move || Ok(decoder.decode(&read_whole(&*bytes)?, &pictures)?.is_opaque());
        let looked = self.run("mask", "checked", work).await;
        if looked.map_err(|error| refusal("mask", decoder, error, limits))? {
            picture.structure.transparency = Transparency::Absent;
        }
        Ok(())
    }

    /// Runs work on a blocking thread, in a slot that it holds until its end.
    async fn run<T: Send + 'static>(
        &self,
        format: &'static str,
        done: &'static str,
        work: impl FnOnce() -> Result<T, InputProblem> + Send + 'static,
    ) -> Result<T, InputProblem> {
        let slot = self.slots.enter().await;
        // A panic in a decoder is a picture that cannot be decoded.
        let result = slot.run(work).await.unwrap_or_else(|panic| Err(DecodeError::Broken(panic).into()));
        let labels = InputLabels { format, result: if result.is_ok() { done } else { "refused" } };
        self.conversions.get_or_create(&labels).inc();
        result
    }
}

/// Returns the decoder that makes a picture of a known format upright; `None` where it is upright, and where it is damaged.
fn turned(input: &Input, pixels_max: u64) -> Option<Decoder> {
    let Input::Bytes { picture, .. } = input else { return None };
    let structure = picture.structure;
    let is_turned = structure.orientation != Orientation::UPRIGHT && structure.damage.is_none();
    let format = structure.format.filter(|_| is_turned)?;
    Some(Decoder::of_known(format, structure.orientation, pixels_max))
}

/// Whether a picture of a form has to be upright: the first one, where a mask lies on it. One that the mask does not fit is refused
/// later, with the picture as it came.
fn is_upright_needed(form: &Form, index: usize) -> bool {
    index == 0 && form.mask.is_some() && may_fit(form.mask.as_ref(), &form.images[0])
}

/// Whether a mask has the upright size of a picture, as far as both are known.
fn may_fit(mask: Option<&Input>, picture: &Input) -> bool {
    let size = |input: &Input| match input {
        Input::Bytes { picture, .. } => picture.structure.upright_dimensions(),
        Input::Link(_) => None,
    };
    match (mask.and_then(size), size(picture)) {
        (Some(mask), Some(picture)) => mask == picture,
        _ => true,
    }
}

/// Decodes a picture and writes it to an upload as PNG. Blocks.
fn to_png(
    bytes: &[u8],
    decoder: Decoder,
    pictures: &PictureLimits,
    mut upload: Upload,
    bytes_max: u64,
) -> Result<(Picture, Arc<dyn ByteSource>), InputProblem> {
    let Decoded { picture, profile } = decoder.decode(bytes, pictures)?;
    let mut part = upload.picture(bytes_max);
    let mut refused = None;
    let written = encoding::write_png(&picture, profile, |chunk| match part.write_blocking(chunk) {
        Ok(()) => Ok(()),
        Err(error) => {
            refused = Some(error);
            Err(io::ErrorKind::Other.into())
        }
    });
    if let Some(refused) = refused {
        return Err(InputProblem::Spool(refused));
    }
    written.map_err(|error| InputProblem::Unencodable(error.to_string()))?;
    part.finish_blocking().map_err(InputProblem::Spool)
}

/// Returns the error for a picture that was not converted. What a decoder says goes to the log alone.
fn refusal(name: &str, decoder: Decoder, problem: InputProblem, limits: InputLimits<'_>) -> ApiError {
    let param = name.to_owned();
    let kind = decoder.name();
    let unsupported = |note: String| ApiError::UnsupportedFileType {
        param: name.to_owned(),
        media_type: decoder.media_type(),
        note: Some(note.into()),
    };
    let beyond_limit = |got: String, max| ApiError::ImageBeyondLimit {
        param: name.to_owned(),
        got: format!("{got} a {kind}{}", decoder.reason()),
        max,
        unit: "pixels for that",
        key: "input_pixels_max",
    };
    match problem {
        InputProblem::Decode(DecodeError::Limit(problem)) => picture_error(name, problem, &Bytes::new()),
        InputProblem::Decode(DecodeError::Animated) => {
            unsupported(format!("an animated {kind}; send one of its frames as a PNG"))
        }
        InputProblem::Decode(DecodeError::Rare(text)) => {
            unsupported(format!("a {kind} {text}, which is rare; convert it to JPEG"))
        }
        InputProblem::Decode(DecodeError::TooManyPixels { width, height, pixels_max }) => {
            beyond_limit(format!("it is {width}x{height} pixels, and has to be converted as"), pixels_max)
        }
        InputProblem::Decode(DecodeError::TooMuchMemory { pixels_max }) => beyond_limit(
            "it takes more memory than other pictures of its size to be converted as".to_owned(),
            pixels_max,
        ),
        InputProblem::Decode(DecodeError::Broken(_)) | InputProblem::Unencodable(_) => {
            tracing::info!(picture = name, format = kind, %problem, "an input picture cannot be decoded; it is refused");
            ApiError::DamagedImage {
                param,
                problem: format!("it is a {kind} that cannot be decoded, because it is damaged or of a rare kind"),
            }
        }
        InputProblem::Spool(SpoolError::PartTooLarge { bytes_max }) => {
            let megabytes = bytes_max.min(limits.bytes_max) / 1_000_000;
            unsupported(format!("larger than {megabytes} MB once it is converted to PNG; save it as JPEG"))
        }
        InputProblem::Spool(error) => ApiError::from_spool(error, name),
        InputProblem::Io(error) => ApiError::internal(format!("an input picture cannot be read: {error}")),
    }
}

#[cfg(fuzzing)]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
