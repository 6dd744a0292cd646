//! Reads multipart forms as SDKs send them: any spelling of `image[]`, any order, files with or without a name or a type.
//!
//! The name of a part decides first whether it is a file: a part called `image` or `mask` is one, unless it has neither a
//! file name nor a media type of its own and reads as text. Declared types and extensions are ignored.

use multer::{Field, Multipart};

use super::form::{FieldKind, Form, FormLimits, Scalar};
use super::incoming::{BodyError, IncomingBody, PartHeaderBudget};
use crate::api::error::ApiError;
use crate::http::header::ParsedHeader;
use crate::model::Input;
use crate::storage::spool::{Spool, Upload};

/// Longest boundary that is accepted, in bytes. RFC 2046 §5.1.1 allows 70.
const BOUNDARY_BYTES_MAX: usize = 200;

/// Returns the boundary of a `multipart/form-data` content type.
pub(crate) fn boundary(content_type: &ParsedHeader) -> Option<String> {
    let boundary = String::from_utf8(content_type.get("boundary")?.to_vec()).ok()?;
    (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()).then_some(boundary)
}

/// Reads a form to its closing boundary, once the spool has room for its `announced` length in bytes.
///
/// # Errors
///
/// The first fault of the body or of one of its parts; the rules of the model are checked later.
pub(crate) async fn read(
    incoming: IncomingBody,
    boundary: String,
    limits: &FormLimits,
    spool: &Spool,
    announced: Option<u64>,
) -> Result<Form, ApiError> {
    let mut upload = spool.upload(announced).await.map_err(|error| ApiError::from_spool(error, "body"))?;
    let budget = incoming.part_header_budget();
    let mut multipart = Multipart::new(incoming, boundary);
    let mut form = Form::default();
    let mut texts = Vec::new();
    let mut parts = 0;
    loop {
        budget.renew();
        let Some(field) = multipart.next_field().await.map_err(malformed)? else {
            break;
        };
        parts += 1;
        if parts > limits.parts_max {
            return Err(ApiError::MalformedBody {
                problem: format!("it has more than {} parts", limits.parts_max).into(),
            });
        }
        let mut part = FormPart::new(field, budget.clone())?;
        let name = std::mem::take(&mut part.name);
        match limits.field_kind(&name) {
            FieldKind::Image => {
                form.expect_image(limits)?;
                match part.picture(&form.next_image(), limits, &mut upload).await? {
                    PartContent::File(input) => form.images.push(input),
                    PartContent::Text => texts.push("image"),
                    PartContent::Empty => {}
                }
            }
            FieldKind::Mask => match part.picture("mask", limits, &mut upload).await? {
                PartContent::File(input) => form.add_mask(input)?,
                PartContent::Text => texts.push("mask"),
                PartContent::Empty => {}
            },
            FieldKind::Misplaced(known) => {
                if part.skip().await? > 0 {
                    form.misplaced.insert(known);
                }
            }
            FieldKind::Scalar(known) => {
                let text = part.text(known, limits).await?;
                form.add_scalar(known, Scalar::Text(text))?;
            }
            FieldKind::Unknown => {
                part.skip().await?;
                form.note_unknown(&name);
            }
        }
    }
    // LiteLLM once sent its upload objects as text beside the files themselves (litellm#41602); then the text is ignored.
    let missing = |name: &str| match name {
        "mask" => form.mask.is_none(),
        _ => form.images.is_empty(),
    };
    match texts.into_iter().find(|name| missing(name)) {
        Some(name) => Err(ApiError::InvalidType { param: name.to_owned(), expected: "a file", got: "a string" }),
        None => Ok(form),
    }
}

/// One part of the form whose head has been read.
#[derive(Debug)]
struct FormPart<'r> {
    field: Field<'r>,
    budget: PartHeaderBudget,
    name: String,
    file_name: Option<String>,
}

/// What a part with the name of a picture holds.
#[derive(Debug)]
enum PartContent {
    File(Input),
    Text,
    /// The empty file a browser sends for an untouched input, or an empty text.
    Empty,
}

impl<'r> FormPart<'r> {
    fn new(field: Field<'r>, budget: PartHeaderBudget) -> Result<Self, ApiError> {
        // Not by multer, whose parameter names are case-sensitive and lack `name*`.
        let disposition = field.headers().get("content-disposition").map(|value| ParsedHeader::parse(value.as_bytes()));
        let name = disposition.as_ref().and_then(|disposition| disposition.text("name"));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(ApiError::MalformedBody { problem: "a part of the form has no name".into() });
        };
        Ok(Self { field, budget, name, file_name: disposition.and_then(|disposition| disposition.text("filename")) })
    }

    async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, ApiError> {
        self.budget.renew();
        self.field.chunk().await.map_err(malformed)
    }

    async fn picture(mut self, param: &str, limits: &FormLimits, upload: &mut Upload) -> Result<PartContent, ApiError> {
        let mut writer = upload.picture(limits.image_bytes_max);
        let mut head = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            head.extend(chunk.iter().take(TEXT_HEAD_BYTES - head.len()));
            let written = writer.write(chunk).await;
            written.map_err(|error| ApiError::from_spool(error, param))?;
        }
        if head.is_empty() && self.file_name.as_ref().is_none_or(String::is_empty) {
            return Ok(PartContent::Empty);
        }
        if self.file_name.is_none() && !self.declares_bytes() && reads_as_text(&head) {
            return Ok(PartContent::Text);
        }
        let (picture, source) = writer.finish().await.map_err(|error| ApiError::from_spool(error, param))?;
        Ok(PartContent::File(Input::Bytes { picture, source }))
    }

    /// Whether the part declares a type other than text.
    fn declares_bytes(&self) -> bool {
        self.field.headers().get("content-type").is_some_and(|value| {
            let declared = ParsedHeader::parse(value.as_bytes()).word;
            !declared.is_empty() && !declared.starts_with("text/") && declared != "application/json"
        })
    }

    async fn text(mut self, param: &str, limits: &FormLimits) -> Result<String, ApiError> {
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

    /// Reads to the end of the part and returns the number of bytes.
    async fn skip(mut self) -> Result<u64, ApiError> {
        let mut bytes = 0;
        while let Some(chunk) = self.chunk().await? {
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }
}

/// How much of a part without a file name is inspected to tell text from a picture, in bytes.
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
    let problem = if cut_short {
        "the form ends before its closing boundary"
    } else {
        "the form is not valid: its boundary or the head of a part cannot be read"
    };
    if let multer::Error::StreamReadFailed(error) = error
        && let Ok(error) = error.downcast::<BodyError>()
    {
        return ApiError::from(*error);
    }
    ApiError::MalformedBody { problem: problem.into() }
}

#[cfg(test)]
mod tests;
