//! What survives: the journal of purchases, the pictures that were bought, and for as long as a request lives its
//! uploads. Records and bytes, no policy.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub(crate) mod journal;
pub(crate) mod results;
pub(crate) mod spool;
mod state_files;

pub(crate) use journal::{Journal, JournalError};
pub(crate) use results::Results;
pub(crate) use state_files::StateFiles;

/// The gateway's own directory, held by a lock so that no second gateway writes into it.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirectoryError {
    #[error("storage.directory {0} is in use by another gateway")]
    InUse(PathBuf),
    #[error("storage.directory {path} cannot be used: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl DataDirectory {
    /// Makes the directory where needed, readable by its owner alone, and takes its lock.
    ///
    /// # Errors
    ///
    /// [`DataDirectoryError`], naming the directory.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirectoryError> {
        let complain = |error| DataDirectoryError::Io { path: path.to_owned(), error };
        private_directory(path).map_err(complain)?;
        let lock = File::create(path.join("lock")).map_err(complain)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirectoryError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(complain(error)),
        }
    }

    /// A directory below, made where needed.
    ///
    /// # Errors
    ///
    /// [`DataDirectoryError::Io`].
    pub(crate) fn below(&self, name: &str) -> Result<PathBuf, DataDirectoryError> {
        let path = self.path.join(name);
        private_directory(&path).map_err(|error| DataDirectoryError::Io { path: path.clone(), error })?;
        Ok(path)
    }

    /// The key that signs addresses of results: kept in a file of its own, made of `fresh` the first time.
    ///
    /// # Errors
    ///
    /// [`DataDirectoryError::Io`], also when the file does not hold a key.
    pub(crate) fn signing_key(&self, fresh: [u8; 32]) -> Result<[u8; 32], DataDirectoryError> {
        let path = self.path.join("signing.key");
        let read = || match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map_err(|_| io::Error::other("it does not hold 32 bytes")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                file.write_all(&fresh)?;
                file.sync_all()?;
                Ok(fresh)
            }
            Err(error) => Err(error),
        };
        read().map_err(|error| DataDirectoryError::Io { path: path.clone(), error })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether the disk under a directory has room to spare. Cheap to clone; asks the file system at most once a second.
#[derive(Clone, Debug)]
pub(crate) struct DiskSpace {
    shared: Arc<RoomShared>,
}

#[derive(Debug)]
struct RoomShared {
    directory: PathBuf,
    free_bytes_min: u64,
    /// When it was asked last, and what the answer was.
    known: Mutex<Option<(Instant, bool)>>,
}

/// How long an answer of the file system is good.
const ROOM_KNOWN_FOR: Duration = Duration::from_secs(1);

impl DiskSpace {
    pub(crate) fn new(directory: &Path, free_bytes_min: u64) -> Self {
        let directory = directory.to_owned();
        Self { shared: Arc::new(RoomShared { directory, free_bytes_min, known: Mutex::new(None) }) }
    }

    /// Whether more than the configured bytes are free. A file system that does not say is taken to have room.
    pub(crate) fn is_there(&self) -> bool {
        let shared = &self.shared;
        let mut known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, answer)) = *known
            && asked.elapsed() < ROOM_KNOWN_FOR
        {
            return answer;
        }
        let answer = match rustix::fs::statvfs(&shared.directory) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize) > shared.free_bytes_min,
            Err(error) => {
                tracing::warn!(%error, "the file system does not say how much is free");
                true
            }
        };
        *known = Some((Instant::now(), answer));
        answer
    }
}

/// Whether a file could not be opened because the process, or the machine, has as many open as it may.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| matches!(errno, Errno::MFILE | Errno::NFILE))
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gateway_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(directory.path()).unwrap();
        assert!(matches!(DataDirectory::open(directory.path()), Err(DataDirectoryError::InUse(_))));
        drop(first);
        let again = DataDirectory::open(directory.path()).unwrap();
        assert_eq!(again.signing_key([1; 32]).unwrap(), [1; 32]);
        assert_eq!(again.signing_key([2; 32]).unwrap(), [1; 32], "the same after a restart");
    }

    #[test]
    fn room_is_what_the_file_system_says() {
        let directory = tempfile::tempdir().unwrap();
        assert!(DiskSpace::new(directory.path(), 0).is_there());
        assert!(!DiskSpace::new(directory.path(), u64::MAX).is_there());
    }
}
