//! The state that a list of records adds up to.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::model::{ClientId, Digest, Failure, JobId, PurchaseId, RunningTime, UpstreamId};
use crate::storage::journal::record::{JobRecord, Record};
use crate::storage::journal::stored::{
    PendingWebhook, ResultPage, Stamp, StoredJob, StoredPurchase, StoredResult, StoredState, UndecidedPurchases,
    UsedQuota,
};

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

/// Returns the purchases of unknown outcome. Decisions about them are not records, so none is considered.
pub(super) fn undecided(jobs: &[StoredJob]) -> Vec<UndecidedPurchases> {
    let mut undecided: Vec<UndecidedPurchases> = Vec::new();
    for job in jobs {
        let JobRecord { model, size, choices, inputs, .. } = &job.record;
        for purchase in job.purchases.iter().filter(|purchase| purchase.state.name() == "unknown") {
            let (purchases, pictures) = (1, purchase.pictures);
            let (model, choices) = (model.clone(), choices.clone());
            let one = UndecidedPurchases { purchases, model, pictures, size: *size, choices, inputs: *inputs };
            match undecided.iter_mut().find(|known| UndecidedPurchases { purchases: 1, ..(*known).clone() } == one) {
                Some(known) => known.purchases += 1,
                None => undecided.push(one),
            }
        }
    }
    undecided
}

