//! One part of a form: what its head says of it, and its bytes as they were before the client encoded them for the way.

use std::collections::VecDeque;

use bytes::Bytes;
use multer::Field;

use super::framing::malformed;
use super::text;
use super::transfer::TransferDecoder;
use crate::api::error::ApiError;
use crate::api::request::body::form::FormLimits;
use crate::api::request::body::incoming::PartHeaderBudget;
use crate::api::request::body::picture_text::{
    HEAD_BYTES, begins_picture, is_encoded_picture, is_picture, is_quoted_upload,
};
use crate::http::header::ParsedHeader;

/// A part whose head has been read.
#[derive(Debug)]
pub(super) struct FormPart<'r> {
    field: Field<'r>,
    budget: PartHeaderBudget,
    pub(super) name: String,
    file_name: Option<String>,
    content_type: Option<ParsedHeader>,
    decoder: Option<TransferDecoder>,
    /// Decoded bytes that were read ahead.
    ahead: VecDeque<Bytes>,
}

/// What a part with the name of a picture holds, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PictureContent {
    Bytes,
    /// A data URL, base64 or an address.
    Text,
    /// The base64 of a picture, or a data URL, as a file.
    EncodedFile,
    /// A JSON text that refers to pictures.
    Json,
    /// The name of an object, which a proxy wrote beside the file itself.
    QuotedUpload,
    /// The empty file a browser sends for an untouched input, or a blank text.
    Empty,
}

/// The beginning of a part, and whether it is the whole part.
#[derive(Debug, Default)]
pub(super) struct PartStart {
    pub(super) chunks: Vec<Bytes>,
    pub(super) head: Vec<u8>,
    pub(super) whole: bool,
}

impl<'r> FormPart<'r> {
    pub(super) fn new(field: Field<'r>, budget: PartHeaderBudget) -> Result<Self, ApiError> {
        let header = |name| field.headers().get(name).map(|value| ParsedHeader::parse(value.as_bytes()));
        // Not by multer, whose parameter names are case-sensitive and lack `name*`.
        let disposition = header("content-disposition");
        let name = disposition.as_ref().and_then(|disposition| disposition.text("name"));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(ApiError::MalformedBody { problem: "a part of the form has no name".into() });
        };
        let encoding = header("content-transfer-encoding").map(|encoding| encoding.word);
        let decoder = TransferDecoder::new(encoding.as_deref().unwrap_or_default(), &name)?;
        let file_name = disposition.and_then(|disposition| disposition.text("filename"));
        let (content_type, ahead) = (header("content-type"), VecDeque::new());
        Ok(Self { budget, name, file_name, content_type, decoder: Some(decoder), ahead, field })
    }

    /// Returns the next bytes, decoded; they may be empty.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        if let Some(chunk) = self.ahead.pop_front() {
            return Ok(Some(chunk));
        }
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        self.budget.renew();
        match self.field.chunk().await.map_err(malformed)? {
            Some(chunk) => decoder.decode(chunk).map(Some),
            None => self.decoder.take().map(TransferDecoder::finish).transpose(),
        }
    }

    /// Reads the beginning of the part, of [`HEAD_BYTES`] at least where it is as long.
    pub(super) async fn start(&mut self) -> Result<PartStart, ApiError> {
        let mut start = PartStart::default();
        while start.head.len() < HEAD_BYTES {
            let Some(chunk) = self.chunk().await? else {
                start.whole = true;
                break;
            };
            start.head.extend(chunk.iter().take(HEAD_BYTES - start.head.len()));
            start.chunks.push(chunk);
        }
        Ok(start)
    }

    /// Lets the beginning be read again.
    pub(super) fn put_back(&mut self, start: PartStart) {
        self.ahead = start.chunks.into();
    }

    /// Whether a picture's part is a file by its head.
    fn is_file(&self) -> bool {
        self.file_name.is_some() || self.declares_bytes()
    }

    /// Whether the part is a file by its head, and not one without a name.
    fn is_named_file(&self) -> bool {
        self.has_file_name() || self.declares_bytes()
    }

    fn has_file_name(&self) -> bool {
        self.file_name.as_ref().is_some_and(|name| !name.is_empty())
    }

    /// Whether a part that is not known holds a file. Some libraries declare a type of bytes for every text.
    pub(super) fn holds_file(&self, start: &PartStart) -> bool {
        let is_text = text::is_text(&start.head);
        self.has_file_name() || (self.declares_bytes() && !is_text) || begins_picture(&start.head, is_text)
    }

    /// Whether the part declares a type other than text and JSON.
    fn declares_bytes(&self) -> bool {
        let declared = self.content_type.as_ref().map(|content_type| content_type.word.as_str()).unwrap_or_default();
        !declared.is_empty()
            && !declared.starts_with("text/")
            && !self.declares_json()
            && !declared.starts_with("multipart/")
    }

    /// Whether the part declares to be JSON.
    pub(super) fn declares_json(&self) -> bool {
        self.content_type
            .as_ref()
            .is_some_and(|content_type| content_type.word == "application/json" || content_type.word.ends_with("+json"))
    }

    /// Returns what a picture's part holds.
    pub(super) fn picture_content(&self, start: &PartStart) -> PictureContent {
        let head = &start.head;
        let is_text = text::is_text(head);
        if head.is_empty() && self.file_name.as_ref().is_none_or(String::is_empty) {
            return PictureContent::Empty;
        }
        if self.declares_json() && is_text && matches!(head.trim_ascii_start().first(), Some(b'{' | b'[' | b'"' | b'n'))
        {
            return PictureContent::Json;
        }
        if self.is_file() {
            let encoded = is_text && is_encoded_picture(head);
            return if encoded { PictureContent::EncodedFile } else { PictureContent::Bytes };
        }
        if !is_text || is_picture(head) {
            PictureContent::Bytes
        } else if head.trim_ascii().is_empty() && start.whole {
            PictureContent::Empty
        } else if is_quoted_upload(head) {
            PictureContent::QuotedUpload
        } else if text::is_json(head) {
            PictureContent::Json
        } else {
            PictureContent::Text
        }
    }

    /// Reads the value of a parameter: the text, in the character set that the part declares, without the quotes of JSON where
    /// it declares to be JSON.
    pub(super) async fn text(
        mut self,
        limits: &FormLimits,
        charset: Option<&str>,
    ) -> Result<text::FieldText, ApiError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > limits.text_bytes_max {
                let (param, max) = (self.name, limits.text_bytes_max);
                return Err(ApiError::TextTooLong { param, unit: "bytes", max });
            }
            bytes.extend_from_slice(&chunk);
        }
        let is_file = self.is_named_file();
        if is_file && !text::is_text(&bytes) && text::declared(self.content_type.as_ref()).is_none() {
            return Err(ApiError::InvalidType { param: self.name, expected: "a string", got: "a file" });
        }
        let text = text::decode(&bytes, self.content_type.as_ref(), charset, &self.name)?;
        Ok(if self.declares_json() { text::of_json(text) } else { text::FieldText::Text(text) })
    }

    /// Reads to the end of the part and returns the number of bytes.
    pub(super) async fn skip(mut self) -> Result<u64, ApiError> {
        let mut bytes = 0;
        while let Some(chunk) = self.chunk().await? {
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    }
}
