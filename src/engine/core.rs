//! What all parts of the engine share. Each part adds its methods to [`Core`] in a file of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::jobs::Jobs;
use super::metrics::EngineMetrics;
use crate::budget::Budget;
use crate::config::{CacheConfig, CacheMode, OnUnknown, StorageConfig, Switch, UpstreamConfig};
use crate::lifecycle::Lifecycle;
use crate::model::{
    AccountId, Catalogue, Clock, CompletionListener, Failure, Fingerprint, JobId, JobResult, PurchaseId, Quotas, Rng,
    Usd,
};
use crate::polling::latency::{LatencyModel, LatencyPriors, StoredLatencies};
use crate::polling::planner::PollPlanner;
use crate::polling::price::PollPrice;
use crate::storage::spool::Spool;
use crate::storage::{DiskSpace, Journal, Results};
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

/// Results and failures that are remembered without asking the journal.
const REMEMBERED_MAX: u64 = 100_000;

/// The shortest time between two estimates of the generation times of one class.
const LEARNING_PAUSE: Duration = Duration::from_millis(50);

/// How long a failure waits for the retry that it answers: SDKs retry within seconds.
const PENDING_FAILURE_TTL: Duration = Duration::from_mins(2);

/// What the engine is built from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Rng,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) results: Results,
    pub(crate) room: DiskSpace,
    pub(crate) spool: Spool,
    pub(crate) budget: Budget,
    pub(crate) quotas: Arc<dyn Quotas>,
    /// Notified of each job that has ended.
    pub(crate) completion_listener: Arc<dyn CompletionListener>,
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
    /// Generation times that earlier runs of the gateway learned.
    pub(crate) learned: Option<StoredLatencies>,
}

/// What all parts of the engine share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Rng,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) results: Results,
    pub(super) spool: Spool,
    pub(super) budget: Budget,
    pub(super) quotas: Arc<dyn Quotas>,
    pub(super) completion_listener: Arc<dyn CompletionListener>,
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: EngineMetrics,
    pub(super) jobs: Jobs,
    /// Complete results by fingerprint, in front of the journal.
    pub(super) recent: moka::sync::Cache<Fingerprint, Recent>,
    /// Failures that did not reach their client, which saw a broken connection: they answer its retry.
    pub(super) pending_failures: moka::sync::Cache<Fingerprint, (JobId, Failure)>,
    /// Plans for polls, on their way to the scheduler. Not bounded by itself: a plan is sent when a purchase is
    /// accepted, after each poll of it, and when the generation times of its class have shifted; the scheduler takes
    /// all of them before it sleeps. So the channel holds at most a few plans for each purchase in flight.
    pub(super) scheduled_polls: mpsc::UnboundedSender<ScheduledPoll>,
    latencies: Mutex<LatencyModel>,
    pub(super) planner: PollPlanner,
    /// How much more expensive polls are at the moment.
    poll_price: Mutex<PollPrice>,
    pub(super) settings: Settings,
    pub(super) room: DiskSpace,
}

/// A result that answers without asking the journal, until a time that no setting of the wall clock moves.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    pub(super) result: Arc<JobResult>,
    pub(super) until: Instant,
    /// A client has received it, or is receiving it.
    pub(super) delivered: bool,
}

/// When a purchase is to be polled, with which account, and how likely it is done then.
#[derive(Debug)]
pub(super) struct ScheduledPoll {
    pub(super) at: Instant,
    pub(super) purchase: PurchaseId,
    /// The number of the plan; only the last plan of a purchase counts.
    pub(super) plan: u32,
    pub(super) account: AccountId,
    pub(super) chance: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) cache: CacheMode,
    pub(super) cache_ttl: Duration,
    pub(super) results_ttl: Duration,
    pub(super) results_bytes_max: u64,
    pub(super) eviction_interval: Duration,
    pub(super) submit_attempts_max: u32,
    pub(super) on_unknown: OnUnknown,
    pub(super) unknown_hold: Duration,
    pub(super) deadline: Duration,
    pub(super) picture_bytes_max: u64,
    pub(super) download_timeout: Duration,
    pub(super) polls_max: usize,
}

impl Settings {
    pub(super) fn new(upstream: &UpstreamConfig, cache: &CacheConfig, storage: &StorageConfig) -> Self {
        Self {
            cache: cache.mode,
            cache_ttl: cache.ttl,
            results_ttl: storage.results_ttl,
            results_bytes_max: storage.results_bytes_max,
            eviction_interval: storage.eviction_interval,
            submit_attempts_max: upstream.submit_attempts_max.get(),
            on_unknown: upstream.on_unknown,
            unknown_hold: upstream.unknown_hold,
            deadline: upstream.deadline,
            picture_bytes_max: upstream.picture_bytes_max,
            download_timeout: upstream.download_timeout,
            polls_max: upstream.concurrent_polls_max.get(),
        }
    }
}

impl Core {
    pub(super) fn new(
        parts: Parts,
        upstream: &UpstreamConfig,
        settings: Settings,
        scheduled_polls: mpsc::UnboundedSender<ScheduledPoll>,
    ) -> Self {
        let priors = match upstream.latency_priors {
            Switch::On => LatencyPriors::Measured,
            Switch::Off => LatencyPriors::None,
        };
        let latencies = match parts.learned {
            Some(learned) => LatencyModel::restore(priors, learned),
            None => LatencyModel::new(priors),
        };
        Self {
            metrics: EngineMetrics::new(&parts.metrics),
            jobs: Jobs::default(),
            recent: moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).build(),
            pending_failures: moka::sync::Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(PENDING_FAILURE_TTL)
                .build(),
            scheduled_polls,
            latencies: Mutex::new(latencies.pausing(LEARNING_PAUSE)),
            planner: PollPlanner {
                min_interval: upstream.poll_interval_min,
                max_interval: upstream.poll_interval_max.max(upstream.poll_interval_min),
                first_poll: upstream.first_poll,
                poll_cost: upstream.poll_cost,
            },
            poll_price: Mutex::new(PollPrice::default()),
            settings,
            room: parts.room,
            clock: parts.clock,
            rng: parts.rng,
            catalogue: parts.catalogue,
            journal: parts.journal,
            results: parts.results,
            spool: parts.spool,
            budget: parts.budget,
            quotas: parts.quotas,
            completion_listener: parts.completion_listener,
            upstream: parts.upstream,
            lifecycle: parts.lifecycle,
        }
    }

    pub(super) fn latencies(&self) -> MutexGuard<'_, LatencyModel> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn poll_price(&self) -> MutexGuard<'_, PollPrice> {
        self.poll_price.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record or a picture may not have reached the disk.
    pub(super) fn storage_failed(&self) -> bool {
        self.journal.failed() || self.results.failed()
    }

    /// Returns what `pictures` pictures of a model cost by the catalogue, before the upstream has reported tokens.
    pub(super) fn estimated_cost(&self, model: &str, pictures: u8) -> Usd {
        self.catalogue.find(model).map(|model| model.price.of(usize::from(pictures), None)).unwrap_or_default()
    }
}
