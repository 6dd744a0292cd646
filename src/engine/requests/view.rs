//! A job as its client sees it by its id: its status, when it is expected to be done, its result.
//!
//! Known races, and their solutions:
//! - *A job ends between the look-up in the table and the look-up in the journal.* Its end is in the journal before it leaves the
//!   table, so the second look-up finds it. An end that could not be written is in neither, and a view then answers
//!   `JournalUnavailable`.
//! - *A job is deleted or evicted while it is looked at.* The look is counted before the journal is read, and what is in use is not
//!   removed.

use std::sync::Arc;

use tokio::time::Instant;

use super::progress::{JobProgress, progress};
use super::refetch::refetch;
use super::waiter::Waiter;
use crate::engine::Engine;
use crate::engine::cache::StoredAnswer;
use crate::engine::cache::damaged::DamagedResult;
use crate::engine::cache::waiters::CountedWaiter;
use crate::engine::driver::{Driver, ObservedJob};
use crate::engine::jobs::JobStage;
use crate::engine::jobs::job::outcome::{FailureScope, stored_failure, stored_result, without_pictures};
use crate::engine::reuse::AnswerSource;
use crate::model::{Choices, ClientId, Cost, Failure, JobId, JobResult, ModelId, Size, Task, Timestamp, UpstreamId};
use crate::storage::JournalError;
use crate::storage::journal::{JobRecord, StoredJob};

/// A job as its client sees it.
#[derive(Debug)]
pub(crate) struct JobSummary {
    pub(crate) id: JobId,
    pub(crate) task: Task,
    pub(crate) model: ModelId,
    pub(crate) size: Size,
    pub(crate) choices: Choices,
    /// Number of pictures requested.
    pub(crate) n: u8,
    /// Number of input pictures, without the mask.
    pub(crate) inputs: u8,
    pub(crate) created: Timestamp,
    /// `None` unless it is kept.
    pub(crate) prompt: Option<Arc<str>>,
    pub(crate) state: JobState,
}

/// What changes of a job.
#[derive(Debug)]
pub(crate) struct JobState {
    pub(crate) status: JobStatus,
    /// What it has cost; `None` while that is not known.
    pub(crate) cost: Option<Cost>,
    /// The upstream's ids of its purchases, as far as they are known.
    pub(crate) purchases: Vec<UpstreamId>,
}

/// A job that its client looks at.
#[derive(Debug)]
pub(crate) struct JobView {
    pub(crate) summary: JobSummary,
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
        if let Some(observed) = self.driver.views(client, [job]).remove(&job) {
            return Ok(Some(view_of_live(&self.driver, observed)));
        }
        let counted = self.driver.cache.waiters.enter(job).await;
        let Some(stored) = stored(&self.driver, client, job).await? else { return Ok(None) };
        view_of_stored(&self.driver, stored, counted).await.map(Some)
    }
}

pub(super) async fn stored(driver: &Driver, client: &ClientId, job: JobId) -> Result<Option<StoredJob>, Failure> {
    let stored = driver.services.journal.job(job).await.map_err(|error| unreadable(&error))?;
    Ok(stored.filter(|stored| stored.record.client == *client && !stored.deleted))
}

/// Logs that the journal cannot be read, and returns the failure of the request.
pub(super) fn unreadable(error: &JournalError) -> Failure {
    tracing::error!(%error, "the journal cannot be read; the request is refused");
    Failure::JournalUnavailable
}

fn view_of_live(driver: &Arc<Driver>, observed: ObservedJob) -> JobView {
    let summary = summary_of_live(driver, &observed);
    let waiter = Waiter::observer(driver, summary.id, observed.progress);
    JobView { summary, waiter }
}

/// Returns a live job as its client sees it.
pub(super) fn summary_of_live(driver: &Driver, observed: &ObservedJob) -> JobSummary {
    let purchases = observed.progress.borrow().upstream.clone();
    let state = if observed.view.abandoned {
        let status = JobStatus::Failed { failure: Failure::Abandoned, at: driver.services.clock.now() };
        // Nothing of a job that is being dropped is bought.
        JobState { status, cost: Some(Cost::default()), purchases }
    } else {
        let status = JobStatus::UnderWay { stage: observed.view.stage, progress: progress(driver, observed) };
        JobState { status, cost: None, purchases }
    };
    summary(&observed.view.record, state)
}

async fn view_of_stored(driver: &Arc<Driver>, stored: StoredJob, counted: CountedWaiter) -> Result<JobView, Failure> {
    let job = stored.record.id;
    let state = stored_state(driver, &stored);
    let outcome = match &state.status {
        JobStatus::Completed(result) => {
            let damaged = driver.cache.damaged.find(&stored).await;
            if !damaged.is_empty() {
                let damaged = DamagedResult { stored, purchases: damaged, counted };
                return Ok(view_of_damaged(driver, damaged, state).await);
            }
            Ok(Arc::clone(result))
        }
        JobStatus::Evicted => Err(Failure::ResultLost { message: "it is no longer stored".to_owned() }),
        JobStatus::Failed { failure, .. } => Err(failure.clone()),
        // Its end could not be journalled, and the next start resumes it.
        JobStatus::UnderWay { .. } => return Err(Failure::JournalUnavailable),
    };
    let delivered_before = stored.delivered.is_some();
    let answer = StoredAnswer { job, outcome, source: AnswerSource::Joined, delivered_before, counted };
    Ok(JobView { summary: summary(&stored.record, state), waiter: Waiter::of_stored(driver, answer) })
}

/// Returns the state of a stored job. One that is neither under way nor ended is shown as under way. Whether its pictures are
/// intact is not looked at.
pub(super) fn stored_state(driver: &Driver, stored: &StoredJob) -> JobState {
    if let Some(result) = stored_result(stored) {
        let (cost, purchases) = (driver.cache.rules.catalogue.cost_of(&result), result.purchases.clone());
        let status = if stored.evicted { JobStatus::Evicted } else { JobStatus::Completed(Arc::new(result)) };
        return JobState { status, cost, purchases };
    }
    let purchases = stored.purchases.iter().filter_map(|purchase| purchase.state.upstream().cloned()).collect();
    let Some(end) = stored.end() else {
        let status = JobStatus::UnderWay { stage: JobStage::Processing, progress: JobProgress::default() };
        return JobState { status, cost: None, purchases };
    };
    let failure = stored_failure(stored, FailureScope::All).map_or_else(without_pictures, |(failure, _)| failure);
    let cost = driver.cache.rules.cost_of_failed(stored);
    JobState { status: JobStatus::Failed { failure, at: end.at }, cost, purchases }
}

/// Returns a job whose damaged pictures are fetched again: under way, or lost.
async fn view_of_damaged(driver: &Arc<Driver>, damaged: DamagedResult, mut state: JobState) -> JobView {
    let record = damaged.stored.record.clone();
    let mut waiter = refetch(driver, damaged);
    state.status = match waiter.outcome(Instant::now()).await {
        Some(Err(failure)) => JobStatus::Failed { failure, at: driver.services.clock.now() },
        Some(Ok(result)) => JobStatus::Completed(result),
        None => JobStatus::UnderWay { stage: JobStage::Processing, progress: JobProgress::default() },
    };
    JobView { summary: summary(&record, state), waiter }
}

pub(super) fn summary(record: &JobRecord, state: JobState) -> JobSummary {
    let JobRecord { id, task, model, size, choices, n, inputs, created, prompt, .. } = record.clone();
    JobSummary { id, task, model, size, choices, n, inputs, created, prompt, state }
}
