//! What the journal says was under way when the gateway stopped.
//!
//! | journalled | what it means                          | what happens                         |
//! |------------|----------------------------------------|--------------------------------------|
//! | intent     | nothing was bought                     | ended as stopped                     |
//! | committing | the last byte may have left            | ended as unknown, never resent       |
//! | accepted   | bought, and the id is known            | polled on; whoever asks again joins  |
//!
//! Each step is journalled like any other, so a recovery that is cut short is taken up by the next one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Core;
use super::forecast::class_of;
use super::jobs::{End, Followed, Slot};
use super::life::Following;
use crate::input_urls::InputUrlGuards;
use crate::model::{CostEstimate, Digest, Failure, PurchaseId};
use crate::storage::JournalError;
use crate::storage::journal::{JobRecord, Record, StoredJob, StoredPurchase, StoredState};
use crate::upstream::PurchaseHandle;

impl Core {
    pub(super) async fn recover(self: &Arc<Self>) -> Result<(), JournalError> {
        let mut resumed = Vec::new();
        let (mut dropped, mut unknown) = (0_usize, 0_usize);
        for job in self.journal.unfinished().await? {
            let mut slots = Vec::with_capacity(job.purchases.len());
            let parts: Vec<u8> = job.purchases.iter().map(|purchase| purchase.pictures).collect();
            for purchase in job.purchases {
                match &purchase.state {
                    StoredState::Intent => dropped += 1,
                    StoredState::Committing { .. } => unknown += 1,
                    StoredState::Accepted { .. } => resumed.push(purchase.id),
                    StoredState::Resolved { .. } | StoredState::Failed { .. } => {}
                }
                slots.push(self.take_up(purchase, &job.record).await?);
            }
            // An order without anything to follow has ended; only its last record was missing.
            if slots.iter().any(|slot| matches!(slot, Slot::Following(_))) {
                let followed = |slot: &&Slot| matches!(slot, Slot::Following(_));
                let pictures: u8 =
                    slots.iter().zip(&parts).filter(|(slot, _)| followed(slot)).map(|(_, pictures)| pictures).sum();
                let expense = CostEstimate {
                    purchases: slots.iter().filter(followed).count(),
                    pictures: usize::from(pictures),
                    usd: self.estimate(&job.record.model, pictures),
                };
                let quota = self.quotas.adopt(&job.record.client, expense);
                self.jobs.adopt(Arc::new(job.record), slots, parts, quota);
            }
        }
        if !resumed.is_empty() || dropped > 0 || unknown > 0 {
            tracing::info!(resumed = resumed.len(), dropped, unknown, "took up what was under way");
        }
        if unknown > 0 {
            tracing::warn!(unknown, "purchases with an unknown outcome: the upstream's usage log knows them");
        }
        self.remove_orphans().await?;
        for purchase in resumed {
            self.poll_soon(purchase);
        }
        Ok(())
    }

    async fn take_up(&self, purchase: StoredPurchase, record: &JobRecord) -> Result<Slot, JournalError> {
        let StoredPurchase { id, state, pictures, api_kind, account, .. } = purchase;
        Ok(match state {
            StoredState::Intent => self.close(id, pictures, Failure::Stopping, record).await?,
            StoredState::Committing { .. } => {
                let message = "the gateway stopped between the last byte and the answer".to_owned();
                self.close(id, pictures, Failure::OutcomeUnknown { message }, record).await?
            }
            StoredState::Accepted { upstream, poll_url, since } => {
                // A clock that jumped must not end what is still worked on: some of the deadline is always left.
                let deadline = self.settings.deadline;
                let age = self.clock.now().since(since).min(deadline / 6 * 5);
                let now = Instant::now();
                // A record of version 1 names none; there was one account then.
                let in_flight = self.budget.adopt(account.as_ref());
                Slot::Following(Box::new(Followed {
                    following: Following::new(PurchaseHandle {
                        id: upstream,
                        poll_url,
                        api_kind,
                        input_url_guards: InputUrlGuards::default(),
                    }),
                    account: in_flight.account().clone(),
                    accepted: now.checked_sub(age).unwrap_or(now),
                    in_flight: Some(in_flight),
                    class: class_of(record, pictures),
                    working_at: Duration::ZERO,
                    resumed: true,
                    found_done: false,
                    troubles: 0,
                    plan: 0,
                    planned: None,
                }))
            }
            StoredState::Resolved { upstream, pictures, usage, at } => {
                Slot::Ended(End::Pictures { upstream, pictures, usage, at })
            }
            StoredState::Failed { failure, .. } => Slot::Ended(End::Failure(failure)),
        })
    }

    async fn close(
        &self,
        purchase: PurchaseId,
        pictures: u8,
        failure: Failure,
        record: &JobRecord,
    ) -> Result<Slot, JournalError> {
        let ended = Record::Failed { purchase, failure: failure.clone(), at: self.clock.now() };
        self.journal.append(ended).await?;
        // The operator learns of it by the same figures as of any other end.
        self.metrics.ended(&failure, self.estimate(&record.model, pictures));
        Ok(Slot::Ended(End::Failure(failure)))
    }

    /// Removes picture files that no order knows: a crash came between the file and its record, and the prediction,
    /// still accepted, fetches its pictures anew.
    async fn remove_orphans(&self) -> Result<(), JournalError> {
        let mut known: HashSet<Digest> = HashSet::new();
        for shelved in self.journal.stored_results().await? {
            known.extend(shelved.pictures.iter().map(|picture| picture.digest));
        }
        for job in self.journal.unfinished().await? {
            known.extend(pictures_of(&job));
        }
        match self.results.remove_unknown(known).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed pictures that no order knows"),
            Err(error) => tracing::warn!(%error, "pictures that no order knows could not be removed"),
        }
        Ok(())
    }
}

fn pictures_of(job: &StoredJob) -> impl Iterator<Item = Digest> {
    job.purchases.iter().flat_map(|purchase| match &purchase.state {
        StoredState::Resolved { pictures, .. } => pictures.iter().map(|picture| picture.digest).collect(),
        StoredState::Intent
        | StoredState::Committing { .. }
        | StoredState::Accepted { .. }
        | StoredState::Failed { .. } => Vec::new(),
    })
}
