//! The limits of a client: `[limits]` for every client, the same keys in `[[clients]]` for one. A limit of 0 in the file is
//! `None` in the code.

use std::num::NonZeroU32;

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::{Error, layers};
use crate::model::Usd;

/// `[limits]`, as written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LimitsSection {
    pub(super) requests_per_minute: u32,
    pub(super) requests_at_once: u32,
    pub(super) predictions_at_once: u32,
    pub(super) pictures_per_day: u32,
    pub(super) usd_per_day: f64,
    pub(super) usd_per_month: f64,
}

/// The limits of one client; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ClientLimits {
    pub(crate) requests_per_minute: Option<NonZeroU32>,
    pub(crate) requests_at_once: Option<NonZeroU32>,
    pub(crate) predictions_at_once: Option<NonZeroU32>,
    pub(crate) pictures_per_day: Option<NonZeroU32>,
    pub(crate) usd_per_day: Option<Usd>,
    pub(crate) usd_per_month: Option<Usd>,
}

impl LimitsSection {
    /// Returns the limits, of which 0 is none. The ranges are checked by then.
    pub(in crate::config) fn limits(self) -> ClientLimits {
        let money = |amount: f64| (amount > 0.0).then_some(Usd(amount));
        ClientLimits {
            requests_per_minute: NonZeroU32::new(self.requests_per_minute),
            requests_at_once: NonZeroU32::new(self.requests_at_once),
            predictions_at_once: NonZeroU32::new(self.predictions_at_once),
            pictures_per_day: NonZeroU32::new(self.pictures_per_day),
            usd_per_day: money(self.usd_per_day),
            usd_per_month: money(self.usd_per_month),
        }
    }
}

/// The limits that a client of run time has of its own. Absent ones have the values of `[limits]`, whenever those are read;
/// 0 is no limit. Serialized into the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LimitOverrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests_at_once: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) predictions_at_once: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pictures_per_day: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usd_per_day: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usd_per_month: Option<f64>,
}

impl LimitOverrides {
    /// Returns the limits, with those of `defaults` in the place of absent ones.
    pub(crate) fn over(&self, defaults: ClientLimits) -> ClientLimits {
        let count = |own: Option<u32>, default| own.map_or(default, NonZeroU32::new);
        let money = |own: Option<f64>, default| own.map_or(default, |usd| (usd > 0.0).then_some(Usd(usd)));
        ClientLimits {
            requests_per_minute: count(self.requests_per_minute, defaults.requests_per_minute),
            requests_at_once: count(self.requests_at_once, defaults.requests_at_once),
            predictions_at_once: count(self.predictions_at_once, defaults.predictions_at_once),
            pictures_per_day: count(self.pictures_per_day, defaults.pictures_per_day),
            usd_per_day: money(self.usd_per_day, defaults.usd_per_day),
            usd_per_month: money(self.usd_per_month, defaults.usd_per_month),
        }
    }
}

/// A change of some limits of a client: a value of its own, or `None` for that of `[limits]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) struct LimitPatch {
    #[serde(deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<Option<u32>>,
    #[serde(deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub(crate) requests_at_once: Option<Option<u32>>,
    #[serde(deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub(crate) predictions_at_once: Option<Option<u32>>,
    #[serde(deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub(crate) pictures_per_day: Option<Option<u32>>,
    #[serde(deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub(crate) usd_per_day: Option<Option<f64>>,
    #[serde(deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub(crate) usd_per_month: Option<Option<f64>>,
}

impl LimitPatch {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Leaves out what a client has already.
    pub(crate) fn without_same(&self, own: &LimitOverrides) -> Self {
        Self {
            requests_per_minute: self.requests_per_minute.filter(|new| *new != own.requests_per_minute),
            requests_at_once: self.requests_at_once.filter(|new| *new != own.requests_at_once),
            predictions_at_once: self.predictions_at_once.filter(|new| *new != own.predictions_at_once),
            pictures_per_day: self.pictures_per_day.filter(|new| *new != own.pictures_per_day),
            usd_per_day: self.usd_per_day.filter(|new| *new != own.usd_per_day),
            usd_per_month: self.usd_per_month.filter(|new| *new != own.usd_per_month),
        }
    }

