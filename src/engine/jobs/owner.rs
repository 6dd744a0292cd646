//! What the owner of a live job may see of it and do to it without waiting for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::live::{KeepAlive, LiveJob};
use super::progress::Progress;
use super::purchase_state::PurchaseState;
use super::table::Jobs;
use crate::model::{ClientId, JobId};
use crate::storage::journal::JobRecord;

/// A view of a live job.
#[derive(Debug)]
pub(in crate::engine) struct LiveView {
    pub(in crate::engine) record: Arc<JobRecord>,
    /// Its progress. Following this does not keep the job needed.
    pub(in crate::engine) progress: watch::Receiver<Progress>,
    /// Its purchases that have not ended.
    pub(in crate::engine) open: Vec<OpenPurchase>,
    /// It is being dropped, and nothing of it will be bought.
    pub(in crate::engine) abandoned: bool,
}

/// A purchase that has not ended, with what its expected end is computed from.
#[derive(Debug)]
pub(in crate::engine) struct OpenPurchase {
    /// The number of pictures it makes.
    pub(in crate::engine) pictures: u8,
    /// Time until the upstream is expected to accept it.
    pub(in crate::engine) starts_in: Duration,
    /// Time since the upstream accepted it; zero before.
    pub(in crate::engine) age: Duration,
}

/// What cancelling a job did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelOutcome {
    /// Nothing of it will be bought, or ever was.
    Dropped,
    /// It goes on for other requests of the same client.
    Shared,
    /// It is, or may be, paid for: it cannot be cancelled.
    Bought,
    /// It has ended already.
    Ended,
}

impl Jobs {
    /// Returns a view of a live job of a client; `None` when there is no such job.
    pub(in crate::engine) fn live_view(&self, client: &ClientId, job: JobId) -> Option<LiveView> {
        let now = Instant::now();
        let table = self.lock();
        let live = table.live.get(&job).filter(|live| live.record.client == *client)?;
        Some(LiveView {
            record: Arc::clone(&live.record),
            progress: live.progress.subscribe(),
            open: open_purchases(live, now),
            abandoned: live.abandoned,
        })
    }

    /// Keeps a live job needed although no client is connected. A job that has ended needs no keeping.
    pub(in crate::engine) fn keep_alive(&self, job: JobId, start_by: Instant) {
        if let Some(live) = self.lock().live.get_mut(&job) {
            live.start_by = live.start_by.max(start_by);
            live.kept.get_or_insert_with(|| KeepAlive::new(live.needed.subscribe()));
        }
    }

    /// Cancels a live job for a client; `None` when there is no such job.
    pub(in crate::engine) fn cancel(&self, client: &ClientId, job: JobId) -> Option<CancelOutcome> {
        let mut table = self.lock();
        let live = table.live.get_mut(&job).filter(|live| live.record.client == *client)?;
        if live.is_bought() {
            return Some(CancelOutcome::Bought);
        }
        live.kept = None;
        if live.has_waiters() {
            return Some(CancelOutcome::Shared);
        }
        // Under the same lock: no submit begins after this answer.
        live.abandoned = true;
        let record = Arc::clone(&live.record);
        table.unlist(&record);
        Some(CancelOutcome::Dropped)
    }

    /// Notes that a job is in the journal.
    pub(in crate::engine) fn mark_recorded(&self, job: JobId) {
        if let Some(live) = self.lock().live.get(&job) {
            live.progress.send_modify(|progress| progress.recorded = true);
        }
    }
}

fn open_purchases(live: &LiveJob, now: Instant) -> Vec<OpenPurchase> {
    let open = |(state, &pictures): (&PurchaseState, &u8)| {
        let (starts_in, age) = match state {
            PurchaseState::Queued => (live.expected_start.saturating_duration_since(now), Duration::ZERO),
            PurchaseState::Submitting => (Duration::ZERO, Duration::ZERO),
            PurchaseState::Polling(accepted) => (Duration::ZERO, now.saturating_duration_since(accepted.accepted)),
            PurchaseState::Ended(_) => return None,
        };
        Some(OpenPurchase { pictures, starts_in, age })
    };
    live.purchases.iter().zip(&live.pictures).filter_map(open).collect()
}
