//! A simulation for tests: upstreams with hidden limits of several kinds, a client with unlimited demand, and simulated time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::bounds::{floor, real};
use super::*;

/// How a hidden rate per minute is enforced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    Fixed,
    Sliding,
    /// Holds the tokens of ten seconds.
    Bucket,
}

/// The hidden limits of the upstream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hidden {
    pub(super) rate: Option<(Rule, f64)>,
    pub(super) concurrency: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) hidden: Hidden,
    /// The limits from half-time on.
    pub(super) then: Option<Hidden>,
    /// Seconds from acceptance to the end, uniformly distributed.
    pub(super) generation: (f64, f64),
    /// The fraction of submits that are refused without a reason.
    pub(super) transient: f64,
    pub(super) retry_after: bool,
    /// The gateway restarts at half-time; predictions in flight are adopted.
    pub(super) restart: bool,
    pub(super) minutes: u32,
    pub(super) seed: u64,
}

/// Seconds from sending to the upstream's decision.
pub(super) const UPLOAD: (f64, f64) = (0.2, 3.0);
/// Seconds from the end of a prediction until the gateway learns of it.
const NOTICED: (f64, f64) = (0.0, 2.0);

pub(super) const BOUNDS: Bounds = Bounds {
    submits_per_minute: 600.0,
    concurrency: 500,
    window: Duration::from_mins(1),
    pushback: Duration::from_secs(5),
    pushback_max: Duration::from_mins(2),
};

/// The counts of one minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Minute {
    pub(super) accepted: usize,
    pub(super) refused: usize,
    pub(super) transient: usize,
    /// Predictions held by the upstream, times seconds.
    pub(super) held_s: f64,
}

enum Event {
    Wake,
    Arrives(SendToken),
    Ends,
    Noticed,
    Changes,
}

struct Later(Instant, u64, Event);

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Later {}
impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Simulation {
    scenario: Scenario,
    hidden: Hidden,
    random: StdRng,
    start: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<Later>>,
    serial: u64,
    // The upstream.
    times: VecDeque<Instant>,
    ends: Vec<Instant>,
    tokens: f64,
    filled: Instant,
    // The gateway.
    /// The configured rate, with a burst of ten seconds.
    due: Instant,
    limit: AdaptiveLimit,
    in_flight: usize,
    wake: Option<Instant>,
    minutes: Vec<Minute>,
}

/// Simulates a scenario. Returns every minute of it.
pub(super) fn simulate(scenario: Scenario) -> (Vec<Minute>, AdaptiveLimit) {
    let start = Instant::now();
    let mut simulation = Simulation {
        scenario,
        hidden: scenario.hidden,
        random: StdRng::seed_from_u64(scenario.seed),
        start,
        now: start,
        events: BinaryHeap::new(),
        serial: 0,
        times: VecDeque::new(),
        ends: Vec::new(),
        tokens: scenario.hidden.burst(),
        filled: start,
        due: start,
        limit: AdaptiveLimit::new(BOUNDS, None, start),
        in_flight: 0,
        wake: None,
        minutes: vec![Minute::default(); scenario.minutes as usize],
    };
    simulation.run();
    (simulation.minutes, simulation.limit)
}

impl Hidden {
    fn burst(&self) -> f64 {
        self.rate.map_or(0.0, |(_, rate)| (rate / 6.0).ceil())
    }

    /// The most that a client which knows all limits could get accepted in a minute: a slot is used from the sending until
    /// the end is noticed.
    pub(super) fn ideal(&self, generation: (f64, f64)) -> f64 {
        let mean = |(from, to): (f64, f64)| f64::midpoint(from, to);
        let taken = mean(UPLOAD) + mean(generation) + mean(NOTICED);
        let by_rate = self.rate.map_or(f64::INFINITY, |(_, rate)| rate);
        let by_slots = self.concurrency.map_or(f64::INFINITY, |slots| real(slots) * 60.0 / taken);
        by_rate.min(by_slots)
    }
}

impl Simulation {
    fn run(&mut self) {
        let minutes = self.scenario.minutes;
        let end = self.start + Duration::from_mins(u64::from(minutes));
        self.at(self.start + Duration::from_mins(u64::from(minutes / 2)), Event::Changes);
        self.send();
        while let Some(Reverse(Later(at, _, event))) = self.events.pop() {
            if at >= end {
                break;
            }
            self.hold(at);
            self.now = at;
            match event {
                Event::Wake => {
                    if self.wake == Some(at) {
                        self.wake = None;
                    }
                }
                Event::Arrives(token) => self.arrives(token),
                Event::Ends => self.ends.retain(|&ends| ends > at),
                Event::Noticed => self.in_flight -= 1,
                Event::Changes => self.changes(),
            }
            self.send();
        }
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.events.push(Reverse(Later(at, self.serial, event)));
    }

    fn between(&mut self, (from, to): (f64, f64)) -> Duration {
        let fraction: f64 = self.random.random();
        Duration::from_secs_f64(from + fraction * (to - from))
    }

    fn minute(&mut self) -> &mut Minute {
        let index = self.now.duration_since(self.start).as_secs() / 60;
        &mut self.minutes[usize::try_from(index).unwrap()]
    }

