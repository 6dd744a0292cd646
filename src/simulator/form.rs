//! The fields of a body, asked for one by one, and the parameters that every face reads alike.

use std::ops::RangeInclusive;

use super::body::Field;
use super::errors::Refusal;
use super::rules::{Background, Quality};

const PROMPT_CHARS_MAX: usize = 32_000;

/// The fields of a body, in its order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a>(pub(super) &'a [(String, Field<'a>)]);

impl<'a> Form<'a> {
    /// The last value of a repeated field wins, as in most JSON readers.
    pub(super) fn get(self, name: &str) -> Option<&'a Field<'a>> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn text(self, name: &str) -> Result<Option<&'a str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Field::Text(text)) => Ok(Some(text.as_ref())),
            Some(_) => Err(Refusal::bad(format!("Invalid type for {name}: a string is expected"))),
        }
    }

    pub(super) fn word(self, name: &str, allowed: &[&str]) -> Result<Option<&'a str>, Refusal> {
        match self.text(name)? {
            Some(word) if !allowed.contains(&word) => {
                Err(Refusal::bad(format!("Invalid value for {name}: '{word}' is not one of {}", allowed.join(", "))))
            }
            word => Ok(word),
        }
    }

    pub(super) fn flag(self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(&Field::Bool(flag)) => Ok(flag),
            Some(_) => Err(Refusal::bad(format!("Invalid type for {name}: a boolean is expected"))),
        }
    }

    pub(super) fn integer<N>(self, name: &str, allowed: RangeInclusive<N>) -> Result<Option<N>, Refusal>
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
            Refusal::bad(format!("Invalid value for {name}: an integer from {from} to {to} is expected"))
        })
    }

    pub(super) fn prompt(self) -> Result<String, Refusal> {
        let prompt = self.text("prompt")?.unwrap_or_default();
        if prompt.trim().is_empty() {
            return Err(Refusal::bad("prompt is required"));
        }
        if prompt.chars().count() > PROMPT_CHARS_MAX {
            return Err(Refusal::bad(format!("prompt must be at most {PROMPT_CHARS_MAX} characters")));
        }
        Ok(prompt.to_owned())
    }

    pub(super) fn n(self) -> Result<u32, Refusal> {
        Ok(self.integer("n", 1..=10)?.unwrap_or(1))
    }

    pub(super) fn quality(self) -> Result<Quality, Refusal> {
        Ok(match self.word("quality", &["auto", "low", "medium", "high"])? {
            Some("low") => Quality::Low,
            Some("high") => Quality::High,
            _ => Quality::Medium,
        })
    }

    pub(super) fn background(self) -> Result<Background, Refusal> {
        Ok(match self.word("background", &["auto", "transparent", "opaque"])? {
            Some("transparent") => Background::Transparent,
            _ => Background::Opaque,
        })
    }
}
