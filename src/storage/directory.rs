//! The data directory: its subdirectories, and the key in it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::journal;

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

impl DataDirectory {
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

    /// Returns the key that signs addresses of results. Stored in a file; `fresh` becomes the key when there is none.
    ///
    /// # Errors
    ///
    /// [`DataDirectoryError::Io`], also when the file does not contain a key.
    pub(crate) fn signing_key(&self, fresh: [u8; 32]) -> Result<[u8; 32], DataDirectoryError> {
        let path = self.path.join("signing.key");
        let read = || match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map_err(|_| io::Error::other("the file does not contain 32 bytes")),
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

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_gateway_on_the_same_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataDirectory::open(directory.path()).unwrap();
        let journal = journal::open(&first.path().join("journal.sqlite")).unwrap();
        assert!(matches!(DataDirectory::open(directory.path()), Err(DataDirectoryError::InUse(_))));
        journal.close().await;
        let again = DataDirectory::open(directory.path()).unwrap();
        assert_eq!(again.signing_key([1; 32]).unwrap(), [1; 32]);
        assert_eq!(again.signing_key([2; 32]).unwrap(), [1; 32], "the same after a restart");
    }
}
