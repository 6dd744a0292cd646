//! The data directory and its subdirectories.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::storage::journal;

/// The gateway's data directory. The journal in it is locked, so that no second gateway writes here.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirectoryError {
    #[error("storage.directory {0} is in use by another gateway")]
    InUse(PathBuf),
    #[error("storage.directory {path} cannot be used: {error}")]
    Io { path: PathBuf, error: io::Error },
}

/// What is known of a directory before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryState {
    /// It is there, and may be written to.
    Usable,
    /// It is not there, and may be made.
    Missing,
}

impl DataDirectory {
    /// Looks whether [`DataDirectory::open`] would succeed, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`DataDirectoryError`], naming the directory.
    pub(crate) fn inspect(path: &Path) -> Result<DirectoryState, DataDirectoryError> {
        let unusable = |error: io::Error| DataDirectoryError::Io { path: path.to_owned(), error };
        let absolute = std::path::absolute(path).map_err(unusable)?;
        let existing = absolute.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok());
        let existing = existing.unwrap_or(Path::new("/"));
        if !existing.is_dir() {
            return Err(unusable(io::ErrorKind::NotADirectory.into()));
        }
        access(existing, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| unusable(error.into()))?;
        if existing != absolute {
            return Ok(DirectoryState::Missing);
        }
        if journal::is_open(&path.join("journal.sqlite")) {
            return Err(DataDirectoryError::InUse(path.to_owned()));
        }
        Ok(DirectoryState::Usable)
    }

    /// Creates the directory if needed, readable by its owner alone. It is in use while a gateway has the journal in it
    /// open, which locks it.
    ///
    /// # Errors
    ///
    /// [`DataDirectoryError`], naming the directory.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirectoryError> {
        private_directory(path).map_err(|error| DataDirectoryError::Io { path: path.to_owned(), error })?;
        if journal::is_open(&path.join("journal.sqlite")) {
            return Err(DataDirectoryError::InUse(path.to_owned()));
        }
        Ok(Self { path: path.to_owned() })
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
    fn an_inspection_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(DataDirectory::inspect(directory.path()).unwrap(), DirectoryState::Usable);
        let below = directory.path().join("a/b");
        assert_eq!(DataDirectory::inspect(&below).unwrap(), DirectoryState::Missing);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        std::fs::write(directory.path().join("a"), "").unwrap();
        for file in [directory.path().join("a"), below] {
            assert!(matches!(DataDirectory::inspect(&file), Err(DataDirectoryError::Io { .. })), "{}", file.display());
        }
    }

    #[tokio::test]
    async fn a_second_gateway_on_the_same_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(directory.path()).unwrap();
        let journal = journal::open(&first.path().join("journal.sqlite")).unwrap();
        assert!(matches!(DataDirectory::open(directory.path()), Err(DataDirectoryError::InUse(_))));
        assert!(matches!(DataDirectory::inspect(directory.path()), Err(DataDirectoryError::InUse(_))));
        journal.close().await;
        DataDirectory::open(directory.path()).unwrap();
    }
}
