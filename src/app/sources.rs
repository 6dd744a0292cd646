//! The values that the operator's pages show.

use std::sync::Arc;

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
                modules.metrics.encode(format)
            }),
        }
    }

    /// Returns the state of the gateway in one sentence.
    pub(super) fn sentence(&self) -> String {
        let engine::Status { queued, submitting, polling, waiters, .. } = self.engine.status();
        let not_ready = self.not_ready(&self.budget.status());
        let standing =
            if not_ready.is_empty() { "Ready".to_owned() } else { format!("Not ready: {}", not_ready.join("; ")) };
        format!("{standing}. In flight: {}, queued: {queued}, requests that wait: {waiters}", submitting + polling)
    }

    /// Returns why the gateway is not ready; nothing when it is.
    fn not_ready(&self, upstream: &budget::Status) -> Vec<String> {
        let storage = self.engine.storage_standing();
        let mut not_ready: Vec<String> = [
            (self.lifecycle.is_draining(), "the gateway is stopping"),
            (storage == Standing::Failed, "a write to the disk failed; nothing is bought until a restart"),
            (
                storage == Standing::Away,
                "the journal cannot be written, because the disk is full or another program has locked it; nothing is bought until it can",
            ),
            (!self.engine.has_room(), "the disk is full; nothing is bought until space is free"),
        ]
        .into_iter()
        .filter(|(applies, _)| *applies)
        .map(|(_, reason)| reason.to_owned())
        .collect();
        not_ready.extend(no_account_can_buy(upstream));
        not_ready
    }

    fn snapshot(&self, started: Instant) -> Snapshot {
        let upstream = self.budget.status();
        let not_ready = self.not_ready(&upstream);
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

/// Says why no account can buy; `None` while one can, as far as that is known. Stored results and running jobs are served all
/// the same.
fn no_account_can_buy(upstream: &budget::Status) -> Option<String> {
    if upstream.accounts.iter().any(|account| account.ready) {
        return None;
    }
    let obstacles = upstream.accounts.iter().map(|account| {
        let obstacle = account.obstacle.unwrap_or_default();
        format!("{}: {obstacle}", account.name)
    });
    Some(format!("no account can buy ({})", obstacles.collect::<Vec<_>>().join("; ")))
}
