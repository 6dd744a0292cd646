//! The spool and its uploads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::SpoolError;
use super::file::{Shared, UploadFile};
use super::memory::{Buffer, Memory};
use super::part::{Content, Part};
use super::space::{Share, Space};
use super::writer::{PartWriter, TextWriter};
use crate::config::StorageConfig;
use crate::model::picture::Structure;
use crate::model::{ByteSource, Digest, Picture};

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

/// A body that is gathered in the memory of the spool before it is divided into parts.
#[derive(Debug)]
pub(crate) struct BodyBuffer {
    buffer: Buffer,
    bytes_max: usize,
}

impl BodyBuffer {
    /// Appends the next bytes; returns whether there was room for them.
    pub(crate) fn extend(&mut self, chunk: &[u8]) -> bool {
        self.buffer.extend(chunk, self.bytes_max)
    }

    /// Returns the bytes, which count as memory of the spool until the last slice of them is dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.buffer)
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

    /// Returns a buffer for a body of at most `bytes` bytes of this upload, where so large parts stay in memory.
    pub(crate) fn buffer(&self, bytes: u64) -> Option<BodyBuffer> {
        let shared = &self.file.shared;
        let bytes_max = usize::try_from(bytes).ok().filter(|&bytes| bytes <= shared.part_memory_bytes)?;
        Some(BodyBuffer { buffer: Buffer::new(&shared.memory), bytes_max })
    }

    /// Takes a picture of at most `bytes_max` bytes, which are part of a [`BodyBuffer`].
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) fn take_picture(
        &mut self,
        bytes: Bytes,
        bytes_max: u64,
    ) -> Result<(Picture, Arc<dyn ByteSource>), SpoolError> {
        let size = bytes.len() as u64;
        if size > bytes_max {
            return Err(SpoolError::PartTooLarge { bytes_max });
        }
        self.file.share.grow(size)?;
        let picture = Picture { digest: Digest::of(&bytes), bytes: size, structure: Structure::of(&bytes)? };
        let upload = Arc::clone(&self.file);
        Ok((picture, Arc::new(Part { upload, content: Content::Memory(bytes), bytes: size })))
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
