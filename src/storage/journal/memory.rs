//! A journal in memory whose disk can lose what was not synced, for simulations. Compiled for tests only.
//!
//! A record is first written, later synced. With [`SyncMode::Full`] `append` answers when the record is synced, as the
//! real journal does; with [`SyncMode::Off`] `append` answers at once, as `synchronous=OFF` would, and a power cut can
//! lose acknowledged records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::record::{JobRecord, Record};
use super::stored::{PendingWebhook, StoredJob, StoredPurchase, StoredResult, StoredState, UsedQuota};
use super::traits::{Journal, JournalError};
use crate::model::{ClientId, Failure, Fingerprint, IdempotencyKey, JobId, PurchaseId, Timestamp};

/// When `append` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncMode {
    Full,
    Off,
}

/// What is on the disk. Outlives the gateways that write to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    durable: Arc<Mutex<Vec<Record>>>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the jobs that the durable records add up to.
    pub(crate) fn jobs(&self) -> Vec<StoredJob> {
        add_up(&self.lock())
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
}

#[derive(Debug, Default)]
struct Shared {
    /// Written, not synced.
    unsynced: Vec<Record>,
    /// The power was cut: no call completes any more.
    dead: bool,
    /// Syncing fails from now on.
    broken: bool,
    /// The number of answers after which the power is cut.
    answers_left: Option<usize>,
}

impl MemoryJournal {
    pub(crate) fn on(disk: &Disk, sync_time: Duration, sync: SyncMode) -> Self {
        Self { disk: disk.clone(), shared: Arc::default(), sync_time, sync }
    }

    /// Cuts the power: what was not synced is lost, and no call completes.
    pub(crate) fn cut_power(&self) {
        let mut shared = self.lock();
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

    /// Makes every sync from now on fail.
    pub(crate) fn break_disk(&self) {
        self.lock().broken = true;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs everything that was written.
    fn sync_all(&self) {
        let mut shared = self.lock();
        if !shared.dead && !shared.broken {
            self.disk.lock().append(&mut shared.unsynced);
        }
    }

    /// Returns what a running gateway reads: everything written, synced or not.
    fn seen(&self) -> Vec<StoredJob> {
        add_up(&self.records())
    }

    fn records(&self) -> Vec<Record> {
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
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), JournalError>> {
        let journal = self.clone();
        {
            let mut shared = self.lock();
            if !shared.dead && !shared.broken {
                shared.unsynced.push(record);
            }
        }
        Box::pin(async move {
            if journal.sync == SyncMode::Off {
                // The record is synced with the next sync, if one follows.
                return journal.answer(()).await;
            }
            tokio::time::sleep(journal.sync_time).await;
            journal.sync_all();
            journal.answer(()).await?;
            if journal.failed() { Err(JournalError::Failed) } else { Ok(()) }
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
            jobs.retain(|job| job.record.fingerprint == fingerprint);
            jobs.reverse();
            jobs.truncate(limit);
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

    fn stored_results(&self) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut jobs = journal.seen();
            jobs.retain(|job| !job.evicted && job.purchases.iter().all(|purchase| has_ended(&purchase.state)));
            journal.answer(jobs.into_iter().filter_map(StoredJob::into_result).collect()).await
        })
    }

    fn quota_used_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut jobs = journal.seen();
            jobs.retain(|job| job.record.created >= since);
            journal.answer(jobs.iter().flat_map(used_quota).collect()).await
        })
    }

    fn pending_webhooks(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut pending = pending(&journal.records());
            pending.retain(|one| job.is_none_or(|job| one.job == job));
            journal.answer(pending).await
        })
    }

    fn failed(&self) -> bool {
        self.lock().broken
    }
}

/// Returns what a job has used of the quota. Decisions about unknown outcomes are not records, so none is considered.
fn used_quota(job: &StoredJob) -> impl Iterator<Item = UsedQuota> {
    job.purchases.iter().filter_map(|purchase| {
        let requested = usize::from(purchase.pictures);
        let (pictures, usage) = match &purchase.state {
            StoredState::Committing { .. } => (requested, None),
            StoredState::Resolved { pictures, usage, .. } => (pictures.len(), *usage),
            StoredState::Failed { failure, .. } if failure.may_have_been_bought() => (requested, None),
            StoredState::Intent | StoredState::Accepted { .. } | StoredState::Failed { .. } => return None,
        };
        let JobRecord { client, model, created, .. } = &job.record;
        Some(UsedQuota { client: client.clone(), model: model.clone(), created: *created, pictures, usage })
    })
}

