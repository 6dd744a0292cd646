//! Waiting for an order: a ticket a request, and what it learns.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Core;
use super::jobs::{KeepAlive, WaiterSlot};
use crate::config::OnUnknown;
use crate::model::{Failure, JobId, JobResult, PurchaseResult, UpstreamId};
use crate::storage::journal::Record;

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerSource {
    /// A stored result of that age.
    Hit(Duration),
    /// An order that another request began.
    Joined,
    /// Bought for this request.
    Bought,
    /// Bought for this request, which did not want anything else.
    Bypass,
}

/// One request that waits for an order. Dropping it forgets the waiter.
#[derive(Debug)]
pub(crate) struct Waiter {
    core: Arc<Core>,
    job: JobId,
    origin: AnswerSource,
    progress: watch::Receiver<Progress>,
    /// Keeps a live order wanted; none for an order that has ended, and for a ticket that only looks on.
    interest: Option<KeepAlive>,
    /// The order's answer reached somebody before.
    delivered_before: bool,
}

/// Where a live order stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum JobStage {
    /// It waits for the budget.
    #[default]
    QueueSlot,
    /// A submit of it is under way.
    Submitting,
    /// The upstream works on it.
    Processing,
}

/// What waiters see of an order.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) stage: JobStage,
    /// The journal knows of the order.
    pub(super) recorded: bool,
    /// The upstream's names, as they become known.
    pub(super) upstream: Vec<UpstreamId>,
    /// What its predictions brought so far, in the order in which they did.
    pub(super) parts: Vec<PurchaseResult>,
    pub(super) outcome: Option<Result<Arc<JobResult>, Failure>>,
}

/// What there is new of an order.
#[derive(Clone, Debug)]
pub(crate) enum JobEvent {
    /// It stands elsewhere.
    JobStage(JobStage),
    /// What its next prediction brought.
    PurchaseResult(PurchaseResult),
    /// That was all.
    End,
}

/// Why a ticket brought no pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitError {
    Failed(Failure),
    /// The work goes on; the same request, asked again, finds it.
    OutOfPatience {
        upstream: Vec<UpstreamId>,
    },
    /// The gateway stops; the work goes on after the restart, and the same request finds it.
    Closing {
        upstream: Vec<UpstreamId>,
    },
}

impl Core {
    /// A ticket for an order, which counts as a waiter from now on.
    pub(super) fn waiter(
        self: &Arc<Self>,
        job: JobId,
        origin: AnswerSource,
        WaiterSlot { progress, interest }: WaiterSlot,
    ) -> Waiter {
        let mut waiter = self.onlooker(job, origin, progress);
        waiter.interest = Some(interest);
        waiter
    }

    /// A ticket that follows an order and does not keep it wanted.
    pub(super) fn onlooker(
        self: &Arc<Self>,
        job: JobId,
        origin: AnswerSource,
        progress: watch::Receiver<Progress>,
    ) -> Waiter {
        self.jobs.hold(job);
        Waiter { core: Arc::clone(self), job, origin, progress, interest: None, delivered_before: false }
    }

    /// A ticket for what an order brought. The caller has taken hold of the order.
    pub(super) fn held_waiter(
        self: &Arc<Self>,
        delivery: Arc<JobResult>,
        origin: AnswerSource,
        delivered_before: bool,
    ) -> Waiter {
        let job = delivery.job;
        let JobResult { purchases, pictures, usage, resolved, .. } = &*delivery;
        let parts = vec![PurchaseResult { pictures: pictures.clone(), usage: *usage, resolved: *resolved }];
        let (upstream, stage) = (purchases.clone(), JobStage::Processing);
        let progress = Progress { stage, recorded: true, upstream, parts, outcome: Some(Ok(delivery)) };
        let progress = watch::channel(progress).1;
        Waiter { core: Arc::clone(self), job, origin, progress, interest: None, delivered_before }
    }

    /// A ticket for an order that ended without pictures.
    pub(super) fn failed_waiter(self: &Arc<Self>, job: JobId, failure: Failure) -> Waiter {
        let progress = Progress { recorded: true, outcome: Some(Err(failure)), ..Progress::default() };
        self.onlooker(job, AnswerSource::Joined, watch::channel(progress).1)
    }
}

impl Waiter {
    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    pub(crate) fn origin(&self) -> AnswerSource {
        self.origin
    }

    /// The upstream's names for its predictions, as far as they are known.
    pub(crate) fn upstream(&self) -> Vec<UpstreamId> {
        self.progress.borrow().upstream.clone()
    }

    /// Whether anything of its order is, or may be, bought.
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

    /// Waits for what the next prediction brings, when `seen` of them have been seen; `None` when that was all.
    ///
    /// Pictures come before failures: an order of which something came and something failed ends well. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    ///
    /// As [`Waiter::wait`].
    pub(crate) async fn next_part(
        &mut self,
        seen: usize,
        deadline: Instant,
    ) -> Result<Option<PurchaseResult>, WaitError> {
        match self.news(seen, None, deadline).await? {
            JobEvent::PurchaseResult(part) => Ok(Some(part)),
            JobEvent::JobStage(_) | JobEvent::End => Ok(None),
        }
    }

