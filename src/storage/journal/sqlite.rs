//! The journal in an embedded SQLite database: WAL, `synchronous=FULL`, one connection on one thread.

use std::collections::HashSet;
use std::path::Path;

use futures_util::future::BoxFuture;
use rusqlite::{OptionalExtension, params};

use super::record::Record;
use super::stored::{PendingWebhook, StoredJob, StoredResult, UsedQuota};
use super::traits::{Journal, JournalError};
use crate::model::{ClientId, Digest, Fingerprint, IdempotencyKey, JobId, PurchaseId, Timestamp, UpstreamId};
use queries::{job, jobs, stored_digests, pending_webhooks, quota_used_since};
use rows::parsed;
use thread::JournalThread;

pub(crate) mod ledger;
mod queries;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod thread;
mod writes;

/// A handle to the journal's thread. Cheap to clone; the thread ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct SqliteJournal {
    thread: JournalThread,
}

impl SqliteJournal {
    /// Opens or creates the journal in `path`, checks it, and migrates it to the current schema.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the file cannot be opened, is damaged, or was written by a newer version.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self { thread: JournalThread::start(schema::open(path)?)? })
    }

    /// Writes what was appended before, folds the write-ahead log into the database and closes it. Later appends fail.
    pub(crate) async fn close(&self) {
        self.thread.close().await;
    }
}

impl Journal for SqliteJournal {
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), JournalError>> {
        self.thread.append(record)
    }

    fn unfinished(&self) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>> {
        self.thread.read(|connection| {
            let sql = "SELECT DISTINCT job_id FROM purchases
                       WHERE state IN ('intent', 'committing', 'accepted') ORDER BY job_id";
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
                       ORDER BY created_ms DESC, id DESC LIMIT ?2";
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
                       ORDER BY created_ms DESC, id DESC LIMIT 1";
            Ok(jobs(connection, sql, params![&*client.0, key.as_str()])?.pop())
        })
    }

    fn job(&self, id: JobId) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>> {
        self.thread.read(move |connection| job(connection, &id.to_string()))
    }

    fn purchase_of_upstream_id(&self, id: UpstreamId) -> BoxFuture<'static, Result<Option<PurchaseId>, JournalError>> {
        self.thread.read(move |connection| {
            connection
                .prepare_cached("SELECT id FROM purchases WHERE upstream_id = ?1")?
                .query_row([id.as_str()], |row| parsed(row, 0, |text| text.parse().ok()))
                .optional()
        })
    }

    fn stored_results(&self) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>> {
        self.thread.read(|connection| {
            let sql = "SELECT id FROM jobs WHERE evicted = 0
                       AND EXISTS (SELECT 1 FROM purchases JOIN pictures ON purchase_id = purchases.id
                                   WHERE job_id = jobs.id)
                       AND NOT EXISTS (SELECT 1 FROM purchases
                                       WHERE job_id = jobs.id AND state IN ('intent', 'committing', 'accepted'))
                       ORDER BY created_ms, id";
            Ok(jobs(connection, sql, ())?.into_iter().filter_map(StoredJob::into_result).collect())
        })
    }

    fn stored_digests(&self, digests: Vec<Digest>) -> BoxFuture<'static, Result<HashSet<Digest>, JournalError>> {
        self.thread.read(move |connection| stored_digests(connection, &digests))
    }

    fn has_jobs(&self) -> BoxFuture<'static, Result<bool, JournalError>> {
        self.thread.read(|connection| connection.query_row("SELECT EXISTS (SELECT 1 FROM jobs)", (), |row| row.get(0)))
    }

    fn quota_used_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>> {
        self.thread.read(move |connection| quota_used_since(connection, since))
    }

    fn pending_webhooks(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>> {
        self.thread.read(move |connection| pending_webhooks(connection, job))
    }

    fn failed(&self) -> bool {
        self.thread.failed()
    }
}
