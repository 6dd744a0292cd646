//! Opens everything that is kept. The one place that names concrete stores.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::clients::{self, ClientStore, ClientStoreError};
use super::journal::{self, Journal, JournalError};
use super::results::{PictureDirectory, PictureStore, Results};
use super::spool::{Spool, SpoolLimits};
use super::state::{LearnedState, SigningKey, StateDirectory, StateStore};
use crate::config::{CacheConfig, StorageConfig};
use crate::telemetry::Metrics;
use directory::{DataDirectory, DataDirectoryError};
use disk_space::DiskSpace;
use metrics::register_journal;

pub(crate) mod directory;
pub(crate) mod disk_space;
mod metrics;

/// File of the journal in the data directory.
const JOURNAL: &str = "journal.sqlite";

/// Everything that is kept, open until it is closed.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clients: Arc<dyn ClientStore>,
    pub(crate) results: Results,
    pub(crate) spool: Spool,
    pub(crate) state: LearnedState,
    pub(crate) room: DiskSpace,
    pub(crate) signing_key: SigningKey,
    pub(crate) lock: StorageLock,
}

/// Keeps the storage from other gateways while it is open.
#[derive(Debug)]
pub(crate) struct StorageLock {
    journal: Arc<dyn Journal>,
    clients: Arc<dyn ClientStore>,
}

impl StorageLock {
    /// Closes the journal, so that it is one file which needs no recovery, and releases the storage.
    pub(crate) async fn close(self) {
        // Before the journal, which then folds the log.
        let clients = self.clients;
        let _ = tokio::task::spawn_blocking(move || clients.close()).await;
        self.journal.close().await;
    }
}

/// Why the storage cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    #[error(transparent)]
    Directory(#[from] DataDirectoryError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Clients(#[from] ClientStoreError),
    #[error(
        "{file}: {error}; if it is damaged, restore it from a backup, or move it away and start once with \
         `serve --accept-new-journal`"
    )]
    UnusableJournal { file: PathBuf, error: JournalError },
    #[error("{path} cannot be used: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{directory} has {pictures} stored pictures, and {problem}: what was bought is not known, and requests would buy it again. \
         Restore {JOURNAL} from a backup; or start once with `serve --accept-new-journal`, which begins a new journal and keeps \
         the pictures in {directory}/orphans for storage.results_ttl_s"
    )]
    NewJournal { directory: PathBuf, pictures: usize, problem: String },
    #[error(
        "{directory} had a journal with pictures in it, and {problem}: what was bought is not known, and requests would buy it again. \
         Restore {JOURNAL} from a backup; or start once with `serve --accept-new-journal`, which begins a new journal"
    )]
    LostJournal { directory: PathBuf, problem: String },
}

impl StorageError {
    /// Returns whether another gateway uses the storage, so that it may be free later.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, Self::Directory(DataDirectoryError::InUse(_)) | Self::Journal(JournalError::InUse(_)))
    }
}

/// Opens the storage, and registers its metrics. `fresh_key` becomes the signing key when there is none.
///
/// # Errors
///
/// [`StorageError`]: among others when another gateway uses it, when the journal is damaged, and when pictures are stored
/// without a journal that knows of any, unless that is accepted.
pub(crate) async fn open(
    storage: &StorageConfig,
    cache: &CacheConfig,
    fresh_key: SigningKey,
    metrics: &Metrics,
) -> Result<Storage, StorageError> {
    let directory = DataDirectory::open(&storage.directory)?;
    let path = directory.path().to_owned();
    let unusable = |path: &Path| {
        let path = path.to_owned();
        |error| StorageError::Io { path, error }
    };
    let refuse_new_journal = |problem: &str| {
        if storage.accept_new_journal { Ok(()) } else { refuse_without_journal(&path, problem) }
    };

    let file = path.join(JOURNAL);
    if let Some(problem) = missing(&file) {
        // Before anything creates it.
        refuse_new_journal(problem)?;
    }
    // It is locked from here on, so nothing below is written beside another gateway.
    let journal = journal::open(&file).map_err(|error| {
        let in_use = matches!(error, JournalError::InUse(_));
        if in_use { StorageError::Journal(error) } else { StorageError::UnusableJournal { file: file.clone(), error } }
    })?;
    if !journal.has_jobs().await?
        && let Err(refusal) = refuse_new_journal("journal.sqlite knows of no job")
    {
        journal.close().await;
        return Err(refusal);
    }

    let clients = clients::open_beside_journal(&file)?;
    let (pictures, orphans) = (directory.below("results")?, directory.below("orphans")?);
    let store = PictureDirectory::open(&pictures, &orphans).map_err(unusable(&pictures))?;
    if storage.accept_new_journal && !journal.has_jobs().await? {
        store.forget_recorded().map_err(unusable(&pictures))?;
    }
    let results = Results::new(Box::new(store), cache.memory_bytes_max, cache.memory_picture_bytes_max)
        .recording_in(Arc::clone(&journal), storage.journal_picture_bytes_max);
    let state = StateDirectory::new(directory.below("learned")?, path.join("signing.key"));
    let signing_key = state.signing_key(fresh_key).map_err(unusable(&path))?;
    let spool = Spool::new(directory.below("spool")?, SpoolLimits::from(storage));
    register_journal(&*journal, metrics);
    let room = DiskSpace::new(&path, storage.free_bytes_min);
    room.register(metrics);
    Ok(Storage {
        journal: Arc::clone(&journal),
        clients: Arc::clone(&clients),
        results,
        spool,
        state: LearnedState::new(Arc::new(state)),
        room,
        signing_key,
        lock: StorageLock { journal, clients },
    })
}

