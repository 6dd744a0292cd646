//! Reads the values in the place of a picture.

use std::io::Read;

use struson::reader::{JsonReader, ValueType};
use url::Url;

use super::{BUFFER_BYTES, Parser, ReadError};
use crate::api::error::ApiError;
use crate::api::request::body::base64::Decoder;
use crate::model::Input;

/// Longest http(s) address of a picture, in bytes.
const LINK_BYTES_MAX: usize = 8192;
/// How much of a string is inspected to find its kind; also the longest head of a data URL, in bytes.
const HEAD_BYTES: usize = 1024;
/// Deepest nesting of objects: `{"image_url": {"url": "…"}}`.
const OBJECTS_MAX: usize = 2;

impl Parser<'_> {
    /// Reads one image or an array of them.
    pub(super) fn images(&mut self) -> Result<(), ReadError> {
        if self.json.peek()? != ValueType::Array {
            return self.image();
        }
        self.json.begin_array()?;
        while self.json.has_next()? {
            self.image()?;
        }
        self.json.end_array()?;
        Ok(())
    }

    fn image(&mut self) -> Result<(), ReadError> {
        self.form.expect_image(self.limits)?;
        let param = self.form.next_image();
        let image = self.picture("image", &param, 0)?;
        self.form.images.extend(image);
        Ok(())
    }

    /// Reads the mask, also as an array of one.
    pub(super) fn mask(&mut self) -> Result<(), ReadError> {
        let many = self.json.peek()? == ValueType::Array;
        if many {
            self.json.begin_array()?;
        }
        while !many || self.json.has_next()? {
            if let Some(mask) = self.picture("mask", "mask", 0)? {
                self.form.add_mask(mask)?;
            }
            if !many {
                return Ok(());
            }
        }
        self.json.end_array()?;
        Ok(())
    }

    /// Reads a reference to one picture; `None` for `null` and the empty string.
    pub(in crate::api::request::body) fn picture(
        &mut self,
        param_name: &'static str,
        param: &str,
        depth: usize,
    ) -> Result<Option<Input>, ReadError> {
        let got = match self.json.peek()? {
            ValueType::Null => {
                self.json.next_null()?;
                return Ok(None);
            }
            ValueType::String => return self.string(param_name, param),
            ValueType::Object if depth < OBJECTS_MAX => return self.reference(param_name, param, depth).map(Some),
            ValueType::Object => "an object",
            ValueType::Array => "an array",
            ValueType::Number => "a number",
            ValueType::Boolean => "a boolean",
        };
        Err(ReadError::Api(ApiError::InvalidType { param: param.to_owned(), expected: "an image reference", got }))
    }

    /// Reads `{image_url | url | b64_json}`; other members are skipped.
    fn reference(&mut self, param_name: &'static str, param: &str, depth: usize) -> Result<Input, ReadError> {
        let mut found = None;
        self.json.begin_object()?;
        while self.json.has_next()? {
            let name = self.name()?;
            let picture = match name.as_str() {
                "image_url" | "url" | "b64_json" => self.picture(param_name, param, depth + 1)?,
                "file_id" if self.json.peek()? != ValueType::Null => return Err(file_id(param)),
                _ => {
                    self.json.skip_value()?;
                    None
                }
            };
            if let Some(picture) = picture
                && found.replace(picture).is_some()
            {
                return Err(unacceptable(param_name, "an image reference holds more than one picture"));
            }
        }
        self.json.end_object()?;
        found.ok_or_else(|| {
            unacceptable(param_name, "an image reference needs one of 'image_url', 'url', and 'b64_json'")
        })
    }

    fn string(&mut self, param_name: &'static str, param: &str) -> Result<Option<Input>, ReadError> {
        let meter = &self.meter;
        let mut string = self.json.next_string_reader()?;
        let mut head = Vec::new();
        let read = string.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head);
        read.map_err(|error| meter.string_error(&error))?;
        let whole = head.len() < HEAD_BYTES;
        let text = match kind_of(head.trim_ascii_start(), whole) {
            PictureString::Empty => return Ok(None),
            PictureString::FileId => return Err(file_id(param)),
            PictureString::Unknown => {
                return Err(unacceptable(param_name, "expected a base64 data URL, base64, or an http(s) address"));
            }
            PictureString::Link => {
                let rest = (LINK_BYTES_MAX + 1).saturating_sub(head.len()) as u64;
                let read = string.by_ref().take(rest).read_to_end(&mut head);
                read.map_err(|error| meter.string_error(&error))?;
                return Ok(Some(link(head, param_name)?));
            }
            PictureString::Base64(text) => text,
        };
        let wrong = |_| unacceptable(param_name, "the picture is not valid base64");
        let full = |error| ReadError::Api(ApiError::from_spool(error, param));
        let mut writer = self.upload.picture(self.limits.image_bytes_max);
        let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
        decoder.push(text, &mut bytes).map_err(wrong)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            writer.write_blocking(&bytes).map_err(full)?;
            bytes.clear();
            match string.read(&mut buffer).map_err(|error| meter.string_error(&error))? {
                0 => break,
                count => decoder.push(&buffer[..count], &mut bytes).map_err(wrong)?,
            }
        }
        decoder.finish(&mut bytes).map_err(wrong)?;
        writer.write_blocking(&bytes).map_err(full)?;
        let (picture, source) = writer.finish_blocking().map_err(full)?;
        Ok(Some(Input::Bytes { picture, source }))
    }
}

