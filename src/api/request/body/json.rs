//! Reads JSON bodies without holding a picture: the body is spooled as it arrives, then read string by string, and every
//! string in the place of a picture is decoded into the spool as it is read.
//!
//! All forms that clients send are accepted: `images: [{image_url: "data:…"}]`, `{image_url: {url}}`, `{url}`,
//! `{b64_json}`, bare strings (data URL, base64, http(s) address), one or many, under all the names of `form/names.rs`; `mask`
//! likewise. `null` counts as absent, but not in a list of images. In values that are not known, pictures are looked for.

use std::io::{self, Read};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt;
use struson::reader::{JsonReader, JsonStreamReader, ReaderError, ReaderSettings, ValueType};

use super::blocking::read_stored;
use super::form::aliases::{self, Meaning};
use super::form::names::{FieldHint, ImageName, ImageOrdering};
use super::form::{FieldKind, Form, FormLimits, Scalar};
use super::incoming::IncomingBody;
use super::picture_text::{HEAD_BYTES, holds_picture};
use crate::api::error::ApiError;
use crate::config::BodyConfig;
use crate::model::ByteSource;
use crate::model::picture::read_full;
use crate::storage::spool::{Spool, SpoolError, Upload};

pub(in crate::api) mod chat;
mod input;
mod limits;
mod picture;
mod problems;
mod search;

use input::malformed;
pub(super) use input::{LimitedReader, Meter, SourceReader};
use limits::JsonLimits;

/// Longest name of a member with the white space around it, in bytes.
const NAME_BYTES_MAX: u64 = 16 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;
/// What some editors and .NET write before a UTF-8 text.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Reads a body and its pictures, once the spool has room for its `announced` length in bytes and for the pictures in it.
///
/// # Errors
///
/// The first fault of the body or of a value in it; the rules of the model are checked later.
pub(crate) async fn read(
    incoming: IncomingBody,
    limits: &FormLimits,
    spool: &Spool,
    announced: Option<u64>,
    bodies: &BodyConfig,
) -> Result<Form, ApiError> {
    read_with(incoming, limits, spool, announced, bodies, |body| {
        Ok(body.parse(|parser| parser.members(Parser::member))?.0)
    })
    .await
}

/// Spools a body and calls `read` with it, off the asynchronous threads unless it is small.
///
/// # Errors
///
/// A fault of the body's structure, or the error of `read`.
pub(super) async fn read_with<T: Send + 'static>(
    mut incoming: IncomingBody,
    limits: &FormLimits,
    spool: &Spool,
    announced: Option<u64>,
    bodies: &BodyConfig,
    read: impl FnOnce(&mut StoredBody) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let too_large = |error| match error {
        SpoolError::PartTooLarge { bytes_max } => ApiError::BodyTooLarge { bytes_max },
        SpoolError::NeverFits { .. } | SpoolError::Full { .. } | SpoolError::Exhausted(_) | SpoolError::Io(_) => {
            ApiError::from_spool(error, "body")
        }
    };
    let mut upload = spool.upload(announced.map(with_pictures)).await.map_err(too_large)?;
    let mut body = upload.split(announced.unwrap_or(0));
    let mut structure = JsonLimits::new(bodies.json_depth_max, bodies.json_values_max);
    let mut writer = body.text(bodies.bytes_max);
    while let Some(chunk) = incoming.next().await {
        let chunk = chunk?;
        structure.check(&chunk)?;
        writer.write(chunk).await.map_err(too_large)?;
    }
    let text = writer.finish().await.map_err(too_large)?;
    drop(body);
    if structure.is_blank() {
        return Err(malformed(problems::empty(text.size())));
    }
    let mut body = StoredBody { text, limits: limits.clone(), content: FormContent::new(upload) };
    let text = Arc::clone(&body.text);
    read_stored(&*text, move || read(&mut body)).await?
}

/// A text that has arrived whole, and what it takes to read it.
#[derive(Debug)]
pub(super) struct StoredBody {
    text: Arc<dyn ByteSource>,
    limits: FormLimits,
    content: FormContent,
}

