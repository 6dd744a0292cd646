//! What already answers a request: a live job, a result on disk, or an unknown outcome. `reuse.rs` decides, this file
//! looks things up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::core::{Core, Recent};
use super::jobs::Joined;
use super::jobs::outcome::{FailureScope, stored_failure, stored_result};
use super::reuse::{ReusePolicy, StoredCandidate};
use super::waiter::{AnswerSource, Waiter};
use crate::config::{CacheMode, OnUnknown};
use crate::model::{ByteSource, ClientId, Failure, Fingerprint, IdempotencyKey, JobId, JobResult, StoredPicture};
use crate::storage::journal::{JobRecord, StoredJob};

/// Stored jobs of one fingerprint that are considered, of those that have pictures or an unknown outcome.
const CANDIDATES_MAX: usize = 64;

impl Core {
    /// Answers a request by its idempotency key, where the client has used the key before: with the same job, however
    /// that has ended.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`] when the key was used for another request.
    pub(super) async fn find_by_key(
        self: &Arc<Self>,
        client: &ClientId,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        start_by: Instant,
    ) -> Result<Option<Waiter>, Failure> {
        if let Some(joined) = self.jobs.join_by_key(client, key, fingerprint, start_by)? {
            return Ok(Some(self.joined_waiter(joined)));
        }
        let stored = self.journal.by_idempotency_key(client.clone(), key.clone()).await;
        // The key of an evicted result has expired with it.
        let Some(stored) = stored.map_err(|_| Failure::JournalUnavailable)?.filter(|stored| !stored.evicted) else {
            return Ok(None);
        };
        if stored.record.fingerprint != fingerprint {
            return Err(Failure::KeyReused);
        }
        if let Some(result) = stored_result(&stored)
            && self.open(&result.pictures).await.is_ok()
        {
            self.count_joined(&stored.record);
            self.jobs.add_waiter(stored.record.id);
            let delivered = stored.delivered.is_some();
            return Ok(Some(self.waiter_for_result(Arc::new(result), AnswerSource::Joined, delivered)));
        }
        // A failure that cost nothing may be retried under the same key; one that may have cost money is returned
        // again.
        Ok(stored_failure(&stored, FailureScope::Unresolved)
            .filter(|(failure, _)| failure.may_have_been_bought())
            .map(|(failure, _)| self.waiter_for_failure(stored.record.id, failure)))
    }

    /// Joins a live job, where the policy allows it.
    pub(super) fn join(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        policy: ReusePolicy,
        start_by: Instant,
    ) -> Option<Waiter> {
        self.jobs.join(fingerprint, policy, start_by).map(|joined| self.joined_waiter(joined))
    }

    /// Finds a stored result that answers the request and is whole on disk; or an unknown outcome that holds the
    /// request.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`]: a result that cannot be looked up may exist, and must not be bought again.
    pub(super) async fn find_stored(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        policy: ReusePolicy,
    ) -> Result<Option<Waiter>, Failure> {
        if policy.cache_allowed
            && let Some(recent) = self.recent.get(&fingerprint)
        {
            if Instant::now() < recent.until && self.open(&recent.result.pictures).await.is_ok() {
                self.metrics.hit();
                if !recent.delivered {
                    // This answer is the first that may be received, which is journalled.
                    self.recent.insert(fingerprint, Recent { delivered: true, ..recent.clone() });
                }
                let Recent { result, delivered, .. } = recent;
                self.jobs.add_waiter(result.job);
                let age = self.clock.now().since(result.resolved).min(self.settings.cache_ttl);
                return Ok(Some(self.waiter_for_result(result, AnswerSource::Hit(age), delivered)));
            }
            self.recent.invalidate(&fingerprint);
        }
        let newest = self.journal.by_fingerprint(fingerprint, CANDIDATES_MAX).await.map_err(|error| {
            tracing::error!(%error, "the journal cannot be read; the request is refused");
            Failure::JournalUnavailable
        })?;
        if policy.is_retry && !policy.cache_allowed {
            // A result that was never delivered is more likely its own than one that may have been lost after it was
            // written.
            for stored in newest.iter().filter(|stored| stored.delivered.is_none()) {
                if let Some(waiter) = self.reuse_stored(stored, policy).await {
                    return Ok(Some(waiter));
                }
            }
        }
        for stored in newest {
            if let Some(waiter) = self.reuse_stored(&stored, policy).await {
                return Ok(Some(waiter));
            }
            if let Some(waiter) = self.held_by_unknown(&stored, policy) {
                return Ok(Some(waiter));
            }
        }
        Ok(None)
    }