/// The kind of a string in the place of a picture, by its head.
#[derive(Debug, PartialEq, Eq)]
enum PictureString<'a> {
    Empty,
    /// With the beginning of the base64 text.
    Base64(&'a [u8]),
    Link,
    FileId,
    Unknown,
}

fn kind_of(head: &[u8], whole: bool) -> PictureString<'_> {
    let starts =
        |prefix: &str| head.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    // A string of more white space than this is left to the decoder, which reads it to its end.
    if head.is_empty() && whole {
        PictureString::Empty
    } else if starts("http://") || starts("https://") {
        PictureString::Link
    } else if starts("file-") {
        PictureString::FileId
    } else if starts("data:") {
        let comma = head.iter().position(|&b| b == b',');
        let base64 = comma.filter(|&comma| {
            let last = head[..comma].rsplit(|&b| b == b';').next().unwrap_or_default();
            last.trim_ascii().eq_ignore_ascii_case(b"base64")
        });
        base64.map_or(PictureString::Unknown, |comma| PictureString::Base64(&head[comma + 1..]))
    } else if head.iter().take(16).any(|&b| matches!(b, b':' | b'.' | b'<')) {
        // Another scheme, a path or a tag: base64 has none of these characters.
        PictureString::Unknown
    } else {
        PictureString::Base64(head)
    }
}

/// Checks an http(s) address, which is passed on as it is and never fetched by the gateway.
pub(in crate::api::request::body) fn link(address: Vec<u8>, param_name: &'static str) -> Result<Input, ApiError> {
    if address.len() > LINK_BYTES_MAX {
        return Err(ApiError::TextTooLong {
            param: param_name.to_owned(),
            unit: "bytes in an address",
            max: LINK_BYTES_MAX,
        });
    }
    let address = String::from_utf8(address).unwrap_or_default();
    let address = address.trim();
    // The service may quote it in an error, of which it must then be one word.
    let is_word = !address.contains(|c: char| c.is_whitespace() || c.is_control());
    let valid = is_word && Url::parse(address).is_ok_and(|url| url.has_host());
    if !valid {
        let problem = "the address of the picture is not a valid URL".into();
        return Err(ApiError::Unacceptable { param: param_name, problem });
    }
    Ok(Input::Link(address.to_owned()))
}

fn unacceptable(param_name: &'static str, problem: &'static str) -> ReadError {
    ReadError::Api(ApiError::Unacceptable { param: param_name, problem: problem.into() })
}

fn file_id(param: &str) -> ReadError {
    ReadError::Api(ApiError::FileIdUnsupported { param: param.to_owned() })
}
