//! Commits, and what a commit that fails means.
//!
//! | error | what is on disk | what follows |
//! |---|---|---|
//! | `SQLITE_BUSY`, `SQLITE_LOCKED` | nothing: the lock is taken before anything is written | the journal is away |
//! | `SQLITE_FULL` | nothing that counts | the journal is away |
//! | `SQLITE_CORRUPT` where bytes of pictures are deleted | nothing: rolled back | written again, and the bytes stay |
//! | any other, such as a failed sync | uncertain | the journal has failed |
//!
//! `SQLITE_FULL` means that a write to the log was short for want of space (`unixWrite`). The last write of a transaction is the
//! page of its commit frame, after the header with the checksum of that page (`walWriteOneFrame`), and the sync comes after it.
//! So a transaction with a short write has no valid commit frame, and neither this process nor the next one ever sees it. No
//! frame is repeated to fill a sector either (`padToSectorBoundary`): SQLite presumes on Unix that a sector is overwritten whole.
//!
//! A failed sync is another matter. The commit frame is written and may be on the disk or not, and a second sync would report
//! success either way, because the system forgets the pages that it could not write. `SQLITE_IOERR_SHMSIZE` may come after the
//! sync, so a full disk that shows itself in that way counts as failed, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::check::BackgroundCheck;
use super::file::JournalFile;
use super::shared::Shared;
use crate::model::RunningTime;
use crate::storage::journal::record::Record;
use crate::storage::journal::sqlite::writes::{store_running_time, write};
use crate::storage::journal::traits::{JournalError, Standing};

/// How long a commit waits for another program to release its lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for the running time, which can wait.
const PROBE_TIMEOUT: Duration = Duration::from_millis(250);
/// How often the running time is stored while nothing else is written. A crash makes this much time not count.
const HEARTBEAT: Duration = Duration::from_mins(1);

/// Free pages that the database keeps in any case: 16 MB.
const FREE_PAGES_KEPT: u64 = 4096;
/// Free pages that are given back at once, which takes the journal some milliseconds.
const PAGES_GIVEN_BACK: u64 = 512;

/// One result for each record, in the order of the records.
type Results = Vec<Result<(), JournalError>>;

/// Writes to an open database. The fields are dropped in this order: the lock of the file lasts the longest.
#[derive(Debug)]
pub(in crate::storage::journal::sqlite) struct Writer {
    check: Option<BackgroundCheck>,
    connection: Connection,
    file: JournalFile,
    shared: Arc<Shared>,
    /// When the file was last examined, and a journal that is away was last tried.
    examined: Instant,
    /// When the running time was last stored in a commit that was synced.
    stored: Instant,
    /// The write-ahead log has pages with what was deleted since.
    erase_due: bool,
}

impl Writer {
    /// # Errors
    ///
    /// [`JournalError::Storage`].
    pub(in crate::storage::journal::sqlite) fn new(
        connection: Connection,
        file: JournalFile,
        shared: Arc<Shared>,
        check: Option<BackgroundCheck>,
    ) -> Result<Self, JournalError> {
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| JournalError::Storage(error.to_string()))?;
        let now = Instant::now();
        Ok(Self { check, connection, file, shared, examined: now, stored: now, erase_due: false })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Examines the file, and stores the running time if that is due or the journal is away; at most once in `interval`.
    pub(super) fn tick(&mut self, interval: Duration) {
        if self.examined.elapsed() < interval {
            return;
        }
        self.examined = Instant::now();
        if let Some(problem) = self.file.problem() {
            self.fail(&format!("the journal is not in its place any more: {problem}"));
        }
        if let Some(problem) = self.check.as_ref().and_then(BackgroundCheck::problem) {
            self.fail(&format!("the journal is damaged: {problem}"));
            self.check = None;
        }
        let due = self.stored.elapsed() >= HEARTBEAT;
        match self.shared.standing() {
            Standing::Fine if due => self.heartbeat(),
            Standing::Away => self.heartbeat(),
            Standing::Fine => self.give_back_space(),
            Standing::Failed => {}
        }
        if self.erase_due && self.shared.standing() == Standing::Fine {
            self.erase();
        }
    }

