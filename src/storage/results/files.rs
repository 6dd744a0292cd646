//! The files of pictures, named by their digest.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::NamedTempFile;

use super::directory_sync::DirectorySync;
use crate::model::{ByteSource, Digest};

const TEMPORARY_EXTENSION: &str = "tmp";

/// The directory of pictures. Every method but `failed` blocks.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    sync: DirectorySync,
    /// A sync has failed: stored pictures may not survive a power cut.
    failed: AtomicBool,
}

impl Files {
    /// Opens the directory and removes temporary files that a crash left.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == TEMPORARY_EXTENSION) {
                fs::remove_file(path)?;
            }
        }
        let sync = DirectorySync::open(directory)?;
        Ok(Self { directory: directory.to_owned(), sync, failed: AtomicBool::new(false) })
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Creates a temporary file for a picture.
    pub(super) fn create_temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().suffix(&format!(".{TEMPORARY_EXTENSION}")).tempfile_in(&self.directory)
    }

    /// Makes a checked picture durable, under its digest. A failed sync sets `failed`; the picture can still be read.
    pub(super) fn persist(&self, file: NamedTempFile, digest: Digest) -> io::Result<()> {
        let synced = file.as_file().sync_all();
        file.persist(self.path(&digest))?;
        // The rename must survive too: without this sync the file could be gone after a power cut.
        if let Err(error) = synced.and_then(|()| self.sync.sync()) {
            // A second sync would report success whether or not the bytes reached the disk.
            self.failed.store(true, Ordering::Relaxed);
            tracing::error!(%error, "a picture could not be synced; nothing is bought until a restart");
        }
        Ok(())
    }

    /// Opens a picture of `bytes` bytes.
    pub(super) fn open_picture(&self, digest: &Digest, bytes: u64) -> io::Result<FileBytes<File>> {
        let file = File::open(self.path(digest))?;
        if file.metadata()?.len() != bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored picture has another length"));
        }
        Ok(FileBytes { file, bytes })
    }

    /// Removes a picture if it exists.
    pub(super) fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the pictures that are not `known`; returns their number.
    pub(super) fn remove_unknown(&self, known: &HashSet<Digest>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let digest = entry.file_name().to_str().and_then(Digest::from_hex);
            if digest.is_some_and(|digest| !known.contains(&digest)) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// A file name is a digest: nothing that a client or the upstream sends reaches the file system.
    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }
}

/// The bytes of a file of known length.
#[derive(Debug)]
pub(super) struct FileBytes<F> {
    pub(super) file: F,
    pub(super) bytes: u64,
}

impl<F: Borrow<File> + Send + Sync + std::fmt::Debug> ByteSource for FileBytes<F> {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.borrow().read_at(buffer, offset)
    }
}