    /// As [`Waiter::next_part`], and the order's stage when that is known to whoever asks and has changed.
    ///
    /// # Errors
    ///
    /// As [`Waiter::wait`].
    pub(crate) async fn news(
        &mut self,
        seen: usize,
        known: Option<JobStage>,
        deadline: Instant,
    ) -> Result<JobEvent, WaitError> {
        let next = |progress: &Progress| match (progress.parts.get(seen), &progress.outcome) {
            (Some(part), _) => Some(Ok(JobEvent::PurchaseResult(part.clone()))),
            (None, Some(Ok(_))) => Some(Ok(JobEvent::End)),
            (None, Some(Err(failure))) => Some(Err(failure.clone())),
            (None, None) => {
                let moved = known.is_some_and(|known| known != progress.stage);
                moved.then_some(Ok(JobEvent::JobStage(progress.stage)))
            }
        };
        self.progress(deadline, next).await?.map_err(WaitError::Failed)
    }

    /// Waits until there is something to `look` at.
    async fn progress<T>(&mut self, deadline: Instant, look: impl Fn(&Progress) -> Option<T>) -> Result<T, WaitError> {
        enum Woken<T> {
            Seen(Option<T>),
            OutOfPatience,
            Closing,
        }
        let lifecycle = self.core.lifecycle.clone();
        let woken = tokio::select! {
            biased;
            seen = self.progress.wait_for(|progress| look(progress).is_some()) => {
                Woken::Seen(seen.ok().and_then(|progress| look(&progress)))
            }
            () = tokio::time::sleep_until(deadline) => Woken::OutOfPatience,
            () = lifecycle.closing() => Woken::Closing,
        };
        match woken {
            Woken::Seen(Some(seen)) => Ok(seen),
            Woken::OutOfPatience => Err(self.out_of_patience()),
            // The sender is gone without an outcome only when the engine is torn down.
            Woken::Closing | Woken::Seen(None) => Err(self.closing()),
        }
    }

    /// Waits for the outcome, at most until `deadline`, and not once the gateway stops: `None` when it did not come.
    pub(crate) async fn outcome(&mut self, deadline: Instant) -> Option<Result<Arc<JobResult>, Failure>> {
        self.progress(deadline, |progress| progress.outcome.clone()).await.ok()
    }

    /// Waits until the journal knows of the order, so that it is found again whatever happens; or until it has ended.
    pub(crate) async fn recorded(&mut self) {
        // The sender is gone only when the engine is torn down.
        let _ = self.progress.wait_for(|progress| progress.recorded || progress.outcome.is_some()).await;
    }

    /// Whether the outcome is there.
    pub(super) fn has_ended(&self) -> bool {
        self.progress.borrow().outcome.is_some()
    }

    /// StateFiles that the answer reached a connection that was still there, once `written` says so. Until then, and until
    /// the journal knows, nobody else claims the result.
    pub(crate) fn delivered(self, written: impl Future<Output = bool> + Send + 'static) {
        if self.delivered_before {
            return;
        }
        let core = Arc::clone(&self.core);
        core.lifecycle.clone().spawn("delivered", async move {
            if !written.await {
                return;
            }
            let record = Record::Delivered { job: self.job, at: core.clock.now() };
            if let Err(error) = core.journal.append(record).await {
                tracing::warn!(job = %self.job, %error, "a delivery could not be journalled");
            }
            drop(self);
        });
    }

    /// Notes that the client could not be told of a failure, and will ask again: the next request for the same gets it,
    /// and buys nothing.
    pub(crate) async fn untold(self, failure: Failure) {
        // An order that the journal does not know was not bought.
        if let Ok(Some(stored)) = self.core.journal.job(self.job).await {
            self.core.untold.insert(stored.record.fingerprint, (self.job, failure));
        }
    }

    fn out_of_patience(&self) -> WaitError {
        // Nothing bought means that nothing goes on once this waiter has left; others may still wait with whoever only
        // looks on.
        if self.is_bought() || self.interest.is_none() {
            WaitError::OutOfPatience { upstream: self.upstream() }
        } else {
            WaitError::Failed(match self.core.jobs.record(self.job) {
                Some(record) => self.core.waited_in_vain(&record),
                // It has just been dropped.
                None => Failure::Abandoned,
            })
        }
    }

    fn closing(&self) -> WaitError {
        let jobs = &self.core.jobs;
        let held = self.core.settings.on_unknown == OnUnknown::Hold;
        if jobs.is_submitting(self.job) && !held {
            // Its answer may not come before the end, and then a retry would pay again. Held, a retry joins what was
            // accepted, or is told what is unknown, and pays for neither.
            let message = "the gateway stopped before the answer came".to_owned();
            WaitError::Failed(Failure::OutcomeUnknown { message })
        } else if jobs.is_bought(self.job) {
            WaitError::Closing { upstream: self.upstream() }
        } else {
            // What is only queued is not taken up after the restart.
            WaitError::Failed(Failure::Stopping)
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.core.jobs.release(self.job);
    }
}
