//! The price of polls: how much more expensive a poll is while polls are limited.
//!
//! Plans answer only with the next poll of each purchase, so a quick controller would swing between too many plans and
//! too few. This one has a slow part, which finds where plans and the poll rate agree, and a quick one, which follows
//! the backlog: the time that the ready purchases would take at the present rate of polls. (The longest wait would not
//! do: unlikely purchases wait on purpose.)

use std::time::Duration;

use tokio::time::Instant;

/// The backlog aimed at: there is always a purchase to poll, and none waits long.
const BACKLOG_AIM: Duration = Duration::from_millis(500);

/// Time in which the slow part grows or falls by a factor of e.
const SLOW_TIME: Duration = Duration::from_mins(1);

/// Time over which the rate of polls is averaged.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// The backlog at which the quick part multiplies by four.
const QUICK_BACKLOG: Duration = Duration::from_secs(2);

/// The highest price; above it the queue's rule against starvation decides anyway.
const PRICE_MAX: f64 = 1000.0;

/// How much more expensive a poll is than usual: rises while ready purchases wait for a poll, and falls back when none
/// do.
#[derive(Clone, Copy, Debug, Default)]
pub struct PollPrice {
    /// The natural logarithm of the slow part.
    slow: f64,
    /// Polls a second, averaged.
    rate: f64,
    /// Seconds of polls that are ready.
    backlog: f64,
    updated: Option<Instant>,
}

impl PollPrice {
    /// Takes in how many purchases are `ready` and wait for a poll, and how many were `polled` since the last update.
    pub fn update(&mut self, now: Instant, ready: usize, polled: usize) {
        let passed = self.updated.map_or(0.0, |updated| now.saturating_duration_since(updated).as_secs_f64());
        self.updated = Some(now);
        let number = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let window = RATE_WINDOW.as_secs_f64();
        self.rate = self.rate * (-passed / window).exp() + number(polled) / window;
        self.backlog = if ready == 0 { 0.0 } else { number(ready) / self.rate.max(1.0 / window) };
        let off = self.backlog / BACKLOG_AIM.as_secs_f64() - 1.0;
        self.slow = (self.slow + off.min(1.0) * passed / SLOW_TIME.as_secs_f64()).clamp(0.0, PRICE_MAX.ln());
    }

    /// Returns the factor on the cost of a poll, at least 1.
    #[must_use]
    pub fn multiplier(&self) -> f64 {
        let quick = (1.0 + self.backlog / QUICK_BACKLOG.as_secs_f64()).powi(2);
        (self.slow.exp() * quick).min(PRICE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_rises_with_the_backlog_and_falls_after_it() {
        let mut price = PollPrice::default();
        let mut now = Instant::now();
        let mut after = |minutes: u64, ready| {
            for _ in 0..minutes * 60 {
                now += Duration::from_secs(1);
                price.update(now, ready, 10);
            }
            price.multiplier()
        };
        assert_eq!(after(5, 0).to_bits(), 1.0_f64.to_bits());
        // Two seconds of polls are ready: four times as expensive at once, and more if that does not help.
        let risen = after(1, 20);
        assert!((8.0..14.0).contains(&risen), "{risen}");
        let settled = after(5, 5);
        assert!((2.0..8.0).contains(&settled), "{settled}");
        assert_eq!(after(10, 0).to_bits(), 1.0_f64.to_bits());
        assert!(after(100, 10_000) <= PRICE_MAX);
    }
}
