//! A journal in memory whose disk can lose what was not synced, for simulations. Compiled for tests only.
//!
//! A record is first written, later synced. With [`SyncMode::Full`] `append` answers when the record is synced, as the
//! real journal does; with [`SyncMode::Off`] `append` answers at once, as `synchronous=OFF` would, and a power cut can
//! lose acknowledged records. A record that may wait is written with the next one, or when its time has come.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use super::record::Record;
use super::stored::{PendingWebhook, ResultPage, StoredJob, StoredResult, UndecidedPurchases, UsedQuota};
use super::traits::{Durability, Journal, JournalError, Standing};
use crate::model::{
    ClientId, Digest, Fingerprint, IdempotencyKey, JobId, PurchaseId, RunningTime, Timestamp, UpstreamId,
};
use replay::{
    Written, client_jobs, copies, expired_prompts, jobs, may_answer, pending, problem, stored_results, undecided,
    used_quota,
};
pub(crate) use replay::{apply, has_ended};

mod replay;

/// When `append` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncMode {
    Full,
    Off,
}

/// What is on the disk. Outlives the gateways that write to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    durable: Arc<Mutex<Vec<Written>>>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Vec<Written>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the jobs that the durable records add up to.
    pub(crate) fn jobs(&self) -> Vec<StoredJob> {
        jobs(&self.lock())
    }

    /// Changes a byte of a picture that is stored with its record; returns whether there was one.
    pub(crate) fn damage(&self, digest: &Digest) -> bool {
        let mut is_damaged = false;
        for (record, _) in self.lock().iter_mut() {
            let Record::Resolved { contents, .. } = record else { continue };
            for content in contents.iter_mut().filter(|content| content.digest == *digest) {
                let mut bytes = content.bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] = bytes[middle].wrapping_add(1);
                content.bytes = bytes.into();
                is_damaged = true;
            }
        }
        is_damaged
    }

    /// Returns the number of durable records.
    pub(crate) fn records(&self) -> usize {
        self.lock().len()
    }
}

/// One gateway's journal on a disk.
#[derive(Clone, Debug)]
pub(crate) struct MemoryJournal {
    disk: Disk,
    shared: Arc<Mutex<Shared>>,
    sync_time: Duration,
    sync: SyncMode,
    /// The running time of the newest durable record when it was opened, and when that was.
    opened: (RunningTime, Instant),
}

#[derive(Debug, Default)]
struct Shared {
    /// Appended, and waiting for another record; after those that are written.
    waiting: Vec<Written>,
    /// Written, not synced.
    unsynced: Vec<Written>,
    /// Records that were appended, and those of them that are synced.
    appended: usize,
    synced: tokio::sync::watch::Sender<usize>,
    /// The power was cut: no call completes any more.
    dead: bool,
    closed: bool,
    /// Failed: syncing fails from now on. Away: the disk is full, so records are refused and nothing of them is written.
    standing: Standing,
    /// How long the jobs of a fingerprint take to arrive after they were read.
    read_time: Duration,
    /// The number of answers after which the power is cut.
    answers_left: Option<usize>,
}

impl MemoryJournal {
    pub(crate) fn on(disk: &Disk, sync_time: Duration, sync: SyncMode) -> Self {
        let newest = disk.lock().last().map_or(RunningTime::default(), |(_, at)| *at);
        let opened = (newest, Instant::now());
        Self { disk: disk.clone(), shared: Arc::default(), sync_time, sync, opened }
    }

    /// Cuts the power: what was not synced is lost, and no call completes.
    pub(crate) fn cut_power(&self) {
        let mut shared = self.lock();
        shared.waiting.clear();
        shared.unsynced.clear();
        shared.dead = true;
    }

    /// Cuts the power after `answers` more answers.
    pub(crate) fn cut_power_after(&self, answers: usize) {
        self.lock().answers_left = Some(answers);
    }

