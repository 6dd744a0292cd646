//! What the owner of a live order may see of it and do to it without waiting for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Jobs, KeepAlive, LatencyClass, Live, Progress, Slot};
use crate::engine::forecast::class_of;
use crate::model::{ClientId, JobId};
use crate::storage::journal::JobRecord;

/// A look at a live order.
#[derive(Debug)]
pub(in crate::engine) struct LiveView {
    pub(in crate::engine) record: Arc<JobRecord>,
    /// What becomes of it. Following this does not keep it wanted.
    pub(in crate::engine) progress: watch::Receiver<Progress>,
    /// Its predictions that have not ended.
    pub(in crate::engine) parts: Vec<OpenPart>,
    /// It is being dropped, and nothing of it will be bought.
    pub(in crate::engine) abandoned: bool,
}

/// A prediction that has not ended, and what is to be known to say when it will.
#[derive(Debug)]
pub(in crate::engine) struct OpenPart {
    pub(in crate::engine) class: LatencyClass,
    /// Until it is expected to be taken by the upstream.
    pub(in crate::engine) starts_in: Duration,
    /// Since it was taken; zero before.
    pub(in crate::engine) age: Duration,
}

/// What became of an order whose client does not want it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Forgotten {
    /// Nothing of it will be bought.
    Dropped,
    /// Other requests of the same client wait for it, and it goes on for them.
    Shared,
    /// It is, or may be, paid for.
    Bought,
}

impl Jobs {
    /// Looks at a live order of a client.
    pub(in crate::engine) fn glance(&self, client: &ClientId, job: JobId) -> Option<LiveView> {
        let now = Instant::now();
        let table = self.lock();
        let live = table.live.get(&job).filter(|live| live.record.client == *client)?;
        Some(LiveView {
            record: Arc::clone(&live.record),
            progress: live.progress.subscribe(),
            parts: live.open_parts(now),
            abandoned: live.abandoned,
        })
    }

    /// Keeps a live order wanted although nobody is connected. One that has ended needs no keeping.
    pub(in crate::engine) fn keep(&self, job: JobId, start_by: Instant) {
        if let Some(live) = self.lock().live.get_mut(&job) {
            live.start_by = live.start_by.max(start_by);
            live.kept.get_or_insert_with(|| KeepAlive { _wanted: live.wanted.subscribe() });
        }
    }

    /// Ends a client's interest in a live order; `None` when there is no such order.
    pub(in crate::engine) fn forget(&self, client: &ClientId, job: JobId) -> Option<Forgotten> {
        let mut table = self.lock();
        let live = table.live.get_mut(&job).filter(|live| live.record.client == *client)?;
        if live.is_bought() {
            return Some(Forgotten::Bought);
        }
        live.kept = None;
        if live.wanted.receiver_count() > 0 {
            return Some(Forgotten::Shared);
        }
        // Under the same lock: no submit begins after this answer.
        live.abandoned = true;
        let record = Arc::clone(&live.record);
        table.unlist(&record);
        Some(Forgotten::Dropped)
    }

    /// The journal knows of an order.
    pub(in crate::engine) fn recorded(&self, job: JobId) {
        if let Some(live) = self.lock().live.get(&job) {
            live.progress.send_modify(|progress| progress.recorded = true);
        }
    }
}

impl Live {
    fn open_parts(&self, now: Instant) -> Vec<OpenPart> {
        let part = |(slot, &pictures): (&Slot, &u8)| {
            let class = class_of(&self.record, pictures);
            match slot {
                Slot::QueueSlot => {
                    let starts_in = self.expected_start.saturating_duration_since(now);
                    Some(OpenPart { class, starts_in, age: Duration::ZERO })
                }
                Slot::Submitting => Some(OpenPart { class, starts_in: Duration::ZERO, age: Duration::ZERO }),
                Slot::Following(followed) => {
                    let age = now.saturating_duration_since(followed.accepted);
                    Some(OpenPart { class, starts_in: Duration::ZERO, age })
                }
                Slot::Ended(_) => None,
            }
        };
        self.slots.iter().zip(&self.parts).filter_map(part).collect()
    }
}
