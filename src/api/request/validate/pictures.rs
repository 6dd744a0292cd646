//! Checks input pictures and masks by what their bytes say of them: nothing is decoded.

use crate::api::error::ApiError;
use crate::api::request::body::form::image_name;
use crate::config::RequestConfig;
use crate::model::picture::{PictureProblem, read_full};
use crate::model::{ApiKind, ByteSource, Capabilities, Input, Model};

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
            let checked = requests.picture_limits().check(picture, parameters.image_bytes_max);
            checked.map_err(|problem| error(&image_name(index), problem, &**source))?;
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
    let image = first.and_then(dimensions);
    let checked = requests.picture_limits().check_mask(picture, image, model.parameters.mask_bytes_max);
    checked.map_err(|problem| error("mask", problem, &**source))
}

/// Returns width and height in pixels, where they are known.
pub(super) fn dimensions(input: &Input) -> Option<(u32, u32)> {
    match input {
        Input::Bytes { picture, .. } => picture.structure.dimensions,
        Input::Link(_) => None,
    }
}

/// Returns the error for a picture that may not be sent on.
fn error(param: &str, problem: PictureProblem, source: &dyn ByteSource) -> ApiError {
    let name = || param.to_owned();
    match problem {
        PictureProblem::Empty => ApiError::EmptyImage { param: name() },
        PictureProblem::TooLarge { bytes_max } => ApiError::ImageTooLarge { param: name(), bytes_max },
        PictureProblem::UnknownFormat => {
            ApiError::UnsupportedFileType { param: name(), media_type: media_type(source) }
        }
        PictureProblem::Damaged(damage) => ApiError::DamagedImage { param: name(), problem: damage.to_string() },
        PictureProblem::BeyondLimit { got, max, unit, key } => {
            ApiError::ImageBeyondLimit { param: name(), got, max, unit, key }
        }
        PictureProblem::MaskFormat | PictureProblem::MaskSize { .. } => {
            ApiError::Unacceptable { param: "mask", problem: problem.to_string().into() }
        }
    }
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
