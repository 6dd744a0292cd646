//! From an intent to an accepted prediction: journal, budget, upload, journal, last byte, journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::forecast::{class_of, submits};
use super::jobs::{Begun, End, Followed, Times};
use super::life::{AfterSubmit, FetchTrouble, Following, after_submit};
use super::{AnswerSource, Core, JobRequest, Presence, ReusePolicy, Waiter};
use crate::budget::{Granted, InFlightPermit, Pushback, QueueFull, QueueSlot};
use crate::model::{
    AccountId, ApiKind, CostEstimate, Failure, Fingerprint, JobId, LimitExceeded, PictureRequest, PurchaseId, Usd,
    Webhook,
};
use crate::storage::JournalError;
use crate::storage::journal::{JobRecord, Record};
use crate::upstream::{Commit, Finished, PurchaseHandle};

/// A call that is held this long after its last byte was not refused at the door.
const TAKEN_AFTER: Duration = Duration::from_secs(5);

impl Core {
    /// Lists a new order and starts the task that owns it.
    pub(super) fn begin(
        self: &Arc<Self>,
        job: JobRequest,
        fingerprint: Fingerprint,
        asker: ReusePolicy,
        origin: AnswerSource,
        start_by: Instant,
    ) -> Result<Waiter, Failure> {
        if self.lifecycle.is_draining() {
            return Err(Failure::Stopping);
        }
        if self.storage_failed() {
            return Err(Failure::JournalUnavailable);
        }
        if !self.room.has_space() {
            return Err(Failure::DiskFull);
        }
        let now = self.clock.now();
        let JobRequest { client, request, private, key, presence, webhook, .. } = job;
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
            respond_async: presence == Presence::Away,
            created: now,
        });
        let Some(model) = self.catalogue.find(&request.model) else {
            return Err(Failure::InvalidRequest { message: format!("there is no model {}", request.model) });
        };
        let parts = model.split(request.api_kind, request.task, request.n);
        let prices: Vec<Usd> = parts.iter().map(|&pictures| model.price.of(usize::from(pictures), None)).collect();
        let submits = submits(&record, &request, &prices);
        let mut expected_start = Instant::now();
        if let Some(first) = submits.first() {
            expected_start += self.check_in_time(first, start_by)?;
        }
        let times = Times { start_by, expected_start };
        let pictures = usize::from(request.n);
        let usd = model.price.of(pictures, None);
        let expense = CostEstimate { purchases: parts.len(), pictures, usd };
        let quota = self
            .quotas
            .reserve(&record.client, expense)
            .map_err(|LimitExceeded { limit, retry_after }| Failure::LimitExceeded { limit, retry_after })?;
        let places = submits.into_iter().map(|submit| self.budget.queue(submit));
        let places: Vec<QueueSlot> =
            places.collect::<Result<_, _>>().map_err(|QueueFull { retry_after }| Failure::QueueFull { retry_after })?;
        match self.jobs.begin(Arc::clone(&record), parts.clone(), quota, asker, times)? {
            Begun::Joined(other, seat) => {
                self.count_joined(&record);
                Ok(self.waiter(other, AnswerSource::Joined, seat))
            }
            Begun::Listed(seat) => {
                self.metrics.began();
                let waiter = self.waiter(record.id, origin, seat);
                let core = Arc::clone(self);
                self.lifecycle.spawn("order", async move { core.run(record, webhook, request, parts, places).await });
                Ok(waiter)
            }
        }
    }

    /// Owns an order until each of its predictions is accepted or has ended.
    async fn run(
        self: Arc<Self>,
        record: Arc<JobRecord>,
        webhook: Option<Webhook>,
        request: PictureRequest,
        parts: Vec<u8>,
        places: Vec<QueueSlot>,
    ) {
        let purchases: Vec<(PurchaseId, u8)> =
            (0..).zip(&parts).map(|(slot, &pictures)| (PurchaseId { job: record.id, slot }, pictures)).collect();
        // The upload begins while the intent is being synced. Nothing is bought by that: the journal keeps the order of its
        // records, so what says that a purchase is being made, for which the last byte waits, is never durable without it.
        let intent = self.journal_intent(&record, request.api_kind, &purchases, webhook);
        let mut recorded = std::pin::pin!(async {
            intent.await.inspect(|()| self.jobs.recorded(record.id)).inspect_err(|error| {
                tracing::error!(job = %record.id, %error, "the intent could not be journalled; nothing is bought");
            })
        });
        let launches = purchases.iter().zip(places);
        let launches = launches.map(|(&(purchase, pictures), place)| self.launch(purchase, pictures, &request, place));
        let mut launches = std::pin::pin!(join_all(launches));
        let known = tokio::select! {
            biased;
            known = &mut recorded => known,
            _ = &mut launches => {
                let _ = recorded.await;
                return;
            }
        };
        match known {
            Ok(()) => {
                launches.await;
            }
            Err(_) => {
                for &(purchase, _) in &purchases {
                    self.settle(purchase, End::Failure(Failure::JournalUnavailable));
                }
            }
        }
    }

    /// Journals the wish, and who is to be told of its end: nothing is bought before both are known. They are on their way
    /// when this returns.
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

    async fn launch(
        self: &Arc<Self>,
        purchase: PurchaseId,
        pictures: u8,
        request: &PictureRequest,
        first_place: QueueSlot,
    ) {
        let mut place = first_place;
        let mut attempt = 0;
        let mut keys_refused = 0;
        loop {
            // In this order: what nobody wants any more is not bought, also when its turn has just come.
            let granted = tokio::select! {
                biased;
                () = self.jobs.abandoned(purchase.job) => return self.end(purchase, Failure::Abandoned).await,
                () = self.lifecycle.draining() => return self.end(purchase, Failure::Stopping).await,
                () = self.jobs.too_late(purchase.job) => return self.end_in_vain(purchase).await,
                granted = place.granted() => granted,
            };
            let Granted { reservation, mut in_flight } = match granted {
                Ok(granted) => granted,
                Err(failure) => return self.end(purchase, failure).await,
            };
            if !self.jobs.start_submit(purchase) {
                return self.end(purchase, Failure::Abandoned).await;
            }
            attempt += 1;
            let committing = Arc::new(AtomicBool::new(false));
            let (told, committed) = oneshot::channel();
            let commit = self.commit(purchase, in_flight.account().clone(), Arc::clone(&committing), told);
            let submit = self.upstream.submit(reservation, request, pictures, commit);
            let sent = Instant::now();
            let result = match request.api_kind {
                ApiKind::OpenAi => held(submit, committed, || in_flight.accepted()).await,
                ApiKind::Prediction | ApiKind::Unified => submit.await,
            };
            self.metrics.submitted(request.api_kind, result.as_ref().err());
            match &result {
                Ok(_) => in_flight.accepted(),
                Err(error) => tracing::warn!(%purchase, account = %in_flight.account(), attempt, ?error, "submit"),
            }
            let mut undone = Record::Withdrawn { purchase };
            let settings = &self.settings;
            let pause = match after_submit(result, attempt, settings.submit_attempts_max, settings.on_unknown) {
                AfterSubmit::Follow(handle) => return self.follow(purchase, handle, pictures, in_flight).await,
                AfterSubmit::Collect { handle, finished } => {
                    return self.collect_at_once(purchase, handle, finished, pictures, in_flight, sent).await;
                }
                AfterSubmit::End(failure) => return self.end(purchase, failure).await,
                AfterSubmit::Again { pause } => {
                    drop(in_flight);
                    pause
                }
                AfterSubmit::Resubmit { pause } => {
                    self.metrics.unknown(self.estimate(&request.model, pictures));
                    undone = Record::Resubmitted { purchase };
                    drop(in_flight);
                    pause
                }
                AfterSubmit::PushedBack(pushback) => {
                    // The budget knows when, and with whose key. It is no try that went wrong.
                    let reason = if let Pushback::Key { reason } = &pushback { Some(reason.clone()) } else { None };
                    in_flight.refused(pushback);
                    if let Some(reason) = reason {
                        keys_refused += 1;
                        if !self.budget.has_another_key(keys_refused) {
                            return self.end(purchase, reason).await;
                        }
                    }
                    attempt -= 1;
                    // A refusal after the budget was told of an acceptance teaches it nothing, and so holds nobody back.
                    if request.api_kind == ApiKind::OpenAi && sent.elapsed() >= TAKEN_AFTER {
                        TAKEN_AFTER
                    } else {
                        Duration::ZERO
                    }
                }
            };
            if committing.load(Ordering::Acquire)
                && let Err(error) = self.journal.append(undone).await
            {
                tracing::error!(%purchase, %error, "a withdrawn purchase could not be journalled");
            }
            if self.journal.failed() {
                return self.end(purchase, Failure::JournalUnavailable).await;
            }
            self.jobs.requeue(purchase);
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                () = self.lifecycle.draining() => return self.end(purchase, Failure::Stopping).await,
            }
            place = place.again();
        }
    }

    /// Ends a prediction whose turn does not come while somebody could still use it.
    async fn end_in_vain(&self, purchase: PurchaseId) {
        let Some(record) = self.jobs.record(purchase.job) else { return };
        self.end(purchase, self.waited_in_vain(&record)).await;
    }

    /// What happens between the last byte but one and the last: the journal learns that the purchase is being made.
    fn commit(
        self: &Arc<Self>,
        purchase: PurchaseId,
        account: AccountId,
        committing: Arc<AtomicBool>,
        told: oneshot::Sender<()>,
    ) -> Commit {
        let core = Arc::clone(self);
        Box::new(move || {
            async move {
                let record = Record::Committing { purchase, account, at: core.clock.now() };
                match core.journal.append(record).await {
                    Ok(()) => {
                        committing.store(true, Ordering::Release);
                        // Nobody listens where the answer comes at once.
                        let _ = told.send(());
                        true
                    }
                    Err(error) => {
                        tracing::error!(%purchase, %error, "a purchase could not be journalled; it is not made");
                        false
                    }
                }
            }
            .boxed()
        })
    }

    async fn follow(
        self: &Arc<Self>,
        purchase: PurchaseId,
        handle: PurchaseHandle,
        pictures: u8,
        in_flight: InFlightPermit,
    ) {
        self.journal_accepted(purchase, &handle).await;
        if let Some(followed) = self.newly_followed(purchase, handle, pictures, in_flight) {
            self.jobs.follow(purchase, followed);
            self.poll_later(purchase);
        }
    }

    fn newly_followed(
        &self,
        purchase: PurchaseId,
        handle: PurchaseHandle,
        pictures: u8,
        in_flight: InFlightPermit,
    ) -> Option<Followed> {
        let record = self.jobs.record(purchase.job)?;
        Some(Followed {
            following: Following::new(handle),
            account: in_flight.account().clone(),
            accepted: Instant::now(),
            in_flight: Some(in_flight),
            class: class_of(&record, pictures),
            working_at: Duration::ZERO,
            resumed: false,
            found_done: false,
            troubles: 0,
            plan: 0,
            planned: None,
        })
    }

    /// Fetches pictures that came with the answer to the submit of `sent`. Without an id there is nobody to ask again, so
    /// the rounds follow each other here.
    async fn collect_at_once(
        self: &Arc<Self>,
        purchase: PurchaseId,
        handle: Option<PurchaseHandle>,
        finished: Finished,
        pictures: u8,
        in_flight: InFlightPermit,
        sent: Instant,
    ) {
        if let Some(handle) = handle {
            self.journal_accepted(purchase, &handle).await;
            if let Some(followed) = self.newly_followed(purchase, handle, pictures, in_flight) {
                self.jobs.follow(purchase, followed);
            }
            return self.collect(purchase, finished).await;
        }
        // The upstream is done with it.
        drop(in_flight);
        let began = Instant::now();
        let mut rounds = 0;
        loop {
            rounds += 1;
            let (stored, trouble) = self.fetch_all(finished.outputs.clone()).await;
            let expired = began.elapsed() >= self.settings.deadline;
            match trouble {
                Some(_) if !expired => tokio::time::sleep(self.backoff(rounds)).await,
                Some(FetchTrouble::Upstream(message) | FetchTrouble::Storage(message)) if stored.is_empty() => {
                    return self.end(purchase, Failure::ResultLost { message }).await;
                }
                _ => return self.resolve(purchase, None, stored, finished.usage, sent).await,
            }
        }
    }

    async fn journal_accepted(&self, purchase: PurchaseId, handle: &PurchaseHandle) {
        let record = Record::Accepted {
            purchase,
            upstream: handle.id.clone(),
            poll_url: handle.poll_url.clone(),
            at: self.clock.now(),
        };
        // It is bought either way: following it in memory is all that is left when the journal cannot be written.
        if let Err(error) = self.journal.append(record).await {
            tracing::error!(%purchase, upstream = %handle.id, %error, "an accepted prediction could not be journalled");
        }
    }
}

