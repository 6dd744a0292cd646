//! What limits the submits of an account beyond its configured rates: what 429s have taught, or, where learning is off, the
//! configured concurrency and a pause after each 429.

use std::time::Duration;

use tokio::time::Instant;

use crate::budget::limit::{AdaptiveLimit, Bounds, LearnedSubmits, SendToken, Wait, forget, set_bounds};
use crate::config::Switch;

/// The limits on submits, learned or not.
#[derive(Debug)]
pub(in crate::budget) struct SubmitLimit {
    bounds: Bounds,
    learning: Switch,
    /// Follows the submits also where learning is off, and decides nothing then.
    adaptive: AdaptiveLimit,
    /// The pause after a 429, where learning is off.
    paused_until: Option<Instant>,
}

impl SubmitLimit {
    pub(super) fn new(bounds: Bounds, learning: Switch, learned: LearnedSubmits, now: Instant) -> Self {
        Self { bounds, learning, adaptive: AdaptiveLimit::new(bounds, Some(learned), now), paused_until: None }
    }

    /// Changes the configured upper bounds.
    pub(super) fn set_bounds(&mut self, submits_per_minute: f64, concurrency: usize) {
        self.bounds = Bounds { submits_per_minute, concurrency, ..self.bounds };
        set_bounds(&mut self.adaptive, self.bounds);
    }

    /// Forgets the limits that were learned.
    pub(super) fn forget(&mut self, now: Instant) {
        forget(&mut self.adaptive, now);
    }

    pub(super) fn learned(&self) -> LearnedSubmits {
        self.adaptive.learned()
    }

    /// Whether one more submit may be sent while `in_flight` predictions are in flight.
    ///
    /// # Errors
    ///
    /// What it waits for.
    pub(super) fn check(&self, in_flight: usize, now: Instant) -> Result<(), Wait> {
        if in_flight >= self.bounds.concurrency {
            return Err(Wait::ForCompletion);
        }
        match (self.learning, self.paused_until) {
            (Switch::On, _) => self.adaptive.permission(in_flight, now),
            (Switch::Off, Some(until)) if until > now => Err(Wait::Until(until)),
            (Switch::Off, _) => Ok(()),
        }
    }

    /// Returns the predictions that may be in flight, as far as is known.
    pub(in crate::budget) fn concurrency(&self) -> usize {
        match self.learning {
            Switch::On => self.adaptive.concurrency().min(self.bounds.concurrency),
            Switch::Off => self.bounds.concurrency,
        }
    }

    /// Returns the submits per minute, as far as is known.
    pub(in crate::budget) fn submits_per_minute(&self) -> f64 {
        match self.learning {
            Switch::On => self.adaptive.submits_per_minute().min(self.bounds.submits_per_minute),
            Switch::Off => self.bounds.submits_per_minute,
        }
    }

    /// Returns the time until which no submit is sent, after a 429.
    pub(in crate::budget) fn paused_until(&self, now: Instant) -> Option<Instant> {
        let until = match self.learning {
            Switch::On => self.adaptive.paused_until(),
            Switch::Off => self.paused_until,
        };
        until.filter(|&until| until > now)
    }

    pub(super) fn on_sent(&mut self, in_flight: usize, now: Instant) -> SendToken {
        self.adaptive.on_sent(in_flight, now)
    }

    pub(super) fn on_accepted(&mut self, token: SendToken, in_flight: usize, now: Instant) {
        self.adaptive.on_accepted(token, in_flight, now);
    }

    /// Records that the upstream refused a submit with a 429 that concerns the account. Returns the pause before the next
    /// submit.
    pub(super) fn on_refused(
        &mut self,
        token: SendToken,
        in_flight: usize,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        let pause = self.adaptive.on_refused(token, in_flight, retry_after, now);
        match self.learning {
            Switch::On => pause,
            Switch::Off => {
                let pause = retry_after.unwrap_or(self.bounds.pushback).min(self.bounds.pushback_max);
                self.paused_until = self.paused_until.max(Some(now + pause));
                pause
            }
        }
    }

    pub(super) fn on_no_evidence(&mut self, token: SendToken, now: Instant) {
        self.adaptive.on_no_evidence(token, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        submits_per_minute: 600.0,
        concurrency: 4,
        window: Duration::from_mins(1),
        pushback: Duration::from_secs(5),
        pushback_max: Duration::from_mins(1),
    };

    /// A submit refused while two are in flight, and its pause.
    fn refused(learning: Switch, retry_after: Option<Duration>, now: Instant) -> (SubmitLimit, Duration) {
        let learned = LearnedSubmits { concurrency: Some(2), ..LearnedSubmits::default() };
        let mut limit = SubmitLimit::new(BOUNDS, learning, learned, now);
        let token = limit.on_sent(2, now);
        let pause = limit.on_refused(token, 3, retry_after, now);
        (limit, pause)
    }

    #[test]
    fn without_learning_a_429_costs_a_pause_and_the_configured_limits_remain() {
        let now = Instant::now();
        for (retry_after, pause_s) in [(None, 5), (Some(7), 7), (Some(999), 60)] {
            let (limit, pause) = refused(Switch::Off, retry_after.map(Duration::from_secs), now);
            assert_eq!(pause, Duration::from_secs(pause_s));
            let over = now + pause;
            assert_eq!((limit.paused_until(now), limit.paused_until(over)), (Some(over), None));
            assert_eq!(limit.check(0, now), Err(Wait::Until(over)));
            assert_eq!(limit.check(3, over), Ok(()));
            assert_eq!(limit.check(4, over), Err(Wait::ForCompletion));
            assert_eq!((limit.concurrency(), limit.submits_per_minute()), (4, 600.0));
        }
    }

    #[test]
    fn new_bounds_apply_above_what_was_learned_and_below_it() {
        let now = Instant::now();
        let (mut limit, pause) = refused(Switch::On, None, now);
        let over = now + pause;
        limit.set_bounds(60.0, 1);
        assert_eq!((limit.concurrency(), limit.submits_per_minute() <= 60.0), (1, true));
        assert_eq!(limit.check(1, over), Err(Wait::ForCompletion));
        // The learned limit was above the bound, so it is learned again.
        limit.set_bounds(600.0, 9);
        assert_eq!(limit.concurrency(), 9);
        let (mut limit, _) = refused(Switch::On, None, now);
        limit.set_bounds(600.0, 9);
        assert_eq!(limit.concurrency(), 2, "what was learned holds below the bound");
        let (mut limit, pause) = refused(Switch::Off, None, now);
        limit.set_bounds(60.0, 3);
        assert_eq!((limit.concurrency(), limit.submits_per_minute()), (3, 60.0));
        assert_eq!(limit.check(3, now + pause), Err(Wait::ForCompletion));
    }

    #[test]
    fn with_learning_the_learned_limit_applies_too() {
        let now = Instant::now();
        let (limit, pause) = refused(Switch::On, None, now);
        let over = now + pause;
        assert_eq!((limit.paused_until(now), limit.paused_until(over)), (Some(over), None));
        assert_eq!(limit.concurrency(), 2);
        assert_eq!([1, 2, 4].map(|in_flight| limit.check(in_flight, over).is_ok()), [true, false, false]);
    }
}
