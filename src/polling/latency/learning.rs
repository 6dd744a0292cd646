//! One class: its completions, the estimate made of them, and when the estimate is said to have shifted.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::class::LatencyClass;
use super::observation::{Histogram, HistogramBuilder, Observation};
use super::survival::{BINS, EDGES, SurvivalEstimate, quantile_bin};

/// Completions that a class remembers.
pub(super) const OBSERVATIONS_MAX: usize = 96;

/// Weight that a completion keeps when another one follows: the last 50 count. Shifts are not left to fading.
const FADING: f64 = 0.98;

/// Completions that the prior is worth before there are any.
pub(super) const PRIOR_WEIGHT: f64 = 2.0;

/// Weight that the prior keeps when a completion comes.
const PRIOR_FADING: f64 = 0.85;

/// Completions of which each is learned at once, however fast they come.
const FEW: usize = 16;

/// Rounds of the self-consistent estimate. More change little.
const ROUNDS: usize = 4;

/// Bandwidth of the smoothing as a part of the rule for a normal distribution (Silverman's rule of thumb), which is too
/// wide for steep edges.
const BANDWIDTH: f64 = 0.8;

/// How much of the surprise the next completion makes, beyond which (in standard deviations of one completion) the past
/// is doubted, what is left of its weight then, and how many completions are too recent to doubt.
const SURPRISE_SHARE: f64 = 0.3;
const SURPRISE_MAX: f64 = 1.15;
const DOUBT: f64 = 0.3;
const RECENT: usize = 3;

/// When the past is doubted, the estimate has shifted if one of these quantiles has moved by more than this share since
/// the last reported shift.
const REPORTED_QUANTILES: [f64; 2] = [0.1, 0.5];
const SHIFT_SHARE: f64 = 0.2;

/// One completion is no more surprising than this number of standard deviations.
const DEVIATION_MAX: f64 = 3.0;

/// What is known of one class.
#[derive(Debug)]
pub(super) struct LearnedClass {
    pub(super) observations: VecDeque<Observation>,
    pub(super) prior_weight: f64,
    /// Where the last completions fell in the estimate before them, in standard deviations; 0 if it was right.
    surprise: f64,
    /// The number of the last use, for the eviction of classes.
    pub(super) used: u64,
    pub(super) estimate: SurvivalEstimate,
    /// When `estimate` was made, from what was observed by then.
    made_at: Instant,
    /// The quantiles that plans go by, as of the last reported shift. `None`: nothing was known.
    reported: Option<[f64; 2]>,
}

impl LearnedClass {
    pub(super) fn new(class: &LatencyClass, observations: VecDeque<Observation>, prior_weight: f64, used: u64) -> Self {
        let (estimate, made_at) = (SurvivalEstimate::default(), Instant::now());
        let mut learned = Self { observations, prior_weight, surprise: 0.0, used, estimate, made_at, reported: None };
        learned.learn(class);
        learned.reported = learned.quantiles();
        learned
    }

    fn quantiles(&self) -> Option<[f64; 2]> {
        (!self.estimate.is_empty()).then(|| REPORTED_QUANTILES.map(|part| self.estimate.quantile(part)))
    }

    /// Learns a completion, and returns whether the estimate has shifted.
    pub(super) fn observe(&mut self, class: &LatencyClass, observation: Observation, pause: Duration) -> bool {
        let doubted = self.add(observation);
        if !doubted && self.observations.len() >= FEW && self.made_at.elapsed() < pause {
            return false;
        }
        self.learn(class);
        let quantiles = self.quantiles();
        let shifted = match (self.reported, quantiles) {
            (Some(reported), Some(now)) => {
                let far = |(reported, now): (f64, f64)| reported.max(now) > (1.0 + SHIFT_SHARE) * reported.min(now);
                doubted && reported.into_iter().zip(now).any(far)
            }
            (reported, now) => reported.is_some() != now.is_some(),
        };
        if shifted {
            self.reported = quantiles;
        }
        shifted
    }

