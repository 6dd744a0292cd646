//! What already answers a request: a result on disk, a failure that was not received, or an unknown outcome. `reuse.rs`
//! decides, this file looks things up.
//!
//! Known race, and its solution: a job ends between a look-up among the live jobs and a look-up here. Its end is in the
//! journal before it leaves the table of live jobs, so the second look-up finds it; an end that could not be written is
//! in neither.

use std::sync::Arc;
use std::time::Duration;

use super::jobs::job::outcome::{FailureScope, stored_failure, stored_result, unresolved_unknown};
use super::jobs::rules::Rules;
use super::metrics::EngineMetrics;
use super::reuse::{AnswerSource, ReusePolicy, ReuseWindows, StoredCandidate};
use crate::config::{CacheConfig, CacheMode, OnUnknown, StorageConfig, UpstreamConfig};
use crate::model::{
    ByteSource, ClientId, Failure, Fingerprint, IdempotencyKey, JobId, JobResult, RunningTime, StoredPicture, Usd,
};
use crate::storage::journal::{JobRecord, StoredJob};
use crate::storage::{Journal, Results};

pub(super) mod damaged;
pub(super) mod deleted;
pub(super) mod eviction;
pub(super) mod orphans;
pub(super) mod waiters;

use damaged::{DamagedResult, DamagedResults};
use deleted::{DeletedJobs, insert_unless_deleted};
use waiters::{CountedWaiter, WaiterCounts};

/// Results and failures that are remembered without asking the journal.
const REMEMBERED_MAX: u64 = 100_000;

/// How long a failure waits for the retry that it answers: SDKs retry within seconds.
const PENDING_FAILURE_TTL: Duration = Duration::from_mins(2);

/// Stored jobs of one fingerprint that are considered, of those that have pictures or an unknown outcome.
const CANDIDATES_MAX: usize = 64;

/// The results of jobs that have ended.
#[derive(Debug)]
pub(super) struct ResultCache {
    /// Its running time is what ages are counted in.
    journal: Arc<dyn Journal>,
    results: Results,
    settings: CacheSettings,
    pub(super) rules: Rules,
    metrics: EngineMetrics,
    /// The requests that wait for, or are receiving, each result.
    pub(super) waiters: WaiterCounts,
    /// Complete results by fingerprint, in front of the journal.
    recent: moka::sync::Cache<Fingerprint, Recent>,
    /// Failures that did not reach their client, which saw a broken connection: they answer its retry.
    pending_failures: moka::sync::Cache<Fingerprint, (JobId, Failure)>,
    pub(super) damaged: DamagedResults,
    deleted: DeletedJobs,
}

/// Settings of the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheSettings {
    mode: CacheMode,
    ttl: Duration,
    results_ttl: Duration,
    on_unknown: OnUnknown,
    unknown_hold: Duration,
}

/// A result that answers without asking the journal.
#[derive(Clone, Debug)]
struct Recent {
    result: Arc<JobResult>,
    /// By the running time.
    ended: RunningTime,
    /// A client has received it, or is receiving it.
    delivered: bool,
    /// What it costs by the catalogue.
    usd: Usd,
}

/// What answers a request, with the request counted as waiting for it.
#[derive(Debug)]
pub(super) struct StoredAnswer {
    pub(super) job: JobId,
    pub(super) outcome: Result<Arc<JobResult>, Failure>,
    pub(super) source: AnswerSource,
    /// The result was delivered to a client before.
    pub(super) delivered_before: bool,
    pub(super) counted: CountedWaiter,
}

/// What is stored for a request.
#[derive(Debug)]
pub(super) enum Stored {
    Answer(StoredAnswer),
    /// The result that answers it, once its damaged pictures are fetched again.
    Damaged(Box<DamagedResult>),
}

impl StoredAnswer {
    fn failure(waiters: &WaiterCounts, job: JobId, failure: Failure) -> Self {
        let (source, counted) = (AnswerSource::Joined, waiters.add(job));
        Self { job, outcome: Err(failure), source, delivered_before: false, counted }
    }
}

impl CacheSettings {
    pub(super) fn new(upstream: &UpstreamConfig, cache: &CacheConfig, storage: &StorageConfig) -> Self {
        Self {
            mode: cache.mode,
            ttl: cache.ttl,
            results_ttl: storage.results_ttl,
            on_unknown: upstream.on_unknown,
            unknown_hold: upstream.unknown_hold,
        }
    }

