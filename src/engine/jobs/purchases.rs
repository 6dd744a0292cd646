//! Single purchases of live jobs: their steps, and what is known of them.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::live::LiveJob;
use super::progress::Progress;
use super::purchase_state::{AcceptedPurchase, PurchaseEnd, PurchaseState};
use super::table::Jobs;
use crate::model::{Failure, JobId, JobResult, PurchaseId, Usd};
use crate::polling::latency::LatencyClass;
use crate::storage::journal::JobRecord;

/// A job that has just ended, no longer in the table.
#[derive(Debug)]
pub(in crate::engine) struct EndedJob {
    pub(in crate::engine) record: Arc<JobRecord>,
    pub(in crate::engine) outcome: Result<Arc<JobResult>, Failure>,
    progress: Arc<watch::Sender<Progress>>,
}

impl EndedJob {
    /// Wakes the waiters.
    pub(in crate::engine) fn publish(self) {
        self.progress.send_modify(|progress| progress.outcome = Some(self.outcome));
    }
}

impl Jobs {
    /// Begins a submit; returns `false` when the job was abandoned meanwhile.
    pub(in crate::engine) fn start_submit(&self, purchase: PurchaseId) -> bool {
        let mut table = self.lock();
        match table.live.get_mut(&purchase.job) {
            Some(live) if !live.abandoned => {
                live.purchases[usize::from(purchase.slot)] = PurchaseState::Submitting;
                live.publish_stage();
                true
            }
            _ => false,
        }
    }

    /// Queues a purchase again whose submit did not take effect.
    pub(in crate::engine) fn requeue(&self, purchase: PurchaseId) {
        if let Some(live) = self.lock().live.get_mut(&purchase.job) {
            live.purchases[usize::from(purchase.slot)] = PurchaseState::Queued;
            live.publish_stage();
        }
    }

    /// Notes that the upstream accepted a purchase.
    pub(in crate::engine) fn accept(&self, purchase: PurchaseId, accepted: AcceptedPurchase) {
        if let Some(live) = self.lock().live.get_mut(&purchase.job) {
            let upstream = accepted.poll.handle.id.clone();
            live.purchases[usize::from(purchase.slot)] = PurchaseState::Polling(Box::new(accepted));
            live.progress.send_modify(|progress| progress.upstream.push(upstream));
            live.publish_stage();
        }
    }

    /// Reads, and may change, an accepted purchase; `None` when there is no such purchase, or not any more.
    pub(in crate::engine) fn with_accepted<T>(
        &self,
        purchase: PurchaseId,
        access: impl FnOnce(&mut AcceptedPurchase) -> T,
    ) -> Option<T> {
        let mut table = self.lock();
        match table.live.get_mut(&purchase.job)?.purchases.get_mut(usize::from(purchase.slot))? {
            PurchaseState::Polling(accepted) => Some(access(accepted)),
            PurchaseState::Queued | PurchaseState::Submitting | PurchaseState::Ended(_) => None,
        }
    }

    /// Returns the purchases of a class whose next poll is planned for later than `now`.
    pub(in crate::engine) fn replannable(&self, class: &LatencyClass, now: Instant) -> Vec<PurchaseId> {
        let table = self.lock();
        let all = table.live.iter().flat_map(|(&job, live)| {
            (0..).zip(&live.purchases).map(move |(slot, state)| (PurchaseId { job, slot }, state))
        });
        let replannable = all.filter_map(|(purchase, state)| match state {
            PurchaseState::Polling(accepted) => {
                (accepted.class == *class && accepted.may_replan(now)).then_some(purchase)
            }
            PurchaseState::Queued | PurchaseState::Submitting | PurchaseState::Ended(_) => None,
        });
        replannable.collect()
    }

    /// Returns the record of a live job.
    pub(in crate::engine) fn record(&self, job: JobId) -> Option<Arc<JobRecord>> {
        self.lock().live.get(&job).map(|live| Arc::clone(&live.record))
    }

    /// Whether any purchase of a job is, or may be, bought. A job that has ended counts as bought.
    pub(in crate::engine) fn is_bought(&self, job: JobId) -> bool {
        self.lock().live.get(&job).is_none_or(LiveJob::is_bought)
    }

    /// Whether the answer to a submit of a job is still to come.
    pub(in crate::engine) fn is_submitting(&self, job: JobId) -> bool {
        self.lock().live.get(&job).is_some_and(LiveJob::is_submitting)
    }

    /// Returns the number of pictures a purchase of a live job was to make; 0 when the job has ended.
    pub(in crate::engine) fn pictures(&self, purchase: PurchaseId) -> u8 {
        let table = self.lock();
        let pictures = table.live.get(&purchase.job).map(|live| &live.pictures);
        pictures.and_then(|pictures| pictures.get(usize::from(purchase.slot))).copied().unwrap_or_default()
    }

    /// Replaces what was reserved for a purchase by what was used.
    pub(in crate::engine) fn settle_quota(&self, purchase: PurchaseId, pictures: usize, usd: Usd) {
        if let Some(live) = self.lock().live.get(&purchase.job) {
            live.quota.settle(pictures, usd);
        }
    }

    /// Ends a purchase. If its job has ended with it, takes the job off the table and returns it.
    pub(in crate::engine) fn end(&self, purchase: PurchaseId, end: PurchaseEnd) -> Option<EndedJob> {
        let mut table = self.lock();
        let live = table.live.get_mut(&purchase.job)?;
        let state = &mut live.purchases[usize::from(purchase.slot)];
        *state = PurchaseState::Ended(end);
        if let Some(result) = state.result() {
            live.progress.send_modify(|progress| progress.results.push(result));
        }
        if !live.has_ended() {
            live.publish_stage();
            return None;
        }
        let live = table.live.remove(&purchase.job)?;
        table.unlist(&live.record);
        Some(EndedJob { outcome: live.outcome(), record: live.record, progress: live.progress })
    }
}
