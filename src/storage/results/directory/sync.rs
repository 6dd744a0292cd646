//! Syncs of one directory after renames in it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Makes renames in one directory durable. A sync that begins after a rename covers it, whichever rename asked for it.
#[derive(Debug)]
pub(super) struct DirectorySync {
    directory: File,
    /// Renames so far.
    renamed: AtomicU64,
    /// Renames that have been synced, or the error after which none is.
    synced: Mutex<Result<u64, io::ErrorKind>>,
}

impl DirectorySync {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: File::open(path)?, renamed: AtomicU64::new(0), synced: Mutex::new(Ok(0)) })
    }

    /// Makes a finished rename durable. Blocks.
    ///
    /// # Errors
    ///
    /// When the sync fails. Every later call fails too: a repeated sync would report success without the lost rename.
    pub(super) fn sync(&self) -> io::Result<()> {
        let own = self.renamed.fetch_add(1, Ordering::AcqRel) + 1;
        // A caller that waits here for an earlier sync usually finds that the next one covered its rename.
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        match *synced {
            Ok(through) if through >= own => Ok(()),
            Ok(_) => {
                let through = self.renamed.load(Ordering::Acquire);
                let result = self.directory.sync_all();
                *synced = result.as_ref().map(|()| through).map_err(io::Error::kind);
                result
            }
            Err(kind) => Err(kind.into()),
        }
    }
}
