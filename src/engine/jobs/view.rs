//! What is seen of live jobs, and what their client may do to them without waiting.

use std::sync::Arc;
use std::time::Instant;

use super::Jobs;
use super::event::{Effect, JobStage, Now};
use super::job::{Listing, OpenPurchase};
use super::purchase::Purchase;
use super::table::Table;
use crate::model::{ClientId, JobId, Usd};
use crate::storage::journal::JobRecord;

/// A view of a live job.
#[derive(Debug)]
pub(in crate::engine) struct LiveView {
    pub(in crate::engine) record: Arc<JobRecord>,
    pub(in crate::engine) stage: JobStage,
    /// Its purchases that have not ended.
    pub(in crate::engine) open: Vec<OpenPurchase>,
    /// It is being dropped, and nothing of it will be bought.
    pub(in crate::engine) abandoned: bool,
}

/// Whether a job is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum PaymentStatus {
    /// Nothing is bought.
    NotBought,
    /// The answer to a submit is still to come.
    Submitting,
    /// Something is, or may be, bought; or the job has ended.
    Bought,
}

/// The number of purchases by state, and of jobs that are kept without a connected client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Counts {
    pub(in crate::engine) queued: usize,
    pub(in crate::engine) submitting: usize,
    pub(in crate::engine) polling: usize,
    pub(in crate::engine) kept: usize,
}

/// What cancelling a job did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum CancelOutcome {
    /// Nothing of it will be bought, or ever was.
    Dropped,
    /// It goes on for other requests of the same client.
    Shared,
    /// It is, or may be, paid for: it cannot be cancelled.
    Bought,
    /// It has ended already.
    Ended,
}

impl Table {
    /// Returns a view of a live job of a client; `None` when there is no such job.
    pub(in crate::engine) fn view(&self, client: &ClientId, job: JobId, now: Instant) -> Option<LiveView> {
        self.of_any_client(job, now).filter(|view| view.record.client == *client)
    }

    /// Returns a view of a live job without asking for its client: for requests that wait for it.
    pub(in crate::engine) fn of_any_client(&self, job: JobId, now: Instant) -> Option<LiveView> {
        let live = self.live.get(&job)?;
        Some(LiveView {
            record: Arc::clone(&live.record),
            stage: live.stage,
            open: live.open(now),
            abandoned: live.listing == Listing::Abandoned,
        })
    }

    /// Returns whether a job is paid for.
    pub(in crate::engine) fn payment(&self, job: JobId) -> PaymentStatus {
        match self.live.get(&job) {
            Some(live) if live.is_submitting() => PaymentStatus::Submitting,
            Some(live) if !live.is_bought() => PaymentStatus::NotBought,
            Some(_) | None => PaymentStatus::Bought,
        }
    }

    /// Counts purchases by state.
    pub(in crate::engine) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for live in self.live.values() {
            counts.kept += usize::from(live.kept);
            for Purchase { state, .. } in &live.purchases {
                counts.queued += usize::from(state.is_waiting());
                counts.submitting += usize::from(state.is_submitting());
                counts.polling += usize::from(state.polled().is_some());
            }
        }
        counts
    }

    /// Returns the job that a client has waited for longest.
    pub(in crate::engine) fn longest_waited_for(&self) -> Option<Arc<JobRecord>> {
        let waited_for = self.live.values().filter(|live| live.has_waiters());
        waited_for.map(|live| &live.record).min_by_key(|record| (record.created, record.id)).cloned()
    }
}

impl Jobs {
    /// Returns the record of a live job, and what the job is expected to cost.
    pub(in crate::engine) fn expected_cost(&self, job: JobId) -> Option<(Arc<JobRecord>, Usd)> {
        let record = &self.table.live.get(&job)?.record;
        Some((Arc::clone(record), self.rules.price(record, record.n).unwrap_or_default()))
    }

    /// Keeps a live job needed although no client is connected. A job that has ended needs no keeping.
    pub(in crate::engine) fn keep(&mut self, job: JobId, start_by: Instant) {
        if let Some(live) = self.table.live.get_mut(&job)
            && let Some(later) = live.keep(start_by)
        {
            self.timers.set(later, job);
        }
    }

    /// Cancels a live job for a client; `None` when there is no such job. No submit of it begins after this answer.
    pub(in crate::engine) fn cancel(
        &mut self,
        client: &ClientId,
        job: JobId,
        now: Now,
    ) -> Option<(CancelOutcome, Vec<Effect>)> {
        let live = self.table.live.get_mut(&job).filter(|live| live.record.client == *client)?;
        if live.listing == Listing::Refetched {
            return Some((CancelOutcome::Ended, Vec::new()));
        }
        if live.is_bought() {
            return Some((CancelOutcome::Bought, Vec::new()));
        }
        live.kept = false;
        if live.has_waiters() {
            return Some((CancelOutcome::Shared, Vec::new()));
        }
        let mut effects = Vec::new();
        self.settle(job, now, &mut effects);
        Some((CancelOutcome::Dropped, effects))
    }
}
