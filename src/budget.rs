//! The account with the upstream: how often it may be asked, how much may be in flight, and when it said "not now".
//!
//! Wanted: no call leaves without a [`Reservation`]; whoever waited longest goes first; a 429 pauses everybody, once,
//! and a 429 on a poll never holds up a submit. Nothing here sends anything.
//!
//! Known limits of this form: rates are configured, not learned; the pause after a 429 is one for all models.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::UpstreamConfig;
use crate::telemetry::Metrics;

#[cfg_attr(not(test), expect(dead_code, reason = "wired in with the accounts"))]
mod learning;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CallKind {
    Submit,
    Poll,
}

impl CallKind {
    /// The label in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Poll => "poll",
        }
    }
}

/// Permission for one call. The methods of `PredictionApi` take it, so a call without one does not compile.
#[derive(Debug)]
pub(crate) struct Reservation {
    kind: CallKind,
}

impl Reservation {
    pub(crate) fn kind(&self) -> CallKind {
        self.kind
    }
}

/// A place among the predictions in flight, held from before the submit until the end; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct InFlight {
    _permit: Option<OwnedSemaphorePermit>,
    count: Arc<AtomicUsize>,
}

impl InFlight {
    fn new(permit: Option<OwnedSemaphorePermit>, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { _permit: permit, count: Arc::clone(count) }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Handle to the account. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    submits: Rate,
    /// Submits and polls together.
    requests: Rate,
    places: Arc<Semaphore>,
    places_max: usize,
    in_flight: Arc<AtomicUsize>,
    queue_max: usize,
    queued: AtomicUsize,
    submits_per_minute: u32,
    pushback: Duration,
    pushback_max: Duration,
    submit_pause: Pause,
    poll_pause: Pause,
    metrics: BudgetMetrics,
}

/// A snapshot for the status page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Status {
    pub(crate) predictions_in_flight: usize,
    pub(crate) predictions_in_flight_max: usize,
    pub(crate) queue: usize,
    pub(crate) queue_max: usize,
    /// Seconds until submits go on after a 429; 0 when none is in force.
    pub(crate) paused_s: f64,
}

/// The queue for the budget is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull {
    /// When a place is likely.
    pub(crate) retry_after: Duration,
}

#[derive(Clone, Debug, Default)]
struct BudgetMetrics {
    calls: Family<CallLabels, Counter>,
    pushbacks: Family<CallLabels, Counter>,
    queue: Gauge,
    in_flight: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
}

impl Budget {
    pub(crate) fn new(config: &UpstreamConfig, metrics: &Metrics) -> Self {
        let own = BudgetMetrics::default();
        metrics.register("upstream", |registry| {
            registry.register("calls", "Calls the budget let through", own.calls.clone());
            registry.register("pushbacks", "429 answers of the upstream", own.pushbacks.clone());
            registry.register("queue", "Predictions waiting for the budget", own.queue.clone());
            registry.register("in_flight", "Predictions in flight", own.in_flight.clone());
        });
        let places_max = config.concurrent_predictions.get();
        Self {
            shared: Arc::new(Shared {
                submits: Rate::per_minute(config.submits_per_minute.get()),
                requests: Rate::per_minute(config.requests_per_minute.get()),
                places: Arc::new(Semaphore::new(places_max)),
                places_max,
                in_flight: Arc::default(),
                queue_max: config.queue_max,
                queued: AtomicUsize::new(0),
                submits_per_minute: config.submits_per_minute.get(),
                pushback: config.pushback,
                pushback_max: config.pushback_max,
                submit_pause: Pause::default(),
                poll_pause: Pause::default(),
                metrics: own,
            }),
        }
    }

