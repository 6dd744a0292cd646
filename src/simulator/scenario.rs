//! What the simulated service does: every behaviour that is uncertain or unfortunate is a switch here.
//!
//! The defaults are the best-documented behaviour. `config/simulator.toml` shows every key with its default.

use serde::{Deserialize, Serialize};

#[macro_use]
mod words;
mod faces;
mod sections;

pub use faces::*;
pub use sections::*;
pub use words::*;

/// The example scenario, which names every key and holds its default.
pub const EXAMPLE: &str = include_str!("../../config/simulator.toml");

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not TOML, or holds a key or a word that is not known.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// The JSON holds a key or a word that is not known.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A number is outside of what makes sense.
    #[error("`{key}` must be {rule}")]
    Value {
        /// The key, dotted.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
    },
}

/// Everything that can be switched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Seed of latencies and of shares; ids stay random, so that two runs never share one.
    pub seed: u64,
    /// Divides every simulated duration: 100 turns 23 s into 230 ms.
    pub speed: f64,
    /// How refusals look.
    pub errors: Errors,
    /// Who may call.
    pub auth: Auth,
    /// What is sold, and how strictly a request is read.
    pub models: Models,
    /// Pictures to edit.
    pub inputs: Inputs,
    /// Content policy.
    pub policy: Policy,
    /// The answer to a submit.
    pub submit: Submit,
    /// The life of a prediction.
    pub life: Life,
    /// The answer to a poll.
    pub result: Results,
    /// Pictures as they are made.
    pub pictures: Pictures,
    /// Pictures as they are served.
    pub files: Files,
    /// Rate limits.
    pub limits: Limits,
    /// Money.
    pub balance: Balance,
    /// What `enable_sync_mode` does.
    pub sync: Sync,
    /// The OpenAI-format face.
    pub openai: OpenAi,
    /// The unified face.
    pub unified: Unified,
    /// Standing faults; one-shot faults come through the control route.
    pub faults: Faults,
    /// The small routes beside the predictions.
    pub extras: Extras,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            speed: 1.0,
            errors: Errors::default(),
            auth: Auth::default(),
            models: Models::default(),
            inputs: Inputs::default(),
            policy: Policy::default(),
            submit: Submit::default(),
            life: Life::default(),
            result: Results::default(),
            pictures: Pictures::default(),
            files: Files::default(),
            limits: Limits::default(),
            balance: Balance::default(),
            sync: Sync::default(),
            openai: OpenAi::default(),
            unified: Unified::default(),
            faults: Faults::default(),
            extras: Extras::default(),
        }
    }
}

impl Scenario {
    /// Reads a scenario; keys that are left out keep their defaults.
    ///
    /// # Errors
    ///
    /// When the text is not TOML, names an unknown key or word, or holds an impossible number.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let scenario: Self = toml::from_str(text)?;
        scenario.checked()
    }

    /// Lays a JSON object over this scenario, table by table.
    ///
    /// # Errors
    ///
    /// When the result is not a scenario.
    pub fn merged(&self, above: serde_json::Value) -> Result<Self, Error> {
        let mut below = serde_json::to_value(self)?;
        overlay(&mut below, above);
        serde_json::from_value::<Self>(below)?.checked()
    }

    fn checked(self) -> Result<Self, Error> {
        if !(self.speed.is_finite() && self.speed > 0.0) {
            return Err(Error::Value { key: "speed", rule: "a positive number" });
        }
        for (key, share) in [
            ("life.outcome_share", self.life.outcome_share),
            ("faults.submit_share", self.faults.submit_share),
            ("faults.poll_share", self.faults.poll_share),
            ("faults.download_share", self.faults.download_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::Value { key, rule: "between 0 and 1" });
            }
        }
        if self.files.cut_at_percent > 100 {
            return Err(Error::Value { key: "files.cut_at_percent", rule: "at most 100" });
        }
        for (key, status) in [
            ("models.no_channel_status", self.models.no_channel_status),
            ("result.unknown_id_status", self.result.unknown_id_status),
            ("files.expired_status", self.files.expired_status),
            ("extras.models_status", self.extras.models_status),
            ("extras.user_me_status", self.extras.user_me_status),
        ] {
            if !(200..=599).contains(&status) {
                return Err(Error::Value { key, rule: "an HTTP status from 200 to 599" });
            }
        }
        for (key, [from, to]) in [
            ("life.low_ms", self.life.low_ms),
            ("life.medium_ms", self.life.medium_ms),
            ("life.high_ms", self.life.high_ms),
        ] {
            if from > to {
                return Err(Error::Value { key, rule: "a range: the smaller number first" });
            }
        }
        Ok(self)
    }
}

/// Objects are merged key by key; anything else is replaced whole.
fn overlay(below: &mut serde_json::Value, above: serde_json::Value) {
    match (below, above) {
        (serde_json::Value::Object(below), serde_json::Value::Object(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_names_every_key_and_holds_the_defaults() {
        assert_eq!(Scenario::from_toml(EXAMPLE).unwrap(), Scenario::default());
        let shown: toml::Table = EXAMPLE.parse().unwrap();
        let known = toml::Table::try_from(Scenario::default()).unwrap();
        for (section, value) in known {
            assert!(shown.contains_key(&section), "{section} is not shown");
            for key in value.as_table().into_iter().flat_map(toml::Table::keys) {
                assert!(shown[&section].get(key).is_some(), "{section}.{key} is not shown");
            }
        }
    }

    #[test]
    fn a_typo_names_itself() {
        let error = Scenario::from_toml("[limits]\nsubmits_per_minite = 5").unwrap_err();
        assert!(error.to_string().contains("submits_per_minite"));
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert!(Scenario::from_toml("speed = 0.0").is_err());
        assert!(Scenario::from_toml("[life]\nlow_ms = [5, 1]").is_err());
        assert!(Scenario::from_toml("[faults]\npoll_share = 2.0").is_err());
    }

    #[test]
    fn merging_replaces_only_what_is_named() {
        let merged = Scenario::default().merged(serde_json::json!({"speed": 50, "limits": {"concurrent": 3}})).unwrap();
        assert!((merged.speed - 50.0).abs() < f64::EPSILON);
        assert_eq!(merged.limits.concurrent, 3);
        assert_eq!(merged.limits.poll_interval_min_ms, 900);
        assert!(Scenario::default().merged(serde_json::json!({"spede": 1})).is_err());
    }
}