    fn windows(&self) -> ReuseWindows {
        ReuseWindows { cache_ttl: self.ttl, claim: self.results_ttl, unknown_hold: self.unknown_hold }
    }
}

impl ResultCache {
    pub(super) fn new(
        journal: Arc<dyn Journal>,
        results: Results,
        settings: CacheSettings,
        rules: Rules,
        metrics: EngineMetrics,
    ) -> Self {
        let damaged = DamagedResults::new(results.clone());
        let pending_failures = moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX);
        Self {
            journal,
            results,
            settings,
            rules,
            metrics,
            waiters: WaiterCounts::default(),
            recent: moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).build(),
            pending_failures: pending_failures.time_to_live(PENDING_FAILURE_TTL).build(),
            damaged,
            deleted: DeletedJobs::new(),
        }
    }

    /// Whether results answer later requests.
    pub(super) fn is_on(&self) -> bool {
        self.settings.mode == CacheMode::On
    }

    /// Whether an unknown outcome answers later requests.
    pub(super) fn holds_unknown(&self) -> bool {
        self.settings.on_unknown == OnUnknown::Hold
    }

    /// Finds the answer to a request whose idempotency key its client has used before: the same job, however that has
    /// ended.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`] when the key was used for another request; [`Failure::JournalUnavailable`].
    pub(super) async fn find_by_key(
        &self,
        client: &ClientId,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
    ) -> Result<Option<Stored>, Failure> {
        let stored = self.journal.by_idempotency_key(client.clone(), key.clone()).await;
        let Some(stored) = stored.map_err(|_| Failure::JournalUnavailable)? else { return Ok(None) };
        if stored.evicted {
            // The key of an evicted result has expired with it, but not what may have been bought without an answer.
            let unknown = unknown(&stored, &self.settings, self.journal.running_time());
            let held = unknown.filter(|(_, unknown_for)| {
                *unknown_for <= self.settings.unknown_hold && stored.record.fingerprint == fingerprint
            });
            let answer = |(failure, _)| StoredAnswer::failure(&self.waiters, stored.record.id, failure);
            return Ok(held.map(answer).map(Stored::Answer));
        }
        if stored.record.fingerprint != fingerprint {
            return Err(Failure::KeyReused);
        }
        let job = stored.record.id;
        if let Some(result) = stored_result(&stored) {
            let counted = self.waiters.enter(job).await;
            let Some(purchases) = self.damaged.find_unless_removed(&*self.journal, &stored).await? else {
                return Ok(None);
            };
            self.count_joined(&stored.record);
            if !purchases.is_empty() {
                return Ok(Some(Stored::Damaged(Box::new(DamagedResult { stored, purchases, counted }))));
            }
            let delivered_before = stored.delivered.is_some();
            let (outcome, source) = (Ok(Arc::new(result)), AnswerSource::Joined);
            return Ok(Some(Stored::Answer(StoredAnswer { job, outcome, source, delivered_before, counted })));
        }
        // A failure that cost nothing may be retried under the same key; one that may have cost money is returned again.
        let failure = stored_failure(&stored, FailureScope::Unresolved).map(|(failure, _)| failure);
        Ok(failure
            .filter(Failure::may_have_been_bought)
            .map(|failure| Stored::Answer(StoredAnswer::failure(&self.waiters, job, failure))))
    }

    /// Takes the failure that did not reach the client of an equal request.
    pub(super) fn take_pending_failure(&self, fingerprint: Fingerprint) -> Option<StoredAnswer> {
        let (job, failure) = self.pending_failures.remove(&fingerprint)?;
        Some(StoredAnswer::failure(&self.waiters, job, failure))
    }

    /// Keeps a failure that did not reach its client, which will retry: the next equal request gets it, and buys
    /// nothing.
    pub(super) async fn keep_failure_for_retry(&self, job: JobId, failure: Failure) {
        // A job that is not in the journal was not bought.
        if let Ok(Some(stored)) = self.journal.job(job).await {
            self.pending_failures.insert(stored.record.fingerprint, (job, failure));
        }
    }

    /// Finds a stored result that answers the request, or an unknown outcome that holds the request. A result that could
    /// not be fetched again comes after all others.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`]: a result that cannot be looked up may exist, and must not be bought again.
    pub(super) async fn find(&self, fingerprint: Fingerprint, policy: ReusePolicy) -> Result<Option<Stored>, Failure> {
        if policy.cache_allowed
            && let Some(found) = self.find_recent(fingerprint).await
        {
            return Ok(Some(Stored::Answer(found)));
        }
        let newest = self.journal.by_fingerprint(fingerprint, CANDIDATES_MAX).await.map_err(|error| {
            tracing::error!(%error, "the journal cannot be read; the request is refused");
            Failure::JournalUnavailable
        })?;
        if policy.is_retry && !policy.cache_allowed {
            // A result that was never delivered is more likely its own than one that may have been lost after it was
            // written.
            for stored in newest.iter().filter(|stored| stored.delivered.is_none()) {
                if let Some(found) = self.reuse(stored, policy).await? {
                    return Ok(Some(found));
                }
            }
        }
        let mut lost = None;
        for stored in newest {
            match self.reuse(&stored, policy).await? {
                Some(found) if self.damaged.lost(stored.record.id).is_some() => lost = lost.or(Some(found)),
                Some(found) => return Ok(Some(found)),
                None => {}
            }
            if let Some(found) = self.held_by_unknown(&stored, policy) {
                return Ok(Some(Stored::Answer(found)));
            }
        }
        Ok(lost)
    }

    async fn find_recent(&self, fingerprint: Fingerprint) -> Option<StoredAnswer> {
        let recent = self.recent.get(&fingerprint)?;
        let age = self.journal.running_time().since(recent.ended);
        let counted = self.waiters.enter(recent.result.job).await;
        if age >= self.settings.ttl || self.open(&recent.result.pictures).await.is_err() {
            self.recent.invalidate(&fingerprint);
            return None;
        }
        self.metrics.hit(recent.usd);
        if !recent.delivered {
            // This answer is the first that may be received, which is journalled.
            insert_unless_deleted(self, fingerprint, Recent { delivered: true, ..recent.clone() });
        }
        let Recent { result, delivered: delivered_before, .. } = recent;
        let (job, source) = (result.job, AnswerSource::Hit(age));
        Some(StoredAnswer { job, outcome: Ok(result), source, delivered_before, counted })
    }

    async fn reuse(&self, stored: &StoredJob, policy: ReusePolicy) -> Result<Option<Stored>, Failure> {
        let job = stored.record.id;
        let Some(result) = Some(stored).filter(|stored| !stored.evicted).and_then(stored_result) else {
            return Ok(None);
        };
        let now = self.journal.running_time();
        let ended = stored.ended().unwrap_or(now);
        let candidate = StoredCandidate {
            age: now.since(ended),
            delivered: stored.delivered.map(|delivered| now.since(delivered.running)),
            in_delivery: stored.record.respond_async || self.waiters.has(job),
            shareable: stored.record.shareable && result.is_as_requested(),
            inputs_unseen: result.inputs_unseen,
            unknown_for: unknown(stored, &self.settings, now).map(|(_, unknown_for)| unknown_for),
        };
        if !policy.may_reuse(candidate, self.settings.windows()) {
            return Ok(None);
        }
        // An unclaimed result is claimed once: of two requests that found it unclaimed, one gets it.
        let shared = policy.cache_allowed && candidate.shareable;
        let repeats = shared || policy.is_retry || candidate.unknown_for.is_some();
        let counted = if repeats { Some(self.waiters.enter(job).await) } else { self.waiters.add_first(job) };
        let Some(counted) = counted else { return Ok(None) };
        let Some(purchases) = self.damaged.find_unless_removed(&*self.journal, stored).await? else { return Ok(None) };
        if !purchases.is_empty() && !policy.may_refetch(self.damaged.lost(job).is_some()) {
            tracing::warn!(%job, "a stored result is damaged; the client asks for a new one, which is bought");
            return Ok(None);
        }
        if !repeats && self.journal.job(job).await.ok().flatten().is_some_and(|now| now.delivered.is_some()) {
            // Since it was looked up, it has been delivered, and its client has left.
            return Ok(None);
        }
        if !purchases.is_empty() {
            self.count_joined(&stored.record);
            let stored = stored.clone();
            return Ok(Some(Stored::Damaged(Box::new(DamagedResult { stored, purchases, counted }))));
        }
        let result = Arc::new(result);
        let delivered_before = candidate.delivered.is_some();
        if candidate.shareable && self.is_on() && delivered_before {
            remember(self, &stored.record, &result, ended, true);
        }
        let source = if delivered_before && shared {
            self.metrics.hit(self.price(&stored.record));
            AnswerSource::Hit(candidate.age)
        } else {
            self.count_joined(&stored.record);
            AnswerSource::Joined
        };
        Ok(Some(Stored::Answer(StoredAnswer { job, outcome: Ok(result), source, delivered_before, counted })))
    }

    /// Returns the same error again, for a purchase of unknown outcome. A job that brought pictures too answers with them
    /// while they are stored.
    fn held_by_unknown(&self, stored: &StoredJob, policy: ReusePolicy) -> Option<StoredAnswer> {
        let (failure, unknown_for) = unknown(stored, &self.settings, self.journal.running_time())?;
        policy.is_held(unknown_for, self.settings.unknown_hold).then(|| {
            self.count_joined(&stored.record);
            StoredAnswer::failure(&self.waiters, stored.record.id, failure)
        })
    }

    /// Remembers how a job has ended, where that may answer later requests.
    pub(super) fn on_ended(&self, record: &JobRecord, outcome: &Result<Arc<JobResult>, Failure>) {
        if let Ok(result) = outcome
            && record.shareable
            && result.is_as_requested()
            && self.is_on()
        {
            remember(self, record, result, self.journal.running_time(), false);
        }
    }

    /// Opens one picture of a stored job; `None` as for [`recorded_picture`].
    ///
    /// # Errors
    ///
    /// The job, when the picture is damaged.
    pub(super) async fn picture(
        &self,
        job: JobId,
        index: usize,
        allowed: impl Fn(&ClientId) -> bool,
    ) -> Option<Result<(StoredPicture, Arc<dyn ByteSource>), StoredJob>> {
        let (stored, picture) = recorded_picture(&*self.journal, job, index, allowed).await?;
        let source = self.results.read(&picture).await;
        Some(source.map(|source| (picture, source)).map_err(|_| stored))
    }

    /// Opens stored pictures, in their order.
    pub(super) async fn open(&self, pictures: &[StoredPicture]) -> Result<Vec<Arc<dyn ByteSource>>, Failure> {
        let mut sources = Vec::with_capacity(pictures.len());
        for picture in pictures {
            let source = self.results.read(picture).await;
            sources.push(source.map_err(|error| Failure::ResultLost { message: error.to_string() })?);
        }
        Ok(sources)
    }

    /// Counts a purchase that was avoided.
    pub(super) fn count_joined(&self, record: &JobRecord) {
        self.metrics.joined(self.price(record));
    }

    /// Returns what a job costs by the catalogue.
    fn price(&self, record: &JobRecord) -> Usd {
        self.rules.price(record, record.n).unwrap_or_default()
    }
}

