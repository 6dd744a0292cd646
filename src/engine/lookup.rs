//! What there is for a request already: under way, on disk, or of unknown outcome. `joining.rs` decides, this looks.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::jobs::Joined;
use super::reuse::{ReusePolicy, StoredCandidate};
use super::waiter::{AnswerSource, Waiter};
use super::{Core, Recent, delivery_of};
use crate::config::{CacheMode, OnUnknown};
use crate::model::{
    ByteSource, ClientId, Failure, Fingerprint, IdempotencyKey, JobResult, StoredPicture, Timestamp, Usd,
};
use crate::storage::journal::{JobRecord, StoredJob, StoredState};

/// Stored orders of one fingerprint that are looked at, of those that have pictures or an unknown outcome.
const CANDIDATES_MAX: usize = 64;

impl Core {
    /// Answers a request by its client's own key, where the key was used before: the same order, whatever became of it.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`] when the key stands for another request.
    pub(super) async fn find_keyed(
        self: &Arc<Self>,
        client: &ClientId,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        start_by: Instant,
    ) -> Result<Option<Waiter>, Failure> {
        if let Some(joined) = self.jobs.join_key(client, key, fingerprint, start_by)? {
            return Ok(Some(self.joined_waiter(joined)));
        }
        let stored = self.journal.by_idempotency_key(client.clone(), key.clone()).await;
        // A result that is swept has outlived its key.
        let Some(stored) = stored.map_err(|_| Failure::JournalUnavailable)?.filter(|stored| !stored.evicted) else {
            return Ok(None);
        };
        if stored.record.fingerprint != fingerprint {
            return Err(Failure::KeyReused);
        }
        if let Some(delivery) = delivery_of(&stored)
            && self.open(&delivery.pictures).await.is_ok()
        {
            self.count_joined(&stored.record);
            self.jobs.hold(stored.record.id);
            let delivered = stored.delivered.is_some();
            return Ok(Some(self.held_waiter(Arc::new(delivery), AnswerSource::Joined, delivered)));
        }
        // What cost nothing may be tried again under the same key; what may have cost something is told again.
        Ok(failure_of(&stored)
            .filter(|(failure, _)| failure.may_have_been_bought())
            .map(|(failure, _)| self.failed_waiter(stored.record.id, failure)))
    }

    /// Waits with a live order, where the rules say so.
    pub(super) fn join(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        asker: ReusePolicy,
        start_by: Instant,
    ) -> Option<Waiter> {
        self.jobs.join(fingerprint, asker, start_by).map(|joined| self.joined_waiter(joined))
    }

    /// Finds a stored result that answers the request, whole on disk; or an unknown outcome that holds it.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`]: what cannot be looked up may be there, and must not be bought again.
    pub(super) async fn find_stored(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        asker: ReusePolicy,
    ) -> Result<Option<Waiter>, Failure> {
        if asker.shares
            && let Some(recent) = self.recent.get(&fingerprint)
        {
            if Instant::now() < recent.until && self.open(&recent.delivery.pictures).await.is_ok() {
                self.metrics.hit();
                if !recent.delivered {
                    // This answer is the first that may reach somebody, and the journal is to know.
                    self.recent.insert(fingerprint, Recent { delivered: true, ..recent.clone() });
                }
                let Recent { delivery, delivered, .. } = recent;
                self.jobs.hold(delivery.job);
                let age = self.clock.now().since(delivery.resolved).min(self.settings.cache_ttl);
                return Ok(Some(self.held_waiter(delivery, AnswerSource::Hit(age), delivered)));
            }
            self.recent.invalidate(&fingerprint);
        }
        let newest = self.journal.by_fingerprint(fingerprint, CANDIDATES_MAX).await.map_err(|error| {
            tracing::error!(%error, "the journal cannot be read");
            Failure::JournalUnavailable
        })?;
        if asker.is_retry && !asker.shares {
            // What nobody got is more likely its own than what may have been lost after it was written.
            for stored in newest.iter().filter(|stored| stored.delivered.is_none()) {
                if let Some(waiter) = self.take_stored(stored, asker).await {
                    return Ok(Some(waiter));
                }
            }
        }
        for stored in newest {
            if let Some(waiter) = self.take_stored(&stored, asker).await {
                return Ok(Some(waiter));
            }
            if let Some(waiter) = self.held_by(&stored, asker) {
                return Ok(Some(waiter));
            }
        }
        Ok(None)
    }

