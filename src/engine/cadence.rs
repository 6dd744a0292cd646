//! When to ask next: nothing before an answer is likely, then pauses that grow by a quarter up to a longest one.
//!
//! Measured at the upstream: low quality 23 s, medium 49 to 107 s, high 134 to 147 s for one picture of 1024 x 1024;
//! polls faster than one in 1 to 3 s bring 429 (`wire/gptproto.md` §7).

use std::time::Duration;

use crate::config::UpstreamConfig;

/// The pauses between polls of one prediction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    first: Duration,
    step: Duration,
    longest: Duration,
}

/// Growth of the pause from one poll to the next.
const GROWTH: f64 = 1.25;

impl Cadence {
    pub(super) fn new(config: &UpstreamConfig) -> Self {
        Self {
            first: config.first_poll,
            step: config.min_poll_interval,
            longest: config.longest_poll_interval.max(config.min_poll_interval),
        }
    }

    /// The pause before the poll that follows `polls` earlier ones. `chance` in 0..1 spreads predictions that were
    /// submitted together by up to a tenth.
    pub(super) fn pause(&self, polls: u32, chance: f64) -> Duration {
        if polls == 0 {
            return self.first.mul_f64(1.0 + 0.1 * chance);
        }
        let grown = self.step.as_secs_f64() * GROWTH.powi(i32::try_from(polls - 1).unwrap_or(i32::MAX));
        let pause = Duration::try_from_secs_f64(grown).unwrap_or(self.longest).min(self.longest);
        pause.mul_f64(1.0 + 0.1 * chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_bounds() {
        let cadence =
            Cadence { first: Duration::from_secs(5), step: Duration::from_secs(2), longest: Duration::from_secs(10) };
        let pauses: Vec<f64> = (0..6).map(|polls| cadence.pause(polls, 0.0).as_secs_f64()).collect();
        assert_eq!(pauses, [5.0, 2.0, 2.5, 3.125, 3.90625, 4.882_812_5]);
        assert_eq!(cadence.pause(u32::MAX, 0.0), Duration::from_secs(10));
        assert_eq!(cadence.pause(50, 1.0), Duration::from_secs(11));
    }
}
