//! Results that their client has deleted: the same request buys anew.
//!
//! The record comes first, so that a deleted job stays deleted after a crash; the pictures are removed after it, unless another
//! job has the same. An unknown outcome of the job is held for as long as any other: what may have been bought is not bought
//! again because its job is deleted.
//!
//! Known race, and its solution: a look-up that read the journal before the deletion remembers the result after it. It looks
//! among the deleted jobs once it has remembered the result, and the deletion adds to them before it forgets the result.

use std::collections::HashSet;
use std::time::Duration;

use super::{Recent, ResultCache};
use crate::engine::jobs::job::outcome::stored_result;
use crate::model::{Digest, Fingerprint, JobId};
use crate::storage::JournalError;
use crate::storage::journal::{Record, StoredJob};

/// How long a deletion is remembered: far longer than a look-up takes.
const REMEMBERED_TTL: Duration = Duration::from_mins(10);
/// Deletions that are remembered.
const REMEMBERED_MAX: u64 = 100_000;

/// The jobs that were deleted a short time ago.
#[derive(Debug)]
pub(super) struct DeletedJobs(moka::sync::Cache<JobId, ()>);

impl DeletedJobs {
    pub(super) fn new() -> Self {
        let deleted = moka::sync::Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(REMEMBERED_TTL);
        Self(deleted.build())
    }

    pub(super) fn has(&self, job: JobId) -> bool {
        self.0.contains_key(&job)
    }
}

/// Remembers a result, unless its job has been deleted meanwhile.
pub(super) fn insert_unless_deleted(cache: &ResultCache, fingerprint: Fingerprint, recent: Recent) {
    let job = recent.result.job;
    cache.recent.insert(fingerprint, recent);
    if cache.deleted.has(job) {
        cache.recent.invalidate(&fingerprint);
    }
}

/// Deletes a job that has ended, and that no request waits for or receives. Returns its pictures.
///
/// # Errors
///
/// [`JournalError`] when the journal cannot be written; the job stays as it is.
pub(in crate::engine) async fn delete(
    cache: &ResultCache,
    stored: &StoredJob,
) -> Result<HashSet<Digest>, JournalError> {
    let job = stored.record.id;
    cache.journal.append(Record::Deleted { job }).await?;
    cache.deleted.0.insert(job, ());
    let fingerprint = stored.record.fingerprint;
    cache.recent.invalidate(&fingerprint);
    if cache.pending_failures.get(&fingerprint).is_some_and(|(failed, _)| failed == job) {
        cache.pending_failures.invalidate(&fingerprint);
    }
    let result = stored_result(stored).filter(|_| !stored.evicted);
    let pictures = result.map(|result| result.pictures).unwrap_or_default();
    let digests: HashSet<Digest> = pictures.iter().map(|picture| picture.digest).collect();
    match cache.results.remove_unused(&*cache.journal, digests.clone()).await {
        Ok((_, None)) => {}
        Ok((_, Some(error))) => {
            tracing::warn!(%job, %error, "the pictures of a deleted job could not be removed; the next start makes them orphans");
        }
        Err(error) => {
            tracing::warn!(%job, %error, "the pictures of a deleted job were not removed, because the journal cannot be read; the next start makes them orphans");
        }
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn a_deleted_job_is_remembered() {
        let (deleted, job) = (DeletedJobs::new(), JobId::new(Timestamp::from_millis(1_790_000_000_000), 1));
        assert!(!deleted.has(job));
        deleted.0.insert(job, ());
        assert!(deleted.has(job));
    }
}
