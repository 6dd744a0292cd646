//! What follows a refusal: a pause, and then one canary.
//!
//! - **After a refusal: a pause, then one submit, the canary**, and nothing else until its outcome is known. A canary that
//!   was not sent, or whose outcome says nothing, is followed by another.
//! - **One loss event, one pause** (the recovery period of RFC 9002 §7.3.2): refusals of submits that were unacknowledged
//!   when the pause began belong to the same event. They can extend the pause, and begin none.

use std::time::Duration;

use tokio::time::Instant;

use super::bounds::Bounds;
use super::permission::Wait;

/// The state of the first submit after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    None,
    Due,
    Unacknowledged,
}

/// The pause of an account, and what leads out of it.
#[derive(Clone, Debug)]
pub(super) struct Recovery {
    bounds: Bounds,
    /// The number of pauses so far.
    epoch: u64,
    paused_until: Option<Instant>,
    /// The first pause after an acceptance.
    first_pause: Duration,
    consecutive_refusals: u32,
    canary: Canary,
}

impl Recovery {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            epoch: 0,
            paused_until: None,
            first_pause: Duration::ZERO,
            consecutive_refusals: 0,
            canary: Canary::None,
        }
    }

    /// Whether one more submit may be sent.
    ///
    /// # Errors
    ///
    /// That the pause is not over, or that the canary is unacknowledged.
    pub(super) fn check(&self, now: Instant) -> Result<(), Wait> {
        match self.paused_until {
            Some(until) if until > now => Err(Wait::Until(until)),
            _ if self.canary == Canary::Unacknowledged => Err(Wait::ForAnswer),
            _ => Ok(()),
        }
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Returns what a single refusal cost the last time.
    pub(super) fn first_pause(&self) -> Duration {
        self.first_pause
    }

    /// Returns the number of pauses so far.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the next submit is the canary.
    pub(super) fn is_canary_due(&self) -> bool {
        self.canary == Canary::Due
    }

    /// Whether the canary was refused, too.
    pub(super) fn is_repeated(&self) -> bool {
        self.consecutive_refusals > 1
    }

    pub(super) fn on_canary_sent(&mut self) {
        self.canary = Canary::Unacknowledged;
    }

    pub(super) fn on_canary_result(&mut self) {
        self.canary = Canary::None;
    }

    /// Records that the canary's outcome says nothing: another one is sent.
    pub(super) fn on_canary_lost(&mut self) {
        self.canary = Canary::Due;
    }

    /// Records that a submit of `epoch` was accepted. One from before the pause says nothing about its end.
    pub(super) fn on_accepted(&mut self, epoch: u64) {
        if epoch == self.epoch {
            self.consecutive_refusals = 0;
        }
    }

    /// Begins a pause. Returns its length.
    pub(super) fn begin(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        self.consecutive_refusals = self.consecutive_refusals.saturating_add(1);
        let pause = match retry_after {
            Some(pause) => pause.min(self.bounds.pushback_max),
            None => self.bounds.pause(self.consecutive_refusals),
        };
        if self.consecutive_refusals == 1 {
            self.first_pause = pause;
        }
        self.epoch += 1;
        self.paused_until = Some(now + pause);
        self.canary = Canary::Due;
        pause
    }

    /// Extends the pause where a refusal of the same event names a longer one. Returns what remains of it.
    pub(super) fn extend(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        if let Some(pause) = retry_after {
            self.paused_until = self.paused_until.max(Some(now + pause.min(self.bounds.pushback_max)));
        }
        self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}
