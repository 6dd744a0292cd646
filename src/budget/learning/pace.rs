//! How many were accepted in the last window, and when the next may leave under a learned rate.
//!
//! Two rules hold together. *Count*: at most `limit` accepted in any window that ends now, counted from the moments of
//! acceptance, which are never earlier than the upstream's own. A sequence that keeps this for every window position
//! also keeps a window that resets at fixed times. *Spacing*: a GCRA at the same rate, so that a window's worth never
//! leaves at once (a token bucket would refuse it); an eighth of a window of credit, spent at no more than
//! twice the rate, makes up for pauses.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Share of a window that may be caught up after a pause.
const CREDIT: f64 = 0.125;
/// The smallest gap while catching up, as a share of the mean gap.
const CATCH_UP: f64 = 0.5;

/// The moments of acceptance within a window, and the spacing of departures.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    window: Duration,
    /// Ascending; only those within the window.
    accepted: VecDeque<Instant>,
    last_left: Option<Instant>,
    /// When the next would be due if all had left evenly (GCRA's theoretical arrival time).
    due: Instant,
}

/// When a departure fits under a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// From this moment on, which may be past.
    At(Instant),
    /// Those in the air may fill the window: only their outcome can tell.
    WhenAnswered,
}

impl Pace {
    pub(super) fn new(window: Duration, now: Instant) -> Self {
        Self { window, accepted: VecDeque::new(), last_left: None, due: now }
    }

    /// After a restart: supposes that the window before `now` was used evenly at `limit` a window.
    pub(super) fn resumed(window: Duration, limit: f64, now: Instant) -> Self {
        let mut pace = Self::new(window, now);
        let gap = pace.gap(limit);
        let mut back = gap.mul_f64(limit.floor());
        while back >= gap && !back.is_zero() {
            if let Some(at) = now.checked_sub(back) {
                pace.accepted.push_back(at);
            }
            back = back.saturating_sub(gap);
        }
        pace.due = now + window.mul_f64(CREDIT);
        pace
    }

    /// How many were accepted within the window that ends now.
    pub(super) fn count(&self, now: Instant) -> usize {
        self.accepted.len() - self.outdated(now)
    }

    /// One was accepted.
    pub(super) fn accepted(&mut self, now: Instant) {
        self.accepted.drain(..self.outdated(now));
        self.accepted.push_back(now);
    }

    /// One was let go. `limit` a window is the learned rate, where one is known.
    pub(super) fn left(&mut self, limit: Option<f64>, now: Instant) {
        self.last_left = Some(now);
        self.due = match limit {
            Some(limit) => self.due.max(now) + self.gap(limit),
            None => now,
        };
    }

    /// The earliest departure by count: fewer than `limit` accepted within a window or in the air.
    pub(super) fn by_count(&self, limit: usize, in_air: usize, now: Instant) -> Room {
        let outdated = self.outdated(now);
        let held = self.accepted.len() - outdated + in_air;
        if held < limit {
            return Room::At(now);
        }
        match self.accepted.get(outdated + held - limit) {
            Some(&leaves) => Room::At(leaves + self.window),
            None => Room::WhenAnswered,
        }
    }

    /// The earliest departure by spacing at `limit` a window.
    pub(super) fn by_spacing(&self, limit: f64) -> Instant {
        let credit = self.window.mul_f64(CREDIT);
        let smooth = self.due.checked_sub(credit).unwrap_or(self.due);
        match self.last_left {
            Some(last) => smooth.max(last + self.gap(limit).mul_f64(CATCH_UP)),
            None => smooth,
        }
    }

    fn gap(&self, limit: f64) -> Duration {
        self.window.div_f64(limit)
    }

    fn outdated(&self, now: Instant) -> usize {
        self.accepted.partition_point(|&at| at + self.window <= now)
    }
}
