//! Requests at once of one client: a count that goes on when the limit changes.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The requests of a client that are in progress. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Concurrency {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    count: AtomicU32,
    /// The client has a key.
    listed: AtomicBool,
}

/// One request in progress; dropping it ends it.
#[derive(Debug)]
pub(super) struct InProgress {
    shared: Arc<Shared>,
}

impl Concurrency {
    /// Begins a request; `None` when `limit` of them are in progress.
    pub(super) fn begin(&self, limit: Option<NonZeroU32>) -> Option<InProgress> {
        let limit = limit.map_or(u32::MAX, NonZeroU32::get);
        let more = |count: u32| (count < limit).then_some(count + 1);
        self.shared.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(InProgress { shared: Arc::clone(&self.shared) })
    }

    pub(super) fn count(&self) -> u32 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Whether the client has a key. Others are known for their jobs and for what they have used.
    pub(super) fn is_listed(&self) -> bool {
        self.shared.listed.load(Ordering::Relaxed)
    }

    pub(super) fn set_listed(&self, listed: bool) {
        self.shared.listed.store(listed, Ordering::Relaxed);
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.shared.count.fetch_sub(1, Ordering::Relaxed);
    }
}
