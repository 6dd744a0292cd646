//! The fields of a body, and the parameters that all APIs read in the same way.

use std::ops::RangeInclusive;

use super::errors::Refusal;
use super::json::JsonValue;
use super::values::{Background, Quality};

const PROMPT_CHARS_MAX: usize = 32_000;

/// The fields of a body, in the order of the body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [(String, JsonValue<'a>)]);

impl<'a> Fields<'a> {
    /// Returns the fields of a body.
    ///
    /// # Errors
    ///
    /// When the body is not an object.
    pub(crate) fn of(body: &'a JsonValue<'a>) -> Result<Self, Refusal> {
        match body {
            JsonValue::Object(fields) => Ok(Self(fields)),
            JsonValue::Null
            | JsonValue::Bool(_)
            | JsonValue::Integer(_)
            | JsonValue::Number(_)
            | JsonValue::Text(_)
            | JsonValue::List(_) => Err(Refusal::invalid("The body must be a JSON object")),
        }
    }

    /// Returns the value of a field; the last one of a repeated field, as most JSON parsers do.
    pub(crate) fn get(self, name: &str) -> Option<&'a JsonValue<'a>> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(JsonValue::Text(text)) => Ok(Some(text.as_ref())),
            Some(_) => Err(Refusal::invalid(format!("Invalid type for {name}: a string is expected"))),
        }
    }

    /// Returns a text that is one of `allowed`.
    pub(crate) fn choice(self, name: &str, allowed: &[&str]) -> Result<Option<&'a str>, Refusal> {
        match self.text(name)? {
            Some(value) if !allowed.contains(&value) => Err(Refusal::invalid(format!(
                "Invalid value for {name}: '{value}' is not one of {}",
                allowed.join(", ")
            ))),
            value => Ok(value),
        }
    }

    pub(crate) fn flag(self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(&JsonValue::Bool(flag)) => Ok(flag),
            Some(_) => Err(Refusal::invalid(format!("Invalid type for {name}: a boolean is expected"))),
        }
    }

    pub(crate) fn integer<N>(self, name: &str, allowed: RangeInclusive<N>) -> Result<Option<N>, Refusal>
    where
        N: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let found = match self.get(name) {
            None => return Ok(None),
            Some(&JsonValue::Integer(number)) => N::try_from(number).ok().filter(|number| allowed.contains(number)),
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
        Ok(match self.choice("quality", &["auto", "low", "medium", "high"])? {
            Some("low") => Quality::Low,
            Some("high") => Quality::High,
            _ => Quality::Medium,
        })
    }

    pub(crate) fn background(self) -> Result<Background, Refusal> {
        Ok(match self.choice("background", &["auto", "transparent", "opaque"])? {
            Some("transparent") => Background::Transparent,
            _ => Background::Opaque,
        })
    }
}
