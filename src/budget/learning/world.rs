//! A small world for tests: hidden upstreams of several kinds, a client whose demand never ends, time turned by hand.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::*;

/// A hidden rate, a minute.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    Fixed,
    Sliding,
    /// Holds ten seconds' worth.
    Bucket,
}

/// What the upstream takes from a moment on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hidden {
    pub(super) rate: Option<(Rule, f64)>,
    pub(super) concurrent: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) hidden: Hidden,
    /// What it becomes at half-time.
    pub(super) then: Option<Hidden>,
    /// Seconds from acceptance to the end, evenly spread.
    pub(super) generation: (f64, f64),
    /// Share of 429s that mean nothing.
    pub(super) hiccups: f64,
    pub(super) retry_after: bool,
    /// The gateway starts again at half-time; what was in flight is adopted.
    pub(super) restart: bool,
    pub(super) minutes: u32,
    pub(super) seed: u64,
}

/// Seconds from letting go to the upstream's decision.
pub(super) const UPLOAD: (f64, f64) = (0.2, 3.0);
/// Seconds from the end of a prediction until we learn of it.
const NOTICED: (f64, f64) = (0.0, 2.0);

pub(super) const BOUNDS: Bounds = Bounds {
    submits_per_minute: 600.0,
    concurrent: 500,
    window: Duration::from_mins(1),
    pushback: Duration::from_secs(5),
    pushback_max: Duration::from_mins(2),
};

/// What came of it, minute by minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Minute {
    pub(super) accepted: usize,
    pub(super) refused: usize,
    pub(super) hiccups: usize,
    /// Predictions held by the upstream, times seconds.
    pub(super) held_s: f64,
}

enum Event {
    Wake,
    Arrives(Departure),
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

struct World {
    scenario: Scenario,
    hidden: Hidden,
    random: StdRng,
    start: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<Later>>,
    serial: u64,
    // The upstream's side.
    times: VecDeque<Instant>,
    ends: Vec<Instant>,
    tokens: f64,
    filled: Instant,
    // Ours.
    /// The configured rate, with ten seconds' worth at once.
    due: Instant,
    learner: Learner,
    outstanding: usize,
    wake: Option<Instant>,
    minutes: Vec<Minute>,
}

/// Plays a scenario. Returns every minute of it.
pub(super) fn play(scenario: Scenario) -> (Vec<Minute>, Learner) {
    let start = Instant::now();
    let mut world = World {
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
        learner: Learner::new(BOUNDS, None, start),
        outstanding: 0,
        wake: None,
        minutes: vec![Minute::default(); scenario.minutes as usize],
    };
    world.run();
    (world.minutes, world.learner)
}

impl Hidden {
    fn burst(&self) -> f64 {
        self.rate.map_or(0.0, |(_, rate)| (rate / 6.0).ceil())
    }

    /// The most that a client told all numbers could get accepted in a minute: a place is taken from letting go to
    /// noticing the end.
    pub(super) fn ideal(&self, generation: (f64, f64)) -> f64 {
        let mean = |(from, to): (f64, f64)| f64::midpoint(from, to);
        let taken = mean(UPLOAD) + mean(generation) + mean(NOTICED);
        let by_rate = self.rate.map_or(f64::INFINITY, |(_, rate)| rate);
        let by_places = self.concurrent.map_or(f64::INFINITY, |places| real(places) * 60.0 / taken);
        by_rate.min(by_places)
    }
}

impl World {
    fn run(&mut self) {
        let minutes = self.scenario.minutes;
        let end = self.start + Duration::from_mins(u64::from(minutes));
        self.at(self.start + Duration::from_mins(u64::from(minutes / 2)), Event::Changes);
        self.go();
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
                Event::Arrives(departure) => self.arrives(departure),
                Event::Ends => self.ends.retain(|&ends| ends > at),
                Event::Noticed => self.outstanding -= 1,
                Event::Changes => self.changes(),
            }
            self.go();
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

    /// Accounts for what the upstream held up to `at`.
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
            let words = serde_json::to_string(&self.learner.learned()).unwrap();
            self.learner = Learner::new(BOUNDS, Some(serde_json::from_str(&words).unwrap()), self.now);
            // Those in the air are lost with the process; the upstream never saw them whole.
            let before = self.events.len();
            self.events.retain(|Reverse(later)| !matches!(later.2, Event::Arrives(_)));
            self.outstanding -= before - self.events.len();
        }
    }

    fn wake(&mut self, at: Instant) {
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            self.at(at, Event::Wake);
        }
    }

    /// Lets go what may go.
    fn go(&mut self) {
        loop {
            match self.learner.next(self.outstanding, self.now) {
                Permission::Now => {
                    if let Some(at) = self.due.checked_sub(Duration::from_secs(10)).filter(|&at| at > self.now) {
                        return self.wake(at);
                    }
                    self.due = self.due.max(self.now) + Duration::from_mins(1).div_f64(BOUNDS.submits_per_minute);
                    let departure = self.learner.left(self.outstanding, self.now);
                    self.outstanding += 1;
                    let upload = self.between(UPLOAD);
                    self.at(self.now + upload, Event::Arrives(departure));
                }
                Permission::At(at) => {
                    assert!(at > self.now, "a moment that is past is now");
                    return self.wake(at);
                }
                Permission::WhenOneEnds => {
                    assert!(self.outstanding > 0, "nothing will end");
                    return;
                }
                Permission::WhenAnswered => {
                    assert!(self.learner.in_air > 0, "nothing will be answered");
                    return;
                }
            }
        }
    }

    fn arrives(&mut self, departure: Departure) {
        let hiccup = self.random.random::<f64>() < self.scenario.hiccups;
        let verdict = if hiccup { Err(Duration::from_secs(1)) } else { self.decide() };
        match verdict {
            Ok(()) => {
                self.minute().accepted += 1;
                let generation = self.between(self.scenario.generation);
                let noticed = self.between(NOTICED);
                let ends = self.now + generation;
                self.ends.push(ends);
                self.at(ends, Event::Ends);
                self.at(ends + noticed, Event::Noticed);
                self.learner.accepted(departure, self.outstanding, self.now);
            }
            Err(wait) => {
                if hiccup {
                    self.minute().hiccups += 1;
                } else {
                    self.minute().refused += 1;
                }
                // Whole seconds, rounded up, as the header has them.
                let told = Duration::from_secs_f64(wait.as_secs_f64().ceil());
                let told = self.scenario.retry_after.then_some(told);
                self.learner.refused(departure, self.outstanding, told, self.now);
                self.outstanding -= 1;
            }
        }
    }

    /// The upstream's own rules, or how long to wait.
    fn decide(&mut self) -> Result<(), Duration> {
        let minute = Duration::from_mins(1);
        if let Some(places) = self.hidden.concurrent
            && self.ends.len() >= places
        {
            let mut ends = self.ends.clone();
            ends.sort_unstable();
            return Err(ends[ends.len() - places].duration_since(self.now));
        }
        let Some((rule, rate)) = self.hidden.rate else { return Ok(()) };
        let limit = whole(rate);
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
                // Windows that do not begin when we do.
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
