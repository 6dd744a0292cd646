//! Completions as intervals, and their weights spread over the bins.

use std::ops::Range;

use super::survival::{BIN_FIRST_S, BINS, EDGES, SurvivalEstimate};

/// Share of a completion's weight that stays evenly spread over its interval.
const EVEN_SHARE: f64 = 0.4;

/// A completion after more than `after` and at most `by` seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    pub(super) after: f64,
    pub(super) by: f64,
    pub(super) weight: f64,
    /// Share of the weight that stays evenly spread.
    pub(super) even: f64,
}

impl Observation {
    /// Makes an observation with its ages in order and within the bins.
    pub(super) fn new(after: f64, by: f64, weight: f64) -> Self {
        let longest = EDGES[BINS];
        let by = by.clamp(BIN_FIRST_S * 1.1, longest);
        Self { after: after.clamp(0.0, by * 0.999), by, weight, even: EVEN_SHARE }
    }

    /// Adds this completion to `to`: evenly, or for the most part in proportion to the present estimate.
    pub(super) fn spread(&self, present: Option<&Histogram>, to: &mut HistogramBuilder) {
        let (first, last) = (SurvivalEstimate::bin(self.after), SurvivalEstimate::bin(self.by));
        let inside = |bin: usize| {
            let (left, right) = SurvivalEstimate::edges(bin);
            // Ages below the first bin belong to it.
            let left = if bin == 0 { 0.0 } else { left };
            (right.min(self.by) - left.max(self.after)).max(0.0) / (right - left)
        };
        // Only the outermost bins are held in part.
        let (part_first, part_last) = (inside(first), inside(last));
        let sum = present.map_or(0.0, |present| {
            let outermost = present.weights[first] * part_first + present.weights[last] * part_last;
            if first == last { present.weights[first] * part_first } else { outermost + present.between(first, last) }
        });
        let even = if sum > 0.0 { self.even } else { 1.0 };
        let evenly = self.weight * even / (self.by - self.after);
        let by_estimate = if sum > 0.0 { self.weight * (1.0 - even) / sum } else { 0.0 };
        to.add(first..first + 1, by_estimate * part_first, evenly * part_first);
        if first < last {
            to.add(first + 1..last, by_estimate, evenly);
            to.add(last..last + 1, by_estimate * part_last, evenly * part_last);
        }
    }
}

/// Weights of the bins, and their sums from the first bin on.
#[derive(Debug)]
pub(super) struct Histogram {
    pub(super) weights: Vec<f64>,
    sums: Vec<f64>,
}

impl Histogram {
    pub(super) fn new(weights: Vec<f64>) -> Self {
        let mut sum = 0.0;
        let mut sums = Vec::with_capacity(weights.len() + 1);
        sums.push(sum);
        sums.extend(weights.iter().map(|weight| {
            sum += weight;
            sum
        }));
        Self { weights, sums }
    }

    /// The weight of the bins between two, without either.
    fn between(&self, first: usize, last: usize) -> f64 {
        (self.sums[last] - self.sums[first + 1]).max(0.0)
    }
}

/// Sums up completions over the bins, each in a few steps however long its interval is. Kept as differences from bin to
/// bin: one list for what multiplies the present estimate, one for what lies evenly on a second.
#[derive(Debug)]
pub(super) struct HistogramBuilder {
    by_estimate: Vec<f64>,
    evenly: Vec<f64>,
}

impl HistogramBuilder {
    pub(super) fn new() -> Self {
        Self { by_estimate: vec![0.0; BINS + 1], evenly: vec![0.0; BINS + 1] }
    }

    fn add(&mut self, bins: Range<usize>, by_estimate: f64, evenly: f64) {
        for (differences, value) in [(&mut self.by_estimate, by_estimate), (&mut self.evenly, evenly)] {
            differences[bins.start] += value;
            differences[bins.end] -= value;
        }
    }

    /// Returns the weights of the bins.
    pub(super) fn weights(&self, present: Option<&Histogram>) -> Vec<f64> {
        let (mut by_estimate, mut evenly) = (0.0, 0.0);
        let weight = |bin: usize| {
            by_estimate += self.by_estimate[bin];
            evenly += self.evenly[bin];
            let estimated = present.map_or(0.0, |present| by_estimate * present.weights[bin]);
            // Differences that cancel out may leave less than nothing by a rounding.
            (estimated + evenly * (EDGES[bin + 1] - EDGES[bin])).max(0.0)
        };
        (0..BINS).map(weight).collect()
    }
}
