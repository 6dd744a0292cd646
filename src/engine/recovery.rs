//! What the journal shows as under way when the gateway starts.
//!
//! | journalled | meaning                                 | what happens                         |
//! |------------|-----------------------------------------|--------------------------------------|
//! | intent     | nothing was bought                      | ended as stopped                     |
//! | committing | the last byte may have left             | ended as unknown, never submitted again |
//! | accepted   | bought, and the id is known             | polled on; a retry joins it          |
//!
//! Each step is journalled like any other, so a recovery that is cut short is finished by the next one.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::core::Core;
use super::jobs::{AcceptedPurchase, PurchaseEnd, PurchaseState};
use super::purchase::forecast::class_of;
use crate::input_urls::InputUrlGuards;
use crate::model::{CostEstimate, Digest, Failure, PurchaseId};
use crate::storage::JournalError;
use crate::storage::journal::{JobRecord, Record, StoredJob, StoredPurchase, StoredState};
use crate::upstream::PurchaseHandle;

impl Core {
    pub(super) async fn recover(self: &Arc<Self>) -> Result<(), JournalError> {
        let mut resumed = Vec::new();
        let (mut not_bought, mut unknown) = (0_usize, 0_usize);
        for job in self.journal.unfinished().await? {
            let mut purchases = Vec::with_capacity(job.purchases.len());
            let pictures: Vec<u8> = job.purchases.iter().map(|purchase| purchase.pictures).collect();
            for purchase in job.purchases {
                match &purchase.state {
                    StoredState::Intent => not_bought += 1,
                    StoredState::Committing { .. } => unknown += 1,
                    StoredState::Accepted { .. } => resumed.push(purchase.id),
                    StoredState::Resolved { .. } | StoredState::Failed { .. } => {}
                }
                purchases.push(self.resume(purchase, &job.record).await?);
            }
            let polling = |state: &PurchaseState| matches!(state, PurchaseState::Polling(_));
            // A job without anything to poll has ended; only its last record was missing.
            if purchases.iter().any(polling) {
                let polled = purchases.iter().zip(&pictures).filter(|&(state, _)| polling(state));
                let (number, polled_pictures) = polled.fold((0, 0), |(number, sum), (_, one)| (number + 1, sum + one));
                let cost = CostEstimate {
                    purchases: number,
                    pictures: usize::from(polled_pictures),
                    usd: self.estimated_cost(&job.record.model, polled_pictures),
                };
                let quota = self.quotas.adopt(&job.record.client, cost);
                self.jobs.restore(Arc::new(job.record), purchases, pictures, quota);
            }
        }
        if !resumed.is_empty() || not_bought > 0 || unknown > 0 {
            tracing::info!(resumed = resumed.len(), not_bought, unknown, "resumed unfinished jobs");
        }
        if unknown > 0 {
            tracing::warn!(
                unknown,
                "purchases with an unknown outcome; `ledger reconcile` compares them with the upstream's usage export"
            );
        }
        self.remove_orphans().await?;
        for purchase in resumed {
            self.poll_soon(purchase);
        }
        Ok(())
    }

    async fn resume(&self, purchase: StoredPurchase, record: &JobRecord) -> Result<PurchaseState, JournalError> {
        let StoredPurchase { id, state, pictures, api_kind, account, .. } = purchase;
        Ok(match state {
            StoredState::Intent => self.close(id, pictures, Failure::Stopping, record).await?,
            StoredState::Committing { .. } => {
                let message = "the gateway stopped between the last byte and the answer".to_owned();
                self.close(id, pictures, Failure::OutcomeUnknown { message }, record).await?
            }
            StoredState::Accepted { upstream, poll_url, since } => {
                // A clock that jumped must not end a purchase that still works: some of the deadline is always left.
                let deadline = self.settings.deadline;
                let age = self.clock.now().since(since).min(deadline / 6 * 5);
                let now = Instant::now();
                // A record of version 1 names no account; there was only one then.
                let in_flight = self.budget.adopt(account.as_ref());
                let handle =
                    PurchaseHandle { id: upstream, poll_url, api_kind, input_url_guards: InputUrlGuards::default() };
                PurchaseState::Polling(Box::new(AcceptedPurchase {
                    accepted: now.checked_sub(age).unwrap_or(now),
                    resumed: true,
                    ..AcceptedPurchase::new(handle, in_flight, class_of(record, pictures))
                }))
            }
            StoredState::Resolved { upstream, pictures, usage, at } => {
                PurchaseState::Ended(PurchaseEnd::Pictures { upstream, pictures, usage, at })
            }
            StoredState::Failed { failure, .. } => PurchaseState::Ended(PurchaseEnd::Failure(failure)),
        })
    }

    async fn close(
        &self,
        purchase: PurchaseId,
        pictures: u8,
        failure: Failure,
        record: &JobRecord,
    ) -> Result<PurchaseState, JournalError> {
        let ended = Record::Failed { purchase, failure: failure.clone(), at: self.clock.now() };
        self.journal.append(ended).await?;
        // It is counted like any other end.
        self.metrics.ended(&failure, self.estimated_cost(&record.model, pictures));
        Ok(PurchaseState::Ended(PurchaseEnd::Failure(failure)))
    }

    /// Removes picture files that belong to no job: a crash came between the file and its record, and the purchase,
    /// still accepted, fetches its pictures again.
    async fn remove_orphans(&self) -> Result<(), JournalError> {
        let mut known: HashSet<Digest> = HashSet::new();
        for result in self.journal.stored_results().await? {
            known.extend(result.pictures.iter().map(|picture| picture.digest));
        }
        for job in self.journal.unfinished().await? {
            known.extend(pictures_of(&job));
        }
        match self.results.remove_unknown(known).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed pictures that belong to no job"),
            Err(error) => {
                tracing::warn!(%error, "pictures that belong to no job could not be removed; they stay until a restart");
            }
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
