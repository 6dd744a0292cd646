//! The life of a prediction from accepted to settled, and who waits for it. It has never heard of HTTP status codes.
//!
//! An *order* is one wish of a client; it has one or more *predictions*, the purchases that fulfil it; and any number
//! of *tickets*, the requests that wait for it. A tracked task owns the work, never the request: dropping a ticket
//! forgets one waiter and cancels nothing that is paid for.
//!
//! Wanted:
//! - The journal knows a step before it is taken: the intent before the upload, the commit before the last byte, the id
//!   before the first poll, the pictures before the answer.
//! - One request more for something that is under way waits with it, as `joining.rs` decides.
//! - An order that nobody waits for any more frees its place while nothing of it is bought.
//!
//! Known races, and what we do:
//! - Two equal requests arrive at once: the table is looked at again, under its lock, before an order begins; the second
//!   joins the first.
//! - The last waiter leaves while the reservation arrives: the lock decides. Whoever finds no waiter and nothing bought
//!   takes the order off the list, so nobody can join what is being dropped.
//! - An order ends between a look into the table and a look into the journal: it is in the journal before it leaves the
//!   table, so the second look finds it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::config::{CacheConfig, CacheMode, OnUnknown, StorageConfig, Switch, UpstreamConfig};
use crate::lifecycle::Lifecycle;
use crate::model::{
    ByteSource, Catalogue, ClientId, Clock, CompletionListener, Failure, Fingerprint, IdempotencyKey, JobId, JobResult,
    PictureRequest, Quotas, Rng, StoredPicture, Timestamp, UpstreamId, Webhook,
};
use crate::storage::journal::{StoredJob, StoredState};
use crate::storage::{DiskSpace, Journal, JournalError, Results};
use crate::telemetry::Metrics;
use crate::upstream::Upstream;

mod eviction;
mod forecast;
mod jobs;
mod life;
mod lookup;
mod metrics;
mod poll;
mod recovery;
mod reuse;
mod submit;
mod view;
mod waiter;

pub(crate) use crate::polling::latency::StoredLatencies as LearnedLatencies;
use crate::polling::latency::{LatencyModel, LatencyPriors};
use crate::polling::planner::PollPlanner;
use crate::polling::queue::PollPrice;
use jobs::Jobs;
use metrics::EngineMetrics;
use reuse::ReusePolicy;
pub(crate) use view::{CancelOutcome, JobStatus, JobView};
use waiter::Progress;
pub(crate) use waiter::{AnswerSource, JobEvent, JobStage, WaitError, Waiter};

use crate::storage::spool::SpoolStatus;
/// Where a request's uploads go before there is an order; the engine reads them back when it submits.
pub(crate) use crate::storage::spool::{Spool, SpoolError, SpoolLimits, Upload};

/// Results that are remembered without asking the journal.
const RECENT_MAX: u64 = 100_000;

/// Completions that come faster are learned together.
const LEARNING_PAUSE: Duration = Duration::from_millis(50);

/// How long a failure waits for the retry it is to answer: SDKs ask again within seconds.
const UNTOLD_FOR: Duration = Duration::from_mins(2);

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
    /// Told of every order that has ended.
    pub(crate) completion_listener: Arc<dyn CompletionListener>,
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
    /// What earlier lives learned of generation times.
    pub(crate) learned: Option<LearnedLatencies>,
}

/// Handle to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    core: Arc<Core>,
}

/// What all parts of the engine share.
#[derive(Debug)]
struct Core {
    clock: Arc<dyn Clock>,
    rng: Rng,
    catalogue: Arc<Catalogue>,
    journal: Arc<dyn Journal>,
    results: Results,
    spool: Spool,
    budget: Budget,
    quotas: Arc<dyn Quotas>,
    completion_listener: Arc<dyn CompletionListener>,
    upstream: Arc<dyn Upstream>,
    lifecycle: Lifecycle,
    metrics: EngineMetrics,
    jobs: Jobs,
    /// Complete results by fingerprint, in front of the journal.
    recent: moka::sync::Cache<Fingerprint, Recent>,
    /// Failures of which a client has seen no more than a broken connection, for its retry.
    untold: moka::sync::Cache<Fingerprint, (JobId, Failure)>,
    /// Where predictions are announced to the one scheduler of polls.
    due: mpsc::UnboundedSender<poll::Due>,
    latencies: Mutex<LatencyModel>,
    planner: PollPlanner,
    /// How much dearer a poll is at the moment.
    scarcity: Mutex<PollPrice>,
    settings: Settings,
    room: DiskSpace,
}

