//! The configuration of the simulated service: every undocumented or harmful behaviour has a switch.
//!
//! The defaults follow the documentation. `config/simulator.toml` shows every key with its default.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

#[macro_use]
mod choices;

mod answers;
mod apis;
mod edge;
mod faults;
mod limits;
mod outcomes;
mod pictures;
mod profiles;
mod ranges;
mod requests;

pub(crate) use self::answers::*;
pub(crate) use self::apis::*;
pub(crate) use self::edge::*;
pub(crate) use self::faults::*;
pub(crate) use self::limits::*;
pub(crate) use self::outcomes::*;
pub(crate) use self::pictures::*;
pub use self::profiles::Profile;
pub(crate) use self::requests::*;

/// The sections that a model may override, by [`Models::by_name`].
const BY_MODEL: &[&str] = &[
    "errors", "models", "inputs", "policy", "submit", "life", "result", "pictures", "files", "sync", "openai",
    "unified",
];

/// Reasons for which a scenario is invalid.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not TOML, or has an unknown key or value.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// The JSON has an unknown key or value.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A number is out of range.
    #[error("`{key}` must be from {min} to {max}")]
    Number {
        /// The key, with its section: `life.low_ms`.
        key: String,
        /// The smallest valid value.
        min: f64,
        /// The largest valid value.
        max: f64,
    },
    /// A value is invalid for another reason.
    #[error("`{key}` must be {rule}")]
    Value {
        /// The key, with its section: `life.low_ms`.
        key: &'static str,
        /// The valid values.
        rule: &'static str,
    },
}

