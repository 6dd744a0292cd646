//! The configured rates of an account: governor's GCRA on the runtime's clock.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

/// A rate that allows a burst of calls at once, and then evenly spaced ones.
#[derive(Debug)]
struct Rate {
    limiter: RateLimiter<NotKeyed, InMemoryState, RuntimeClock, StateInformationMiddleware>,
    /// The time before which no call is allowed.
    free_at: Option<Instant>,
}

/// The runtime's monotonic time, which tests can advance.
#[derive(Clone, Copy, Debug, Default)]
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}

impl Rate {
    /// Allows `per_minute` calls, of which those of a time of `burst` may come at once: at least one.
    fn new(per_minute: NonZeroU32, burst: Duration) -> Self {
        let at_once = u128::from(per_minute.get()) * burst.as_millis() / 60_000;
        let at_once = NonZeroU32::new(u32::try_from(at_once).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(per_minute).allow_burst(at_once);
        let limiter = RateLimiter::direct_with_clock(quota, RuntimeClock);
        Self { limiter: limiter.with_middleware(), free_at: None }
    }

    /// Whether [`Rate::take`] would succeed now.
    ///
    /// # Errors
    ///
    /// The time when it would.
    fn ready(&self, now: Instant) -> Result<(), Instant> {
        self.free_at.filter(|&at| at > now).map_or(Ok(()), Err)
    }

    /// Takes one call.
    ///
    /// # Errors
    ///
    /// The time when there is one.
    fn take(&mut self) -> Result<(), Instant> {
        self.ready(Instant::now())?;
        let taken = self.try_take();
        match taken {
            // Another attempt at an exhausted rate takes nothing and returns the time when it is ready again.
            Ok(0) => self.free_at = self.try_take().err(),
            Ok(_) => self.free_at = None,
            Err(at) => self.free_at = Some(at),
        }
        taken.map(drop)
    }

    /// Takes one call. Returns how many more could be taken at once.
    fn try_take(&self) -> Result<u32, Instant> {
        let taken = self.limiter.check();
        // One nanosecond later than governor says: a call at exactly that time is only sometimes allowed.
        let until = |at| Instant::from_std(at) + Duration::from_nanos(1);
        taken.map(|left| left.remaining_burst_capacity()).map_err(|not_until| until(not_until.earliest_possible()))
    }
}

/// The two configured rates of an account.
#[derive(Debug)]
pub(super) struct CallRates {
    submits: Rate,
    /// Submits and polls together.
    requests: Rate,
    /// Both, as they were configured, in calls per minute.
    configured: (NonZeroU32, NonZeroU32),
}

impl CallRates {
    pub(super) fn new(submits_per_minute: NonZeroU32, requests_per_minute: NonZeroU32, burst: Duration) -> Self {
        Self {
            submits: Rate::new(submits_per_minute, burst),
            requests: Rate::new(requests_per_minute, burst),
            configured: (submits_per_minute, requests_per_minute),
        }
    }

    /// Replaces rates that are others now. They begin with a full burst.
    pub(super) fn change(&mut self, submits_per_minute: NonZeroU32, requests_per_minute: NonZeroU32, burst: Duration) {
        if self.configured != (submits_per_minute, requests_per_minute) {
            *self = Self::new(submits_per_minute, requests_per_minute, burst);
        }
    }

    /// Takes a call of both rates.
    ///
    /// # Errors
    ///
    /// The time when both have one.
    pub(super) fn take_submit(&mut self, now: Instant) -> Result<(), Instant> {
        // Both or neither: a call that was taken cannot be returned.
        self.submits.ready(now)?;
        self.requests.ready(now)?;
        self.submits.take()?;
        self.requests.take()
    }

    /// Takes a call of the rate of all calls.
    ///
    /// # Errors
    ///
    /// The time when there is one.
    pub(super) fn take_poll(&mut self) -> Result<(), Instant> {
        self.requests.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the calls arrive, no window has more than the burst and the rate of that time.
        #[test]
        fn no_window_has_more_calls_than_burst_and_rate(
            per_minute in 1_u32..2000,
            burst_s in 0_u64..30,
            pauses in proptest::collection::vec(0_u64..3000, 1..300),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let admitted = runtime.block_on(async {
                let mut rate = Rate::new(NonZeroU32::new(per_minute).unwrap(), Duration::from_secs(burst_s));
                let mut admitted = Vec::new();
                for pause in pauses {
                    // Callers that come too early as well as later ones.
                    tokio::time::advance(Duration::from_millis(pause.saturating_sub(1000))).await;
                    let ready = rate.ready(Instant::now());
                    let taken = rate.take();
                    prop_assert_eq!(taken.is_ok(), ready.is_ok(), "`ready` agrees with `take`");
                    match taken {
                        Ok(()) => admitted.push(Instant::now()),
                        Err(at) => prop_assert!(at > Instant::now()),
                    }
                }
                Ok(admitted)
            })?;
            let burst = (f64::from(per_minute) * f64::from(u32::try_from(burst_s).unwrap()) / 60.0).floor().max(1.0);
            for (first, from) in admitted.iter().enumerate() {
                for (count, to) in (1_u32..).zip(&admitted[first..]) {
                    let allowed = burst + f64::from(per_minute) / 60.0 * (*to - *from).as_secs_f64();
                    prop_assert!(f64::from(count) <= allowed + 1e-3, "{count} where {allowed} are allowed");
                }
            }
        }
    }
}
