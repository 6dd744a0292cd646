//! Looks for pictures in values that are not known, so that none is left out without a word.

use std::io::{self, Read};

use struson::reader::{JsonReader, ValueType};

use super::{Parser, ReadError};
use crate::api::request::body::form::names::FieldHint;
use crate::api::request::body::picture_text::{HEAD_BYTES, holds_picture};

impl Parser<'_> {
    /// Reads a value of a name that is not known, and records the name.
    pub(super) fn unknown(&mut self, name: &str) -> Result<(), ReadError> {
        let mut found = false;
        let read = search(self, FieldHint::of(name), &mut found);
        if found {
            self.form.note_unknown_picture(name, "a picture");
        } else {
            self.form.note_unknown(name);
        }
        read
    }

    /// Reads the value of a name and returns whether it holds a picture.
    pub(super) fn find_picture(&mut self, name: &str) -> Result<bool, ReadError> {
        let mut found = false;
        search(self, FieldHint::of(name), &mut found)?;
        Ok(found)
    }
}

/// Reads a value and looks for pictures in it; `hint` is what the names around it say.
fn search(parser: &mut Parser<'_>, hint: FieldHint, found: &mut bool) -> Result<(), ReadError> {
    match parser.json.peek()? {
        ValueType::Array => {
            parser.json.begin_array()?;
            while parser.json.has_next()? {
                search(parser, hint, found)?;
            }
            parser.json.end_array()?;
        }
        ValueType::Object => {
            parser.json.begin_object()?;
            while parser.json.has_next()? {
                let name = parser.name()?;
                search(parser, hint.within(&name), found)?;
            }
            parser.json.end_object()?;
        }
        ValueType::String => {
            let mut head = Vec::new();
            let mut string = parser.json.next_string_reader()?;
            let read = string.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head);
            read.and_then(|_| io::copy(&mut string, &mut io::sink()))
                .map_err(|error| parser.meter.string_error(&error))?;
            *found |= holds_picture(&head, hint);
        }
        ValueType::Number | ValueType::Boolean | ValueType::Null => parser.json.skip_value()?,
    }
    Ok(())
}
