//! The learned limit of one dimension, and the pair of them that an account has.
//!
//! - **The level at a refusal is the limit**, if that dimension was the reason: the refused submit would have been one more.
//!   So no binary search is needed, as AIMD does one. The direction of the steps is that of Chiu and Jain ("Analysis of the
//!   increase and decrease algorithms for congestion avoidance in computer networks", 1989): decrease at once, increase one
//!   by one.
//! - **At most halved within a window**: a refusal after a long pause would find little in flight.
//! - **The gain of an increase is provisional**: a token bucket accepts more from its savings, and an end that the gateway
//!   has not seen yet admits one more. Refused again soon, the limit falls to the throughput between the two refusals (the
//!   bucket was empty both times, so that is its rate), but not below where the increase began.
//!
//! Both dimensions take the same steps. Where these differ in size, the difference is a method of [`Dimension`].

use tokio::time::Instant;

use super::bounds::{Bounds, floor, real};
use super::load::{Checkpoint, Dimension, Load};

/// The smallest learned rate, in submits per window.
pub(super) const RATE_MIN: f64 = 0.05;
/// The concurrency limit is raised after this many acceptances above it: a single one may have been accepted because of an
/// end that the gateway had not seen yet.
const ACCEPTED_ABOVE: u32 = 4;
/// The step of the concurrency limit doubles up to this fraction of the limit.
const STEP_FRACTION: f64 = 8.0;
/// The gain of an increase is provisional for this many windows.
const PROVISIONAL_WINDOWS: u32 = 2;
/// A proven level this much above the last one is a gain.
const GAINED: f64 = 1.1;
/// A limit below this fraction of what it was a window ago is searched for again.
const FALLEN: f64 = 0.75;
/// A transient refusal is evidence against a limit that was used from this fraction on ...
const NEARLY: f64 = 0.75;
/// ... and costs one, or this fraction of a rate.
const NUDGE: f64 = 0.02;
/// How much faster than its limit a rate is used while it increases ...
const INCREASE_SPACING: f64 = 1.25;
/// ... if it is this large, in submits per window: below it, one more is a large step already.
const INCREASE_SPACING_FROM: f64 = 20.0;

/// The limit of one dimension, as configured and as learned.
#[derive(Clone, Debug)]
pub(super) struct LearnedLimit {
    dimension: Dimension,
    bounds: Bounds,
    /// Absent: as configured, because the upstream never refused for it.
    limit: Option<f64>,
    /// The most that was used for long without a refusal; 0 at first.
    proven: f64,
    /// Until when the gain of the last increase is provisional.
    provisional_until: Option<Instant>,
    /// The limit at the first decrease within a window.
    before_decrease: Option<(Instant, f64)>,
    /// When it was last exceeded.
    exceeded: Option<Checkpoint>,
    /// Acceptances above the limit since it was raised or found.
    accepted_above: u32,
    /// The next increase.
    step: f64,
}

impl Dimension {
    fn configured(self, bounds: &Bounds) -> f64 {
        match self {
            Self::Concurrency => real(bounds.concurrency),
            Self::Rate => bounds.rate(),
        }
    }

    /// Returns the limit that is nearest to `limit` from below, or the smallest one.
    fn valid(self, limit: f64) -> f64 {
        match self {
            Self::Concurrency => limit.floor().max(1.0),
            Self::Rate => limit.max(RATE_MIN),
        }
    }

    /// Returns the acceptances above a limit that raise it.
    fn accepted_above(self) -> u32 {
        match self {
            Self::Concurrency => ACCEPTED_ABOVE,
            Self::Rate => 1,
        }
    }

    /// Returns the largest increase of `limit`.
    fn step_max(self, limit: f64) -> f64 {
        match self {
            Self::Concurrency => 1.0 + (limit / STEP_FRACTION).floor(),
            Self::Rate => 1.0,
        }
    }

    /// Returns what a transient refusal costs.
    fn nudge(self, limit: f64) -> f64 {
        match self {
            Self::Concurrency => 1.0,
            Self::Rate => (limit * NUDGE).max(1.0),
        }
    }
}

impl LearnedLimit {
    pub(super) fn new(dimension: Dimension, bounds: Bounds, learned: Option<f64>) -> Self {
        let mut limit = Self {
            dimension,
            bounds,
            limit: None,
            proven: 0.0,
            provisional_until: None,
            before_decrease: None,
            exceeded: None,
            accepted_above: 0,
            step: 1.0,
        };
        if let Some(learned) = learned {
            limit.set(learned);
        }
        limit
    }

