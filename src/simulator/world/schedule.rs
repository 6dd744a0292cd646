//! When a prediction runs.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::clock::Now;
use super::cost::megapixels;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::{Api, Quality};
use crate::simulator::scenario::{Outcome, Scenario, SizeCounts, SubmitAnswer};

/// Longer than any test, for a prediction that never ends.
const NEVER: Duration = Duration::from_hours(10 * 365 * 24);

/// The phase of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Processing,
    Ended,
}

/// The times of a prediction, fixed when it is accepted. Only links that are slow or broken move them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) created: Now,
    /// When the prediction begins to run.
    pub(crate) starts: Instant,
    pub(crate) ends: Instant,
    /// The reported latency, before `speed`.
    pub(crate) latency_ms: u64,
    /// Time between `starts` and processing.
    created_for: Duration,
}

impl Schedule {
    /// Plans a prediction that runs from `starts`, with a latency drawn from `random`.
    pub(super) fn draw(
        request: &PictureRequest,
        outcome: Outcome,
        starts: Instant,
        scenario: &Scenario,
        random: &mut StdRng,
        now: Now,
    ) -> Self {
        let latency_ms = draw_latency_ms(request, scenario, random);
        let latency = Duration::from_millis(latency_ms).div_f64(scenario.speed);
        let created_for =
            latency * u32::try_from(scenario.life.created_percent.min(100)).expect("it is at most 100") / 100;
        let ends = match (outcome, request.api, scenario.submit.answer) {
            (Outcome::Stuck, _, _) => now.at + NEVER,
            (_, Api::Prediction, SubmitAnswer::ImmediateUrl | SubmitAnswer::ImmediateB64 | SubmitAnswer::Completed) => {
                now.at
            }
            _ => starts + latency,
        };
        Self { created: now, starts, ends, latency_ms, created_for }
    }

    pub(super) fn phase(&self, now: Instant) -> Phase {
        match () {
            () if now >= self.ends => Phase::Ended,
            () if now >= self.starts + self.created_for => Phase::Processing,
            () => Phase::Created,
        }
    }

    /// Moves the start to `now`, unless it is later, and the end with it.
    pub(super) fn start_at_least_at(&mut self, now: Instant) {
        let runs_for = self.ends.saturating_duration_since(self.starts);
        self.starts = self.starts.max(now);
        self.ends = self.starts + runs_for;
    }

    /// Ends the prediction, which has not run.
    pub(super) fn end_unstarted(&mut self, now: Instant) {
        self.starts = now;
        self.ends = now;
    }

    /// Returns for how long the prediction has run.
    pub(super) fn ran_for(&self, now: Instant) -> Duration {
        self.ends.min(now).saturating_duration_since(self.starts)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "latencies are small and positive, and need no precision"
)]
fn draw_latency_ms(request: &PictureRequest, scenario: &Scenario, random: &mut StdRng) -> u64 {
    let life = &scenario.life;
    let [from, to] = match request.quality {
        Quality::Low => life.low_ms,
        Quality::Medium => life.medium_ms,
        Quality::High => life.high_ms,
    };
    let drawn = random.random_range(from..=to) as f64;
    let factor = match life.size_counts {
        SizeCounts::Yes => megapixels(request.size).sqrt().clamp(0.5, 3.0),
        SizeCounts::No => 1.0,
    };
    (drawn * factor) as u64
}