    /// Cancels a power cut that has not happened.
    pub(crate) fn keep_power(&self) {
        self.lock().answers_left = None;
    }

    /// Delays the jobs of a fingerprint, which are those at the time of the read.
    pub(crate) fn set_read_time(&self, time: Duration) {
        self.lock().read_time = time;
    }

    /// Makes every sync from now on fail.
    pub(crate) fn break_disk(&self) {
        self.lock().standing = Standing::Failed;
    }

    /// Fills the disk, or makes room on it again.
    pub(crate) fn set_away(&self, away: bool) {
        let mut shared = self.lock();
        if shared.standing != Standing::Failed {
            shared.standing = if away { Standing::Away } else { Standing::Fine };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs everything that was written.
    fn sync_all(&self) {
        let mut shared = self.lock();
        if !shared.dead && shared.standing != Standing::Failed {
            self.disk.lock().append(&mut shared.unsynced);
            let synced = shared.appended - shared.waiting.len();
            shared.synced.send_replace(synced);
        }
    }

    /// Writes the records that wait.
    fn write_all(&self) {
        let shared = &mut *self.lock();
        shared.unsynced.append(&mut shared.waiting);
    }

    /// Returns what a running gateway reads: everything written, synced or not.
    fn seen(&self) -> Vec<StoredJob> {
        jobs(&self.records())
    }

    fn records(&self) -> Vec<Written> {
        let mut records = self.disk.lock().clone();
        records.extend(self.lock().unsynced.iter().cloned());
        records
    }

    async fn answer<T>(&self, value: T) -> Result<T, JournalError> {
        if self.lock().answers_left == Some(0) {
            self.cut_power();
        }
        if self.lock().dead {
            return std::future::pending().await;
        }
        if let Some(left) = &mut self.lock().answers_left {
            *left -= 1;
        }
        Ok(value)
    }
}

impl Journal for MemoryJournal {
    fn append_with(&self, record: Record, durability: Durability) -> BoxFuture<'static, Result<(), JournalError>> {
        let wait = durability.wait();
        let journal = self.clone();
        let now = self.running_time();
        let (position, mut synced);
        {
            let mut shared = self.lock();
            if shared.closed {
                return Box::pin(async { Err(JournalError::Failed) });
            }
            if shared.standing == Standing::Away {
                return Box::pin(async { Err(JournalError::Away) });
            }
            let written = self.disk.lock();
            // Without syncs, the record before may be lost.
            if self.sync == SyncMode::Full
                && let Some(problem) = problem(&written.iter().chain(&shared.unsynced).chain(&shared.waiting), &record)
            {
                return Box::pin(async move { Err(JournalError::Storage(problem.to_owned())) });
            }
            drop(written);
            if !shared.dead && shared.standing != Standing::Failed {
                shared.appended += 1;
                shared.waiting.push((record, now));
            }
            (position, synced) = (shared.appended, shared.synced.subscribe());
        }
        if wait.is_zero() {
            self.write_all();
        }
        Box::pin(async move {
            if journal.sync == SyncMode::Off {
                // The record is synced with the next sync, if one follows.
                journal.write_all();
                return journal.answer(()).await;
            }
            let shared = synced.wait_for(|synced| *synced >= position);
            if wait.is_zero() || tokio::time::timeout(wait, shared).await.is_err() {
                journal.write_all();
                if durability.is_synced() {
                    tokio::time::sleep(journal.sync_time).await;
                    journal.sync_all();
                }
            }
            journal.answer(()).await?;
            if journal.standing() == Standing::Failed { Err(JournalError::Failed) } else { Ok(()) }
        })
    }

    fn unfinished(&self) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut jobs = journal.seen();
            jobs.retain(|job| job.purchases.iter().any(|purchase| !has_ended(&purchase.state)));
            journal.answer(jobs).await
        })
    }

    fn by_fingerprint(
        &self,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut jobs = journal.seen();
            jobs.retain(|job| job.record.fingerprint == fingerprint && may_answer(job));
            jobs.reverse();
            jobs.truncate(limit);
            let read_time = journal.lock().read_time;
            if !read_time.is_zero() {
                tokio::time::sleep(read_time).await;
            }
            journal.answer(jobs).await
        })
    }

    fn by_idempotency_key(
        &self,
        client: ClientId,
        key: IdempotencyKey,
    ) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let found = journal
                .seen()
                .into_iter()
                .rfind(|job| job.record.client == client && job.record.idempotency_key.as_ref() == Some(&key));
            journal.answer(found).await
        })
    }

    fn job(&self, id: JobId) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let found = journal.seen().into_iter().find(|job| job.record.id == id);
            journal.answer(found).await
        })
    }

    fn client_jobs(
        &self,
        client: ClientId,
        after: Option<JobId>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Option<Vec<StoredJob>>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move { journal.answer(client_jobs(journal.seen(), &client, after, limit)).await })
    }

    fn expired_prompts(
        &self,
        kept_before: RunningTime,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<JobId>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move { journal.answer(expired_prompts(&journal.records(), kept_before, limit)).await })
    }

    fn purchase_of_upstream_id(&self, id: UpstreamId) -> BoxFuture<'static, Result<Option<PurchaseId>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let jobs = journal.seen();
            let mut purchases = jobs.iter().flat_map(|job| &job.purchases);
            let found = purchases.find(|purchase| purchase.state.upstream() == Some(&id)).map(|purchase| purchase.id);
            journal.answer(found).await
        })
    }

    fn stored_results(&self, page: ResultPage) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move { journal.answer(stored_results(journal.seen(), page)).await })
    }

    fn stored_bytes(&self) -> BoxFuture<'static, Result<u64, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let stored = journal.seen().into_iter().filter(|job| !job.evicted).flat_map(StoredJob::into_pictures);
            journal.answer(stored.map(|picture| picture.bytes).sum()).await
        })
    }

    fn stored_digests(&self, of: Vec<Digest>) -> BoxFuture<'static, Result<HashSet<Digest>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let stored = journal.seen().into_iter().filter(|job| !job.evicted).flat_map(StoredJob::into_pictures);
            let stored = stored.map(|picture| picture.digest).filter(|digest| of.contains(digest)).collect();
            journal.answer(stored).await
        })
    }

    fn picture_copies(&self, of: Digest) -> BoxFuture<'static, Result<Vec<Bytes>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let copies = copies(&journal.records(), &of);
            journal.answer(copies).await
        })
    }

    fn has_jobs(&self) -> BoxFuture<'static, Result<bool, JournalError>> {
        let journal = self.clone();
        Box::pin(async move { journal.answer(!journal.seen().is_empty()).await })
    }

    fn quota_used_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut jobs = journal.seen();
            let day = |at: Timestamp| at.millis().div_euclid(24 * 60 * 60 * 1000);
            jobs.retain(|job| day(job.record.created) >= day(since));
            journal.answer(jobs.iter().flat_map(used_quota).collect()).await
        })
    }

    fn undecided(&self) -> BoxFuture<'static, Result<Vec<UndecidedPurchases>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move { journal.answer(undecided(&journal.seen())).await })
    }

    fn pending_webhooks(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut pending = pending(&journal.records());
            pending.retain(|one| job.is_none_or(|job| one.job == job));
            journal.answer(pending).await
        })
    }

    fn running_time(&self) -> RunningTime {
        let (stored, since) = self.opened;
        stored.plus(since.elapsed())
    }

    fn sync_seconds(&self) -> Histogram {
        Histogram::new([])
    }

    fn standing(&self) -> Standing {
        self.lock().standing
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let journal = self.clone();
        Box::pin(async move {
            journal.write_all();
            journal.sync_all();
            journal.lock().closed = true;
        })
    }
}
