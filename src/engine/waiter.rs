//! Waiting for a job: one waiter a request.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::core::Core;
use super::jobs::{JobStage, KeepAlive, Progress, WaiterSlot};
use crate::config::OnUnknown;
use crate::model::{Failure, JobId, JobResult, PurchaseResult, UpstreamId};
use crate::storage::journal::Record;

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerSource {
    /// A stored result of this age.
    Hit(Duration),
    /// A job that another request started.
    Joined,
    /// Bought for this request.
    Bought,
    /// Bought for this request, which accepted nothing earlier.
    Bypass,
}

/// One request that waits for a job. Dropping it removes the waiter and cancels nothing that is paid for.
#[derive(Debug)]
pub(crate) struct Waiter {
    core: Arc<Core>,
    job: JobId,
    origin: AnswerSource,
    progress: watch::Receiver<Progress>,
    /// Keeps a live job needed; `None` for a job that has ended, and for an observer.
    keep_alive: Option<KeepAlive>,
    /// The result was delivered to a client before.
    delivered_before: bool,
}

/// What is new of a job.
#[derive(Clone, Debug)]
pub(crate) enum JobEvent {
    /// Its stage has changed.
    StageChanged(JobStage),
    /// The result of its next purchase.
    PurchaseResult(PurchaseResult),
    /// There is nothing more.
    End,
}

/// Why a waiter got no pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitError {
    Failed(Failure),
    /// The response deadline has passed. The work goes on; a retry finds it.
    DeadlinePassed {
        upstream: Vec<UpstreamId>,
    },
    /// The gateway stops. The work goes on after the restart; a retry finds it.
    Closing {
        upstream: Vec<UpstreamId>,
    },
}

impl Core {
    /// Makes a waiter that keeps a live job needed.
    pub(super) fn waiter(
        self: &Arc<Self>,
        job: JobId,
        origin: AnswerSource,
        WaiterSlot { progress, keep_alive }: WaiterSlot,
    ) -> Waiter {
        let mut waiter = self.observer(job, origin, progress);
        waiter.keep_alive = Some(keep_alive);
        waiter
    }

    /// Makes a waiter that follows a job without keeping it needed.
    pub(super) fn observer(
        self: &Arc<Self>,
        job: JobId,
        origin: AnswerSource,
        progress: watch::Receiver<Progress>,
    ) -> Waiter {
        self.jobs.add_waiter(job);
        Waiter { core: Arc::clone(self), job, origin, progress, keep_alive: None, delivered_before: false }
    }

    /// Makes a waiter for a stored result. The caller has added the waiter to the job.
    pub(super) fn waiter_for_result(
        self: &Arc<Self>,
        result: Arc<JobResult>,
        origin: AnswerSource,
        delivered_before: bool,
    ) -> Waiter {
        let job = result.job;
        let JobResult { purchases, pictures, usage, resolved, .. } = &*result;
        let results = vec![PurchaseResult { pictures: pictures.clone(), usage: *usage, resolved: *resolved }];
        let (upstream, stage) = (purchases.clone(), JobStage::Processing);
        let progress = Progress { stage, recorded: true, upstream, results, outcome: Some(Ok(result)) };
        let progress = watch::channel(progress).1;
        Waiter { core: Arc::clone(self), job, origin, progress, keep_alive: None, delivered_before }
    }

    /// Makes a waiter for a job that ended without pictures.
    pub(super) fn waiter_for_failure(self: &Arc<Self>, job: JobId, failure: Failure) -> Waiter {
        let progress = Progress { recorded: true, outcome: Some(Err(failure)), ..Progress::default() };
        self.observer(job, AnswerSource::Joined, watch::channel(progress).1)
    }
}

impl Waiter {
    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    pub(crate) fn origin(&self) -> AnswerSource {
        self.origin
    }

    /// Returns the upstream's ids of the job's purchases, as far as they are known.
    pub(crate) fn upstream(&self) -> Vec<UpstreamId> {
        self.progress.borrow().upstream.clone()
    }

    /// Whether any purchase of the job is, or may be, bought.
    pub(crate) fn is_bought(&self) -> bool {
        self.core.jobs.is_bought(self.job)
    }

