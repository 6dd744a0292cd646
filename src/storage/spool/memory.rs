//! The bytes of uploads in memory: a limit for all buffers together, counted by their capacity.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of uploads in memory.
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

    fn reserve(&self, by: u64) -> bool {
        let more = |bytes: u64| bytes.checked_add(by).filter(|&sum| sum <= self.bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// A buffer whose capacity is counted.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Arc<Memory>,
    bytes: Vec<u8>,
    counted: u64,
}

/// The least a buffer grows by.
const BUFFER_GROWTH_BYTES: usize = 1024;

impl Buffer {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        Self { memory: Arc::clone(memory), bytes: Vec::new(), counted: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends the chunk if the buffer then has at most `bytes_max` bytes and memory allows; returns whether it did.
    pub(super) fn extend(&mut self, chunk: &[u8], bytes_max: usize) -> bool {
        let needed = self.bytes.len() + chunk.len();
        if needed > bytes_max {
            return false;
        }
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let ample = (needed * 2).max(BUFFER_GROWTH_BYTES).min(bytes_max);
            let is_free = |&wanted: &usize| self.memory.reserve((wanted - capacity) as u64);
            let Some(ample) = [ample, needed].into_iter().find(is_free) else { return false };
            self.bytes.reserve_exact(ample - self.bytes.len());
            self.counted += (ample - capacity) as u64;
        }
        self.bytes.extend_from_slice(chunk);
        true
    }

    /// Removes all bytes, and releases a capacity above `keep_max`.
    pub(super) fn clear(&mut self, keep_max: usize) {
        self.bytes.clear();
        if self.bytes.capacity() > keep_max {
            self.shrink();
        }
    }

    /// Releases unused capacity.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        let unused = self.counted.saturating_sub(self.bytes.len() as u64);
        self.memory.bytes.fetch_sub(unused, Ordering::Relaxed);
        self.counted -= unused;
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.counted, Ordering::Relaxed);
    }
}