/// Returns one picture of a stored job as it is recorded; `None` when it does not exist, or not any more, or its client is not
/// `allowed`.
pub(super) async fn recorded_picture(
    journal: &dyn Journal,
    job: JobId,
    index: usize,
    allowed: impl Fn(&ClientId) -> bool,
) -> Option<(StoredJob, StoredPicture)> {
    let stored = journal.job(job).await.ok()??;
    if stored.evicted || !allowed(&stored.record.client) {
        return None;
    }
    let picture = *stored_result(&stored)?.pictures.get(index)?;
    Some((stored, picture))
}

/// Returns the unresolved unknown outcome of a stored job and its age, where such outcomes hold requests.
fn unknown(stored: &StoredJob, settings: &CacheSettings, now: RunningTime) -> Option<(Failure, Duration)> {
    let (failure, ended) = unresolved_unknown(stored).filter(|_| settings.on_unknown == OnUnknown::Hold)?;
    Some((failure.clone(), now.since(ended.unwrap_or(now))))
}

/// Remembers a complete result whose job ended at this running time, unless the job has been deleted.
fn remember(cache: &ResultCache, record: &JobRecord, result: &Arc<JobResult>, ended: RunningTime, delivered: bool) {
    let recent = Recent { result: Arc::clone(result), ended, delivered, usd: cache.price(record) };
    insert_unless_deleted(cache, record.fingerprint, recent);
}
