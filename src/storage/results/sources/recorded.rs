//! Small pictures, which have no file: the journal stores their bytes in the commit that resolves their purchase.
//!
//! A file costs two syncs and its making, which takes longer while many were deleted shortly before
//! (`tests/load/full_store.py`). A small picture in the journal costs none of it, and is removed with its record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use crate::model::{Digest, StoredPicture};
use crate::storage::journal::{Journal, PictureBytes, Standing};

/// The largest picture that can be stored in the journal: one that is gathered in memory whole.
pub(in crate::storage::results) const RECORDED_BYTES_MAX: u64 = 256 * 1024 - 1;
/// Memory for pictures whose record is not durable yet. A picture that finds no room becomes a file.
const MEMORY_BYTES_MAX: usize = 16 << 20;
/// How long a picture can be read whose record was not written: its client is answered all the same.
const UNRECORDED_TTL: Duration = Duration::from_mins(10);

/// The pictures in the journal, and those on their way to it. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::storage::results) struct RecordedPictures {
    journal: Arc<dyn Journal>,
    /// The largest picture that is stored there from now on.
    bytes_max: u64,
    memory: Arc<Semaphore>,
    /// The store is marked: the journal has pictures of it.
    marked: Arc<AtomicBool>,
    /// Those whose record is not durable, or not known to be.
    unrecorded: Cache<Digest, Bytes>,
}

impl RecordedPictures {
    pub(in crate::storage::results) fn new(journal: Arc<dyn Journal>, bytes_max: u64) -> Self {
        let unrecorded = Cache::builder()
            .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
            .max_capacity(MEMORY_BYTES_MAX as u64)
            .time_to_live(UNRECORDED_TTL)
            .build();
        let memory = Arc::new(Semaphore::new(MEMORY_BYTES_MAX));
        Self { journal, bytes_max: bytes_max.min(RECORDED_BYTES_MAX), memory, marked: Arc::default(), unrecorded }
    }

    /// Returns whether a picture of this size is stored in the journal, which can be written at present.
    pub(in crate::storage::results) fn accepts(&self, bytes: u64) -> bool {
        bytes <= self.bytes_max && self.journal.standing() == Standing::Fine
    }

    /// Returns a picture for its record; `None` when it has to be a file, because too many are on their way.
    pub(in crate::storage::results) fn take(&self, digest: Digest, bytes: &Bytes) -> Option<PictureBytes> {
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(u32::try_from(bytes.len()).ok()?).ok()?;
        self.unrecorded.insert(digest, bytes.clone());
        Some(PictureBytes::new(digest, bytes.clone(), Some(memory)))
    }

    /// Returns whether the store was marked since the start.
    pub(in crate::storage::results) fn is_marked(&self) -> bool {
        self.marked.load(Ordering::Acquire)
    }

    pub(in crate::storage::results) fn set_marked(&self) {
        self.marked.store(true, Ordering::Release);
    }

    /// Notes that the record of a picture is durable: it is read from the journal from now on.
    pub(in crate::storage::results) fn on_durable(&self, digest: &Digest) {
        self.unrecorded.invalidate(digest);
    }

    /// Returns the bytes of a picture, which are those of its digest; `None` when the journal does not have them, or not any
    /// more, in which case there may be a file.
    pub(in crate::storage::results) async fn read(&self, picture: &StoredPicture) -> Option<Bytes> {
        if picture.bytes > RECORDED_BYTES_MAX {
            return None;
        }
        if let Some(bytes) = self.unrecorded.get(&picture.digest) {
            return Some(bytes);
        }
        let copies = self.journal.picture_copies(picture.digest).await.unwrap_or_else(|error| {
            tracing::warn!(%error, digest = %picture.digest, "a picture cannot be read from the journal; its file is read, if there is one");
            Vec::new()
        });
        copies.into_iter().find(|bytes| Digest::of(bytes) == picture.digest)
    }
}
