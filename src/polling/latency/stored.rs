//! The stored form of what was learned: it outlives a restart.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::class::LatencyClass;
use super::learning::{LearnedClass, OBSERVATIONS_MAX};
use super::observation::Observation;

/// The version of [`StoredLatencies`].
pub(super) const VERSION: u32 = 1;

/// Completions by class, least recently used first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredLatencies {
    pub(super) version: u32,
    pub(super) classes: Vec<StoredClass>,
}

/// One class, its figures in thousandths.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredClass {
    pub(super) class: LatencyClass,
    /// After, by, weight.
    pub(super) observations: Vec<(u32, u32, u32)>,
    pub(super) prior_weight: u32,
}

impl StoredClass {
    pub(super) fn new(class: &LatencyClass, learned: &LearnedClass) -> Self {
        let thousandths = |one: &Observation| (thousandths(one.after), thousandths(one.by), thousandths(one.weight));
        Self {
            class: class.clone(),
            observations: learned.observations.iter().map(thousandths).collect(),
            prior_weight: self::thousandths(learned.prior_weight),
        }
    }

    /// Whether it is within the bounds of what this version stores.
    pub(super) fn is_sound(&self) -> bool {
        self.class.is_sound()
            && self.observations.len() <= OBSERVATIONS_MAX
            && self.observations.iter().all(|&(after, by, weight)| after < by && weight <= 1000)
    }

    pub(super) fn observations(&self) -> VecDeque<Observation> {
        let observation = |&(after, by, weight): &_| Observation::new(units(after), units(by), units(weight));
        self.observations.iter().map(observation).collect()
    }

    pub(super) fn prior_weight(&self) -> f64 {
        units(self.prior_weight)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and bounded by the bins")]
fn thousandths(value: f64) -> u32 {
    (value * 1000.0).round() as u32
}

fn units(thousandths: u32) -> f64 {
    f64::from(thousandths) / 1000.0
}
