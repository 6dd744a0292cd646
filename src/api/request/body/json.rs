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

use super::form::names::{ImageName, ImageOrder};
use super::form::{FieldKind, Form, FormLimits, Scalar};
use super::incoming::IncomingBody;
use crate::api::error::ApiError;
use crate::config::BodyConfig;
use crate::model::ByteSource;
use crate::model::picture::read_full;
use crate::storage::spool::{Spool, SpoolError, Upload};

mod input;
mod limits;
mod picture;
mod problems;
mod search;

pub(super) use input::SourceReader;
use input::{Meter, Metered, malformed};
use limits::JsonLimits;

/// Longest name of a member with the white space around it, in bytes.
const NAME_BYTES_MAX: u64 = 16 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;
/// What some editors and .NET write before a UTF-8 text.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// Largest body that is parsed on the asynchronous thread, in bytes: handing it to another thread would take longer.
const INLINE_BYTES: usize = 64 * 1024;

/// Reads a body and its pictures, once the spool has room for its `announced` length in bytes and for the pictures in it.
///
/// # Errors
///
/// The first fault of the body or of a value in it; the rules of the model are checked later.
pub(crate) async fn read(
    mut incoming: IncomingBody,
    limits: &FormLimits,
    spool: &Spool,
    announced: Option<u64>,
    bodies: &BodyConfig,
) -> Result<Form, ApiError> {
    let budget = incoming.part_header_budget();
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
        budget.renew();
        let chunk = chunk?;
        structure.check(&chunk)?;
        writer.write(chunk).await.map_err(too_large)?;
    }
    let text = writer.finish().await.map_err(too_large)?;
    drop(body);
    if structure.is_blank() {
        return Err(malformed(problems::empty(text.size())));
    }
    let content = FormContent { upload, form: Form::default(), order: ImageOrder::default() };
    read_value(text, limits, content, JsonPlace::Body).await.map(|content| content.form)
}

/// A form that is being filled.
#[derive(Debug)]
pub(super) struct FormContent {
    pub(super) upload: Upload,
    pub(super) form: Form,
    pub(super) order: ImageOrder,
}

/// Where a JSON text stands.
#[derive(Clone, Debug)]
pub(super) enum JsonPlace {
    /// It is the whole body.
    Body,
    /// It is the value of a field of a form: an image or a list of them, a mask, an object of fields, or something unknown.
    Images(ImageName),
    Mask,
    Members,
    Unknown(String),
}

/// Reads a spooled JSON text into a form, away from the asynchronous threads unless it is short.
///
/// # Errors
///
/// The first fault of the text or of a value in it.
pub(super) async fn read_value(
    text: Arc<dyn ByteSource>,
    limits: &FormLimits,
    content: FormContent,
    place: JsonPlace,
) -> Result<FormContent, ApiError> {
    if text.in_memory().is_some_and(|text| text.len() <= INLINE_BYTES) {
        return parse(text, limits, content, &place);
    }
    let limits = limits.clone();
    tokio::task::spawn_blocking(move || parse(text, &limits, content, &place))
        .await
        .map_err(|error| ApiError::internal(format!("reading a body failed: {error}")))?
}

/// Returns the spool space of a body, in bytes: the body itself, and its pictures, which are at most three quarters of it.
fn with_pictures(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4 * 3 + 4096)
}

/// Parses a spooled text. Blocks unless it is in memory.
fn parse(
    text: Arc<dyn ByteSource>,
    limits: &FormLimits,
    content: FormContent,
    place: &JsonPlace,
) -> Result<FormContent, ApiError> {
    let mark = read_full(&*text, 0, BYTE_ORDER_MARK.len()).is_ok_and(|start| start == BYTE_ORDER_MARK);
    let meter = Rc::new(Meter::new(text, if mark { BYTE_ORDER_MARK.len() as u64 } else { 0 }));
    let settings = ReaderSettings {
        // The path would hold every name, for messages that do not show it.
        track_path: false,
        max_nesting_depth: Some(limits.json_depth_max),
        ..ReaderSettings::default()
    };
    let json = JsonStreamReader::new_custom(Metered::new(&meter, BUFFER_BYTES), settings);
    let FormContent { upload, form, order } = content;
    let mut parser = Parser { json, meter, limits, upload, form, order, members: 0 };
    let read = match place {
        JsonPlace::Body => parser.body(),
        JsonPlace::Images(name) => parser.images(*name),
        JsonPlace::Mask => parser.mask(),
        JsonPlace::Members => parser.members(true),
        JsonPlace::Unknown(name) => parser.unknown(name),
    };
    let Parser { json, meter, upload, form, order, .. } = parser;
    let read = read.and_then(|()| json.consume_trailing_whitespace().map_err(ReadError::Json));
    match read {
        Ok(()) => Ok(FormContent { upload, form, order }),
        // A text that is not known need not be JSON: it was only looked through.
        Err(_) if matches!(place, JsonPlace::Unknown(_)) => Ok(FormContent { upload, form, order }),
        Err(ReadError::Api(error)) => Err(error),
        Err(ReadError::Json(error)) => Err(meter.explain(&error)),
    }
}

