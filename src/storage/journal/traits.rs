//! What every journal offers: records are appended, and read back as the state that they add up to.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus_client::metrics::histogram::Histogram;

use super::record::Record;
use super::stored::{PendingWebhook, ResultPage, StoredJob, StoredResult, UndecidedPurchases, UsedQuota};
use crate::model::{
    ClientId, Digest, Fingerprint, IdempotencyKey, JobId, PurchaseId, RunningTime, Timestamp, UpstreamId,
};

/// Whether records can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    #[default]
    Fine,
    /// Not at present: the disk is full, or another program has locked the journal. It is tried again every second.
    Away,
    /// Not until the next start: what reached the disk is uncertain.
    Failed,
}

/// When a record becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// At once.
    Now,
    /// With the next record that does, which is waited for this long.
    Within(Duration),
    /// With the next record that does. For one that a crash may lose.
    WithNext,
}

/// How long a record waits for another one that becomes durable before it is written without a sync.
const UNSYNCED_WAIT: Duration = Duration::from_millis(50);

impl Durability {
    /// Returns how long the record waits for another one.
    pub(super) fn wait(self) -> Duration {
        match self {
            Self::Now => Duration::ZERO,
            Self::Within(wait) => wait,
            Self::WithNext => UNSYNCED_WAIT,
        }
    }

    /// Returns whether a commit of the record alone is synced.
    pub(super) fn is_synced(self) -> bool {
        self != Self::WithNext
    }
}

/// An append-only store of records. Object-safe, so that the engine does not depend on an adapter.
pub(crate) trait Journal: Send + Sync + std::fmt::Debug {
    /// Writes a record; the record is durable when the future completes.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: the record is not known to be durable, and the step it guards must not be taken.
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), JournalError>> {
        self.append_with(record, Durability::Now)
    }

    /// Writes a record. When the future completes it is durable, or with [`Durability::WithNext`] written: a power cut may still
    /// lose it. It stays in its place before all records that are appended later. While it waits for another one, reads do not
    /// see it, and a crash loses it.
    ///
    /// # Errors
    ///
    /// As `append`.
    fn append_with(&self, record: Record, durability: Durability) -> BoxFuture<'static, Result<(), JournalError>>;

    /// Returns the jobs that have at least one purchase that has not ended, in the order in which they were journalled.
    fn unfinished(&self) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>>;

    /// Returns the jobs of a fingerprint that have pictures or an unknown outcome, at most `limit`: those that were
    /// journalled last, the last one first.
    fn by_fingerprint(
        &self,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>>;

    /// Returns the job of a client under an idempotency key that was journalled last.
    fn by_idempotency_key(
        &self,
        client: ClientId,
        key: IdempotencyKey,
    ) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>>;

    /// Returns one job.
    fn job(&self, id: JobId) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>>;

    /// Returns jobs of a client that it has not deleted, at most `limit`: those that were journalled last, or last before the
    /// job `after`; the last one first. `None` when the client has no job `after`.
    fn client_jobs(
        &self,
        client: ClientId,
        after: Option<JobId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Option<Vec<StoredJob>>, JournalError>>;

    /// Returns ended jobs without stored pictures whose prompts were kept before this time, at most `limit`.
    fn expired_prompts(
        &self,
        kept_before: RunningTime,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<JobId>, JournalError>>;

    /// Returns the purchase that was accepted under an upstream id.
    fn purchase_of_upstream_id(&self, id: UpstreamId) -> BoxFuture<'static, Result<Option<PurchaseId>, JournalError>>;

    /// Returns stored results of ended jobs, of those that have not been evicted, by the time when they were stored.
    fn stored_results(&self, page: ResultPage) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>>;

    /// Returns the number of bytes of all pictures that have not been evicted.
    fn stored_bytes(&self) -> BoxFuture<'static, Result<u64, JournalError>>;

    /// Returns which of these pictures belong to a job and have not been evicted.
    fn stored_digests(&self, of: Vec<Digest>) -> BoxFuture<'static, Result<HashSet<Digest>, JournalError>>;

    /// Returns the bytes of a picture that is stored with its record: a copy for each place that it has in a purchase which is
    /// not evicted, of some at most. Whether they are those of the digest is not checked.
    fn picture_copies(&self, of: Digest) -> BoxFuture<'static, Result<Vec<Bytes>, JournalError>>;

    /// Returns whether there is any job.
    fn has_jobs(&self) -> BoxFuture<'static, Result<bool, JournalError>>;

    /// Returns what jobs created on the day of `since` (UTC) or later have bought, or may have bought, in no particular order.
    ///
    /// For the start, before anything is recovered: a purchase that was being committed, or is submitted again after a
    /// lost answer, will be recovered as unknown, so it is included; an accepted purchase is not, because it is still under way.
    fn quota_used_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>>;

    /// Returns the purchases of unknown outcome about which the operator has not decided, those of one price together, in no
    /// particular order.
    fn undecided(&self) -> BoxFuture<'static, Result<Vec<UndecidedPurchases>, JournalError>>;

    /// Returns the undelivered webhooks of ended jobs, oldest first: of one job, or of all jobs for `None`.
    fn pending_webhooks(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>>;

    /// Returns the running time, which stamps what is written now. It never goes back, also not over a restart.
    fn running_time(&self) -> RunningTime;

    /// Returns how long commits take that are synced, in seconds.
    fn sync_seconds(&self) -> Histogram;

    /// Returns whether records can be written.
    fn standing(&self) -> Standing;

    /// Writes what was appended before, and closes the journal. Later appends fail.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// Why the journal cannot be written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// A commit failed earlier. Nothing is written until the next start, because the state on disk is uncertain.
    #[error("the journal failed earlier and accepts no more records")]
    Failed,
    /// The record was not written, and nothing of it is on disk. The journal is tried again every second.
    #[error("the journal cannot be written at present")]
    Away,
    /// Another gateway has opened it.
    #[error("{0} in storage.directory is in use by another gateway")]
    InUse(PathBuf),
    #[error("the journal cannot be written: {0}")]
    Storage(String),
    #[error("the journal contains something this version cannot read: {0}")]
    Unreadable(String),
}
