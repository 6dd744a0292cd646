//! Stored results of which a picture is damaged or missing.

use std::time::Duration;

use super::waiters::CountedWaiter;
use crate::model::{Failure, JobId, PurchaseId};
use crate::storage::journal::{StoredJob, StoredState};
use crate::storage::{Journal, Results};

/// Pause after a refetch that failed, before the same result is fetched again.
const REFETCH_PAUSE: Duration = Duration::from_mins(1);
/// Results whose refetch failed that are remembered.
const REMEMBERED_MAX: u64 = 10_000;

/// A stored result with damaged pictures, and the request that it answers once they are fetched again.
#[derive(Debug)]
pub(in crate::engine) struct DamagedResult {
    pub(in crate::engine) stored: StoredJob,
    /// The purchases with a damaged picture.
    pub(in crate::engine) purchases: Vec<PurchaseId>,
    pub(in crate::engine) counted: CountedWaiter,
}

/// Finds damaged pictures, and remembers those that could not be fetched again.
#[derive(Debug)]
pub(in crate::engine) struct DamagedResults {
    results: Results,
    /// What answers for a while after a refetch has failed.
    lost: moka::sync::Cache<JobId, Failure>,
}

impl DamagedResults {
    pub(super) fn new(results: Results) -> Self {
        let lost = moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(REFETCH_PAUSE);
        Self { results, lost: lost.build() }
    }

    /// Returns the purchases of a job that have a damaged or missing picture.
    pub(in crate::engine) async fn find(&self, stored: &StoredJob) -> Vec<PurchaseId> {
        let mut damaged = Vec::new();
        for purchase in &stored.purchases {
            let StoredState::Resolved { pictures, .. } = &purchase.state else { continue };
            for picture in pictures {
                if let Err(error) = self.results.read(picture).await {
                    tracing::warn!(purchase = %purchase.id, %error, "a stored picture cannot be read");
                    damaged.push(purchase.id);
                    break;
                }
            }
        }
        damaged
    }

    /// Returns the same; `None` when the job was removed since it was read. The request is counted, so that it is not removed from now
    /// on.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`]: without the journal a removed job cannot be told from a damaged one.
    pub(super) async fn find_unless_removed(
        &self,
        journal: &dyn Journal,
        stored: &StoredJob,
    ) -> Result<Option<Vec<PurchaseId>>, Failure> {
        let damaged = self.find(stored).await;
        if damaged.is_empty() {
            return Ok(Some(damaged));
        }
        let now = journal.job(stored.record.id).await.map_err(|error| {
            tracing::error!(%error, "the journal cannot be read; the request is refused");
            Failure::JournalUnavailable
        })?;
        Ok(now.filter(|now| !now.evicted).map(|_| damaged))
    }

    /// Returns the failure of a refetch that failed a short time ago.
    pub(in crate::engine) fn lost(&self, job: JobId) -> Option<Failure> {
        self.lost.get(&job)
    }

    /// Remembers that a refetch has failed.
    pub(in crate::engine) fn note_lost(&self, job: JobId, failure: &Failure) {
        self.lost.insert(job, failure.clone());
    }
}