impl StoredBody {
    pub(super) fn limits(&self) -> &FormLimits {
        &self.limits
    }

    /// Parses the text from its start with `read`, and returns the form that it filled. Blocks unless the text is in memory.
    ///
    /// # Errors
    ///
    /// The error of `read`, or the first fault of the JSON.
    pub(super) fn parse<T>(
        &mut self,
        read: impl FnOnce(&mut Parser<'_>) -> Result<T, ReadError>,
    ) -> Result<(Form, T), ApiError> {
        (self.content.form, self.content.order) = (Form::default(), ImageOrdering::default());
        let value = self.extend(read)?;
        self.content.finish_images();
        Ok((std::mem::take(&mut self.content.form), value))
    }

    /// As [`StoredBody::parse`], but adds to the form that is there.
    fn extend<T>(&mut self, read: impl FnOnce(&mut Parser<'_>) -> Result<T, ReadError>) -> Result<T, ApiError> {
        let Self { text, limits, content: FormContent { upload, form, order } } = self;
        let mark = read_full(&**text, 0, BYTE_ORDER_MARK.len()).is_ok_and(|start| start == BYTE_ORDER_MARK);
        let meter = Rc::new(Meter::new(Arc::clone(text), if mark { BYTE_ORDER_MARK.len() as u64 } else { 0 }));
        let settings = ReaderSettings {
            // The path would hold every name, for messages that do not show it.
            track_path: false,
            max_nesting_depth: Some(limits.json_depth_max),
            ..ReaderSettings::default()
        };
        // The buffer is zeroed, which for a short text costs more than reading it.
        let buffer_bytes = usize::try_from(text.size()).unwrap_or(BUFFER_BYTES).clamp(1, BUFFER_BYTES);
        let json = JsonStreamReader::new_custom(LimitedReader::new(&meter, buffer_bytes), settings);
        let filled = std::mem::take(form);
        let mut parser = Parser { json, meter, limits, upload, form: filled, order, members: 0 };
        let read = read(&mut parser);
        let Parser { json, meter, form: filled, .. } = parser;
        *form = filled;
        let read = read.and_then(|value| json.consume_trailing_whitespace().map(|()| value).map_err(ReadError::Json));
        read.map_err(|error| match error {
            ReadError::Api(error) => error,
            ReadError::Json(error) => meter.explain(&error),
        })
    }
}

/// A form that is being filled.
#[derive(Debug)]
pub(super) struct FormContent {
    pub(super) upload: Upload,
    pub(super) form: Form,
    pub(super) order: ImageOrdering,
}

impl FormContent {
    pub(super) fn new(upload: Upload) -> Self {
        Self { upload, form: Form::default(), order: ImageOrdering::default() }
    }

    /// Ends the list of images: copies are removed, and gaps are recorded.
    pub(super) fn finish_images(&mut self) {
        let Self { form, order, .. } = self;
        order.remove_copies(&mut form.images);
        for name in order.gaps() {
            form.note_misplaced(name, "is empty, and a picture follows it; leave it out");
        }
    }
}

/// What the JSON text of a form's field stands for.
#[derive(Clone, Debug)]
pub(super) enum JsonField {
    /// An image, or a list of them.
    Images(ImageName),
    Mask,
    /// An object of fields.
    Members,
    /// An object of fields of other APIs, by its name.
    Container(String),
    Unknown(String),
}

/// Reads a spooled JSON text into a form, off the asynchronous threads unless it is short.
///
/// # Errors
///
/// The first fault of the text or of a value in it. One that is not known need not be JSON: it is only looked through.
pub(super) async fn read_field(
    text: Arc<dyn ByteSource>,
    limits: &FormLimits,
    content: FormContent,
    field: JsonField,
) -> Result<FormContent, ApiError> {
    let mut body = StoredBody { text: Arc::clone(&text), limits: limits.clone(), content };
    let read = move || {
        let read = body.extend(|parser| match &field {
            JsonField::Images(name) => parser.images(*name),
            JsonField::Mask => parser.mask().map(|_| ()),
            JsonField::Members => parser.members(|parser, name| parser.field(name, true)),
            JsonField::Container(name) => parser.container(name),
            JsonField::Unknown(name) => parser.unknown(name),
        });
        match read {
            Err(error) if !matches!(field, JsonField::Unknown(_)) => Err(error),
            Ok(()) | Err(_) => Ok(body.content),
        }
    };
    read_stored(&*text, read).await?
}

/// Returns the spool space of a body, in bytes: the body itself, and its pictures, which are at most three quarters of it.
fn with_pictures(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4 * 3 + 4096)
}

/// Why parsing stopped: an invalid value, or invalid JSON.
#[derive(Debug)]
pub(super) enum ReadError {
    Api(ApiError),
    Json(ReaderError),
}

impl From<ApiError> for ReadError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<ReaderError> for ReadError {
    fn from(error: ReaderError) -> Self {
        Self::Json(error)
    }
}

#[derive(Debug)]
pub(super) struct Parser<'a> {
    pub(super) json: JsonStreamReader<LimitedReader>,
    pub(super) meter: Rc<Meter>,
    pub(super) limits: &'a FormLimits,
    pub(super) upload: &'a mut Upload,
    pub(super) form: Form,
    order: &'a mut ImageOrdering,
    members: usize,
}

