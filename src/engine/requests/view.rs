//! A job as its client sees it by its id: its status, when it is expected to be done, its result; and its cancellation.
//!
//! Known race, and its solution: a job ends between the look-up in the table and the look-up in the journal. Its end is
//! in the journal before it leaves the table, so the second look-up finds it. An end that could not be written is in
//! neither, and a view then answers `JournalUnavailable`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::refetch::refetch;
use super::waiter::Waiter;
use crate::engine::Engine;
use crate::engine::cache::StoredAnswer;
use crate::engine::cache::damaged::DamagedResult;
use crate::engine::driver::{Driver, Progress};
use crate::engine::jobs::job::outcome::{FailureScope, stored_failure, stored_result, without_pictures};
use crate::engine::jobs::rules::class_of;
use crate::engine::jobs::{CancelOutcome, JobStage, LiveView, OpenPurchase};
use crate::engine::reuse::AnswerSource;
use crate::model::{Choices, ClientId, Failure, JobId, JobResult, ModelId, PurchaseId, Task, Timestamp, UpstreamId};
use crate::storage::journal::{JobRecord, StoredJob, StoredState};

/// A job as its client sees it.
#[derive(Debug)]
pub(crate) struct JobView {
    pub(crate) task: Task,
    pub(crate) model: ModelId,
    pub(crate) choices: Choices,
    pub(crate) created: Timestamp,
    pub(crate) status: JobStatus,
    /// The upstream's ids of its purchases, as far as they are known.
    pub(crate) purchases: Vec<UpstreamId>,
    /// Follows the job without keeping it needed; keeps its pictures while they are being delivered.
    pub(crate) waiter: Waiter,
}

/// The status of a job.
#[derive(Clone, Debug)]
pub(crate) enum JobStatus {
    /// `expected` is when it is expected to be done; `None` where nothing is known of that.
    UnderWay {
        stage: JobStage,
        expected: Option<Timestamp>,
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
        if let Some((live, progress)) = self.driver.view(client, job) {
            return Ok(Some(view_of_live(&self.driver, live, progress)));
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

fn view_of_live(driver: &Arc<Driver>, live: LiveView, progress: watch::Receiver<Progress>) -> JobView {
    let LiveView { record, stage, open, abandoned } = live;
    let upstream = progress.borrow().upstream.clone();
    let now = driver.services.clock.now();
    let status = if abandoned {
        JobStatus::Failed { failure: Failure::Abandoned, at: now }
    } else {
        JobStatus::UnderWay { stage, expected: expected(driver, &record, &open).map(|left| now.plus(left)) }
    };
    view(&record, status, upstream, Waiter::observer(driver, record.id, progress))
}

/// Returns the time until the last purchase is expected to be done; `None` when nothing is known of one.
fn expected(driver: &Driver, record: &JobRecord, open: &[OpenPurchase]) -> Option<Duration> {
    let mut latencies = driver.latencies();
    let left = |open: &OpenPurchase| {
        let done_at = latencies.expected(&class_of(record, open.pictures), open.age)?;
        Some(open.starts_in + done_at.saturating_sub(open.age))
    };
    open.iter().map(left).collect::<Option<Vec<_>>>()?.into_iter().max()
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
            return Ok(view_of_damaged(driver, stored, damaged, result.purchases).await);
        }
        let result = Arc::new(result);
        let status = if stored.evicted { JobStatus::Evicted } else { JobStatus::Completed(Arc::clone(&result)) };
        let purchases = result.purchases.clone();
        let waiter = waiter(Ok(result), stored.delivered.is_some());
        return Ok(view(&stored.record, status, purchases, waiter));
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
    Ok(view(&stored.record, JobStatus::Failed { failure, at: end.at }, purchases, waiter))
}

/// Returns a job whose damaged pictures are fetched again: under way, or lost.
async fn view_of_damaged(
    driver: &Arc<Driver>,
    stored: StoredJob,
    damaged: Vec<PurchaseId>,
    upstream: Vec<UpstreamId>,
) -> JobView {
    let record = stored.record.clone();
    let counted = driver.cache.waiters.add(record.id);
    let mut waiter = refetch(driver, DamagedResult { stored, purchases: damaged, counted });
    let status = match waiter.outcome(Instant::now()).await {
        Some(Err(failure)) => JobStatus::Failed { failure, at: driver.services.clock.now() },
        Some(Ok(result)) => JobStatus::Completed(result),
        None => JobStatus::UnderWay { stage: JobStage::Processing, expected: None },
    };
    view(&record, status, upstream, waiter)
}

fn view(record: &JobRecord, status: JobStatus, purchases: Vec<UpstreamId>, waiter: Waiter) -> JobView {
    let JobRecord { task, model, choices, created, .. } = record.clone();
    JobView { task, model, choices, created, status, purchases, waiter }
}
