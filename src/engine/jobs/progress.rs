//! What waiters see of a job.

use std::sync::Arc;

use crate::model::{Failure, JobResult, PurchaseResult, UpstreamId};

/// The stage of a live job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum JobStage {
    /// It waits for the budget.
    #[default]
    Queued,
    /// A submit of it is under way.
    Submitting,
    /// The upstream works on it.
    Processing,
}

/// What waiters see of a job.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Progress {
    pub(in crate::engine) stage: JobStage,
    /// The job is in the journal.
    pub(in crate::engine) recorded: bool,
    /// The upstream's ids of its purchases, as they become known.
    pub(in crate::engine) upstream: Vec<UpstreamId>,
    /// The results of its purchases, in the order in which they arrived.
    pub(in crate::engine) results: Vec<PurchaseResult>,
    pub(in crate::engine) outcome: Option<Result<Arc<JobResult>, Failure>>,
}
