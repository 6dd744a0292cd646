//! The type of every value that is no figure, and the keys of entries in lists of tables.

use toml::{Table, Value};

use super::ranges;
use crate::config::Error;

/// A list of tables: `[[clients]]`, `[[upstream.accounts]]`.
#[derive(Debug)]
pub(super) struct TableList {
    /// The name in the file.
    name: &'static str,
    description: &'static str,
    required: &'static [(&'static str, ValueType)],
    optional: &'static [(&'static str, ValueType)],
    /// Sections in which its figures have their ranges, and of which it may have every figure that it lists.
    sections: &'static [&'static str],
    figures: &'static [&'static str],
}

/// The type of a value that is no figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Text,
    Texts,
    /// A table of texts by name.
    NamedTexts,
}

pub(super) const CLIENTS: TableList = TableList {
    name: "clients",
    description: "Clients, each with the digest of its key and limits of its own.",
    required: &[("name", ValueType::Text), ("key_digest", ValueType::Text)],
    optional: &[("models", ValueType::Texts)],
    sections: &["clients", "limits"],
    figures: &[
        "weight",
        "requests_per_minute",
        "requests_at_once",
        "predictions_at_once",
        "pictures_per_day",
        "usd_per_day",
        "usd_per_month",
    ],
};

pub(super) const ACCOUNTS: TableList = TableList {
    name: "upstream.accounts",
    description: "Several upstream accounts. An absent limit is that of [upstream].",
    required: &[("name", ValueType::Text)],
    optional: &[("api_key_file", ValueType::Text)],
    sections: &["upstream"],
    figures: &["submits_per_minute", "requests_per_minute", "concurrent_predictions"],
};

impl TableList {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn description(&self) -> &'static str {
        self.description
    }

    /// Returns the keys that an entry must have.
    pub(super) fn required(&self) -> impl Iterator<Item = &'static str> {
        self.required.iter().map(|(name, _)| *name)
    }

    /// Returns the keys that are no figures.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&'static str, ValueType)> {
        self.required.iter().chain(self.optional).copied()
    }

    /// Returns the keys that are figures, each with the name under which its range is known.
    pub(super) fn figures(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.figures.iter().map(|name| {
            let paths = self.sections.iter().map(|section| format!("{section}.{name}"));
            (*name, paths.into_iter().find(|path| ranges::ValueRange::of(path).is_some()).unwrap_or_default())
        })
    }

    /// Checks the keys of every entry, with the types and ranges of their values.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the entry and the key. Values of unknown keys are not repeated: they may be secrets.
    pub(super) fn check(&self, list: &Value) -> Result<(), Error> {
        let Value::Array(entries) = list else {
            return Err(Error::invalid(self.name, format!("must be a list of tables: [[{}]]", self.name)));
        };
        for (position, entry) in entries.iter().enumerate() {
            let origin = format!("{}, entry {}", self.name, position + 1);
            let Value::Table(entry) = entry else {
                return Err(Error::invalid(origin, format!("must be a table: [[{}]]", self.name)));
            };
            self.check_entry(&origin, entry)?;
        }
        Ok(())
    }

    fn check_entry(&self, origin: &str, entry: &Table) -> Result<(), Error> {
        if let Some((missing, _)) = self.required.iter().find(|(key, _)| !entry.contains_key(*key)) {
            return Err(Error::invalid(origin, format!("has no {missing}")));
        }
        let mut figures = Table::new();
        for (key, value) in entry {
            match self.required.iter().chain(self.optional).find(|(known, _)| known == key) {
                Some((_, value_type)) => {
                    value_type.check(value).map_err(|problem| Error::invalid(format!("{origin}: {key}"), problem))?;
                }
                None if self.figures.contains(&key.as_str()) => {
                    figures.insert(key.clone(), value.clone());
                }
                None => {
                    let known = self.texts().map(|(name, _)| name).chain(self.figures.iter().copied());
                    let hint = super::reference::nearest(key, known).map(|name| format!("; did you mean {name}?"));
                    return Err(Error::invalid(origin, format!("unknown key {key}{}", hint.unwrap_or_default())));
                }
            }
        }
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        ranges::check_entry(&format!("{}.{name}", self.name), self.sections, &figures)
    }
}

impl ValueType {
    /// Returns the type of a default; `None` for a figure.
    fn of(default: &Value) -> Option<Self> {
        match default {
            Value::String(_) => Some(Self::Text),
            Value::Array(_) => Some(Self::Texts),
            Value::Table(_) => Some(Self::NamedTexts),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => None,
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    ///
    /// The end of a sentence.
    fn check(self, value: &Value) -> Result<(), &'static str> {
        match self {
            Self::Text if value.is_str() => Ok(()),
            Self::Text => Err("must be a text in quotes"),
            Self::Texts if value.as_array().is_some_and(|items| items.iter().all(Value::is_str)) => Ok(()),
            Self::Texts => Err("must be a list of texts: [\"…\", \"…\"]"),
            Self::NamedTexts if value.as_table().is_some_and(|table| table.values().all(Value::is_str)) => Ok(()),
            Self::NamedTexts => Err("must be a table of texts: { \"…\" = \"…\" }"),
        }
    }
}

/// Checks that a value has the type of its default. Figures are checked with their ranges.
///
/// # Errors
///
/// The end of a sentence.
pub(super) fn check(value: &Value, default: &Value) -> Result<(), &'static str> {
    ValueType::of(default).map_or(Ok(()), |value_type| value_type.check(value))
}
