//! Names of clients as label values. Each name is a series more in every metric that has it, here and in what scrapes it, so only
//! the first ones get a value of their own.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::metrics::gauge::Gauge;

/// The value that clients share which have none of their own, and unknown models. No name has parentheses.
pub(crate) const OTHER: &str = "(other)";
/// The value for a request that no client, or no model, is known of.
pub(crate) const NONE: &str = "(none)";

/// Names that are label values. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LabelNames {
    names: Arc<RwLock<HashSet<Arc<str>>>>,
    names_max: usize,
    pub(super) count: Gauge,
}

impl LabelNames {
    pub(super) fn new(names_max: usize) -> Self {
        Self { names: Arc::default(), names_max, count: Gauge::default() }
    }

    /// Returns the label value for a name: the name itself for the first ones, and for those that came first before.
    pub(crate) fn value(&self, name: &str) -> Arc<str> {
        if name.is_empty() {
            return NONE.into();
        }
        if let Some(known) = self.names.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return Arc::clone(known);
        }
        if names.len() >= self.names_max {
            return OTHER.into();
        }
        let name: Arc<str> = name.into();
        names.insert(Arc::clone(&name));
        self.count.inc();
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_are_values_and_later_ones_share_one() {
        let names = LabelNames::new(2);
        let values = ["alice", "bob", "carol", "alice", "", "dave", "bob"].map(|name| names.value(name));
        assert_eq!(values.each_ref().map(|value| &**value), ["alice", "bob", OTHER, "alice", NONE, OTHER, "bob"]);
        assert_eq!(names.count.get(), 2);
        assert_eq!(&*LabelNames::new(0).value("alice"), OTHER);
    }
}
