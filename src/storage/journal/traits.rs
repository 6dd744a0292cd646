//! What every journal offers: records are appended, and read back as the state that they add up to.

use futures_util::future::BoxFuture;

use super::record::Record;
use super::stored::{PendingWebhook, StoredJob, StoredResult, UsedQuota};
use crate::model::{ClientId, Fingerprint, IdempotencyKey, JobId, PurchaseId, Timestamp, UpstreamId};

/// An append-only store of records. Object-safe, so that the engine does not depend on an adapter.
pub(crate) trait Journal: Send + Sync + std::fmt::Debug {
    /// Writes a record; the record is durable when the future completes.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: the record is not known to be durable, and the step it guards must not be taken.
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), JournalError>>;

    /// Returns the jobs that have at least one purchase that has not ended, oldest first.
    fn unfinished(&self) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>>;

    /// Returns the newest jobs of a fingerprint that have pictures or an unknown outcome, at most `limit`, newest first.
    fn by_fingerprint(
        &self,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>>;

    /// Returns the newest job of a client under an idempotency key.
    fn by_idempotency_key(
        &self,
        client: ClientId,
        key: IdempotencyKey,
    ) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>>;

    /// Returns one job.
    fn job(&self, id: JobId) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>>;

    /// Returns the purchase that was accepted under an upstream id.
    fn purchase_of_upstream_id(&self, id: UpstreamId) -> BoxFuture<'static, Result<Option<PurchaseId>, JournalError>>;

    /// Returns the pictures of ended jobs that have not been evicted, oldest first.
    fn stored_results(&self) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>>;

    /// Returns what jobs created at `since` or later have bought, or may have bought, in no particular order.
    ///
    /// For the start, before anything is recovered: a purchase that was being committed, or is submitted again after a
    /// lost answer, will be recovered as unknown, so it is included; an accepted purchase is not, because it is still under way.
    fn quota_used_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>>;

    /// Returns the undelivered webhooks of ended jobs, oldest first: of one job, or of all jobs for `None`.
    fn pending_webhooks(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>>;

    /// Returns whether the journal has failed and accepts no more records.
    fn failed(&self) -> bool;
}

/// Why the journal cannot be written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// A commit failed earlier. Nothing is written until the next start, because the state on disk is uncertain.
    #[error("the journal failed earlier and accepts no more records")]
    Failed,
    #[error("the journal cannot be written: {0}")]
    Storage(String),
    #[error("the journal contains something this version cannot read: {0}")]
    Unreadable(String),
}
