//! The metrics of the engine, and its part of the status page.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use serde::Serialize;

mod disk;
mod recent_times;

use disk::{DiskMetrics, DiskStatus};
pub(crate) use recent_times::GenerationTime;
use recent_times::RecentTimes;

use crate::model::{Failure, ModelId, Usd};
use crate::telemetry::Metrics;
use crate::upstream::formats::{FormatChange, FormatRow, InputMethod};
use crate::upstream::{PollError, SubmitError};

/// The engine's part of the status page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Purchases that wait for the budget.
    pub(crate) queued: usize,
    /// Purchases whose submit is under way.
    pub(crate) submitting: usize,
    /// Purchases that the upstream works on.
    pub(crate) polling: usize,
    pub(crate) waiters: usize,
    pub(crate) jobs: u64,
    pub(crate) pictures: u64,
    pub(crate) spent_usd: f64,
    pub(crate) unknown: u64,
    pub(crate) unknown_usd: f64,
    /// Polls that were made, and polls that a fixed interval of 2.5 s would have made in addition.
    pub(crate) polls: u64,
    pub(crate) polls_saved: u64,
    pub(crate) joined: u64,
    pub(crate) joined_usd: f64,
    pub(crate) cache_hits: u64,
    pub(crate) hits_usd: f64,
    /// Bytes of uploads that have arrived, bytes held or reserved, and bytes in memory.
    pub(crate) spool_bytes: u64,
    pub(crate) spool_reserved_bytes: u64,
    pub(crate) spool_memory_bytes: u64,
    pub(crate) spool_bytes_max: u64,
    /// Requests that wait for space for their upload, and requests that were refused for lack of it.
    pub(crate) spool_waiting: usize,
    pub(crate) spool_refused: u64,
    pub(crate) memory_cache_bytes: u64,
    /// Stored pictures that the journal does not know, and their bytes.
    pub(crate) orphans: u64,
    pub(crate) orphan_bytes: u64,
    pub(crate) storage: &'static str,
    /// How long pictures took lately.
    pub(crate) generation_times: Vec<GenerationTime>,
    /// The request formats that the upstream is known to accept, or not.
    pub(crate) formats: Vec<FormatRow>,
}

type Money = Counter<f64, AtomicU64>;

/// The metrics of the engine.
#[derive(Clone, Debug)]
pub(super) struct EngineMetrics {
    calls: CallMetrics,
    purchases: PurchaseMetrics,
    requests: RequestMetrics,
    disk: DiskMetrics,
    formats: FormatMetrics,
}

#[derive(Clone, Debug, Default)]
struct CallMetrics {
    submits: Family<SubmitLabels, Counter>,
    edge_refusals: Family<CodeLabel, Counter>,
    upstream_id_conflicts: Counter,
    polls: Family<ResultLabel, Counter>,
    polls_saved: Counter,
}

#[derive(Clone, Debug)]
struct PurchaseMetrics {
    pictures_bought: Counter,
    failed: Family<ReasonLabel, Counter>,
    inputs_unseen: Family<ModelLabel, Counter>,
    in_progress: Family<StateLabel, Gauge>,
    generation_seconds: Family<ModelLabel, Histogram>,
    recent_times: RecentTimes,
    spent_usd: Money,
    unknown_usd: Money,
    unknown: Counter,
}

#[derive(Clone, Debug, Default)]
struct RequestMetrics {
    jobs_started: Counter,
    joined: Counter,
    joined_usd: Money,
    cache_hits: Counter,
    hits_usd: Money,
    waiters: Gauge,
}

