//! Checks input pictures and masks by what is known of their bytes: nothing is decoded here.

use std::borrow::Cow;

use crate::api::error::ApiError;
use crate::api::request::body::form::image_name;
use crate::config::RequestConfig;
use crate::model::picture::{FileKind, HEAD_BYTES, PictureProblem, Structure, Transparency, read_full};
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

/// Checks a mask: a PNG, small enough, and of the upright size of the first image. One that marks nothing is left to
/// [`marks_nothing`].
pub(super) fn check_mask(
    mask: &Input,
    first: Option<&Input>,
    model: &Model,
    requests: &RequestConfig,
) -> Result<(), ApiError> {
    let Input::Bytes { picture, source } = mask else {
        return Ok(());
    };
    let image = first.and_then(structure);
    match requests.picture_limits().check_mask(picture, image, model.parameters.mask_bytes_max) {
        Ok(()) | Err(PictureProblem::OpaqueMask) => Ok(()),
        Err(problem) => Err(error("mask", problem, &**source)),
    }
}

/// Returns the error for a mask without a transparent pixel, where that is known.
pub(super) fn marks_nothing(mask: &Input, requests: &RequestConfig) -> Option<ApiError> {
    let is_opaque = structure(mask).is_some_and(|mask| mask.transparency == Transparency::Absent);
    let problem = PictureProblem::OpaqueMask.to_string().into();
    (is_opaque && requests.picture_limits().known_only).then_some(ApiError::Unacceptable { param: "mask", problem })
}

/// Returns width and height in pixels as they are seen, where they are known.
pub(super) fn dimensions(input: &Input) -> Option<(u32, u32)> {
    structure(input).and_then(Structure::upright_dimensions)
}

fn structure(input: &Input) -> Option<&Structure> {
    match input {
        Input::Bytes { picture, .. } => Some(&picture.structure),
        Input::Link(_) => None,
    }
}

/// Returns the error for a picture that may not be sent on.
pub(in crate::api::request) fn error(param: &str, problem: PictureProblem, source: &dyn ByteSource) -> ApiError {
    let name = || param.to_owned();
    // Just written, so in memory or in the page cache: this does not block.
    let head = || read_full(source, 0, HEAD_BYTES).unwrap_or_default();
    match problem {
        PictureProblem::Empty => ApiError::EmptyImage { param: name() },
        PictureProblem::TooLarge { bytes_max } => ApiError::ImageTooLarge { param: name(), bytes_max },
        PictureProblem::UnknownFormat => unknown_format(name(), FileKind::of(&head())),
        PictureProblem::Damaged(damage) => match FileKind::of_damaged(&head()) {
            Some(FileKind::Altered(problem)) => ApiError::DamagedImage { param: name(), problem: problem.to_owned() },
            _ => ApiError::DamagedImage { param: name(), problem: damage.to_string() },
        },
        PictureProblem::BeyondLimit { got, max, unit, key } => {
            ApiError::ImageBeyondLimit { param: name(), got, max, unit, key }
        }
        PictureProblem::MaskFormat
        | PictureProblem::OpaqueMask
        | PictureProblem::MaskSize { .. }
        | PictureProblem::TurnedMask { .. } => {
            ApiError::Unacceptable { param: "mask", problem: problem.to_string().into() }
        }
    }
}

/// Returns the error for bytes that are no picture of a format that is sent on.
fn unknown_format(param: String, kind: FileKind) -> ApiError {
    let foreign = |media_type, note: Option<&'static str>| ApiError::UnsupportedFileType {
        param: param.clone(),
        media_type,
        note: note.map(Cow::Borrowed),
    };
    match kind {
        FileKind::Altered(problem) => ApiError::DamagedImage { param, problem: problem.to_owned() },
        FileKind::Foreign { media_type, note } => foreign(media_type, Some(note)),
        FileKind::Convertible(_) if param == "mask" => {
            ApiError::Unacceptable { param: "mask", problem: PictureProblem::MaskFormat.to_string().into() }
        }
        FileKind::Convertible(format) => foreign(format.media_type(), None),
        FileKind::Unknown => foreign("application/octet-stream", None),
    }
}

fn unacceptable(param: &'static str, problem: &'static str) -> ApiError {
    ApiError::Unacceptable { param, problem: problem.into() }
}
