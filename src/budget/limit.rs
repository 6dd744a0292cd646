//! The limits of an account that the upstream does not publish, learned from what it accepted and what it refused with 429.
//!
//! Wanted properties:
//! - Nearly all of a budget that is not documented is used, with few refusals.
//! - A learned limit holds until there is evidence against it; evidence is looked for rarely.
//! - Pure: no clock, no random numbers, no I/O. Times are passed in.
//!
//! A 429 can mean that a rate was exceeded, that too many predictions are in flight, or nothing at all (a transient failure
//! of the provider). The answer does not say which. Known at that moment: how many predictions the upstream *held*
//! (accepted and not ended), and how many it *counted* (accepted within the last window). The reasoning:
//!
//! - **The level at a refusal is the limit**, if that dimension was the reason: the refused submit would have been one more.
//!   So no binary search is needed, as AIMD does one. The direction of the steps is that of Chiu and Jain ("Analysis of the
//!   increase and decrease algorithms for congestion avoidance in computer networks", 1989): decrease at once, increase one
//!   by one.
//! - **A level that was accepted before is not the reason** ([`attribution`]). Refused with fewer held than were accepted
//!   before: not the concurrency. Refused with fewer counted: not the rate. Both levels new: an [`Ambiguity`], until an
//!   acceptance above one of the two levels rules that one out. Neither new: the budget has shrunk, or the refusal was
//!   transient. The first such refusal costs a pause and nothing else. If the canary is refused too, or if refusals
//!   accumulate, old evidence is discarded and the ambiguity starts again.
//! - **After a refusal: a pause, then one canary**, and nothing else until its outcome is known ([`recovery`]). Refusals of
//!   submits that were unacknowledged at that moment belong to the same event.
//! - **After a pause, and at the start, the number of unacknowledged submits doubles with every round of answers** (slow
//!   start; Jacobson, "Congestion avoidance and control", 1988). A refusal then meets few others, and locates the limit more
//!   exactly.
//! - **A known limit is probed rarely** ([`probe`]), by one submit above it. Each failure doubles the wait before the next
//!   probe. A probe that succeeds raises the limit by one and is followed by the next at once, so that a raised budget is
//!   found as fast as answers arrive (the shape of CUBIC, RFC 9438 §4.2: flat at the last known maximum, steep beyond it).
//! - **The gain of an increase is provisional**: a token bucket accepts more from its savings, and an end that the gateway
//!   has not seen yet admits one more. Refused again soon, the limit falls to the throughput between the two refusals (the
//!   bucket was empty both times, so that is its rate), but not below where the increase began.
//! - Confusing the two dimensions is bearable: by Little's law (concurrency = rate × time) either limit enforces the other
//!   until the time changes, and then probes find out.
//!
//! Known races: several submits can be unacknowledged. They are not held yet, and count towards every limit until they are
//! answered. The gateway learns of an end later than it happens, so the number in flight is slightly too high, which is safe.
//!
//! Known limitations, measured in `limit/tests.rs`: token buckets and fixed windows let probes pass on what they saved, and
//! cost up to 25 refusals in 1,000 submits. Transient refusals more often than about one in two windows are taken for
//! limits. A raised budget is found after at most 640 submits, which takes long where a budget is small. Slots are empty
//! while the next submit is uploaded, because none is sent before a slot is known to be free.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use bounds::floor;
use learned_limit::LearnedLimit;
use window::SubmitWindow;

mod attribution;
mod bounds;
mod learned_limit;
mod permission;
mod poll_spacing;
mod probe;
mod recovery;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod window;

pub(super) use bounds::Bounds;
pub(super) use permission::Permission;
pub(super) use poll_spacing::{LearnedPolls, PollSpacing};

/// Unacknowledged submits that are allowed before the first answer (the initial congestion window).
const UNACKNOWLEDGED_FIRST: usize = 4;
/// The smallest learned rate, in submits per window.
const RATE_MIN: f64 = 0.05;

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

/// The state of the first submit after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    None,
    Due,
    Unacknowledged,
}

/// The load of the upstream when an outcome arrived.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Accepted and not ended.
    held: usize,
    /// Accepted within the last window.
    counted: usize,
    /// The same two for comparison with limits: a probe was sent because unacknowledged submits filled the limit as well.
    held_level: usize,
    counted_level: usize,
}

/// A refusal that either dimension explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ambiguity {
    held: usize,
    counted: usize,
}

/// The state machine for the submits of one account.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveLimit {
    bounds: Bounds,
    window: SubmitWindow,
    unacknowledged: usize,
    /// How many may be unacknowledged (the congestion window): doubled by every round of answers, one after a refusal.
    unacknowledged_max: usize,
    canary: Canary,
    probe_unacknowledged: bool,
    /// Predictions held by the upstream.
    concurrency: Option<LearnedLimit<usize>>,
    /// Submits per window.
    rate: Option<LearnedLimit<f64>>,
    ambiguity: Option<Ambiguity>,
    /// The most that were held before one more was accepted, since the last attribution.
    accepted_at_held: Option<usize>,
    accepted_at_counted: Option<usize>,
    epoch: u64,
    paused_until: Option<Instant>,
    first_pause: Duration,
    consecutive_refusals: u32,
    /// Accepted in all; the clock of unexplained refusals and probes.
    accepted: u64,
    /// When refusals were unexplained, by `accepted`.
    unexplained_refusals: VecDeque<u64>,
    failed_probes: u32,
    /// The refusal that began this pause, while it is taken for a transient one.
    transient: Option<Load>,
    /// Later refusals of submits that were unacknowledged then.
    concurrent_refusals: u32,
    /// The last probe succeeded, and the next follows at once.
    increasing: bool,
    /// Increases whose gain was lost again.
    lost_increases: u32,
    /// Acceptances above the concurrency limit since it was raised or found.
    accepted_above: u32,
    /// The next increase of the concurrency limit.
    step: usize,
    /// The last refusal or change of a limit.
    changed_at: Instant,
    /// When, and at which `accepted`, a limit was last found.
    found: (Instant, u64),
    /// When, and at which `accepted`, a rate was last exceeded.
    rate_exceeded: Option<(Instant, u64)>,
}

