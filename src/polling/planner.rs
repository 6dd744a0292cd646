//! When to ask for a prediction next, so that the expected wait of the client is smallest for the polls spent.
//!
//! This is inspection theory: a failure shows only when somebody looks, a look costs something, and so does the time
//! between failure and look. For costs that are linear in both, Barlow, Hunter and Proschan give the exact conditions
//! ("Optimum checking procedures", J. SIAM 11, 1963, 1078-1095). Keller lets looks be a density and finds it by the
//! calculus of variations ("Optimum checking schedules for systems subject to random failure", Management Science 21,
//! 1974, 256-260): for a hazard rate `h` and a look that costs `c` seconds of waiting, looks `sqrt(2c / h)` apart.
//! Each second then costs `sqrt(2ch)`, half for looks and half for lateness. Nothing is asked while `h` is nearly zero.
//!
//! The exact schedule depends wildly on its first member, the density forgets that looks are whole. So the next poll is
//! chosen exactly and only what comes after it is taken from the density (one step of policy improvement): with `F` the
//! probability of being done, given what is known, and `S = 1 - F`, the poll at `x` costs
//!
//! ```text
//!  integral of F up to x  +  integral of sqrt(2 c f S) beyond x  +  c S(x) / 2
//! ```
//!
//! (the last term because the poll that finds it done comes, on average, half an interval more). Its derivative in `x`
//! is `F - sqrt(2 c f S) - c f / 2`; one pass over the bins finds the minimum. Where the square root asks for polls
//! closer than `min_interval`, the density is that of `min_interval`.
//!
//! The bounds:
//! - Never sooner than `min_interval` after the last poll.
//! - Never silent: once a completion has become plausible, the next poll comes within `longest_interval` or a seventh of
//!   the age, whatever the costs say.
//! - Nothing known, or working long beyond everything known: growing intervals, a seventh of the age.
//!
//! Scarcity multiplies the cost of a poll, so a poll that is unlikely to find anything is left out first.

use std::time::Duration;

use super::latency::SurvivalEstimate;

/// Growth where nothing is known: the part of the age that the next poll is away. The lateness then is about a
/// fourteenth of the generation time.
const GROWTH: f64 = 1.0 / 7.0;

/// A completion is plausible from this probability on.
const PLAUSIBLE: f64 = 0.05;

/// Below this probability of working so long, what is known has been refuted.
const REFUTED: f64 = 1e-5;

/// How polls are spent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollPlanner {
    /// Between two polls of one prediction.
    pub(crate) min_interval: Duration,
    /// Between two polls from when a completion is plausible.
    pub(crate) longest_interval: Duration,
    /// The age of the first poll where nothing is known.
    pub(crate) first_poll: Duration,
    /// What one poll is worth in waiting time.
    pub(crate) poll_cost: Duration,
}

impl PollPlanner {
    /// The age at which to ask next, later than `age_now`. `asked` is the age of the last poll that found the prediction
    /// working, zero if none did. `scarcity` of polls, at least 1, multiplies their cost.
    ///
    /// A poll that failed teaches nothing: leave `asked` as it was.
    pub(crate) fn next(&self, known: &SurvivalEstimate, asked: Duration, age_now: Duration, scarcity: f64) -> Duration {
        let (asked, now) = (asked.as_secs_f64(), age_now.as_secs_f64());
        let interval = self.min_interval.as_secs_f64();
        // The answer takes its time; if it was quick, the interval counts from the asking.
        let last = if asked > 0.0 && now < asked + interval { asked } else { now };
        let earliest = (last + interval).max(now + 0.001);
        let working = known.survival(asked);
        let next = if known.is_nothing() || working < REFUTED {
            self.grown(now)
        } else {
            self.best(known, working, earliest, scarcity.max(1.0))
        };
        Duration::from_secs_f64(next.max(earliest))
    }

