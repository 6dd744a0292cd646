//! The spool and its uploads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::SpoolError;
use super::file::{Shared, UploadFile};
use super::memory::Memory;
use super::space::{Share, Space};
use super::writer::{PartWriter, TextWriter};
use crate::config::StorageConfig;

/// The limits of a spool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpoolLimits {
    /// Bytes up to which a part stays in memory.
    pub(crate) part_memory_bytes: usize,
    /// Limit of the bytes in memory, of all parts and buffers.
    pub(crate) memory_bytes_max: u64,
    /// Limit of the bytes of all uploads, in memory and in files.
    pub(crate) bytes_max: u64,
    /// How long an upload waits for its space.
    pub(crate) wait: Duration,
    /// Uploads that may wait at the same time; more are refused at once.
    pub(crate) waiters_max: usize,
}

impl From<&StorageConfig> for SpoolLimits {
    fn from(storage: &StorageConfig) -> Self {
        Self {
            part_memory_bytes: storage.spool_memory_bytes,
            memory_bytes_max: storage.spool_memory_bytes_max,
            bytes_max: storage.spool_bytes_max,
            wait: storage.spool_wait,
            waiters_max: storage.spool_waiters_max,
        }
    }
}

/// The temporary store of uploads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

/// The use of a spool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpoolStatus {
    /// Bytes that have arrived and are still held, in memory and in files.
    pub(crate) bytes: u64,
    /// Bytes reserved, including those still to arrive.
    pub(crate) reserved: u64,
    pub(crate) bytes_max: u64,
    /// Bytes of parts and buffers in memory.
    pub(crate) memory_bytes: u64,
    /// Uploads that wait for their space.
    pub(crate) waiting: usize,
    /// Uploads refused for lack of space, since the start.
    pub(crate) refused: u64,
}

impl Spool {
    /// A spool in `directory`, which must exist.
    pub(crate) fn new(directory: PathBuf, limits: SpoolLimits) -> Self {
        let SpoolLimits { part_memory_bytes, memory_bytes_max, bytes_max, wait, waiters_max } = limits;
        let space = Arc::new(Space::new(bytes_max, wait, waiters_max));
        let memory = Arc::new(Memory::new(memory_bytes_max));
        Self { shared: Arc::new(Shared { directory, part_memory_bytes, space, memory }) }
    }

    /// A spool in which no upload waits for space.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn for_test(directory: PathBuf, part_memory_bytes: usize, bytes_max: u64) -> Self {
        let (memory_bytes_max, wait, waiters_max) = (bytes_max, Duration::ZERO, 0);
        Self::new(directory, SpoolLimits { part_memory_bytes, memory_bytes_max, bytes_max, wait, waiters_max })
    }

    /// Begins an upload of `bytes` bytes, waiting for this space; or one of unknown length, which reserves space as it
    /// arrives.
    ///
    /// # Errors
    ///
    /// [`SpoolError::NeverFits`] and [`SpoolError::Full`].
    pub(crate) async fn upload(&self, bytes: Option<u64>) -> Result<Upload, SpoolError> {
        let share = Space::reserve(&self.shared.space, bytes.unwrap_or(0)).await?;
        Ok(Upload::new(&self.shared, share))
    }

    pub(crate) fn status(&self) -> SpoolStatus {
        let Shared { space, memory, .. } = &*self.shared;
        SpoolStatus {
            bytes: space.arrived(),
            reserved: space.reserved(),
            bytes_max: space.bytes_max(),
            memory_bytes: memory.bytes(),
            waiting: space.waiting(),
            refused: space.refused(),
        }
    }
}

/// An upload of parts that follow each other. Dropping it releases the space that its parts do not use.
#[derive(Debug)]
pub(crate) struct Upload {
    file: Arc<UploadFile>,
}

impl Upload {
    fn new(shared: &Arc<Shared>, share: Share) -> Self {
        Self { file: Arc::new(UploadFile::new(shared, share)) }
    }

    /// Begins a picture of at most `bytes_max` bytes.
    pub(crate) fn picture(&mut self, bytes_max: u64) -> PartWriter<'_> {
        PartWriter::new(&self.file, bytes_max)
    }

    /// Begins a part of at most `bytes_max` bytes that is not hashed.
    pub(crate) fn text(&mut self, bytes_max: u64) -> TextWriter<'_> {
        TextWriter::new(&self.file, bytes_max)
    }

    /// Moves `bytes` of the reserved space to a second upload with its own file, which can be released sooner.
    pub(crate) fn split(&mut self, bytes: u64) -> Self {
        Self::new(&self.file.shared, self.file.share.split(bytes))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.file.share.trim();
    }
}
