//! Learns how much the upstream takes, from nothing but what it accepted and what it refused with 429.
//!
//! Wanted: nearly all of a budget that nobody tells us, with few refusals; what was learned holds until evidence
//! against it, and evidence is looked for rarely. Pure: no clock, no chance, no I/O; times are passed in.
//!
//! A 429 may mean that a rate was exceeded, that too many predictions are outstanding, or nothing at all (a provider
//! hiccuped). It does not say which. What we know at that moment: how many predictions the upstream *held* (accepted
//! and not ended) and how many it *counted* (accepted within the last window). The reasoning:
//!
//! - **What was held or counted at a refusal is the limit itself**, if that dimension was the reason: the refused one
//!   would have been one more. So there is no need to search by halves as AIMD does (Chiu and Jain, "Analysis of the
//!   increase and decrease algorithms for congestion avoidance in computer networks", 1989, which we follow in:
//!   go down at once, go up one by one).
//! - **A level that was accepted before is not the reason.** Refused with fewer held than were accepted before: not the
//!   number; with fewer counted: not the rate. Both new: in [`Doubt`] until an acceptance above one of the two levels
//!   acquits it. Neither new: the budget shrank, or a hiccup. The first such refusal costs a pause and nothing else;
//!   if the canary is refused as well, or refusals pile up, old evidence is forgotten and the doubt begins afresh.
//! - **After a refusal: a pause, then one canary**, and nothing else until its outcome is known. Refusals of what was
//!   already in the air then are the same event.
//! - **After a pause, and at the start, what is in the air doubles with every round of answers** (slow start, Jacobson,
//!   "Congestion avoidance and control", 1988): a refusal then meets few others, and says more exactly where the limit is.
//! - **A known wall is probed rarely**, by one submit above it, each failure doubling the wait for the next; a passed
//!   probe raises the wall by one and the next probe follows at once, so that a raised budget is climbed as fast as
//!   answers come (the shape of CUBIC, RFC 9438 §4.2: flat at the last known maximum, steep beyond it).
//! - **What a climb won is on trial**: a token bucket lets one climb on its savings, and an end that we have not seen
//!   yet lets one more in. Refused again soon: down to what the throughput between the two refusals says (both times
//!   the bucket was empty, so it is its rate), not below where the climb began.
//! - Mistaking one dimension for the other is bearable: by Little's law (outstanding = rate x time) either limit
//!   holds the other, until the time changes, and then probes find out.
//!
//! Races: several may be in the air. They are not held, but they count towards every limit before they are answered.
//! We learn of an end later than it happens, so `outstanding` is slightly too high; that errs on the safe side.
//!
//! Known limits, measured in `learning/tests.rs`: token buckets and windows that reset let probes pass on what they
//! saved, and cost up to 25 refusals in 1,000 submits; hiccups more often than about one in two windows are read as
//! limits; a raised budget is found after at most 640 submits, which takes long where a budget is small; places are
//! empty while the next submit is uploaded, for none is sent before one is known to be free.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use pace::{Pace, Room};

mod pace;
mod poll;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

pub(super) use poll::{LearnedPolls, PollPace};

