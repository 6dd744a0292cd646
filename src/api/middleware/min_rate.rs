//! The minimum rate of a body (`server.body_bytes_per_second_min`).
//!
//! A client has a credit of time, the whole window (`server.body_rate_window_s`) at the start. Waiting for its bytes uses up
//! credit; its bytes earn the time they would take at the minimum rate, and the credit never exceeds the window. So a
//! client below the rate over the window fails, one that only pauses does not, and a fast start earns no hour of silence.
//! The time in which the gateway writes what arrived does not count.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::config::BodyConfig;

/// The time credit of one body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MinRateCheck {
    /// `None` accepts any rate.
    bytes_per_second_min: Option<NonZeroU64>,
    credit: Duration,
    window: Duration,
}

impl MinRateCheck {
    pub(crate) fn new(bodies: &BodyConfig) -> Self {
        let window = bodies.rate_window;
        Self { bytes_per_second_min: bodies.bytes_per_second_min, credit: window, window }
    }

    /// Returns the same check with a window of at most `window_max`.
    pub(crate) fn with_window_max(self, window_max: Duration) -> Self {
        Self { credit: self.credit.min(window_max), window: self.window.min(window_max), ..self }
    }

    /// Returns the minimum rate in bytes per second, 0 without one.
    pub(crate) fn bytes_per_second_min(&self) -> u64 {
        self.bytes_per_second_min.map_or(0, NonZeroU64::get)
    }

    /// Returns how long the next bytes may still take; `None` without a limit.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.bytes_per_second_min.map(|_| self.credit)
    }

    /// Records bytes that arrived, and how long they were waited for.
    pub(crate) fn received(&mut self, bytes: usize, waited: Duration) {
        let Some(bytes_per_second_min) = self.bytes_per_second_min else { return };
        let nanos = (bytes as u128) * 1_000_000_000 / u128::from(bytes_per_second_min.get());
        let earned = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.credit = self.credit.saturating_sub(waited).saturating_add(earned).min(self.window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::server;

    const SECOND: Duration = Duration::from_secs(1);

    fn check(bytes_per_second_min: u64) -> MinRateCheck {
        let mut config = server().bodies;
        config.bytes_per_second_min = NonZeroU64::new(bytes_per_second_min);
        config.rate_window = 10 * SECOND;
        MinRateCheck::new(&config)
    }

    /// Returns the second in which a client fails that sends `bytes` each second.
    fn fails_after(check: &mut MinRateCheck, bytes: usize) -> Option<u32> {
        (1..1000).find(|_| {
            if check.time_left().is_some_and(|left| left < SECOND) {
                return true;
            }
            check.received(bytes, SECOND);
            false
        })
    }

    #[test]
    fn a_client_below_the_rate_over_the_window_fails_and_no_sooner() {
        assert_eq!(fails_after(&mut check(1000), 0), Some(11));
        assert_eq!(fails_after(&mut check(1000), 1), Some(11));
        assert_eq!(fails_after(&mut check(1000), 500), Some(20));
        assert_eq!(fails_after(&mut check(1000), 1000), None);
        assert_eq!(fails_after(&mut check(0), 0), None);
        assert_eq!(check(0).time_left(), None);
    }

    #[test]
    fn a_fast_start_earns_no_more_than_the_window() {
        let mut check = check(1000);
        check.received(1 << 30, SECOND);
        assert_eq!(check.time_left(), Some(10 * SECOND));
        check.received(5000, 9 * SECOND);
        assert_eq!(check.time_left(), Some(6 * SECOND), "a pause is made up for by what follows");
        assert_eq!(check.with_window_max(2 * SECOND).time_left(), Some(2 * SECOND));
    }
}
