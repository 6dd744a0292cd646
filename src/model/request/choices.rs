//! The values that a request has for its model's parameters.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Values of model parameters, by name. Names and values are data of the catalogue.
///
/// Cheap to clone: a request that waits, its job and its record share them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, String>")]
pub(crate) struct Choices {
    /// In the order of the names. A job has a handful, and a node of a tree has room for eleven.
    pairs: Arc<Vec<(Box<str>, Box<str>)>>,
}

impl Choices {
    pub(crate) fn quality(&self) -> Option<&str> {
        self.get("quality")
    }

    pub(crate) fn background(&self) -> Option<&str> {
        self.get("background")
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.find(name).ok().map(|index| &*self.pairs[index].1)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let found = self.find(name);
        let pairs = Arc::make_mut(&mut self.pairs);
        match found {
            Ok(index) => pairs[index].1 = value.into(),
            Err(index) => pairs.insert(index, (name.into(), value.into())),
        }
    }

    /// Names and values, in the order of the names: the fingerprint depends on it.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the index of a name, or where it belongs.
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

impl From<BTreeMap<String, String>> for Choices {
    fn from(pairs: BTreeMap<String, String>) -> Self {
        let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { pairs: Arc::new(pairs.collect()) }
    }
}

impl Serialize for Choices {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.pairs())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Choices {
    fn from(pairs: [(&str, &str); N]) -> Self {
        BTreeMap::from(pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))).into()
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

    #[test]
    fn a_choice_is_found_by_its_name_and_a_clone_does_not_change() {
        let mut choices = Choices::default();
        for name in ["size", "background", "quality", "moderation"] {
            choices.set(name, "auto");
        }
        let before = choices.clone();
        choices.set("quality", "low");
        assert_eq!(
            (choices.get("quality"), before.get("quality"), choices.get("n")),
            (Some("low"), Some("auto"), None)
        );
        let names: Vec<&str> = choices.pairs().map(|(name, _)| name).collect();
        assert_eq!(names, ["background", "moderation", "quality", "size"]);
    }
}