/// What is known of request formats.
#[derive(Clone, Debug, Default)]
struct FormatMetrics {
    attempts: Family<FormatAttemptLabels, Counter>,
    states: Family<FormatStateLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FormatAttemptLabels {
    model: String,
    request_format: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FormatStateLabels {
    model: String,
    request_format: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The edge's own error numbers are few; "none" where the page shows none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
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

/// Only models of the catalogue, so the set stays finite.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

/// Seconds from the acceptance of a purchase to its stored pictures: low quality takes about 23 s, high about 143 s.
const GENERATION_BUCKETS: [f64; 14] =
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0];

impl EngineMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let purchases = PurchaseMetrics {
            pictures_bought: Counter::default(),
            failed: Family::default(),
            inputs_unseen: Family::default(),
            in_progress: Family::default(),
            generation_seconds: Family::new_with_constructor(|| Histogram::new(GENERATION_BUCKETS)),
            recent_times: RecentTimes::default(),
            spent_usd: Money::default(),
            unknown_usd: Money::default(),
            unknown: Counter::default(),
        };
        let (calls, requests, formats) = Default::default();
        let own = Self { calls, purchases, requests, disk: DiskMetrics::default(), formats };
        metrics.register("engine", |registry| {
            register_families(registry, &own);
            own.disk.register(registry);
            for (name, help, counter) in [
                ("jobs_started", "Jobs that began to buy", &own.requests.jobs_started),
                (
                    "polls_saved",
                    "Polls that a fixed interval of 2.5 s would have made in addition",
                    &own.calls.polls_saved,
                ),
                (
                    "upstream_id_conflicts",
                    "Submits that were accepted under the id of another purchase",
                    &own.calls.upstream_id_conflicts,
                ),
                ("pictures_bought", "Pictures bought and stored", &own.purchases.pictures_bought),
                ("purchases_unknown", "Purchases with an unknown outcome", &own.purchases.unknown),
                ("requests_joined", "Requests that joined a job instead of buying", &own.requests.joined),
                ("cache_hits", "Requests answered by a stored result", &own.requests.cache_hits),
            ] {
                registry.register(name, help, counter.clone());
            }
            for (name, help, money) in [
                ("spent_usd", "US dollars spent, by the prices of the catalogue", &own.purchases.spent_usd),
                (
                    "unknown_usd",
                    "US dollars that purchases with an unknown outcome may have cost",
                    &own.purchases.unknown_usd,
                ),
                ("hits_usd", "US dollars not spent because stored results answered requests", &own.requests.hits_usd),
                ("joined_usd", "US dollars not spent because requests joined a job", &own.requests.joined_usd),
            ] {
                registry.register(name, help, money.clone());
            }
            let help = "Requests that wait for a job, and jobs whose client fetches the result later";
            registry.register("waiters", help, own.requests.waiters.clone());
        });
        own
    }

    pub(super) fn started(&self) {
        self.requests.jobs_started.inc();
    }

    pub(super) fn hit(&self, Usd(usd): Usd) {
        self.requests.cache_hits.inc();
        self.requests.hits_usd.inc_by(usd);
    }

    pub(super) fn joined(&self, Usd(usd): Usd) {
        self.requests.joined.inc();
        self.requests.joined_usd.inc_by(usd);
    }

    pub(super) fn submitted(&self, model: &ModelId, method: InputMethod, error: Option<&SubmitError>) {
        let result = match error {
            None => "accepted",
            Some(SubmitError::NotSent { .. }) => "not_sent",
            Some(SubmitError::Refused { .. }) => "refused_429",
            Some(SubmitError::Unknown { .. } | SubmitError::Rejected(Failure::OutcomeUnknown { .. })) => "unknown",
            Some(SubmitError::Rejected(_)) => "rejected",
            Some(SubmitError::FormatRefused { .. }) => "format_refused",
        };
        self.calls.submits.get_or_create(&SubmitLabels { api: method.api_kind().name(), result }).inc();
        let (model, request_format) = (model.as_str().to_owned(), method.name());
        self.formats.attempts.get_or_create(&FormatAttemptLabels { model, request_format, result }).inc();
        if let Some(SubmitError::Rejected(Failure::EdgeRefused { code, .. })) = error {
            let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
            self.calls.edge_refusals.get_or_create(&CodeLabel { code }).inc();
        }
    }

    /// Shows what is known of a request format now.
    pub(super) fn format_changed(&self, change: &FormatChange) {
        for state in FormatChange::STATES {
            let (model, request_format) = (change.subject.model.as_str().to_owned(), change.format.method.name());
            let labels = FormatStateLabels { model, request_format, state };
            self.formats.states.get_or_create(&labels).set(i64::from(state == change.state));
        }
    }

    /// Counts a submit that was accepted under the id of another purchase.
    pub(super) fn upstream_id_conflict(&self) {
        self.calls.upstream_id_conflicts.inc();
    }

