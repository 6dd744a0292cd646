//! Jobs from the request to the result, and the requests that wait for them. The engine knows nothing of HTTP.
//!
//! A *job* is what a request asks for. It has one or more *purchases*, each one paid prediction at the upstream, and
//! any number of *waiters*, the requests that wait for it. A tracked task owns the work, never the request: dropping a
//! waiter removes one waiter and cancels nothing that is paid for.
//!
//! Wanted:
//! - A step is in the journal before it is taken: the intent before the upload, the commit before the last byte, the id
//!   before the first poll, the pictures before the answer.
//! - A further request for a job that is under way joins it, as `reuse` decides.
//! - A job without waiters gives up its slot in the queue while nothing of it is bought.
//!
//! How: `jobs` decides, and does nothing else; `driver` does what it asks for, and decides nothing. `requests`
//! finds what answers a request, from the live jobs and from the `cache` of results, or lists a new job; a request holds a
//! [`Waiter`]. `polls` says when a purchase is polled. Known races are listed in `jobs`, `cache` and `requests/view`.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::Budget;
use crate::config::{CacheConfig, StorageConfig, Switch, UpstreamConfig};
use crate::lifecycle::Lifecycle;
use crate::model::picture::PictureLimits;
use crate::model::{ByteSource, Catalogue, Clock, CompletionListener, Failure, Quotas, Rng, StoredPicture};
use crate::polling::latency::{LatencyModel, LatencyPriors, StoredLatencies};
use crate::polling::planner::PollPlanner;
use crate::storage::journal::Standing;
use crate::storage::spool::{Spool, SpoolStatus};
use crate::storage::{DiskSpace, Journal, JournalError, LearnedState, Results};
use crate::telemetry::Metrics;
use crate::upstream::Upstream;
use crate::upstream::formats::{FormatBasis, FormatRules, FormatStore, FormatTable, StoredFormats};

mod cache;
mod driver;
mod jobs;
mod metrics;
mod polls;
mod requests;
mod reuse;

use cache::eviction::{Eviction, EvictionSettings};
use cache::orphans::OrphanRetention;
use cache::{CacheSettings, ResultCache};
use driver::{Driver, FetchMetrics, Fetcher, LinkFetcher, Services, recovery};
pub(crate) use jobs::JobStage;
use jobs::rules::Rules;
use jobs::{Counts, Jobs};
use metrics::{ClientWait, EngineMetrics};
pub(crate) use metrics::{Status, Undecided};
use polls::PollSchedule;
pub(crate) use requests::delete::DeleteOutcome;
pub(crate) use requests::job_request::{JobRequest, WaitMode};
pub(crate) use requests::list::JobPage;
use requests::list::ListSlots;
pub(crate) use requests::progress::{JobForecast, JobProgress};
pub(crate) use requests::refetch::recorded_picture;
pub(crate) use requests::view::{JobStatus, JobSummary, JobView};
pub(crate) use requests::waiter::{JobEvent, WaitError, Waiter};
pub(crate) use reuse::AnswerSource;

/// The shortest time between two estimates of the generation times of one class.
const LEARNING_PAUSE: Duration = Duration::from_millis(50);

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
    /// Follows the journal beside the engine.
    pub(crate) undecided: Undecided,
    /// Where the engine keeps what it learns of stored pictures.
    pub(crate) state: LearnedState,
    /// Generation times that earlier runs of the gateway learned.
    pub(crate) learned: Option<StoredLatencies>,
    /// The request formats that earlier runs found to be accepted, and where later ones find them.
    pub(crate) formats: (StoredFormats, Arc<dyn FormatStore>),
    /// Input pictures can be published at a public address.
    pub(crate) publishes_inputs: bool,
    pub(crate) picture_limits: PictureLimits,
}

/// Handle to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    driver: Arc<Driver>,
    catalogue: Arc<Catalogue>,
    quotas: Arc<dyn Quotas>,
    results: Results,
    room: DiskSpace,
    spool: Spool,
    /// Prompts are kept with their jobs.
    keeps_prompts: bool,
    lists: ListSlots,
}

