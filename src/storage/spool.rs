//! Uploads on their way in: hashed and measured as they arrive, small ones in memory, larger ones in an unlinked file.
//!
//! Wanted:
//! - All uploads together hold at most `bytes_max` bytes. A request that says how long it is takes its share before a
//!   byte of it is read, and waits for it in turn; so whoever has begun can end, and no two halves block each other. One
//!   that does not say takes its share as it arrives and is refused at once when nothing is left.
//! - Of these, at most `memory_bytes_max` are in memory, buffers included. What finds no room there goes to the file.
//! - A request costs at most one descriptor: its parts are ranges of one file.
//! - A share is given back when the last part of its request is let go of; what a request did not need, when it is in.
//!
//! Nothing here survives a restart, and nothing has a name in the file system.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::config::StorageConfig;
use crate::storage::is_out_of_descriptors;

mod part;
mod space;

pub(crate) use part::{PartWriter, TextWriter};
use space::{Memory, Share, Space};

/// How much there may be of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpoolLimits {
    /// A part stays in memory up to so many bytes.
    pub(crate) part_memory_bytes: usize,
    /// Bytes of all parts and buffers in memory.
    pub(crate) memory_bytes_max: u64,
    /// Bytes of all uploads, in memory and in files.
    pub(crate) bytes_max: u64,
    /// How long a request waits for its share.
    pub(crate) wait: Duration,
    /// Requests that wait at the same time.
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

/// Where uploads go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    part_memory_bytes: usize,
    space: Arc<Space>,
    memory: Arc<Memory>,
}

/// Why a part cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the part is larger than {bytes_max} bytes")]
    PartTooLarge { bytes_max: u64 },
    #[error("the upload is larger than all uploads together may be, {bytes_max} bytes")]
    NeverFits { bytes_max: u64 },
    #[error("all uploads together exceed {bytes_max} bytes")]
    Full { bytes_max: u64 },
    /// For the moment: the disk, or the process, has as much as it may.
    #[error("there is no room for the upload: {0}")]
    NoRoom(io::Error),
    #[error("the spool cannot be written: {0}")]
    Io(io::Error),
}

impl From<io::Error> for SpoolError {
    fn from(error: io::Error) -> Self {
        let lacks_room = error.kind() == io::ErrorKind::StorageFull || is_out_of_descriptors(&error);
        if lacks_room { Self::NoRoom(error) } else { Self::Io(error) }
    }
}

/// What the spool holds at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpoolStatus {
    /// Bytes that have arrived and are held, in memory and in files.
    pub(crate) bytes: u64,
    /// Bytes that are taken, also for what is still to arrive.
    pub(crate) taken: u64,
    pub(crate) bytes_max: u64,
    /// Bytes of parts and buffers in memory.
    pub(crate) memory_bytes: u64,
    /// Requests that wait for their share.
    pub(crate) waiting: usize,
    /// Requests that got none, since the start.
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

    /// A spool without waits.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn for_test(directory: PathBuf, part_memory_bytes: usize, bytes_max: u64) -> Self {
        let (memory_bytes_max, wait, waiters_max) = (bytes_max, Duration::ZERO, 0);
        Self::new(directory, SpoolLimits { part_memory_bytes, memory_bytes_max, bytes_max, wait, waiters_max })
    }

    /// Begins the upload of a request that will need `bytes`, or of one that does not say. Waits for so much room where it
    /// says.
    ///
    /// # Errors
    ///
    /// [`SpoolError::NeverFits`] and [`SpoolError::Full`].
    pub(crate) async fn upload(&self, bytes: Option<u64>) -> Result<Upload, SpoolError> {
        let share = Space::share(&self.shared.space, bytes.unwrap_or(0)).await?;
        Ok(Upload::new(&self.shared, share))
    }

    pub(crate) fn status(&self) -> SpoolStatus {
        let Shared { space, memory, .. } = &*self.shared;
        SpoolStatus {
            bytes: space.arrived(),
            taken: space.taken(),
            bytes_max: space.bytes_max(),
            memory_bytes: memory.bytes(),
            waiting: space.waiting(),
            refused: space.refused(),
        }
    }
}

/// What a request uploads, one part after the other. What it did not need of its share is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Upload {
    spooled: Arc<Spooled>,
}

/// The bytes of a request, for as long as a part of it is held.
#[derive(Debug)]
struct Spooled {
    shared: Arc<Shared>,
    share: Share,
    /// Made when the first part outgrows its memory.
    file: OnceLock<File>,
    /// Where the next part begins in it.
    end: AtomicU64,
}

impl Upload {
    fn new(shared: &Arc<Shared>, share: Share) -> Self {
        let spooled = Spooled { shared: Arc::clone(shared), share, file: OnceLock::new(), end: AtomicU64::new(0) };
        Self { spooled: Arc::new(spooled) }
    }

    /// Begins a picture of at most `bytes_max` bytes.
    pub(crate) fn picture(&mut self, bytes_max: u64) -> PartWriter<'_> {
        PartWriter::new(self, bytes_max)
    }

    /// Begins a part that is only read back, of at most `bytes_max` bytes: it is not hashed.
    pub(crate) fn text(&mut self, bytes_max: u64) -> TextWriter<'_> {
        TextWriter::new(self, bytes_max)
    }

    /// Takes `bytes` of the share for an upload of their own, with a file of its own, so that they can be let go of sooner.
    pub(crate) fn split(&mut self, bytes: u64) -> Self {
        Self::new(&self.spooled.shared, self.spooled.share.split(bytes))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.spooled.share.trim();
    }
}

impl Spooled {
    /// The file, made now if there is none. Blocks.
    fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = tempfile::tempfile_in(&self.shared.directory)?;
        // Parts come one after the other, but the last write of one that was given up may still be under way.
        Ok(self.file.get_or_init(|| file))
    }

    /// Takes the next `bytes` of the file; returns where they begin.
    fn extend(&self, bytes: u64) -> u64 {
        self.end.fetch_add(bytes, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
