//! The check of the database, which for a large one runs beside the start.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
use rusqlite::{Connection, InterruptHandle, OpenFlags};

use crate::storage::journal::traits::JournalError;

/// A database up to this size is checked before it is used: that takes some tenths of a second.
const AT_ONCE_MAX: u64 = 32 << 20;

/// A check that runs on a thread and a connection of its own. Ends early when it is dropped.
pub(in crate::storage::journal::sqlite) struct BackgroundCheck {
    interrupt: InterruptHandle,
    /// What was found to be wrong.
    problem: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundCheck {
    /// Checks the database of this connection: at once when it is small, otherwise beside what follows.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when a small database is damaged, and when the check cannot begin.
    pub(in crate::storage::journal::sqlite) fn begin(
        path: &Path,
        connection: &Connection,
    ) -> Result<Option<Self>, JournalError> {
        if std::fs::metadata(path).is_ok_and(|file| file.len() <= AT_ONCE_MAX) {
            let problem = check(connection).map_err(|error| JournalError::Storage(error.to_string()))?;
            return match problem {
                None => Ok(None),
                Some(problem) => Err(JournalError::Unreadable(format!("{}: {problem}", path.display()))),
            };
        }
        Self::start(path).map(Some)
    }

    fn start(path: &Path) -> Result<Self, JournalError> {
        let storage = |error: &dyn fmt::Display| JournalError::Storage(error.to_string());
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| storage(&error))?;
        let interrupt = connection.get_interrupt_handle();
        let problem = Arc::new(Mutex::new(None));
        let found = Arc::clone(&problem);
        let run = move || {
            let verdict = match check(&connection) {
                Ok(verdict) => verdict,
                // The journal is closing.
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => return,
                Err(error) => {
                    tracing::warn!(%error, "the journal could not be checked for damage; the next start tries again");
                    return;
                }
            };
            if verdict.is_none() {
                tracing::info!("the journal was checked; it is not damaged");
            }
            *found.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
        };
        let thread = std::thread::Builder::new().name("journal check".to_owned()).spawn(run);
        Ok(Self { interrupt, problem, thread: Some(thread.map_err(|error| storage(&error))?) })
    }

    /// Returns what was found to be wrong so far.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for BackgroundCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundCheck").field("problem", &self.problem()).finish_non_exhaustive()
    }
}

impl Drop for BackgroundCheck {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // Again until it ends: an interrupt before the statement begins is lost.
        while !thread.is_finished() {
            self.interrupt.interrupt();
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

/// Returns what is wrong with the database, if anything is. The bytes of pictures are left out: they have digests, and a damaged
/// one is fetched again.
///
/// # Errors
///
/// When it cannot be read for now, which says nothing about the database.
fn check(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let tables = || -> rusqlite::Result<Vec<String>> {
        let sql =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'contents' AND name NOT LIKE 'sqlite_%'";
        let mut statement = connection.prepare(sql)?;
        statement.query_map((), |row| row.get(0))?.collect()
    };
    let problem = || -> rusqlite::Result<Option<String>> {
        for table in tables()? {
            let check = format!("PRAGMA quick_check('{table}')");
            let verdict: String = connection.query_row(&check, (), |row| row.get(0))?;
            if verdict != "ok" {
                return Ok(Some(verdict));
            }
        }
        Ok(None)
    };
    match problem() {
        Ok(problem) => Ok(problem),
        Err(error) if matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase)) => {
            Ok(Some(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_damaged_database_is_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("damaged.sqlite");
        std::fs::write(&path, b"this is not a database, and longer than the header of one").unwrap();
        assert!(check(&Connection::open(&path).unwrap()).unwrap().is_some());

        let path = directory.path().join("journal.sqlite");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("CREATE TABLE one (two)").unwrap();
        let reader = Connection::open(&path).unwrap();
        assert_eq!(check(&reader).unwrap(), None);
        // Locked by another program, so it cannot be read for now.
        reader.busy_timeout(Duration::ZERO).unwrap();
        writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
        assert!(check(&reader).is_err());
    }
}
