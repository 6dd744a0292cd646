//! Reads single values: forms have only text, JSON bodies mix text and numbers, and both mean the same.

use std::collections::BTreeMap;

use crate::api::error::ApiError;
use crate::api::request::body::form::Scalar;

type Scalars = BTreeMap<String, Scalar>;

pub(super) fn wrong_type(name: &str, expected: &'static str, got: &Scalar) -> ApiError {
    ApiError::InvalidType { param: name.to_owned(), expected, got: got.kind() }
}

/// Reads a text. Numbers of a JSON body are taken as they are written.
pub(super) fn text<'a>(scalars: &'a Scalars, name: &str) -> Result<Option<&'a str>, ApiError> {
    match scalars.get(name) {
        None => Ok(None),
        Some(Scalar::Text(text) | Scalar::Number(text)) => Ok(Some(text)),
        Some(other) => Err(wrong_type(name, "a string", other)),
    }
}

/// Returns the current name of a value of the dall-e models.
pub(super) fn modern<'a>(name: &str, value: &'a str) -> &'a str {
    match (name, value) {
        ("quality", "standard") => "medium",
        ("quality", "hd") => "high",
        _ => value,
    }
}

/// Reads a whole number between `min` and `max`, as a number or as text.
pub(super) fn integer(scalars: &Scalars, name: &'static str, min: i64, max: i64) -> Result<Option<i64>, ApiError> {
    let Some(scalar) = scalars.get(name) else {
        return Ok(None);
    };
    let (Scalar::Text(text) | Scalar::Number(text)) = scalar else {
        return Err(wrong_type(name, "an integer", scalar));
    };
    // `2.0` is what some languages make of 2.
    let digits = text.trim();
    let digits = digits.strip_suffix(".0").unwrap_or(digits);
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong_type(name, "an integer", scalar));
    }
    let got = || text.clone();
    // A number that does not fit an `i64` is out of every range here.
    match digits.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
        Ok(number) if number < min => Err(ApiError::BelowMinimum { param: name, min, got: got() }),
        Err(_) if digits.starts_with('-') => Err(ApiError::BelowMinimum { param: name, min, got: got() }),
        Ok(_) | Err(_) => Err(ApiError::AboveMaximum { param: name, max, got: got() }),
    }
}

/// Reads a boolean, as such or as text.
pub(super) fn boolean(scalars: &Scalars, name: &str) -> Result<Option<bool>, ApiError> {
    match scalars.get(name) {
        None => Ok(None),
        Some(Scalar::Bool(value)) => Ok(Some(*value)),
        Some(scalar @ Scalar::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(wrong_type(name, "a boolean", scalar)),
        },
        Some(other) => Err(wrong_type(name, "a boolean", other)),
    }
}
