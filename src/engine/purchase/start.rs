//! From a request to a waiter: what is stored or under way answers it, or a new job is listed.

use std::sync::Arc;

use tokio::time::Instant;

use crate::budget::{QueueFull, QueueSlot};
use crate::config::CacheMode;
use crate::engine::core::Core;
use crate::engine::jobs::{JobRequest, ListOutcome, PurchaseEnd, StartTimes, WaitMode};
use crate::engine::purchase::forecast::queued_submits;
use crate::engine::reuse::ReusePolicy;
use crate::engine::waiter::{AnswerSource, Waiter};
use crate::model::{
    ApiKind, CostEstimate, Failure, Fingerprint, JobId, LimitExceeded, PictureRequest, PurchaseId, QuotaHold, Usd,
    Webhook,
};
use crate::storage::JournalError;
use crate::storage::journal::{JobRecord, Record};

/// A new job before it is listed: recorded, priced, within its client's quota, and with its purchases queued.
struct NewJob {
    record: Arc<JobRecord>,
    request: PictureRequest,
    webhook: Option<Webhook>,
    /// The number of pictures of each purchase.
    pictures: Vec<u8>,
    slots: Vec<QueueSlot>,
    quota: Box<dyn QuotaHold>,
    times: StartTimes,
}

impl Core {
    /// Answers from what is stored, joins what is under way, or begins to buy.
    pub(in crate::engine) async fn submit(self: &Arc<Self>, job: JobRequest) -> Result<Waiter, Failure> {
        let (kept, webhook) = (job.wait_mode == WaitMode::Away, job.webhook.clone());
        let start_by = self.start_by(&job);
        let mut waiter = self.find_or_start(job, start_by).await?;
        // A new job is listed as kept, and journalled with its webhook.
        let is_new = matches!(waiter.origin(), AnswerSource::Bought | AnswerSource::Bypass);
        if kept && !is_new {
            self.jobs.keep_alive(waiter.job(), start_by);
        }
        if let Some(webhook) = webhook.filter(|_| !is_new) {
            self.subscribe(&mut waiter, webhook).await?;
        }
        if kept {
            waiter.recorded().await;
        }
        Ok(waiter)
    }

    async fn find_or_start(self: &Arc<Self>, job: JobRequest, start_by: Instant) -> Result<Waiter, Failure> {
        let fingerprint = Fingerprint::of(&job.client, &job.request);
        if let Some(key) = &job.key
            && let Some(waiter) = self.find_by_key(&job.client, key, fingerprint, start_by).await?
        {
            return Ok(waiter);
        }
        if let Some((job, failure)) = self.pending_failures.remove(&fingerprint) {
            return Ok(self.waiter_for_failure(job, failure));
        }
        let policy = ReusePolicy {
            cache_allowed: self.settings.cache == CacheMode::On && !job.fresh,
            is_retry: job.is_retry,
            // A key that was used before has been answered above.
            force_new: job.fresh || job.key.is_some(),
        };
        if let Some(waiter) = self.join(fingerprint, policy, start_by) {
            return Ok(waiter);
        }
        if let Some(waiter) = self.find_stored(fingerprint, policy).await? {
            return Ok(waiter);
        }
        self.start(job, fingerprint, policy, start_by)
    }

    /// Lists a new job and starts the task that owns it.
    fn start(
        self: &Arc<Self>,
        job: JobRequest,
        fingerprint: Fingerprint,
        policy: ReusePolicy,
        start_by: Instant,
    ) -> Result<Waiter, Failure> {
        self.check_may_buy()?;
        let NewJob { record, request, webhook, pictures, slots, quota, times } =
            self.new_job(job, fingerprint, start_by)?;
        match self.jobs.list_or_join(Arc::clone(&record), pictures.clone(), quota, policy, times)? {
            ListOutcome::Joined(other, slot) => {
                self.count_joined(&record);
                Ok(self.waiter(other, AnswerSource::Joined, slot))
            }
            ListOutcome::New(slot) => {
                self.metrics.started();
                let origin = if policy.cache_allowed { AnswerSource::Bought } else { AnswerSource::Bypass };
                let waiter = self.waiter(record.id, origin, slot);
                let core = Arc::clone(self);
                let run = async move { core.run(record, webhook, request, pictures, slots).await };
                self.lifecycle.spawn("job", run);
                Ok(waiter)
            }
        }
    }

    fn check_may_buy(&self) -> Result<(), Failure> {
        if self.lifecycle.is_draining() {
            Err(Failure::Stopping)
        } else if self.storage_failed() {
            Err(Failure::JournalUnavailable)
        } else if !self.room.has_space() {
            Err(Failure::DiskFull)
        } else {
            Ok(())
        }
    }

