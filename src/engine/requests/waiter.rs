//! Waiting for a job: one waiter a request.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::cache::StoredAnswer;
use crate::engine::cache::waiters::CountedWaiter;
use crate::engine::driver::start_time::missed_start;
use crate::engine::driver::{Driver, Joined, KeepAlive, Progress};
use crate::engine::jobs::{JobStage, PaymentStatus};
use crate::engine::reuse::AnswerSource;
use crate::model::{Failure, JobId, JobResult, PurchaseResult, UpstreamId, Usd, Webhook};
use crate::storage::journal::{Durability, JobRecord, Record};

/// One request that waits for a job. Dropping it removes the waiter and cancels nothing that is paid for.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(super) driver: Arc<Driver>,
    job: JobId,
    origin: AnswerSource,
    progress: watch::Receiver<Progress>,
    /// Keeps a live job needed; `None` for a job that has ended, and for an observer.
    keep_alive: Option<KeepAlive>,
    /// The result was delivered to a client before.
    delivered_before: bool,
    _counted: CountedWaiter,
}

/// The next thing that a waiter receives.
#[derive(Clone, Debug)]
pub(crate) enum JobEvent {
    /// Its stage has changed.
    StageChanged(JobStage),
    /// The result of its next purchase.
    PurchaseResult(PurchaseResult),
    /// There is nothing more: the whole result.
    End(Arc<JobResult>),
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

impl Waiter {
    /// Makes a waiter that keeps a live job needed.
    pub(in crate::engine) fn of_live(driver: &Arc<Driver>, joined: Joined, origin: AnswerSource) -> Self {
        let Joined { record, progress, keep_alive, .. } = joined;
        let mut waiter = Self::observer(driver, record.id, progress);
        (waiter.origin, waiter.keep_alive) = (origin, Some(keep_alive));
        waiter
    }

    /// Makes a waiter that follows a job without keeping it needed.
    pub(in crate::engine) fn observer(driver: &Arc<Driver>, job: JobId, progress: watch::Receiver<Progress>) -> Self {
        let counted = driver.cache.waiters.add(job);
        let (driver, origin) = (Arc::clone(driver), AnswerSource::Joined);
        Self { driver, job, origin, progress, keep_alive: None, delivered_before: false, _counted: counted }
    }

    /// Makes a waiter for a job that has ended.
    pub(in crate::engine) fn of_stored(driver: &Arc<Driver>, stored: StoredAnswer) -> Self {
        let StoredAnswer { job, outcome, source, delivered_before, counted } = stored;
        let mut progress = Progress { recorded: true, ..Progress::default() };
        if let Ok(result) = &outcome {
            let JobResult { purchases, pictures, usage, inputs_unseen, resolved, .. } = &**result;
            progress.stage = JobStage::Processing;
            progress.upstream.clone_from(purchases);
            progress.results = vec![PurchaseResult {
                pictures: pictures.clone(),
                usage: *usage,
                inputs_unseen: *inputs_unseen,
                resolved: *resolved,
            }];
        }
        progress.outcome = Some(outcome);
        let progress = watch::channel(progress).1;
        let driver = Arc::clone(driver);
        Self { driver, job, origin: source, progress, keep_alive: None, delivered_before, _counted: counted }
    }

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
        self.driver.read(|jobs| jobs.table.payment(self.job)) != PaymentStatus::NotBought
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
            JobEvent::StageChanged(_) | JobEvent::End(_) => Ok(None),
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
            (None, Some(Ok(result))) => Some(Ok(JobEvent::End(Arc::clone(result)))),
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
        let lifecycle = self.driver.services.lifecycle.clone();
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
            Woken::DeadlinePassed => Err(deadline_passed(self)),
            // The sender is gone without an outcome only when the engine is torn down.
            Woken::Closing | Woken::Selected(None) => Err(closing(self)),
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