    /// Takes a place in the queue for submits, or says that it is full. Held while waiting in [`Queued::reserve`].
    ///
    /// # Errors
    ///
    /// [`QueueFull`] with the time after which a place is likely.
    pub(crate) fn queue(&self) -> Result<Queued, QueueFull> {
        let shared = &self.shared;
        let taken = shared.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
            (queued < shared.queue_max).then_some(queued + 1)
        });
        match taken {
            Ok(_) => Ok(Queued { budget: self.clone() }),
            Err(_) => Err(QueueFull { retry_after: self.forecast() }),
        }
    }

    /// Waits for permission for one poll.
    pub(crate) async fn reserve_poll(&self) -> Reservation {
        let shared = &self.shared;
        shared.poll_pause.over().await;
        shared.requests.ready().await;
        self.reservation(CallKind::Poll)
    }

    /// A place for a prediction that was in flight before the gateway started: it exists, so it counts, also beyond
    /// the configured number.
    pub(crate) fn adopt(&self) -> InFlight {
        let permit = Arc::clone(&self.shared.places).try_acquire_owned().ok();
        InFlight::new(permit, &self.shared.in_flight)
    }

    /// The upstream answered 429: pauses calls of this kind for as long as it said, within the configured bounds.
    pub(crate) fn pushed_back(&self, kind: CallKind, retry_after: Option<Duration>) -> Duration {
        let shared = &self.shared;
        shared.metrics.pushbacks.get_or_create(&CallLabels { call: kind.name() }).inc();
        let pause = retry_after.unwrap_or(shared.pushback).min(shared.pushback_max);
        let until = Instant::now() + pause;
        match kind {
            CallKind::Submit => shared.submit_pause.extend(until),
            CallKind::Poll => shared.poll_pause.extend(until),
        }
        pause
    }

    /// About how long a submit that queues now waits for its turn.
    pub(crate) fn forecast(&self) -> Duration {
        let queued = u32::try_from(self.shared.queued.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let by_rate = Duration::from_mins(1).saturating_mul(queued) / self.shared.submits_per_minute;
        by_rate.max(self.shared.submit_pause.remaining()).max(Duration::from_secs(1))
    }

    pub(crate) fn status(&self) -> Status {
        let shared = &self.shared;
        Status {
            predictions_in_flight: shared.in_flight.load(Ordering::Relaxed),
            predictions_in_flight_max: shared.places_max,
            queue: shared.queued.load(Ordering::Relaxed),
            queue_max: shared.queue_max,
            paused_s: shared.submit_pause.remaining().as_secs_f64(),
        }
    }

    /// Brings the gauges up to date before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        let status = self.status();
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.shared.metrics.queue.set(gauge(status.queue));
        self.shared.metrics.in_flight.set(gauge(status.predictions_in_flight));
    }

    fn reservation(&self, kind: CallKind) -> Reservation {
        self.shared.metrics.calls.get_or_create(&CallLabels { call: kind.name() }).inc();
        Reservation { kind }
    }
}

/// A place in the queue for submits; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Queued {
    budget: Budget,
}

impl Queued {
    /// Waits for permission for one submit, first come, first served, and leaves the queue.
    pub(crate) async fn reserve(self) -> (Reservation, InFlight) {
        let shared = &self.budget.shared;
        let permit = Arc::clone(&shared.places).acquire_owned().await.expect("the places are never closed");
        shared.submit_pause.over().await;
        shared.submits.ready().await;
        shared.requests.ready().await;
        let in_flight = InFlight::new(Some(permit), &shared.in_flight);
        (self.budget.reservation(CallKind::Submit), in_flight)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.budget.shared.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A rate, with a queue in front: governor alone lets waiters overtake each other.
#[derive(Debug)]
struct Rate {
    limiter: DefaultDirectRateLimiter,
    turn: tokio::sync::Mutex<()>,
}

impl Rate {
    /// `count` a minute, of which ten seconds' worth may come at once.
    fn per_minute(count: u32) -> Self {
        let count = std::num::NonZeroU32::new(count).expect("configured rates are not zero");
        let burst = std::num::NonZeroU32::new(count.get().div_ceil(6)).expect("rounded up from at least one");
        Self {
            limiter: RateLimiter::direct(Quota::per_minute(count).allow_burst(burst)),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    async fn ready(&self) {
        let _turn = self.turn.lock().await;
        self.limiter.until_ready().await;
    }
}

/// A moment until which calls wait.
#[derive(Debug, Default)]
struct Pause {
    until: Mutex<Option<Instant>>,
}

impl Pause {
    fn until(&self) -> Option<Instant> {
        // No `.await` while the lock is held.
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend(&self, until: Instant) {
        let mut current = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *current = (*current).max(Some(until));
    }

    fn remaining(&self) -> Duration {
        self.until().map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    async fn over(&self) {
        // Looked at again after each wait: another 429 may have extended it.
        while let Some(until) = self.until().filter(|&until| until > Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn budget(change: impl FnOnce(&mut UpstreamConfig)) -> Budget {
        let mut config = Config::load(None, &Environment::new()).unwrap().upstream;
        change(&mut config);
        Budget::new(&config, &Metrics::default())
    }

    #[tokio::test]
    async fn places_are_given_back() {
        let budget = budget(|config| config.concurrent_predictions = 1.try_into().unwrap());
        let (_, first) = budget.queue().unwrap().reserve().await;
        let second = budget.queue().unwrap();
        assert_eq!(budget.status().queue, 1);
        let mut second = std::pin::pin!(second.reserve());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        drop(second.await);
        assert_eq!(budget.status().queue, 0);
        assert_eq!(budget.status().predictions_in_flight, 0);
    }

    #[tokio::test]
    async fn a_full_queue_says_when_to_come_back() {
        let budget = budget(|config| config.queue_max = 1);
        let held = budget.queue().unwrap();
        assert!(budget.queue().unwrap_err().retry_after >= Duration::from_secs(1));
        drop(held);
        budget.queue().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn pushback_on_polls_does_not_hold_up_submits() {
        let budget = budget(|config| config.pushback_max = Duration::from_mins(1));
        let pause = budget.pushed_back(CallKind::Poll, Some(Duration::from_hours(1)));
        assert_eq!(pause, Duration::from_mins(1), "capped");
        let start = Instant::now();
        let _ = budget.queue().unwrap().reserve().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        budget.reserve_poll().await;
        assert_eq!(start.elapsed(), Duration::from_mins(1));
    }
}