    /// Returns the limit, where one was learned.
    pub(super) fn learned(&self) -> Option<f64> {
        self.limit
    }

    /// Returns the largest level within the limit, where one was learned.
    pub(super) fn allowed(&self) -> Option<usize> {
        self.limit.map(floor)
    }

    /// Whether one more submit at this level is above the limit.
    pub(super) fn is_exceeded(&self, level: usize) -> bool {
        self.allowed().is_some_and(|allowed| level >= allowed)
    }

    /// Whether the limit was increased so recently that a refusal takes the gain back.
    pub(super) fn is_unproven(&self, increasing: bool, now: Instant) -> bool {
        let above_proven = self.limit.is_some_and(|limit| limit > self.proven);
        self.is_provisional(now) || (increasing && above_proven)
    }

    /// Whether the limit is far below what it was before its last decreases.
    pub(super) fn is_fallen(&self) -> bool {
        self.limit.zip(self.before_decrease).is_some_and(|(limit, (_, before))| limit < before * FALLEN)
    }

    /// Raises the limit after enough acceptances above it. A limit as large as the configured one is forgotten.
    pub(super) fn increase(&mut self) {
        let Some(limit) = self.limit else { return };
        self.accepted_above += 1;
        if self.accepted_above >= self.dimension.accepted_above() {
            self.accepted_above = 0;
            let raised = limit + self.step;
            self.step = (self.step * 2.0).min(self.dimension.step_max(raised));
            self.set(raised);
        }
    }

    /// Starts the next increase with the smallest step, after a refusal.
    pub(super) fn restart_increase(&mut self) {
        self.accepted_above = 0;
        self.step = 1.0;
    }

    /// Lowers the limit to `level`, at which a submit was refused. `increasing`: while it was being increased. Returns
    /// whether the gain of the increase before is lost.
    pub(super) fn decrease(&mut self, level: usize, increasing: bool, now: Checkpoint) -> bool {
        let Some(limit) = self.limit else { return false };
        let lost = self.is_provisional(now.at) && !increasing;
        let below = if lost { self.sustained(level, now).min(limit - 1.0) } else { real(level).min(limit) };
        let half = self.before_decrease(limit, now.at) / 2.0;
        self.provisional_until = increasing.then(|| now.at + self.bounds.window * PROVISIONAL_WINDOWS);
        self.exceeded = Some(now);
        self.set(below.max(self.proven).max(half));
        lost
    }

    /// Sets the limit to `level`, at which a submit was refused that no known limit explained. A refusal raises no limit.
    pub(super) fn find(&mut self, level: usize, now: Checkpoint) {
        let before = self.limit.unwrap_or(self.dimension.configured(&self.bounds));
        let half = self.limit.map_or(0.0, |limit| self.before_decrease(limit, now.at) / 2.0);
        // Nothing at all was counted: slower than one per window.
        let found = if level == 0 { before.min(1.0) / 2.0 } else { real(level) };
        self.proven = 0.0;
        self.provisional_until = None;
        self.exceeded = Some(now);
        self.set(found.min(before).max(half));
    }

    /// Lowers a limit of which `level` uses nearly all a little, not below what is proven, after a transient refusal.
    pub(super) fn nudge(&mut self, level: usize) {
        if let Some(limit) = self.limit
            && real(level) >= limit * NEARLY
        {
            self.set((limit - self.dimension.nudge(limit)).max(self.proven));
        }
    }

    /// Marks `level` as proven. Returns whether that is a gain.
    pub(super) fn prove(&mut self, level: usize) -> bool {
        let Some(limit) = self.limit else { return false };
        let used = real(level).min(limit);
        let gained = used > self.proven * GAINED;
        self.proven = self.proven.max(used);
        gained
    }

    fn is_provisional(&self, now: Instant) -> bool {
        self.limit.is_some() && self.provisional_until.is_some_and(|until| now < until)
    }

    /// Returns the limit that decreases within a window are measured against.
    fn before_decrease(&mut self, limit: f64, now: Instant) -> f64 {
        match self.before_decrease {
            Some((at, before)) if now.saturating_duration_since(at) < self.bounds.window => before,
            _ => {
                self.before_decrease = Some((now, limit));
                limit
            }
        }
    }

