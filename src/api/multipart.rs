//! Forms as SDKs send them: any spelling of `image[]`, any order, files with or without a name or a type.
//!
//! Whether a part is a file is decided by its own name first: a part called `image` or `mask` is one, unless it has
//! neither a file name nor a media type of its own and reads as text. Declared types and extensions are not believed.

use multer::{Field, Multipart};

use super::body::{Appetite, Arriving, BodyError};
use super::error::ApiError;
use super::form::{Form, Limits, Scalar, Slot};
use super::header::Parameterised;
use crate::model::Input;
use crate::storage::spool::{Spool, Upload};

/// Longest boundary that is taken, in bytes. RFC 2046 §5.1.1 allows 70.
const BOUNDARY_BYTES_MAX: usize = 200;

/// The boundary of a `multipart/form-data` content type.
pub(super) fn boundary(content_type: &Parameterised) -> Option<String> {
    let boundary = String::from_utf8(content_type.get("boundary")?.to_vec()).ok()?;
    (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()).then_some(boundary)
}

/// Reads a form to its closing boundary, once there is room for its `announced` length.
///
/// # Errors
///
/// What is wrong with the body, or with a part of it, before the model's own rules.
pub(super) async fn read(
    arriving: Arriving,
    boundary: String,
    limits: &Limits,
    spool: &Spool,
    announced: Option<u64>,
) -> Result<Form, ApiError> {
    let mut upload = spool.upload(announced).await.map_err(|error| ApiError::from_spool(error, "body"))?;
    let appetite = arriving.appetite();
    let mut multipart = Multipart::new(arriving, boundary);
    let mut form = Form::default();
    let mut texts = Vec::new();
    let mut parts = 0;
    loop {
        appetite.renew();
        let Some(field) = multipart.next_field().await.map_err(malformed)? else {
            break;
        };
        parts += 1;
        if parts > limits.parts_max {
            return Err(ApiError::MalformedBody {
                problem: format!("it has more than {} parts", limits.parts_max).into(),
            });
        }
        let mut part = Part::new(field, appetite.clone())?;
        let name = std::mem::take(&mut part.name);
        match limits.slot(&name) {
            Slot::Image => {
                form.expect_image(limits)?;
                match part.picture(&form.next_image(), limits, &mut upload).await? {
                    Content::File(input) => form.images.push(input),
                    Content::Text => texts.push("image"),
                    Content::Nothing => {}
                }
            }
            Slot::Mask => match part.picture("mask", limits, &mut upload).await? {
                Content::File(input) => form.add_mask(input)?,
                Content::Text => texts.push("mask"),
                Content::Nothing => {}
            },
            Slot::Misplaced(known) => {
                if part.skip().await? > 0 {
                    form.misplaced.insert(known);
                }
            }
            Slot::Scalar(known) => {
                let text = part.text(known, limits).await?;
                form.add_scalar(known, Scalar::Text(text))?;
            }
            Slot::Unknown => {
                part.skip().await?;
                form.note_unknown(&name);
            }
        }
    }
    // LiteLLM once sent its upload objects as text beside the files themselves (litellm#41602): then the files count.
    let missing = |name: &str| match name {
        "mask" => form.mask.is_none(),
        _ => form.images.is_empty(),
    };
    match texts.into_iter().find(|name| missing(name)) {
        Some(name) => Err(ApiError::InvalidType { param: name.to_owned(), expected: "a file", got: "a string" }),
        None => Ok(form),
    }
}

/// One part of the form, with the head read.
#[derive(Debug)]
struct Part<'r> {
    field: Field<'r>,
    appetite: Appetite,
    name: String,
    file_name: Option<String>,
}

/// What a part in a picture's place turned out to be.
#[derive(Debug)]
enum Content {
    File(Input),
    Text,
    /// The empty file a browser sends for an untouched input, or an empty text.
    Nothing,
}

impl<'r> Part<'r> {
    fn new(field: Field<'r>, appetite: Appetite) -> Result<Self, ApiError> {
        // Read here and not by multer, which takes parameter names by their case and knows no `name*`.
        let disposition =
            field.headers().get("content-disposition").map(|value| Parameterised::parse(value.as_bytes()));
        let name = disposition.as_ref().and_then(|disposition| disposition.text("name"));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(ApiError::MalformedBody { problem: "a part of the form has no name".into() });
        };
        Ok(Self { field, appetite, name, file_name: disposition.and_then(|disposition| disposition.text("filename")) })
    }

    async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, ApiError> {
        self.appetite.renew();
        self.field.chunk().await.map_err(malformed)
    }

    async fn picture(mut self, param: &str, limits: &Limits, upload: &mut Upload) -> Result<Content, ApiError> {
        let mut writer = upload.picture(limits.image_bytes_max);
        let mut head = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            head.extend(chunk.iter().take(TEXT_HEAD_BYTES - head.len()));
            let written = writer.write(chunk).await;
            written.map_err(|error| ApiError::from_spool(error, param))?;
        }
        if head.is_empty() && self.file_name.as_ref().is_none_or(String::is_empty) {
            return Ok(Content::Nothing);
        }
        if self.file_name.is_none() && !self.declares_bytes() && reads_as_text(&head) {
            return Ok(Content::Text);
        }
        let (picture, source) = writer.finish().await.map_err(|error| ApiError::from_spool(error, param))?;
        Ok(Content::File(Input::Bytes { picture, source }))
    }

    /// Whether the part says that it is anything but text.
    fn declares_bytes(&self) -> bool {
        self.field.headers().get("content-type").is_some_and(|value| {
            let declared = Parameterised::parse(value.as_bytes()).word;
            !declared.is_empty() && !declared.starts_with("text/") && declared != "application/json"
        })
    }

    async fn text(mut self, param: &str, limits: &Limits) -> Result<String, ApiError> {
        if self.file_name.as_ref().is_some_and(|name| !name.is_empty()) {
            return Err(ApiError::InvalidType { param: param.to_owned(), expected: "a string", got: "a file" });
        }
        let mut text = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if text.len() + chunk.len() > limits.text_bytes_max {
                return Err(ApiError::TextTooLong {
                    param: param.to_owned(),
                    unit: "bytes",
                    max: limits.text_bytes_max,
                });
            }
            text.extend_from_slice(&chunk);
        }
        String::from_utf8(text)
            .map_err(|_| ApiError::MalformedBody { problem: format!("the value of '{param}' is not UTF-8").into() })
    }

    /// Reads to the end of the part and says how many bytes that were.
    async fn skip(mut self) -> Result<u64, ApiError> {
        let mut bytes = 0;
        while let Some(chunk) = self.chunk().await? {
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }
}

/// How much of a nameless part is looked at to tell text from a picture.
const TEXT_HEAD_BYTES: usize = 512;

fn reads_as_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // Cut inside a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace())
}

fn malformed(error: multer::Error) -> ApiError {
    let cut_short = matches!(error, multer::Error::IncompleteStream | multer::Error::IncompleteFieldData { .. });
    let problem = if cut_short { "the form ends before its closing boundary".to_owned() } else { error.to_string() };
    if let multer::Error::StreamReadFailed(error) = error
        && let Ok(error) = error.downcast::<BodyError>()
    {
        return ApiError::from(*error);
    }
    ApiError::MalformedBody { problem: problem.into() }
}

#[cfg(test)]
mod tests;
