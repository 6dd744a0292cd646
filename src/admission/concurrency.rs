//! Requests at once of one client: a count that goes on when the limit changes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of a client's requests that are in progress. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Concurrency {
    count: Arc<AtomicU32>,
}

/// One request in progress; dropping it ends it.
#[derive(Debug)]
pub(super) struct InProgress {
    count: Arc<AtomicU32>,
}

impl Concurrency {
    /// Begins a request; `None` when `limit` of them are in progress.
    pub(super) fn begin(&self, limit: Option<NonZeroU32>) -> Option<InProgress> {
        let limit = limit.map_or(u32::MAX, NonZeroU32::get);
        let more = |count: u32| (count < limit).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(InProgress { count: Arc::clone(&self.count) })
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
