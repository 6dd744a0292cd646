//! The cooldown of an account or a model after a refusal, which one submit tests when it is over.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Failure;

/// An account or a model that is not used for a while.
#[derive(Clone, Debug)]
pub(super) struct Cooldown {
    pub(super) reason: Failure,
    pub(super) until: Instant,
    pub(super) refusals: u32,
    /// A submit is unacknowledged that tests whether the cooldown is over.
    pub(super) testing: bool,
}

impl Cooldown {
    /// A cooldown that has not begun.
    pub(super) fn new(reason: Failure, now: Instant) -> Self {
        Self { reason, until: now, refusals: 0, testing: false }
    }

    /// Records one more refusal, and extends the cooldown to `pause` from now at least.
    pub(super) fn extend(&mut self, reason: Failure, pause: Duration, now: Instant) {
        self.reason = reason;
        self.until = self.until.max(now + pause);
        self.refusals += 1;
        self.testing = false;
    }

    /// `first`, doubled by every refusal so far.
    pub(super) fn doubled(&self, first: Duration) -> Duration {
        first.saturating_mul(2_u32.saturating_pow(self.refusals.min(16)))
    }

    /// Whether no submit may be sent now.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.testing || self.until > now
    }

    /// Whether a submit may be sent.
    ///
    /// # Errors
    ///
    /// The time when it may; `None` when that depends on the outcome of the submit that tests.
    pub(super) fn check(&self, now: Instant) -> Result<(), Option<Instant>> {
        match self {
            Self { testing: true, .. } => Err(None),
            Self { until, .. } if *until > now => Err(Some(*until)),
            Self { .. } => Ok(()),
        }
    }
}
