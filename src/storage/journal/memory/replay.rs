//! The state that a list of records adds up to.

use std::collections::BTreeMap;

use crate::model::{JobId, PurchaseId};
use crate::storage::journal::record::{JobRecord, Record};
use crate::storage::journal::stored::{PendingWebhook, StoredJob, StoredPurchase, StoredState, UsedQuota};

/// Returns what a job has used of the quota. Decisions about unknown outcomes are not records, so none is considered.
pub(super) fn used_quota(job: &StoredJob) -> impl Iterator<Item = UsedQuota> {
    job.purchases.iter().filter_map(|purchase| {
        let requested = usize::from(purchase.pictures);
        let (pictures, usage) = match &purchase.state {
            StoredState::Committing { .. } => (requested, None),
            StoredState::Intent if purchase.lost_answers > 0 => (requested, None),
            StoredState::Resolved { pictures, usage, .. } => (pictures.len(), *usage),
            StoredState::Failed { failure, .. } if failure.may_have_been_bought() => (requested, None),
            StoredState::Intent | StoredState::Accepted { .. } | StoredState::Failed { .. } => return None,
        };
        let JobRecord { client, model, created, .. } = &job.record;
        Some(UsedQuota { client: client.clone(), model: model.clone(), created: *created, pictures, usage })
    })
}

/// Returns the webhooks of ended jobs that are pending after these records.
pub(super) fn pending(records: &[Record]) -> Vec<PendingWebhook> {
    let stored_jobs = jobs(records);
    let mut pending: Vec<PendingWebhook> = Vec::new();
    for record in records {
        match record {
            Record::Subscribed { job, webhook, .. } => {
                let known = pending.iter().any(|one| one.job == *job && one.webhook.url == webhook.url);
                let end = stored_jobs.iter().find(|stored| stored.record.id == *job).and_then(StoredJob::end);
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
            | Record::Restored { .. }
            | Record::Failed { .. }
            | Record::Delivered { .. }
            | Record::Evicted { .. } => {}
        }
    }
    pending
}

pub(crate) fn has_ended(state: &StoredState) -> bool {
    matches!(state, StoredState::Resolved { .. } | StoredState::Failed { .. })
}

/// Returns the jobs that records add up to, oldest first.
pub(super) fn jobs(records: &[Record]) -> Vec<StoredJob> {
    let mut jobs: BTreeMap<JobId, StoredJob> = BTreeMap::new();
    for record in records {
        apply(&mut jobs, record);
    }
    jobs.into_values().collect()
}

/// Applies one record to the jobs that earlier records add up to.
pub(crate) fn apply(jobs: &mut BTreeMap<JobId, StoredJob>, record: &Record) {
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
                    format: None,
                    account: None,
                    lost_answers: 0,
                    resolution: None,
                })
                .collect();
            let stored = StoredJob { record: job.clone(), purchases, delivered: None, evicted: false };
            jobs.insert(job.id, stored);
        }
        Record::Committing { purchase, account, api_kind, format, at } => set(purchase, &|stored| {
            stored.state = StoredState::Committing { since: *at };
            stored.account = Some(account.clone());
            stored.api_kind = *api_kind;
            stored.format = Some(format.clone());
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
            let upstream = stored.state.upstream().cloned();
            let poll_url = match &stored.state {
                StoredState::Accepted { poll_url, .. } => poll_url.clone(),
                _ => None,
            };
            let pictures = pictures.clone();
            stored.state = StoredState::Resolved { upstream, poll_url, pictures, usage: *usage, at: *at };
        }),
        Record::Restored { purchase, pictures } => set(purchase, &|stored| {
            if let StoredState::Resolved { pictures: before, .. } = &mut stored.state {
                before.clone_from(pictures);
            }
        }),
        Record::Failed { purchase, failure, at } => set(purchase, &|stored| {
            let upstream = stored.state.upstream().cloned();
            stored.state = StoredState::Failed { upstream, failure: failure.clone(), at: *at };
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
