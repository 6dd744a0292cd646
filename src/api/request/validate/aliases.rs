//! Fields of other APIs that say what `n`, `output_format` or `size` say. Those about the size are read in `shape.rs`.

use std::collections::BTreeMap;

use super::N_MAX;
use super::fields::format_name;
use super::refusals::Refusals;
use super::values::integer;
use crate::api::error::ApiError;
use crate::api::error::messages::clean_value;
use crate::api::request::body::form::Scalar;
use crate::api::request::body::form::aliases::{self, Meaning};
use crate::model::Format;

type Scalars = BTreeMap<String, Scalar>;

/// Formats of pictures that are no result here, by the names that clients write.
const OTHER_FORMATS: [&str; 7] = ["gif", "svg", "bmp", "tiff", "avif", "heic", "jxl"];

/// A field of another API, as the client sent it.
#[derive(Debug)]
pub(super) struct Alias {
    /// As the client wrote it.
    pub(super) sent: String,
    /// In messages.
    pub(super) name: &'static str,
    pub(super) meaning: Meaning,
    pub(super) value: Scalar,
}

impl Alias {
    /// Takes the fields of other APIs out of a form, in the order of precedence.
    pub(super) fn take_from(scalars: &mut Scalars) -> Vec<Self> {
        if !scalars.keys().any(|name| aliases::find(name).is_some()) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (sent, value) in std::mem::take(scalars) {
            match aliases::find(&sent) {
                Some((position, name, meaning)) => found.push((position, Self { sent, name, meaning, value })),
                None => {
                    scalars.insert(sent, value);
                }
            }
        }
        found.sort_by_key(|(position, _)| *position);
        found.into_iter().map(|(_, alias)| alias).collect()
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Scalar::Text(text) | Scalar::Number(text) => Some(text),
            Scalar::Bool(_) | Scalar::Array | Scalar::Object => None,
        }
    }

    /// Reads a whole number.
    pub(super) fn integer(&self, min: i64, max: i64) -> Result<i64, ApiError> {
        let own = Scalars::from([(self.name.to_owned(), self.value.clone())]);
        Ok(integer(&own, self.name, min, max)?.unwrap_or(min))
    }

    /// Returns the refusal of this field.
    pub(super) fn refusal(&self, problem: String) -> ApiError {
        ApiError::Unacceptable { param: self.name, problem: problem.into() }
    }

    /// Returns the refusal of this field beside another one that says something else.
    pub(super) fn contradiction(&self, value: &str, other: &str, other_value: &str) -> ApiError {
        let (value, other_value) = (clean_value(value), clean_value(other_value));
        self.refusal(format!(
            "'{value}' contradicts '{other}' ('{other_value}'). Nothing was bought; send only one of them"
        ))
    }
}

/// Writes what fields of other APIs say into `n` and `output_format`. Fields that only look like the format of the result are
/// noted as ignored; where the request `has_pictures`, some name the format of these.
///
/// # Errors
///
/// The first field that is invalid or contradicts OpenAI's, where nothing may be dropped.
pub(super) fn apply(
    scalars: &mut Scalars,
    fields: &[Alias],
    has_pictures: bool,
    refusals: &mut Refusals,
    ignored: &mut Vec<String>,
) -> Result<(), ApiError> {
    for field in fields {
        match field.meaning {
            Meaning::Count => count(scalars, field, refusals)?,
            Meaning::Format if has_pictures && aliases::may_describe_input(&field.sent) => {
                ignored.push(field.sent.clone());
            }
            Meaning::Format => format(scalars, field, refusals, ignored)?,
            Meaning::Size | Meaning::Ratio | Meaning::Width | Meaning::Height => {}
        }
    }
    Ok(())
}

fn count(scalars: &mut Scalars, field: &Alias, refusals: &mut Refusals) -> Result<(), ApiError> {
    let count = match field.integer(1, N_MAX) {
        Ok(count) => count,
        Err(refusal) => return refusals.refuse(&field.sent, refusal),
    };
    match integer(scalars, "n", 1, N_MAX)? {
        Some(n) if n != count => {
            refusals.refuse(&field.sent, field.contradiction(&count.to_string(), "n", &n.to_string()))
        }
        Some(_) => Ok(()),
        None => {
            scalars.insert("n".to_owned(), Scalar::Number(count.to_string()));
            Ok(())
        }
    }
}

fn format(
    scalars: &mut Scalars,
    field: &Alias,
    refusals: &mut Refusals,
    ignored: &mut Vec<String>,
) -> Result<(), ApiError> {
    let text = field.text().unwrap_or_default().to_lowercase();
    let name = format_name(&text);
    if Format::from_name(name).is_none() && !OTHER_FORMATS.contains(&name) {
        // `format: "json"` is about something else.
        ignored.push(field.sent.clone());
        return Ok(());
    }
    match scalars.get("output_format") {
        Some(Scalar::Text(known)) if known != "auto" && known != name => {
            refusals.refuse(&field.sent, field.contradiction(name, "output_format", known))
        }
        _ => {
            scalars.insert("output_format".to_owned(), Scalar::Text(name.to_owned()));
            Ok(())
        }
    }
}