/// A result that answers without asking the journal, until a moment that no setting of the clock moves.
#[derive(Clone, Debug)]
struct Recent {
    delivery: Arc<JobResult>,
    until: Instant,
    /// Somebody has it, or is getting it.
    delivered: bool,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    cache: CacheMode,
    cache_ttl: Duration,
    results_ttl: Duration,
    results_bytes_max: u64,
    sweep_interval: Duration,
    submit_attempts_max: u32,
    on_unknown: OnUnknown,
    unknown_hold: Duration,
    deadline: Duration,
    picture_bytes_max: u64,
    download_timeout: Duration,
    polls_max: usize,
}

/// A client's wish, valid and with its inputs spooled.
#[derive(Debug)]
pub(crate) struct JobRequest {
    pub(crate) client: ClientId,
    pub(crate) request: PictureRequest,
    /// The client does not want an earlier result (`Cache-Control: no-cache`).
    pub(crate) fresh: bool,
    /// The result is not for later requests (`Cache-Control: no-store`).
    pub(crate) private: bool,
    /// An SDK says that it asks again.
    pub(crate) is_retry: bool,
    /// What the client calls this intention of its own.
    pub(crate) key: Option<IdempotencyKey>,
    /// When the client is answered at the latest.
    pub(crate) until: Instant,
    pub(crate) presence: Presence,
    /// Who is to be told of its end.
    pub(crate) webhook: Option<Webhook>,
}

/// Where a client is while its order is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It waits, and wants nothing any more once its connection is gone.
    Connected,
    /// It comes back for the result: the order is wanted although nobody is connected.
    Away,
}

/// A snapshot for the status page.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Predictions that wait for the budget.
    pub(crate) queued: usize,
    /// Predictions whose submit is under way.
    pub(crate) submitting: usize,
    /// Predictions the upstream works on.
    pub(crate) following: usize,
    pub(crate) waiters: usize,
    pub(crate) jobs: u64,
    pub(crate) pictures: u64,
    pub(crate) spent_usd: f64,
    pub(crate) unknown: u64,
    pub(crate) unknown_usd: f64,
    /// Polls that were made, and those that asking every 2.5 s would have taken besides.
    pub(crate) polls: u64,
    pub(crate) polls_saved: u64,
    pub(crate) joined: u64,
    pub(crate) joined_usd: f64,
    pub(crate) cache_hits: u64,
    /// Bytes of uploads that have arrived, that are taken (also for what is to arrive), and those of them in memory.
    pub(crate) spool_bytes: u64,
    pub(crate) spool_taken_bytes: u64,
    pub(crate) spool_memory_bytes: u64,
    pub(crate) spool_bytes_max: u64,
    /// Requests that wait for room for their upload, and those that got none.
    pub(crate) spool_waiting: usize,
    pub(crate) spool_refused: u64,
    pub(crate) memory_cache_bytes: u64,
    pub(crate) storage: &'static str,
}

