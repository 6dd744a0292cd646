//! Who may have how much: the bytes of all uploads as a fair, weighted semaphore, and those of them in memory as a count.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::SpoolError;

/// Room is handed out in pages, which is what files take as well.
pub(super) const PAGE_BYTES: u64 = 4096;
/// What an upload of unknown length takes at a time, so that it does not ask for every chunk.
const GROWTH_BYTES: u64 = 64 * PAGE_BYTES;

/// Room for uploads.
#[derive(Debug)]
pub(super) struct Space {
    /// One permit a page. First come, first served: whoever waits for much is not passed by those who want little.
    pages: Semaphore,
    pages_max: u32,
    wait: Duration,
    waiters_max: usize,
    waiting: AtomicUsize,
    refused: AtomicU64,
    /// Bytes that have arrived, of what is taken.
    arrived: AtomicU64,
}

impl Space {
    pub(super) fn new(bytes_max: u64, wait: Duration, waiters_max: usize) -> Self {
        // Sixteen terabytes; more is no limit.
        let pages_max = u32::try_from(bytes_max / PAGE_BYTES).unwrap_or(u32::MAX);
        let pages = Semaphore::new(usize::try_from(pages_max).unwrap_or(Semaphore::MAX_PERMITS));
        let (waiting, refused, arrived) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { pages, pages_max, wait, waiters_max, waiting, refused, arrived }
    }

    /// A share of `bytes`, after a wait where there is not so much left.
    pub(super) async fn share(space: &Arc<Self>, bytes: u64) -> Result<Share, SpoolError> {
        let bytes_max = space.bytes_max();
        let never = SpoolError::NeverFits { bytes_max };
        let Some(pages) = pages_of(bytes).filter(|&pages| pages <= space.pages_max) else { return Err(never) };
        match space.pages.try_acquire_many(pages) {
            Ok(permits) => permits.forget(),
            Err(_) => space.wait_for(pages).await?,
        }
        Ok(Share { space: Arc::clone(space), held: Mutex::new(Held { pages, bytes: 0 }) })
    }

    async fn wait_for(&self, pages: u32) -> Result<(), SpoolError> {
        let _place = Place::among(&self.waiting);
        if self.waiting() > self.waiters_max {
            return Err(self.refuse());
        }
        match tokio::time::timeout(self.wait, self.pages.acquire_many(pages)).await {
            Ok(Ok(permits)) => {
                permits.forget();
                Ok(())
            }
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(self.refuse()),
        }
    }

    fn refuse(&self) -> SpoolError {
        self.refused.fetch_add(1, Ordering::Relaxed);
        SpoolError::Full { bytes_max: self.bytes_max() }
    }

    fn give_back(&self, pages: u32) {
        self.pages.add_permits(usize::try_from(pages).unwrap_or(0));
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    pub(super) fn taken(&self) -> u64 {
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

/// A place in a queue that is only counted.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one upload has of the space; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    space: Arc<Space>,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    pages: u32,
    /// How much of them is used.
    bytes: u64,
}

impl Share {
    /// Uses `by` bytes more, of what is held or else of what is left.
    pub(super) fn grow(&self, by: u64) -> Result<(), SpoolError> {
        let mut held = self.lock();
        let bytes = held.bytes + by;
        let full = || self.space.refuse();
        let needed = pages_of(bytes).ok_or_else(full)?;
        if needed > held.pages {
            let short = needed - held.pages;
            let ample = short.max(pages_of(GROWTH_BYTES).unwrap_or(short));
            let more = [ample, short].into_iter().find(|&pages| match self.space.pages.try_acquire_many(pages) {
                Ok(permits) => {
                    permits.forget();
                    true
                }
                Err(_) => false,
            });
            held.pages += more.ok_or_else(full)?;
        }
        held.bytes = bytes;
        self.space.arrived.fetch_add(by, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a share of its own of `bytes`, as far as they are held and unused.
    pub(super) fn split(&self, bytes: u64) -> Self {
        let mut held = self.lock();
        let unused = held.pages - pages_of(held.bytes).unwrap_or(held.pages).min(held.pages);
        let pages = pages_of(bytes).unwrap_or(unused).min(unused);
        held.pages -= pages;
        Self { space: Arc::clone(&self.space), held: Mutex::new(Held { pages, bytes: 0 }) }
    }

    /// Gives back what is not used.
    pub(super) fn trim(&self) {
        let mut held = self.lock();
        let used = pages_of(held.bytes).unwrap_or(held.pages).min(held.pages);
        self.space.give_back(held.pages - used);
        held.pages = used;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Held { pages, bytes } = *self.lock();
        self.space.arrived.fetch_sub(bytes, Ordering::Relaxed);
        self.space.give_back(pages);
    }
}

/// Bytes of uploads in memory.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: u64,
    bytes: AtomicU64,
}

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: AtomicU64::new(0) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn take(&self, by: u64) -> bool {
        let more = |bytes: u64| bytes.checked_add(by).filter(|&sum| sum <= self.bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// Bytes in memory that are accounted for by their capacity.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Arc<Memory>,
    bytes: Vec<u8>,
    claimed: u64,
}

/// The least a buffer grows by.
const BUFFER_GROWTH_BYTES: usize = 1024;

impl Buffer {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: Vec::new(), claimed: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the chunk, where it then holds at most `bytes_max` and memory has room; says whether it did.
    pub(super) fn extend(&mut self, chunk: &[u8], bytes_max: usize) -> bool {
        let needed = self.bytes.len() + chunk.len();
        if needed > bytes_max {
            return false;
        }
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let ample = needed.max(capacity * 2).max(BUFFER_GROWTH_BYTES).min(bytes_max);
            if !self.memory.take((ample - capacity) as u64) {
                return false;
            }
            self.bytes.reserve_exact(ample - self.bytes.len());
            self.claimed += (ample - capacity) as u64;
        }
        self.bytes.extend_from_slice(chunk);
        true
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Lets go of capacity that is not needed any more.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        let spare = self.claimed.saturating_sub(self.bytes.len() as u64);
        self.memory.bytes.fetch_sub(spare, Ordering::Relaxed);
        self.claimed -= spare;
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.claimed, Ordering::Relaxed);
    }
}