/// Makes a call that is held until its pictures are made, and says when it is taken as accepted: a refusal comes at once, and
/// who waits for the outcome of a submit (the first after a pause, above all) must not wait for a picture.
async fn held<T>(submit: impl Future<Output = T>, committed: oneshot::Receiver<()>, taken: impl FnOnce()) -> T {
    let mut submit = std::pin::pin!(submit);
    let silence = async {
        match committed.await {
            Ok(()) => tokio::time::sleep(TAKEN_AFTER).await,
            // Not committed, so the call is about to end.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = &mut submit => return result,
        () = silence => taken(),
    }
    submit.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_held_counts_as_accepted_before_its_answer() {
        for (answered_after, committed_after, taken_after) in [(4, 0, None), (100, 0, Some(5)), (100, 30, Some(35))] {
            let began = Instant::now();
            let (told, committed) = oneshot::channel();
            let submit = async {
                tokio::time::sleep(Duration::from_secs(committed_after)).await;
                told.send(()).unwrap();
                tokio::time::sleep_until(began + Duration::from_secs(answered_after)).await;
            };
            let mut taken = None;
            held(submit, committed, || taken = Some(began.elapsed().as_secs())).await;
            assert_eq!(taken, taken_after);
            assert_eq!(began.elapsed().as_secs(), answered_after);
        }
        let (told, committed) = oneshot::channel();
        drop(told);
        held(tokio::time::sleep(TAKEN_AFTER * 2), committed, || panic!("nothing was committed")).await;
    }
}