    /// Fails when a value is outside of the range that `[limits]` has for it.
    ///
    /// # Errors
    ///
    /// One line that names the limit, its range and the value.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut limits = toml::Table::new();
        let mut add =
            |name: &str, value: Option<toml::Value>| drop(value.map(|value| limits.insert(name.to_owned(), value)));
        let count = |value: Option<Option<u32>>| value.flatten().map(|count| toml::Value::Integer(count.into()));
        let money = |value: Option<Option<f64>>| value.flatten().map(toml::Value::Float);
        add("requests_per_minute", count(self.requests_per_minute));
        add("requests_at_once", count(self.requests_at_once));
        add("predictions_at_once", count(self.predictions_at_once));
        add("pictures_per_day", count(self.pictures_per_day));
        add("usd_per_day", money(self.usd_per_day));
        add("usd_per_month", money(self.usd_per_month));
        check_section("limits", limits)
    }

    /// Changes the limits of a client.
    pub(crate) fn apply(&self, to: &mut LimitOverrides) {
        #[expect(clippy::option_option, reason = "absent, null and a value are three things")]
        fn change<T>(to: &mut Option<T>, new: Option<Option<T>>) {
            if let Some(new) = new {
                *to = new;
            }
        }
        change(&mut to.requests_per_minute, self.requests_per_minute);
        change(&mut to.requests_at_once, self.requests_at_once);
        change(&mut to.predictions_at_once, self.predictions_at_once);
        change(&mut to.pictures_per_day, self.pictures_per_day);
        change(&mut to.usd_per_day, self.usd_per_day);
        change(&mut to.usd_per_month, self.usd_per_month);
    }
}

/// Fails when a client may not have this weight.
///
/// # Errors
///
/// One line that names the range and the value.
pub(crate) fn check_weight(weight: f64) -> Result<(), String> {
    check_section("clients", toml::Table::from_iter([("weight".to_owned(), toml::Value::Float(weight))]))
}

fn check_section(section: &str, figures: toml::Table) -> Result<(), String> {
    let sections = toml::Table::from_iter([(section.to_owned(), toml::Value::Table(figures))]);
    layers::check_ranges(&sections).first().map_or(Ok(()), |error: &Error| Err(error.to_string()))
}

/// Reads a value that is there: `null` is a value, too.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::refusal;

    #[test]
    fn a_patch_changes_what_it_names_and_null_returns_to_the_default() {
        let defaults = ClientLimits { requests_per_minute: NonZeroU32::new(60), ..ClientLimits::default() };
        let mut own = LimitOverrides::default();
        let patch = |text: &str| serde_json::from_str::<LimitPatch>(text).unwrap();
        patch(r#"{"requests_per_minute": 0, "usd_per_day": 2.5}"#).apply(&mut own);
        let limits = own.over(defaults);
        assert_eq!((limits.requests_per_minute, limits.usd_per_day), (None, Some(Usd(2.5))));
        patch(r#"{"requests_per_minute": null}"#).apply(&mut own);
        let limits = own.over(defaults);
        assert_eq!((limits.requests_per_minute, limits.usd_per_day), (NonZeroU32::new(60), Some(Usd(2.5))));
        let stored = serde_json::to_string(&own).unwrap();
        assert_eq!(stored, r#"{"usd_per_day":2.5}"#);
        assert_eq!(serde_json::from_str::<LimitOverrides>(&stored).unwrap(), own);
        for (text, named) in [
            (r#"{"usd_per_day": -1}"#, "limits.usd_per_day: must be a number from 0 to 1000000000, not -1"),
            (r#"{"requests_at_once": 1000001}"#, "limits.requests_at_once: must be a whole number from 0 to 1000000"),
        ] {
            let problem = patch(text).check().unwrap_err();
            assert!(problem.starts_with(named), "{problem}");
        }
        assert!(serde_json::from_str::<LimitPatch>(r#"{"usd_per_year": 1}"#).is_err());
        assert!(check_weight(1001.0).is_err() && check_weight(0.5).is_ok() && patch("{}").is_empty());
    }

    #[test]
    fn values_out_of_range_name_the_key_and_the_range() {
        for (line, expected) in [
            (
                "requests_per_minute = -1",
                "limits.requests_per_minute: must be a whole number from 0 to 1000000, not -1",
            ),
            ("requests_at_once = -1", "limits.requests_at_once: must be a whole number from 0"),
            ("predictions_at_once = 1000001", "limits.predictions_at_once: must be a whole number from 0"),
            ("usd_per_day = nan", "limits.usd_per_day: must be a number from 0 to 1000000000"),
            ("usd_per_month = 1e12", "limits.usd_per_month: must be a number from 0 to 1000000000"),
        ] {
            let error = refusal(&format!("[limits]\n{line}"), &[]);
            assert!(error.starts_with(expected), "{error}");
        }
        assert!(refusal("[limits]\npictures_per_day = 2.5", &[]).contains("limits.pictures_per_day"));
        assert!(refusal("", &[("GATEWAY_LIMITS__USD_PER_DAY", "-0.01")]).starts_with("limits.usd_per_day: "));
    }
}
