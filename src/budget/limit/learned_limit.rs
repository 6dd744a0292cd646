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
//! Both dimensions take the same steps. Where these differ in size, the size is a method of [`Dimension`].

use tokio::time::Instant;

use super::bounds::{Bounds, floor, real};
use super::dimension::{Dimension, Load, Progress};

/// The gain of an increase is provisional for this many windows.
const PROVISIONAL_WINDOWS: u32 = 2;
/// A proven level this much above the last one is a gain.
const GAINED: f64 = 1.1;
/// A limit below this fraction of what it was a window ago is searched for again.
const FALLEN: f64 = 0.75;
/// A transient refusal is evidence against a limit that was used from this fraction on.
const NEARLY: f64 = 0.75;
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
    exceeded: Option<Progress>,
    /// Acceptances above the limit since it was raised or found.
    accepted_above: u32,
    /// The next increase.
    step: f64,
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
    pub(super) fn decrease(&mut self, level: usize, increasing: bool, now: Progress) -> bool {
        let Some(limit) = self.limit else { return false };
        let lost = self.is_provisional(now.at) && !increasing;
        let below = if lost {
            let sustained = self.dimension.sustained(level, self.exceeded, now, self.bounds.window);
            sustained.min(limit - 1.0)
        } else {
            real(level).min(limit)
        };
        let half = self.before_decrease(limit, now.at) / 2.0;
        self.provisional_until = increasing.then(|| now.at + self.bounds.window * PROVISIONAL_WINDOWS);
        self.exceeded = Some(now);
        self.set(below.max(self.proven).max(half));
        lost
    }

    /// Sets the limit to `level`, at which a submit was refused that no known limit explained. A refusal raises no limit.
    pub(super) fn find(&mut self, level: usize, now: Progress) {
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
        self.provisional_until.is_some_and(|until| now < until)
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

/// Changes the configured bounds. What was learned holds as far as it is below them.
pub(super) fn set_bounds(of: &mut LearnedLimit, bounds: Bounds) {
    of.bounds = bounds;
    if let Some(limit) = of.limit {
        of.set(limit);
    }
}

/// The two limits of an account.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) concurrency: LearnedLimit,
    /// In submits per window.
    pub(super) rate: LearnedLimit,
}

