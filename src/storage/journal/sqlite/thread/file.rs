//! The journal's file: locked while the journal is open, and watched.
//!
//! The lock is on the file itself and not on a file beside it, so that removing that other file does not let a second gateway
//! in. SQLite's own locks are of another kind and do not meet it: the commands that read and write the journal beside a
//! gateway work.
//!
//! Closing any descriptor of the file drops the locks that SQLite holds in this process, so this one is opened before the
//! connections and closed after them, and nothing else in the process opens the file.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::storage::journal::traits::JournalError;

/// The journal's file, locked.
#[derive(Debug)]
pub(in crate::storage::journal::sqlite) struct JournalFile {
    file: File,
    path: PathBuf,
    /// The write-ahead log beside it, once there is one. Without it, what was written last is lost.
    log: Option<(PathBuf, Identity)>,
}

/// Device and number of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// Returns whether another gateway has locked this journal.
pub(in crate::storage::journal) fn is_locked(path: &Path) -> bool {
    let taken =
        |file: &Path| File::open(file).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    (LOCKS_THE_JOURNAL && taken(path)) || taken(&path.with_file_name("lock"))
}

impl JournalFile {
    /// Opens the file, creates it if there is none, and locks it.
    ///
    /// # Errors
    ///
    /// [`JournalError::InUse`] when another gateway has it open; [`JournalError::Storage`] when it cannot be opened.
    pub(in crate::storage::journal::sqlite) fn lock(path: &Path) -> Result<Self, JournalError> {
        let failed_at = |at: &Path, error: io::Error| JournalError::Storage(format!("{}: {error}", at.display()));
        let older = path.with_file_name("lock");
        if LOCKS_THE_JOURNAL {
            // Gateways up to schema version 6 locked this file. One that still runs keeps it locked.
            match OpenOptions::new().read(true).open(&older) {
                Ok(file) => {
                    try_lock(&file, path)?;
                    std::fs::remove_file(&older).map_err(|error| failed_at(&older, error))?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed_at(&older, error)),
            }
        }
        let locked: &Path = if LOCKS_THE_JOURNAL { path } else { &older };
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(locked);
        let file = open.map_err(|error| failed_at(locked, error))?;
        try_lock(&file, path)?;
        Ok(Self { file, path: path.to_owned(), log: None })
    }

    /// Notes which file the write-ahead log is. Call it after the database has been opened.
    pub(in crate::storage::journal::sqlite) fn note_log(&mut self) {
        let mut name = self.path.clone().into_os_string();
        name.push("-wal");
        let path = PathBuf::from(name);
        self.log = std::fs::metadata(&path).ok().map(|metadata| (path, Identity::of(&metadata)));
    }

    /// Returns what is wrong when the journal is not the file at its path any more.
    pub(super) fn problem(&self) -> Option<String> {
        if !LOCKS_THE_JOURNAL {
            return None;
        }
        let own = match self.file.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return Some(format!("it cannot be examined: {error}")),
        };
        if own.nlink() == 0 {
            return Some(format!("{} was removed", self.path.display()));
        }
        problem_at(&self.path, Identity::of(&own))
            .or_else(|| self.log.as_ref().and_then(|(path, identity)| problem_at(path, *identity)))
    }
}

/// Whether `flock` and the locks of SQLite are separate: on Linux they are. Elsewhere they may be the same, and would keep
/// SQLite from its own file, so a file beside the journal is locked there.
const LOCKS_THE_JOURNAL: bool = cfg!(target_os = "linux");

fn try_lock(file: &File, journal: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(journal.to_owned())),
        Err(TryLockError::Error(error)) => Err(JournalError::Storage(format!("{}: {error}", journal.display()))),
    }
}

fn problem_at(path: &Path, expected: Identity) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(metadata) if Identity::of(&metadata) == expected => None,
        Ok(_) => Some(format!("another file is in the place of {}", path.display())),
        Err(error) => Some(format!("{}: {error}", path.display())),
    }
}
