//! The store of pictures, with what must not happen at the same time: a picture that is written is not set aside.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

use super::traits::{Orphan, PictureStore};
use crate::model::{Digest, RunningTime};

/// The store behind everything that reads and writes pictures.
#[derive(Debug)]
pub(super) struct SharedPictures {
    pub(super) store: Box<dyn PictureStore>,
    /// The pictures written since the start: the journal may not know them yet. `None` once nothing is set aside any more.
    written: Mutex<Option<HashSet<Digest>>>,
    orphans: AtomicU64,
    orphan_bytes: AtomicU64,
}

impl SharedPictures {
    pub(super) fn new(store: Box<dyn PictureStore>) -> Self {
        Self {
            store,
            written: Mutex::new(Some(HashSet::new())),
            orphans: AtomicU64::new(0),
            orphan_bytes: AtomicU64::new(0),
        }
    }

    /// Keeps a finished file, as `PictureStore::keep`.
    pub(super) fn keep(&self, file: NamedTempFile, digest: Digest) -> io::Result<()> {
        // Before the file gets its name: from then on it could be set aside.
        if let Some(written) = &mut *self.written.lock().unwrap_or_else(PoisonError::into_inner) {
            written.insert(digest);
        }
        self.store.keep(file, digest)
    }

    /// Makes a picture an orphan, unless it was written since the start. Returns whether that happened.
    pub(super) fn set_aside(&self, digest: &Digest, at: RunningTime) -> io::Result<bool> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.as_ref().is_none_or(|written| written.contains(digest)) {
            return Ok(false);
        }
        let bytes = self.store.set_aside(digest, at)?;
        if let Some(bytes) = bytes {
            self.orphans.fetch_add(1, Ordering::Relaxed);
            self.orphan_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(bytes.is_some())
    }

    /// Sets nothing aside any more, and forgets what was written.
    pub(super) fn end_setting_aside(&self) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sets the number of the orphans and their bytes.
    pub(super) fn count_orphans(&self, orphans: &[Orphan]) {
        self.orphans.store(orphans.len() as u64, Ordering::Relaxed);
        self.orphan_bytes.store(orphans.iter().map(|orphan| orphan.bytes).sum(), Ordering::Relaxed);
    }

    /// Returns the number of the orphans and their bytes.
    pub(super) fn orphans(&self) -> (u64, u64) {
        (self.orphans.load(Ordering::Relaxed), self.orphan_bytes.load(Ordering::Relaxed))
    }
}
