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

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        submits_per_minute: 600.0,
        concurrency: 500,
        window: Duration::from_mins(1),
        pushback: Duration::from_secs(5),
        pushback_max: Duration::from_mins(1),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_double_until_an_acceptance_and_are_capped() {
        let now = Instant::now();
        let mut recovery = Recovery::new(BOUNDS);
        for (refusals, pause) in (1..).zip([5, 10, 20, 40, 60, 60]) {
            assert_eq!(recovery.begin(None, now), seconds(pause));
            assert_eq!(recovery.paused_until(), Some(now + seconds(pause)));
            assert_eq!((recovery.epoch(), recovery.is_repeated()), (refusals, refusals > 1));
            assert_eq!(recovery.first_pause(), seconds(5), "what a single refusal costs");
        }
        recovery.on_accepted(recovery.epoch());
        assert_eq!(recovery.begin(Some(seconds(7)), now), seconds(7));
        assert_eq!((recovery.first_pause(), recovery.is_repeated()), (seconds(7), false));
        assert_eq!(recovery.begin(Some(seconds(999)), now), BOUNDS.pushback_max);
    }

    #[test]
    fn an_acceptance_of_a_submit_from_before_the_pause_does_not_end_the_doubling() {
        let now = Instant::now();
        for (accepted_first, pause) in [(true, 5), (false, 10)] {
            let mut recovery = Recovery::new(BOUNDS);
            recovery.begin(None, now);
            let epoch = recovery.epoch();
            if accepted_first {
                // The canary of this pause, and then the next refusal.
                recovery.on_accepted(epoch);
            } else {
                recovery.on_accepted(epoch - 1);
            }
            assert_eq!(recovery.begin(None, now), seconds(pause));
        }
    }

    #[test]
    fn a_later_refusal_of_the_same_event_extends_the_pause_and_never_shortens_it() {
        let now = Instant::now();
        let later = now + seconds(2);
        for (first, second, remaining) in [
            (None, None, 3),
            (None, Some(1), 3),
            (None, Some(9), 9),
            (None, Some(999), 60),
            (Some(9), Some(4), 7),
            (Some(4), Some(9), 9),
        ] {
            let mut recovery = Recovery::new(BOUNDS);
            recovery.begin(first.map(seconds), now);
            let case = format!("{first:?}, {second:?}");
            assert_eq!(recovery.extend(second.map(seconds), later), seconds(remaining), "{case}");
            assert_eq!(recovery.check(later), Err(Wait::Until(later + seconds(remaining))), "{case}");
            assert_eq!((recovery.epoch(), recovery.is_repeated()), (1, false), "{case}");
        }
    }

    #[test]
    fn one_canary_after_a_pause_and_another_where_its_outcome_says_nothing() {
        let now = Instant::now();
        let mut recovery = Recovery::new(BOUNDS);
        assert!(!recovery.is_canary_due());
        assert_eq!(recovery.check(now), Ok(()));
        let over = now + recovery.begin(None, now);
        assert_eq!(recovery.check(now), Err(Wait::Until(over)));
        for _ in 0..2 {
            assert_eq!((recovery.check(over), recovery.is_canary_due()), (Ok(()), true));
            recovery.on_canary_sent();
            assert_eq!((recovery.check(over), recovery.is_canary_due()), (Err(Wait::ForAnswer), false));
            recovery.on_canary_result();
            recovery.on_canary_lost();
        }
        recovery.on_canary_sent();
        recovery.on_canary_result();
        assert_eq!((recovery.check(over), recovery.is_canary_due()), (Ok(()), false));
    }
}
