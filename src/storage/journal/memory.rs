//! A journal in memory whose disk can lose what was not synced, for simulations.
//!
//! A record is first written, later synced. With [`Durability::Kept`] `append` answers when it is synced, as the real
//! journal does; with [`Durability::Broken`] it answers at once, as `synchronous=OFF` would, and a power cut can take back
//! what was promised.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{
    JobRecord, Journal, JournalError, PendingWebhook, Record, StoredJob, StoredPurchase, StoredResult, StoredState,
    UsedQuota,
};
use crate::model::{ClientId, Failure, Fingerprint, IdempotencyKey, JobId, PurchaseId, Timestamp};

/// When `append` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Kept,
    Broken,
}

/// What is on the disk: it outlives the gateways that write to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    durable: Arc<Mutex<Vec<Record>>>,
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The orders that the durable records add up to.
    pub(crate) fn jobs(&self) -> Vec<StoredJob> {
        add_up(&self.lock())
    }

    /// How many records survive.
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
    promise: Durability,
}

#[derive(Debug, Default)]
struct Shared {
    /// Written, not synced.
    unsynced: Vec<Record>,
    /// The power was cut: nothing answers any more.
    dead: bool,
    /// Syncing fails from now on.
    broken: bool,
    /// The power goes when so many answers more have been given.
    answers_left: Option<usize>,
}

impl MemoryJournal {
    pub(crate) fn on(disk: &Disk, sync_time: Duration, promise: Durability) -> Self {
        Self { disk: disk.clone(), shared: Arc::default(), sync_time, promise }
    }

    /// Cuts the power: what was not synced is gone, and nobody gets an answer.
    pub(crate) fn cut_power(&self) {
        let mut shared = self.lock();
        shared.unsynced.clear();
        shared.dead = true;
    }

    /// Cuts the power once it has given `answers` more answers.
    pub(crate) fn cut_power_after(&self, answers: usize) {
        self.lock().answers_left = Some(answers);
    }

    /// Forgets a power cut that has not come.
    pub(crate) fn keep_power(&self) {
        self.lock().answers_left = None;
    }

    /// Lets every sync from now on fail.
    pub(crate) fn break_disk(&self) {
        self.lock().broken = true;
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs everything that was written.
    fn sync(&self) {
        let mut shared = self.lock();
        if !shared.dead && !shared.broken {
            self.disk.lock().append(&mut shared.unsynced);
        }
    }

    /// What a running gateway reads: everything written, synced or not.
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
            if journal.promise == Durability::Broken {
                // Answered before anything is safe; the sync comes when it comes.
                return journal.answer(()).await;
            }
            tokio::time::sleep(journal.sync_time).await;
            journal.sync();
            journal.answer(()).await?;
            if journal.failed() { Err(JournalError::Failed) } else { Ok(()) }
        })
    }

    fn unsettled(&self) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut jobs = journal.seen();
            jobs.retain(|job| job.purchases.iter().any(|purchase| !has_ended(&purchase.state)));
            journal.answer(jobs).await
        })
    }

    fn newest(
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

    fn by_key(
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

    fn with_pictures(&self) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut jobs = journal.seen();
            jobs.retain(|job| !job.forgotten && job.purchases.iter().all(|purchase| has_ended(&purchase.state)));
            journal.answer(jobs.into_iter().filter_map(StoredJob::shelved).collect()).await
        })
    }

    fn spent_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut jobs = journal.seen();
            jobs.retain(|job| job.record.created >= since);
            journal.answer(jobs.iter().flat_map(spent).collect()).await
        })
    }

    fn untold(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>> {
        let journal = self.clone();
        Box::pin(async move {
            let mut untold = untold(&journal.records());
            untold.retain(|one| job.is_none_or(|job| one.job == job));
            journal.answer(untold).await
        })
    }

    fn failed(&self) -> bool {
        self.lock().broken
    }
}

/// What an order has used up. Decisions about unknown outcomes are not among the records, so there is none here.
fn spent(job: &StoredJob) -> impl Iterator<Item = UsedQuota> {
    job.purchases.iter().filter_map(|purchase| {
        let wanted = usize::from(purchase.pictures);
        let (pictures, usage) = match &purchase.state {
            StoredState::Committing { .. } => (wanted, None),
            StoredState::Resolved { pictures, usage, .. } => (pictures.len(), *usage),
            StoredState::Failed { failure, .. } if failure.may_have_been_bought() => (wanted, None),
            StoredState::Intent | StoredState::Accepted { .. } | StoredState::Failed { .. } => return None,
        };
        let JobRecord { client, model, created, .. } = &job.record;
        Some(UsedQuota { client: client.clone(), model: model.clone(), ordered: *created, pictures, usage })
    })
}

/// The webhooks of ended orders that records leave untold.
fn untold(records: &[Record]) -> Vec<PendingWebhook> {
    let jobs = add_up(records);
    let mut untold: Vec<PendingWebhook> = Vec::new();
    for record in records {
        match record {
            Record::Subscribed { job, webhook, .. } => {
                let known = untold.iter().any(|one| one.job == *job && one.webhook.url == webhook.url);
                let end = jobs.iter().find(|stored| stored.record.id == *job).and_then(StoredJob::end);
                if let Some(end) = end.filter(|_| !known) {
                    untold.push(PendingWebhook { webhook: webhook.clone(), job: *job, tries: 0, due: None, end });
                }
            }
            Record::WebhookTried { webhook, tries, due } => {
                for one in untold.iter_mut().filter(|one| one.webhook.id == *webhook) {
                    (one.tries, one.due) = (*tries, Some(*due));
                }
            }
            Record::WebhookEnded { webhook, .. } => untold.retain(|one| one.webhook.id != *webhook),
            Record::Intent { .. }
            | Record::Committing { .. }
            | Record::Withdrawn { .. }
            | Record::Resubmitted { .. }
            | Record::Accepted { .. }
            | Record::Resolved { .. }
            | Record::Failed { .. }
            | Record::Delivered { .. }
            | Record::Forgotten { .. } => {}
        }
    }
    untold
}

fn has_ended(state: &StoredState) -> bool {
    matches!(state, StoredState::Resolved { .. } | StoredState::Failed { .. })
}

/// The orders that records add up to, oldest first.
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
        // A broken promise can lose the intent of what came later: such a record says nothing.
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
            let stored = StoredJob { record: job.clone(), purchases, delivered: None, forgotten: false };
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
        Record::Forgotten { job } => {
            if let Some(stored) = jobs.get_mut(job) {
                stored.forgotten = true;
            }
        }
        // No part of an order's own state.
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
