//! The survival function of a class: the probability that a purchase still works at an age.

use std::sync::LazyLock;

/// Ages are distinguished by a hundredth, from 40 ms to more than an hour.
pub(super) const BINS: usize = 1152;
pub(super) const BIN_FIRST_S: f64 = 0.04;
const BIN_LOG: f64 = 0.01;

/// Completions that the tail is always worth.
const TAIL_WEIGHT: f64 = 0.5;

/// The tail falls with these powers of the age, below and above the median.
const TAIL_BELOW: f64 = 1.2;
const TAIL_ABOVE: f64 = 1.5;

/// Edges of the bins, in seconds.
pub(super) static EDGES: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let edge = |bin: usize| BIN_FIRST_S * (BIN_LOG * f64::from(u32::try_from(bin).expect("few bins"))).exp();
    (0..=BINS).map(edge).collect()
});

/// The probability that a purchase of a class still works at an age, by bins. Empty: nothing is known.
#[derive(Clone, Debug, Default)]
pub struct SurvivalEstimate {
    /// At the edges of the bins.
    survival: Vec<f32>,
}

impl SurvivalEstimate {
    /// Whether there is neither a prior nor a completion.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.survival.is_empty()
    }

    /// Returns the probability that a purchase works longer than `age` seconds. 1 where nothing is known.
    #[must_use]
    pub fn survival(&self, age: f64) -> f64 {
        if self.is_empty() || age <= BIN_FIRST_S {
            return 1.0;
        }
        let bin = Self::bin(age);
        let (left, right) = Self::edges(bin);
        let part = ((age - left) / (right - left)).clamp(0.0, 1.0);
        let (before, after) = self.ends(bin);
        before + (after - before) * part
    }

    /// Returns the probabilities of [`SurvivalEstimate::survival`] at both edges of a bin.
    #[must_use]
    pub fn ends(&self, bin: usize) -> (f64, f64) {
        (f64::from(self.survival[bin]), f64::from(self.survival[bin + 1]))
    }

    /// Returns the bin that holds `age` seconds; the first or the last if none does.
    #[must_use]
    pub fn bin(age: f64) -> usize {
        let found = EDGES.partition_point(|&edge| edge <= age);
        found.saturating_sub(1).min(BINS - 1)
    }

    /// Returns both edges of a bin, in seconds.
    #[must_use]
    pub fn edges(bin: usize) -> (f64, f64) {
        (EDGES[bin], EDGES[bin + 1])
    }

    /// Returns the number of bins.
    #[must_use]
    pub const fn bins() -> usize {
        BINS
    }

    /// Returns the age in seconds by which a part of all purchases is done.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        let bin = self.survival.partition_point(|&survival| f64::from(survival) > 1.0 - part);
        EDGES[bin.min(BINS)]
    }

    /// Makes an estimate of weights of the bins, with the tail about their median.
    pub(super) fn of_weights(weights: &[f64]) -> Self {
        let sum: f64 = weights.iter().sum();
        let total = sum + TAIL_WEIGHT;
        let centre = EDGES[quantile_bin(weights, sum / 2.0)];
        let mut before = 0.0;
        let mut survival = Vec::with_capacity(BINS + 1);
        for (bin, &edge) in EDGES.iter().enumerate() {
            let working = (sum - before).max(0.0) + TAIL_WEIGHT * tail_survival(edge / centre);
            #[expect(clippy::cast_possible_truncation, reason = "seven digits of a probability are plenty")]
            survival.push((working / total) as f32);
            before += weights.get(bin).copied().unwrap_or_default();
        }
        Self { survival }
    }

    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        self.survival.iter().all(|survival| (0.0..=1.0).contains(survival))
    }
}

/// Probability of the tail above a multiple of the median: a power of it on either side, with one density between them.
fn tail_survival(multiple: f64) -> f64 {
    let above = TAIL_BELOW / (TAIL_BELOW + TAIL_ABOVE);
    if multiple < 1.0 { 1.0 - (1.0 - above) * multiple.powf(TAIL_BELOW) } else { above * multiple.powf(-TAIL_ABOVE) }
}

/// The first bin up to which weights sum to `part`.
pub(super) fn quantile_bin(weights: &[f64], part: f64) -> usize {
    let mut sum = 0.0;
    let reached = weights.iter().position(|weight| {
        sum += weight;
        sum >= part
    });
    reached.unwrap_or(BINS - 1)
}