    /// Journals that the answer was written to a connection that was still open, once `written` is true. Until then,
    /// and until that is journalled, no other request claims the result.
    pub(crate) fn delivered(self, written: impl Future<Output = bool> + Send + 'static) {
        if self.delivered_before {
            return;
        }
        let driver = Arc::clone(&self.driver);
        driver.services.lifecycle.spawn("journal delivery", async move {
            if !written.await {
                return;
            }
            let services = &self.driver.services;
            let record = Record::Delivered { job: self.job, at: services.clock.now() };
            // Lost in a crash, it leaves a result that can be claimed once more, as a crash before the last byte does.
            if let Err(error) = services.journal.append_with(record, Durability::WithNext).await {
                tracing::warn!(job = %self.job, %error, "a delivery could not be journalled; it may be claimed again");
            }
            drop(self);
        });
    }

    /// Keeps a failure that did not reach its client, which will retry: the next equal request gets it, and buys
    /// nothing.
    pub(crate) async fn keep_failure_for_retry(self, failure: Failure) {
        self.driver.cache.keep_failure_for_retry(self.job, failure).await;
    }
}

/// Makes a waiter for a job that has ended and whose pictures are fetched again.
pub(super) fn of_refetch(
    driver: &Arc<Driver>,
    joined: Joined,
    delivered_before: bool,
    counted: CountedWaiter,
) -> Waiter {
    let waiter = Waiter::of_live(driver, joined, AnswerSource::Joined);
    Waiter { delivered_before, _counted: counted, ..waiter }
}

/// Subscribes a webhook to the end of a job that another request started.
///
/// # Errors
///
/// [`Failure::JournalUnavailable`]: after a restart the webhook would not be notified.
pub(super) async fn subscribe(waiter: &mut Waiter, webhook: Webhook) -> Result<(), Failure> {
    waiter.recorded().await;
    let (job, services) = (waiter.job, &waiter.driver.services);
    let record = Record::Subscribed { job, webhook, at: services.clock.now() };
    services.journal.append(record).await.map_err(|error| {
        tracing::error!(%job, %error, "a webhook could not be journalled; the request is refused");
        Failure::JournalUnavailable
    })?;
    // A job that ends after this check notifies the webhook with its end.
    if waiter.progress.borrow().outcome.is_some() {
        services.completion_listener.ended(job);
    }
    Ok(())
}

/// Returns the error of a waiter at its deadline.
fn deadline_passed(waiter: &Waiter) -> WaitError {
    // If nothing is bought, nothing goes on once this waiter has left; for an observer, other waiters may remain.
    if waiter.is_bought() || waiter.keep_alive.is_none() {
        WaitError::DeadlinePassed { upstream: waiter.upstream() }
    } else {
        let expected = waiter.driver.read(|jobs| jobs.expected_cost(waiter.job));
        // Without a record it has just been dropped.
        let missed = |(record, usd): (Arc<JobRecord>, Usd)| missed_start(&waiter.driver.services.budget, &record, usd);
        WaitError::Failed(expected.map_or(Failure::Abandoned, missed))
    }
}

/// Returns the error of a waiter when the gateway stops.
fn closing(waiter: &Waiter) -> WaitError {
    match waiter.driver.read(|jobs| jobs.table.payment(waiter.job)) {
        // The upstream's answer may not come before the process ends, and then a retry would pay again. Where an
        // unknown outcome is held, a retry joins the accepted purchase or gets the unknown outcome, and pays for
        // neither.
        PaymentStatus::Submitting if !waiter.driver.cache.holds_unknown() => {
            let message = "the gateway stopped before the answer came".to_owned();
            WaitError::Failed(Failure::OutcomeUnknown { message })
        }
        PaymentStatus::Submitting | PaymentStatus::Bought => WaitError::Closing { upstream: waiter.upstream() },
        // A job that is only queued is not resumed after the restart.
        PaymentStatus::NotBought => WaitError::Failed(Failure::Stopping),
    }
}
