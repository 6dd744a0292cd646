//! One part of a form: what its head says of it, and its bytes as they were before the client encoded them for the way.

use std::collections::VecDeque;

use bytes::Bytes;

use super::form_body::FormBody;
use super::headers::PartHeaders;
use super::splitter::joined;
use super::text;
use super::transfer::TransferDecoder;
use crate::api::error::ApiError;
use crate::api::request::body::form::FormLimits;
use crate::api::request::body::picture_text::{
    HEAD_BYTES, begins_picture, is_encoded_picture, is_picture, is_quoted_upload,
};
use crate::http::header::ParsedHeader;

/// A part whose head has been read.
#[derive(Debug)]
pub(super) struct FormPart<'r> {
    body: &'r mut FormBody,
    pub(super) name: String,
    file_name: Option<String>,
    /// The value of the header.
    content_type: Option<Bytes>,
    decoder: Option<TransferDecoder>,
    /// Decoded bytes that were read ahead.
    ahead: VecDeque<Bytes>,
    /// The bytes are in the memory of the spool, as one chunk.
    pub(super) is_spooled: bool,
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
    pub(super) head: Bytes,
    pub(super) whole: bool,
}

impl<'r> FormPart<'r> {
    /// Begins the part whose head `body` returned last.
    pub(super) fn new(headers: &PartHeaders<'_>, body: &'r mut FormBody) -> Result<Self, ApiError> {
        let &PartHeaders { disposition, content_type, transfer_encoding } = headers;
        let disposition = disposition.map(ParsedHeader::parse);
        let name = disposition.as_ref().and_then(|disposition| disposition.text("name"));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(ApiError::MalformedBody { problem: "a part of the form has no name".into() });
        };
        let encoding = transfer_encoding.map(|encoding| ParsedHeader::parse(encoding).word);
        let decoder = TransferDecoder::new(encoding.as_deref().unwrap_or_default(), &name)?;
        let file_name = disposition.as_ref().and_then(|disposition| disposition.text("filename")).map(Into::into);
        let content_type = content_type.map(Bytes::copy_from_slice);
        let is_spooled = body.is_spooled && decoder.is_identity();
        let (name, decoder, ahead) = (name.into(), Some(decoder), VecDeque::new());
        Ok(Self { body, name, file_name, content_type, decoder, ahead, is_spooled })
    }

    /// Returns the next bytes, decoded; they may be empty.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        if let Some(chunk) = self.ahead.pop_front() {
            return Ok(Some(chunk));
        }
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        match self.body.chunk().await? {
            Some(chunk) => decoder.decode(chunk, &self.name).map(Some),
            None => self.decoder.take().and_then(|decoder| decoder.finish(&self.name).transpose()).transpose(),
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
            let beginning = chunk.slice(..chunk.len().min(HEAD_BYTES - start.head.len()));
            start.head = joined(start.head, beginning);
            start.chunks.push(chunk);
        }
        Ok(start)
    }

    /// Returns the parsed `Content-Type`.
    fn content_type(&self) -> Option<ParsedHeader<'_>> {
        self.content_type.as_deref().map(ParsedHeader::parse)
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
        let Some(declared) = self.content_type() else { return false };
        !declared.word.is_empty()
            && !declared.word.starts_with("text/")
            && !is_json_type(&declared)
            && !declared.word.starts_with("multipart/")
    }

    /// Whether the part declares to be JSON.
    pub(super) fn declares_json(&self) -> bool {
        self.content_type().is_some_and(|declared| is_json_type(&declared))
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
        let mut bytes = Bytes::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > limits.text_bytes_max {
                let (param, max) = (self.name, limits.text_bytes_max);
                return Err(ApiError::TextTooLong { param, unit: "bytes", max });
            }
            bytes = joined(bytes, chunk);
        }
        let content_type = self.content_type();
        if self.is_named_file() && !text::is_text(&bytes) && text::declared(content_type.as_ref()).is_none() {
            return Err(ApiError::InvalidType { param: self.name, expected: "a string", got: "a file" });
        }
        let text = text::decode(&bytes, content_type.as_ref(), charset, &self.name)?;
        Ok(if self.declares_json() { text::of_json(text) } else { text::FieldText::Text(text) })
    }

    /// Returns all bytes of a part whose beginning has been read.
    pub(super) async fn whole(mut self, start: PartStart) -> Result<Bytes, ApiError> {
        let mut bytes = start.chunks.into_iter().fold(Bytes::new(), joined);
        while let Some(chunk) = self.chunk().await? {
            bytes = joined(bytes, chunk);
        }
        Ok(bytes)
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

fn is_json_type(content_type: &ParsedHeader<'_>) -> bool {
    content_type.word == "application/json" || content_type.word.ends_with("+json")
}