/// Returns the pictures of a data directory that are files for reading alone, beside a gateway that may be running.
pub(crate) fn stored_pictures(directory: &Path) -> Box<dyn PictureStore> {
    Box::new(picture_directory(directory))
}

fn picture_directory(directory: &Path) -> PictureDirectory {
    PictureDirectory::beside(directory.join("results"), directory.join("orphans"))
}

/// Returns the file of the journal.
pub(crate) fn journal_file(storage: &StorageConfig) -> PathBuf {
    storage.directory.join(JOURNAL)
}

/// Opens the learned state alone, while no gateway runs.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn open_state(storage: &StorageConfig) -> Result<LearnedState, StorageError> {
    let directory = DataDirectory::open(&storage.directory)?;
    let state = StateDirectory::new(directory.below("learned")?, directory.path().join("signing.key"));
    Ok(LearnedState::new(Arc::new(state)))
}

/// Fails when pictures are stored and the file of their journal is missing or empty. Changes nothing.
///
/// # Errors
///
/// [`StorageError`].
pub(crate) fn check_journal(storage: &StorageConfig) -> Result<(), StorageError> {
    let directory = &storage.directory;
    missing(&directory.join(JOURNAL)).map_or(Ok(()), |problem| refuse_without_journal(directory, problem))
}

/// Fails when pictures are stored, or were in the journal. Blocks.
fn refuse_without_journal(directory: &Path, problem: &str) -> Result<(), StorageError> {
    let unusable = |error| StorageError::Io { path: directory.to_owned(), error };
    let store = picture_directory(directory);
    let listed = store.list().and_then(|mut listing| listing.try_fold(0, |count, picture| picture.map(|_| count + 1)));
    let (directory, problem) = (directory.to_owned(), problem.to_owned());
    match listed.map_err(unusable)? {
        0 if store.has_recorded().map_err(unusable)? => Err(StorageError::LostJournal { directory, problem }),
        0 => Ok(()),
        pictures => Err(StorageError::NewJournal { directory, pictures, problem }),
    }
}

/// Returns what is wrong with the file of a journal that must not be new.
fn missing(journal: &Path) -> Option<&'static str> {
    match std::fs::metadata(journal) {
        Ok(metadata) if metadata.len() == 0 => Some("journal.sqlite is empty"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("journal.sqlite is missing"),
        // What else is wrong with it is found when it is opened.
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Config, Environment};
    use crate::model::Digest;

    async fn start(directory: &Path, accept: bool) -> Result<Storage, StorageError> {
        let directory = directory.to_str().unwrap().to_owned();
        let environment = Environment::from([("GATEWAY_STORAGE__DIRECTORY".to_owned(), directory)]);
        let mut config = Config::load(None, &environment).unwrap();
        if accept {
            config = config.accepting_new_journal();
        }
        open(&config.storage, &config.cache, [1; 32], &Metrics::default()).await
    }

    #[tokio::test]
    async fn pictures_without_a_journal_that_knows_a_job_are_refused_until_that_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        start(path, false).await.unwrap().lock.close().await;
        start(path, false).await.unwrap().lock.close().await;
        let picture = path.join("results").join(Digest::of(b"x").to_string());
        fs::write(&picture, b"x").unwrap();
        let refusal = async |path| start(path, false).await.unwrap_err().to_string();

        let text = refusal(path).await;
        assert!(text.contains("1 stored pictures") && text.contains("knows of no job"), "{text}");
        assert!(text.contains("serve --accept-new-journal") && text.contains("backup"), "{text}");
        fs::write(path.join(JOURNAL), "").unwrap();
        let text = refusal(path).await;
        assert!(text.contains("is empty"), "{text}");
        for file in [JOURNAL, "journal.sqlite-wal", "journal.sqlite-shm"] {
            let _ = fs::remove_file(path.join(file));
        }
        let text = refusal(path).await;
        assert!(text.contains("is missing"), "{text}");
        assert!(!path.join(JOURNAL).exists(), "a refused start creates none");

        start(path, true).await.unwrap().lock.close().await;
        assert!(picture.exists(), "the start alone removes nothing");
    }

    #[tokio::test]
    async fn a_second_gateway_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = start(directory.path(), false).await.unwrap();
        let second = start(directory.path(), false).await;
        assert!(matches!(second, Err(StorageError::Directory(DataDirectoryError::InUse(_)))));
        first.lock.close().await;
        assert_eq!(start(directory.path(), false).await.unwrap().signing_key, [1; 32]);
    }
}
