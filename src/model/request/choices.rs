//! The values that a request has for its model's parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Values of model parameters, by name. Names and values are data of the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Choices(BTreeMap<String, String>);

impl Choices {
    pub(crate) fn quality(&self) -> Option<&str> {
        self.get("quality")
    }

    pub(crate) fn background(&self) -> Option<&str> {
        self.get("background")
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Names and values, in the order of the names: the fingerprint depends on it.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Choices {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_stores_a_plain_object() {
        let choices = Choices::from([("quality", "low"), ("background", "opaque")]);
        let stored = r#"{"background":"opaque","quality":"low"}"#;
        assert_eq!(serde_json::to_string(&choices).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Choices>(stored).unwrap(), choices);
    }
}
