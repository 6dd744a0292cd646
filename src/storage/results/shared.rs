//! The store of pictures, with what must not happen at the same time: a picture that is written is not set aside, and not
//! removed before the journal knows of it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use super::traits::{Orphan, PictureStore};
use crate::model::{Digest, RunningTime};

/// The store behind everything that reads and writes pictures.
#[derive(Debug)]
pub(super) struct SharedPictures {
    pub(super) store: Box<dyn PictureStore>,
    /// The pictures written since the start: the journal may not know them yet. `None` once nothing is set aside any more.
    written: Mutex<Option<HashSet<Digest>>>,
    kept: Mutex<KeptPictures>,
    orphans: AtomicU64,
    orphan_bytes: AtomicU64,
}

/// The pictures that were kept a short time ago, or whose record is not durable.
#[derive(Debug, Default)]
struct KeptPictures {
    /// The number of pictures that were kept.
    count: u64,
    pictures: HashMap<Digest, KeptPicture>,
}

#[derive(Debug, Default)]
struct KeptPicture {
    /// The count when it was kept last.
    last: u64,
    /// Records with it that are not durable.
    unrecorded: usize,
}

/// Later keeps after which one is forgotten whose record is durable: far more than happen in the time of a removal.
const LATER_KEEPS_MAX: u64 = 10_000;

impl KeptPictures {
    fn add(&mut self, digest: Digest) {
        self.count += 1;
        let count = self.count;
        if count.is_multiple_of(LATER_KEEPS_MAX) {
            self.pictures.retain(|_, kept| kept.unrecorded > 0 || kept.last + LATER_KEEPS_MAX > count);
        }
        let kept = self.pictures.entry(digest).or_default();
        kept.last = count;
        kept.unrecorded += 1;
    }

    fn recorded(&mut self, digest: &Digest) {
        if let Some(kept) = self.pictures.get_mut(digest) {
            kept.unrecorded = kept.unrecorded.saturating_sub(1);
        }
    }

    /// Returns whether the journal may have come to know a picture after there were `count` keeps.
    fn is_new(&self, digest: &Digest, count: u64) -> bool {
        self.pictures.get(digest).is_some_and(|kept| kept.unrecorded > 0 || kept.last > count)
    }
}

impl SharedPictures {
    pub(super) fn new(store: Box<dyn PictureStore>) -> Self {
        Self {
            store,
            written: Mutex::new(Some(HashSet::new())),
            kept: Mutex::default(),
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
        // Likewise.
        self.kept().add(digest);
        self.store.keep(file, digest)
    }

    /// Notes that a record with a picture is durable.
    pub(super) fn on_recorded(&self, digest: &Digest) {
        self.kept().recorded(digest);
    }

    /// Returns the number of pictures that were kept since the start.
    pub(super) fn keeps(&self) -> u64 {
        self.kept().count
    }

    /// Removes a picture, unless it was kept after there were `keeps` of them, or the journal may not know it yet. Returns
    /// whether it was removed.
    pub(super) fn remove(&self, digest: &Digest, keeps: u64) -> io::Result<bool> {
        // Held over the removal: a picture that is kept from now on gets its name after it.
        let kept = self.kept();
        if kept.is_new(digest, keeps) {
            return Ok(false);
        }
        self.store.remove(digest)?;
        Ok(true)
    }

    fn kept(&self) -> MutexGuard<'_, KeptPictures> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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