    async fn reuse_stored(self: &Arc<Self>, stored: &StoredJob, policy: ReusePolicy) -> Option<Waiter> {
        let job = stored.record.id;
        let result = Some(stored).filter(|stored| !stored.evicted).and_then(stored_result)?;
        let candidate = StoredCandidate {
            age: self.clock.now().since(result.resolved),
            delivered: stored.delivered.map(|at| self.clock.now().since(at)),
            in_delivery: stored.record.respond_async || self.jobs.has_waiters(job),
            shareable: stored.record.shareable && result.missing == 0,
        };
        if !policy.may_reuse(candidate, self.settings.cache_ttl, self.settings.results_ttl) {
            return None;
        }
        if let Err(failure) = self.open(&result.pictures).await {
            tracing::error!(%job, ?failure, "a stored result cannot be read; it is not reused");
            return None;
        }
        // An unclaimed result is claimed once: of two requests that found it unclaimed, the lock lets one through.
        let shared = policy.cache_allowed && candidate.shareable;
        if shared || policy.is_retry {
            self.jobs.add_waiter(job);
        } else if !self.jobs.add_first_waiter(job) {
            return None;
        }
        let result = Arc::new(result);
        let delivered = candidate.delivered.is_some();
        if candidate.shareable && self.settings.cache == CacheMode::On && delivered {
            self.remember(stored.record.fingerprint, &result, candidate.age, true);
        }
        let origin = if delivered && shared {
            self.metrics.hit();
            AnswerSource::Hit(candidate.age)
        } else {
            self.count_joined(&stored.record);
            AnswerSource::Joined
        };
        Some(self.waiter_for_result(result, origin, delivered))
    }

    /// Returns the same error again, for a purchase of unknown outcome.
    fn held_by_unknown(self: &Arc<Self>, stored: &StoredJob, policy: ReusePolicy) -> Option<Waiter> {
        let (failure, at) = stored_failure(stored, FailureScope::Unresolved)?;
        let unknown = matches!(failure, Failure::OutcomeUnknown { .. });
        let unknown_for = self.clock.now().since(at);
        let holds = unknown
            && self.settings.on_unknown == OnUnknown::Hold
            && policy.is_held(unknown_for, self.settings.unknown_hold);
        holds.then(|| {
            self.count_joined(&stored.record);
            self.waiter_for_failure(stored.record.id, failure)
        })
    }

    /// Remembers a complete result of this age for as long as it may still answer.
    pub(super) fn remember(&self, fingerprint: Fingerprint, result: &Arc<JobResult>, age: Duration, delivered: bool) {
        let until = Instant::now() + self.settings.cache_ttl.saturating_sub(age);
        self.recent.insert(fingerprint, Recent { result: Arc::clone(result), until, delivered });
    }

    /// Opens one picture of a stored job; `None` when it does not exist, or not any more.
    pub(super) async fn picture(&self, job: JobId, index: usize) -> Option<(StoredPicture, Arc<dyn ByteSource>)> {
        let stored = self.journal.job(job).await.ok()??;
        let picture = *stored_result(&stored)?.pictures.get(index)?;
        let source = self.results.read(&picture).await.ok()?;
        Some((picture, source))
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

    fn joined_waiter(self: &Arc<Self>, Joined { record, slot }: Joined) -> Waiter {
        self.count_joined(&record);
        self.waiter(record.id, AnswerSource::Joined, slot)
    }

    /// Counts a purchase that was avoided.
    pub(super) fn count_joined(&self, record: &JobRecord) {
        self.metrics.joined(self.estimated_cost(&record.model, record.n));
    }
}
