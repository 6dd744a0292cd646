//! The journal's thread: the only writer of the database.
//!
//! Group commit: the thread drains its queue into one transaction, commits once, and answers every writer. Reads run on
//! the same thread, between commits, so they never see what is not durable. A failed commit is final: what reached the
//! disk is uncertain, so nothing more is written until a restart has read back what is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use futures_util::future::BoxFuture;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::writes::write;
use crate::storage::journal::record::Record;
use crate::storage::journal::traits::JournalError;

/// Records in one transaction at most, so that the first of them does not wait for a flood.
const GROUP_MAX: usize = 512;

type Answer<T> = oneshot::Sender<Result<T, JournalError>>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

enum Command {
    Write(Box<Record>, Answer<()>),
    Read(Read),
    Close(oneshot::Sender<()>),
}

/// A handle to the thread, which ends with its last handle.
#[derive(Clone, Debug)]
pub(super) struct JournalThread {
    /// Unbounded, because `append` must not wait. A caller awaits each answer before it continues, so the queue is bounded
    /// by the number of jobs and requests, which `limits` bounds.
    commands: mpsc::Sender<Command>,
    failed: Arc<AtomicBool>,
}

impl JournalThread {
    /// Starts the thread on an open database.
    ///
    /// # Errors
    ///
    /// [`JournalError::Storage`] when the system starts no further thread.
    pub(super) fn start(connection: Connection) -> Result<Self, JournalError> {
        let (commands, queue) = mpsc::channel();
        let failed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&failed);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(connection, &queue, &flag))
            .map_err(|error| JournalError::Storage(error.to_string()))?;
        Ok(Self { commands, failed })
    }

    /// Writes a record; the record is durable when the future completes.
    pub(super) fn append(&self, record: Record) -> BoxFuture<'static, Result<(), JournalError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(Command::Write(Box::new(record), answer));
        Box::pin(async move {
            sent.map_err(|_| JournalError::Failed)?;
            answered.await.unwrap_or(Err(JournalError::Failed))
        })
    }

    /// Runs a read after the records that were appended before it.
    pub(super) fn read<T, F>(&self, read: F) -> BoxFuture<'static, Result<T, JournalError>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            let result = read(connection).map_err(|error| JournalError::Unreadable(error.to_string()));
            let _ = answer.send(result);
        });
        let sent = self.commands.send(Command::Read(read));
        Box::pin(async move {
            sent.map_err(|_| JournalError::Failed)?;
            answered.await.unwrap_or(Err(JournalError::Failed))
        })
    }

    /// Closes the database after everything that was appended before.
    pub(super) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        // A thread that has ended has closed the database already.
        if self.commands.send(Command::Close(answer)).is_ok() {
            let _ = answered.await;
        }
    }

    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Runs until the last handle is dropped or the journal is closed.
fn run(mut connection: Connection, queue: &mpsc::Receiver<Command>, failed: &AtomicBool) {
    while let Ok(first) = queue.recv() {
        let mut writes = Vec::new();
        let mut reads = Vec::new();
        let mut closing = None;
        let mut take = |command| match command {
            Command::Write(record, answer) => writes.push((record, answer)),
            Command::Read(read) => reads.push(read),
            Command::Close(answer) => closing = Some(answer),
        };
        take(first);
        for command in queue.try_iter().take(GROUP_MAX) {
            take(command);
        }
        if !writes.is_empty() {
            commit(&mut connection, writes, failed);
        }
        // After the commit: a caller that wrote before reading sees what was written, and it is durable.
        for read in reads {
            read(&connection);
        }
        if let Some(answer) = closing {
            drop(connection);
            let _ = answer.send(());
            return;
        }
    }
}

fn commit(connection: &mut Connection, writes: Vec<(Box<Record>, Answer<()>)>, failed: &AtomicBool) {
    if failed.load(Ordering::Relaxed) {
        for (_, answer) in writes {
            let _ = answer.send(Err(JournalError::Failed));
        }
        return;
    }
    let (answers, results) = match commit_group(connection, writes) {
        Ok(done) => done,
        Err((answers, error)) if is_locked(&error) => {
            // Another program writes, such as a backup; nothing of this group has been written.
            tracing::error!(%error, "the journal is locked by another program; the records of this commit are refused");
            let count = answers.len();
            (answers, vec![Err(JournalError::Storage(error.to_string())); count])
        }
        Err((answers, error)) => {
            failed.store(true, Ordering::Relaxed);
            tracing::error!(%error, "a commit to the journal failed; nothing is bought until a restart");
            let count = answers.len();
            (answers, vec![Err(JournalError::Storage(error.to_string())); count])
        }
    };
    for (answer, result) in answers.into_iter().zip(results) {
        let _ = answer.send(result);
    }
}

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

type Answers = Vec<Answer<()>>;
/// One result for each record, in the order of the records.
type Results = Vec<Result<(), JournalError>>;

/// Writes all records in one transaction. A record that the tables do not accept fails alone.
fn commit_group(
    connection: &mut Connection,
    writes: Vec<(Box<Record>, Answer<()>)>,
) -> Result<(Answers, Results), (Answers, rusqlite::Error)> {
    let (records, answers): (Vec<_>, Answers) = writes.into_iter().unzip();
    let written = match write_all(connection, &records) {
        // The transaction was rolled back; it is repeated with a savepoint for each record.
        Err(error) if concerns_one_record(&error) => write_each(connection, &records),
        result => result,
    };
    match written {
        Ok(results) => Ok((answers, results)),
        Err(error) => Err((answers, error)),
    }
}

fn write_all(connection: &mut Connection, records: &[Box<Record>]) -> rusqlite::Result<Results> {
    let transaction = begin(connection)?;
    for record in records {
        write(&transaction, record)?;
    }
    transaction.commit()?;
    Ok(records.iter().map(|_| Ok(())).collect())
}

fn write_each(connection: &mut Connection, records: &[Box<Record>]) -> rusqlite::Result<Results> {
    let mut transaction = begin(connection)?;
    let mut results = Vec::with_capacity(records.len());
    for record in records {
        let savepoint = transaction.savepoint()?;
        let result = match write(&savepoint, record) {
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
/// refused while another program had locked the journal.
fn concerns_one_record(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
        || matches!(error, rusqlite::Error::QueryReturnedNoRows)
}