/// What a refusal did to the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RefusalOutcome {
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
    pub(super) fn decrease(&mut self, load: &Load, increasing: bool, now: Progress) -> RefusalOutcome {
        let exceeded = |limit: &LearnedLimit| limit.is_exceeded(load.tested(limit.dimension));
        let any = exceeded(&self.concurrency) || exceeded(&self.rate);
        let mut outcome = RefusalOutcome { explained: false, lost: false };
        for limit in self.both() {
            limit.restart_increase();
            if exceeded(limit) || (!any && limit.is_unproven(increasing, now.at)) {
                outcome.lost |= limit.decrease(load.accepted(limit.dimension), increasing, now);
                outcome.explained = true;
            }
        }
        outcome
    }

    /// Lowers what is nearly used a little, after a transient refusal.
    pub(super) fn nudge(&mut self, load: &Load) {
        for limit in self.both() {
            limit.nudge(load.expected(limit.dimension));
        }
    }

    /// Marks as proven what an accepted submit made use of. Returns whether that is a gain.
    pub(super) fn prove(&mut self, load: &Load) -> bool {
        let mut gained = false;
        for limit in self.both() {
            gained |= limit.prove(load.accepted(limit.dimension) + 1);
        }
        gained
    }

    /// Sets the limit of one dimension.
    pub(super) fn find(&mut self, dimension: Dimension, level: usize, now: Progress) {
        match dimension {
            Dimension::Concurrency => self.concurrency.find(level, now),
            Dimension::Rate => self.rate.find(level, now),
        }
    }

    fn both(&mut self) -> [&mut LearnedLimit; 2] {
        [&mut self.concurrency, &mut self.rate]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::budget::limit::dimension::RATE_MIN;

    const BOUNDS: Bounds = Bounds {
        submits_per_minute: 600.0,
        concurrency: 500,
        window: Duration::from_mins(1),
        pushback: Duration::from_secs(5),
        pushback_max: Duration::from_mins(2),
    };
    const BOTH: [Dimension; 2] = [Dimension::Concurrency, Dimension::Rate];

    fn at(at: Instant, accepted: u64) -> Progress {
        Progress { at, accepted }
    }

    fn limit(dimension: Dimension, learned: f64) -> LearnedLimit {
        LearnedLimit::new(dimension, BOUNDS, Some(learned))
    }

    #[test]
    fn what_was_learned_is_brought_within_the_bounds() {
        use Dimension::{Concurrency, Rate};
        for (dimension, learned, expected) in [
            (Concurrency, 0.0, Some(1.0)),
            (Concurrency, 499.0, Some(499.0)),
            (Concurrency, 500.0, None),
            (Rate, -3.0, Some(RATE_MIN)),
            (Rate, 0.01, Some(RATE_MIN)),
            (Rate, 2.5, Some(2.5)),
            (Rate, 600.0, None),
        ] {
            assert_eq!(limit(dimension, learned).learned(), expected, "{dimension:?} {learned}");
        }
        let limits = Limits::new(BOUNDS, Some(usize::MAX), Some(f64::NAN));
        assert!(!limits.is_known());
    }

    #[test]
    fn a_level_is_above_a_limit_from_the_limit_on() {
        for dimension in BOTH {
            let unknown = LearnedLimit::new(dimension, BOUNDS, None);
            assert!(!unknown.is_exceeded(usize::MAX), "where none is known, none is exceeded");
            let known = limit(dimension, 10.0);
            assert_eq!([9, 10, 11].map(|level| known.is_exceeded(level)), [false, true, true], "{dimension:?}");
        }
        // Slower than one per window: one is allowed, and spacing does the rest.
        assert_eq!([0, 1].map(|level| limit(Dimension::Rate, 0.2).is_exceeded(level)), [false, true]);
    }

    #[test]
    fn an_increase_takes_one_acceptance_of_a_rate_and_four_of_the_concurrency_with_doubling_steps() {
        let mut rate = limit(Dimension::Rate, 20.0);
        let mut concurrency = limit(Dimension::Concurrency, 20.0);
        let mut raised = Vec::new();
        for round in 1..=16_u32 {
            rate.increase();
            concurrency.increase();
            if round % 4 == 0 {
                raised.push(concurrency.learned().unwrap());
            } else {
                assert_eq!(concurrency.learned(), Some(raised.last().copied().unwrap_or(20.0)), "{round}");
            }
        }
        assert_eq!(rate.learned(), Some(36.0));
        // Steps of 1, 2, and then at most an eighth more than one.
        assert_eq!(raised, [21.0, 23.0, 26.0, 30.0]);
        concurrency.restart_increase();
        for _ in 0..4 {
            concurrency.increase();
        }
        assert_eq!(concurrency.learned(), Some(31.0), "after a refusal the smallest step");
    }

    #[test]
    fn a_limit_raised_to_the_configured_one_is_forgotten() {
        let now = Instant::now();
        for (dimension, learned) in [(Dimension::Concurrency, 499.0), (Dimension::Rate, 599.0)] {
            let mut raised = limit(dimension, learned);
            raised.decrease(490, true, at(now, 0));
            raised.set(learned);
            for _ in 0..4 {
                raised.increase();
            }
            assert_eq!(raised.learned(), None, "{dimension:?}");
            assert!(!raised.is_unproven(true, now) && !raised.is_fallen() && !raised.prove(10));
            raised.find(30, at(now, 0));
            assert_eq!(raised.learned(), Some(30.0), "nothing of before is left that halves it");
        }
    }

    #[test]
    fn a_decrease_ends_at_the_level_but_not_below_what_is_proven_or_half() {
        let now = Instant::now();
        for dimension in BOTH {
            for (level, proven, expected) in [
                (18, 0, 18.0),
                (20, 0, 20.0),
                // A probe above the limit.
                (25, 0, 20.0),
                (12, 15, 15.0),
                (3, 0, 10.0),
                (0, 0, 10.0),
            ] {
                let mut decreased = limit(dimension, 20.0);
                decreased.prove(proven);
                assert!(!decreased.decrease(level, false, at(now, 0)), "there was no gain to lose");
                assert_eq!(decreased.learned(), Some(expected), "{dimension:?}: {level}, {proven}");
            }
        }
        let mut odd = limit(Dimension::Concurrency, 5.0);
        odd.decrease(0, false, at(now, 0));
        assert_eq!(odd.learned(), Some(2.0), "a whole number");
    }

    #[test]
    fn a_limit_is_halved_once_in_a_window() {
        let start = Instant::now();
        for dimension in BOTH {
            let mut halved = limit(dimension, 40.0);
            halved.decrease(0, false, at(start, 0));
            assert!(halved.is_fallen());
            halved.decrease(0, false, at(start + BOUNDS.window / 2, 0));
            assert_eq!(halved.learned(), Some(20.0), "{dimension:?}");
            halved.find(1, at(start + BOUNDS.window / 2, 0));
            assert_eq!(halved.learned(), Some(20.0), "nor by a new limit");
            halved.decrease(0, false, at(start + BOUNDS.window, 0));
            assert_eq!(halved.learned(), Some(10.0), "{dimension:?}");
        }
    }

    #[test]
    fn a_gain_is_lost_by_a_second_refusal_within_two_windows() {
        let start = Instant::now();
        for dimension in BOTH {
            // After two minutes the gain stands, and the limit falls to the level only.
            for (wait, lost) in [(Duration::from_secs(90), true), (BOUNDS.window * PROVISIONAL_WINDOWS, false)] {
                let mut increased = limit(dimension, 30.0);
                assert!(!increased.decrease(30, true, at(start, 100)), "the refusal that ends an increase");
                assert!(increased.is_unproven(false, start));
                assert_eq!(increased.is_unproven(false, start + wait), lost);
                // Of a rate, 36 submits were accepted in a window and a half.
                assert_eq!(increased.decrease(28, false, at(start + wait, 136)), lost, "{dimension:?}");
                let expected = match (lost, dimension) {
                    (true, Dimension::Rate) => 24.0,
                    (true, Dimension::Concurrency) | (false, _) => 28.0,
                };
                assert_eq!(increased.learned(), Some(expected), "{dimension:?} {wait:?}");
                assert!(!increased.is_unproven(false, start + wait), "lost once");
            }
            // At least one is lost, and while it increases again none.
            let mut increased = limit(dimension, 30.0);
            increased.decrease(30, true, at(start, 0));
            assert!(increased.decrease(30, false, at(start, 1000)));
            assert_eq!(increased.learned(), Some(29.0), "{dimension:?}");
            increased.decrease(29, true, at(start, 1000));
            assert!(!increased.decrease(29, true, at(start, 2000)));
            assert_eq!(increased.learned(), Some(29.0), "{dimension:?}");
        }
    }

    #[test]
    fn a_found_limit_is_the_level_and_raises_no_known_one() {
        let now = Instant::now();
        for dimension in BOTH {
            for (known, level, expected) in [
                (None, 7, Some(7.0)),
                (None, 600, None),
                (Some(20.0), 12, Some(12.0)),
                (Some(20.0), 3, Some(10.0)),
                (Some(20.0), 30, Some(20.0)),
            ] {
                let mut found = LearnedLimit::new(dimension, BOUNDS, known);
                found.prove(15);
                found.find(level, at(now, 0));
                assert_eq!(found.learned(), expected, "{dimension:?}: {known:?}, {level}");
                found.decrease(1, false, at(now, 0));
                assert!(found.learned() < Some(12.0), "nothing is proven of a limit that was just found");
            }
        }
        let mut slow = LearnedLimit::new(Dimension::Rate, BOUNDS, None);
        for expected in [0.5, 0.25, 0.25] {
            slow.find(0, at(now, 0));
            assert_eq!(slow.learned(), Some(expected), "slower than one per window");
        }
    }

    #[test]
    fn what_was_used_is_proven_up_to_the_limit() {
        for dimension in BOTH {
            let mut proven = limit(dimension, 20.0);
            // The level, and whether it is more than a tenth above the last one.
            for (level, gained) in
                [(10, true), (10, false), (11, false), (13, true), (12, false), (30, true), (20, false)]
            {
                assert_eq!(proven.prove(level), gained, "{dimension:?}: {level}");
            }
            assert!(!proven.is_unproven(true, Instant::now()), "all of it");
            proven.increase();
            for _ in 0..3 {
                proven.increase();
            }
            assert!(proven.is_unproven(true, Instant::now()) && !proven.is_unproven(false, Instant::now()));
        }
    }

    #[test]
    fn a_transient_refusal_lowers_a_nearly_used_limit_a_little() {
        use Dimension::{Concurrency, Rate};
        for (dimension, learned, level, proven, expected) in [
            (Concurrency, 100.0, 75, 0, 99.0),
            (Concurrency, 100.0, 74, 0, 100.0),
            (Concurrency, 100.0, 90, 100, 100.0),
            (Concurrency, 1.0, 1, 0, 1.0),
            (Rate, 100.0, 75, 0, 98.0),
            (Rate, 100.0, 74, 0, 100.0),
            (Rate, 100.0, 90, 99, 99.0),
            (Rate, 20.0, 20, 0, 19.0),
            (Rate, 0.5, 1, 0, RATE_MIN),
        ] {
            let mut nudged = limit(dimension, learned);
            nudged.prove(proven);
            nudged.nudge(level);
            assert_eq!(nudged.learned(), Some(expected), "{dimension:?} {learned}: {level}, {proven}");
        }
    }

    #[test]
    fn a_refusal_lowers_what_was_exceeded_and_a_recent_increase_only_where_nothing_was() {
        let start = Instant::now();
        let now = at(start, 100);
        let load = |held, counted| Load { held, counted, unacknowledged: 4, probe: false };
        let explained = |lost| RefusalOutcome { explained: true, lost };
        let not = RefusalOutcome { explained: false, lost: false };
        // Held, counted, increasing; the result, and both limits.
        for (held, counted, increasing, expected, limits) in [
            (9, 39, false, not, (10.0, 40.0)),
            (10, 39, false, explained(false), (10.0, 40.0)),
            (12, 45, false, explained(false), (10.0, 40.0)),
            // Neither was exceeded while the limits increased: what is not proven is lowered.
            (8, 30, true, explained(false), (8.0, 30.0)),
            // One was exceeded: the other is left alone.
            (8, 40, true, explained(false), (10.0, 40.0)),
            (10, 30, true, explained(false), (10.0, 40.0)),
        ] {
            let mut both = Limits::new(BOUNDS, Some(10), Some(40.0));
            let case = format!("{held}, {counted}, {increasing}");
            assert_eq!(both.decrease(&load(held, counted), increasing, now), expected, "{case}");
            assert_eq!((both.concurrency.learned(), both.rate.learned()), (Some(limits.0), Some(limits.1)), "{case}");
        }
        // A probe is compared with the unacknowledged submits too.
        let mut both = Limits::new(BOUNDS, Some(10), Some(40.0));
        let probe = Load { probe: true, ..load(6, 30) };
        assert!(both.decrease(&probe, false, now).explained);
        assert_eq!((both.concurrency.learned(), both.rate.learned()), (Some(6.0), Some(40.0)));
        // The gain of either is lost.
        let mut both = Limits::new(BOUNDS, Some(10), Some(40.0));
        both.decrease(&load(8, 30), true, now);
        assert_eq!(both.decrease(&load(5, 20), false, now), explained(true));
        assert_eq!(both.concurrency.learned(), Some(5.0));
    }

    #[test]
    fn an_acceptance_raises_what_it_was_above() {
        let load = |held, counted| Load { held, counted, unacknowledged: 2, probe: false };
        let mut both = Limits::new(BOUNDS, Some(10), Some(40.0));
        assert!(!both.increase(&load(9, 39)));
        assert!(both.increase(&load(9, 40)));
        assert_eq!((both.concurrency.learned(), both.rate.learned()), (Some(10.0), Some(41.0)));
        for _ in 0..4 {
            assert!(both.increase(&Load { probe: true, ..load(8, 38) }), "with the unacknowledged submits");
        }
        assert_eq!((both.concurrency.learned(), both.rate.learned()), (Some(11.0), Some(41.0)));
        assert!(both.prove(&load(10, 40)));
        both.decrease(&load(11, 41), true, at(Instant::now(), 0));
        assert_eq!((both.concurrency.learned(), both.rate.learned()), (Some(11.0), Some(41.0)), "all is proven");
    }

    #[test]
    fn a_refusal_restarts_the_increase_of_both() {
        let load = |held| Load { held, counted: 0, unacknowledged: 0, probe: false };
        let mut both = Limits::new(BOUNDS, Some(10), None);
        let mut raised = Vec::new();
        // The refusal says nothing about either; without it the second step would be of two.
        for _ in 0..2 {
            for held in 20..24 {
                both.increase(&load(held));
            }
            raised.push(both.concurrency.learned());
            both.decrease(&load(0), false, at(Instant::now(), 0));
        }
        assert_eq!(raised, [Some(11.0), Some(12.0)]);
    }

    #[test]
    fn unacknowledged_submits_count_as_use_for_a_transient_refusal() {
        for (unacknowledged, concurrency, rate) in [(4, 20.0, 40.0), (5, 19.0, 40.0), (10, 19.0, 39.0)] {
            let mut both = Limits::new(BOUNDS, Some(20), Some(40.0));
            both.nudge(&Load { held: 10, counted: 20, unacknowledged, probe: false });
            assert_eq!((both.concurrency.learned(), both.rate.learned()), (Some(concurrency), Some(rate)));
        }
    }

    #[test]
    fn submits_are_spaced_by_the_rate_and_closer_while_it_increases() {
        for (rate, increasing, expected) in [
            (None, true, None),
            (Some(40.0), false, Some(40.0)),
            (Some(40.0), true, Some(50.0)),
            (Some(20.0), true, Some(25.0)),
            (Some(19.0), true, Some(19.0)),
        ] {
            assert_eq!(Limits::new(BOUNDS, None, rate).spacing(increasing), expected, "{rate:?} {increasing}");
        }
    }
}
