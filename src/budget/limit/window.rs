//! The submits that were accepted in the last window, and when the next one may be sent under a learned rate.
//!
//! Two rules apply together. *Count*: at most `limit` accepted in any window that ends now, counted from the times of
//! acceptance, which are never earlier than the upstream's own. A sequence that obeys this for every window position also
//! obeys a window that resets at fixed times. *Spacing*: a GCRA at the same rate, so that a whole window is never sent at
//! once (a token bucket would refuse it). A credit of an eighth of a window, spent at no more than twice the rate, makes up
//! for pauses.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The fraction of a window that may be caught up after a pause.
const CREDIT: f64 = 0.125;
/// The smallest gap while catching up, as a fraction of the mean gap.
const CATCH_UP: f64 = 0.5;

/// The times of acceptance within a window, and the spacing of submits.
#[derive(Clone, Debug)]
pub(super) struct SubmitWindow {
    window: Duration,
    /// Ascending; only those within the window.
    accepted: VecDeque<Instant>,
    last_sent: Option<Instant>,
    /// When the next would be due if all had been sent evenly (GCRA's theoretical arrival time).
    due: Instant,
}

impl SubmitWindow {
    pub(super) fn new(window: Duration, now: Instant) -> Self {
        Self { window, accepted: VecDeque::new(), last_sent: None, due: now }
    }

    /// The window after a restart: assumes that the one before `now` was used evenly at `limit` per window.
    pub(super) fn resumed(window: Duration, limit: f64, now: Instant) -> Self {
        let mut submits = Self::new(window, now);
        let gap = submits.gap(limit);
        let mut back = gap.mul_f64(limit.floor());
        while back >= gap && !back.is_zero() {
            if let Some(at) = now.checked_sub(back) {
                submits.accepted.push_back(at);
            }
            back = back.saturating_sub(gap);
        }
        submits.due = now + window.mul_f64(CREDIT);
        submits
    }

    /// Returns how many were accepted within the window that ends now.
    pub(super) fn count(&self, now: Instant) -> usize {
        self.accepted.len() - self.expired(now)
    }

    /// Records that a submit was accepted.
    pub(super) fn accepted(&mut self, now: Instant) {
        self.accepted.drain(..self.expired(now));
        self.accepted.push_back(now);
    }

    /// Records that a submit was sent. `limit` per window is the learned rate, where one is known.
    pub(super) fn sent(&mut self, limit: Option<f64>, now: Instant) {
        self.last_sent = Some(now);
        self.due = match limit {
            Some(limit) => self.due.max(now) + self.gap(limit),
            None => now,
        };
    }

    /// Returns the earliest time by count: fewer than `limit` accepted within a window or unacknowledged. `None`: after one
    /// of the unacknowledged submits was answered, which may fill the window.
    pub(super) fn by_count(&self, limit: usize, unacknowledged: usize, now: Instant) -> Option<Instant> {
        let expired = self.expired(now);
        let used = self.accepted.len() - expired + unacknowledged;
        if used < limit {
            return Some(now);
        }
        self.accepted.get(expired + used - limit).map(|&at| at + self.window)
    }

    /// Returns the earliest time by spacing at `limit` per window.
    pub(super) fn by_spacing(&self, limit: f64) -> Instant {
        let credit = self.window.mul_f64(CREDIT);
        let smooth = self.due.checked_sub(credit).unwrap_or(self.due);
        match self.last_sent {
            Some(last) => smooth.max(last + self.gap(limit).mul_f64(CATCH_UP)),
            None => smooth,
        }
    }

    fn gap(&self, limit: f64) -> Duration {
        self.window.div_f64(limit)
    }

    fn expired(&self, now: Instant) -> usize {
        self.accepted.partition_point(|&at| at + self.window <= now)
    }
}
