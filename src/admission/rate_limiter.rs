//! Requests per minute: a bucket that holds the requests of a whole minute and refills evenly (GCRA), as at `OpenAI`.
//!
//! Governor decides. It reports no state between two decisions, so the state of the bucket is read from the one number it
//! keeps, the theoretical arrival time of the next request.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter as Governor};

/// The limiter of one client. `C` is monotonic time.
#[derive(Debug)]
pub(super) struct RateLimiter<C: Clock = DefaultClock> {
    governor: Governor<NotKeyed, Arrival, C, NoOpMiddleware<C::Instant>>,
    arrival: Arrival,
    /// The origin of the times that governor keeps.
    start: C::Instant,
    per_minute: NonZeroU32,
}

/// The state of a client's requests per minute, as in the headers `x-ratelimit-*-requests`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestRate {
    pub(crate) limit: u32,
    /// How many are allowed now.
    pub(crate) remaining: u32,
    /// The time until the whole limit is allowed at once, if there are no requests meanwhile.
    pub(crate) reset: Duration,
}

impl RequestRate {
    /// Returns the number of requests that count at present.
    pub(super) fn used(&self) -> u32 {
        self.limit - self.remaining
    }
}

/// The theoretical arrival time of the next request, since the start; `None` before the first.
#[derive(Clone, Debug, Default)]
struct Arrival(Arc<Mutex<Option<Nanos>>>);

impl StateStore for Arrival {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (decision, next) = decide(*due)?;
        *due = Some(next);
        Ok(decision)
    }
}

impl RateLimiter {
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        Self::with_clock(per_minute, DefaultClock::default())
    }

    /// Returns a limiter with another limit, in which the requests that another one has counted are counted.
    pub(super) fn after(other: &Self, per_minute: NonZeroU32) -> Self {
        let limiter = Self::new(per_minute);
        limiter.count_used(other.rate().used());
        limiter
    }
}

impl<C: Clock> RateLimiter<C> {
    fn with_clock(per_minute: NonZeroU32, clock: C) -> Self {
        let arrival = Arrival::default();
        let start = clock.now();
        let governor = Governor::new(Quota::per_minute(per_minute), arrival.clone(), clock);
        Self { governor, arrival, start, per_minute }
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// The time until the next one is allowed. A refused request is not counted.
    pub(super) fn check(&self) -> Result<(), Duration> {
        self.governor.check().map_err(|refused| refused.wait_time_from(self.governor.clock().now()))
    }

    pub(super) fn per_minute(&self) -> NonZeroU32 {
        self.per_minute
    }

    /// Counts requests that were made before the first one here.
    fn count_used(&self, used: u32) {
        let now = self.governor.clock().now().duration_since(self.start).as_u64();
        let each = Nanos::from(Quota::per_minute(self.per_minute).replenish_interval()).as_u64();
        let owed = each.saturating_mul(u64::from(used.min(self.per_minute.get())));
        *self.arrival.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Nanos::from(now.saturating_add(owed)));
    }

    pub(super) fn rate(&self) -> RequestRate {
        let now = self.governor.clock().now().duration_since(self.start).as_u64();
        let due = self.arrival.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(0, Nanos::as_u64);
        let owed = due.saturating_sub(now);
        let each = Nanos::from(Quota::per_minute(self.per_minute).replenish_interval()).as_u64();
        let used = u32::try_from(owed.div_ceil(each)).unwrap_or(u32::MAX);
        RequestRate {
            limit: self.per_minute.get(),
            remaining: self.per_minute.get().saturating_sub(used),
            reset: Duration::from_nanos(owed),
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    use super::*;

    fn limiter(per_minute: u32) -> (RateLimiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (RateLimiter::with_clock(NonZeroU32::new(per_minute).unwrap(), clock.clone()), clock)
    }

    #[test]
    fn a_burst_of_a_whole_minute_is_allowed_and_the_named_wait_is_enough() {
        let (limiter, clock) = limiter(6);
        assert_eq!(limiter.rate(), RequestRate { limit: 6, remaining: 6, reset: Duration::ZERO });
        for remaining in (0..6).rev() {
            assert_eq!(limiter.check(), Ok(()));
            let reset = Duration::from_secs(10 * (6 - u64::from(remaining)));
            assert_eq!(limiter.rate(), RequestRate { limit: 6, remaining, reset });
        }
        assert_eq!(limiter.check(), Err(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(4));
        assert_eq!(limiter.check(), Err(Duration::from_secs(6)), "a refused request is not counted");
        assert_eq!(limiter.rate(), RequestRate { limit: 6, remaining: 0, reset: Duration::from_secs(56) });
        clock.advance(Duration::from_secs(6));
        assert_eq!(limiter.rate().remaining, 1);
        assert_eq!(limiter.check(), Ok(()));
        clock.advance(Duration::from_mins(1));
        assert_eq!(limiter.rate(), RequestRate { limit: 6, remaining: 6, reset: Duration::ZERO });
    }

    #[test]
    fn another_limit_keeps_what_was_counted() {
        let (limiter, clock) = limiter(6);
        (0..4).for_each(|_| assert_eq!(limiter.check(), Ok(())));
        for (per_minute, remaining) in [(6, 2), (10, 6), (4, 0), (2, 0)] {
            let other = RateLimiter::with_clock(NonZeroU32::new(per_minute).unwrap(), clock.clone());
            other.count_used(limiter.rate().used());
            assert_eq!((other.rate().remaining, other.check().is_ok()), (remaining, remaining > 0), "{per_minute}");
        }
    }

    proptest! {
        #[test]
        fn no_window_allows_more_than_the_bucket_and_its_refill(
            per_minute in 1_u32..200,
            pauses in prop::collection::vec(0_u64..20_000, 1..300),
        ) {
            let (limiter, clock) = limiter(per_minute);
            let mut now = 0;
            let mut admitted = Vec::new();
            for pause in pauses {
                clock.advance(Duration::from_millis(pause));
                now += pause;
                let remaining = limiter.rate().remaining;
                let verdict = limiter.check();
                prop_assert_eq!(verdict.is_ok(), remaining > 0, "the header said {}", remaining);
                if let Err(wait) = verdict {
                    prop_assert!(wait > Duration::ZERO && wait <= Duration::from_mins(1));
                } else {
                    admitted.push(now);
                }
            }
            for (first, &from) in admitted.iter().enumerate() {
                for (last, &to) in admitted.iter().enumerate().skip(first) {
                    // A millisecond more: the refill is rounded to whole nanoseconds.
                    let most = u64::from(per_minute) + u64::from(per_minute) * (to - from + 1) / 60_000;
                    prop_assert!((last - first + 1) as u64 <= most, "{} in {} ms", last - first + 1, to - from);
                }
            }
        }
    }
}
