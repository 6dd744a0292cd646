//! The limits of an account that the upstream does not publish, learned from what it accepted and what it refused with 429.
//!
//! Wanted properties:
//! - Nearly all of a budget that is not documented is used, with few refusals.
//! - A learned limit holds until there is evidence against it; evidence is looked for rarely.
//! - Pure: no clock, no random numbers, no I/O. Times are passed in.
//!
//! A 429 can mean that a rate was exceeded, that too many predictions are in flight, or nothing at all (a transient failure
//! of the provider). The answer does not say which. Known at that moment: how many predictions the upstream *held*
//! (accepted and not ended), and how many it *counted* (accepted within the last window): the [`Load`].
//!
//! This is congestion control, in whose words the parts are named (RFC 5681; RFC 9002 §7). Each part has a file with its
//! reasons:
//! - [`Recovery`]: a refusal is a loss event. A pause follows, then one canary.
//! - [`SlowStart`]: the congestion window, here the number of submits that may be unacknowledged. It is small at the start
//!   and after a pause, and doubles with every round of answers.
//! - [`Limits`]: the number of predictions and the rate, two of a kind. A refusal above one lowers it.
//! - [`Attribution`]: a refusal above neither finds a new limit, or is taken for a transient one.
//! - [`Probing`]: one submit above a known limit, rarely; then the increase, as far as the upstream accepts it.
//! - [`SubmitWindow`]: what the rate is counted in, and what spaces submits.
//!
//! Known races: several submits can be unacknowledged. They are not held yet, and count towards every limit until they are
//! answered. The gateway learns of an end later than it happens, so the number in flight is slightly too high, which is safe.
//!
//! Known limitations, measured in `limit/tests.rs`: token buckets and fixed windows let probes pass on what they saved, and
//! cost up to 25 refusals in 1,000 submits. Transient refusals more often than about one in two windows are taken for
//! limits. A raised budget is found after at most 640 submits, which takes long where a budget is small. Slots are empty
//! while the next submit is uploaded, because none is sent before a slot is known to be free.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use attribution::{Attribution, Cause, RefusalContext};
use dimension::{Load, Progress};
use learned_limit::Limits;
use probe::Probing;
use recovery::Recovery;
use slow_start::SlowStart;
use window::SubmitWindow;

mod attribution;
mod bounds;
mod dimension;
mod learned_limit;
mod permission;
mod poll_spacing;
mod probe;
mod recovery;
#[cfg(test)]
mod simulation;
mod slow_start;
#[cfg(test)]
mod tests;
mod window;

pub(super) use bounds::Bounds;
pub(super) use permission::Wait;
pub(super) use poll_spacing::{LearnedPolls, PollSpacing};

/// What survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LearnedSubmits {
    /// Predictions in flight; absent: never refused for that.
    pub(super) concurrency: Option<usize>,
    /// Absent: never refused for that.
    pub(super) submits_per_minute: Option<f64>,
    /// Probes that failed in a row: the confidence in the limits.
    pub(super) failed_probes: u32,
}

/// Proof that one submit was sent. It is returned with the outcome, exactly once.
#[must_use]
#[derive(Debug)]
pub(super) struct SendToken {
    /// The number of pauses before the submit.
    epoch: u64,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Below all limits.
    Plain,
    /// Above one of them: the only such one that is unacknowledged.
    Probe,
    /// The first after a pause: the only one that is sent until it is answered.
    Canary,
}

/// Forgets the limits. Submits that are unacknowledged are still counted, and a pause goes on.
pub(super) fn forget(of: &mut AdaptiveLimit, now: Instant) {
    of.limits = Limits::new(of.bounds, None, None);
    of.attribution = Attribution::default();
    let probes = of.probing.is_unacknowledged();
    of.probing = Probing::new(of.bounds.window, 0, of.progress(now));
    if probes {
        of.probing.on_sent();
    }
}

/// Changes the configured bounds; what was learned and what is under way go on below them.
pub(super) fn set_bounds(of: &mut AdaptiveLimit, bounds: Bounds) {
    of.bounds = bounds;
    learned_limit::set_bounds(&mut of.limits.concurrency, bounds);
    learned_limit::set_bounds(&mut of.limits.rate, bounds);
}

/// The state machine for the submits of one account.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveLimit {
    bounds: Bounds,
    recovery: Recovery,
    slow_start: SlowStart,
    limits: Limits,
    attribution: Attribution,
    probing: Probing,
    window: SubmitWindow,
    /// Submits accepted in all.
    accepted: u64,
}

impl AdaptiveLimit {
    pub(super) fn new(bounds: Bounds, learned: Option<LearnedSubmits>, now: Instant) -> Self {
        let learned = learned.unwrap_or_default();
        let per_window = learned.submits_per_minute.map(|rate| rate * bounds.window_minutes());
        let limits = Limits::new(bounds, learned.concurrency, per_window);
        let window = match limits.rate.learned() {
            Some(rate) => SubmitWindow::resumed(bounds.window, rate, now),
            None => SubmitWindow::new(bounds.window, now),
        };
        let start = Progress { at: now, accepted: 0 };
        Self {
            bounds,
            recovery: Recovery::new(bounds),
            slow_start: SlowStart::new(),
            limits,
            attribution: Attribution::default(),
            probing: Probing::new(bounds.window, learned.failed_probes, start),
            window,
            accepted: 0,
        }
    }

