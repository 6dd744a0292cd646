//! An order as its owner sees it by its id: where it stands, when it is expected to be done, what it brought; and what
//! its owner may do about it.
//!
//! Known race, and what we do: an order ends between the look into the table and the look into the journal. It is in
//! the journal before it leaves the table, so the second look finds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::orders::{Forgotten, Glance, OpenPart};
use super::ticket::{Origin, Stage, Ticket};
use super::{Core, delivery_of};
use crate::model::{ClientId, Delivery, Failure, OrderId, Task, Timestamp, UpstreamId, Webhook};
use crate::storage::journal::{OrderRecord, Record, StoredOrder, StoredState};

/// An order as its owner sees it.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) task: Task,
    pub(crate) model: String,
    pub(crate) choices: BTreeMap<String, String>,
    pub(crate) created: Timestamp,
    pub(crate) standing: Standing,
    /// The upstream's names, as far as they are known.
    pub(crate) predictions: Vec<UpstreamId>,
    /// Follows the order without keeping it wanted, and its pictures while they are being delivered.
    pub(crate) ticket: Ticket,
}

/// Where an order stands.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// With the time at which it is expected to be done, where anything is known of that.
    UnderWay {
        stage: Stage,
        expected: Option<Timestamp>,
    },
    Completed(Arc<Delivery>),
    Failed {
        failure: Failure,
        at: Timestamp,
    },
    /// It was completed, and its pictures are no longer kept.
    Swept,
}

/// What came of cancelling an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
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
    pub(super) async fn look(self: &Arc<Self>, client: &ClientId, order: OrderId) -> Result<Option<Look>, Failure> {
        if let Some(glance) = self.orders.glance(client, order) {
            return Ok(Some(self.look_at_live(glance)));
        }
        let Some(stored) = self.stored(client, order).await? else { return Ok(None) };
        self.look_at_stored(&stored).map(Some)
    }

    pub(super) async fn cancel(&self, client: &ClientId, order: OrderId) -> Result<Option<Cancelled>, Failure> {
        if let Some(forgotten) = self.orders.forget(client, order) {
            return Ok(Some(match forgotten {
                Forgotten::Dropped => Cancelled::Dropped,
                Forgotten::Shared => Cancelled::Shared,
                Forgotten::Bought => Cancelled::Bought,
            }));
        }
        let Some(stored) = self.stored(client, order).await? else { return Ok(None) };
        // Asked twice, answered twice.
        let dropped = matches!(failure_of(&stored), Failure::Abandoned);
        Ok(Some(if dropped { Cancelled::Dropped } else { Cancelled::Ended }))
    }

    /// Has somebody told of the end of an order that another request began.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`]: nobody would be told after a restart.
    pub(super) async fn subscribe(&self, ticket: &mut Ticket, webhook: Webhook) -> Result<(), Failure> {
        ticket.recorded().await;
        let order = ticket.order();
        let record = Record::Subscribed { order, webhook, at: self.clock.now() };
        self.journal.append(record).await.map_err(|error| {
            tracing::error!(%order, %error, "a webhook could not be journalled");
            Failure::JournalUnavailable
        })?;
        // One that ends after this look is announced with its end.
        if ticket.has_ended() {
            self.notices.ended(order);
        }
        Ok(())
    }

    async fn stored(&self, client: &ClientId, order: OrderId) -> Result<Option<StoredOrder>, Failure> {
        let stored = self.journal.order(order).await.map_err(|error| {
            tracing::error!(%error, "the journal cannot be read");
            Failure::JournalUnavailable
        })?;
        Ok(stored.filter(|stored| stored.record.client == *client))
    }

    fn look_at_live(self: &Arc<Self>, Glance { record, progress, parts, abandoned }: Glance) -> Look {
        let (stage, predictions) = {
            let progress = progress.borrow();
            (progress.stage, progress.upstream.clone())
        };
        let now = self.clock.now();
        let standing = if abandoned {
            Standing::Failed { failure: Failure::Abandoned, at: now }
        } else {
            Standing::UnderWay { stage, expected: self.expected(&parts).map(|left| now.plus(left)) }
        };
        let ticket = self.onlooker(record.id, Origin::Joined, progress);
        look(&record, standing, predictions, ticket)
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

    fn look_at_stored(self: &Arc<Self>, stored: &StoredOrder) -> Result<Look, Failure> {
        let order = stored.record.id;
        if let Some(delivery) = delivery_of(stored) {
            let delivery = Arc::new(delivery);
            let standing = if stored.forgotten { Standing::Swept } else { Standing::Completed(Arc::clone(&delivery)) };
            self.orders.hold(order);
            let predictions = delivery.predictions.clone();
            let ticket = self.held_ticket(delivery, Origin::Joined, stored.delivered.is_some());
            return Ok(look(&stored.record, standing, predictions, ticket));
        }
        // Neither under way nor ended: its end could not be journalled, and the next start takes it up.
        let end = stored.end().ok_or(Failure::JournalUnavailable)?;
        let failure = failure_of(stored);
        let predictions = stored.predictions.iter().filter_map(|prediction| match &prediction.state {
            StoredState::Failed { upstream, .. } => upstream.clone(),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Resolved { .. } => None,
        });
        let predictions = predictions.collect();
        let ticket = self.failed_ticket(order, failure.clone());
        Ok(look(&stored.record, Standing::Failed { failure, at: end.at }, predictions, ticket))
    }
}

/// Why an order that has ended brought nothing: what may have cost money first, whatever somebody decided about it since.
fn failure_of(stored: &StoredOrder) -> Failure {
    let failures = stored.predictions.iter().filter_map(|prediction| match &prediction.state {
        StoredState::Failed { failure, .. } => Some(failure),
        StoredState::Intent
        | StoredState::Committing { .. }
        | StoredState::Accepted { .. }
        | StoredState::Resolved { .. } => None,
    });
    let lost = || Failure::ResultLost { message: "it ended without a picture".to_owned() };
    failures.max_by_key(|failure| failure.severity()).cloned().unwrap_or_else(lost)
}

fn look(record: &OrderRecord, standing: Standing, predictions: Vec<UpstreamId>, ticket: Ticket) -> Look {
    let OrderRecord { task, model, choices, created, .. } = record.clone();
    Look { task, model, choices, created, standing, predictions, ticket }
}