/// Returns the webhooks of ended jobs that are pending after these records.
fn pending(records: &[Record]) -> Vec<PendingWebhook> {
    let jobs = add_up(records);
    let mut pending: Vec<PendingWebhook> = Vec::new();
    for record in records {
        match record {
            Record::Subscribed { job, webhook, .. } => {
                let known = pending.iter().any(|one| one.job == *job && one.webhook.url == webhook.url);
                let end = jobs.iter().find(|stored| stored.record.id == *job).and_then(StoredJob::end);
                if let Some(end) = end.filter(|_| !known) {
                    pending.push(PendingWebhook { webhook: webhook.clone(), job: *job, tries: 0, due: None, end });
                }
            }
            Record::WebhookTried { webhook, tries, due } => {
                for one in pending.iter_mut().filter(|one| one.webhook.id == *webhook) {
                    (one.tries, one.due) = (*tries, Some(*due));
                }
            }
            Record::WebhookEnded { webhook, .. } => pending.retain(|one| one.webhook.id != *webhook),
            Record::Intent { .. }
            | Record::Committing { .. }
            | Record::Withdrawn { .. }
            | Record::Resubmitted { .. }
            | Record::Accepted { .. }
            | Record::Resolved { .. }
            | Record::Failed { .. }
            | Record::Delivered { .. }
            | Record::Evicted { .. } => {}
        }
    }
    pending
}

fn has_ended(state: &StoredState) -> bool {
    matches!(state, StoredState::Resolved { .. } | StoredState::Failed { .. })
}

/// Returns the jobs that records add up to, oldest first.
fn add_up(records: &[Record]) -> Vec<StoredJob> {
    let mut jobs: BTreeMap<JobId, StoredJob> = BTreeMap::new();
    for record in records {
        apply(&mut jobs, record);
    }
    jobs.into_values().collect()
}

fn apply(jobs: &mut BTreeMap<JobId, StoredJob>, record: &Record) {
    let mut set = |id: &PurchaseId, change: &dyn Fn(&mut StoredPurchase)| {
        let purchase = jobs.get_mut(&id.job).and_then(|job| job.purchases.get_mut(usize::from(id.slot)));
        // Without syncs an intent can be lost while a later record of its purchase survives: that record is ignored.
        if let Some(purchase) = purchase {
            change(purchase);
        }
    };
    match record {
        Record::Intent { job, api_kind, purchases } => {
            let purchases = purchases
                .iter()
                .map(|&(id, pictures)| StoredPurchase {
                    id,
                    pictures,
                    state: StoredState::Intent,
                    api_kind: *api_kind,
                    account: None,
                    lost_answers: 0,
                    resolution: None,
                })
                .collect();
            let stored = StoredJob { record: job.clone(), purchases, delivered: None, evicted: false };
            jobs.insert(job.id, stored);
        }
        Record::Committing { purchase, account, at } => set(purchase, &|stored| {
            stored.state = StoredState::Committing { since: *at };
            stored.account = Some(account.clone());
        }),
        Record::Withdrawn { purchase } => set(purchase, &|stored| stored.state = StoredState::Intent),
        Record::Resubmitted { purchase } => set(purchase, &|stored| {
            stored.state = StoredState::Intent;
            stored.lost_answers += 1;
        }),
        Record::Accepted { purchase, upstream, poll_url, at } => set(purchase, &|stored| {
            stored.state = StoredState::Accepted { upstream: upstream.clone(), poll_url: poll_url.clone(), since: *at };
        }),
        Record::Resolved { purchase, pictures, usage, at } => set(purchase, &|stored| {
            let upstream = upstream_of(&stored.state);
            stored.state = StoredState::Resolved { upstream, pictures: pictures.clone(), usage: *usage, at: *at };
        }),
        Record::Failed { purchase, failure, at } => set(purchase, &|stored| {
            let failure: Failure = failure.clone();
            stored.state = StoredState::Failed { upstream: upstream_of(&stored.state), failure, at: *at };
        }),
        Record::Delivered { job, at } => {
            if let Some(stored) = jobs.get_mut(job) {
                stored.delivered.get_or_insert(*at);
            }
        }
        Record::Evicted { job } => {
            if let Some(stored) = jobs.get_mut(job) {
                stored.evicted = true;
            }
        }
        // Not part of a job's state.
        Record::Subscribed { .. } | Record::WebhookTried { .. } | Record::WebhookEnded { .. } => {}
    }
}

fn upstream_of(state: &StoredState) -> Option<crate::model::UpstreamId> {
    match state {
        StoredState::Accepted { upstream, .. } => Some(upstream.clone()),
        StoredState::Resolved { upstream, .. } | StoredState::Failed { upstream, .. } => upstream.clone(),
        StoredState::Intent | StoredState::Committing { .. } => None,
    }
}
