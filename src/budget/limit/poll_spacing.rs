//! The spacing of polls: a minimum that refusals widen and answers narrow.
//!
//! Simpler than for submits, because a refused poll costs only time: multiplicative on refusal, at most once a window, a
//! little narrower with every answer, and removed once it is negligible. It does not affect submits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::bounds::Bounds;

/// The factor by which a refusal widens the spacing.
const WIDEN: f64 = 1.25;
/// The fraction by which an answer narrows it: a refusal is undone after about 450 answers ...
const NARROW: f64 = 0.0005;
/// ... and not faster than by this fraction per window, because it is widened only once in one.
const NARROW_PER_WINDOW: f64 = 0.05;
/// A spacing below this is dropped.
const SPACING_MIN: Duration = Duration::from_millis(5);
/// Weight of the newest gap in the mean gap, which the first refusal starts from.
const GAP_WEIGHT: f64 = 0.1;

/// What survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::budget) struct LearnedPolls {
    /// Seconds between polls; absent: no poll was ever refused.
    pub(in crate::budget) spacing_s: Option<f64>,
}

/// The spacing of the polls of one account.
#[derive(Clone, Debug)]
pub(in crate::budget) struct PollSpacing {
    bounds: Bounds,
    spacing: Option<Duration>,
    last: Option<Instant>,
    /// Mean gap between polls, in seconds.
    gap_s: f64,
    widened_at: Option<Instant>,
    paused_until: Option<Instant>,
    consecutive_refusals: u32,
}

impl PollSpacing {
    pub(in crate::budget) fn new(bounds: Bounds, learned: LearnedPolls) -> Self {
        let spacing = learned.spacing_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let spacing = spacing.filter(|&spacing| spacing >= SPACING_MIN).map(|spacing| spacing.min(bounds.pushback_max));
        Self { bounds, spacing, last: None, gap_s: 0.0, widened_at: None, paused_until: None, consecutive_refusals: 0 }
    }

    /// Forgets the spacing.
    pub(in crate::budget) fn forget(&mut self) {
        *self = Self { last: self.last, ..Self::new(self.bounds, LearnedPolls::default()) };
    }

    /// Returns the time before which no poll may be sent; `None`: at once.
    pub(in crate::budget) fn next(&self, now: Instant) -> Option<Instant> {
        let spaced = self.last.zip(self.spacing).map(|(last, spacing)| last + spacing);
        self.paused_until.max(spaced).filter(|&at| at > now)
    }

    /// Records that a poll was sent.
    pub(in crate::budget) fn on_sent(&mut self, now: Instant) {
        if let Some(last) = self.last {
            // Idle times say nothing about the rate that is too fast.
            let gap_s = now.saturating_duration_since(last).min(self.bounds.window).as_secs_f64();
            self.gap_s += GAP_WEIGHT * (gap_s - self.gap_s);
        }
        self.last = Some(now);
    }

    /// Records that a poll was answered otherwise than with 429.
    pub(in crate::budget) fn on_answered(&mut self) {
        self.consecutive_refusals = 0;
        let window_s = self.bounds.window.as_secs_f64();
        let narrower = |spacing: Duration| {
            let share = (NARROW_PER_WINDOW * spacing.as_secs_f64() / window_s).min(NARROW);
            spacing.mul_f64(1.0 - share)
        };
        self.spacing = self.spacing.map(narrower).filter(|&spacing| spacing >= SPACING_MIN);
    }

    /// Records that a poll was refused with 429. Returns the pause that remains.
    pub(in crate::budget) fn on_refused(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        let paused = self.paused_until.is_some_and(|until| until > now);
        if !paused {
            self.consecutive_refusals = self.consecutive_refusals.saturating_add(1);
        }
        let pause = match retry_after {
            Some(pause) => pause.min(self.bounds.pushback_max),
            None if paused => Duration::ZERO,
            None => self.bounds.pause(self.consecutive_refusals),
        };
        self.paused_until = self.paused_until.max(Some(now + pause));
        if self.widened_at.is_none_or(|at| now.saturating_duration_since(at) >= self.bounds.window) {
            self.widened_at = Some(now);
            let from = self.spacing.unwrap_or(Duration::from_secs_f64(self.gap_s)).max(SPACING_MIN);
            self.spacing = Some(from.mul_f64(WIDEN).min(self.bounds.pushback_max));
        }
        self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    pub(in crate::budget) fn learned(&self) -> LearnedPolls {
        LearnedPolls { spacing_s: self.spacing.map(|spacing| spacing.as_secs_f64()) }
    }
}
