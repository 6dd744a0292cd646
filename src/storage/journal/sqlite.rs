//! The journal in an embedded SQLite database: WAL, `synchronous=FULL`, one connection on one thread.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus_client::metrics::histogram::Histogram;
use rusqlite::{OptionalExtension, params};

use super::record::Record;
use super::stored::{PendingWebhook, ResultPage, StoredJob, StoredResult, UndecidedPurchases, UsedQuota};
use super::traits::{Durability, Journal, JournalError, Standing};
use crate::model::{
    ClientId, Digest, Fingerprint, IdempotencyKey, JobId, PurchaseId, RunningTime, Timestamp, UpstreamId,
};
use queries::{client_jobs, expired_prompts, job, jobs, pending_webhooks, undecided};
use rows::parsed;
use thread::JournalThread;
use thread::file::JournalFile;
use thread::running_clock::{Monotonic, RunningClock, monotonic};
use thread::shared::Shared;
use thread::writer::Writer;

mod consistency;
pub(super) mod ledger;
mod queries;
mod results;
mod rows;
pub(in crate::storage) mod schema;
#[cfg(test)]
mod tests;
pub(super) mod thread;
mod usage;
mod writes;

/// A handle to the journal's thread. Cheap to clone; the thread ends with the last handle.
#[derive(Clone, Debug)]
pub(super) struct SqliteJournal {
    thread: JournalThread,
}

impl SqliteJournal {
    /// Locks, opens or creates the journal in `path`, and migrates it to the current schema. A small one is checked before;
    /// a large one is checked while it is used, and fails if it is found to be damaged.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the file is in use by another gateway, cannot be opened, is damaged, or was written by a newer
    /// version.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        Self::open_with(path, monotonic())
    }

    /// The same, with another monotonic time.
    pub(super) fn open_with(path: &Path, monotonic: Monotonic) -> Result<Self, JournalError> {
        // Before SQLite opens it: closing a second descriptor later would release SQLite's locks.
        let mut file = JournalFile::lock(path)?;
        let (connection, check) = schema::open(path)?;
        file.note_log();
        let shared = Arc::new(Shared::new(RunningClock::new(schema::running_time(&connection)?, monotonic)));
        Ok(Self { thread: JournalThread::start(Writer::new(connection, file, shared, check)?)? })
    }
}

impl Journal for SqliteJournal {
    fn append_with(&self, record: Record, durability: Durability) -> BoxFuture<'static, Result<(), JournalError>> {
        self.thread.append(record, durability)
    }

    fn unfinished(&self) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>> {
        self.thread.read(|connection| {
            let sql = "SELECT job_id FROM purchases WHERE ended_ms IS NULL
                       GROUP BY job_id ORDER BY min(rowid)";
            jobs(connection, sql, ())
        })
    }

    fn by_fingerprint(
        &self,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>> {
        self.thread.read(move |connection| {
            let sql = "SELECT id FROM jobs WHERE fingerprint = ?1 AND EXISTS (
                           SELECT 1 FROM purchases WHERE job_id = jobs.id
                           AND ((state = 'resolved' AND NOT evicted) OR state = 'unknown'))
                       ORDER BY rowid DESC LIMIT ?2";
            jobs(connection, sql, params![fingerprint.to_string(), limit])
        })
    }

    fn by_idempotency_key(
        &self,
        client: ClientId,
        key: IdempotencyKey,
    ) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>> {
        self.thread.read(move |connection| {
            let sql = "SELECT id FROM jobs WHERE client = ?1 AND idempotency_key = ?2
                       ORDER BY rowid DESC LIMIT 1";
            Ok(jobs(connection, sql, params![&*client.0, key.as_str()])?.pop())
        })
    }

    fn job(&self, id: JobId) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>> {
        self.thread.read(move |connection| job(connection, &id.to_string()))
    }

    fn client_jobs(
        &self,
        client: ClientId,
        after: Option<JobId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Option<Vec<StoredJob>>, JournalError>> {
        self.thread.read(move |connection| client_jobs(connection, &client, after, limit))
    }

    fn expired_prompts(
        &self,
        kept_before: RunningTime,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<JobId>, JournalError>> {
        self.thread.read(move |connection| expired_prompts(connection, kept_before, limit))
    }

    fn purchase_of_upstream_id(&self, id: UpstreamId) -> BoxFuture<'static, Result<Option<PurchaseId>, JournalError>> {
        self.thread.read(move |connection| {
            connection
                .prepare_cached("SELECT id FROM purchases WHERE upstream_id = ?1")?
                .query_row([id.as_str()], |row| parsed(row, 0, |text| text.parse().ok()))
                .optional()
        })
    }

    fn stored_results(&self, page: ResultPage) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>> {
        self.thread.read(move |connection| results::stored_results(connection, page))
    }

    fn stored_bytes(&self) -> BoxFuture<'static, Result<u64, JournalError>> {
        self.thread.read(results::stored_bytes)
    }

    fn stored_digests(&self, of: Vec<Digest>) -> BoxFuture<'static, Result<HashSet<Digest>, JournalError>> {
        self.thread.read(move |connection| results::stored_digests(connection, &of))
    }

    fn picture_copies(&self, of: Digest) -> BoxFuture<'static, Result<Vec<Bytes>, JournalError>> {
        self.thread.read(move |connection| results::picture_copies(connection, &of))
    }

    fn has_jobs(&self) -> BoxFuture<'static, Result<bool, JournalError>> {
        self.thread.read(|connection| connection.query_row("SELECT EXISTS (SELECT 1 FROM jobs)", (), |row| row.get(0)))
    }

    fn quota_used_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>> {
        self.thread.read(move |connection| usage::since(connection, since))
    }

    fn undecided(&self) -> BoxFuture<'static, Result<Vec<UndecidedPurchases>, JournalError>> {
        self.thread.read(undecided)
    }

    fn pending_webhooks(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>> {
        self.thread.read(move |connection| pending_webhooks(connection, job))
    }

    fn running_time(&self) -> RunningTime {
        self.thread.running_time()
    }

    fn sync_seconds(&self) -> Histogram {
        self.thread.sync_seconds()
    }

    fn standing(&self) -> Standing {
        self.thread.standing()
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.thread.close()
    }
}
