//! What was learned and would only be learned again: one small JSON file each, written whole. Losing one loses time, no
//! money, so a file that cannot be read is as good as none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest file that is read, in bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Files of notes in one directory. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StateFiles {
    directory: PathBuf,
}

impl StateFiles {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What was noted under a name, if anything was that this version can read.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.path(name);
        match read(&path) {
            Ok(noted) => noted,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what was learned cannot be read; it is learned anew");
                None
            }
        }
    }

    /// Notes something in place of what was there.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the old one is then still there.
    pub(crate) fn write<T: Serialize>(&self, name: &str, what: &T) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        serde_json::to_writer(&mut file, what)?;
        file.persist(self.path(name))?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name).with_extension("json")
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::metadata(path) {
        Ok(about) if about.len() > BYTES_MAX => return Err(io::Error::other("it is too large")),
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
    fn notes_survive_and_nonsense_is_no_note() {
        let directory = tempfile::tempdir().unwrap();
        let notes = StateFiles::new(directory.path().to_owned());
        assert_eq!(notes.read::<Vec<u32>>("figures"), None);
        notes.write("figures", &vec![1_u32, 2]).unwrap();
        assert_eq!(notes.read::<Vec<u32>>("figures"), Some(vec![1, 2]));
        fs::write(directory.path().join("figures.json"), "{").unwrap();
        assert_eq!(notes.read::<Vec<u32>>("figures"), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
