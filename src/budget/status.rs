//! The status and the metrics of the budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use tokio::time::Instant;

use super::account::{Account, Obstacle};
use super::state::State;
use crate::model::AccountId;
use crate::telemetry::Metrics;
use crate::telemetry::label_names::LabelNames;

/// A snapshot for the status page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Status {
    pub(crate) predictions_in_flight: usize,
    pub(crate) predictions_in_flight_max: usize,
    /// Queued submits.
    pub(crate) queued_submits: usize,
    pub(crate) queued_submits_max: usize,
    /// Bytes of the uploads of queued submits.
    pub(crate) queued_upload_bytes: u64,
    /// Queued submits by client.
    pub(crate) queued_submits_by_client: BTreeMap<String, usize>,
    /// Seconds for which the first queued submit of each client waits.
    pub(crate) longest_wait_s_by_client: BTreeMap<String, f64>,
    /// Seconds until submits resume after a 429; 0 when an account accepts some.
    pub(crate) paused_s: f64,
    pub(crate) accounts: Vec<AccountStatus>,
}

/// One account with the upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct AccountStatus {
    pub(crate) name: String,
    /// The operator has paused it: nothing is bought with it.
    pub(crate) paused: bool,
    pub(crate) in_flight: usize,
    /// Predictions that may be in flight, as configured and as learned from 429s.
    pub(crate) in_flight_max: usize,
    pub(crate) in_flight_learned: usize,
    /// Submits per minute, as configured and as learned from 429s.
    pub(crate) submits_per_minute_max: u32,
    pub(crate) submits_per_minute_learned: f64,
    /// Whether it can buy, as far as that is known.
    pub(crate) ready: bool,
    /// Why it cannot, and what to do.
    pub(crate) obstacle: Option<&'static str>,
    /// The same for metrics.
    #[serde(skip)]
    kind: Option<Obstacle>,
    /// Calls that the upstream refused since the start, by what the refusal concerns.
    pub(crate) pushbacks: BTreeMap<&'static str, u64>,
    /// The pauses and cooldowns that are active.
    pub(crate) pauses: Vec<PauseStatus>,
}

/// An active pause or cooldown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PauseStatus {
    /// `submits`, `polls`, `model`, or the reason of an account's cooldown.
    pub(crate) what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Until it ends.
    pub(crate) seconds: f64,
}

impl Status {
    pub(super) fn of<T>(state: &State<T>, queue_max: usize, now: Instant) -> Self {
        let accounts: Vec<AccountStatus> =
            state.accounts.iter().map(|account| AccountStatus::of(account, now)).collect();
        let paused = |account: &AccountStatus| {
            let pauses = account.pauses.iter().filter(|pause| pause.model.is_none() && pause.what != "polls");
            pauses.map(|pause| pause.seconds).fold(0.0, f64::max)
        };
        Self {
            predictions_in_flight: accounts.iter().map(|account| account.in_flight).sum(),
            predictions_in_flight_max: accounts.iter().map(|account| account.in_flight_learned).sum(),
            queued_submits: state.queue.len(),
            queued_submits_max: queue_max,
            queued_upload_bytes: state.queue.bytes(),
            queued_submits_by_client: state
                .queue
                .by_client()
                .map(|(client, count)| (client.to_string(), count))
                .collect(),
            longest_wait_s_by_client: state
                .queue
                .first_positions()
                .filter_map(|(client, position)| {
                    let since = state.since.get(&position)?;
                    Some((client.to_string(), now.saturating_duration_since(*since).as_secs_f64()))
                })
                .collect(),
            paused_s: accounts.iter().map(paused).reduce(f64::min).unwrap_or_default(),
            accounts,
        }
    }
}

