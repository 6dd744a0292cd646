//! Checks input pictures and masks by their headers alone: nothing is decoded.

use crate::api::error::ApiError;
use crate::api::request::body::form::image_name;
use crate::config::{ImageCheck, RequestConfig};
use crate::model::picture::read_full;
use crate::model::{ApiKind, ByteSource, Capabilities, Format, Input, Model, Picture};

/// Checks the images of an edit: their number, how they were sent, and each of them.
pub(super) fn check_images(
    images: &[Input],
    model: &Model,
    api_kind: ApiKind,
    capabilities: Capabilities<'_>,
    requests: &RequestConfig,
) -> Result<(), ApiError> {
    let parameters = &model.parameters;
    if images.is_empty() {
        return Err(ApiError::MissingParameter { param: "image" });
    }
    if images.len() > parameters.images_max {
        return Err(ApiError::TooManyImages { max: parameters.images_max });
    }
    let links = images.iter().filter(|image| matches!(image, Input::Link(_))).count();
    if links > 0 && links < images.len() {
        return Err(unacceptable(
            "image",
            "http(s) addresses and pictures sent inline cannot be mixed in one request, because their order would be \
             lost; send all of them in the same way",
        ));
    }
    let (accepted, way) = if links > 0 {
        (capabilities.links, "http(s) addresses")
    } else {
        (capabilities.inline, "pictures sent inline")
    };
    if !accepted {
        let by = match api_kind {
            ApiKind::Prediction => String::new(),
            ApiKind::OpenAi | ApiKind::Unified => format!(" by the upstream API '{}'", api_kind.name()),
        };
        return Err(ApiError::UnsupportedParameter {
            param: "image".to_owned(),
            problem: format!("as {way} is not supported with the model '{}'{by}", model.id).into(),
        });
    }
    for (index, image) in images.iter().enumerate() {
        if let Input::Bytes { picture, source } = image {
            check_bytes(&image_name(index), picture, &**source, parameters.image_bytes_max, requests)?;
        }
    }
    Ok(())
}

/// Checks a mask: a PNG, small enough, and of the size of the first image.
pub(super) fn check_mask(
    mask: &Input,
    first: Option<&Input>,
    model: &Model,
    requests: &RequestConfig,
) -> Result<(), ApiError> {
    let Input::Bytes { picture, source } = mask else {
        return Ok(());
    };
    check_bytes("mask", picture, &**source, model.parameters.mask_bytes_max, requests)?;
    if requests.image_check == ImageCheck::Strict && picture.format != Some(Format::Png) {
        return Err(unacceptable("mask", "the mask must be a PNG whose transparent pixels mark what to edit"));
    }
    if let (Some((width, height)), Some(first)) = (picture.dimensions, first.and_then(dimensions))
        && (width, height) != first
    {
        let problem =
            format!("the mask is {width}x{height} and the image {}x{}; they must have the same size", first.0, first.1);
        return Err(ApiError::Unacceptable { param: "mask", problem: problem.into() });
    }
    Ok(())
}

/// Returns width and height in pixels, where they are known.
pub(super) fn dimensions(input: &Input) -> Option<(u32, u32)> {
    match input {
        Input::Bytes { picture, .. } => picture.dimensions,
        Input::Link(_) => None,
    }
}

fn check_bytes(
    param: &str,
    picture: &Picture,
    source: &dyn ByteSource,
    bytes_max: u64,
    requests: &RequestConfig,
) -> Result<(), ApiError> {
    let param = || param.to_owned();
    if picture.bytes == 0 {
        return Err(ApiError::EmptyImage { param: param() });
    }
    if picture.bytes > bytes_max {
        return Err(ApiError::ImageTooLarge { param: param(), bytes_max });
    }
    match (requests.image_check, picture.format, picture.dimensions.zip(picture.frames)) {
        (ImageCheck::Strict, None, _) => {
            Err(ApiError::UnsupportedFileType { param: param(), media_type: media_type(source) })
        }
        (ImageCheck::Strict, Some(_), None) => Err(ApiError::UndecodableImage { param: param() }),
        (ImageCheck::Off, _, None) => Ok(()),
        (ImageCheck::Off | ImageCheck::Strict, _, Some((dimensions, frames))) => {
            check_header(param(), dimensions, frames, requests)
        }
    }
}

/// Checks what the header of a picture claims, because a decoder at the upstream or in the gateway allocates memory by these figures.
fn check_header(
    param: String,
    (width, height): (u32, u32),
    frames: u32,
    requests: &RequestConfig,
) -> Result<(), ApiError> {
    let (pixels, side) = (u64::from(width) * u64::from(height), u64::from(width.max(height)));
    let shown = || format!("it is {width}x{height} pixels");
    let (got, max, unit, key) = if side > u64::from(requests.picture_side_max) {
        (shown(), u64::from(requests.picture_side_max), "pixels on a side", "picture_side_max")
    } else if pixels > requests.picture_pixels_max {
        (shown(), requests.picture_pixels_max, "pixels", "picture_pixels_max")
    } else if frames > requests.picture_frames_max {
        let got = format!("it has {frames} frames or more");
        (got, u64::from(requests.picture_frames_max), "frames", "picture_frames_max")
    } else {
        return Ok(());
    };
    Err(ApiError::ImageBeyondLimit { param, got, max, unit, key })
}

/// Guesses the media type of refused bytes, for the error message.
fn media_type(source: &dyn ByteSource) -> &'static str {
    // Just written, so in memory or in the page cache: this does not block.
    let head = read_full(source, 0, 12).unwrap_or_default();
    let brand = head.get(4..).unwrap_or_default();
    match head.as_slice() {
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "image/tiff",
        [b'%', b'P', b'D', b'F', ..] => "application/pdf",
        _ if brand.starts_with(b"ftypavi") => "image/avif",
        _ if brand.starts_with(b"ftyphei") || brand.starts_with(b"ftypmif1") => "image/heic",
        [b'<', b's', b'v', b'g', ..] => "image/svg+xml",
        [b'{' | b'<', ..] => "text/plain",
        _ => "application/octet-stream",
    }
}

fn unacceptable(param: &'static str, problem: &'static str) -> ApiError {
    ApiError::Unacceptable { param, problem: problem.into() }
}
