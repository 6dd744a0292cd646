//! Learned state in small JSON files, each replaced atomically. Losing one costs time and no money, so a file that cannot
//! be read counts as absent.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest file that is read, in bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The state files of one directory. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StateFiles {
    directory: PathBuf,
}

impl StateFiles {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Reads the state under a name; `None` when there is none that this version can read. Blocks.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.path(name);
        match read(&path) {
            Ok(state) => state,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a state file cannot be read; its values are learned again");
                None
            }
        }
    }

    /// Replaces the state under a name. Blocks.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the old file is then unchanged.
    pub(crate) fn write<T: Serialize>(&self, name: &str, state: &T) -> io::Result<()> {
        // As a whole: the serializer would make a system call for each token.
        let json = serde_json::to_vec(state)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&json)?;
        file.persist(self.path(name))?;
        Ok(())
    }

    /// Removes the state under a name; returns whether there was one. Blocks.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name).with_extension("json")
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > BYTES_MAX => return Err(io::Error::other("the file is too large")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_a_damaged_file_counts_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let files = StateFiles::new(directory.path().to_owned());
        assert_eq!(files.read::<Vec<u32>>("estimates"), None);
        files.write("estimates", &vec![1_u32, 2]).unwrap();
        assert_eq!(files.read::<Vec<u32>>("estimates"), Some(vec![1, 2]));
        assert!(files.remove("estimates").unwrap() && !files.remove("estimates").unwrap());
        assert_eq!(files.read::<Vec<u32>>("estimates"), None);
        fs::write(directory.path().join("estimates.json"), "{").unwrap();
        assert_eq!(files.read::<Vec<u32>>("estimates"), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