impl AdaptiveLimit {
    pub(super) fn new(bounds: Bounds, learned: Option<LearnedSubmits>, now: Instant) -> Self {
        let learned = learned.unwrap_or_default();
        let rate = learned.submits_per_minute.filter(|rate| rate.is_finite() && *rate < bounds.submits_per_minute);
        let rate = rate.map(|rate| (rate * bounds.window_minutes()).max(RATE_MIN));
        let concurrency = learned.concurrency.filter(|&limit| limit < bounds.concurrency).map(|limit| limit.max(1));
        let window = match rate {
            Some(rate) => SubmitWindow::resumed(bounds.window, rate, now),
            None => SubmitWindow::new(bounds.window, now),
        };
        Self {
            bounds,
            window,
            unacknowledged: 0,
            unacknowledged_max: UNACKNOWLEDGED_FIRST,
            canary: Canary::None,
            probe_unacknowledged: false,
            concurrency: concurrency.map(LearnedLimit::at),
            rate: rate.map(LearnedLimit::at),
            ambiguity: None,
            accepted_at_held: None,
            accepted_at_counted: None,
            epoch: 0,
            paused_until: None,
            first_pause: Duration::ZERO,
            consecutive_refusals: 0,
            accepted: 0,
            unexplained_refusals: VecDeque::new(),
            failed_probes: learned.failed_probes.min(probe::DOUBLINGS_MAX),
            transient: None,
            concurrent_refusals: 0,
            increasing: false,
            lost_increases: 0,
            accepted_above: 0,
            step: 1,
            changed_at: now,
            found: (now, 0),
            rate_exceeded: None,
        }
    }

    /// Records that a submit is sent while `in_flight` predictions are in flight, itself not included.
    pub(super) fn on_sent(&mut self, in_flight: usize, now: Instant) -> SendToken {
        let above_concurrency = self.concurrency.is_some_and(|concurrency| in_flight >= concurrency.limit);
        let above_rate =
            self.rate.is_some_and(|rate| self.window.count(now) + self.unacknowledged >= floor(rate.limit));
        let above = above_concurrency || above_rate;
        let role = match (self.canary == Canary::Due, !self.probe_unacknowledged && above) {
            (true, _) => Role::Canary,
            (false, true) => Role::Probe,
            (false, false) => Role::Plain,
        };
        if role == Role::Canary {
            self.canary = Canary::Unacknowledged;
        }
        self.probe_unacknowledged |= role == Role::Probe;
        self.unacknowledged += 1;
        self.window.sent(self.rate.map(|rate| self.spacing_rate(rate.limit)), now);
        SendToken { epoch: self.epoch, role }
    }

    /// Records that the upstream accepted the submit. `in_flight` includes it.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is reported once")]
    pub(super) fn on_accepted(&mut self, token: SendToken, in_flight: usize, now: Instant) {
        let load = self.on_result(&token, in_flight, now);
        if token.epoch == self.epoch {
            self.consecutive_refusals = 0;
        }
        self.window.accepted(now);
        self.accepted += 1;
        self.unacknowledged_max = self.unacknowledged_max.saturating_add(1);
        self.accepted_at_held = self.accepted_at_held.max(Some(load.held));
        self.accepted_at_counted = self.accepted_at_counted.max(Some(load.counted));
        self.resolve_ambiguity(load, now);
        self.raise(load, now);
        self.prove(load, now);
    }

    /// Records that the submit ended otherwise (not sent, rejected, outcome unknown), which is no evidence.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is reported once")]
    pub(super) fn on_no_evidence(&mut self, token: SendToken, now: Instant) {
        self.on_result(&token, 0, now);
        if token.role == Role::Canary {
            self.canary = Canary::Due;
        }
    }

    pub(super) fn learned(&self) -> LearnedSubmits {
        LearnedSubmits {
            concurrency: self.concurrency.map(|concurrency| concurrency.limit),
            submits_per_minute: self.rate.map(|rate| rate.limit / self.bounds.window_minutes()),
            failed_probes: self.failed_probes,
        }
    }

    /// Predictions that may be in flight, as learned or else as configured.
    pub(super) fn concurrency(&self) -> usize {
        self.concurrency.map_or(self.bounds.concurrency, |concurrency| concurrency.limit)
    }

    /// Submits per minute, as learned or else as configured.
    pub(super) fn submits_per_minute(&self) -> f64 {
        self.learned().submits_per_minute.unwrap_or(self.bounds.submits_per_minute)
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Takes one submit out of the unacknowledged ones. Returns what the upstream held and counted when it arrived there.
    fn on_result(&mut self, token: &SendToken, in_flight: usize, now: Instant) -> Load {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        match token.role {
            Role::Plain => {}
            Role::Probe => self.probe_unacknowledged = false,
            Role::Canary => self.canary = Canary::None,
        }
        let held = in_flight.saturating_sub(1 + self.unacknowledged);
        let counted = self.window.count(now);
        let others = match token.role {
            Role::Probe => self.unacknowledged,
            Role::Plain | Role::Canary => 0,
        };
        Load { held, counted, held_level: held + others, counted_level: counted + others }
    }
}
