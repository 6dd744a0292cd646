//! The bytes of one upload on disk: one file without a name, of which its parts are ranges.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::memory::Memory;
use super::space::{Share, Space};

/// What all uploads of a spool share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    /// Bytes up to which a part stays in memory.
    pub(super) part_memory_bytes: usize,
    pub(super) space: Arc<Space>,
    pub(super) memory: Arc<Memory>,
}

/// The bytes of an upload, for as long as one of its parts is held.
#[derive(Debug)]
pub(super) struct UploadFile {
    pub(super) shared: Arc<Shared>,
    pub(super) share: Share,
    /// Created when the first part outgrows its memory.
    file: OnceLock<File>,
    /// Offset of the next part.
    end: AtomicU64,
}

impl UploadFile {
    pub(super) fn new(shared: &Arc<Shared>, share: Share) -> Self {
        Self { shared: Arc::clone(shared), share, file: OnceLock::new(), end: AtomicU64::new(0) }
    }

    /// Returns the file, created if there is none: without a name on Linux, unlinked at once elsewhere. Blocks.
    pub(super) fn file(&self) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = tempfile::tempfile_in(&self.shared.directory)?;
        // Parts follow each other, but the last write of a cancelled part may still be under way.
        Ok(self.file.get_or_init(|| file))
    }

    /// Reserves the next `bytes` of the file; returns their offset.
    pub(super) fn extend(&self, bytes: u64) -> u64 {
        self.end.fetch_add(bytes, Ordering::Relaxed)
    }
}
