//! The bytes of a small picture on their way to the journal.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::model::Digest;

/// The bytes of a small picture, which has no file: the journal stores them with the record of its purchase.
#[derive(Clone)]
pub(crate) struct PictureBytes {
    pub(super) digest: Digest,
    pub(super) bytes: Bytes,
    /// Its part of the memory for such pictures.
    _memory: Option<Arc<OwnedSemaphorePermit>>,
}

impl PictureBytes {
    /// Returns the bytes of this digest, which take the memory of the permit until the last copy is dropped.
    pub(crate) fn new(digest: Digest, bytes: Bytes, memory: Option<OwnedSemaphorePermit>) -> Self {
        Self { digest, bytes, _memory: memory.map(Arc::new) }
    }

    #[cfg(test)]
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

impl fmt::Debug for PictureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PictureBytes").field("digest", &self.digest).finish_non_exhaustive()
    }
}