    /// Adds a completion, and returns whether it made the past doubtful.
    fn add(&mut self, observation: Observation) -> bool {
        if !self.estimate.is_empty() {
            let (after, by) = (self.estimate.survival(observation.after), self.estimate.survival(observation.by));
            // On the logistic scale the ends of the distribution count as much as they are worth; its deviation is 1.8.
            let place = f64::midpoint(after, by);
            let deviation = (((1.0 - place) / place).ln() / 1.8).clamp(-DEVIATION_MAX, DEVIATION_MAX);
            self.surprise += SURPRISE_SHARE * (deviation - self.surprise);
        }
        for earlier in &mut self.observations {
            earlier.weight *= FADING;
        }
        self.prior_weight *= PRIOR_FADING;
        self.observations.push_back(observation);
        if self.observations.len() > OBSERVATIONS_MAX {
            self.observations.pop_front();
        }
        let doubted = self.surprise.abs() > SURPRISE_MAX;
        if doubted {
            let older = self.observations.len().saturating_sub(RECENT);
            for earlier in self.observations.iter_mut().take(older) {
                earlier.weight *= DOUBT;
            }
            // The doubted estimate does not know either where in their intervals the recent completions lie.
            for recent in self.observations.iter_mut().skip(older) {
                recent.even = 1.0;
            }
            self.prior_weight *= DOUBT;
        }
        doubted
    }

    fn learn(&mut self, class: &LatencyClass) {
        self.made_at = Instant::now();
        if self.observations.is_empty() && self.prior_weight == 0.0 {
            self.estimate = SurvivalEstimate::default();
            return;
        }
        let mut prior = vec![0.0; BINS];
        if self.prior_weight > 0.01 {
            add_prior(class, self.prior_weight, &mut prior);
        }
        let mut sum = 0.0;
        let mut squares = 0.0;
        for observation in &self.observations {
            sum += observation.weight;
            squares += observation.weight * observation.weight;
        }
        let mut present = Histogram::new(prior.clone());
        let mut spare = vec![0.0; BINS];
        if sum > 0.0 {
            for round in 0..ROUNDS {
                let mut spread = HistogramBuilder::new();
                // The first round goes by no estimate, not even the prior, so that the prior cannot pull.
                let estimate = (round > 0).then_some(&present);
                for observation in &self.observations {
                    observation.spread(estimate, &mut spread);
                }
                let mut next = spread.weights(estimate);
                let effective = sum * sum / squares;
                let apart = quantile_bin(&next, 0.75 * sum) - quantile_bin(&next, 0.25 * sum);
                smooth(&mut next, &mut spare, apart, effective);
                for (next, prior) in next.iter_mut().zip(&prior) {
                    *next += prior;
                }
                present = Histogram::new(next);
            }
        }
        self.estimate = SurvivalEstimate::of_weights(&present.weights);
    }
}

/// Adds the prior: even over the logarithm of the measured times, with soft edges.
fn add_prior(class: &LatencyClass, weight: f64, to: &mut [f64]) {
    let (shortest, longest) = class.measured();
    let soft = 0.05;
    let density = |bin: usize| {
        let age = EDGES[bin];
        let above = 1.0 + (shortest / age).powf(1.0 / soft);
        let below = 1.0 + (age / longest).powf(1.0 / soft);
        1.0 / (above * below)
    };
    let sum: f64 = (0..BINS).map(density).sum();
    for (bin, to) in to.iter_mut().enumerate() {
        *to += weight * density(bin) / sum;
    }
}

/// Smooths weights by moving averages, three times; nearly a normal kernel.
fn smooth(weights: &mut [f64], spare: &mut [f64], quartiles_apart: usize, effective: f64) {
    let apart = f64::from(u32::try_from(quartiles_apart).expect("few bins"));
    let bandwidth = BANDWIDTH * 0.9 * apart / 1.34 * effective.powf(-0.2);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a few bins")]
    let radius = bandwidth.round().clamp(1.0, 30.0) as usize;
    let width = f64::from(u32::try_from(2 * radius + 1).expect("few bins"));
    for _ in 0..3 {
        let mut sum: f64 = weights[..radius].iter().sum();
        for (bin, spare) in spare.iter_mut().enumerate() {
            sum += weights.get(bin + radius).copied().unwrap_or_default();
            if let Some(left) = bin.checked_sub(radius + 1) {
                sum -= weights[left];
            }
            // Differences of sums may fall below zero by a rounding.
            *spare = sum.max(0.0) / width;
        }
        weights.copy_from_slice(spare);
    }
}