impl Engine {
    /// Builds the engine, takes up what the journal says was under way, and starts its scheduler and its sweeper.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be read or written.
    pub(crate) async fn start(
        parts: Parts,
        upstream: &UpstreamConfig,
        cache: &CacheConfig,
        storage: &StorageConfig,
    ) -> Result<Self, JournalError> {
        let (due, announced) = mpsc::unbounded_channel();
        let settings = Settings {
            cache: cache.mode,
            cache_ttl: cache.ttl,
            results_ttl: storage.results_ttl,
            results_bytes_max: storage.results_bytes_max,
            sweep_interval: storage.eviction_interval,
            submit_attempts_max: upstream.submit_attempts_max.get(),
            on_unknown: upstream.on_unknown,
            unknown_hold: upstream.unknown_hold,
            deadline: upstream.deadline,
            picture_bytes_max: upstream.picture_bytes_max,
            download_timeout: upstream.download_timeout,
            polls_max: upstream.concurrent_polls_max.get(),
        };
        let priors = match upstream.latency_priors {
            Switch::On => LatencyPriors::Measured,
            Switch::Off => LatencyPriors::None,
        };
        let core = Arc::new(Core {
            metrics: EngineMetrics::new(&parts.metrics),
            jobs: Jobs::default(),
            recent: moka::sync::Cache::builder().max_capacity(RECENT_MAX).build(),
            untold: moka::sync::Cache::builder().max_capacity(RECENT_MAX).time_to_live(UNTOLD_FOR).build(),
            due,
            latencies: Mutex::new(
                match parts.learned {
                    Some(learned) => LatencyModel::restore(priors, learned),
                    None => LatencyModel::new(priors),
                }
                .pausing(LEARNING_PAUSE),
            ),
            planner: PollPlanner {
                min_interval: upstream.poll_interval_min,
                longest_interval: upstream.poll_interval_max.max(upstream.poll_interval_min),
                first_poll: upstream.first_poll,
                poll_cost: upstream.poll_cost,
            },
            scarcity: Mutex::new(PollPrice::new()),
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
        });
        core.recover().await?;
        core.lifecycle.spawn_service("poll scheduler", poll::schedule(Arc::clone(&core), announced));
        core.lifecycle.spawn_service("sweeper", eviction::run(Arc::clone(&core)));
        Ok(Self { core })
    }

    /// Where uploads go.
    pub(crate) fn spool(&self) -> &Spool {
        &self.core.spool
    }

    /// Answers from what is stored, joins what is under way, or begins to buy.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with which nothing was bought.
    pub(crate) async fn submit(&self, job: JobRequest) -> Result<Waiter, Failure> {
        let (kept, webhook) = (job.presence == Presence::Away, job.webhook.clone());
        let start_by = self.core.start_by(&job);
        let mut waiter = self.place(job, start_by).await?;
        // What a new order needs, it was listed and journalled with.
        let is_new = matches!(waiter.origin(), AnswerSource::Bought | AnswerSource::Bypass);
        if kept && !is_new {
            self.core.jobs.keep(waiter.job(), start_by);
        }
        if let Some(webhook) = webhook.filter(|_| !is_new) {
            self.core.subscribe(&mut waiter, webhook).await?;
        }
        if kept {
            waiter.recorded().await;
        }
        Ok(waiter)
    }

    async fn place(&self, job: JobRequest, start_by: Instant) -> Result<Waiter, Failure> {
        let core = &self.core;
        let fingerprint = Fingerprint::of(&job.client, &job.request);
        if let Some(key) = &job.key
            && let Some(waiter) = core.find_keyed(&job.client, key, fingerprint, start_by).await?
        {
            return Ok(waiter);
        }
        if let Some((job, failure)) = core.untold.remove(&fingerprint) {
            return Ok(core.failed_waiter(job, failure));
        }
        let cache_on = core.settings.cache == CacheMode::On;
        let asker = ReusePolicy {
            shares: cache_on && !job.fresh,
            is_retry: job.is_retry,
            // A key that was seen before has been answered above.
            insists: job.fresh || job.key.is_some(),
        };
        if let Some(waiter) = core.join(fingerprint, asker, start_by) {
            return Ok(waiter);
        }
        if let Some(waiter) = core.find_stored(fingerprint, asker).await? {
            return Ok(waiter);
        }
        let origin = if asker.shares { AnswerSource::Bought } else { AnswerSource::Bypass };
        core.begin(job, fingerprint, asker, origin, start_by)
    }

    /// Opens stored pictures, in their order.
    ///
    /// # Errors
    ///
    /// [`Failure::ResultLost`] when a picture is gone or changed on disk.
    pub(crate) async fn open(&self, pictures: &[StoredPicture]) -> Result<Vec<Arc<dyn ByteSource>>, Failure> {
        self.core.open(pictures).await
    }