    /// The probability that a prediction is done at `age`, given that it worked at `asked`.
    pub(crate) fn chance_done(&self, known: &SurvivalEstimate, asked: Duration, age: Duration) -> f64 {
        let (asked, age) = (asked.as_secs_f64(), age.as_secs_f64());
        let working = known.survival(asked);
        if known.is_nothing() || working < REFUTED {
            // As likely to end within any doubling of its age.
            let from = asked.max(self.first_poll.as_secs_f64() / 2.0).max(1e-3);
            return 1.0 - (from / age.max(from));
        }
        ((working - known.survival(age)) / working).clamp(0.0, 1.0)
    }

    /// The growing pauses of those of whom nothing is known.
    fn grown(&self, now: f64) -> f64 {
        let first = self.first_poll.as_secs_f64();
        if now < first {
            return first;
        }
        now + self.pause(now)
    }

    fn pause(&self, age: f64) -> f64 {
        (age * GROWTH).min(self.longest_interval.as_secs_f64()).max(self.min_interval.as_secs_f64())
    }

    /// The best age from `earliest` on. Probabilities are not divided by `working`: all of them have it in common.
    fn best(&self, known: &SurvivalEstimate, working: f64, earliest: f64, scarcity: f64) -> f64 {
        let cost = self.poll_cost.as_secs_f64() * scarcity;
        // As all intervals that the square root sets.
        let longest = self.longest_interval.as_secs_f64() * scarcity.sqrt();
        let interval = self.min_interval.as_secs_f64();
        // Per second, of polls spaced by the density and of the lateness between them.
        let rate = |density: f64, survival: f64| {
            let by_density = (2.0 * cost * density * survival).sqrt();
            // Polls `sqrt(2 cost survival / density)` apart, that is 2 cost survival / by_density.
            if by_density * interval > 2.0 * cost * survival {
                cost * survival / interval + density * interval / 2.0
            } else {
                by_density
            }
        };
        let mut latest = f64::INFINITY;
        let (mut sum, mut least, mut best) = (0.0, 0.0, earliest);
        for bin in SurvivalEstimate::bin(earliest)..SurvivalEstimate::bins() {
            let (edge, end) = SurvivalEstimate::edges(bin);
            let (before, after) = known.ends(bin);
            let density = (before - after) / (end - edge);
            let left = edge.max(earliest);
            if latest.is_infinite() && working - after > PLAUSIBLE * working {
                latest = left + (left * GROWTH).max(longest);
            }
            let right = end.min(latest);
            if right <= left {
                if left >= latest {
                    break;
                }
                continue;
            }
            let middle = before - density * (f64::midpoint(left, right) - edge);
            let later = rate(density, middle) + cost * density / 2.0;
            let falling = working - before + density * (left - edge) - later;
            let rising = falling + density * (right - left);
            if falling < 0.0 && rising > 0.0 {
                let root = left - falling * (right - left) / (rising - falling);
                let there = sum + falling * (root - left) / 2.0;
                if there < least {
                    (least, best) = (there, root);
                }
            }
            sum += f64::midpoint(falling, rising) * (right - left);
            if sum < least {
                (least, best) = (sum, right);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::super::latency::{LatencyClass, LatencyModel, LatencyPriors};
    use super::*;

    const PLANNER: PollPlanner = PollPlanner {
        min_interval: Duration::from_secs(1),
        longest_interval: Duration::from_secs(10),
        first_poll: Duration::from_secs(5),
        poll_cost: Duration::from_millis(100),
    };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn class() -> LatencyClass {
        LatencyClass::new("gpt-image-2", "image-edit", "medium", 1024 * 1024, 1)
    }

    /// Between 50 and 100 s.
    fn learned() -> LatencyModel {
        let mut latencies = LatencyModel::new(LatencyPriors::None);
        for one in 0..90 {
            let at = 50.0 + 50.0 * (f64::from(one) * 0.618_034).fract();
            let _ = latencies.observe(&class(), seconds(at - 0.5), seconds(at + 0.5));
        }
        latencies
    }

    /// The ages of all polls of a prediction that works for `takes` seconds.
    fn polls(known: &SurvivalEstimate, takes: f64, scarcity: f64) -> Vec<f64> {
        let mut ages = vec![0.0];
        while ages[ages.len() - 1] < takes {
            let age = seconds(ages[ages.len() - 1]);
            ages.push(PLANNER.next(known, age, age, scarcity).as_secs_f64());
        }
        ages
    }

    fn pauses(ages: &[f64]) -> Vec<f64> {
        ages.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn where_nothing_is_known_pauses_grow_between_their_bounds() {
        let nothing = SurvivalEstimate::default();
        let ages = polls(&nothing, 300.0, 1.0);
        assert_eq!(ages[1].to_bits(), 5.0_f64.to_bits());
        let pauses = pauses(&ages[1..]);
        assert!(pauses.is_sorted_by(|a, b| *a <= *b + 1e-6), "{pauses:?}");
        assert!((pauses[0] - 1.0).abs() < 1e-6 && (pauses[pauses.len() - 1] - 10.0).abs() < 1e-6, "{pauses:?}");
    }

    #[test]
    fn nothing_is_asked_before_an_answer_is_likely_and_then_often() {
        let mut latencies = learned();
        let ages = polls(latencies.known(&class()), 99.0, 1.0);
        let early = ages.iter().filter(|&&age| age > 0.0 && age < 40.0).count();
        assert!(early <= 2, "{ages:?}");
        let within: Vec<f64> = ages.iter().copied().filter(|&age| age > 52.0).collect();
        assert!(pauses(&within).iter().all(|&pause| (1.0..6.0).contains(&pause)), "{ages:?}");
    }

    #[test]
    fn never_sooner_than_the_least_interval() {
        let mut latencies = learned();
        let known = latencies.known(&class());
        for tenth in 1..2000 {
            let age = f64::from(tenth) / 10.0;
            for (asked, now) in [(age, age), (age, age + 0.3), (0.0, age), (age, age + 5.0)] {
                for known in [known, &SurvivalEstimate::default()] {
                    let next = PLANNER.next(known, seconds(asked), seconds(now), 1.0).as_secs_f64();
                    assert!(next > now && next - asked > 0.999_999, "{asked} {now}: {next}");
                }
            }
        }
    }

    #[test]
    fn never_silent_however_long_it_takes() {
        let mut latencies = learned();
        let known = latencies.known(&class());
        for scarcity in [1.0, 4.0] {
            let longest = 10.0 * f64::sqrt(scarcity);
            for age in (50..20_000).map(f64::from) {
                let next = PLANNER.next(known, seconds(age), seconds(age), scarcity).as_secs_f64();
                let most = longest.max(age / 7.0) + age * 0.06;
                assert!(next - age <= most, "at {age}: {next}");
            }
        }
    }

    #[test]
    fn a_prior_alone_is_hedged() {
        let mut latencies = LatencyModel::new(LatencyPriors::Measured);
        let high = LatencyClass::new("gpt-image-2", "image-edit", "high", 1024 * 1024, 1);
        let ages = polls(latencies.known(&high), 130.0, 1.0);
        let early = ages.iter().filter(|&&age| age > 0.0 && age < 110.0).count();
        assert!((3..20).contains(&early), "{ages:?}");
    }

    #[test]
    fn scarce_polls_are_fewer() {
        let mut latencies = learned();
        let known = latencies.known(&class());
        let numbers = [1.0, 4.0, 16.0].map(|scarcity| polls(known, 90.0, scarcity).len());
        assert!(numbers[0] > numbers[1] && numbers[1] > numbers[2], "{numbers:?}");
    }

    #[test]
    fn chances_rise_with_the_age_and_fall_with_what_was_asked() {
        let mut latencies = learned();
        for known in [latencies.known(&class()), &SurvivalEstimate::default()] {
            let rng = |asked, age| PLANNER.chance_done(known, seconds(asked), seconds(age));
            for age in (0..3000).map(f64::from) {
                assert!((0.0..=1.0).contains(&rng(0.0, age)));
                assert!(rng(0.0, age) <= rng(0.0, age + 1.0));
                assert!(rng(age, age) < 1e-9 || age < 5.0, "at {age}");
            }
        }
        let known = latencies.known(&class());
        let half = PLANNER.chance_done(known, Duration::ZERO, seconds(75.0));
        assert!((0.4..0.6).contains(&half), "{half}");
        assert!(PLANNER.chance_done(known, seconds(74.0), seconds(75.0)) < 0.1);
    }
}