impl Parser<'_> {
    /// Calls `read` with the name of each member of an object; it must read the value.
    pub(super) fn members(
        &mut self,
        mut read: impl FnMut(&mut Self, &str) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        if self.json.peek()? != ValueType::Object {
            return Err(malformed("it is not a JSON object").into());
        }
        self.json.begin_object()?;
        while self.json.has_next()? {
            self.members += 1;
            if self.members > self.limits.parts_max {
                return Err(malformed(format!("it has more than {} members", self.limits.parts_max)).into());
            }
            let name = self.name()?;
            read(self, &name)?;
        }
        self.json.end_object()?;
        Ok(())
    }

    /// Reads the value of a member of the body.
    pub(super) fn member(&mut self, name: &str) -> Result<(), ReadError> {
        self.field(name, false)
    }

    /// Reads the value of a field. One in an object that is `nested` in the body may hold no further object of fields.
    fn field(&mut self, name: &str, nested: bool) -> Result<(), ReadError> {
        let value_type = self.json.peek()?;
        if value_type == ValueType::Null {
            self.json.next_null()?;
            return Ok(());
        }
        if value_type == ValueType::Object && aliases::is_container(name) {
            return self.container(name);
        }
        let kind = self.limits.field_kind(name);
        match kind {
            FieldKind::Image(image) => {
                let before = self.order.count();
                self.images(image)?;
                if self.order.count() > before {
                    self.form.note_renamed(name, kind);
                } else {
                    self.order.insert_empty(image, name);
                }
                Ok(())
            }
            FieldKind::Mask => {
                if self.mask()? {
                    self.form.note_renamed(name, kind);
                }
                Ok(())
            }
            FieldKind::Misplaced(known) => {
                if self.skip_filled()? {
                    self.form.note_misplaced(known, "is not supported here");
                }
                Ok(())
            }
            FieldKind::Scalar(known) => self.scalar_field(name, known),
            FieldKind::Members if value_type == ValueType::Object && !nested => {
                self.form.note_renamed(name, kind);
                self.members(|parser, name| parser.field(name, true))
            }
            FieldKind::Members | FieldKind::Unknown => self.unknown(name),
        }
    }

    /// Reads an object of fields of other APIs, which are known by the object's name and their own. A scalar of this API
    /// counts as if it stood beside the object.
    fn container(&mut self, name: &str) -> Result<(), ReadError> {
        self.json.begin_object()?;
        while self.json.has_next()? {
            let member = self.name()?;
            let full = format!("{name}.{member}");
            let value_type = self.json.peek()?;
            let limits = self.limits;
            if value_type == ValueType::Null {
                self.json.next_null()?;
            } else if value_type == ValueType::Object && aliases::is_container(&full) {
                self.container(&full)?;
            } else if aliases::find(&full).is_some() {
                self.scalar_field(&full, &full)?;
            } else if let FieldKind::Scalar(known) = limits.field_kind(&member) {
                self.form.note_moved(&full, known);
                self.scalar_field(&full, known)?;
            } else {
                self.unknown(&full)?;
            }
        }
        self.json.end_object()?;
        Ok(())
    }

    /// Reads the value of the scalar `known`. A picture in its place is recorded, because the scalar may be one that is
    /// ignored.
    fn scalar_field(&mut self, name: &str, known: &str) -> Result<(), ReadError> {
        let value = match self.json.peek()? {
            ValueType::Array | ValueType::Object => {
                let value = if self.json.peek()? == ValueType::Array { Scalar::Array } else { Scalar::Object };
                if self.find_picture(name)? {
                    self.form.note_unknown_picture(name, "a picture");
                }
                value
            }
            ValueType::String | ValueType::Number | ValueType::Boolean | ValueType::Null => self.scalar(known)?,
        };
        let is_format = || aliases::find(known).is_some_and(|(.., meaning)| meaning == Meaning::Format);
        if let Scalar::Text(text) = &value
            && (known == "style" || is_format())
            && holds_picture(&text.as_bytes()[..text.len().min(HEAD_BYTES)], FieldHint::Unclear)
        {
            self.form.note_unknown_picture(name, "a picture");
        }
        Ok(self.form.add_scalar(known, value)?)
    }

    /// Reads the next name, which struson holds whole: the meter bounds it.
    pub(super) fn name(&mut self) -> Result<String, ReadError> {
        self.meter.allow(NAME_BYTES_MAX);
        let name = self.json.next_name_owned()?;
        self.meter.allow(u64::MAX);
        Ok(name)
    }

    /// Skips a value and returns whether it held anything: some programs send `images: []` for none.
    pub(super) fn skip_filled(&mut self) -> Result<bool, ReadError> {
        match self.json.peek()? {
            ValueType::Array => {
                self.json.begin_array()?;
                let filled = self.json.has_next()?;
                while self.json.has_next()? {
                    self.json.skip_value()?;
                }
                self.json.end_array()?;
                Ok(filled)
            }
            ValueType::String => {
                let mut string = self.json.next_string_reader()?;
                let copied = io::copy(&mut string, &mut io::sink());
                Ok(copied.map_err(|error| self.meter.string_error(&error))? > 0)
            }
            ValueType::Object | ValueType::Number | ValueType::Boolean | ValueType::Null => {
                self.json.skip_value()?;
                Ok(true)
            }
        }
    }

    pub(super) fn scalar(&mut self, param: &str) -> Result<Scalar, ReadError> {
        Ok(match self.json.peek()? {
            ValueType::String => Scalar::Text(text(self, param)?),
            // Bounded by struson to 100 characters.
            ValueType::Number => Scalar::Number(self.json.next_number_as_string()?),
            ValueType::Boolean => Scalar::Bool(self.json.next_bool()?),
            ValueType::Null => {
                self.json.next_null()?;
                Scalar::Text(String::new())
            }
            ValueType::Array => {
                self.json.skip_value()?;
                Scalar::Array
            }
            ValueType::Object => {
                self.json.skip_value()?;
                Scalar::Object
            }
        })
    }
}

fn text(parser: &mut Parser<'_>, param: &str) -> Result<String, ReadError> {
    let max = parser.limits.text_bytes_max;
    let mut bytes = Vec::new();
    let mut string = parser.json.next_string_reader()?;
    let read = string.by_ref().take(max as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| parser.meter.string_error(&error))?;
    if bytes.len() > max {
        return Err(ReadError::Api(ApiError::TextTooLong { param: param.to_owned(), unit: "bytes", max }));
    }
    String::from_utf8(bytes).map_err(|_| malformed(problems::NOT_UTF8).into())
}

#[cfg(test)]
mod tests;