    /// One picture of an order, for its signed address; `None` when it is not (or no longer) there.
    pub(crate) async fn picture(&self, job: JobId, index: usize) -> Option<(StoredPicture, Arc<dyn ByteSource>)> {
        let stored = self.core.journal.job(job).await.ok()??;
        let picture = *delivery_of(&stored)?.pictures.get(index)?;
        let source = self.core.results.read(&picture).await.ok()?;
        Some((picture, source))
    }

    /// An order of a client by its id; `None` when the client has no such order.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`] when that cannot be known.
    pub(crate) async fn look(&self, client: &ClientId, job: JobId) -> Result<Option<JobView>, Failure> {
        self.core.look(client, job).await
    }

    /// Ends a client's interest in an order of its own; `None` when the client has no such order.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`] when that cannot be known.
    pub(crate) async fn cancel(&self, client: &ClientId, job: JobId) -> Result<Option<CancelOutcome>, Failure> {
        self.core.cancel(client, job).await
    }

    /// Whether a write or a sync has failed, so that nothing more may be bought.
    pub(crate) fn storage_failed(&self) -> bool {
        self.core.storage_failed()
    }

    /// Whether the disk has room for what would be bought.
    pub(crate) fn has_room(&self) -> bool {
        self.core.room.has_space()
    }

    /// What was learned of generation times.
    pub(crate) fn learned(&self) -> LearnedLatencies {
        self.core.latencies().stored()
    }

    pub(crate) fn status(&self) -> Status {
        let core = &self.core;
        let mut status = core.jobs.count();
        core.metrics.fill(&mut status);
        let SpoolStatus { bytes, reserved: taken, bytes_max, memory_bytes, waiting, refused } = core.spool.status();
        (status.spool_bytes, status.spool_taken_bytes, status.spool_memory_bytes) = (bytes, taken, memory_bytes);
        (status.spool_bytes_max, status.spool_waiting, status.spool_refused) = (bytes_max, waiting, refused);
        status.memory_cache_bytes = core.results.memory_bytes();
        status.storage = if core.storage_failed() { "failed" } else { "ok" };
        status
    }

    /// Brings the gauges up to date before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        self.core.metrics.set_gauges(&self.status());
    }
}

/// What an order brought, as the journal has it; `None` while it is under way or when it brought nothing.
fn delivery_of(stored: &StoredJob) -> Option<JobResult> {
    let mut delivery = JobResult {
        job: stored.record.id,
        purchases: Vec::new(),
        pictures: Vec::new(),
        missing: 0,
        usage: None,
        resolved: Timestamp::from_millis(0),
    };
    for purchase in &stored.purchases {
        match &purchase.state {
            StoredState::Resolved { upstream, pictures, usage, at } => {
                add_to(&mut delivery, upstream.as_ref(), pictures, *usage, *at);
            }
            StoredState::Failed { .. } => {}
            StoredState::Intent | StoredState::Committing { .. } | StoredState::Accepted { .. } => return None,
        }
    }
    finish_delivery(delivery, stored.record.n)
}

/// Adds what one prediction brought.
fn add_to(
    delivery: &mut JobResult,
    upstream: Option<&UpstreamId>,
    pictures: &[StoredPicture],
    usage: Option<crate::model::Usage>,
    at: Timestamp,
) {
    // One prediction without figures makes the sum unknown: complete usage, or none.
    let first = delivery.pictures.is_empty();
    delivery.usage = match (delivery.usage, usage) {
        (None, usage) if first => usage,
        (Some(sum), Some(usage)) => Some(sum.plus(usage)),
        _ => None,
    };
    delivery.purchases.extend(upstream.cloned());
    delivery.pictures.extend_from_slice(pictures);
    delivery.resolved = delivery.resolved.max(at);
}

fn finish_delivery(mut delivery: JobResult, n: u8) -> Option<JobResult> {
    delivery.missing = n.saturating_sub(u8::try_from(delivery.pictures.len()).unwrap_or(u8::MAX));
    (!delivery.pictures.is_empty()).then_some(delivery)
}

#[cfg(test)]
#[path = "../tests/gateway/simulation.rs"]
mod simulation;
