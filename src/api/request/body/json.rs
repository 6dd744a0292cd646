//! Reads JSON bodies without holding a picture: the body is spooled as it arrives, then read string by string, and every
//! string in the place of a picture is decoded into the spool as it is read.
//!
//! All forms that clients send are accepted: `images: [{image_url: "data:…"}]`, `{image_url: {url}}`, `{url}`,
//! `{b64_json}`, bare strings (data URL, base64, http(s) address), one or many, under `image` or `images`; `mask`
//! likewise. `null` counts as absent.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt;
use struson::reader::{
    JsonReader, JsonStreamReader, JsonSyntaxError, ReaderError, ReaderSettings, SyntaxErrorKind, ValueType,
};

use super::form::{FieldKind, Form, FormLimits, Scalar};
use super::incoming::IncomingBody;
use crate::api::error::ApiError;
use crate::config::BodyConfig;
use crate::model::ByteSource;
use crate::storage::spool::{Spool, SpoolError, Upload};

mod limits;
pub(super) mod picture;

use limits::JsonLimits;

/// Longest name of a member with the white space around it, in bytes.
const NAME_BYTES_MAX: u64 = 16 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;
/// Largest body that is parsed on the asynchronous thread, in bytes: handing it to another thread would take longer.
const INLINE_BYTES: usize = 64 * 1024;

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
    read_with(incoming, limits, spool, announced, bodies, |body| Ok(body.parse(|parser| parser.body())?.0)).await
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
    read: impl FnOnce(&mut SpooledBody) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
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
    let is_small = text.in_memory().is_some_and(|text| text.len() <= INLINE_BYTES);
    let mut body = SpooledBody { text, limits: limits.clone(), depth_max: bodies.json_depth_max, upload };
    if is_small {
        return read(&mut body);
    }
    tokio::task::spawn_blocking(move || read(&mut body))
        .await
        .map_err(|error| ApiError::internal(format!("reading a body failed: {error}")))?
}

/// Returns the spool space of a body, in bytes: the body itself, and its pictures, which are at most three quarters of it.
fn with_pictures(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4 * 3 + 4096)
}

/// A body that has arrived whole, and what it takes to read it.
#[derive(Debug)]
pub(super) struct SpooledBody {
    text: Arc<dyn ByteSource>,
    limits: FormLimits,
    depth_max: u32,
    upload: Upload,
}

impl SpooledBody {
    pub(super) fn limits(&self) -> &FormLimits {
        &self.limits
    }

    /// Parses the body from its start with `read`, and returns the form that it filled. Blocks unless the body is in memory.
    ///
    /// # Errors
    ///
    /// The error of `read`, or the first fault of the JSON.
    pub(super) fn parse<T>(
        &mut self,
        read: impl FnOnce(&mut Parser<'_>) -> Result<T, ReadError>,
    ) -> Result<(Form, T), ApiError> {
        let meter = Rc::new(Meter::default());
        let source = Arc::clone(&self.text);
        let bytes = Metered {
            bytes: BufReader::with_capacity(BUFFER_BYTES, SourceReader { source, offset: 0 }),
            meter: Rc::clone(&meter),
        };
        let settings = ReaderSettings {
            // The path would hold every name, for messages that do not show it.
            track_path: false,
            max_nesting_depth: Some(self.depth_max),
            ..ReaderSettings::default()
        };
        let json = JsonStreamReader::new_custom(bytes, settings);
        let mut parser = Parser { json, meter, limits: &self.limits, upload: &mut self.upload, form: Form::default() };
        let read = read(&mut parser);
        let Parser { json, meter, form, .. } = parser;
        let read = read.and_then(|value| json.consume_trailing_whitespace().map(|()| value).map_err(ReadError::Json));
        match read {
            Ok(value) => Ok((form, value)),
            Err(ReadError::Api(error)) => Err(error),
            Err(ReadError::Json(error)) => Err(meter.explain(&error)),
        }
    }
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
    pub(super) json: JsonStreamReader<Metered>,
    pub(super) meter: Rc<Meter>,
    pub(super) limits: &'a FormLimits,
    pub(super) upload: &'a mut Upload,
    pub(super) form: Form,
}

impl Parser<'_> {
    fn body(&mut self) -> Result<(), ReadError> {
        self.members(Self::member)
    }

    /// Calls `read` with the name of each member of the body; it must read the value.
    pub(super) fn members(
        &mut self,
        mut read: impl FnMut(&mut Self, &str) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        if self.json.peek()? != ValueType::Object {
            return Err(malformed("it is not a JSON object"));
        }
        self.json.begin_object()?;
        let mut members = 0;
        while self.json.has_next()? {
            members += 1;
            if members > self.limits.parts_max {
                return Err(malformed(format!("it has more than {} members", self.limits.parts_max)));
            }
            let name = self.name()?;
            read(self, &name)?;
        }
        self.json.end_object()?;
        Ok(())
    }

