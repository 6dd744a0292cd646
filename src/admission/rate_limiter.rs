//! Requests a minute: a bucket that holds a whole minute's count and refills evenly (GCRA), as `OpenAI`'s do.
//!
//! The limiter of governor decides; it says nothing between two decisions, so where the bucket stands is read from the
//! one number it keeps, the theoretical arrival time of the next request.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// The door of one client. `C` is monotonic time.
#[derive(Debug)]
pub(super) struct Door<C: Clock = DefaultClock> {
    limiter: RateLimiter<NotKeyed, Arrival, C, NoOpMiddleware<C::Instant>>,
    arrival: Arrival,
    /// What the limiter measures times from.
    start: C::Instant,
    per_minute: NonZeroU32,
}

/// Where a client stands with its requests a minute, as `x-ratelimit-*-requests` tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestRate {
    pub(crate) limit: u32,
    /// So many may come now.
    pub(crate) remaining: u32,
    /// Until the whole limit may come at once, if none comes meanwhile.
    pub(crate) reset: Duration,
}

/// When the next request is due in theory, since the start; `None` before the first.
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

impl Door {
    pub(super) fn new(per_minute: NonZeroU32) -> Self {
        Self::with_clock(per_minute, DefaultClock::default())
    }
}

impl<C: Clock> Door<C> {
    fn with_clock(per_minute: NonZeroU32, clock: C) -> Self {
        let arrival = Arrival::default();
        let start = clock.now();
        let limiter = RateLimiter::new(Quota::per_minute(per_minute), arrival.clone(), clock);
        Self { limiter, arrival, start, per_minute }
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// When the next one is let in. One that is refused does not count.
    pub(super) fn knock(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|refused| refused.wait_time_from(self.limiter.clock().now()))
    }

    pub(super) fn rate(&self) -> RequestRate {
        let now = self.limiter.clock().now().duration_since(self.start).as_u64();
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

    fn door(per_minute: u32) -> (Door<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Door::with_clock(NonZeroU32::new(per_minute).unwrap(), clock.clone()), clock)
    }

    #[test]
    fn a_whole_minutes_count_may_come_at_once_and_waiting_as_told_is_enough() {
        let (door, clock) = door(6);
        assert_eq!(door.rate(), RequestRate { limit: 6, remaining: 6, reset: Duration::ZERO });
        for left in (0..6).rev() {
            assert_eq!(door.knock(), Ok(()));
            let reset = Duration::from_secs(10 * (6 - u64::from(left)));
            assert_eq!(door.rate(), RequestRate { limit: 6, remaining: left, reset });
        }
        assert_eq!(door.knock(), Err(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(4));
        assert_eq!(door.knock(), Err(Duration::from_secs(6)), "a refused one did not count");
        assert_eq!(door.rate(), RequestRate { limit: 6, remaining: 0, reset: Duration::from_secs(56) });
        clock.advance(Duration::from_secs(6));
        assert_eq!(door.rate().remaining, 1);
        assert_eq!(door.knock(), Ok(()));
        clock.advance(Duration::from_mins(1));
        assert_eq!(door.rate(), RequestRate { limit: 6, remaining: 6, reset: Duration::ZERO });
    }

    proptest! {
        #[test]
        fn no_window_lets_more_in_than_the_bucket_and_its_refill(
            per_minute in 1_u32..200,
            pauses in prop::collection::vec(0_u64..20_000, 1..300),
        ) {
            let (door, clock) = door(per_minute);
            let mut now = 0;
            let mut admitted = Vec::new();
            for pause in pauses {
                clock.advance(Duration::from_millis(pause));
                now += pause;
                let told = door.rate().remaining;
                let verdict = door.knock();
                prop_assert_eq!(verdict.is_ok(), told > 0, "the header said {}", told);
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
