//! An order as its owner sees it by its id: where it stands, when it is expected to be done, what it brought; and what
//! its owner may do about it.
//!
//! Known race, and what we do: an order ends between the look into the table and the look into the journal. It is in
//! the journal before it leaves the table, so the second look finds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::jobs::{Forgotten, LiveView, OpenPart};
use super::waiter::{AnswerSource, JobStage, Waiter};
use super::{Core, delivery_of};
use crate::model::{ClientId, Failure, JobId, JobResult, Task, Timestamp, UpstreamId, Webhook};
use crate::storage::journal::{JobRecord, Record, StoredJob, StoredState};

/// An order as its owner sees it.
#[derive(Debug)]
pub(crate) struct JobView {
    pub(crate) task: Task,
    pub(crate) model: String,
    pub(crate) choices: BTreeMap<String, String>,
    pub(crate) created: Timestamp,
    pub(crate) standing: JobStatus,
    /// The upstream's names, as far as they are known.
    pub(crate) purchases: Vec<UpstreamId>,
    /// Follows the order without keeping it wanted, and its pictures while they are being delivered.
    pub(crate) waiter: Waiter,
}

/// Where an order stands.
#[derive(Clone, Debug)]
pub(crate) enum JobStatus {
    /// With the time at which it is expected to be done, where anything is known of that.
    UnderWay {
        stage: JobStage,
        expected: Option<Timestamp>,
    },
    Completed(Arc<JobResult>),
    Failed {
        failure: Failure,
        at: Timestamp,
    },
    /// It was completed, and its pictures are no longer kept.
    Swept,
}

/// What came of cancelling an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelOutcome {
    /// Nothing of it will be bought, or ever was.
    Dropped,
    /// It goes on for other requests of the same client.
    Shared,
    /// It is, or may be, paid for: it cannot be cancelled.
    Bought,
    /// It has ended already.
    Ended,
}

impl Core {
    pub(super) async fn look(self: &Arc<Self>, client: &ClientId, job: JobId) -> Result<Option<JobView>, Failure> {
        if let Some(glance) = self.jobs.glance(client, job) {
            return Ok(Some(self.look_at_live(glance)));
        }
        let Some(stored) = self.stored(client, job).await? else { return Ok(None) };
        self.look_at_stored(&stored).map(Some)
    }

    pub(super) async fn cancel(&self, client: &ClientId, job: JobId) -> Result<Option<CancelOutcome>, Failure> {
        if let Some(forgotten) = self.jobs.forget(client, job) {
            return Ok(Some(match forgotten {
                Forgotten::Dropped => CancelOutcome::Dropped,
                Forgotten::Shared => CancelOutcome::Shared,
                Forgotten::Bought => CancelOutcome::Bought,
            }));
        }
        let Some(stored) = self.stored(client, job).await? else { return Ok(None) };
        // Asked twice, answered twice.
        let dropped = matches!(failure_of(&stored), Failure::Abandoned);
        Ok(Some(if dropped { CancelOutcome::Dropped } else { CancelOutcome::Ended }))
    }

    /// Has somebody told of the end of an order that another request began.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`]: nobody would be told after a restart.
    pub(super) async fn subscribe(&self, waiter: &mut Waiter, webhook: Webhook) -> Result<(), Failure> {
        waiter.recorded().await;
        let job = waiter.job();
        let record = Record::Subscribed { job, webhook, at: self.clock.now() };
        self.journal.append(record).await.map_err(|error| {
            tracing::error!(%job, %error, "a webhook could not be journalled");
            Failure::JournalUnavailable
        })?;
        // One that ends after this look is announced with its end.
        if waiter.has_ended() {
            self.completion_listener.ended(job);
        }
        Ok(())
    }

    async fn stored(&self, client: &ClientId, job: JobId) -> Result<Option<StoredJob>, Failure> {
        let stored = self.journal.job(job).await.map_err(|error| {
            tracing::error!(%error, "the journal cannot be read");
            Failure::JournalUnavailable
        })?;
        Ok(stored.filter(|stored| stored.record.client == *client))
    }

    fn look_at_live(self: &Arc<Self>, LiveView { record, progress, parts, abandoned }: LiveView) -> JobView {
        let (stage, purchases) = {
            let progress = progress.borrow();
            (progress.stage, progress.upstream.clone())
        };
        let now = self.clock.now();
        let standing = if abandoned {
            JobStatus::Failed { failure: Failure::Abandoned, at: now }
        } else {
            JobStatus::UnderWay { stage, expected: self.expected(&parts).map(|left| now.plus(left)) }
        };
        let waiter = self.onlooker(record.id, AnswerSource::Joined, progress);
        look(&record, standing, purchases, waiter)
    }

    /// Until the last of them is expected to be done; `None` when nothing is known of one.
    fn expected(&self, parts: &[OpenPart]) -> Option<Duration> {
        let mut latencies = self.latencies();
        let left = |part: &OpenPart| {
            let done_at = latencies.expected(&part.class, part.age)?;
            Some(part.starts_in + done_at.saturating_sub(part.age))
        };
        parts.iter().map(left).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn look_at_stored(self: &Arc<Self>, stored: &StoredJob) -> Result<JobView, Failure> {
        let job = stored.record.id;
        if let Some(delivery) = delivery_of(stored) {
            let delivery = Arc::new(delivery);
            let standing = if stored.evicted { JobStatus::Swept } else { JobStatus::Completed(Arc::clone(&delivery)) };
            self.jobs.hold(job);
            let purchases = delivery.purchases.clone();
            let waiter = self.held_waiter(delivery, AnswerSource::Joined, stored.delivered.is_some());
            return Ok(look(&stored.record, standing, purchases, waiter));
        }
        // Neither under way nor ended: its end could not be journalled, and the next start takes it up.
        let end = stored.end().ok_or(Failure::JournalUnavailable)?;
        let failure = failure_of(stored);
        let purchases = stored.purchases.iter().filter_map(|purchase| match &purchase.state {
            StoredState::Failed { upstream, .. } => upstream.clone(),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Resolved { .. } => None,
        });
        let purchases = purchases.collect();
        let waiter = self.failed_waiter(job, failure.clone());
        Ok(look(&stored.record, JobStatus::Failed { failure, at: end.at }, purchases, waiter))
    }
}

/// Why an order that has ended brought nothing: what may have cost money first, whatever somebody decided about it since.
fn failure_of(stored: &StoredJob) -> Failure {
    let failures = stored.purchases.iter().filter_map(|purchase| match &purchase.state {
        StoredState::Failed { failure, .. } => Some(failure),
        StoredState::Intent
        | StoredState::Committing { .. }
        | StoredState::Accepted { .. }
        | StoredState::Resolved { .. } => None,
    });
    let lost = || Failure::ResultLost { message: "it ended without a picture".to_owned() };
    failures.max_by_key(|failure| failure.severity()).cloned().unwrap_or_else(lost)
}

fn look(record: &JobRecord, standing: JobStatus, purchases: Vec<UpstreamId>, waiter: Waiter) -> JobView {
    let JobRecord { task, model, choices, created, .. } = record.clone();
    JobView { task, model: model.to_string(), choices, created, standing, purchases, waiter }
}
