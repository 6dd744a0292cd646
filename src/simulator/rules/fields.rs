//! The fields of a body, and the parameters that all APIs read in the same way.

use std::ops::RangeInclusive;

use super::errors::Refusal;
use super::json::Field;
use super::values::{Background, Quality};

const PROMPT_CHARS_MAX: usize = 32_000;

/// The fields of a body, in the order of the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [(String, Field<'a>)]);

impl<'a> Fields<'a> {
    /// Returns the fields of a body.
    ///
    /// # Errors
    ///
    /// When the body is not an object.
    pub(crate) fn of(body: &'a Field<'a>) -> Result<Self, Refusal> {
        match body {
            Field::Object(fields) => Ok(Self(fields)),
            Field::Null | Field::Bool(_) | Field::Integer(_) | Field::Number(_) | Field::Text(_) | Field::List(_) => {
                Err(Refusal::invalid("The body must be a JSON object"))
            }
        }
    }

    /// Returns the value of a field; the last one of a repeated field, as most JSON parsers do.
    pub(crate) fn get(self, name: &str) -> Option<&'a Field<'a>> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Field::Text(text)) => Ok(Some(text.as_ref())),
            Some(_) => Err(Refusal::invalid(format!("Invalid type for {name}: a string is expected"))),
        }
    }

    pub(crate) fn word(self, name: &str, allowed: &[&str]) -> Result<Option<&'a str>, Refusal> {
        match self.text(name)? {
            Some(word) if !allowed.contains(&word) => Err(Refusal::invalid(format!(
                "Invalid value for {name}: '{word}' is not one of {}",
                allowed.join(", ")
            ))),
            word => Ok(word),
        }
    }

    pub(crate) fn flag(self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(&Field::Bool(flag)) => Ok(flag),
            Some(_) => Err(Refusal::invalid(format!("Invalid type for {name}: a boolean is expected"))),
        }
    }

    pub(crate) fn integer<N>(self, name: &str, allowed: RangeInclusive<N>) -> Result<Option<N>, Refusal>
    where
        N: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let found = match self.get(name) {
            None => return Ok(None),
            Some(&Field::Integer(number)) => N::try_from(number).ok().filter(|number| allowed.contains(number)),
            Some(_) => None,
        };
        found.map(Some).ok_or_else(|| {
            let (from, to) = allowed.into_inner();
            Refusal::invalid(format!("Invalid value for {name}: an integer from {from} to {to} is expected"))
        })
    }

    pub(crate) fn prompt(self) -> Result<String, Refusal> {
        let prompt = self.text("prompt")?.unwrap_or_default();
        if prompt.trim().is_empty() {
            return Err(Refusal::invalid("prompt is required"));
        }
        if prompt.chars().count() > PROMPT_CHARS_MAX {
            return Err(Refusal::invalid(format!("prompt must be at most {PROMPT_CHARS_MAX} characters")));
        }
        Ok(prompt.to_owned())
    }

    pub(crate) fn n(self) -> Result<u32, Refusal> {
        Ok(self.integer("n", 1..=10)?.unwrap_or(1))
    }

    pub(crate) fn quality(self) -> Result<Quality, Refusal> {
        Ok(match self.word("quality", &["auto", "low", "medium", "high"])? {
            Some("low") => Quality::Low,
            Some("high") => Quality::High,
            _ => Quality::Medium,
        })
    }

    pub(crate) fn background(self) -> Result<Background, Refusal> {
        Ok(match self.word("background", &["auto", "transparent", "opaque"])? {
            Some("transparent") => Background::Transparent,
            _ => Background::Opaque,
        })
    }
}
