//! The data directory: its lock and its subdirectories.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The gateway's data directory, locked so that no second gateway writes into it.
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
    /// Creates the directory if needed, readable by its owner alone, and locks it.
    ///
    /// # Errors
    ///
    /// [`DataDirectoryError`], naming the directory.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirectoryError> {
        let failed = |error| DataDirectoryError::Io { path: path.to_owned(), error };
        private_directory(path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirectoryError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Returns the path of a subdirectory, created if needed.
    ///
    /// # Errors
    ///
    /// [`DataDirectoryError::Io`].
    pub(crate) fn below(&self, name: &str) -> Result<PathBuf, DataDirectoryError> {
        let path = self.path.join(name);
        private_directory(&path).map_err(|error| DataDirectoryError::Io { path: path.clone(), error })?;
        Ok(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gateway_on_the_same_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(directory.path()).unwrap();
        assert!(matches!(DataDirectory::open(directory.path()), Err(DataDirectoryError::InUse(_))));
        drop(first);
        DataDirectory::open(directory.path()).unwrap();
    }
}
