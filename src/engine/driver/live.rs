//! What the driver holds for each live job: the connection to its waiters, its part of the quota, its places in the
//! queue and in flight. Each is released when it is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::{Driver, State};
use crate::budget::{InFlightPermit, QueueSlot, Reservation, Submit};
use crate::engine::jobs::event::{Event, News};
use crate::engine::jobs::{CancelOutcome, Counts, Listed, LiveView, NewJob, Progress, RecoveredJob, Standing};
use crate::engine::reuse::ReusePolicy;
use crate::model::{
    ClientId, Failure, Fingerprint, IdempotencyKey, JobId, JobResult, PictureRequest, PurchaseId, QuotaHold,
};
use crate::storage::journal::JobRecord;

/// What the driver holds for the live jobs.
#[derive(Debug, Default)]
pub(super) struct LiveJobs {
    jobs: HashMap<JobId, LiveJob>,
}

#[derive(Debug)]
struct LiveJob {
    progress: watch::Sender<Progress>,
    /// The part of its client's quota that is reserved for it.
    quota: Box<dyn QuotaHold>,
    purchases: Vec<LivePurchase>,
}

/// What the driver holds for a purchase.
#[derive(Debug, Default)]
pub(super) struct LivePurchase {
    /// Until it is submitted no more.
    pub(super) submission: Option<Submission>,
    /// From the grant until the upstream is done with it.
    pub(super) in_flight: Option<InFlightPermit>,
    /// Lets the last byte of its submit leave, or breaks the submit off.
    pub(super) last_byte: Option<oneshot::Sender<bool>>,
}

/// What a purchase is submitted with.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) request: Arc<PictureRequest>,
    pub(super) slot: QueueSlot,
    /// From the grant until the submit.
    pub(super) reservation: Option<Reservation<Submit>>,
}

/// A new job, with its places in the queue.
pub(in crate::engine) struct QueuedJob {
    pub(in crate::engine) job: NewJob,
    pub(in crate::engine) request: PictureRequest,
    pub(in crate::engine) slots: Vec<QueueSlot>,
    pub(in crate::engine) quota: Box<dyn QuotaHold>,
}

/// A purchase that was under way before the start, with its place in flight.
pub(in crate::engine) type AdoptedPurchase = (PurchaseId, InFlightPermit);

/// A live job that a request waits for.
#[derive(Debug)]
pub(in crate::engine) struct Joined {
    pub(in crate::engine) record: Arc<JobRecord>,
    pub(in crate::engine) progress: watch::Receiver<Progress>,
    pub(in crate::engine) keep_alive: KeepAlive,
}

/// Keeps a job needed for as long as this exists.
#[derive(Debug)]
pub(in crate::engine) struct KeepAlive {
    driver: Arc<Driver>,
    job: JobId,
}

/// The result of listing a job.
#[derive(Debug)]
pub(in crate::engine) enum ListOutcome {
    New(Joined),
    /// A live job was joined instead.
    Joined(Joined),
}

impl LiveJobs {
    pub(super) fn purchase(&mut self, purchase: PurchaseId) -> Option<&mut LivePurchase> {
        self.jobs.get_mut(&purchase.job)?.purchases.get_mut(usize::from(purchase.slot))
    }

    pub(super) fn quota(&self, job: JobId) -> Option<&dyn QuotaHold> {
        self.jobs.get(&job).map(|live| &*live.quota)
    }

    /// Shows waiters what is new.
    pub(super) fn publish(&self, job: JobId, news: News) {
        let Some(live) = self.jobs.get(&job) else { return };
        live.progress.send_modify(|progress| match news {
            News::Stage(stage) => progress.stage = stage,
            News::Recorded => progress.recorded = true,
            News::Upstream(upstream) => progress.upstream.push(upstream),
            News::Result(result) => progress.results.push(result),
        });
    }

    /// Answers the waiters of a job that has ended, and releases what is held for it.
    pub(super) fn end(&mut self, job: JobId, outcome: Result<Arc<JobResult>, Failure>) {
        if let Some(live) = self.jobs.remove(&job) {
            live.progress.send_modify(|progress| progress.outcome = Some(outcome));
        }
    }

    fn insert(&mut self, job: JobId, quota: Box<dyn QuotaHold>, purchases: Vec<LivePurchase>) {
        self.jobs.insert(job, LiveJob { progress: watch::Sender::default(), quota, purchases });
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.driver.handle(Event::WaiterLeft { job: self.job });
    }
}

