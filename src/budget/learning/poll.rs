//! The pace of polls: a smallest spacing that refusals widen and answers narrow.
//!
//! Simpler than for submits, because a refused poll costs nothing but time: multiplicative on refusal, at most once a
//! window; a little narrower with every answer; gone when it no longer matters. Nothing here touches submits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Bounds;

/// How much a refusal widens the spacing.
const WIDEN: f64 = 1.25;
/// How much an answer narrows it: a refusal is undone after about 110 answers, so at most nine in 1,000 are refused.
const NARROW: f64 = 0.998;
/// A spacing below this is none.
const LEAST: Duration = Duration::from_millis(5);
/// Weight of the newest gap in the average that the first refusal starts from.
const NEWEST: f64 = 0.1;

/// What of it survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::budget) struct LearnedPolls {
    /// Seconds between polls; absent: nothing was ever refused.
    pub(in crate::budget) spacing_s: Option<f64>,
}

/// The pace of polls of the account.
#[derive(Clone, Debug)]
pub(in crate::budget) struct PollPace {
    bounds: Bounds,
    spacing: Option<Duration>,
    last: Option<Instant>,
    /// Average gap between polls, seconds.
    gap_s: f64,
    widened: Option<Instant>,
    paused_until: Option<Instant>,
    in_a_row: u32,
}

impl PollPace {
    pub(in crate::budget) fn new(bounds: Bounds, learned: LearnedPolls) -> Self {
        let spacing = learned.spacing_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let spacing = spacing.filter(|&spacing| spacing >= LEAST).map(|spacing| spacing.min(bounds.pushback_max));
        Self { bounds, spacing, last: None, gap_s: 0.0, widened: None, paused_until: None, in_a_row: 0 }
    }

    /// The moment before which no poll may leave; `None`: at once.
    pub(in crate::budget) fn next(&self, now: Instant) -> Option<Instant> {
        let spaced = self.last.zip(self.spacing).map(|(last, spacing)| last + spacing);
        self.paused_until.max(spaced).filter(|&at| at > now)
    }

    /// A poll was let go.
    pub(in crate::budget) fn asked(&mut self, now: Instant) {
        if let Some(last) = self.last {
            // Quiet times say nothing about how fast is too fast.
            let gap_s = now.saturating_duration_since(last).min(self.bounds.window).as_secs_f64();
            self.gap_s += NEWEST * (gap_s - self.gap_s);
        }
        self.last = Some(now);
    }

    /// A poll was answered otherwise than with 429.
    pub(in crate::budget) fn answered(&mut self) {
        self.in_a_row = 0;
        self.spacing = self.spacing.map(|spacing| spacing.mul_f64(NARROW)).filter(|&spacing| spacing >= LEAST);
    }

    /// A poll was refused with 429. Returns the pause that is left now.
    pub(in crate::budget) fn refused(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        let paused = self.paused_until.is_some_and(|until| until > now);
        if !paused {
            self.in_a_row = self.in_a_row.saturating_add(1);
        }
        let pause = match retry_after {
            Some(told) => told.min(self.bounds.pushback_max),
            None if paused => Duration::ZERO,
            None => self.bounds.pause(self.in_a_row),
        };
        self.paused_until = self.paused_until.max(Some(now + pause));
        if self.widened.is_none_or(|at| now.saturating_duration_since(at) >= self.bounds.window) {
            self.widened = Some(now);
            let from = self.spacing.unwrap_or(Duration::from_secs_f64(self.gap_s)).max(LEAST);
            self.spacing = Some(from.mul_f64(WIDEN).min(self.bounds.pushback_max));
        }
        self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    pub(in crate::budget) fn learned(&self) -> LearnedPolls {
        LearnedPolls { spacing_s: self.spacing.map(|spacing| spacing.as_secs_f64()) }
    }
}
