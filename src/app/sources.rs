//! The values that the operator's pages show.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::listeners::Listeners;
use crate::admission::Admission;
use crate::api;
use crate::budget::{self, Budget};
use crate::engine::{self, Engine};
use crate::lifecycle::Lifecycle;
use crate::operator::{Live, RecentFailure, Snapshot, Sources};
use crate::storage::journal::Standing;
use crate::telemetry::Metrics;
use crate::telemetry::recent::RecentRequests;

/// Why a gateway may not be ready, as a label of metrics and as a text for people.
const OBSTACLES: [(&str, &str); 5] = [
    ("stopping", "the gateway is stopping"),
    ("storage_failed", "a write to the disk failed; nothing is bought until a restart"),
    (
        "journal_away",
        "the journal cannot be written, because the disk is full or another program has locked it; nothing is bought until it can",
    ),
    ("disk_full", "the disk is full; nothing is bought until space is free"),
    ("no_account", "no account can buy"),
];

/// Whether the gateway as a whole is ready. Cheap to clone.
#[derive(Clone, Debug, Default)]
struct ReadyMetrics {
    ready: Gauge,
    not_ready: Family<ReasonLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl ReadyMetrics {
    fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register_overall(|registry| {
            let help = "1 while the gateway may take traffic, as /readyz says";
            registry.register("ready", help, own.ready.clone());
            let help = "1 for each reason for which it may not";
            registry.register("not_ready", help, own.not_ready.clone());
        });
        own
    }

    fn set(&self, reasons: &[(&'static str, String)]) {
        self.ready.set(i64::from(reasons.is_empty()));
        for (reason, _) in OBSTACLES {
            let applies = reasons.iter().any(|(found, _)| *found == reason);
            self.not_ready.get_or_create(&ReasonLabel { reason }).set(i64::from(applies));
        }
    }
}

/// The modules that have a status or gauges. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Modules {
    pub(super) engine: Engine,
    pub(super) admission: Admission,
    pub(super) budget: Budget,
    pub(super) listeners: Listeners,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: Metrics,
    pub(super) recent: RecentRequests,
    pub(super) sandbox: bool,
    /// The base URL of the client API, as it is reached from this machine.
    pub(super) api: String,
    pub(super) administration: bool,
    /// What follows a command, so that it finds the storage of this gateway.
    pub(super) command_arguments: String,
}

impl Modules {
    /// Returns the functions that the operator's pages call.
    pub(super) fn sources(self) -> Sources {
        let started = Instant::now();
        let ready = ReadyMetrics::new(&self.metrics);
        let (modules, lifecycle, api, administration) =
            (self.clone(), self.lifecycle.clone(), self.api.clone(), self.administration);
        let snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync> = Arc::new(move || self.snapshot(started));
        let live = Live::new(Arc::clone(&snapshot), lifecycle.clone());
        lifecycle.spawn_service("page", live.clone().run());
        Sources {
            snapshot,
            live,
            api,
            not_here: api::not_here,
            administration,
            metrics: Arc::new(move |format| {
                modules.listeners.update_metrics();
                modules.admission.refresh_metrics();
                modules.engine.refresh_metrics();
                modules.budget.refresh_metrics();
                ready.set(&modules.not_ready(&modules.budget.status()));
                modules.metrics.encode(format)
            }),
        }
    }

    /// Returns the state of the gateway in one sentence.
    pub(super) fn sentence(&self) -> String {
        let engine::Status { queued, submitting, polling, waiters, .. } = self.engine.status();
        let not_ready: Vec<String> = self.not_ready(&self.budget.status()).into_iter().map(|(_, text)| text).collect();
        let standing =
            if not_ready.is_empty() { "Ready".to_owned() } else { format!("Not ready: {}", not_ready.join("; ")) };
        format!("{standing}. In flight: {}, queued: {queued}, requests that wait: {waiters}", submitting + polling)
    }

    /// Returns why the gateway may not take traffic: labels of [`OBSTACLES`], and what people read.
    fn not_ready(&self, upstream: &budget::Status) -> Vec<(&'static str, String)> {
        let storage = self.engine.storage_standing();
        let applies = [
            self.lifecycle.is_draining(),
            storage == Standing::Failed,
            storage == Standing::Away,
            !self.engine.has_room(),
            !upstream.accounts.iter().any(|account| account.ready),
        ];
        let found = OBSTACLES.into_iter().zip(applies).filter(|(_, applies)| *applies);
        found
            .map(|((reason, text), _)| {
                (reason, if reason == "no_account" { no_account_can_buy(text, upstream) } else { text.to_owned() })
            })
            .collect()
    }

    fn snapshot(&self, started: Instant) -> Snapshot {
        let upstream = self.budget.status();
        let not_ready: Vec<String> = self.not_ready(&upstream).into_iter().map(|(_, text)| text).collect();
        let recent = self.recent.snapshot();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            sandbox: self.sandbox,
            uptime_s: started.elapsed().as_secs(),
            ready: not_ready.is_empty(),
            not_ready,
            connections: self.listeners.status(),
            engine: self.engine.status(),
            upstream,
            clients: self.admission.status(),
            requests: recent.totals,
            recent_requests: recent.requests,
            recent_failures: recent
                .failures
                .into_iter()
                .map(|ended| RecentFailure::of(ended, &self.command_arguments))
                .collect(),
            command_arguments: self.command_arguments.clone(),
        }
    }
}

/// Says why no account can buy, as far as that is known. Stored results and running jobs are served all the same.
fn no_account_can_buy(text: &str, upstream: &budget::Status) -> String {
    let obstacles = upstream.accounts.iter().map(|account| {
        let obstacle = account.obstacle.unwrap_or_default();
        format!("{}: {obstacle}", account.name)
    });
    format!("{text} ({})", obstacles.collect::<Vec<_>>().join("; "))
}