/// Accepted submits before a wall is probed for the first time; doubled by every probe that fails.
const PROBE_FIRST: u32 = 20;
/// ... up to this many doublings: a probe every 160 submits, and so four to seven refusals in 1,000.
const PROBE_DOUBLINGS: u32 = 3;
/// A probe may cost a pause. At least this many times the last pause lies between probes.
const PROBE_PAUSES: u32 = 40;
/// What a climb won is on trial for this many windows.
const TRIAL_WINDOWS: u32 = 2;
/// A cap is raised after so many acceptances above it: a single one may owe its place to an end not seen yet.
const PASSES: u32 = 4;
/// While climbing, the step doubles up to this part of the cap.
const STEEP: usize = 8;
/// What was used for so many windows without a refusal is proven. More than one: a fixed window may refuse once in each.
const PROVING_WINDOWS: f64 = 1.5;
/// An unexplained refusal speaks against a limit from this share of it on ...
const NEARLY: f64 = 0.75;
/// ... and costs this share of a rate.
const NUDGE: f64 = 0.02;
/// What a climb won is lost again: a token bucket or a fixed window. Such climbs double the wait this often more.
const LOST_DOUBLINGS: u32 = 1;
/// Unless this much was proven to be won.
const GAINED: f64 = 1.1;
/// One in so many predictions may have ended without our knowing.
const UNSEEN: usize = 8;
/// A limit below this share of what it was a window ago has fallen far.
const FALLEN: f64 = 0.75;
/// How much faster than its limit a rate is used while climbing.
const CLIMB: f64 = 1.25;
/// ... from so many in a window on: where one more is a tenth more, a climb needs no haste.
const CLIMB_FROM: f64 = 20.0;
/// Submits that may be in the air before anything was answered.
const AIR_FIRST: usize = 4;
/// The smallest learned rate, in submits a window.
const RATE_LEAST: f64 = 0.05;
/// Until a wall is confirmed, so many unexplained refusals are believed ...
const BELIEVED: usize = 4;
/// ... so many once one is confirmed, which may be the wrong one ...
const BELIEVED_SURE: usize = 8;
/// ... within so many accepted submits.
const BELIEVED_WITHIN: u64 = 100;
/// A refusal is no hiccup if so many are refused that were in the air with it.
const ECHOES: u32 = 2;
/// A wall is confirmed after so many failed probes.
const CONFIRMED: u32 = 2;

/// Configured upper bounds, and how long things take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    pub(super) submits_per_minute: f64,
    /// Predictions in flight; at least 1.
    pub(super) concurrent: usize,
    /// The upstream's window, as far as one knows (`upstream.rate_window_ms`).
    pub(super) window: Duration,
    /// The first pause after a 429 without `Retry-After`; doubled by each further one.
    pub(super) pushback: Duration,
    /// The longest pause, also for `Retry-After`.
    pub(super) pushback_max: Duration,
}

impl Bounds {
    /// The pause after so many refusals in a row, at least one, that named none.
    fn pause(&self, in_a_row: u32) -> Duration {
        let doubled = 1_u32.checked_shl(in_a_row.saturating_sub(1)).unwrap_or(u32::MAX);
        self.pushback.saturating_mul(doubled).min(self.pushback_max)
    }

    fn windows(&self) -> f64 {
        self.window.as_secs_f64() / 60.0
    }

    /// The configured rate, in submits a window.
    fn rate(&self) -> f64 {
        self.submits_per_minute * self.windows()
    }
}

/// What survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Learned {
    /// Predictions in flight; absent: never refused for that.
    pub(super) cap: Option<usize>,
    /// Absent: never refused for that.
    pub(super) submits_per_minute: Option<f64>,
    /// Probes that failed in a row: how sure we are.
    pub(super) failed_probes: u32,
}

/// Whether one more submit may leave. Whatever it says, ask again when a prediction ends or a submit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    Now,
    /// Ask again at this moment.
    At(Instant),
    /// Too many are in flight.
    WhenOneEnds,
    /// One is in the air whose outcome decides.
    WhenAnswered,
}

/// One submit that was let go. Comes back with its outcome, exactly once.
#[must_use]
#[derive(Debug)]
pub(super) struct Departure {
    /// The number of pauses before it.
    epoch: u64,
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Below all walls.
    Plain,
    /// Above one of them: the only such one in the air.
    Probe,
    /// The first after a pause: the only one to leave until it is answered.
    Canary,
}

/// Where the first submit after a pause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    None,
    Due,
    InAir,
}

/// How things stood when an outcome came.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Accepted and not ended.
    held: usize,
    /// Accepted within the last window.
    counted: usize,
    /// The same two to compare with limits: a probe left because those in the air filled the limit as well.
    held_level: usize,
    counted_level: usize,
}

/// A refusal that either dimension explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doubt {
    held: usize,
    counted: usize,
}

/// A learned limit of one dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wall<T> {
    limit: T,
    /// The most that was used without a refusal for long; 0 at first.
    proven: T,
    /// Until when the gain of the last climb is on trial.
    trial_until: Option<Instant>,
    /// The limit at the first decrease within a window.
    highest: Option<(Instant, T)>,
}

impl<T: Copy + Default> Wall<T> {
    fn at(limit: T) -> Self {
        Self { limit, proven: T::default(), trial_until: None, highest: None }
    }