/// Why parsing stopped: an invalid value, or invalid JSON.
#[derive(Debug)]
enum ReadError {
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
struct Parser<'a> {
    json: JsonStreamReader<Metered>,
    meter: Rc<Meter>,
    limits: &'a FormLimits,
    upload: Upload,
    form: Form,
    order: ImageOrder,
    members: usize,
}

impl Parser<'_> {
    fn body(&mut self) -> Result<(), ReadError> {
        if self.json.peek()? != ValueType::Object {
            return Err(malformed("it is not a JSON object").into());
        }
        self.members(false)
    }

    /// Reads an object of fields. One that is `nested` in another may hold no further one.
    fn members(&mut self, nested: bool) -> Result<(), ReadError> {
        self.json.begin_object()?;
        while self.json.has_next()? {
            self.members += 1;
            if self.members > self.limits.parts_max {
                return Err(malformed(format!("it has more than {} members", self.limits.parts_max)).into());
            }
            let name = self.name()?;
            let value_type = self.json.peek()?;
            if value_type == ValueType::Null {
                self.json.next_null()?;
                continue;
            }
            match self.limits.field_kind(&name) {
                FieldKind::Image(name) => self.images(name)?,
                FieldKind::Mask => self.mask()?,
                FieldKind::Misplaced(known) => {
                    if self.skip_filled()? {
                        self.form.note_misplaced(known, "is not supported here");
                    }
                }
                FieldKind::Scalar(known) => {
                    let value = self.scalar(known)?;
                    self.form.add_scalar(known, value)?;
                }
                FieldKind::Members if value_type == ValueType::Object && !nested => self.members(true)?,
                FieldKind::Members | FieldKind::Unknown => self.unknown(&name)?,
            }
        }
        self.json.end_object()?;
        Ok(())
    }

    /// Reads the next name, which struson holds whole: the meter bounds it.
    fn name(&mut self) -> Result<String, ReadError> {
        self.meter.allow(NAME_BYTES_MAX);
        let name = self.json.next_name_owned()?;
        self.meter.allow(u64::MAX);
        Ok(name)
    }

    /// Skips a value and returns whether it held anything: some programs send `images: []` for none.
    fn skip_filled(&mut self) -> Result<bool, ReadError> {
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
                Ok(copied.map_err(|error| ReadError::Api(self.meter.explain_string(&error)))? > 0)
            }
            ValueType::Object | ValueType::Number | ValueType::Boolean | ValueType::Null => {
                self.json.skip_value()?;
                Ok(true)
            }
        }
    }

    fn scalar(&mut self, param: &str) -> Result<Scalar, ReadError> {
        Ok(match self.json.peek()? {
            ValueType::String => Scalar::Text(self.text(param)?),
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

    fn text(&mut self, param: &str) -> Result<String, ReadError> {
        let max = self.limits.text_bytes_max;
        let mut bytes = Vec::new();
        let mut string = self.json.next_string_reader()?;
        let read = string.by_ref().take(max as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| ReadError::Api(self.meter.explain_string(&error)))?;
        if bytes.len() > max {
            return Err(ReadError::Api(ApiError::TextTooLong { param: param.to_owned(), unit: "bytes", max }));
        }
        String::from_utf8(bytes).map_err(|_| malformed(problems::NOT_UTF8).into())
    }
}

#[cfg(test)]
mod tests;
