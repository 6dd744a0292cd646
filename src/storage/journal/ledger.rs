//! The journal for the operator: what was bought, what is unknown, and what was decided about it. Works beside a gateway that
//! may be running.

use bytes::Bytes;

use crate::model::{ClientId, Digest, JobId, PurchaseId, Timestamp, UpstreamId};

use super::record::Resolution;
use super::stored::{StoredJob, UsedQuota};

/// The journal as the commands use it.
pub(crate) trait Ledger {
    /// Returns the jobs that pass the filter, oldest first.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn list(&self, filter: &JobFilter) -> Result<Vec<StoredJob>, LedgerError>;

    /// Returns one job.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn job(&self, id: JobId) -> Result<Option<StoredJob>, LedgerError>;

    /// Returns the job with the purchase that has this id at the upstream.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn by_upstream_id(&self, upstream: &str) -> Result<Option<StoredJob>, LedgerError>;

    /// Returns when the steps of a purchase were taken; all `None` for a purchase that the journal does not know.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn steps(&self, purchase: PurchaseId) -> Result<PurchaseTimes, LedgerError>;

    /// Records the operator's decision about a purchase of unknown outcome.
    ///
    /// # Errors
    ///
    /// [`LedgerError`], also when the outcome is not unknown.
    fn resolve(&self, purchase: PurchaseId, resolution: Resolution, at: Timestamp) -> Result<(), LedgerError>;

    /// Returns the jobs whose pictures are stored, by their ids: at most `limit` behind `after`.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn stored_jobs(&self, after: Option<JobId>, limit: usize) -> Result<Vec<StoredJob>, LedgerError>;

    /// Returns the bytes of a picture that is stored with its record, as `Journal::picture_copies`.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn picture_copies(&self, of: &Digest) -> Result<Vec<Bytes>, LedgerError>;

    /// Returns the purchases whose upstream id belongs to an older purchase, from versions that accepted such an id.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn repeated_upstream_ids(&self) -> Result<Vec<(PurchaseId, UpstreamId)>, LedgerError>;

    /// Returns what was used of quotas, as `Journal::quota_used_since`.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn quota_used_since(&self, since: Timestamp) -> Result<Vec<UsedQuota>, LedgerError>;

    /// Returns what is wrong with the records themselves: damage, and states that contradict what is recorded.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Storage`].
    fn problems(&self) -> Result<Vec<RecordProblem>, LedgerError>;
}

/// Something that is wrong with the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordProblem {
    /// The job or the purchase, where it is of one.
    pub(crate) id: Option<String>,
    pub(crate) problem: String,
}

/// Which jobs to list. `None` means any.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobFilter {
    /// The state of at least one purchase is one of these: intent, committing, accepted, resolved, failed, unknown. Empty means
    /// any.
    pub(crate) states: Vec<String>,
    pub(crate) client: Option<ClientId>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    /// Only this number of the newest jobs.
    pub(crate) limit: Option<usize>,
}

/// When the steps of a purchase were taken; `None` for steps not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PurchaseTimes {
    /// All but the last byte of the submit had been sent.
    pub(crate) committed: Option<Timestamp>,
    pub(crate) accepted: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    /// The operator decided about the unknown outcome.
    pub(crate) decided: Option<Timestamp>,
}

/// Why a ledger operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("there is no journal at {0}")]
    Missing(String),
    #[error("the journal cannot be used: {0}")]
    Storage(String),
    #[error(
        "{path} has version {found}, this program supports version {supported}; an older journal is migrated when the gateway starts"
    )]
    Version { path: String, found: i64, supported: i64 },
    #[error("there is no purchase {0}")]
    NoSuchPurchase(PurchaseId),
    #[error("{purchase} is {state}, not unknown")]
    NotUnknown { purchase: PurchaseId, state: String },
}