impl AccountStatus {
    fn of(account: &Account, now: Instant) -> Self {
        let seconds = |until: Instant| until.saturating_duration_since(now).as_secs_f64();
        let pause = |what, until| PauseStatus { what, model: None, seconds: seconds(until) };
        let mut pauses = Vec::new();
        pauses.extend(account.submit_limit.paused_until(now).map(|until| pause("submits", until)));
        pauses.extend(account.poll_spacing.next(now).map(|until| pause("polls", until)));
        pauses.extend(account.cooldowns.account().map(|cooldown| pause(cooldown.reason.name(), cooldown.until)));
        pauses.extend(account.cooldowns.models(now).map(|(model, until)| PauseStatus {
            what: "model",
            model: Some(model.to_string()),
            seconds: seconds(until),
        }));
        let obstacle = account.obstacle(now);
        Self {
            name: account.id.to_string(),
            paused: account.paused,
            in_flight: account.in_flight.count(),
            in_flight_max: account.concurrency_max,
            in_flight_learned: account.submit_limit.concurrency(),
            submits_per_minute_max: account.submits_per_minute_max.get(),
            submits_per_minute_learned: account.submit_limit.submits_per_minute(),
            ready: obstacle.is_none(),
            obstacle: obstacle.map(Obstacle::text),
            kind: obstacle,
            pushbacks: BTreeMap::new(),
            pauses,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct BudgetMetrics {
    queue: QueueMetrics,
    calls: Family<CallLabels, Counter>,
    pushbacks: Family<PushbackLabels, Counter>,
    ready: Family<AccountLabel, Gauge>,
    not_ready: Family<ObstacleLabels, Gauge>,
    in_flight: Family<AccountLabel, Gauge>,
    in_flight_max: Family<AccountLabel, Gauge>,
    submits_per_minute_max: Family<AccountLabel, Gauge<f64, std::sync::atomic::AtomicU64>>,
    paused_seconds: Family<PauseLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

/// What waits in the queue.
#[derive(Clone, Debug)]
struct QueueMetrics {
    clients: LabelNames,
    submits: Gauge,
    submits_by_client: Family<ClientLabel, Gauge>,
    upload_bytes: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    account: String,
    call: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObstacleLabels {
    account: String,
    reason: &'static str,
}

/// What a refusal can concern.
const CONCERNS: [&str; 5] = ["submit", "poll", "model", "permission", "key"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PushbackLabels {
    account: String,
    concerns: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabel {
    client: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountLabel {
    account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PauseLabels {
    account: String,
    reason: &'static str,
}

impl QueueMetrics {
    fn set(&self, status: &Status) {
        self.submits.set(whole(status.queued_submits));
        // Clients without queued submits are removed.
        self.submits_by_client.clear();
        for (client, &count) in &status.queued_submits_by_client {
            let label = ClientLabel { client: self.clients.value(client) };
            // Several clients may share a value.
            self.submits_by_client.get_or_create(&label).inc_by(whole(count));
        }
        self.upload_bytes.set(i64::try_from(status.queued_upload_bytes).unwrap_or(i64::MAX));
    }
}

fn whole(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl BudgetMetrics {
    /// Counters of the accounts begin at 0.
    pub(super) fn new<'a>(metrics: &Metrics, accounts: impl Iterator<Item = &'a AccountId>) -> Self {
        let own = Self {
            queue: QueueMetrics {
                clients: metrics.clients(),
                submits: Gauge::default(),
                submits_by_client: Family::default(),
                upload_bytes: Gauge::default(),
            },
            calls: Family::default(),
            pushbacks: Family::default(),
            ready: Family::default(),
            not_ready: Family::default(),
            in_flight: Family::default(),
            in_flight_max: Family::default(),
            submits_per_minute_max: Family::default(),
            paused_seconds: Family::default(),
        };
        for account in accounts.map(ToString::to_string) {
            for call in ["submit", "poll"] {
                own.calls.get_or_create_owned(&CallLabels { account: account.clone(), call });
            }
            for concerns in CONCERNS {
                own.pushbacks.get_or_create_owned(&PushbackLabels { account: account.clone(), concerns });
            }
        }
        metrics.register("upstream", |registry| {
            registry.register(
                "calls",
                "Calls that were permitted, by account and kind (submit, poll)",
                own.calls.clone(),
            );
            registry.register(
                "pushbacks",
                "Calls that the upstream refused, by account and by what the refusal concerns (submit, poll, model, permission, key)",
                own.pushbacks.clone(),
            );
            registry.register("queued_submits", "Submits that wait in the queue", own.queue.submits.clone());
            registry.register(
                "client_queued_submits",
                "Submits that wait in the queue, by client",
                own.queue.submits_by_client.clone(),
            );
            registry.register(
                "queued_upload_bytes",
                "Bytes of the uploads of queued submits",
                own.queue.upload_bytes.clone(),
            );
            registry.register(
                "ready",
                "1 while an account can buy as far as that is known, 0 while its key is refused, its balance empty or the upstream unreachable",
                own.ready.clone(),
            );
            registry.register("not_ready", "1 for each reason for which an account cannot buy", own.not_ready.clone());
            registry.register("in_flight", "Predictions in flight at the upstream, by account", own.in_flight.clone());
            registry.register(
                "in_flight_max",
                "Predictions that may be in flight, as learned or else as configured, by account",
                own.in_flight_max.clone(),
            );
            registry.register(
                "submits_per_minute_max",
                "Submits per minute, as learned or else as configured, by account",
                own.submits_per_minute_max.clone(),
            );
            registry.register(
                "paused_seconds",
                "Time until the longest active pause ends, by account and reason",
                own.paused_seconds.clone(),
            );
        });
        own
    }

    pub(super) fn called(&self, account: &AccountId, call: &'static str) {
        self.calls.get_or_create(&CallLabels { account: account.to_string(), call }).inc();
    }

    pub(super) fn pushed_back(&self, account: &AccountId, concerns: &'static str) {
        self.pushbacks.get_or_create(&PushbackLabels { account: account.to_string(), concerns }).inc();
    }

    /// Returns the calls that the upstream refused an account, by what the refusal concerns, where there are any.
    pub(super) fn pushbacks_of(&self, account: &str) -> BTreeMap<&'static str, u64> {
        let counted = |concerns: &'static str| {
            let labels = PushbackLabels { account: account.to_owned(), concerns };
            let count = self.pushbacks.get(&labels)?.get();
            (count > 0).then_some((concerns, count))
        };
        CONCERNS.into_iter().filter_map(counted).collect()
    }

    pub(super) fn refresh(&self, status: &Status) {
        self.queue.set(status);
        self.paused_seconds.clear();
        for account in &status.accounts {
            let label = AccountLabel { account: account.name.clone() };
            self.ready.get_or_create(&label).set(i64::from(account.ready));
            for obstacle in Obstacle::ALL {
                let labels = ObstacleLabels { account: account.name.clone(), reason: obstacle.name() };
                self.not_ready.get_or_create(&labels).set(i64::from(account.kind == Some(obstacle)));
            }
            self.in_flight.get_or_create(&label).set(whole(account.in_flight));
            self.in_flight_max.get_or_create(&label).set(whole(account.in_flight_learned));
            self.submits_per_minute_max.get_or_create(&label).set(account.submits_per_minute_learned);
            for pause in &account.pauses {
                let label = PauseLabels { account: account.name.clone(), reason: pause.what };
                let gauge = self.paused_seconds.get_or_create(&label);
                gauge.set(gauge.get().max(pause.seconds));
            }
        }
    }
}