    async fn take_stored(self: &Arc<Self>, stored: &StoredJob, asker: ReusePolicy) -> Option<Waiter> {
        let job = stored.record.id;
        let delivery = Some(stored).filter(|stored| !stored.evicted).and_then(delivery_of)?;
        let candidate = StoredCandidate {
            age: self.clock.now().since(delivery.resolved),
            delivered: stored.delivered.map(|at| self.clock.now().since(at)),
            in_delivery: stored.record.respond_async || self.jobs.has_waiters(job),
            shareable: stored.record.shareable && delivery.missing == 0,
        };
        if !asker.takes(candidate, self.settings.cache_ttl, self.settings.results_ttl) {
            return None;
        }
        if let Err(failure) = self.open(&delivery.pictures).await {
            tracing::error!(%job, ?failure, "a stored result cannot be read");
            return None;
        }
        // An abandoned result is claimed once: of two who found it free, the lock lets one through.
        let shared = asker.shares && candidate.shareable;
        if shared || asker.is_retry {
            self.jobs.hold(job);
        } else if !self.jobs.hold_alone(job) {
            return None;
        }
        let delivery = Arc::new(delivery);
        let delivered = candidate.delivered.is_some();
        if candidate.shareable && self.settings.cache == CacheMode::On && delivered {
            self.remember(stored.record.fingerprint, &delivery, candidate.age, true);
        }
        let origin = if delivered && shared {
            self.metrics.hit();
            AnswerSource::Hit(candidate.age)
        } else {
            self.count_joined(&stored.record);
            AnswerSource::Joined
        };
        Some(self.held_waiter(delivery, origin, delivered))
    }

    /// The same error again, for a purchase that nobody knows the outcome of.
    fn held_by(self: &Arc<Self>, stored: &StoredJob, asker: ReusePolicy) -> Option<Waiter> {
        let (failure, at) = failure_of(stored)?;
        let unknown = matches!(failure, Failure::OutcomeUnknown { .. });
        let unknown_for = self.clock.now().since(at);
        let holds = unknown
            && self.settings.on_unknown == OnUnknown::Hold
            && asker.is_held(unknown_for, self.settings.unknown_hold);
        holds.then(|| {
            self.count_joined(&stored.record);
            self.failed_waiter(stored.record.id, failure)
        })
    }

    /// Remembers a complete result, already so old, for as long as it may still answer.
    pub(super) fn remember(&self, fingerprint: Fingerprint, delivery: &Arc<JobResult>, age: Duration, delivered: bool) {
        let until = Instant::now() + self.settings.cache_ttl.saturating_sub(age);
        self.recent.insert(fingerprint, Recent { delivery: Arc::clone(delivery), until, delivered });
    }

    pub(super) async fn open(&self, pictures: &[StoredPicture]) -> Result<Vec<Arc<dyn ByteSource>>, Failure> {
        let mut sources = Vec::with_capacity(pictures.len());
        for picture in pictures {
            let source = self.results.read(picture).await;
            sources.push(source.map_err(|error| Failure::ResultLost { message: error.to_string() })?);
        }
        Ok(sources)
    }

    fn joined_waiter(self: &Arc<Self>, Joined { record, seat }: Joined) -> Waiter {
        self.count_joined(&record);
        self.waiter(record.id, AnswerSource::Joined, seat)
    }

    /// Whether a record or a picture may not have reached the disk.
    pub(super) fn storage_failed(&self) -> bool {
        self.journal.failed() || self.results.failed()
    }

    /// Counts a purchase that was avoided.
    pub(super) fn count_joined(&self, record: &JobRecord) {
        self.metrics.joined(self.estimate(&record.model, record.n));
    }

    /// What `pictures` pictures of a model cost, before the upstream has reported tokens.
    pub(super) fn estimate(&self, model: &str, pictures: u8) -> Usd {
        self.catalogue.find(model).map(|model| model.price.of(usize::from(pictures), None)).unwrap_or_default()
    }
}

/// Why an order that has ended brought nothing, and since when: what may have cost money first. What somebody has
/// decided about counts no more. `None` for one that brought pictures, or is under way.
fn failure_of(stored: &StoredJob) -> Option<(Failure, Timestamp)> {
    let mut found: Option<(Failure, Timestamp)> = None;
    for purchase in &stored.purchases {
        match &purchase.state {
            StoredState::Failed { failure, at, .. } if purchase.resolution.is_none() => {
                let worse = found.as_ref().is_none_or(|(known, _)| failure.severity() > known.severity());
                if worse {
                    found = Some((failure.clone(), *at));
                }
            }
            StoredState::Failed { .. } => {}
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Resolved { .. } => return None,
        }
    }
    found
}
