//! A job as its client sees it by its id: its status, when it is expected to be done, its result; and its cancellation.
//!
//! Known race, and its solution: a job ends between the look-up in the table and the look-up in the journal. Its end is
//! in the journal before it leaves the table, so the second look-up finds it. An end that could not be written is in
//! neither, and a view then answers `JournalUnavailable`.

use std::sync::Arc;

use tokio::time::Instant;

use super::progress::{JobProgress, progress};
use super::refetch::refetch;
use super::waiter::Waiter;
use crate::engine::Engine;
use crate::engine::cache::StoredAnswer;
use crate::engine::cache::damaged::DamagedResult;
use crate::engine::driver::{Driver, ObservedJob};
use crate::engine::jobs::job::outcome::{FailureScope, stored_failure, stored_result, without_pictures};
use crate::engine::jobs::{CancelOutcome, JobStage};
use crate::engine::reuse::AnswerSource;
use crate::model::{
    Choices, ClientId, Cost, Failure, JobId, JobResult, ModelId, PurchaseId, Size, Task, Timestamp, UpstreamId,
};
use crate::storage::journal::{JobRecord, StoredJob, StoredState};

/// A job as its client sees it.
#[derive(Debug)]
pub(crate) struct JobView {
    pub(crate) task: Task,
    pub(crate) model: ModelId,
    pub(crate) size: Size,
    pub(crate) choices: Choices,
    /// Number of pictures requested.
    pub(crate) n: u8,
    /// Number of input pictures, without the mask.
    pub(crate) inputs: u8,
    pub(crate) created: Timestamp,
    pub(crate) status: JobStatus,
    /// What it has cost; `None` while that is not known.
    pub(crate) cost: Option<Cost>,
    /// The upstream's ids of its purchases, as far as they are known.
    pub(crate) purchases: Vec<UpstreamId>,
    /// Follows the job without keeping it needed; keeps its pictures while they are being delivered.
    pub(crate) waiter: Waiter,
}

/// The status of a job.
#[derive(Clone, Debug)]
pub(crate) enum JobStatus {
    UnderWay {
        stage: JobStage,
        progress: JobProgress,
    },
    Completed(Arc<JobResult>),
    Failed {
        failure: Failure,
        at: Timestamp,
    },
    /// It was completed, and its pictures have been evicted.
    Evicted,
}

impl Engine {
    /// Returns a job of a client by its id; `None` when the client has no such job.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`] when the journal cannot be read.
    pub(crate) async fn view(&self, client: &ClientId, job: JobId) -> Result<Option<JobView>, Failure> {
        if let Some(observed) = self.driver.view(client, job) {
            return Ok(Some(view_of_live(&self.driver, observed)));
        }
        let Some(stored) = stored(&self.driver, client, job).await? else { return Ok(None) };
        view_of_stored(&self.driver, stored).await.map(Some)
    }

    /// Cancels a client's job while nothing of it is bought; `None` when the client has no such job.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`] when the journal cannot be read.
    pub(crate) async fn cancel(&self, client: &ClientId, job: JobId) -> Result<Option<CancelOutcome>, Failure> {
        let cancelled = self.driver.change(|jobs, now| match jobs.cancel(client, job, now) {
            Some((outcome, effects)) => (Some(outcome), effects),
            None => (None, Vec::new()),
        });
        if let Some(outcome) = cancelled {
            return Ok(Some(outcome));
        }
        let Some(stored) = stored(&self.driver, client, job).await? else { return Ok(None) };
        // A second cancellation gets the same answer as the first.
        let dropped = matches!(stored_failure(&stored, FailureScope::All), Some((Failure::Abandoned, _)));
        Ok(Some(if dropped { CancelOutcome::Dropped } else { CancelOutcome::Ended }))
    }
}

async fn stored(driver: &Driver, client: &ClientId, job: JobId) -> Result<Option<StoredJob>, Failure> {
    let stored = driver.services.journal.job(job).await.map_err(|error| {
        tracing::error!(%error, "the journal cannot be read; the request is refused");
        Failure::JournalUnavailable
    })?;
    Ok(stored.filter(|stored| stored.record.client == *client))
}