    /// Records that a submit is sent while `in_flight` predictions are in flight, itself not included.
    pub(super) fn on_sent(&mut self, in_flight: usize, now: Instant) -> SendToken {
        let counted = self.window.count(now) + self.slow_start.unacknowledged();
        let above = self.limits.concurrency.is_exceeded(in_flight) || self.limits.rate.is_exceeded(counted);
        let role = if self.recovery.is_canary_due() {
            self.recovery.on_canary_sent();
            Role::Canary
        } else if above && !self.probing.is_unacknowledged() {
            self.probing.on_sent();
            Role::Probe
        } else {
            Role::Plain
        };
        self.slow_start.on_sent();
        self.window.sent(self.limits.spacing(self.probing.is_increasing()), now);
        SendToken { epoch: self.recovery.epoch(), role }
    }

    /// Records that the upstream accepted the submit. `in_flight` includes it.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is reported once")]
    pub(super) fn on_accepted(&mut self, token: SendToken, in_flight: usize, now: Instant) {
        let load = self.on_result(&token, in_flight, now);
        self.recovery.on_accepted(token.epoch);
        self.slow_start.on_accepted();
        self.window.accepted(now);
        self.accepted += 1;
        if let Some(cause) = self.attribution.on_accepted(&load) {
            self.attribute(cause, &load, now);
        }
        let above = self.limits.increase(&load);
        self.probing.on_accepted(above, now);
        if self.probing.is_steady(now) && self.limits.prove(&load) {
            self.probing.on_gained();
        }
    }

    /// Records that the upstream refused the submit with a 429 that concerns the account. `in_flight` includes it.
    /// Returns the pause until the canary.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is reported once")]
    pub(super) fn on_refused(
        &mut self,
        token: SendToken,
        in_flight: usize,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        let load = self.on_result(&token, in_flight, now);
        if token.epoch < self.recovery.epoch() {
            // Sent before the pause: the same event.
            if let Some(cause) = self.attribution.on_concurrent_refusal() {
                self.attribute(cause, &load, now);
            }
            return self.recovery.extend(retry_after, now);
        }
        let pause = self.recovery.begin(retry_after, now);
        self.slow_start.on_refused();
        self.attribution.on_pause();
        self.decrease(&load, now);
        pause
    }

    /// Records that the submit ended otherwise (not sent, rejected, outcome unknown), which is no evidence.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is reported once")]
    pub(super) fn on_no_evidence(&mut self, token: SendToken, now: Instant) {
        self.on_result(&token, 0, now);
        if token.role == Role::Canary {
            self.recovery.on_canary_lost();
        }
    }

    pub(super) fn learned(&self) -> LearnedSubmits {
        LearnedSubmits {
            concurrency: self.limits.concurrency.allowed(),
            submits_per_minute: self.limits.rate.learned().map(|rate| rate / self.bounds.window_minutes()),
            failed_probes: self.probing.failed(),
        }
    }

    /// Returns the predictions that may be in flight, as learned or else as configured.
    pub(super) fn concurrency(&self) -> usize {
        self.learned().concurrency.unwrap_or(self.bounds.concurrency)
    }

    /// Returns the submits per minute, as learned or else as configured.
    pub(super) fn submits_per_minute(&self) -> f64 {
        self.learned().submits_per_minute.unwrap_or(self.bounds.submits_per_minute)
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.recovery.paused_until()
    }

    /// Takes one submit out of the unacknowledged ones. Returns the load of the upstream when it arrived there.
    fn on_result(&mut self, token: &SendToken, in_flight: usize, now: Instant) -> Load {
        match token.role {
            Role::Plain => {}
            Role::Probe => self.probing.on_result(),
            Role::Canary => self.recovery.on_canary_result(),
        }
        let unacknowledged = self.slow_start.on_result();
        Load {
            held: in_flight.saturating_sub(1 + unacknowledged),
            counted: self.window.count(now),
            unacknowledged,
            probe: token.role == Role::Probe,
        }
    }

    /// Lowers the limit that a refusal was above, or has the refusal attributed.
    fn decrease(&mut self, load: &Load, now: Instant) {
        let increasing = self.probing.on_refused(now);
        let progress = self.progress(now);
        let outcome = self.limits.decrease(load, increasing, progress);
        if outcome.explained || increasing {
            self.attribution.on_explained();
            self.probing.on_confirmed(outcome.lost, progress);
            if self.limits.is_fallen() {
                self.probing.on_fallen();
            }
        } else {
            let context = RefusalContext {
                repeated: self.recovery.is_repeated(),
                confirmed: self.limits.is_known() && self.probing.is_confirmed(),
                accepted: self.accepted,
            };
            let cause = self.attribution.on_unexplained(load, context);
            self.attribute(cause, load, now);
        }
    }

    /// Changes the limits as the cause of a refusal demands.
    fn attribute(&mut self, cause: Cause, load: &Load, now: Instant) {
        match cause {
            Cause::Limit(dimension, level) => {
                let now = self.progress(now);
                self.limits.find(dimension, level, now);
                self.probing.on_found(now);
            }
            Cause::Ambiguous => {}
            Cause::Transient => self.limits.nudge(load),
        }
    }

    fn progress(&self, now: Instant) -> Progress {
        Progress { at: now, accepted: self.accepted }
    }
}
