//! Learned state, and the key that signs addresses of results: small values under a name, each replaced as a whole. Losing
//! learned state costs time and no money, so what cannot be read counts as absent.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest value that is read, in bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A key that signs addresses of results.
pub(crate) type SigningKey = [u8; 32];

/// A store of small values. Object-safe, so that they may be kept elsewhere than in files. Every method blocks.
pub(crate) trait StateStore: Send + Sync + std::fmt::Debug {
    /// Reads a value; `None` when there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Replaces a value.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the old value is then unchanged.
    fn write(&self, name: &str, value: &[u8]) -> io::Result<()>;

    /// Removes a value; returns whether there was one.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<bool>;

    /// Returns the key that signs addresses; `fresh` becomes the key, for ever, when there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read or stored, also when what is stored is no key.
    fn signing_key(&self, fresh: SigningKey) -> io::Result<SigningKey>;
}

/// Learned state. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LearnedState {
    store: Arc<dyn StateStore>,
}

impl LearnedState {
    pub(crate) fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store }
    }

    /// Reads the state under a name; `None` when there is none that this version can read. Blocks.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let read = self.store.read(name).and_then(|value| {
            let state = value.map(|value| serde_json::from_slice(&value));
            state.transpose().map_err(io::Error::from)
        });
        read.unwrap_or_else(|error| {
            tracing::warn!(name, %error, "learned state cannot be read; its values are learned again");
            None
        })
    }

    /// Replaces the state under a name. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the old state is then unchanged.
    pub(crate) fn write<T: Serialize>(&self, name: &str, state: &T) -> io::Result<()> {
        // As a whole: the serializer would make a system call for each token.
        self.store.write(name, &serde_json::to_vec(state)?)
    }

    /// Removes the state under a name; returns whether there was one. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        self.store.remove(name)
    }
}

/// State in JSON files of one folder, and the signing key in a file of its own.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    learned: PathBuf,
    signing_key: PathBuf,
}

impl StateDirectory {
    /// Uses the folder `learned`, which must exist, and the file `signing_key`.
    pub(crate) fn new(learned: PathBuf, signing_key: PathBuf) -> Self {
        Self { learned, signing_key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.learned.join(name).with_extension("json")
    }
}

impl StateStore for StateDirectory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > BYTES_MAX => return Err(io::Error::other("the file is too large")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        fs::read(path).map(Some)
    }

    fn write(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.learned)?;
        file.write_all(value)?;
        file.persist(self.path(name))?;
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn signing_key(&self, fresh: SigningKey) -> io::Result<SigningKey> {
        read_or_create(&self.signing_key, fresh)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.signing_key.display())))
    }
}

fn read_or_create(path: &Path, fresh: SigningKey) -> io::Result<SigningKey> {
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| io::Error::other("the file does not contain 32 bytes")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(&fresh)?;
            file.sync_all()?;
            Ok(fresh)
        }
        Err(error) => Err(error),
    }
}

/// State in memory. Compiled for tests only.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct MemoryState {
    values: std::sync::Mutex<std::collections::HashMap<String, Vec<u8>>>,
    key: std::sync::OnceLock<SigningKey>,
}

#[cfg(test)]
impl StateStore for MemoryState {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.values.lock().unwrap().get(name).cloned())
    }

    fn write(&self, name: &str, value: &[u8]) -> io::Result<()> {
        self.values.lock().unwrap().insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<bool> {
        Ok(self.values.lock().unwrap().remove(name).is_some())
    }

    fn signing_key(&self, fresh: SigningKey) -> io::Result<SigningKey> {
        Ok(*self.key.get_or_init(|| fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(path: &Path) -> StateDirectory {
        fs::create_dir_all(path.join("learned")).unwrap();
        StateDirectory::new(path.join("learned"), path.join("signing.key"))
    }

    /// Runs a test on every store.
    fn on_each(test: impl Fn(Arc<dyn StateStore>)) {
        let directory = tempfile::tempdir().unwrap();
        test(Arc::new(on(directory.path())));
        test(Arc::new(MemoryState::default()));
    }

    #[test]
    fn state_survives_until_it_is_removed_and_what_is_damaged_counts_as_absent() {
        on_each(|store| {
            let state = LearnedState::new(Arc::clone(&store));
            assert_eq!(state.read::<Vec<u32>>("estimates"), None);
            state.write("estimates", &vec![1_u32, 2]).unwrap();
            state.write("others", &3_u32).unwrap();
            assert_eq!(state.read::<Vec<u32>>("estimates"), Some(vec![1, 2]));
            assert!(state.remove("estimates").unwrap() && !state.remove("estimates").unwrap());
            assert_eq!(state.read::<Vec<u32>>("estimates"), None);
            assert_eq!(state.read::<u32>("others"), Some(3));
            store.write("estimates", b"{").unwrap();
            assert_eq!(state.read::<Vec<u32>>("estimates"), None);
        });
    }

    #[test]
    fn the_first_signing_key_stays() {
        on_each(|store| {
            assert_eq!(store.signing_key([1; 32]).unwrap(), [1; 32]);
            assert_eq!(store.signing_key([2; 32]).unwrap(), [1; 32]);
        });
    }

    #[test]
    fn files_are_private_whole_and_survive_a_restart() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        on(directory.path()).signing_key([1; 32]).unwrap();
        assert_eq!(on(directory.path()).signing_key([2; 32]).unwrap(), [1; 32]);
        let path = directory.path().join("signing.key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        let error = on(directory.path()).signing_key([2; 32]).unwrap_err().to_string();
        assert!(error.contains("signing.key"), "{error}");
        LearnedState::new(Arc::new(on(directory.path()))).write("estimates", &1_u32).unwrap();
        assert_eq!(fs::read_dir(directory.path().join("learned")).unwrap().count(), 1, "no temporary file is left");
    }
}