/// The scenario, section by section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Seed of latencies and shares. Ids stay random, so that two runs never share an id.
    pub seed: u64,
    /// Divisor of every simulated duration: 100 turns 23 s into 230 ms.
    pub speed: f64,
    /// The shape of refusals.
    pub errors: Errors,
    /// Which keys are refused.
    pub auth: Auth,
    /// The edge in front of the service.
    pub edge: Edge,
    /// Available models, and how strictly a request is validated.
    pub models: Models,
    /// Input pictures.
    pub inputs: Inputs,
    /// Content policy.
    pub policy: Policy,
    /// The answer to a submit.
    pub submit: Submit,
    /// Latencies and outcomes of predictions.
    pub life: Outcomes,
    /// The answer to a poll.
    pub result: Results,
    /// Pictures as they are drawn.
    pub pictures: Pictures,
    /// Pictures as they are served.
    pub files: Files,
    /// Rate limits.
    pub limits: Limits,
    /// Money.
    pub balance: Balance,
    /// What `enable_sync_mode` does.
    pub sync: Sync,
    /// The OpenAI API.
    pub openai: OpenAi,
    /// The unified API.
    pub unified: Unified,
    /// Standing faults; one-shot faults are added by the control route.
    pub faults: Faults,
    /// The small routes besides the APIs.
    pub extras: Extras,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            speed: 1.0,
            errors: Errors::default(),
            auth: Auth::default(),
            edge: Edge::default(),
            models: Models::default(),
            inputs: Inputs::default(),
            policy: Policy::default(),
            submit: Submit::default(),
            life: Outcomes::default(),
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
    /// Parses a scenario; absent keys keep their defaults.
    ///
    /// # Errors
    ///
    /// When the text is not TOML, or has an unknown key or value, or a number out of range.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let scenario: Self = toml::from_str(text)?;
        scenario.validated()
    }

    /// Returns this scenario with the keys of a JSON object replaced, section by section.
    ///
    /// # Errors
    ///
    /// When the result is not a valid scenario.
    pub fn merged(&self, changes: serde_json::Value) -> Result<Self, Error> {
        let mut merged = serde_json::to_value(self)?;
        merge(&mut merged, changes);
        serde_json::from_value::<Self>(merged)?.validated()
    }

    /// Returns this scenario with the differences of a model.
    pub(crate) fn for_model(self: &Arc<Self>, model: &str) -> Arc<Self> {
        let Some(changes) = self.models.by_name.get(model) else {
            return Arc::clone(self);
        };
        // The differences were checked with the scenario.
        with_differences(self, changes).map_or_else(|_| Arc::clone(self), Arc::new)
    }

    fn validated(self) -> Result<Self, Error> {
        for changes in self.models.by_name.values() {
            with_differences(&self, changes)?;
        }
        ranges::check(&serde_json::to_value(&self)?)?;
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

/// Returns a scenario with the differences of one model, and without those of the others. Null differs in nothing.
fn with_differences(scenario: &Scenario, changes: &serde_json::Value) -> Result<Scenario, Error> {
    let mut own = scenario.clone();
    own.models.by_name.clear();
    if changes.is_null() {
        return Ok(own);
    }
    let sections = changes.as_object().map(|sections| sections.keys().map(String::as_str).collect::<Vec<_>>());
    if sections.is_some_and(|sections| sections.iter().all(|section| BY_MODEL.contains(section))) {
        return own.merged(changes.clone());
    }
    Err(Error::Value {
        key: "models.by_name",
        rule: "tables of sections that concern a request for a picture, such as `inputs`",
    })
}

/// Merges objects key by key and replaces every other value whole.
fn merge(target: &mut serde_json::Value, changes: serde_json::Value) {
    match (target, changes) {
        (serde_json::Value::Object(target), serde_json::Value::Object(changes)) => {
            for (key, value) in changes {
                merge(target.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (target, value) => *target = value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config/simulator.toml");

    #[test]
    fn the_example_names_every_key_and_holds_the_defaults() {
        assert_eq!(Scenario::from_toml(EXAMPLE).unwrap(), Scenario::default());
        let shown: toml::Table = EXAMPLE.parse().unwrap();
        let known = toml::Table::try_from(Scenario::default()).unwrap();
        for (section, value) in known {
            assert!(shown.contains_key(&section), "{section} is missing");
            for key in value.as_table().into_iter().flat_map(toml::Table::keys) {
                assert!(shown[&section].get(key).is_some(), "{section}.{key} is missing");
            }
        }
    }

    #[test]
    fn the_error_of_an_unknown_key_names_the_key() {
        let error = Scenario::from_toml("[limits]\nsubmits_per_minite = 5").unwrap_err();
        assert!(error.to_string().contains("submits_per_minite"));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(Scenario::from_toml("speed = 0.0").is_err());
        assert!(Scenario::from_toml("[life]\nlow_ms = [5, 1]").is_err());
        assert!(Scenario::from_toml("[faults]\npoll_share = 2.0").is_err());
    }

    #[test]
    fn merging_replaces_only_the_named_keys() {
        let merged = Scenario::default().merged(serde_json::json!({"speed": 50, "limits": {"concurrent": 3}})).unwrap();
        assert!((merged.speed - 50.0).abs() < f64::EPSILON);
        assert_eq!(merged.limits.concurrent, 3);
        assert_eq!(merged.limits.poll_interval_min_ms, 900);
        assert!(Scenario::default().merged(serde_json::json!({"spede": 1})).is_err());
    }

    #[test]
    fn a_model_overrides_sections_of_the_scenario() {
        let text = "[inputs]\nlinks = 'refuse'\n[models.by_name.'gpt-image-2'.inputs]\nbase64_images = 'refuse_422'";
        let scenario = Arc::new(Scenario::from_toml(text).unwrap());
        let own = scenario.for_model("gpt-image-2");
        assert_eq!((own.inputs.base64_images, own.inputs.links), (InlinePictures::Refuse422, Links::Refuse));
        assert_eq!(own.for_model("gpt-image-2"), own);
        assert_eq!(scenario.for_model("gpt-image-1"), scenario);
        let restored = scenario.merged(serde_json::json!({"models": {"by_name": {"gpt-image-2": null}}})).unwrap();
        assert_eq!(Arc::new(restored).for_model("gpt-image-2").inputs.base64_images, InlinePictures::Accept);
        for wrong in ["inputs.base64 = 'refuse'", "inputs.links = 'never'", "auth.accepts = 'both'", "inputs = 1"] {
            let text = format!("[models.by_name.'gpt-image-2']\n{wrong}");
            assert!(Scenario::from_toml(&text).is_err(), "{wrong}");
        }
    }
}
