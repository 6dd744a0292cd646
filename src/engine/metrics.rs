//! The metrics of the engine, and its part of the status page.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;

mod disk;
mod purchases;
mod recent_times;
mod undecided;

use disk::{DiskMetrics, DiskStatus};
use purchases::PurchaseMetrics;
pub(crate) use recent_times::GenerationTime;
pub(crate) use undecided::Undecided;

use crate::model::{ApiKind, Catalogue, ClientId, Failure, ModelId, Usd};
use crate::storage::journal::JobRecord;
use crate::telemetry::Metrics;
use crate::telemetry::label_names::OTHER;
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
    /// The job that a client has waited for longest.
    pub(crate) longest_wait: Option<ClientWait>,
    pub(crate) jobs: u64,
    pub(crate) pictures: u64,
    pub(crate) spent_usd: f64,
    /// Purchases of unknown outcome about which the operator has not decided, and what they may have cost.
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
    /// Free bytes of the file system, and those below which nothing is bought.
    pub(crate) disk_free_bytes: u64,
    pub(crate) disk_free_bytes_min: u64,
    /// Stored pictures that the journal does not know, and their bytes.
    pub(crate) orphans: u64,
    pub(crate) orphan_bytes: u64,
    pub(crate) storage: &'static str,
    /// How long pictures took lately.
    pub(crate) generation_times: Vec<GenerationTime>,
    /// The request formats that the upstream is known to accept, or not.
    pub(crate) formats: Vec<FormatRow>,
}

/// How long the client of a live job has waited for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ClientWait {
    pub(crate) client: String,
    pub(crate) seconds: f64,
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

/// One of [`EDGE_CODES`], [`OTHER`] for another one, `none` where the page shows none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubmitLabels {
    api: &'static str,
    result: &'static str,
}

/// The edge's error numbers that its documents explain, for what concerns a client's call.
const EDGE_CODES: [&str; 10] = ["1003", "1006", "1007", "1008", "1009", "1010", "1012", "1015", "1016", "1020"];
/// Results of submits and of polls.
const SUBMIT_RESULTS: [&str; 6] = ["accepted", "not_sent", "refused_429", "unknown", "rejected", "format_refused"];
const POLL_RESULTS: [&str; 3] = ["answered", "refused_429", "trouble"];

impl CallMetrics {
    /// Makes all counters, at 0.
    fn begin(&self) {
        for api in [ApiKind::Prediction, ApiKind::OpenAi, ApiKind::Unified].map(ApiKind::name) {
            for result in SUBMIT_RESULTS {
                self.submits.get_or_create_owned(&SubmitLabels { api, result });
            }
        }
        for code in EDGE_CODES.into_iter().chain(["none", OTHER]) {
            self.edge_refusals.get_or_create_owned(&CodeLabel { code });
        }
        for result in POLL_RESULTS {
            self.polls.get_or_create_owned(&ResultLabel { result });
        }
    }
}

impl EngineMetrics {
    pub(super) fn new(metrics: &Metrics, undecided: Undecided, catalogue: &Catalogue) -> Self {
        let purchases = PurchaseMetrics::new(metrics, undecided, catalogue);
        let (calls, requests, formats): (CallMetrics, _, _) = Default::default();
        calls.begin();
        let own = Self { calls, purchases, requests, disk: DiskMetrics::default(), formats };
        metrics.register("engine", |registry| {
            register_families(registry, &own);
            own.purchases.register(registry);
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
                ("requests_joined", "Requests that joined a job instead of buying", &own.requests.joined),
                ("cache_hits", "Requests answered by a stored result", &own.requests.cache_hits),
            ] {
                registry.register(name, help, counter.clone());
            }
            for (name, help, money) in [
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

    pub(super) fn started(&self, client: &ClientId, model: &ModelId) {
        self.requests.jobs_started.inc();
        self.purchases.expect(client, model);
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
            let known = |code: u16| EDGE_CODES.into_iter().find(|known| *known == code.to_string()).unwrap_or(OTHER);
            let code = code.map_or("none", known);
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

    /// Counts the pictures of a purchase, as [`PurchaseMetrics::resolved`].
    pub(super) fn resolved(
        &self,
        record: &JobRecord,
        pictures: usize,
        price: Option<Usd>,
        took: Duration,
        inputs_unseen: bool,
    ) {
        self.purchases.resolved(record, pictures, price, took, inputs_unseen);
    }

    /// Counts a failure, as [`PurchaseMetrics::ended`].
    pub(super) fn ended(&self, failure: &Failure, cost: Usd, counted: bool) {
        self.purchases.ended(failure, cost, counted);
    }

    /// Counts a submit without an answer.
    pub(super) fn unknown(&self, estimate: Usd) {
        self.purchases.unknown(estimate);
    }

    /// Adds the counters to a snapshot.
    pub(super) fn fill(&self, status: &mut Status) {
        status.jobs = self.requests.jobs_started.get();
        self.purchases.fill(status);
        status.polls = self.polls_made();
        status.polls_saved = self.calls.polls_saved.get();
        status.joined = self.requests.joined.get();
        status.joined_usd = self.requests.joined_usd.get();
        status.cache_hits = self.requests.cache_hits.get();
        status.hits_usd = self.requests.hits_usd.get();
    }

    fn polls_made(&self) -> u64 {
        let made = |result| self.calls.polls.get_or_create(&ResultLabel { result }).get();
        POLL_RESULTS.into_iter().map(made).sum()
    }

    pub(super) fn set_gauges(&self, status: &Status) {
        self.purchases.set_gauges(status);
        self.requests.waiters.set(i64::try_from(status.waiters).unwrap_or(i64::MAX));
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
}