    /// Reads the value of a member of the body.
    pub(super) fn member(&mut self, name: &str) -> Result<(), ReadError> {
        if self.json.peek()? == ValueType::Null {
            self.json.next_null()?;
            return Ok(());
        }
        match self.limits.field_kind(name) {
            FieldKind::Image => self.images()?,
            FieldKind::Mask => self.mask()?,
            FieldKind::Misplaced(known) => {
                if self.skip_filled()? {
                    self.form.misplaced.insert(known);
                }
            }
            FieldKind::Scalar(known) => {
                let value = self.scalar(known)?;
                self.form.add_scalar(known, value)?;
            }
            FieldKind::Unknown => {
                self.json.skip_value()?;
                self.form.note_unknown(name);
            }
        }
        Ok(())
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
        read.map_err(|error| self.meter.string_error(&error))?;
        if bytes.len() > max {
            return Err(ReadError::Api(ApiError::TextTooLong { param: param.to_owned(), unit: "bytes", max }));
        }
        String::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))
    }
}

fn malformed(problem: impl Into<std::borrow::Cow<'static, str>>) -> ReadError {
    ReadError::Api(ApiError::MalformedBody { problem: problem.into() })
}

/// Bounds how much struson reads, and records why its input failed.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes that may still be read.
    allowance: Cell<u64>,
    exhausted: Cell<bool>,
    /// The spool could not be read.
    unreadable: Cell<bool>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { allowance: Cell::new(u64::MAX), exhausted: Cell::new(false), unreadable: Cell::new(false) }
    }
}

impl Meter {
    fn allow(&self, bytes: u64) {
        self.allowance.set(bytes);
    }

    /// Returns the error for the client when reading a string failed.
    pub(super) fn string_error(&self, error: &io::Error) -> ReadError {
        ReadError::Api(self.explain_string(error))
    }

    /// Returns the error for the client when the JSON reader failed with `error`.
    fn explain(&self, error: &ReaderError) -> ApiError {
        self.refusal(error).unwrap_or_else(|| ApiError::MalformedBody { problem: in_plain_words(error).into() })
    }

    /// Returns the error for the client when a string could not be read.
    fn explain_string(&self, error: &io::Error) -> ApiError {
        let syntax = error.get_ref().and_then(|inner| inner.downcast_ref::<JsonSyntaxError>());
        let problem = || syntax.map_or_else(|| "it is not UTF-8".to_owned(), of_syntax);
        self.refusal(error).unwrap_or_else(|| ApiError::MalformedBody { problem: problem().into() })
    }

    /// Returns the error when the meter has refused to read on, or the spool could not be read.
    fn refusal(&self, error: &dyn std::error::Error) -> Option<ApiError> {
        if self.unreadable.get() {
            return Some(ApiError::internal(format!("the spooled body cannot be read: {error}")));
        }
        let too_long = || ApiError::MalformedBody { problem: "the name of a member is too long".into() };
        self.exhausted.get().then(too_long)
    }
}

/// Returns what is wrong with the text, without the words and the path of the parser.
fn in_plain_words(error: &ReaderError) -> String {
    if let ReaderError::SyntaxError(error) = error {
        return of_syntax(error);
    }
    let problem = if matches!(error, ReaderError::IoError { .. }) { "it is not UTF-8" } else { "it is not valid JSON" };
    problem.to_owned()
}

fn of_syntax(error: &JsonSyntaxError) -> String {
    match (error.kind, error.location.data_pos) {
        (SyntaxErrorKind::IncompleteDocument, _) => "it ends before the JSON is complete".to_owned(),
        (SyntaxErrorKind::TrailingData, _) => "something follows the JSON object".to_owned(),
        (_, Some(position)) => format!("it is not valid JSON near byte {position}"),
        (_, None) => "it is not valid JSON".to_owned(),
    }
}

/// The body, while the meter allows reading.
#[derive(Debug)]
pub(super) struct Metered {
    bytes: BufReader<SourceReader>,
    meter: Rc<Meter>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowance = self.meter.allowance.get();
        if allowance == 0 {
            self.meter.exhausted.set(true);
            return Err(io::Error::other("too long"));
        }
        let count = self.bytes.read(buffer).inspect_err(|_| self.meter.unreadable.set(true))?;
        self.meter.allowance.set(allowance.saturating_sub(count as u64));
        Ok(count)
    }
}

#[derive(Debug)]
struct SourceReader {
    source: Arc<dyn ByteSource>,
    offset: u64,
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
