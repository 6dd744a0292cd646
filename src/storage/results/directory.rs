//! Pictures as files of a folder, named by their digest; orphans in a folder beside it.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use super::traits::{Listing, OpenPicture, Orphan, PictureStore, Version};
use crate::model::{ByteSource, Digest, RunningTime};

mod mark;
mod sync;

use mark::JournalMark;
use sync::DirectorySync;

const TEMPORARY_EXTENSION: &str = "tmp";

/// The folders of pictures and of orphans.
#[derive(Debug)]
pub(crate) struct PictureDirectory {
    pictures: PathBuf,
    orphans: PathBuf,
    mark: JournalMark,
    /// `None` when the folder was opened for reading alone.
    sync: Option<DirectorySync>,
    /// A sync has failed: stored pictures may not survive a power cut.
    failed: AtomicBool,
}

impl PictureDirectory {
    /// Opens the two folders, which must exist and be on one file system, and removes temporary files that a crash left.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// When the folders cannot be read or written.
    pub(crate) fn open(pictures: &Path, orphans: &Path) -> io::Result<Self> {
        for entry in fs::read_dir(pictures)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == TEMPORARY_EXTENSION) {
                fs::remove_file(path)?;
            }
        }
        let sync = DirectorySync::open(pictures)?;
        Ok(Self { sync: Some(sync), ..Self::beside(pictures.to_owned(), orphans.to_owned()) })
    }

    /// Returns the two folders for reading alone, beside a gateway that may have them open. One that is missing is empty.
    pub(crate) fn beside(pictures: PathBuf, orphans: PathBuf) -> Self {
        let mark = JournalMark::of(&pictures);
        Self { pictures, orphans, mark, sync: None, failed: AtomicBool::new(false) }
    }

    /// Returns whether the journal has, or had, pictures of this store.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub(crate) fn has_recorded(&self) -> io::Result<bool> {
        self.mark.is_there()
    }

    /// Forgets that the journal had pictures of this store: it is a new one.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub(crate) fn forget_recorded(&self) -> io::Result<()> {
        self.mark.remove()
    }

    /// A file name is a digest: nothing that a client or the upstream sends reaches the file system.
    fn picture(&self, digest: &Digest) -> PathBuf {
        self.pictures.join(digest.to_string())
    }

    fn orphan(&self, digest: &Digest) -> PathBuf {
        self.orphans.join(digest.to_string())
    }
}

impl PictureStore for PictureDirectory {
    fn create_temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().suffix(&format!(".{TEMPORARY_EXTENSION}")).tempfile_in(&self.pictures)
    }

    fn keep(&self, file: NamedTempFile, digest: Digest) -> io::Result<()> {
        let Some(sync) = &self.sync else { return Err(io::ErrorKind::ReadOnlyFilesystem.into()) };
        let synced = file.as_file().sync_all();
        file.persist(self.picture(&digest))?;
        // The rename must survive too: without this sync the file could be gone after a power cut.
        if let Err(error) = synced.and_then(|()| sync.sync()) {
            // A second sync would report success whether or not the bytes reached the disk.
            self.failed.store(true, Ordering::Relaxed);
            tracing::error!(%error, "a picture could not be synced; nothing is bought until a restart");
        }
        Ok(())
    }

    fn mark_recorded(&self) -> io::Result<()> {
        let Some(sync) = &self.sync else { return Err(io::ErrorKind::ReadOnlyFilesystem.into()) };
        self.mark.set()?;
        if let Err(error) = sync.sync() {
            self.failed.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the mark of pictures in the journal could not be synced; nothing is bought until a restart");
        }
        Ok(())
    }

    fn open(&self, digest: &Digest) -> io::Result<OpenPicture> {
        let file = File::open(self.picture(digest))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored picture is no file"));
        }
        let version = version(&metadata);
        Ok(OpenPicture { source: Arc::new(PictureFile { file, version }), version })
    }

    fn remove(&self, digest: &Digest) -> io::Result<()> {
        remove_if_there(&self.picture(digest))
    }

    fn list(&self) -> io::Result<Listing<Digest>> {
        Ok(Box::new(entries(&self.pictures)?.filter_map(|entry| match entry {
            Ok(entry) => entry.file_name().to_str().and_then(Digest::from_hex).map(Ok),
            Err(error) => Some(Err(error)),
        })))
    }

    fn set_aside(&self, digest: &Digest, at: RunningTime) -> io::Result<Option<u64>> {
        let from = self.picture(digest);
        let bytes = match fs::metadata(&from) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        fs::rename(from, self.orphan(digest))?;
        self.date_orphan(digest, at)?;
        Ok(Some(bytes))
    }

    fn bring_back(&self, digest: &Digest) -> io::Result<bool> {
        let to = self.picture(digest);
        if to.try_exists()? {
            return Ok(false);
        }
        match fs::rename(self.orphan(digest), to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn orphans(&self) -> io::Result<Listing<Orphan>> {
        Ok(Box::new(entries(&self.orphans)?.filter_map(|entry| orphan(entry).transpose())))
    }

    fn date_orphan(&self, digest: &Digest, at: RunningTime) -> io::Result<()> {
        // The modification time of the file has the time, as a distance from 1970.
        File::open(self.orphan(digest))?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(at.millis()))
    }

    fn remove_orphan(&self, digest: &Digest) -> io::Result<()> {
        remove_if_there(&self.orphan(digest))
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Returns the entries of a folder; none when it is missing.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>> + Send + use<>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None.into_iter().flatten()),
        Err(error) => Err(error),
    }
}

/// Returns the orphan of an entry; `None` for anything else, and for one that was removed meanwhile.
fn orphan(entry: io::Result<fs::DirEntry>) -> io::Result<Option<Orphan>> {
    let entry = entry?;
    let Some(digest) = entry.file_name().to_str().and_then(Digest::from_hex) else { return Ok(None) };
    let metadata = match entry.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let since = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since = RunningTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    Ok(Some(Orphan { digest, bytes: metadata.len(), since }))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn version(metadata: &Metadata) -> Version {
    Version {
        file: (metadata.dev(), metadata.ino()),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// A picture's file. Each read fails if the file was written to after it was opened.
#[derive(Debug)]
struct PictureFile {
    file: File,
    version: Version,
}

impl ByteSource for PictureFile {
    fn size(&self) -> u64 {
        self.version.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.file.read_at(buffer, offset)?;
        let now = version(&self.file.metadata()?);
        // `changed` is left out: a removal of the name changes it, and the bytes stay.
        if (now.bytes, now.modified) != (self.version.bytes, self.version.modified) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored picture was changed while it was read"));
        }
        Ok(count)
    }
}
