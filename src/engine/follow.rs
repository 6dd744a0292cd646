//! From an accepted prediction to its pictures: one scheduler for all polls, then fetch, check, store, journal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::Core;
use super::life::{AfterFetch, AfterPoll, FetchTrouble, after_fetch};
use super::orders::End;
use crate::budget::{CallKind, Reservation};
use crate::model::{Failure, PredictionId, StoredPicture, UpstreamId, Usage, Usd};
use crate::storage::journal::Record;
use crate::storage::results::StoreError;
use crate::upstream::{FetchError, Finished, Output};

/// When a prediction is to be asked for.
pub(super) type Due = (Instant, PredictionId);

/// Outputs of one prediction that are looked at; more than any model makes.
const OUTPUTS_MAX: usize = 16;

/// The one scheduler: a heap by due time, a reservation for each poll, and a bound on polls under way.
pub(super) async fn schedule(core: Arc<Core>, mut announced: mpsc::UnboundedReceiver<Due>) {
    let polls = Arc::new(Semaphore::new(core.settings.polls_max));
    let mut heap: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
    loop {
        let next = heap.peek().map(|Reverse((at, _))| *at);
        tokio::select! {
            biased;
            due = announced.recv() => match due {
                Some(due) => heap.push(Reverse(due)),
                None => return,
            },
            () = sleep_until(next) => {
                let Some(Reverse((_, prediction))) = heap.pop() else { continue };
                let permit = Arc::clone(&polls).acquire_owned().await.expect("the polls are never closed");
                let reservation = core.budget.reserve_poll().await;
                let core = Arc::clone(&core);
                core.lifecycle.clone().spawn_service("poll", async move {
                    core.poll(prediction, reservation).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn sleep_until(next: Option<Instant>) {
    match next {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Core {
    pub(super) fn poll_in(&self, prediction: PredictionId, pause: Duration) {
        // The scheduler is gone only when the process ends, and then the journal remembers.
        let _ = self.due.send((Instant::now() + pause, prediction));
    }

    async fn poll(self: &Arc<Self>, prediction: PredictionId, reservation: Reservation) {
        let Some(handle) = self.orders.followed(prediction, |followed| followed.following.handle.clone()) else {
            return;
        };
        let result = self.upstream.poll(reservation, &handle).await;
        self.metrics.polled(result.as_ref().err());
        if let Err(error) = &result {
            tracing::debug!(%prediction, ?error, "poll");
        }
        let deadline = self.settings.deadline;
        let decided = self.orders.followed(prediction, |followed| {
            let expired = followed.accepted.elapsed() >= deadline;
            (followed.following.after_poll(result, expired), followed.following.polls)
        });
        let Some((next, polls)) = decided else { return };
        match next {
            AfterPoll::PollAgain => self.poll_in(prediction, self.cadence.pause(polls, self.chance.fraction())),
            AfterPoll::PushedBack { retry_after } => {
                self.budget.pushed_back(CallKind::Poll, retry_after);
                self.poll_in(prediction, self.cadence.pause(polls, self.chance.fraction()));
            }
            AfterPoll::Collect(finished) => {
                // In a task of its own: a slow download must not hold up polls.
                let core = Arc::clone(self);
                self.lifecycle.spawn_service("collect", async move { core.collect(prediction, finished).await });
            }
            AfterPoll::End(failure) => self.end(prediction, failure).await,
        }
    }

    /// Fetches the outputs of a finished prediction and settles it, or asks again for fresh addresses.
    pub(super) async fn collect(self: &Arc<Self>, prediction: PredictionId, finished: Finished) {
        let (stored, trouble) = self.fetch_all(finished.outputs).await;
        let deadline = self.settings.deadline;
        let decided = self.orders.followed(prediction, |followed| {
            let expired = followed.accepted.elapsed() >= deadline;
            let following = &followed.following;
            let next = after_fetch(stored.len(), trouble, expired);
            (next, following.polls, following.handle.id.clone(), followed.accepted)
        });
        let Some((next, polls, upstream, accepted)) = decided else {
            return;
        };
        match next {
            AfterFetch::Resolve => self.resolve(prediction, Some(upstream), stored, finished.usage, accepted).await,
            AfterFetch::PollAgain => self.poll_in(prediction, self.cadence.pause(polls.max(1), self.chance.fraction())),
            AfterFetch::End(failure) => self.end(prediction, failure).await,
        }
    }

    /// Fetches, checks and stores outputs, in their order; with the trouble of one that failed.
    pub(super) async fn fetch_all(&self, outputs: Vec<Output>) -> (Vec<StoredPicture>, Option<FetchTrouble>) {
        let fetched = join_all(outputs.into_iter().take(OUTPUTS_MAX).map(|output| self.fetch(output))).await;
        let mut stored = Vec::new();
        let mut trouble = None;
        for result in fetched {
            match result {
                Ok(picture) => stored.push(picture),
                Err(problem) => {
                    tracing::warn!(?problem, "an output could not be stored");
                    trouble = Some(problem);
                }
            }
        }
        (stored, trouble)
    }

    async fn fetch(&self, output: Output) -> Result<StoredPicture, FetchTrouble> {
        let timeout = self.settings.download_timeout;
        let late = |_| Err(FetchTrouble::Upstream("the download took too long".to_owned()));
        tokio::time::timeout(timeout, self.fetch_once(output)).await.unwrap_or_else(late)
    }

    async fn fetch_once(&self, output: Output) -> Result<StoredPicture, FetchTrouble> {
        let upstream = |error: FetchError| FetchTrouble::Upstream(error.to_string());
        let mut bytes = self.upstream.fetch(output).await.map_err(upstream)?;
        let bytes_max = self.settings.picture_bytes_max;
        let mut writer =
            self.results.write(bytes_max).await.map_err(|error| FetchTrouble::Storage(error.to_string()))?;
        while let Some(chunk) = bytes.next().await {
            writer.push(chunk.map_err(upstream)?).await?;
        }
        Ok(writer.finish().await?)
    }

    /// Journals pictures that are on disk, and hands them to the waiters.
    pub(super) async fn resolve(
        &self,
        prediction: PredictionId,
        upstream: Option<UpstreamId>,
        pictures: Vec<StoredPicture>,
        usage: Option<Usage>,
        accepted: Instant,
    ) {
        let at = self.clock.now();
        let record = Record::Resolved { prediction, pictures: pictures.clone(), usage, at };
        if self.results.failed() {
            // Left as accepted: a restart fetches the pictures anew, should these not have survived.
            tracing::warn!(%prediction, "a result may not survive; it is delivered all the same");
        } else if let Err(error) = self.journal.append(record).await {
            tracing::error!(%prediction, %error, "a result could not be journalled; it is delivered all the same");
        }
        if let Some(record) = self.orders.record(prediction.order) {
            let price = self.catalogue.find(&record.model).map(|model| model.price.of(pictures.len(), usage.as_ref()));
            self.orders.settle_quota(prediction, pictures.len(), price.unwrap_or_default());
            self.metrics.resolved(&record.model, pictures.len(), price, accepted.elapsed());
            tracing::info!(
                %prediction,
                client = %record.client,
                model = record.model,
                pictures = pictures.len(),
                seconds = rounded(accepted.elapsed().as_secs_f64(), 1000.0),
                usd = price.map(|price| rounded(price.0, 1e6)),
                "resolved"
            );
        }
        self.settle(prediction, End::Pictures { upstream, pictures, usage, at });
    }

    /// Journals that a prediction ended without pictures, and tells the waiters.
    pub(super) async fn end(&self, prediction: PredictionId, failure: Failure) {
        let record = Record::Failed { prediction, failure: failure.clone(), at: self.clock.now() };
        if let Err(error) = self.journal.append(record).await {
            tracing::error!(%prediction, ?failure, %error, "an end could not be journalled");
        }
        if let Some(record) = self.orders.record(prediction.order) {
            let wanted = self.orders.wanted(prediction);
            let usd = self.estimate(&record.model, wanted);
            // What may have been paid counts as paid.
            let (spent, made) = if failure.may_have_been_bought() { (usd, wanted) } else { (Usd::default(), 0) };
            self.orders.settle_quota(prediction, usize::from(made), spent);
            self.metrics.ended(&failure, usd);
            let Usd(usd) = usd;
            let (client, failure_name) = (&record.client, failure.name());
            if failure.may_have_been_bought() {
                let upstream = self.orders.followed(prediction, |followed| followed.following.handle.id.to_string());
                tracing::warn!(%prediction, upstream, %client, failure = failure_name, usd, "ended without a picture");
            } else {
                tracing::info!(%prediction, %client, failure = failure_name, "ended without a picture");
            }
        }
        self.settle(prediction, End::Failure(failure));
    }

    /// Ends a prediction in memory; with the last of an order, the order.
    pub(super) fn settle(&self, prediction: PredictionId, end: End) {
        let Some(ended) = self.orders.end(prediction, end) else {
            return;
        };
        if let Ok(delivery) = &ended.outcome
            && ended.record.shareable
            && delivery.missing == 0
            && self.settings.cache == crate::config::CacheMode::On
        {
            self.remember(ended.record.fingerprint, delivery, Duration::ZERO, false);
        }
        ended.publish();
    }
}

impl From<StoreError> for FetchTrouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotWhole(_) | StoreError::TooLarge { .. } => Self::Upstream(error.to_string()),
            StoreError::Io(_) => Self::Storage(error.to_string()),
        }
    }
}

/// A figure for people: so many parts of one are enough.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
