//! When to poll a purchase next, so that the expected wait of the client is smallest for the polls spent.
//!
//! This is inspection theory: a failure shows only at an inspection, an inspection costs something, and so does the
//! time between failure and inspection. For costs that are linear in both, Barlow, Hunter and Proschan give the exact
//! conditions ("Optimum checking procedures", J. SIAM 11, 1963, 1078-1095). Keller makes inspections a density and
//! finds it by the calculus of variations ("Optimum checking schedules for systems subject to random failure",
//! Management Science 21, 1974, 256-260): for a hazard rate `h` and an inspection that costs `c` seconds of waiting,
//! inspections are `sqrt(2c / h)` apart. Each second then costs `sqrt(2ch)`, half for inspections and half for
//! lateness. There are no polls while `h` is nearly zero.
//!
//! The exact schedule depends wildly on its first member; the density ignores that inspections are whole. So the next
//! poll is chosen exactly and only what comes after it is taken from the density (one step of policy improvement): with
//! `F` the probability of being done, given what is known, and `S = 1 - F`, the poll at `x` costs
//!
//! ```text
//!  integral of F up to x  +  integral of sqrt(2 c f S) beyond x  +  c S(x) / 2
//! ```
//!
//! (the last term because the poll that finds the purchase done adds, on average, half an interval). Its derivative in
//! `x` is `F - sqrt(2 c f S) - c f / 2`; one pass over the bins finds the minimum. Where the square root asks for polls
//! closer than `min_interval`, the density is that of `min_interval`.
//!
//! The bounds:
//! - Never sooner than `min_interval` after the last poll.
//! - Never later than `max_interval` or a seventh of the age, once a completion has become plausible, whatever the
//!   costs are.
//! - Growing intervals, a seventh of the age, where nothing is known or the purchase works far beyond everything known.
//!
//! The price of polls multiplies the cost, so a poll that is unlikely to find anything is left out first.

use std::time::Duration;

use super::latency::SurvivalEstimate;

/// Growth where nothing is known: the part of the age until the next poll. The lateness then is about a
/// fourteenth of the generation time.
const GROWTH: f64 = 1.0 / 7.0;

/// A completion is plausible from this probability on.
const PLAUSIBLE: f64 = 0.05;

/// Below this probability of working this long, the estimate has been refuted.
const REFUTED: f64 = 1e-5;

/// Growth of the pause from one failed poll to the next, and the share of it that is left to chance.
const BACKOFF: f64 = 1.5;
const BACKOFF_SPREAD: f64 = 0.1;

/// How polls are spent.
#[derive(Clone, Copy, Debug)]
pub struct PollPlanner {
    /// The shortest time between two polls of one purchase.
    pub min_interval: Duration,
    /// The longest time between two polls once a completion is plausible.
    pub max_interval: Duration,
    /// The age at the first poll where nothing is known.
    pub first_poll: Duration,
    /// What one poll is worth in waiting time.
    pub poll_cost: Duration,
}

impl PollPlanner {
    /// Returns the pause after `troubles` failures in a row, at least one. `spread` is from 0 to 1, at random: purchases
    /// that failed together are then not polled together.
    #[must_use]
    pub fn backoff(&self, troubles: u32, spread: f64) -> Duration {
        let growth = BACKOFF.powi(i32::try_from(troubles.saturating_sub(1)).unwrap_or(i32::MAX));
        let grown = self.min_interval.as_secs_f64() * growth * (1.0 + BACKOFF_SPREAD * spread);
        Duration::try_from_secs_f64(grown).unwrap_or(self.max_interval).min(self.max_interval)
    }

    /// Returns the age at the next poll, later than `age_now`. `working_at` is the age at which a poll last found the
    /// purchase working, zero before (it works when it is accepted). `price` is at least 1 and multiplies the cost of a
    /// poll.
    ///
    /// A poll that failed teaches nothing: leave `working_at` as it was.
    #[must_use]
    pub fn next(&self, estimate: &SurvivalEstimate, working_at: Duration, age_now: Duration, price: f64) -> Duration {
        let (working_at, now) = (working_at.as_secs_f64(), age_now.as_secs_f64());
        let interval = self.min_interval.as_secs_f64();
        // The interval counts from the request, unless the answer took longer than that.
        let last = if working_at > 0.0 && now < working_at + interval { working_at } else { now };
        let earliest = (last + interval).max(now + 0.001);
        let working = estimate.survival(working_at);
        let next = if estimate.is_empty() || working < REFUTED {
            self.grown(now)
        } else {
            self.best(estimate, working, earliest, price.max(1.0))
        };
        Duration::from_secs_f64(next.max(earliest))
    }

    /// Returns the probability that a purchase is done at `age`, given that it worked at `working_at`.
    #[must_use]
    pub fn chance_done(&self, estimate: &SurvivalEstimate, working_at: Duration, age: Duration) -> f64 {
        let (working_at, age) = (working_at.as_secs_f64(), age.as_secs_f64());
        let working = estimate.survival(working_at);
        if estimate.is_empty() || working < REFUTED {
            // As likely to end within any doubling of its age.
            let from = working_at.max(self.first_poll.as_secs_f64() / 2.0).max(1e-3);
            return 1.0 - (from / age.max(from));
        }
        ((working - estimate.survival(age)) / working).clamp(0.0, 1.0)
    }

    /// The growing pauses where nothing is known.
    fn grown(&self, now: f64) -> f64 {
        let first = self.first_poll.as_secs_f64();
        if now < first {
            return first;
        }
        now + self.pause(now)
    }

    fn pause(&self, age: f64) -> f64 {
        (age * GROWTH).min(self.max_interval.as_secs_f64()).max(self.min_interval.as_secs_f64())
    }

    /// Returns the best age from `earliest` on. Probabilities are not divided by `working`: all have it in common.
    fn best(&self, estimate: &SurvivalEstimate, working: f64, earliest: f64, price: f64) -> f64 {
        let cost = self.poll_cost.as_secs_f64() * price;
        // It grows like all intervals that the square root sets.
        let longest = self.max_interval.as_secs_f64() * price.sqrt();
        let interval = self.min_interval.as_secs_f64();
        // The cost a second of polls spaced by the density and of the lateness between them.
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
            let (before, after) = estimate.ends(bin);
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
mod tests;