    /// The limit that decreases within a window are measured against.
    fn highest(&mut self, window: Duration, now: Instant) -> T {
        match self.highest {
            Some((at, highest)) if now.saturating_duration_since(at) < window => highest,
            _ => {
                self.highest = Some((now, self.limit));
                self.limit
            }
        }
    }

    fn on_trial(&self, now: Instant) -> bool {
        self.trial_until.is_some_and(|until| now < until)
    }
}

/// The state machine for submits.
#[derive(Clone, Debug)]
pub(super) struct Learner {
    bounds: Bounds,
    pace: Pace,
    in_air: usize,
    /// How many may be in the air: doubled by every round of answers, one after a refusal.
    air_max: usize,
    canary: Canary,
    probe_in_air: bool,
    /// Predictions held by the upstream.
    cap: Option<Wall<usize>>,
    /// Submits a window.
    rate: Option<Wall<f64>>,
    doubt: Option<Doubt>,
    /// The most that were held before one more was accepted, since the last blame.
    held_ok: Option<usize>,
    counted_ok: Option<usize>,
    epoch: u64,
    paused_until: Option<Instant>,
    first_pause: Duration,
    refused_in_a_row: u32,
    /// Accepted in all; the clock of strikes and probes.
    accepted: u64,
    /// Unexplained refusals, by `accepted`.
    strikes: VecDeque<u64>,
    failed_probes: u32,
    /// The refusal that began this pause, as long as it is taken for a hiccup.
    unexplained: Option<Seen>,
    /// Refusals since of what was in the air then.
    echoes: u32,
    climbing: bool,
    /// Climbs whose gain was lost again.
    lost: u32,
    /// Acceptances above the cap since it was raised or found.
    passes: u32,
    /// By how much the cap is raised next.
    step: usize,
    /// The last refusal or change of a limit.
    unsettled: Instant,
    /// When and at which `accepted` the wall was last found.
    found: (Instant, u64),
    /// When and at which `accepted` a rate was last exceeded.
    exceeded: Option<(Instant, u64)>,
}

impl Learner {
    pub(super) fn new(bounds: Bounds, learned: Option<Learned>, now: Instant) -> Self {
        let learned = learned.unwrap_or_default();
        let rate = learned.submits_per_minute.filter(|rate| rate.is_finite() && *rate < bounds.submits_per_minute);
        let rate = rate.map(|rate| (rate * bounds.windows()).max(RATE_LEAST));
        let cap = learned.cap.filter(|&cap| cap < bounds.concurrent).map(|cap| cap.max(1));
        let pace = match rate {
            Some(rate) => Pace::resumed(bounds.window, rate, now),
            None => Pace::new(bounds.window, now),
        };
        Self {
            bounds,
            pace,
            in_air: 0,
            air_max: AIR_FIRST,
            canary: Canary::None,
            probe_in_air: false,
            cap: cap.map(Wall::at),
            rate: rate.map(Wall::at),
            doubt: None,
            held_ok: None,
            counted_ok: None,
            epoch: 0,
            paused_until: None,
            first_pause: Duration::ZERO,
            refused_in_a_row: 0,
            accepted: 0,
            strikes: VecDeque::new(),
            failed_probes: learned.failed_probes.min(PROBE_DOUBLINGS),
            unexplained: None,
            echoes: 0,
            climbing: false,
            lost: 0,
            passes: 0,
            step: 1,
            unsettled: now,
            found: (now, 0),
            exceeded: None,
        }
    }