impl Engine {
    /// Builds the engine, resumes what the journal shows as under way, and starts its tasks.
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
        let Parts { clock, rng, catalogue, journal, results, room, spool, budget, quotas, .. } = parts;
        let metrics = EngineMetrics::new(&parts.metrics, parts.undecided, &catalogue);
        let rules = rules(upstream, &catalogue, parts.publishes_inputs);
        let schedule = PollSchedule::new(rules.planner, upstream.concurrent_polls_max.get());
        let latencies = latencies(upstream, parts.learned);
        let settings = CacheSettings::new(upstream, cache, storage);
        let result_cache =
            ResultCache::new(Arc::clone(&journal), results.clone(), settings, rules.clone(), metrics.clone());
        let eviction = Eviction {
            journal: Arc::clone(&journal),
            results: results.clone(),
            waiters: result_cache.waiters.clone(),
            settings: EvictionSettings::new(cache, storage),
        };
        let orphans = OrphanRetention::new(Arc::clone(&journal), results.orphans(), parts.state, storage);
        let fetcher = Fetcher {
            upstream: Arc::clone(&parts.upstream),
            results: results.clone(),
            picture_bytes_max: upstream.picture_bytes_max,
            download_timeout: upstream.download_timeout,
            metrics: FetchMetrics::new(&parts.metrics),
        };
        let links = LinkFetcher {
            upstream: Arc::clone(&parts.upstream),
            catalogue: Arc::clone(&catalogue),
            spool: spool.clone(),
            limits: parts.picture_limits,
            timeout: upstream.download_timeout,
        };
        let services = Services {
            clock,
            rng,
            journal,
            budget,
            upstream: parts.upstream,
            completion_listener: parts.completion_listener,
            lifecycle: parts.lifecycle,
            metrics,
        };
        let (stored, format_store) = parts.formats;
        let basis = FormatBasis::of(&catalogue, &upstream.base_url);
        let jobs = Jobs::new(rules.clone(), FormatTable::new(upstream.first_contact, basis, stored));
        let (driver, messages) = Driver::new(jobs, latencies, fetcher, links, format_store, result_cache, services);
        let driver = Arc::new(driver);
        recovery::run(&driver, &rules, &*quotas).await?;
        driver::start(&driver, schedule, messages);
        driver.services.lifecycle.spawn_service("eviction", eviction.run());
        // Beside the start: it may take long.
        driver.services.lifecycle.spawn_service("orphans", orphans.run());
        let keeps_prompts = storage.keep_prompts == Switch::On;
        Ok(Self { driver, catalogue, quotas, results, room, spool, keeps_prompts, lists: ListSlots::new() })
    }

    /// Returns the store of uploads.
    pub(crate) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Opens stored pictures, in their order.
    ///
    /// # Errors
    ///
    /// [`Failure::ResultLost`] when a picture is gone or changed on disk.
    pub(crate) async fn open(&self, pictures: &[StoredPicture]) -> Result<Vec<Arc<dyn ByteSource>>, Failure> {
        self.driver.cache.open(pictures).await
    }

    /// Whether what is bought can be recorded and stored; nothing is bought while it cannot.
    pub(crate) fn storage_standing(&self) -> Standing {
        if self.results.failed() { Standing::Failed } else { self.driver.services.journal.standing() }
    }

    /// Whether the disk has space for what would be bought.
    pub(crate) fn has_room(&self) -> bool {
        self.room.has_space()
    }

    /// Returns the learned generation times.
    pub(crate) fn learned(&self) -> StoredLatencies {
        self.driver.latencies().stored()
    }

    pub(crate) fn status(&self) -> Status {
        let (counts, longest) = self.driver.read(|jobs| (jobs.table.counts(), jobs.table.longest_waited_for()));
        let Counts { queued, submitting, polling, kept } = counts;
        let waiters = self.driver.cache.waiters.total() + kept;
        let formats = self.driver.read(|jobs| jobs.formats.rows());
        let mut status = Status { queued, submitting, polling, waiters, formats, ..Status::default() };
        self.driver.services.metrics.fill(&mut status);
        let SpoolStatus { bytes, reserved, bytes_max, memory_bytes, waiting, refused } = self.spool.status();
        (status.spool_bytes, status.spool_reserved_bytes, status.spool_memory_bytes) = (bytes, reserved, memory_bytes);
        (status.spool_bytes_max, status.spool_waiting, status.spool_refused) = (bytes_max, waiting, refused);
        status.memory_cache_bytes = self.results.memory_bytes();
        let now = self.driver.services.clock.now();
        status.longest_wait = longest
            .map(|job| ClientWait { client: job.client.to_string(), seconds: now.since(job.created).as_secs_f64() });
        (status.disk_free_bytes, status.disk_free_bytes_min) = self.room.free_bytes();
        (status.orphans, status.orphan_bytes) = self.results.orphans().count();
        status.storage = match self.storage_standing() {
            Standing::Fine => "ok",
            Standing::Away => "away",
            Standing::Failed => "failed",
        };
        status
    }

    /// Updates the gauges before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        self.driver.services.metrics.set_gauges(&self.status());
    }
}

/// Resolves once the jobs, the scheduler of polls and the journal have shown that they work. Does not resolve while one of them
/// is stuck.
pub(crate) async fn shows_life(engine: &Engine) {
    driver::shows_life(&engine.driver).await;
}

fn rules(upstream: &UpstreamConfig, catalogue: &Arc<Catalogue>, publishes_inputs: bool) -> Rules {
    Rules {
        catalogue: Arc::clone(catalogue),
        planner: PollPlanner {
            min_interval: upstream.poll_interval_min,
            max_interval: upstream.poll_interval_max.max(upstream.poll_interval_min),
            first_poll: upstream.first_poll,
            poll_cost: upstream.poll_cost,
        },
        submit_attempts_max: upstream.submit_attempts_max.get(),
        on_unknown: upstream.on_unknown,
        deadline: upstream.deadline,
        refetch_time: upstream.refetch_timeout,
        formats: FormatRules::new(upstream, publishes_inputs),
    }
}

fn latencies(upstream: &UpstreamConfig, learned: Option<StoredLatencies>) -> LatencyModel {
    let priors = match upstream.latency_priors {
        Switch::On => LatencyPriors::Measured,
        Switch::Off => LatencyPriors::None,
    };
    let latencies = match learned {
        Some(learned) => LatencyModel::restore(priors, learned),
        None => LatencyModel::new(priors),
    };
    latencies.pausing(LEARNING_PAUSE)
}

#[cfg(test)]
#[path = "../tests/simulation/core.rs"]
mod core_simulation;
#[cfg(test)]
#[path = "../tests/simulation/simulation.rs"]
mod simulation;
