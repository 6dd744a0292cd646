//! What the engine counts.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Status;
use crate::model::{ApiKind, Failure, Usd};
use crate::telemetry::Metrics;
use crate::upstream::{PollError, SubmitError};

type Money = Counter<f64, AtomicU64>;

#[derive(Clone, Debug)]
pub(super) struct EngineMetrics {
    jobs: Counter,
    submits: Family<SubmitLabels, Counter>,
    polls: Family<ResultLabel, Counter>,
    polls_saved: Counter,
    pictures: Counter,
    ended: Family<ResultLabel, Counter>,
    purchases: Family<StateLabel, Gauge>,
    waiters: Gauge,
    generation_seconds: Family<ModelLabel, Histogram>,
    spent_usd: Money,
    unknown_usd: Money,
    unknown: Counter,
    joined: Counter,
    joined_usd: Money,
    cache_hits: Counter,
    spool_bytes: Gauge,
    spool_taken_bytes: Gauge,
    spool_memory_bytes: Gauge,
    spool_waiting: Gauge,
    spool_refused: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubmitLabels {
    api: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// The catalogue's ids only, so the set stays finite.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

/// From acceptance to stored pictures, in seconds: low quality takes about 23, high about 143.
const GENERATION_BUCKETS: [f64; 14] =
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0];

impl EngineMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let own = Self {
            jobs: Counter::default(),
            submits: Family::default(),
            polls: Family::default(),
            polls_saved: Counter::default(),
            pictures: Counter::default(),
            ended: Family::default(),
            purchases: Family::default(),
            waiters: Gauge::default(),
            generation_seconds: Family::new_with_constructor(|| Histogram::new(GENERATION_BUCKETS)),
            spent_usd: Money::default(),
            unknown_usd: Money::default(),
            unknown: Counter::default(),
            joined: Counter::default(),
            joined_usd: Money::default(),
            cache_hits: Counter::default(),
            spool_bytes: Gauge::default(),
            spool_taken_bytes: Gauge::default(),
            spool_memory_bytes: Gauge::default(),
            spool_waiting: Gauge::default(),
            spool_refused: Counter::default(),
        };
        metrics.register("engine", |registry| {
            registry.register("orders", "Orders that began to buy", own.jobs.clone());
            registry.register("submits", "Submits by route and result", own.submits.clone());
            registry.register("polls", "Polls by result", own.polls.clone());
            registry.register(
                "polls_saved",
                "Polls that asking every 2.5 s would have taken besides",
                own.polls_saved.clone(),
            );
            registry.register("pictures", "Pictures bought and stored", own.pictures.clone());
            registry.register("ended", "Predictions that ended without a picture, by reason", own.ended.clone());
            registry.register("predictions", "Predictions under way, by state", own.purchases.clone());
            registry.register(
                "waiters",
                "Requests that wait for an order, and orders whose client comes back",
                own.waiters.clone(),
            );
            registry.register(
                "generation_seconds",
                "From acceptance to stored pictures",
                own.generation_seconds.clone(),
            );
            registry.register("spent_usd", "Spent by the catalogue's prices, US dollars", own.spent_usd.clone());
            registry.register("unknown", "Purchases with an unknown outcome", own.unknown.clone());
            registry.register("unknown_usd", "What those may have cost, US dollars", own.unknown_usd.clone());
            registry.register("joined", "Requests that joined an order instead of buying", own.joined.clone());
            registry.register("joined_usd", "What those would have cost, US dollars", own.joined_usd.clone());
            registry.register("cache_hits", "Requests answered by a stored result", own.cache_hits.clone());
            for (name, help, gauge) in [
                ("spool_bytes", "Bytes of uploads held", &own.spool_bytes),
                ("spool_taken_bytes", "The same with what is still to arrive", &own.spool_taken_bytes),
                ("spool_memory_bytes", "Bytes of uploads in memory", &own.spool_memory_bytes),
                ("spool_waiting", "Requests that wait for room for their upload", &own.spool_waiting),
            ] {
                registry.register(name, help, gauge.clone());
            }
            registry.register("spool_refused", "Requests that got no room for their upload", own.spool_refused.clone());
        });
        own
    }

    pub(super) fn began(&self) {
        self.jobs.inc();
    }

    pub(super) fn hit(&self) {
        self.cache_hits.inc();
    }

    pub(super) fn joined(&self, Usd(usd): Usd) {
        self.joined.inc();
        self.joined_usd.inc_by(usd);
    }

    pub(super) fn submitted(&self, api_kind: ApiKind, error: Option<&SubmitError>) {
        let result = match error {
            None => "accepted",
            Some(SubmitError::NotSent { .. }) => "not_sent",
            Some(SubmitError::Refused { .. }) => "refused_429",
            Some(SubmitError::Rejected(_)) => "rejected",
            Some(SubmitError::Unknown { .. }) => "unknown",
        };
        self.submits.get_or_create(&SubmitLabels { api: api_kind.name(), result }).inc();
    }

    pub(super) fn polled(&self, error: Option<&PollError>) {
        let result = match error {
            None => "answered",
            Some(PollError::Refused { .. }) => "refused_429",
            Some(PollError::Trouble { .. }) => "trouble",
        };
        self.polls.get_or_create(&ResultLabel { result }).inc();
    }

    /// A prediction took so many polls, where asking at a fixed interval would have taken `fixed`.
    pub(super) fn planned(&self, polls: u32, fixed: f64) {
        let saved = (fixed - f64::from(polls)).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small and positive")]
        self.polls_saved.inc_by(saved as u64);
    }

    pub(super) fn resolved(&self, model: &str, pictures: usize, price: Option<Usd>, took: Duration) {
        self.pictures.inc_by(pictures as u64);
        self.generation_seconds.get_or_create(&ModelLabel { model: model.to_owned() }).observe(took.as_secs_f64());
        if let Some(Usd(usd)) = price {
            self.spent_usd.inc_by(usd);
        }
    }

    pub(super) fn ended(&self, failure: &Failure, estimate: Usd) {
        self.ended.get_or_create(&ResultLabel { result: failure.name() }).inc();
        if matches!(failure, Failure::OutcomeUnknown { .. }) {
            self.unknown(estimate);
        }
    }

    pub(super) fn unknown(&self, Usd(estimate_usd): Usd) {
        self.unknown.inc();
        self.unknown_usd.inc_by(estimate_usd);
    }

    /// Adds what is counted here to a snapshot.
    pub(super) fn fill(&self, status: &mut Status) {
        status.jobs = self.jobs.get();
        status.pictures = self.pictures.get();
        status.spent_usd = self.spent_usd.get();
        status.unknown = self.unknown.get();
        status.unknown_usd = self.unknown_usd.get();
        status.polls = self.polls_made();
        status.polls_saved = self.polls_saved.get();
        status.joined = self.joined.get();
        status.joined_usd = self.joined_usd.get();
        status.cache_hits = self.cache_hits.get();
    }

    fn polls_made(&self) -> u64 {
        let made = |result| self.polls.get_or_create(&ResultLabel { result }).get();
        ["answered", "refused_429", "trouble"].into_iter().map(made).sum()
    }

    pub(super) fn set_gauges(&self, status: &Status) {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        for (state, count) in
            [("queued", status.queued), ("submitting", status.submitting), ("following", status.following)]
        {
            self.purchases.get_or_create(&StateLabel { state }).set(gauge(count));
        }
        self.waiters.set(gauge(status.waiters));
        for (bytes, shown) in [
            (status.spool_bytes, &self.spool_bytes),
            (status.spool_taken_bytes, &self.spool_taken_bytes),
            (status.spool_memory_bytes, &self.spool_memory_bytes),
        ] {
            shown.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        self.spool_waiting.set(gauge(status.spool_waiting));
        self.spool_refused.inc_by(status.spool_refused.saturating_sub(self.spool_refused.get()));
    }
}
