//! Reads multipart forms as SDKs send them: any spelling of `image[]`, any order, files with or without a name or a type.
//!
//! The name of a part decides first whether it is a picture; its bytes decide what it holds. A picture's part may be a file, the
//! base64 of one, or a text that JSON may send in its place: a data URL, base64, an http(s) address, an image reference or a
//! list of them. Declared types of files and extensions are ignored. A file under a name that is not known is recorded, since
//! a picture must not be left out without a word.

use std::sync::Arc;

use super::blocking::read_stored;
use super::form::names::{FieldHint, ImageName};
use super::form::{FieldKind, Form, FormLimits, aliases};
use super::incoming::IncomingBody;
use super::json::{FormContent, JsonField, SourceReader, read_field};
use super::picture_text::{PictureParameter, holds_picture, read_picture};
use crate::api::error::ApiError;
use crate::http::header::ParsedHeader;
use crate::model::{ByteSource, Input};
use crate::storage::spool::{Spool, Upload};
use form_body::FormBody;
use part::{FormPart, PartStart, PictureContent};

mod form_body;
mod framing;
mod headers;
mod part;
#[cfg(any(test, fuzzing))]
pub(in crate::api::request) mod reference;
mod splitter;
mod text;
mod transfer;

/// Longest boundary that is accepted, in bytes. RFC 2046 §5.1.1 allows 70.
const BOUNDARY_BYTES_MAX: usize = 200;

/// Returns the boundary of a `multipart/form-data` content type.
pub(crate) fn boundary(content_type: &ParsedHeader<'_>) -> Option<String> {
    let boundary = String::from_utf8(content_type.get("boundary")?.into_owned()).ok()?;
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
    let upload = spool.upload(announced).await.map_err(|error| ApiError::from_spool(error, "body"))?;
    let mut body = FormBody::open(incoming, boundary, &upload, announced).await?;
    let content = FormContent::new(upload);
    let mut reader = FormReader { limits, content: Some(content), charset: None, quoted_uploads: Vec::new() };
    while let Some(head) = body.next_head().await? {
        if body.parts > limits.parts_max {
            return Err(ApiError::MalformedBody {
                problem: format!("it has more than {} parts", limits.parts_max).into(),
            });
        }
        let headers = body.headers(&head)?;
        reader.part(FormPart::new(&headers, &mut body)?).await?;
    }
    reader.finish()
}

/// A form that is being read.
#[derive(Debug)]
struct FormReader<'a> {
    limits: &'a FormLimits,
    /// `None` while a text is read away from the asynchronous threads.
    content: Option<FormContent>,
    /// The character set of parts that declare none.
    charset: Option<String>,
    /// Pictures that came as the name of an object.
    quoted_uploads: Vec<&'static str>,
}

