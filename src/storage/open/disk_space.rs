//! Whether the file system of the data directory has free space.
//!
//! A file system can take long to answer, so a thread of its own asks once a second, and readers see the last answer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use super::metrics::DiskMetrics;
use crate::telemetry::Metrics;

/// How often the file system is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// The last known state of the file system under a directory. Cheap to clone; the thread ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct DiskSpace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    free_bytes_min: u64,
    has_space: AtomicBool,
    metrics: DiskMetrics,
    /// The thread that asks.
    thread: OnceLock<Thread>,
}

impl DiskSpace {
    /// Asks once, then starts the thread that asks again. Blocks for as long as the file system takes to answer.
    pub(crate) fn new(directory: &Path, free_bytes_min: u64) -> Self {
        let (directory, has_space, metrics) = (directory.to_owned(), AtomicBool::new(true), DiskMetrics::default());
        let shared = Arc::new(Shared { directory, free_bytes_min, has_space, metrics, thread: OnceLock::new() });
        let answered = shared.refresh();
        let seen = Arc::downgrade(&shared);
        match thread::Builder::new().name("disk-space".to_owned()).spawn(move || run(&seen, answered)) {
            Ok(handle) => {
                let _ = shared.thread.set(handle.thread().clone());
            }
            Err(error) => {
                tracing::warn!(%error, "free disk space cannot be watched; the state at the start is assumed");
            }
        }
        Self { shared }
    }

    /// Registers the metrics of the file system.
    pub(super) fn register(&self, metrics: &Metrics) {
        self.shared.metrics.register(self.shared.free_bytes_min, metrics);
    }

    /// Returns whether more than `free_bytes_min` bytes were free within the last second. Never blocks. A file system that
    /// does not answer is assumed to have space.
    pub(crate) fn has_space(&self) -> bool {
        self.shared.has_space.load(Ordering::Relaxed)
    }

    /// Returns the bytes that were free within the last second, and those below which there is no space. Never blocks.
    pub(crate) fn free_bytes(&self) -> (u64, u64) {
        (self.shared.metrics.free.get(), self.shared.free_bytes_min)
    }
}

impl Shared {
    /// Asks the file system; returns whether it answered.
    fn refresh(&self) -> bool {
        let disk = rustix::fs::statvfs(&self.directory);
        let free_bytes = disk.as_ref().map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        self.has_space.store(disk.is_err() || free_bytes > self.free_bytes_min, Ordering::Relaxed);
        if let Ok(disk) = &disk {
            self.metrics.free.set(free_bytes);
            self.metrics.used.set(disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize));
        }
        disk.is_ok()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

fn run(shared: &Weak<Shared>, mut answered: bool) {
    if !answered {
        tracing::warn!("the file system does not report its free space; space is assumed");
    }
    loop {
        thread::park_timeout(INTERVAL);
        let Some(shared) = shared.upgrade() else { return };
        let answers = shared.refresh();
        if answered && !answers {
            tracing::warn!("the file system no longer reports its free space; space is assumed");
        }
        answered = answers;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_what_the_file_system_reports() {
        let directory = tempfile::tempdir().unwrap();
        let space = DiskSpace::new(directory.path(), 0);
        let DiskMetrics { free, used } = &space.shared.metrics;
        assert!(space.has_space() && free.get() > 0 && used.get() > 0, "{space:?}");
        assert!(!DiskSpace::new(directory.path(), u64::MAX).has_space());
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let directory = tempfile::tempdir().unwrap();
        let space = DiskSpace::new(directory.path(), 0);
        let seen = Arc::downgrade(&space.shared);
        let thread = thread::spawn(move || run(&seen, true));
        let clone = space.clone();
        drop(space);
        assert!(!thread.is_finished());
        drop(clone);
        thread.join().unwrap();
    }
}