/// What requests and owners ask of the live jobs.
impl Driver {
    /// Joins the live job of a client's idempotency key.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`] when that job is for another request.
    pub(in crate::engine) fn join_by_key(
        self: &Arc<Self>,
        client: &ClientId,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        start_by: Instant,
    ) -> Result<Option<Joined>, Failure> {
        let mut state = self.lock();
        let joined = state.jobs.join_by_key(client, key, fingerprint, start_by.into_std())?;
        Ok(joined.and_then(|record| self.joined(&state, record)))
    }

    /// Joins a live job that serves the request, where the policy allows it.
    pub(in crate::engine) fn join(
        self: &Arc<Self>,
        fingerprint: Fingerprint,
        policy: ReusePolicy,
        start_by: Instant,
    ) -> Option<Joined> {
        let mut state = self.lock();
        let record = state.jobs.join(fingerprint, policy, start_by.into_std())?;
        self.joined(&state, record)
    }

    /// Lists a job, whose purchases then wait for the budget; or joins a live one that serves the request.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`], and the reason why nothing is bought any more.
    pub(in crate::engine) fn list_or_join(
        self: &Arc<Self>,
        queued: QueuedJob,
        policy: ReusePolicy,
    ) -> Result<ListOutcome, Failure> {
        let QueuedJob { job, request, slots, quota } = queued;
        let record = Arc::clone(&job.record);
        let request = Arc::new(request);
        let mut state = self.lock();
        let effects = match state.jobs.list_or_join(job, policy)? {
            Listed::New(effects) => effects,
            Listed::Joined(other) => {
                return Ok(ListOutcome::Joined(self.joined(&state, other).ok_or(Failure::Stopping)?));
            }
        };
        let purchases = slots.into_iter().map(|slot| LivePurchase {
            submission: Some(Submission { request: Arc::clone(&request), slot, reservation: None }),
            ..LivePurchase::default()
        });
        state.live.insert(record.id, quota, purchases.collect());
        self.carry_out(&mut state, effects);
        Ok(ListOutcome::New(self.joined(&state, record).ok_or(Failure::Stopping)?))
    }

    /// Lists a job that was under way before the gateway started.
    pub(in crate::engine) fn restore(
        self: &Arc<Self>,
        recovered: RecoveredJob,
        adopted: Vec<AdoptedPurchase>,
        quota: Box<dyn QuotaHold>,
    ) {
        let job = recovered.record.id;
        let mut purchases: Vec<LivePurchase> = Vec::new();
        purchases.resize_with(recovered.purchases(), LivePurchase::default);
        for (purchase, permit) in adopted {
            purchases[usize::from(purchase.slot)].in_flight = Some(permit);
        }
        let mut state = self.lock();
        state.live.insert(job, quota, purchases);
        let effects = state.jobs.restore(recovered, self.now());
        self.carry_out(&mut state, effects);
    }

    /// Keeps a live job needed although no client is connected.
    pub(in crate::engine) fn keep(&self, job: JobId, start_by: Instant) {
        let mut state = self.lock();
        state.jobs.keep(job, start_by.into_std());
        self.arm(&state);
    }

    /// Cancels a live job of a client; `None` when there is no such job.
    pub(in crate::engine) fn cancel(self: &Arc<Self>, client: &ClientId, job: JobId) -> Option<CancelOutcome> {
        let mut state = self.lock();
        let (outcome, effects) = state.jobs.cancel(client, job, self.now())?;
        self.carry_out(&mut state, effects);
        Some(outcome)
    }

    /// Returns a view of a live job of a client, and its progress; `None` when there is no such job.
    pub(in crate::engine) fn view(
        &self,
        client: &ClientId,
        job: JobId,
    ) -> Option<(LiveView, watch::Receiver<Progress>)> {
        let state = self.lock();
        let view = state.jobs.view(client, job, Instant::now().into_std())?;
        let progress = state.live.jobs.get(&job)?.progress.subscribe();
        Some((view, progress))
    }

    /// Returns how far the purchase of a job is.
    pub(in crate::engine) fn standing(&self, job: JobId) -> Standing {
        self.lock().jobs.standing(job)
    }

    pub(in crate::engine) fn counts(&self) -> Counts {
        self.lock().jobs.counts()
    }

    fn joined(self: &Arc<Self>, state: &State, record: Arc<JobRecord>) -> Option<Joined> {
        self.arm(state);
        let progress = state.live.jobs.get(&record.id)?.progress.subscribe();
        let keep_alive = KeepAlive { driver: Arc::clone(self), job: record.id };
        Some(Joined { record, progress, keep_alive })
    }
}