    /// Whether one more submit may leave while `outstanding` are in flight, those in the air included.
    pub(super) fn next(&self, outstanding: usize, now: Instant) -> Permission {
        if let Some(until) = self.paused_until.filter(|&until| until > now) {
            return Permission::At(until);
        }
        if self.canary == Canary::InAir {
            return Permission::WhenAnswered;
        }
        if outstanding >= self.bounds.concurrent.max(1) {
            return Permission::WhenOneEnds;
        }
        if self.in_air >= self.air_max {
            return Permission::WhenAnswered;
        }
        let probing = self.may_probe(now);
        // A probe does not take the place of another: the level it tests must stay full meanwhile.
        let beside = usize::from(self.probe_in_air);
        let in_air = self.in_air.saturating_sub(beside);
        let above_cap = match self.cap {
            Some(cap) if outstanding > cap.limit + beside || (outstanding >= cap.limit + beside && !probing) => {
                return Permission::WhenOneEnds;
            }
            Some(cap) => outstanding == cap.limit + beside,
            None => false,
        };
        if let Some(rate) = self.rate {
            let allowed = whole(rate.limit) + usize::from(probing && !above_cap);
            let spaced = self.pace.by_spacing(self.spaced_as(rate.limit));
            match self.pace.by_count(allowed, in_air, now) {
                Room::WhenAnswered => return Permission::WhenAnswered,
                Room::At(at) if at.max(spaced) > now => return Permission::At(at.max(spaced)),
                Room::At(_) => {}
            }
        }
        if let Some(doubt) = self.doubt
            && outstanding >= doubt.held
        {
            match self.pace.by_count(doubt.counted, self.in_air, now) {
                Room::WhenAnswered => return Permission::WhenAnswered,
                Room::At(at) if at > now => return Permission::At(at),
                Room::At(_) => {}
            }
        }
        Permission::Now
    }

    /// One is let go while `outstanding` are in flight, itself not included.
    pub(super) fn left(&mut self, outstanding: usize, now: Instant) -> Departure {
        let above_cap = self.cap.is_some_and(|cap| outstanding >= cap.limit);
        let above_rate = self.rate.is_some_and(|rate| self.pace.count(now) + self.in_air >= whole(rate.limit));
        let role = match (self.canary == Canary::Due, !self.probe_in_air && (above_cap || above_rate)) {
            (true, _) => Role::Canary,
            (false, true) => Role::Probe,
            (false, false) => Role::Plain,
        };
        if role == Role::Canary {
            self.canary = Canary::InAir;
        }
        self.probe_in_air |= role == Role::Probe;
        self.in_air += 1;
        self.pace.left(self.rate.map(|rate| self.spaced_as(rate.limit)), now);
        Departure { epoch: self.epoch, role }
    }

    /// The upstream took it. `outstanding` are in flight, itself included.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is told once")]
    pub(super) fn accepted(&mut self, departure: Departure, outstanding: usize, now: Instant) {
        let seen = self.landed(&departure, outstanding, now);
        if departure.epoch == self.epoch {
            self.refused_in_a_row = 0;
        }
        self.pace.accepted(now);
        self.accepted += 1;
        self.air_max = self.air_max.saturating_add(1);
        self.held_ok = self.held_ok.max(Some(seen.held));
        self.counted_ok = self.counted_ok.max(Some(seen.counted));
        self.resolve(seen, now);
        self.raise(seen, now);
        self.prove(seen, now);
    }

    /// The upstream refused it with a 429 that speaks of the account. `outstanding` are in flight, itself included.
    /// Returns the pause until the canary.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is told once")]
    pub(super) fn refused(
        &mut self,
        departure: Departure,
        outstanding: usize,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        let seen = self.landed(&departure, outstanding, now);
        let told = retry_after.map(|told| told.min(self.bounds.pushback_max));
        if departure.epoch < self.epoch {
            // It left before the pause: the same event. A longer pause is news, and that it was no hiccup.
            self.echoes += 1;
            if self.echoes >= ECHOES
                && let Some(first) = self.unexplained.take()
            {
                self.believe(first, now);
            }
            if let Some(told) = told {
                self.paused_until = self.paused_until.max(Some(now + told));
            }
            return self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        }
        self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
        let pause = told.unwrap_or_else(|| self.bounds.pause(self.refused_in_a_row));
        self.epoch += 1;
        self.unexplained = None;
        self.echoes = 0;
        self.air_max = 1;
        self.paused_until = Some(now + pause);
        if self.refused_in_a_row == 1 {
            self.first_pause = pause;
        }
        self.canary = Canary::Due;
        self.judge(seen, now);
        pause
    }

    /// It ended otherwise (not sent, rejected, outcome unknown): no evidence.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is told once")]
    pub(super) fn unanswered(&mut self, departure: Departure, now: Instant) {
        self.landed(&departure, 0, now);
        if departure.role == Role::Canary {
            self.canary = Canary::Due;
        }
    }

