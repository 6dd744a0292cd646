//! The bytes of all uploads, as a fair, weighted semaphore.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::SpoolError;

/// Space is reserved in pages, the unit in which files take it.
pub(super) const PAGE_BYTES: u64 = 4096;
/// What an upload of unknown length reserves at a time, so that it does not reserve for every chunk.
const GROWTH_BYTES: u64 = 64 * PAGE_BYTES;

/// Space for uploads.
#[derive(Debug)]
pub(super) struct Space {
    /// One permit a page. First come, first served: a small request does not overtake a large one.
    pages: Semaphore,
    pages_max: u32,
    wait: Duration,
    waiters_max: usize,
    waiting: AtomicUsize,
    refused: AtomicU64,
    /// Bytes that have arrived, of those reserved.
    arrived: AtomicU64,
}

impl Space {
    pub(super) fn new(bytes_max: u64, wait: Duration, waiters_max: usize) -> Self {
        // Sixteen terabytes; a larger limit counts as this one.
        let pages_max = u32::try_from(bytes_max / PAGE_BYTES).unwrap_or(u32::MAX);
        let pages = Semaphore::new(usize::try_from(pages_max).unwrap_or(Semaphore::MAX_PERMITS));
        let (waiting, refused, arrived) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { pages, pages_max, wait, waiters_max, waiting, refused, arrived }
    }

    /// Reserves `bytes`, after a wait when fewer are left.
    pub(super) async fn reserve(space: &Arc<Self>, bytes: u64) -> Result<Share, SpoolError> {
        let bytes_max = space.bytes_max();
        let never = SpoolError::NeverFits { bytes_max };
        let Some(pages) = pages_of(bytes).filter(|&pages| pages <= space.pages_max) else { return Err(never) };
        match space.pages.try_acquire_many(pages) {
            Ok(permits) => permits.forget(),
            Err(_) => space.wait_for(pages).await?,
        }
        Ok(Share { space: Arc::clone(space), reserved: Mutex::new(Reserved { pages, bytes: 0 }) })
    }

    async fn wait_for(&self, pages: u32) -> Result<(), SpoolError> {
        let _waiting = Counted::in_count(&self.waiting);
        if self.waiting() > self.waiters_max {
            return Err(self.refuse());
        }
        match tokio::time::timeout(self.wait, self.pages.acquire_many(pages)).await {
            Ok(Ok(permits)) => {
                permits.forget();
                Ok(())
            }
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(self.refuse()),
        }
    }

    fn refuse(&self) -> SpoolError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        SpoolError::Full { bytes_max: self.bytes_max() }
    }

    fn release(&self, pages: u32) {
        self.pages.add_permits(usize::try_from(pages).unwrap_or(0));
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    pub(super) fn reserved(&self) -> u64 {
        self.bytes_max().saturating_sub(self.pages.available_permits() as u64 * PAGE_BYTES)
    }

    pub(super) fn bytes_max(&self) -> u64 {
        u64::from(self.pages_max) * PAGE_BYTES
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

fn pages_of(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(PAGE_BYTES)).ok()
}

/// One of the requests that a count counts.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn in_count(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The space reserved for one upload; released when dropped.
#[derive(Debug)]
pub(super) struct Share {
    space: Arc<Space>,
    reserved: Mutex<Reserved>,
}

#[derive(Debug)]
struct Reserved {
    pages: u32,
    /// Bytes of these pages that are used.
    bytes: u64,
}

impl Share {
    /// Uses `by` more bytes of the reserved space, and reserves more if needed.
    pub(super) fn grow(&self, by: u64) -> Result<(), SpoolError> {
        let mut reserved = self.lock();
        let bytes = reserved.bytes + by;
        let full = || self.space.refuse();
        let needed = pages_of(bytes).ok_or_else(full)?;
        if needed > reserved.pages {
            let short = needed - reserved.pages;
            let ample = short.max(pages_of(GROWTH_BYTES).unwrap_or(short));
            let more = [ample, short].into_iter().find(|&pages| match self.space.pages.try_acquire_many(pages) {
                Ok(permits) => {
                    permits.forget();
                    true
                }
                Err(_) => false,
            });
            reserved.pages += more.ok_or_else(full)?;
        }
        reserved.bytes = bytes;
        self.space.arrived.fetch_add(by, Ordering::Relaxed);
        Ok(())
    }

    /// Moves `bytes` to a second share, as far as they are reserved and unused.
    pub(super) fn split(&self, bytes: u64) -> Self {
        let mut reserved = self.lock();
        let unused = reserved.pages - pages_of(reserved.bytes).unwrap_or(reserved.pages).min(reserved.pages);
        let pages = pages_of(bytes).unwrap_or(unused).min(unused);
        reserved.pages -= pages;
        Self { space: Arc::clone(&self.space), reserved: Mutex::new(Reserved { pages, bytes: 0 }) }
    }

    /// Releases unused space.
    pub(super) fn trim(&self) {
        let mut reserved = self.lock();
        let used = pages_of(reserved.bytes).unwrap_or(reserved.pages).min(reserved.pages);
        self.space.release(reserved.pages - used);
        reserved.pages = used;
    }

    fn lock(&self) -> MutexGuard<'_, Reserved> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Reserved { pages, bytes } = *self.lock();
        self.space.arrived.fetch_sub(bytes, Ordering::Relaxed);
        self.space.release(pages);
    }
}