impl FormReader<'_> {
    async fn part(&mut self, mut part: FormPart<'_>) -> Result<(), ApiError> {
        let name = part.name.clone();
        let kind = self.limits.field_kind(&name);
        if aliases::is_container(&name) {
            let start = part.start().await?;
            if start.head.trim_ascii_start().first() == Some(&b'{') && text::is_json(&start.head) {
                return self.container(part, start).await;
            }
            part.put_back(start);
        }
        match kind {
            FieldKind::Image(image) => {
                if self.picture(part, Some(image)).await? {
                    self.form()?.note_renamed(&name, kind);
                } else {
                    self.content()?.order.insert_empty(image, &name);
                }
                Ok(())
            }
            FieldKind::Mask => {
                if self.picture(part, None).await? {
                    self.form()?.note_renamed(&name, kind);
                }
                Ok(())
            }
            FieldKind::Misplaced(known) => {
                if part.skip().await? > 0 {
                    self.form()?.note_misplaced(known, "is not supported here");
                }
                Ok(())
            }
            FieldKind::Scalar(known) => {
                known.clone_into(&mut part.name);
                let text = part.text(self.limits, self.charset.as_deref()).await?;
                self.form()?.add_scalar(known, text.into())
            }
            FieldKind::Members => {
                let start = part.start().await?;
                if start.head.trim_ascii_start().first() == Some(&b'{') {
                    self.form()?.note_renamed(&name, kind);
                    let text = self.spool(part, start, "image").await?;
                    return self.json(text, &name, JsonField::Members).await;
                }
                self.unknown(part, start).await
            }
            FieldKind::Unknown => {
                let start = part.start().await?;
                self.unknown(part, start).await
            }
        }
    }

    /// Reads an image, or the mask where there is no name of an image; returns whether it holds anything.
    async fn picture(&mut self, mut part: FormPart<'_>, image: Option<ImageName>) -> Result<bool, ApiError> {
        let limits = self.limits;
        let content = self.content()?;
        let (param, name) = match image {
            Some(_) => {
                limits.expect_image(content.order.count())?;
                ("image", content.order.next_name())
            }
            None => ("mask", "mask".to_owned()),
        };
        let place = PictureParameter { param, name: &name };
        let start = part.start().await?;
        match part.picture_content(&start) {
            PictureContent::Empty => {
                part.skip().await?;
                return Ok(false);
            }
            PictureContent::QuotedUpload => {
                part.skip().await?;
                self.quoted_uploads.push(param);
            }
            PictureContent::Bytes => {
                let input = self.file(part, start, place).await?;
                self.add(image, input)?;
            }
            kind @ (PictureContent::Text | PictureContent::EncodedFile) => {
                let text = self.spool(part, start, &name).await?;
                let read = self.text(text, place).await;
                let broken = matches!(read, Err(ApiError::Unacceptable { .. })) && kind == PictureContent::EncodedFile;
                if broken {
                    return Err(place.unacceptable(
                        "the file is base64 text, which cannot be decoded; send the bytes of the picture themselves",
                    ));
                }
                let Some(input) = read? else { return Ok(false) };
                self.add(image, input)?;
            }
            PictureContent::Json => {
                let text = self.spool(part, start, &name).await?;
                let field = image.map_or(JsonField::Mask, JsonField::Images);
                self.json(text, &name, field).await?;
            }
        }
        Ok(true)
    }

    /// Reads an object of fields of other APIs.
    async fn container(&mut self, part: FormPart<'_>, start: PartStart) -> Result<(), ApiError> {
        let (name, max) = (part.name.clone(), self.limits.text_bytes_max);
        let bytes = self.beginning(part, start).await?;
        if bytes.len() >= max {
            return Err(ApiError::TextTooLong { param: name, unit: "bytes", max });
        }
        self.json(Arc::new(bytes::Bytes::from(bytes)), &name, JsonField::Container(name.clone())).await
    }

    fn add(&mut self, image: Option<ImageName>, input: Input) -> Result<(), ApiError> {
        let FormContent { form, order, .. } = self.content()?;
        match image {
            Some(name) => {
                order.insert(&mut form.images, name, input);
                Ok(())
            }
            None => form.add_mask(input),
        }
    }

    /// Reads a part into the spool as a picture.
    async fn file(
        &mut self,
        mut part: FormPart<'_>,
        start: PartStart,
        place: PictureParameter<'_>,
    ) -> Result<Input, ApiError> {
        let limits = self.limits;
        let full = |error| ApiError::from_spool(error, place.name);
        let upload = &mut self.content()?.upload;
        if part.is_spooled {
            let bytes = part.whole(start).await?;
            let (picture, source) = upload.take_picture(bytes, limits.image_bytes_max).map_err(full)?;
            return Ok(Input::Bytes { picture, source });
        }
        let mut writer = upload.picture(limits.image_bytes_max);
        for chunk in start.chunks {
            writer.write(chunk).await.map_err(full)?;
        }
        while let Some(chunk) = part.chunk().await? {
            writer.write(chunk).await.map_err(full)?;
        }
        let (picture, source) = writer.finish().await.map_err(full)?;
        Ok(Input::Bytes { picture, source })
    }

    /// Reads a part into the spool as a text, which is released with it.
    async fn spool(
        &mut self,
        mut part: FormPart<'_>,
        start: PartStart,
        name: &str,
    ) -> Result<Arc<dyn ByteSource>, ApiError> {
        let full = |error| ApiError::from_spool(error, name);
        // Base64 is longer by a third, and a list holds several.
        let bytes_max = self.limits.image_bytes_max.saturating_mul(2);
        let mut upload: Upload = self.content()?.upload.split(0);
        let mut writer = upload.text(bytes_max);
        for chunk in start.chunks {
            writer.write(chunk).await.map_err(full)?;
        }
        while let Some(chunk) = part.chunk().await? {
            writer.write(chunk).await.map_err(full)?;
        }
        writer.finish().await.map_err(full)
    }

    /// Reads the picture of a spooled text, away from the asynchronous threads unless it is short.
    async fn text(
        &mut self,
        text: Arc<dyn ByteSource>,
        place: PictureParameter<'_>,
    ) -> Result<Option<Input>, ApiError> {
        let reader = SourceReader { source: Arc::clone(&text), offset: 0 };
        let explain = |error: &std::io::Error| ApiError::internal(format!("the spooled text cannot be read: {error}"));
        let mut content = self.content.take().ok_or_else(lost)?;
        let (limits, param, name) = (self.limits.clone(), place.param, place.name.to_owned());
        let reading = read_stored(&*text, move || {
            let place = PictureParameter { param, name: &name };
            let read = read_picture(reader, &mut content.upload, &limits, place, explain);
            (content, read)
        });
        let (content, read) = reading.await?;
        self.content = Some(content);
        read
    }

    /// Reads the value of a spooled JSON text.
    async fn json(&mut self, text: Arc<dyn ByteSource>, name: &str, field: JsonField) -> Result<(), ApiError> {
        let content = self.content.take().ok_or_else(lost)?;
        let read = read_field(text, self.limits, content, field).await;
        if let Err(ApiError::MalformedBody { problem }) = read {
            let problem = format!("the JSON text of '{name}': {problem}");
            return Err(ApiError::MalformedBody { problem: problem.into() });
        }
        self.content = Some(read?);
        Ok(())
    }

    /// Looks for pictures in a part that is not known.
    async fn unknown(&mut self, part: FormPart<'_>, start: PartStart) -> Result<(), ApiError> {
        let name = part.name.clone();
        if part.holds_file(&start) {
            let bytes = start.chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>() + part.skip().await?;
            if bytes > 0 {
                self.form()?.note_unknown_picture(&name, "a file");
            }
            return Ok(());
        }
        if name == "_charset_" && start.whole {
            self.charset = Some(String::from_utf8_lossy(&start.head).trim().to_lowercase());
            return Ok(());
        }
        if part.declares_json() || text::is_json(&start.head) {
            let bytes = self.beginning(part, start).await?;
            return self.json(Arc::new(bytes::Bytes::from(bytes)), &name, JsonField::Unknown(name.clone())).await;
        }
        part.skip().await?;
        if holds_picture(&start.head, FieldHint::of(&name)) {
            self.form()?.note_unknown_picture(&name, "a picture");
        } else {
            self.form()?.note_unknown(&name);
        }
        Ok(())
    }

    /// Reads a part to its end and returns the beginning of it, as long as a text may be.
    async fn beginning(&mut self, mut part: FormPart<'_>, start: PartStart) -> Result<Vec<u8>, ApiError> {
        let max = self.limits.text_bytes_max;
        let mut bytes = Vec::new();
        let mut keep = |chunk: &[u8]| bytes.extend(chunk.iter().take(max.saturating_sub(bytes.len())));
        start.chunks.iter().for_each(|chunk| keep(chunk));
        while let Some(chunk) = part.chunk().await? {
            keep(&chunk);
        }
        Ok(bytes)
    }

    /// Ends the form. The name of an object in the place of a picture is ignored where the picture itself came, too.
    fn finish(mut self) -> Result<Form, ApiError> {
        let mut content = self.content.take().ok_or_else(lost)?;
        content.finish_images();
        let form = content.form;
        let is_missing = |param: &&'static str| match *param {
            "mask" => form.mask.is_none(),
            _ => form.images.is_empty(),
        };
        match self.quoted_uploads.into_iter().find(is_missing) {
            Some(param) => Err(ApiError::InvalidType { param: param.to_owned(), expected: "a file", got: "a string" }),
            None => Ok(form),
        }
    }

    fn content(&mut self) -> Result<&mut FormContent, ApiError> {
        self.content.as_mut().ok_or_else(lost)
    }

    fn form(&mut self) -> Result<&mut Form, ApiError> {
        Ok(&mut self.content()?.form)
    }
}

fn lost() -> ApiError {
    ApiError::internal("a form was used after its reading had failed")
}

#[cfg(test)]
mod tests;
