//! The journal's thread: the only writer of the database.
//!
//! Group commit: the thread drains its queue into one transaction, commits once, and answers every caller. A group is committed
//! when the first of its records is due, which most records are at once, but for the time between two commits while many arrive
//! (`thread/commit_spacing.rs`); without a sync if a crash may lose all of them. Reads run on the same thread, between commits, so
//! they never see what is not durable; each has to be short. Between groups, the thread watches the file, stores the running time,
//! and tries a journal that is away.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use prometheus_client::metrics::histogram::Histogram;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::model::RunningTime;
use crate::storage::journal::record::Record;
use crate::storage::journal::traits::{Durability, JournalError, Standing};

pub(super) mod check;
mod commit_spacing;
pub(in crate::storage::journal) mod file;
pub(in crate::storage::journal) mod running_clock;
pub(super) mod shared;
pub(super) mod writer;

use commit_spacing::CommitSpacing;
use shared::Shared;
use writer::Writer;

/// Records in one transaction at most, so that the first of them does not wait for a flood.
const GROUP_MAX: usize = 512;
/// How often the file is examined, and a journal that is away is tried again.
const TICK: Duration = Duration::from_secs(1);

type Answer<T> = oneshot::Sender<Result<T, JournalError>>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

enum Command {
    Write(Box<Record>, Due, Answer<()>),
    Read(Read),
    Close(oneshot::Sender<()>),
}

/// How a record is committed.
#[derive(Clone, Copy)]
struct Due {
    /// When the commit begins, at the latest.
    at: Instant,
    synced: bool,
}

/// The records of the next commit, in their order.
#[derive(Default)]
struct Group {
    records: Vec<Record>,
    answers: Vec<Answer<()>>,
    /// When the first of them is due, and whether one of them has to be synced.
    due: Option<Due>,
}

impl Group {
    fn add(&mut self, record: Record, due: Due, answer: Answer<()>) {
        self.records.push(record);
        self.answers.push(answer);
        let before = self.due.unwrap_or(due);
        self.due = Some(Due { at: before.at.min(due.at), synced: before.synced || due.synced });
    }

    /// Whether it is committed now, where no commit may begin before `earliest`.
    fn is_due(&self, earliest: Instant) -> bool {
        self.records.len() >= GROUP_MAX || self.due.is_some_and(|due| due.at.max(earliest) <= Instant::now())
    }

    /// Returns how long the thread may wait for another command.
    fn wait(&self, earliest: Instant) -> Duration {
        self.due.map_or(TICK, |due| due.at.max(earliest).saturating_duration_since(Instant::now()).min(TICK))
    }

    /// Writes the records, and leaves an empty group.
    fn commit(&mut self, writer: &mut Writer, spacing: &mut CommitSpacing) {
        let Self { records, answers, due } = std::mem::take(self);
        let Some(Due { synced, .. }) = due else { return };
        spacing.on_commit(u32::try_from(records.len()).unwrap_or(u32::MAX), Instant::now());
        for (answer, result) in answers.into_iter().zip(writer.commit(&records, synced)) {
            let _ = answer.send(result);
        }
    }
}

/// A handle to the thread, which ends with its last handle.
#[derive(Clone, Debug)]
pub(super) struct JournalThread {
    /// Unbounded, because `append` must not wait. A caller awaits each answer before it continues, so the queue is bounded
    /// by the number of jobs and requests, which `limits` bounds.
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl JournalThread {
    /// Starts the thread on an open database.
    ///
    /// # Errors
    ///
    /// [`JournalError::Storage`] when the system starts no further thread.
    pub(super) fn start(writer: Writer) -> Result<Self, JournalError> {
        let (commands, queue) = mpsc::channel();
        let shared = writer.shared();
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(writer, &queue))
            .map_err(|error| JournalError::Storage(error.to_string()))?;
        Ok(Self { commands, shared })
    }

    /// Writes a record, as `Journal::append_with`.
    pub(super) fn append(
        &self,
        record: Record,
        durability: Durability,
    ) -> BoxFuture<'static, Result<(), JournalError>> {
        let due = Due { at: Instant::now() + durability.wait(), synced: durability.is_synced() };
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(Command::Write(Box::new(record), due, answer));
        Box::pin(async move {
            sent.map_err(|_| JournalError::Failed)?;
            answered.await.unwrap_or(Err(JournalError::Failed))
        })
    }

    /// Runs a read after the records that were appended before it, but for those that still wait for others.
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
    pub(super) fn close(&self) -> BoxFuture<'static, ()> {
        let (answer, answered) = oneshot::channel();
        // A thread that has ended has closed the database already.
        let sent = self.commands.send(Command::Close(answer)).is_ok();
        Box::pin(async move {
            if sent {
                let _ = answered.await;
            }
        })
    }

    pub(super) fn standing(&self) -> Standing {
        self.shared.standing()
    }

    pub(super) fn sync_seconds(&self) -> Histogram {
        self.shared.sync_seconds.clone()
    }

    pub(super) fn running_time(&self) -> RunningTime {
        self.shared.clock.now()
    }
}

/// Runs until the last handle is dropped or the journal is closed.
fn run(mut writer: Writer, queue: &mpsc::Receiver<Command>) {
    let mut group = Group::default();
    let mut spacing = CommitSpacing::new(Instant::now());
    loop {
        let first = match queue.recv_timeout(group.wait(spacing.next())) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                group.commit(&mut writer, &mut spacing);
                return writer.close();
            }
        };
        writer.tick(TICK);
        let mut reads = Vec::new();
        let mut closing = None;
        let room = GROUP_MAX.saturating_sub(group.records.len() + 1);
        for command in first.into_iter().chain(queue.try_iter().take(room)) {
            match command {
                Command::Write(record, due, answer) => group.add(*record, due, answer),
                Command::Read(read) => reads.push(read),
                Command::Close(answer) => closing = Some(answer),
            }
        }
        if group.is_due(spacing.next()) || closing.is_some() {
            group.commit(&mut writer, &mut spacing);
        }
        // After the commit, so that most reads see what was sent before them. A caller that has to see its record waits for the answer to
        // it first; a read does not wait for records that are not committed yet.
        for read in reads {
            read(writer.connection());
        }
        if let Some(answer) = closing {
            writer.close();
            let _ = answer.send(());
            return;
        }
    }
}
