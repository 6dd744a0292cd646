//! The learned limit of one dimension: a number of predictions, or a rate.

use std::time::Duration;

use tokio::time::Instant;

/// A learned limit of one dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LearnedLimit<T> {
    pub(super) limit: T,
    /// The most that was used for long without a refusal; 0 at first.
    pub(super) proven: T,
    /// Until when the gain of the last increase is provisional.
    pub(super) provisional_until: Option<Instant>,
    /// The limit at the first decrease within a window.
    pub(super) before_decrease: Option<(Instant, T)>,
}

impl<T: Copy + Default> LearnedLimit<T> {
    pub(super) fn at(limit: T) -> Self {
        Self { limit, proven: T::default(), provisional_until: None, before_decrease: None }
    }

    /// The limit that decreases within a window are measured against.
    pub(super) fn before_decrease(&mut self, window: Duration, now: Instant) -> T {
        match self.before_decrease {
            Some((at, limit)) if now.saturating_duration_since(at) < window => limit,
            _ => {
                self.before_decrease = Some((now, self.limit));
                self.limit
            }
        }
    }

    pub(super) fn is_provisional(&self, now: Instant) -> bool {
        self.provisional_until.is_some_and(|until| now < until)
    }
}