    /// Returns the level that was sustained since the limit was last exceeded: of a rate, the submits per window.
    fn sustained(&self, level: usize, now: Checkpoint) -> f64 {
        match (self.dimension, self.exceeded) {
            (Dimension::Concurrency, _) => real(level),
            (Dimension::Rate, None) => f64::INFINITY,
            (Dimension::Rate, Some(Checkpoint { at, accepted })) => {
                let windows = now.at.saturating_duration_since(at).as_secs_f64() / self.bounds.window.as_secs_f64();
                real(usize::try_from(now.accepted - accepted).unwrap_or(usize::MAX)) / windows.max(f64::EPSILON)
            }
        }
    }

    /// Sets the limit. With one as large as the configured one, nothing is left of what was learned.
    fn set(&mut self, limit: f64) {
        let limit = self.dimension.valid(limit);
        if limit < self.dimension.configured(&self.bounds) {
            self.limit = Some(limit);
        } else {
            *self = Self::new(self.dimension, self.bounds, None);
        }
    }
}

/// The two limits of an account.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) concurrency: LearnedLimit,
    /// In submits per window.
    pub(super) rate: LearnedLimit,
}

/// The result of a refusal for the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decrease {
    /// A limit explains the refusal, and was lowered.
    pub(super) explained: bool,
    /// The gain of the increase before is lost.
    pub(super) lost: bool,
}

impl Limits {
    /// Builds the limits. `rate` is in submits per window.
    pub(super) fn new(bounds: Bounds, concurrency: Option<usize>, rate: Option<f64>) -> Self {
        Self {
            concurrency: LearnedLimit::new(Dimension::Concurrency, bounds, concurrency.map(real)),
            rate: LearnedLimit::new(Dimension::Rate, bounds, rate.filter(|rate| rate.is_finite())),
        }
    }

    /// Whether one of them was learned.
    pub(super) fn is_known(&self) -> bool {
        self.concurrency.limit.is_some() || self.rate.limit.is_some()
    }

    /// Whether one of them is far below what it was.
    pub(super) fn is_fallen(&self) -> bool {
        self.concurrency.is_fallen() || self.rate.is_fallen()
    }

    /// Returns the rate that submits are spaced by, where one was learned. While it increases, it is faster than the limit,
    /// because the count in a window would otherwise never exceed that.
    pub(super) fn spacing(&self, increasing: bool) -> Option<f64> {
        let rate = self.rate.limit?;
        Some(if increasing && rate >= INCREASE_SPACING_FROM { rate * INCREASE_SPACING } else { rate })
    }

    /// Raises what an accepted submit was above. Returns whether there is one.
    pub(super) fn increase(&mut self, load: &Load) -> bool {
        let mut above = false;
        for limit in self.both().into_iter().filter(|limit| limit.is_exceeded(load.tested(limit.dimension))) {
            limit.increase();
            above = true;
        }
        above
    }

    /// Lowers the limits that a refused submit was above, or else those whose increase is the reason.
    pub(super) fn decrease(&mut self, load: &Load, increasing: bool, now: Checkpoint) -> Decrease {
        let exceeded = |limit: &LearnedLimit| limit.is_exceeded(load.tested(limit.dimension));
        let any = exceeded(&self.concurrency) || exceeded(&self.rate);
        let mut decrease = Decrease { explained: false, lost: false };
        for limit in self.both() {
            limit.restart_increase();
            if exceeded(limit) || (!any && limit.is_unproven(increasing, now.at)) {
                decrease.lost |= limit.decrease(load.accepted(limit.dimension), increasing, now);
                decrease.explained = true;
            }
        }
        decrease
    }

    /// Lowers what is nearly used a little, after a transient refusal.
    pub(super) fn nudge(&mut self, load: &Load) {
        for limit in self.both() {
            limit.nudge(load.expected(limit.dimension));
        }
    }

    /// Marks as proven what an accepted submit made use of. Returns whether that is a gain.
    pub(super) fn prove(&mut self, load: &Load) -> bool {
        self.both().into_iter().fold(false, |gained, limit| limit.prove(load.accepted(limit.dimension) + 1) || gained)
    }

    /// Sets the limit of one dimension.
    pub(super) fn find(&mut self, dimension: Dimension, level: usize, now: Checkpoint) {
        match dimension {
            Dimension::Concurrency => self.concurrency.find(level, now),
            Dimension::Rate => self.rate.find(level, now),
        }
    }

    fn both(&mut self) -> [&mut LearnedLimit; 2] {
        [&mut self.concurrency, &mut self.rate]
    }
}