    /// Prices a job, checks that it starts in time, reserves its client's quota and queues its purchases.
    fn new_job(&self, job: JobRequest, fingerprint: Fingerprint, start_by: Instant) -> Result<NewJob, Failure> {
        let now = self.clock.now();
        let JobRequest { client, request, private, key, wait_mode, webhook, .. } = job;
        let record = Arc::new(JobRecord {
            id: JobId::new(now, self.rng.bits()),
            client,
            fingerprint,
            task: request.task,
            model: request.model.clone(),
            size: request.size,
            choices: request.choices.clone(),
            n: request.n,
            shareable: !private,
            idempotency_key: key,
            respond_async: wait_mode == WaitMode::Away,
            created: now,
        });
        let Some(model) = self.catalogue.find(&request.model) else {
            return Err(Failure::InvalidRequest { message: format!("there is no model {}", request.model) });
        };
        let pictures = model.split(request.api_kind, request.task, request.n);
        let prices: Vec<Usd> = pictures.iter().map(|&pictures| model.price.of(usize::from(pictures), None)).collect();
        let submits = queued_submits(&record, &request, &prices);
        let mut expected_start = Instant::now();
        if let Some(first) = submits.first() {
            expected_start += self.check_starts_in_time(first, start_by)?;
        }
        let all_pictures = usize::from(request.n);
        let usd = model.price.of(all_pictures, None);
        let cost = CostEstimate { purchases: pictures.len(), pictures: all_pictures, usd };
        let quota = self
            .quotas
            .reserve(&record.client, cost)
            .map_err(|LimitExceeded { limit, retry_after }| Failure::LimitExceeded { limit, retry_after })?;
        let slots = submits.into_iter().map(|submit| self.budget.queue(submit)).collect::<Result<_, _>>();
        let slots = slots.map_err(|QueueFull { retry_after }| Failure::QueueFull { retry_after })?;
        let times = StartTimes { start_by, expected_start };
        Ok(NewJob { record, request, webhook, pictures, slots, quota, times })
    }

    /// Owns a job until each of its purchases is accepted or has ended.
    async fn run(
        self: Arc<Self>,
        record: Arc<JobRecord>,
        webhook: Option<Webhook>,
        request: PictureRequest,
        pictures: Vec<u8>,
        slots: Vec<QueueSlot>,
    ) {
        let purchases: Vec<(PurchaseId, u8)> =
            (0..).zip(&pictures).map(|(slot, &pictures)| (PurchaseId { job: record.id, slot }, pictures)).collect();
        // The upload begins while the intent is being synced. That buys nothing: the journal keeps the order of its
        // records, so the commit record, for which the last byte waits, is never durable without the intent.
        let intent = self.journal_intent(&record, request.api_kind, &purchases, webhook);
        let mut recorded = std::pin::pin!(async {
            intent.await.inspect(|()| self.jobs.mark_recorded(record.id)).inspect_err(|error| {
                tracing::error!(job = %record.id, %error, "the intent could not be journalled; nothing is bought");
            })
        });
        let submits = purchases.iter().zip(slots);
        let submits = submits.map(|(&(purchase, pictures), slot)| self.buy(purchase, pictures, &request, slot));
        let mut submits = std::pin::pin!(futures_util::future::join_all(submits));
        let known = tokio::select! {
            biased;
            known = &mut recorded => known,
            _ = &mut submits => {
                let _ = recorded.await;
                return;
            }
        };
        match known {
            Ok(()) => {
                submits.await;
            }
            Err(_) => {
                for &(purchase, _) in &purchases {
                    self.settle(purchase, PurchaseEnd::Failure(Failure::JournalUnavailable));
                }
            }
        }
    }

    /// Journals the intent, and the webhook that is notified of the end: nothing is bought before both are durable.
    /// Both records are on their way when this returns.
    fn journal_intent(
        &self,
        record: &JobRecord,
        api_kind: ApiKind,
        purchases: &[(PurchaseId, u8)],
        webhook: Option<Webhook>,
    ) -> impl Future<Output = Result<(), JournalError>> + use<> {
        let intent = Record::Intent { job: record.clone(), api_kind, purchases: purchases.to_vec() };
        let intent = self.journal.append(intent);
        let subscribed = webhook.map(|webhook| {
            let subscribed = Record::Subscribed { job: record.id, webhook, at: record.created };
            self.journal.append(subscribed)
        });
        async move {
            intent.await?;
            match subscribed {
                Some(subscribed) => subscribed.await,
                None => Ok(()),
            }
        }
    }
}