    /// Folds the write-ahead log into the database and empties it, unless a reader holds it: then the next tick tries again.
    fn erase(&mut self) {
        let _ = self.connection.busy_timeout(Duration::ZERO);
        let held = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, bool>(0));
        let _ = self.connection.busy_timeout(BUSY_TIMEOUT);
        match held {
            Ok(held) => self.erase_due = held,
            Err(error) if is_locked(&error) => {}
            Err(error) => self.not_written(&error),
        }
    }

    /// Gives some free pages back to the file system, where they are more than a quarter of the database. Fewer are kept for the
    /// pictures to come: a page that is given back and taken again is written twice.
    fn give_back_space(&mut self) {
        let pages = |sql| self.connection.query_row(sql, (), |row| row.get::<_, u64>(0));
        let given_back = pages("PRAGMA freelist_count").and_then(|free| {
            if free < FREE_PAGES_KEPT || free * 4 < pages("PRAGMA page_count")? {
                return Ok(());
            }
            let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_GIVEN_BACK})"))?;
            let mut rows = statement.query(())?;
            while rows.next()?.is_some() {}
            Ok(())
        });
        if let Err(error) = given_back
            && !is_locked(&error)
        {
            self.not_written(&error);
        }
    }

    /// Stores the running time. For a journal that is away this is the attempt to write again.
    fn heartbeat(&mut self) {
        let _ = self.connection.busy_timeout(PROBE_TIMEOUT);
        let written = write_all(&mut self.connection, &[], self.shared.clock.now(), false);
        let _ = self.connection.busy_timeout(BUSY_TIMEOUT);
        match written {
            Ok(_) => {
                self.stored = Instant::now();
                if self.shared.change(Standing::Fine) {
                    tracing::info!("the journal can be written again; buying goes on");
                }
            }
            Err(error) if is_locked(&error) => {}
            Err(error) => self.not_written(&error),
        }
    }

    /// Writes all records in one transaction. A record that the tables do not accept fails alone. What is not `synced` becomes
    /// durable with the next commit that is: a sync covers all that the log has by then.
    pub(super) fn commit(&mut self, records: &[Record], synced: bool) -> Results {
        let refused = |error: JournalError| records.iter().map(|_| Err(error.clone())).collect();
        match self.shared.standing() {
            Standing::Fine => {}
            Standing::Away => return refused(JournalError::Away),
            Standing::Failed => return refused(JournalError::Failed),
        }
        let now = self.shared.clock.now();
        let unsynced = !synced && sync_commits(&self.connection, false).is_ok();
        let began = Instant::now();
        let written = match write_group(&mut self.connection, records, now, false) {
            // It was rolled back. Where the bytes of a picture are damaged they cannot be deleted, and without that it may succeed.
            Err(error) if deletes_bytes(records) && error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                tracing::warn!(%error, "the bytes of evicted pictures are damaged and cannot be deleted; they take space from now on");
                write_group(&mut self.connection, records, now, true)
            }
            result => result,
        };
        if unsynced && let Err(error) = sync_commits(&self.connection, true) {
            self.fail(&format!("commits to the journal cannot be synced: {error}"));
            return refused(JournalError::Failed);
        }
        match written {
            Ok(results) => {
                self.erase_due |= erases(records);
                if !unsynced {
                    self.stored = Instant::now();
                    self.shared.sync_seconds.observe(self.stored.saturating_duration_since(began).as_secs_f64());
                }
                results
            }
            Err(error) => {
                self.not_written(&error);
                refused(if self.shared.standing() == Standing::Away {
                    JournalError::Away
                } else {
                    JournalError::Failed
                })
            }
        }
    }

    /// Decides what a transaction that was not committed means for the next ones.
    fn not_written(&mut self, error: &rusqlite::Error) {
        if is_locked(error) || error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            if self.shared.change(Standing::Away) {
                tracing::error!(
                    %error,
                    "the journal cannot be written at present; its records are refused and nothing is bought until it can"
                );
            }
        } else {
            self.fail(&format!("a commit to the journal failed: {error}"));
        }
    }

    fn fail(&mut self, problem: &str) {
        if self.shared.change(Standing::Failed) {
            tracing::error!("{problem}; nothing is bought until a restart");
            // What is in the files is left to the next start.
            if let Err(error) = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
                tracing::warn!(%error, "the write-ahead log may be folded into a journal that failed");
            }
        }
    }

    /// Stores the running time, and closes the database: folds the write-ahead log into it unless the journal has failed.
    pub(super) fn close(mut self) {
        // The check has a connection of its own. The one that is closed last folds the log.
        self.check = None;
        if self.shared.standing() != Standing::Failed {
            self.heartbeat();
        }
    }
}

/// Sets whether a commit is synced before it returns.
fn sync_commits(connection: &Connection, synced: bool) -> rusqlite::Result<()> {
    connection.execute_batch(if synced { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" })
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether one of these records deletes what no file may have any more.
fn erases(records: &[Record]) -> bool {
    records.iter().any(|record| matches!(record, Record::Deleted { .. } | Record::PromptExpired { .. }))
}

/// Whether one of these records deletes bytes of pictures.
fn deletes_bytes(records: &[Record]) -> bool {
    let deletes =
        |record: &Record| matches!(record, Record::Evicted { .. } | Record::Deleted { .. } | Record::Restored { .. });
    records.iter().any(deletes)
}

fn write_group(
    connection: &mut Connection,
    records: &[Record],
    now: RunningTime,
    keep_bytes: bool,
) -> rusqlite::Result<Results> {
    match write_all(connection, records, now, keep_bytes) {
        // The transaction was rolled back; it is repeated with a savepoint for each record.
        Err(error) if concerns_one_record(&error) => write_each(connection, records, now, keep_bytes),
        result => result,
    }
}

fn write_all(
    connection: &mut Connection,
    records: &[Record],
    now: RunningTime,
    keep_bytes: bool,
) -> rusqlite::Result<Results> {
    let transaction = begin(connection)?;
    store_running_time(&transaction, now)?;
    for record in records {
        write(&transaction, record, now, keep_bytes)?;
    }
    transaction.commit()?;
    Ok(records.iter().map(|_| Ok(())).collect())
}

fn write_each(
    connection: &mut Connection,
    records: &[Record],
    now: RunningTime,
    keep_bytes: bool,
) -> rusqlite::Result<Results> {
    let mut transaction = begin(connection)?;
    store_running_time(&transaction, now)?;
    let mut results = Vec::with_capacity(records.len());
    for record in records {
        let savepoint = transaction.savepoint()?;
        let result = match write(&savepoint, record, now, keep_bytes) {
            Ok(()) => {
                savepoint.commit()?;
                Ok(())
            }
            Err(error) if concerns_one_record(&error) => Err(JournalError::Storage(error.to_string())),
            Err(error) => return Err(error),
        };
        results.push(result);
    }
    transaction.commit()?;
    Ok(results)
}

/// Immediate: the lock of another program is met here, before anything is written, and not at the commit.
fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Whether a record violates a constraint, or is for something that the journal does not know: a record before it was
/// refused while the journal could not be written.
fn concerns_one_record(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
        || matches!(error, rusqlite::Error::QueryReturnedNoRows)
}