    pub(super) fn polled(&self, error: Option<&PollError>) {
        let result = match error {
            None => "answered",
            Some(PollError::Refused { .. }) => "refused_429",
            Some(PollError::Trouble { .. } | PollError::OtherPrediction { .. } | PollError::Moderated { .. }) => {
                "trouble"
            }
        };
        self.calls.polls.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a completed purchase that took `polls` polls, where a fixed interval would have made `fixed`.
    pub(super) fn completed(&self, polls: u32, fixed: f64) {
        let saved = (fixed - f64::from(polls)).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is small and positive")]
        self.calls.polls_saved.inc_by(saved as u64);
    }

    /// Counts the pictures of a purchase, and whether they were made without looking at its input pictures.
    pub(super) fn resolved(
        &self,
        model: &str,
        pictures: usize,
        price: Option<Usd>,
        took: Duration,
        inputs_unseen: bool,
    ) {
        self.purchases.pictures_bought.inc_by(pictures as u64);
        self.purchases.recent_times.record(model, took);
        let model = ModelLabel { model: model.to_owned() };
        self.purchases.generation_seconds.get_or_create(&model).observe(took.as_secs_f64());
        if inputs_unseen {
            self.purchases.inputs_unseen.get_or_create(&model).inc();
        }
        if let Some(Usd(usd)) = price {
            self.purchases.spent_usd.inc_by(usd);
        }
    }

    /// Counts a failure; `estimate`: what an unknown outcome may have cost, unless that is counted already.
    pub(super) fn ended(&self, failure: &Failure, estimate: Option<Usd>) {
        self.purchases.failed.get_or_create(&ReasonLabel { reason: failure.name() }).inc();
        if let (Failure::OutcomeUnknown { .. }, Some(estimate)) = (failure, estimate) {
            self.unknown(estimate);
        }
    }

    pub(super) fn unknown(&self, Usd(estimate_usd): Usd) {
        self.purchases.unknown.inc();
        self.purchases.unknown_usd.inc_by(estimate_usd);
    }

    /// Adds the counters to a snapshot.
    pub(super) fn fill(&self, status: &mut Status) {
        status.jobs = self.requests.jobs_started.get();
        status.pictures = self.purchases.pictures_bought.get();
        status.spent_usd = self.purchases.spent_usd.get();
        status.unknown = self.purchases.unknown.get();
        status.unknown_usd = self.purchases.unknown_usd.get();
        status.polls = self.polls_made();
        status.polls_saved = self.calls.polls_saved.get();
        status.joined = self.requests.joined.get();
        status.joined_usd = self.requests.joined_usd.get();
        status.cache_hits = self.requests.cache_hits.get();
        status.hits_usd = self.requests.hits_usd.get();
        status.generation_times = self.purchases.recent_times.by_model();
    }

    fn polls_made(&self) -> u64 {
        let made = |result| self.calls.polls.get_or_create(&ResultLabel { result }).get();
        ["answered", "refused_429", "trouble"].into_iter().map(made).sum()
    }

    pub(super) fn set_gauges(&self, status: &Status) {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        for (state, count) in
            [("queued", status.queued), ("submitting", status.submitting), ("polling", status.polling)]
        {
            self.purchases.in_progress.get_or_create(&StateLabel { state }).set(gauge(count));
        }
        self.requests.waiters.set(gauge(status.waiters));
        self.disk.set(&DiskStatus {
            spool_bytes: status.spool_bytes,
            spool_reserved_bytes: status.spool_reserved_bytes,
            spool_memory_bytes: status.spool_memory_bytes,
            spool_waiting: status.spool_waiting,
            spool_refused: status.spool_refused,
            orphans: status.orphans,
            orphan_bytes: status.orphan_bytes,
        });
    }
}

/// Registers the metrics that have labels.
fn register_families(registry: &mut Registry, own: &EngineMetrics) {
    registry.register("submits", "Submits to the upstream, by API kind and result", own.calls.submits.clone());
    registry.register(
        "edge_refusals",
        "Submits that the network edge in front of the upstream refused, by its error number",
        own.calls.edge_refusals.clone(),
    );
    registry.register(
        "contact_attempts",
        "Submits by model, the way in which their input pictures were sent, and result",
        own.formats.attempts.clone(),
    );
    registry.register(
        "contact_state",
        "1 for what is known last of a way to send input pictures: proven, refused, suspect or unknown",
        own.formats.states.clone(),
    );
    registry.register("polls", "Polls of the upstream, by result", own.calls.polls.clone());
    registry.register(
        "purchases_failed",
        "Purchases that ended without a picture, by reason",
        own.purchases.failed.clone(),
    );
    registry.register(
        "inputs_unseen",
        "Purchases with pictures that were made without looking at the input pictures, by model",
        own.purchases.inputs_unseen.clone(),
    );
    registry.register(
        "purchases_in_progress",
        "Purchases that are queued, submitted or polled, by state",
        own.purchases.in_progress.clone(),
    );
    registry.register(
        "generation_seconds",
        "Time from the acceptance of a purchase to its stored pictures, by model",
        own.purchases.generation_seconds.clone(),
    );
}