    /// Adds what the upstream held up to `at`.
    fn hold(&mut self, at: Instant) {
        let held_s = real(self.ends.len()) * at.duration_since(self.now).as_secs_f64();
        self.minute().held_s += held_s;
    }

    fn changes(&mut self) {
        if let Some(then) = self.scenario.then {
            self.hidden = then;
            self.tokens = self.tokens.min(then.burst());
        }
        if self.scenario.restart {
            let json = serde_json::to_string(&self.limit.learned()).unwrap();
            self.limit = AdaptiveLimit::new(BOUNDS, Some(serde_json::from_str(&json).unwrap()), self.now);
            // Unacknowledged submits are lost with the process; the upstream never received them whole.
            let before = self.events.len();
            self.events.retain(|Reverse(later)| !matches!(later.2, Event::Arrives(_)));
            self.in_flight -= before - self.events.len();
        }
    }

    fn wake(&mut self, at: Instant) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            self.at(at, Event::Wake);
        }
    }

    /// Sends what may be sent.
    fn send(&mut self) {
        loop {
            match self.limit.permission(self.in_flight, self.now) {
                Ok(()) => {
                    if let Some(at) = self.due.checked_sub(Duration::from_secs(10)).filter(|&at| at > self.now) {
                        return self.wake(at);
                    }
                    self.due = self.due.max(self.now) + Duration::from_mins(1).div_f64(BOUNDS.submits_per_minute);
                    let token = self.limit.on_sent(self.in_flight, self.now);
                    self.in_flight += 1;
                    let upload = self.between(UPLOAD);
                    self.at(self.now + upload, Event::Arrives(token));
                }
                Err(Wait::Until(at)) => {
                    assert!(at > self.now, "a time that has passed is now");
                    return self.wake(at);
                }
                Err(Wait::ForCompletion) => {
                    assert!(self.in_flight > 0, "no prediction will end");
                    return;
                }
                Err(Wait::ForAnswer) => {
                    assert!(self.limit.slow_start.unacknowledged() > 0, "no submit will be answered");
                    return;
                }
            }
        }
    }

    fn arrives(&mut self, token: SendToken) {
        let transient = self.random.random::<f64>() < self.scenario.transient;
        let verdict = if transient { Err(Duration::from_secs(1)) } else { self.decide() };
        match verdict {
            Ok(()) => {
                self.minute().accepted += 1;
                let generation = self.between(self.scenario.generation);
                let noticed = self.between(NOTICED);
                let ends = self.now + generation;
                self.ends.push(ends);
                self.at(ends, Event::Ends);
                self.at(ends + noticed, Event::Noticed);
                self.limit.on_accepted(token, self.in_flight, self.now);
            }
            Err(wait) => {
                if transient {
                    self.minute().transient += 1;
                } else {
                    self.minute().refused += 1;
                }
                // Whole seconds, rounded up, as in the header.
                let retry_after = Duration::from_secs_f64(wait.as_secs_f64().ceil());
                let retry_after = self.scenario.retry_after.then_some(retry_after);
                self.limit.on_refused(token, self.in_flight, retry_after, self.now);
                self.in_flight -= 1;
            }
        }
    }

    /// Applies the upstream's limits.
    ///
    /// # Errors
    ///
    /// The time to wait.
    fn decide(&mut self) -> Result<(), Duration> {
        let minute = Duration::from_mins(1);
        if let Some(slots) = self.hidden.concurrency
            && self.ends.len() >= slots
        {
            let mut ends = self.ends.clone();
            ends.sort_unstable();
            return Err(ends[ends.len() - slots].duration_since(self.now));
        }
        let Some((rule, rate)) = self.hidden.rate else { return Ok(()) };
        let limit = floor(rate);
        match rule {
            Rule::Sliding => {
                while self.times.front().is_some_and(|&first| first + minute <= self.now) {
                    self.times.pop_front();
                }
                if self.times.len() >= limit {
                    return Err((self.times[self.times.len() - limit] + minute).duration_since(self.now));
                }
                self.times.push_back(self.now);
            }
            Rule::Fixed => {
                // Windows that do not begin with the simulation.
                let phase = Duration::from_secs(17);
                let number = |at: Instant| (at.duration_since(self.start) + phase).as_secs() / 60;
                let current = number(self.now);
                while self.times.front().is_some_and(|&first| number(first) < current) {
                    self.times.pop_front();
                }
                if self.times.len() >= limit {
                    let next = self.start + minute * u32::try_from(current + 1).unwrap() - phase;
                    return Err(next.duration_since(self.now));
                }
                self.times.push_back(self.now);
            }
            Rule::Bucket => {
                let per_second = rate / 60.0;
                let filled = self.now.duration_since(self.filled).as_secs_f64() * per_second;
                self.tokens = (self.tokens + filled).min(self.hidden.burst());
                self.filled = self.now;
                if self.tokens < 1.0 {
                    return Err(Duration::from_secs_f64((1.0 - self.tokens) / per_second));
                }
                self.tokens -= 1.0;
            }
        }
        Ok(())
    }
}