    /// Waits for the outcome, at most until `deadline`.
    ///
    /// # Errors
    ///
    /// [`WaitError`]; with all but `Failed` the work goes on.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Result<Arc<JobResult>, WaitError> {
        self.progress(deadline, |progress| progress.outcome.clone()).await?.map_err(WaitError::Failed)
    }

    /// Waits for the result of the next purchase after the first `seen` results; `None` when there is no other.
    ///
    /// Pictures come before failures: a job with pictures and a failure ends well. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// As [`Waiter::wait`].
    pub(crate) async fn next_result(
        &mut self,
        seen: usize,
        deadline: Instant,
    ) -> Result<Option<PurchaseResult>, WaitError> {
        match self.next_event(seen, None, deadline).await? {
            JobEvent::PurchaseResult(result) => Ok(Some(result)),
            JobEvent::StageChanged(_) | JobEvent::End => Ok(None),
        }
    }

    /// As [`Waiter::next_result`], and returns the job's stage once it differs from `known`; never if that is `None`.
    ///
    /// # Errors
    ///
    /// As [`Waiter::wait`].
    pub(crate) async fn next_event(
        &mut self,
        seen: usize,
        known: Option<JobStage>,
        deadline: Instant,
    ) -> Result<JobEvent, WaitError> {
        let next = |progress: &Progress| match (progress.results.get(seen), &progress.outcome) {
            (Some(result), _) => Some(Ok(JobEvent::PurchaseResult(result.clone()))),
            (None, Some(Ok(_))) => Some(Ok(JobEvent::End)),
            (None, Some(Err(failure))) => Some(Err(failure.clone())),
            (None, None) => {
                let changed = known.is_some_and(|known| known != progress.stage);
                changed.then_some(Ok(JobEvent::StageChanged(progress.stage)))
            }
        };
        self.progress(deadline, next).await?.map_err(WaitError::Failed)
    }

    /// Waits until `select` finds something in the progress.
    async fn progress<T>(
        &mut self,
        deadline: Instant,
        select: impl Fn(&Progress) -> Option<T>,
    ) -> Result<T, WaitError> {
        enum Woken<T> {
            Selected(Option<T>),
            DeadlinePassed,
            Closing,
        }
        let lifecycle = self.core.lifecycle.clone();
        let woken = tokio::select! {
            biased;
            selected = self.progress.wait_for(|progress| select(progress).is_some()) => {
                Woken::Selected(selected.ok().and_then(|progress| select(&progress)))
            }
            () = tokio::time::sleep_until(deadline) => Woken::DeadlinePassed,
            () = lifecycle.closing() => Woken::Closing,
        };
        match woken {
            Woken::Selected(Some(selected)) => Ok(selected),
            Woken::DeadlinePassed => Err(self.deadline_passed()),
            // The sender is gone without an outcome only when the engine is torn down.
            Woken::Closing | Woken::Selected(None) => Err(self.closing()),
        }
    }

    /// Waits for the outcome, at most until `deadline` or until the gateway stops; `None` when it did not come.
    pub(crate) async fn outcome(&mut self, deadline: Instant) -> Option<Result<Arc<JobResult>, Failure>> {
        self.progress(deadline, |progress| progress.outcome.clone()).await.ok()
    }

    /// Waits until the job is in the journal, so that it is found after a crash; or until it has ended.
    pub(crate) async fn recorded(&mut self) {
        // The sender is gone only when the engine is torn down.
        let _ = self.progress.wait_for(|progress| progress.recorded || progress.outcome.is_some()).await;
    }

    /// Whether the job has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.progress.borrow().outcome.is_some()
    }

    /// Journals that the answer was written to a connection that was still open, once `written` is true. Until then,
    /// and until that is journalled, no other request claims the result.
    pub(crate) fn delivered(self, written: impl Future<Output = bool> + Send + 'static) {
        if self.delivered_before {
            return;
        }
        let core = Arc::clone(&self.core);
        core.lifecycle.clone().spawn("journal delivery", async move {
            if !written.await {
                return;
            }
            let record = Record::Delivered { job: self.job, at: core.clock.now() };
            if let Err(error) = core.journal.append(record).await {
                tracing::warn!(job = %self.job, %error, "a delivery could not be journalled; it may be claimed again");
            }
            drop(self);
        });
    }

    /// Keeps a failure that did not reach its client, which will retry: the next equal request gets it, and buys
    /// nothing.
    pub(crate) async fn keep_failure_for_retry(self, failure: Failure) {
        // A job that is not in the journal was not bought.
        if let Ok(Some(stored)) = self.core.journal.job(self.job).await {
            self.core.pending_failures.insert(stored.record.fingerprint, (self.job, failure));
        }
    }

    fn deadline_passed(&self) -> WaitError {
        // If nothing is bought, nothing goes on once this waiter has left; for an observer, other waiters may remain.
        if self.is_bought() || self.keep_alive.is_none() {
            WaitError::DeadlinePassed { upstream: self.upstream() }
        } else {
            WaitError::Failed(self.core.missed_start(self.job))
        }
    }

    fn closing(&self) -> WaitError {
        let jobs = &self.core.jobs;
        let held = self.core.settings.on_unknown == OnUnknown::Hold;
        if jobs.is_submitting(self.job) && !held {
            // The upstream's answer may not come before the process ends, and then a retry would pay again. With
            // `hold`, a retry joins the accepted purchase or gets the unknown outcome, and pays for neither.
            let message = "the gateway stopped before the answer came".to_owned();
            WaitError::Failed(Failure::OutcomeUnknown { message })
        } else if jobs.is_bought(self.job) {
            WaitError::Closing { upstream: self.upstream() }
        } else {
            // A job that is only queued is not resumed after the restart.
            WaitError::Failed(Failure::Stopping)
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.core.jobs.remove_waiter(self.job);
    }
}
