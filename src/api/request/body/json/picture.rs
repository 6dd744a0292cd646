//! Reads the values in the place of a picture.

use struson::reader::{JsonReader, ValueType};

use super::{Parser, ReadError};
use crate::api::error::ApiError;
use crate::api::request::body::form::names::ImageName;
use crate::api::request::body::picture_text::{PictureParameter, read_picture};
use crate::model::Input;

/// Deepest nesting of objects: `{"image_url": {"url": "…"}}`.
const OBJECTS_MAX: usize = 2;

impl Parser<'_> {
    /// Reads one image or an array of them.
    pub(super) fn images(&mut self, name: ImageName) -> Result<(), ReadError> {
        if self.json.peek()? != ValueType::Array {
            return self.image(name, false);
        }
        self.json.begin_array()?;
        while self.json.has_next()? {
            self.image(name, true)?;
        }
        self.json.end_array()?;
        Ok(())
    }

    /// Reads an image. An entry of a list that holds none is recorded: the text may speak of "the third picture".
    fn image(&mut self, name: ImageName, in_list: bool) -> Result<(), ReadError> {
        self.limits.expect_image(self.order.count())?;
        let is_null = self.json.peek()? == ValueType::Null;
        let position = self.order.next_name();
        match self.picture("image", &position, 0)? {
            Some(image) => self.order.insert(&mut self.form.images, name, image),
            None if in_list => {
                let what = if is_null { "null" } else { "an empty string" };
                self.order.skip();
                self.form
                    .note_misplaced(&position, format!("is {what} in a list of pictures; leave it out of the list"));
            }
            None => {}
        }
        Ok(())
    }

    /// Reads the mask, also as an array of one; returns whether there is one.
    pub(super) fn mask(&mut self) -> Result<bool, ReadError> {
        let many = self.json.peek()? == ValueType::Array;
        if many {
            self.json.begin_array()?;
        }
        let mut found = false;
        while !many || self.json.has_next()? {
            if let Some(mask) = self.picture("mask", "mask", 0)? {
                found = true;
                self.form.add_mask(mask)?;
            }
            if !many {
                return Ok(found);
            }
        }
        self.json.end_array()?;
        Ok(found)
    }

    /// Reads a reference to one picture, called `name` in messages; `None` for `null` and the empty string.
    pub(in crate::api::request::body) fn picture(
        &mut self,
        param: &'static str,
        name: &str,
        depth: usize,
    ) -> Result<Option<Input>, ReadError> {
        let place = PictureParameter { param, name };
        let got = match self.json.peek()? {
            ValueType::Null => {
                self.json.next_null()?;
                return Ok(None);
            }
            ValueType::String => {
                let text = self.json.next_string_reader()?;
                let explain = |error: &_| self.meter.explain_string(error);
                return Ok(read_picture(text, self.upload, self.limits, place, explain)?);
            }
            ValueType::Object if depth < OBJECTS_MAX => return reference(self, place, depth).map(Some),
            ValueType::Object => "an object",
            ValueType::Array => "an array",
            ValueType::Number => "a number",
            ValueType::Boolean => "a boolean",
        };
        let param = place.name.to_owned();
        Err(ReadError::Api(ApiError::InvalidType { param, expected: "an image reference", got }))
    }
}

/// Reads `{image_url | url | b64_json}`; in other members, pictures are looked for.
fn reference(parser: &mut Parser<'_>, place: PictureParameter<'_>, depth: usize) -> Result<Input, ReadError> {
    let mut found = None;
    parser.json.begin_object()?;
    while parser.json.has_next()? {
        let name = parser.name()?;
        let picture = match name.as_str() {
            "image_url" | "url" | "b64_json" => parser.picture(place.param, place.name, depth + 1)?,
            "file_id" if parser.json.peek()? != ValueType::Null => return Err(place.file_id().into()),
            _ => {
                beside_picture(parser, place, &name)?;
                None
            }
        };
        if let Some(picture) = picture
            && found.replace(picture).is_some()
        {
            return Err(place.unacceptable("an image reference holds more than one picture").into());
        }
    }
    parser.json.end_object()?;
    found.ok_or_else(|| place.unacceptable("an image reference needs one of 'image_url', 'url', and 'b64_json'").into())
}

/// Reads a member beside a picture, and records it where it holds another one. A small version of the picture itself is
/// none.
fn beside_picture(parser: &mut Parser<'_>, place: PictureParameter<'_>, name: &str) -> Result<(), ReadError> {
    let lower = name.to_ascii_lowercase();
    if lower.contains("thumb") || lower.contains("preview") {
        parser.json.skip_value()?;
    } else if parser.find_picture(name)? {
        parser.form.note_unknown_picture(&format!("{}.{name}", place.name), "a picture");
    }
    Ok(())
}