    pub(super) fn learned(&self) -> Learned {
        Learned {
            cap: self.cap.map(|cap| cap.limit),
            submits_per_minute: self.rate.map(|rate| rate.limit / self.bounds.windows()),
            failed_probes: self.failed_probes,
        }
    }

    /// Predictions in flight, as learned or else as configured.
    pub(super) fn cap(&self) -> usize {
        self.cap.map_or(self.bounds.concurrent, |cap| cap.limit)
    }

    /// Submits a minute, as learned or else as configured.
    pub(super) fn submits_per_minute(&self) -> f64 {
        self.learned().submits_per_minute.unwrap_or(self.bounds.submits_per_minute)
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// The rate that submits are spaced by: while climbing, faster than the limit, or the count in a window would never
    /// grow beyond it.
    fn spaced_as(&self, limit: f64) -> f64 {
        if self.climbing && limit >= CLIMB_FROM { limit * CLIMB } else { limit }
    }

    /// One came down: what the upstream held and counted when it arrived.
    fn landed(&mut self, departure: &Departure, outstanding: usize, now: Instant) -> Seen {
        self.in_air = self.in_air.saturating_sub(1);
        match departure.role {
            Role::Plain => {}
            Role::Probe => self.probe_in_air = false,
            Role::Canary => self.canary = Canary::None,
        }
        let held = outstanding.saturating_sub(1 + self.in_air);
        let counted = self.pace.count(now);
        let besides = match departure.role {
            Role::Probe => self.in_air,
            Role::Plain | Role::Canary => 0,
        };
        Seen { held, counted, held_level: held + besides, counted_level: counted + besides }
    }

    fn may_probe(&self, now: Instant) -> bool {
        if self.canary == Canary::Due || self.probe_in_air {
            return false;
        }
        let (at, accepted) = self.found;
        let doublings = self.failed_probes.min(PROBE_DOUBLINGS) + self.lost;
        let wait = (self.bounds.window * (1 + doublings)).max(self.first_pause * PROBE_PAUSES);
        self.climbing
            || (self.accepted - accepted >= u64::from(PROBE_FIRST << doublings)
                && now.saturating_duration_since(at) >= wait)
    }

    /// An acceptance above one of the two levels of a doubt acquits that one.
    fn resolve(&mut self, Seen { held, counted, .. }: Seen, now: Instant) {
        let Some(doubt) = self.doubt else { return };
        // An end that we have not seen yet lets one in at the limit, so a little above it is asked for.
        match (held > doubt.held + doubt.held / UNSEEN, counted >= doubt.counted) {
            (true, false) => self.blame_rate(doubt.counted, now),
            (false, true) if held < doubt.held => self.blame_cap(doubt.held, now),
            (_, true) => self.doubt = None,
            (false, false) => {}
        }
    }

    /// An acceptance above a wall moves it.
    fn raise(&mut self, Seen { held_level, counted_level, .. }: Seen, now: Instant) {
        if let Some(cap) = &mut self.cap
            && held_level >= cap.limit
        {
            self.climbing = true;
            self.passes += 1;
            if self.passes >= PASSES {
                self.passes = 0;
                cap.limit += self.step;
                self.step = (self.step * 2).min(1 + cap.limit / STEEP);
            }
        }
        if let Some(rate) = &mut self.rate
            && counted_level >= whole(rate.limit)
        {
            rate.limit += 1.0;
            self.climbing = true;
        }
        if self.climbing {
            self.unsettled = now;
        }
        self.cap = self.cap.filter(|cap| cap.limit < self.bounds.concurrent);
        self.rate = self.rate.filter(|rate| rate.limit < self.bounds.rate());
    }

    /// What was used for long enough without a refusal is proven.
    fn prove(&mut self, Seen { held, counted, .. }: Seen, now: Instant) {
        if self.climbing || now.saturating_duration_since(self.unsettled) < self.bounds.window.mul_f64(PROVING_WINDOWS)
        {
            return;
        }
        if let Some(cap) = &mut self.cap {
            let used = (held + 1).min(cap.limit);
            if real(used) > real(cap.proven) * GAINED {
                self.lost = 0;
            }
            cap.proven = cap.proven.max(used);
        }
        if let Some(rate) = &mut self.rate {
            let used = real(counted + 1).min(rate.limit);
            if used > rate.proven * GAINED {
                self.lost = 0;
            }
            rate.proven = rate.proven.max(used);
        }
    }

    /// What a refusal says.
    fn judge(&mut self, seen: Seen, now: Instant) {
        let Seen { held, counted, held_level, counted_level } = seen;
        let climbed = std::mem::take(&mut self.climbing);
        self.passes = 0;
        self.step = 1;
        self.unsettled = now;
        let throughput = self.throughput(now);
        let trial = climbed.then(|| now + self.bounds.window * TRIAL_WINDOWS);
        let over_cap = self.cap.is_some_and(|cap| held_level >= cap.limit);
        let over_rate = self.rate.is_some_and(|rate| counted_level >= whole(rate.limit));
        // Where no level was exceeded, what a climb won lately is to blame.
        let (any_cap, any_rate) = (over_cap || !over_rate, over_rate || !over_cap);
        let mut explained = false;
        if let Some(cap) = self.cap.as_mut().filter(|_| any_cap)
            && (over_cap || cap.on_trial(now) || (climbed && cap.limit > cap.proven))
        {
            let failed = cap.on_trial(now) && !climbed;
            self.lost = if failed { (self.lost + 1).min(LOST_DOUBLINGS) } else { self.lost };
            let below = if failed { held.min(cap.limit - 1) } else { held.min(cap.limit) };
            let floor = cap.highest(self.bounds.window, now) / 2;
            cap.limit = below.max(cap.proven).max(floor).max(1);
            cap.trial_until = trial;
            explained = true;
        }
        if let Some(rate) = self.rate.as_mut().filter(|_| any_rate)
            && (over_rate || rate.on_trial(now) || (climbed && rate.limit > rate.proven))
        {
            let failed = rate.on_trial(now) && !climbed;
            self.lost = if failed { (self.lost + 1).min(LOST_DOUBLINGS) } else { self.lost };
            let below = if failed { throughput.min(rate.limit - 1.0) } else { real(counted).min(rate.limit) };
            let floor = rate.highest(self.bounds.window, now) / 2.0;
            rate.limit = below.max(rate.proven).max(floor).max(RATE_LEAST);
            rate.trial_until = trial;
            self.exceeded = Some((now, self.accepted));
            explained = true;
        }
        if explained || climbed {
            self.found_again(now);
            self.search_after_a_fall();
            return;
        }
        if self.doubt.is_some() {
            self.doubt_more(held, counted, now);
        } else if self.believed() {
            self.believe(seen, now);
        } else {
            self.unexplained = Some(seen);
            self.nudge(seen);
        }
    }

    /// An unexplained refusal that was none of a kind.
    fn believe(&mut self, Seen { held, counted, .. }: Seen, now: Instant) {
        self.strikes.clear();
        let by_cap = self.held_ok < Some(held) && held > 0;
        let by_rate = self.counted_ok < Some(counted) && counted > 0;
        match (by_cap, by_rate) {
            (true, false) => self.blame_cap(held, now),
            (false, true) => self.blame_rate(counted, now),
            (true, true) | (false, false) => self.begin_doubt(held, counted, now),
        }
    }

    /// A refusal that is taken for a hiccup costs a limit that was nearly used up a little, down to what is proven.
    fn nudge(&mut self, Seen { held, counted, .. }: Seen) {
        if let Some(cap) = &mut self.cap
            && real(held + self.in_air) >= real(cap.limit) * NEARLY
        {
            cap.limit = (cap.limit - 1).max(cap.proven).max(1);
        }
        if let Some(rate) = &mut self.rate
            && real(counted + self.in_air) >= rate.limit * NEARLY
        {
            let below = rate.limit - (rate.limit * NUDGE).max(1.0);
            rate.limit = below.max(rate.proven).max(RATE_LEAST);
        }
    }

    /// Whether an unexplained refusal is believed, or taken for a hiccup.
    fn believed(&mut self) -> bool {
        let sure = (self.cap.is_some() || self.rate.is_some()) && self.failed_probes >= CONFIRMED;
        self.strikes.push_back(self.accepted);
        self.strikes.retain(|&at| self.accepted - at <= BELIEVED_WITHIN);
        self.refused_in_a_row > 1 || self.strikes.len() >= if sure { BELIEVED_SURE } else { BELIEVED }
    }

    fn begin_doubt(&mut self, held: usize, counted: usize, now: Instant) {
        self.held_ok = None;
        self.counted_ok = None;
        if held == 0 {
            // An upstream that takes none at all is no upstream: it is the rate.
            self.blame_rate(counted, now);
        } else if counted == 0 {
            self.blame_cap(held, now);
        } else {
            self.doubt = Some(Doubt { held, counted });
        }
    }

    /// A refusal while in doubt.
    fn doubt_more(&mut self, held: usize, counted: usize, now: Instant) {
        let Some(doubt) = self.doubt else { return };
        match (held >= doubt.held, counted >= doubt.counted) {
            (true, false) => self.blame_cap(doubt.held, now),
            (false, true) if self.held_ok >= Some(held) => self.blame_rate(doubt.counted, now),
            _ => self.begin_doubt(held.min(doubt.held), counted.min(doubt.counted), now),
        }
    }

    fn blame_cap(&mut self, limit: usize, now: Instant) {
        self.doubt = None;
        self.held_ok = None;
        // At most by half a window: a refusal after a long pause would find little in flight.
        let floor = self.cap.as_mut().map(|cap| cap.highest(self.bounds.window, now));
        let mut cap = Wall::at(limit.max(floor.unwrap_or_default() / 2).max(1));
        cap.highest = self.cap.and_then(|cap| cap.highest);
        self.cap = Some(cap).filter(|cap| cap.limit < self.bounds.concurrent);
        self.found_anew(now);
    }

    fn blame_rate(&mut self, counted: usize, now: Instant) {
        self.doubt = None;
        self.counted_ok = None;
        let before = self.rate.map_or(self.bounds.rate(), |rate| rate.limit);
        // Nothing at all was counted: slower than one a window.
        let limit = if counted == 0 { before.min(1.0) / 2.0 } else { real(counted) };
        let floor = self.rate.as_mut().map(|rate| rate.highest(self.bounds.window, now));
        let limit = limit.min(before).max(floor.unwrap_or_default() / 2.0).max(RATE_LEAST);
        let mut rate = Wall::at(limit);
        rate.highest = self.rate.and_then(|rate| rate.highest);
        self.rate = Some(rate).filter(|rate| rate.limit < self.bounds.rate());
        self.exceeded = Some((now, self.accepted));
        self.found_anew(now);
    }

    /// Submits a window since the rate was last exceeded.
    fn throughput(&self, now: Instant) -> f64 {
        let Some((at, accepted)) = self.exceeded else { return f64::INFINITY };
        let windows = now.saturating_duration_since(at).as_secs_f64() / self.bounds.window.as_secs_f64();
        real(usize::try_from(self.accepted - accepted).unwrap_or(usize::MAX)) / windows.max(f64::EPSILON)
    }

    /// A probe found the wall where it was, or a climb found it further up.
    fn found_again(&mut self, now: Instant) {
        self.failed_probes = (self.failed_probes + 1).min(PROBE_DOUBLINGS);
        self.found = (now, self.accepted);
        self.strikes.clear();
    }

    /// A limit that fell far is known no longer: it is searched for like a new one.
    fn search_after_a_fall(&mut self) {
        let cap = self.cap.and_then(|cap| cap.highest.map(|(_, highest)| real(cap.limit) < real(highest) * FALLEN));
        let rate = self.rate.and_then(|rate| rate.highest.map(|(_, highest)| rate.limit < highest * FALLEN));
        if cap == Some(true) || rate == Some(true) {
            self.failed_probes = 0;
            self.lost = 0;
        }
    }

    /// A wall where none was known.
    fn found_anew(&mut self, now: Instant) {
        self.failed_probes = self.failed_probes.min(1);
        self.lost = 0;
        self.found = (now, self.accepted);
        self.climbing = false;
    }
}

/// How many a limit lets be counted: at least one, for slower rates are held by spacing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "learned rates lie between 0 and the configured one"
)]
fn whole(limit: f64) -> usize {
    (limit.floor() as usize).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of submits in a window are far below 2^52")]
fn real(count: usize) -> f64 {
    count as f64
}