/// Returns the webhooks of ended jobs that are pending after these records.
pub(super) fn pending(records: &[Written]) -> Vec<PendingWebhook> {
    let stored_jobs = jobs(records);
    let mut pending: Vec<PendingWebhook> = Vec::new();
    for (record, now) in records {
        match record {
            Record::Subscribed { job, webhook, .. } => {
                let known = pending.iter().any(|one| one.job == *job && one.webhook.url == webhook.url);
                let end = stored_jobs.iter().find(|stored| stored.record.id == *job).and_then(StoredJob::end);
                if let Some(end) = end.filter(|_| !known) {
                    pending.push(PendingWebhook { webhook: webhook.clone(), job: *job, tries: 0, due: None, end });
                }
            }
            Record::WebhookTried { webhook, tries, delay } => {
                for one in pending.iter_mut().filter(|one| one.webhook.id == *webhook) {
                    (one.tries, one.due) = (*tries, Some(now.plus(*delay)));
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
            | Record::Evicted { .. }
            | Record::Deleted { .. }
            | Record::PromptExpired { .. } => {}
        }
    }
    pending
}

/// Returns why the tables would refuse a record after these.
pub(super) fn problem<'a>(
    written: &(impl Iterator<Item = &'a Written> + Clone),
    record: &Record,
) -> Option<&'static str> {
    let knows = |id: JobId| written.clone().any(|(one, _)| matches!(one, Record::Intent { job, .. } if job.id == id));
    match record {
        Record::Intent { job, .. } => knows(job.id).then_some("a job twice"),
        Record::Accepted { purchase, upstream, .. } => {
            let has_id = |one: &Record| {
                let holder = if let Record::Accepted { purchase, upstream, .. } = one {
                    Some((purchase, upstream))
                } else if let Record::Resolved { purchase, upstream: Some(upstream), .. } = one {
                    Some((purchase, upstream))
                } else {
                    None
                };
                holder.is_some_and(|(other, id)| other != purchase && id == upstream)
            };
            let repeated = written.clone().any(|(one, _)| has_id(one));
            if repeated {
                Some("an upstream id twice")
            } else {
                (!knows(purchase.job)).then_some("an unknown purchase")
            }
        }
        Record::Committing { purchase, .. }
        | Record::Withdrawn { purchase }
        | Record::Resubmitted { purchase }
        | Record::Resolved { purchase, .. }
        | Record::Failed { purchase, .. } => (!knows(purchase.job)).then_some("an unknown purchase"),
        Record::Restored { purchase, .. } => {
            let resolves = |one: &Record| matches!(one, Record::Resolved { purchase: one, .. } if one == purchase);
            (!written.clone().any(|(one, _)| resolves(one))).then_some("pictures of a purchase that is not resolved")
        }
        Record::Delivered { job, .. }
        | Record::Evicted { job }
        | Record::Deleted { job }
        | Record::Subscribed { job, .. } => (!knows(*job)).then_some("an unknown job"),
        Record::PromptExpired { .. } | Record::WebhookTried { .. } | Record::WebhookEnded { .. } => None,
    }
}

/// Returns the bytes of a picture that these records have, of purchases that are not evicted.
pub(super) fn copies(records: &[Written], of: &Digest) -> Vec<Bytes> {
    let mut copies: Vec<(PurchaseId, Bytes)> = Vec::new();
    for (record, _) in records {
        match record {
            Record::Resolved { purchase, pictures, contents, .. } => {
                let places = pictures.iter().filter(|picture| picture.digest == *of).count();
                let content = contents.iter().find(|content| content.digest == *of);
                let copy = content.map(|content| (*purchase, content.bytes.clone()));
                copies.extend(copy.into_iter().cycle().take(places));
            }
            Record::Restored { purchase, .. } => copies.retain(|(of, _)| of != purchase),
            Record::Evicted { job } | Record::Deleted { job } => copies.retain(|(purchase, _)| purchase.job != *job),
            Record::PromptExpired { .. }
            | Record::Intent { .. }
            | Record::Committing { .. }
            | Record::Withdrawn { .. }
            | Record::Resubmitted { .. }
            | Record::Accepted { .. }
            | Record::Failed { .. }
            | Record::Delivered { .. }
            | Record::Subscribed { .. }
            | Record::WebhookTried { .. }
            | Record::WebhookEnded { .. } => {}
        }
    }
    copies.into_iter().map(|(_, bytes)| bytes).collect()
}

/// Returns jobs of a client, as `Journal::client_jobs`.
pub(super) fn client_jobs(
    mut jobs: Vec<StoredJob>,
    client: &ClientId,
    after: Option<JobId>,
    limit: usize,
) -> Option<Vec<StoredJob>> {
    jobs.retain(|job| job.record.client == *client);
    if let Some(after) = after {
        let at = jobs.iter().position(|job| job.record.id == after)?;
        jobs.truncate(at);
    }
    jobs.retain(|job| !job.deleted);
    jobs.reverse();
    jobs.truncate(limit);
    Some(jobs)
}

/// Returns jobs whose prompts have expired, as `Journal::expired_prompts`.
pub(super) fn expired_prompts(records: &[Written], kept_before: RunningTime, limit: usize) -> Vec<JobId> {
    let kept = |id: JobId| {
        let is_of = |record: &Record| matches!(record, Record::Intent { job, .. } if job.id == id);
        records.iter().find(|(record, _)| is_of(record)).is_some_and(|(_, at)| *at < kept_before)
    };
    let is_over = |job: &StoredJob| job.evicted || job.end().is_some_and(|end| !end.completed);
    let jobs = jobs(records).into_iter().filter(|job| job.record.prompt.is_some() && is_over(job));
    jobs.map(|job| job.record.id).filter(|&id| kept(id)).take(limit).collect()
}

/// Whether a job has pictures, or an unknown outcome.
pub(super) fn may_answer(job: &StoredJob) -> bool {
    job.purchases.iter().any(|purchase| match &purchase.state {
        StoredState::Resolved { .. } => !job.evicted,
        StoredState::Failed { failure, .. } => matches!(failure, Failure::OutcomeUnknown { .. }),
        StoredState::Intent | StoredState::Committing { .. } | StoredState::Accepted { .. } => false,
    })
}

/// Returns a page of the stored results among these jobs.
pub(super) fn stored_results(jobs: Vec<StoredJob>, page: ResultPage) -> Vec<StoredResult> {
    let ended = |job: &StoredJob| !job.evicted && job.end().is_some_and(|end| end.completed);
    let of_kind = |job: &StoredJob| (job.delivered.is_some(), job.record.shareable) == (page.delivered, page.shareable);
    let mut results: Vec<StoredResult> = jobs
        .into_iter()
        .filter(|job| ended(job) && of_kind(job))
        .map(|job| {
            let resolved = job.purchases.iter().filter(|one| matches!(one.state, StoredState::Resolved { .. }));
            let stored = resolved.filter_map(|purchase| purchase.ended).max().unwrap_or_default();
            StoredResult { job: job.record.id, stored, pictures: job.into_pictures() }
        })
        .filter(|result| result.stored < page.stored_before)
        .filter(|result| page.after.is_none_or(|after| (result.stored, result.job) > after))
        .collect();
    results.sort_by_key(|result| (result.stored, result.job));
    results.truncate(page.limit);
    results
}

pub(crate) fn has_ended(state: &StoredState) -> bool {
    matches!(state, StoredState::Resolved { .. } | StoredState::Failed { .. })
}

/// A record, and the running time at which it was written.
pub(super) type Written = (Record, RunningTime);

/// Returns the jobs that records add up to, in the order in which they were journalled.
pub(super) fn jobs(records: &[Written]) -> Vec<StoredJob> {
    let mut jobs: BTreeMap<JobId, StoredJob> = BTreeMap::new();
    for (record, now) in records {
        apply(&mut jobs, record, *now);
    }
    let intents = records.iter().filter_map(
        |(record, _)| {
            if let Record::Intent { job, .. } = record { Some(job.id) } else { None }
        },
    );
    intents.filter_map(|job| jobs.remove(&job)).collect()
}

fn has_upstream_id(jobs: &BTreeMap<JobId, StoredJob>, id: &UpstreamId) -> bool {
    jobs.values().flat_map(|job| &job.purchases).any(|purchase| purchase.state.upstream() == Some(id))
}

/// Applies one record, written at this running time, to the jobs that earlier records add up to.
pub(crate) fn apply(jobs: &mut BTreeMap<JobId, StoredJob>, record: &Record, now: RunningTime) {
    // An id belongs to one purchase.
    let is_taken = matches!(record, Record::Resolved { upstream: Some(id), .. } if has_upstream_id(jobs, id));
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
                    accepted: None,
                    ended: None,
                })
                .collect();
            let stored = StoredJob { record: job.clone(), purchases, delivered: None, evicted: false, deleted: false };
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
            stored.accepted = Some(now);
        }),
        Record::Resolved { purchase, upstream, poll_url, pictures, usage, at, .. } => set(purchase, &|stored| {
            let (upstream, poll_url) = if let StoredState::Accepted { upstream, poll_url, .. } = &stored.state {
                (Some(upstream.clone()), poll_url.clone())
            } else if let Some(known) = stored.state.upstream() {
                (Some(known.clone()), None)
            } else if is_taken {
                (None, None)
            } else {
                (upstream.clone(), poll_url.clone())
            };
            let pictures = pictures.clone();
            stored.state = StoredState::Resolved { upstream, poll_url, pictures, usage: *usage, at: *at };
            stored.ended = Some(now);
        }),
        Record::Restored { purchase, pictures } => set(purchase, &|stored| {
            if let StoredState::Resolved { pictures: before, .. } = &mut stored.state {
                before.clone_from(pictures);
            }
        }),
        Record::Failed { purchase, failure, at } => set(purchase, &|stored| {
            let upstream = stored.state.upstream().cloned();
            stored.state = StoredState::Failed { upstream, failure: failure.clone(), at: *at };
            stored.ended = Some(now);
        }),
        Record::Delivered { job, at } => {
            if let Some(stored) = jobs.get_mut(job) {
                stored.delivered.get_or_insert(Stamp { at: *at, running: now });
            }
        }
        Record::Evicted { job } | Record::Deleted { job } => {
            if let Some(stored) = jobs.get_mut(job) {
                stored.evicted = true;
                stored.deleted |= matches!(record, Record::Deleted { .. });
                stored.record.prompt = None;
            }
        }
        Record::PromptExpired { job } => {
            if let Some(stored) = jobs.get_mut(job) {
                stored.record.prompt = None;
            }
        }
        // Not part of a job's state.
        Record::Subscribed { .. } | Record::WebhookTried { .. } | Record::WebhookEnded { .. } => {}
    }
}