fn view_of_live(driver: &Arc<Driver>, observed: ObservedJob) -> JobView {
    let (status, upstream) = live_status(driver, &observed);
    let record = &observed.view.record;
    // Nothing of a job that is being dropped is bought.
    let cost = matches!(status, JobStatus::Failed { .. }).then(Cost::default);
    view(record, status, cost, upstream, Waiter::observer(driver, record.id, observed.progress))
}

fn live_status(driver: &Driver, observed: &ObservedJob) -> (JobStatus, Vec<UpstreamId>) {
    let upstream = observed.progress.borrow().upstream.clone();
    let status = if observed.view.abandoned {
        JobStatus::Failed { failure: Failure::Abandoned, at: driver.services.clock.now() }
    } else {
        JobStatus::UnderWay { stage: observed.view.stage, progress: progress(driver, observed) }
    };
    (status, upstream)
}

async fn view_of_stored(driver: &Arc<Driver>, stored: StoredJob) -> Result<JobView, Failure> {
    let job = stored.record.id;
    let waiter = |outcome, delivered_before| {
        let counted = driver.cache.waiters.add(job);
        let source = AnswerSource::Joined;
        Waiter::of_stored(driver, StoredAnswer { job, outcome, source, delivered_before, counted })
    };
    if let Some(result) = stored_result(&stored) {
        let damaged = if stored.evicted { Vec::new() } else { driver.cache.damaged.find(&stored).await };
        if !damaged.is_empty() {
            let cost = driver.cache.rules.cost_of(&result);
            return Ok(view_of_damaged(driver, stored, damaged, cost, result.purchases).await);
        }
        let result = Arc::new(result);
        let status = if stored.evicted { JobStatus::Evicted } else { JobStatus::Completed(Arc::clone(&result)) };
        let purchases = result.purchases.clone();
        let cost = driver.cache.rules.cost_of(&result);
        let waiter = waiter(Ok(result), stored.delivered.is_some());
        return Ok(view(&stored.record, status, cost, purchases, waiter));
    }
    // Neither under way nor ended: its end could not be journalled, and the next start resumes it.
    let end = stored.end().ok_or(Failure::JournalUnavailable)?;
    let failure = stored_failure(&stored, FailureScope::All).map_or_else(without_pictures, |(failure, _)| failure);
    let purchases = stored.purchases.iter().filter_map(|purchase| match &purchase.state {
        StoredState::Failed { upstream, .. } => upstream.clone(),
        StoredState::Intent
        | StoredState::Committing { .. }
        | StoredState::Accepted { .. }
        | StoredState::Resolved { .. } => None,
    });
    let purchases = purchases.collect();
    let waiter = waiter(Err(failure.clone()), false);
    let cost = driver.cache.rules.cost_of_failed(&stored);
    Ok(view(&stored.record, JobStatus::Failed { failure, at: end.at }, cost, purchases, waiter))
}

/// Returns a job whose damaged pictures are fetched again: under way, or lost.
async fn view_of_damaged(
    driver: &Arc<Driver>,
    stored: StoredJob,
    damaged: Vec<PurchaseId>,
    cost: Option<Cost>,
    upstream: Vec<UpstreamId>,
) -> JobView {
    let record = stored.record.clone();
    let counted = driver.cache.waiters.add(record.id);
    let mut waiter = refetch(driver, DamagedResult { stored, purchases: damaged, counted });
    let status = match waiter.outcome(Instant::now()).await {
        Some(Err(failure)) => JobStatus::Failed { failure, at: driver.services.clock.now() },
        Some(Ok(result)) => JobStatus::Completed(result),
        None => JobStatus::UnderWay { stage: JobStage::Processing, progress: JobProgress::default() },
    };
    view(&record, status, cost, upstream, waiter)
}

fn view(
    record: &JobRecord,
    status: JobStatus,
    cost: Option<Cost>,
    purchases: Vec<UpstreamId>,
    waiter: Waiter,
) -> JobView {
    let JobRecord { task, model, size, choices, n, inputs, created, .. } = record.clone();
    JobView { task, model, size, choices, n, inputs, created, status, cost, purchases, waiter }
}
