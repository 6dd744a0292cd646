//! The values in a picture's place.

use std::io::Read;

use struson::reader::{JsonReader, ValueType};
use url::Url;

use super::{BUFFER_BYTES, Parser, Problem};
use crate::api::base64::Decoder;
use crate::api::error::ApiError;
use crate::model::Input;

/// Longest http(s) address of a picture, in bytes.
const LINK_BYTES_MAX: usize = 8192;
/// How much of a string is looked at to tell what it is; also the longest head of a data URL, in bytes.
const HEAD_BYTES: usize = 1024;
/// `{"image_url": {"url": "…"}}` is the deepest there is.
const OBJECTS_MAX: usize = 2;

impl Parser<'_> {
    /// One image or many.
    pub(super) fn images(&mut self) -> Result<(), Problem> {
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

    fn image(&mut self) -> Result<(), Problem> {
        self.form.expect_image(self.limits)?;
        let param = self.form.next_image();
        let image = self.picture("image", &param, 0)?;
        self.form.images.extend(image);
        Ok(())
    }

    /// The mask, also as an array of one.
    pub(super) fn mask(&mut self) -> Result<(), Problem> {
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

    /// A reference to one picture; none for `null` and the empty string.
    fn picture(&mut self, slot: &'static str, param: &str, depth: usize) -> Result<Option<Input>, Problem> {
        let got = match self.json.peek()? {
            ValueType::Null => {
                self.json.next_null()?;
                return Ok(None);
            }
            ValueType::String => return self.string(slot, param),
            ValueType::Object if depth < OBJECTS_MAX => return self.reference(slot, param, depth).map(Some),
            ValueType::Object => "an object",
            ValueType::Array => "an array",
            ValueType::Number => "a number",
            ValueType::Boolean => "a boolean",
        };
        Err(Problem::Api(ApiError::InvalidType { param: param.to_owned(), expected: "an image reference", got }))
    }

    /// `{image_url | url | b64_json}`, and whatever else clients put beside it.
    fn reference(&mut self, slot: &'static str, param: &str, depth: usize) -> Result<Input, Problem> {
        let mut found = None;
        self.json.begin_object()?;
        while self.json.has_next()? {
            let name = self.name()?;
            let picture = match name.as_str() {
                "image_url" | "url" | "b64_json" => self.picture(slot, param, depth + 1)?,
                "file_id" if self.json.peek()? != ValueType::Null => return Err(file_id(param)),
                _ => {
                    self.json.skip_value()?;
                    None
                }
            };
            if let Some(picture) = picture
                && found.replace(picture).is_some()
            {
                return Err(unacceptable(slot, "an image reference holds more than one picture"));
            }
        }
        self.json.end_object()?;
        found.ok_or_else(|| unacceptable(slot, "an image reference needs one of 'image_url', 'url', and 'b64_json'"))
    }

    fn string(&mut self, slot: &'static str, param: &str) -> Result<Option<Input>, Problem> {
        let meter = &self.meter;
        let mut string = self.json.next_string_reader()?;
        let mut head = Vec::new();
        let read = string.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head);
        read.map_err(|error| meter.broken(&error))?;
        let whole = head.len() < HEAD_BYTES;
        let text = match kind_of(head.trim_ascii_start(), whole) {
            Kind::Nothing => return Ok(None),
            Kind::FileId => return Err(file_id(param)),
            Kind::Strange => {
                return Err(unacceptable(slot, "expected a base64 data URL, base64, or an http(s) address"));
            }
            Kind::Link => {
                let rest = (LINK_BYTES_MAX + 1).saturating_sub(head.len()) as u64;
                let read = string.by_ref().take(rest).read_to_end(&mut head);
                read.map_err(|error| meter.broken(&error))?;
                return link(head, slot).map(Some);
            }
            Kind::Base64(text) => text,
        };
        let wrong = |_| unacceptable(slot, "the picture is not valid base64");
        let full = |error| Problem::Api(ApiError::from_spool(error, param));
        let mut writer = self.upload.picture(self.limits.image_bytes_max);
        let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
        decoder.push(text, &mut bytes).map_err(wrong)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            writer.write_blocking(&bytes).map_err(full)?;
            bytes.clear();
            match string.read(&mut buffer).map_err(|error| meter.broken(&error))? {
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

/// What a string in a picture's place is, by its head.
#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    Nothing,
    /// With the first of the base64 text.
    Base64(&'a [u8]),
    Link,
    FileId,
    Strange,
}

fn kind_of(head: &[u8], whole: bool) -> Kind<'_> {
    let starts =
        |prefix: &str| head.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    // An endless run of white space is left to the decoder, which reads it to its end.
    if head.is_empty() && whole {
        Kind::Nothing
    } else if starts("http://") || starts("https://") {
        Kind::Link
    } else if starts("file-") {
        Kind::FileId
    } else if starts("data:") {
        let comma = head.iter().position(|&b| b == b',');
        let base64 = comma.filter(|&comma| {
            let last = head[..comma].rsplit(|&b| b == b';').next().unwrap_or_default();
            last.trim_ascii().eq_ignore_ascii_case(b"base64")
        });
        base64.map_or(Kind::Strange, |comma| Kind::Base64(&head[comma + 1..]))
    } else if head.iter().take(16).any(|&b| matches!(b, b':' | b'.' | b'<')) {
        // Another scheme, a path, a tag: base64 has no such characters.
        Kind::Strange
    } else {
        Kind::Base64(head)
    }
}

/// An http(s) address, passed on as it is and never fetched here.
fn link(address: Vec<u8>, slot: &'static str) -> Result<Input, Problem> {
    if address.len() > LINK_BYTES_MAX {
        return Err(Problem::Api(ApiError::TextTooLong {
            param: slot.to_owned(),
            unit: "bytes in an address",
            max: LINK_BYTES_MAX,
        }));
    }
    let address = String::from_utf8(address).unwrap_or_default();
    let address = address.trim();
    let valid = Url::parse(address).is_ok_and(|url| url.has_host());
    if !valid {
        return Err(unacceptable(slot, "the address of the picture is not a valid URL"));
    }
    Ok(Input::Link(address.to_owned()))
}

fn unacceptable(slot: &'static str, problem: &'static str) -> Problem {
    Problem::Api(ApiError::Unacceptable { param: slot, problem: problem.into() })
}

fn file_id(param: &str) -> Problem {
    Problem::Api(ApiError::FileIdUnsupported { param: param.to_owned() })
}
