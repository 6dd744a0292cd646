//! Recovers a job that was under way when the gateway stopped.
//!
//! | journalled | meaning                       | what follows                                |
//! |------------|-------------------------------|---------------------------------------------|
//! | intent     | nothing was bought            | ends as stopped; as unknown after a lost answer |
//! | committing | the last byte may have left   | ends as unknown, and is never submitted again |
//! | accepted   | bought, and the id is known   | is polled on; a retry joins it              |

use super::Listing;
use crate::engine::jobs::event::Now;
use crate::engine::jobs::purchase::{Accepted, Purchase, PurchaseEnd, State};
use crate::engine::jobs::rules::{Rules, class_of};
use crate::input_urls::InputUrlGuards;
use crate::model::{AccountId, Failure, PurchaseId, RunningTime};
use crate::storage::journal::{JobRecord, StoredJob, StoredPurchase, StoredState};
use crate::upstream::PurchaseHandle;

/// A job as it goes on after a start.
#[derive(Debug)]
pub(in crate::engine) struct RecoveredJob {
    pub(in crate::engine) record: JobRecord,
    pub(in crate::engine::jobs) purchases: Vec<Purchase>,
    pub(in crate::engine::jobs) listing: Listing,
}

/// A purchase that ends with the start; its end is to be journalled before the job is listed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct EndedAtStart {
    pub(in crate::engine) purchase: PurchaseId,
    pub(in crate::engine) pictures: u8,
    pub(in crate::engine) failure: Failure,
}

/// Recovers a job. `adopt` takes a slot in flight for each accepted purchase, with the account that bought it where the
/// journal names one, and returns the account that polls it. `running` is the journal's running time.
pub(in crate::engine) fn recover(
    stored: StoredJob,
    rules: &Rules,
    now: Now,
    running: RunningTime,
    mut adopt: impl FnMut(PurchaseId, Option<&AccountId>) -> AccountId,
) -> (RecoveredJob, Vec<EndedAtStart>) {
    let mut ended = Vec::new();
    let mut purchases = Vec::with_capacity(stored.purchases.len());
    for StoredPurchase { id, state, pictures, api_kind, account, lost_answers, accepted, .. } in stored.purchases {
        let mut end = |failure: Failure| {
            ended.push(EndedAtStart { purchase: id, pictures, failure: failure.clone() });
            State::Ended(PurchaseEnd::Failure(failure))
        };
        let state = match state {
            StoredState::Intent if lost_answers > 0 => {
                let message = "the gateway stopped before a submit with a lost answer was repeated".to_owned();
                end(Failure::OutcomeUnknown { message })
            }
            StoredState::Intent => end(Failure::Stopping),
            StoredState::Committing { .. } => {
                let message = "the gateway stopped between the last byte and the answer".to_owned();
                end(Failure::OutcomeUnknown { message })
            }
            StoredState::Accepted { upstream, poll_url, .. } => {
                let account = adopt(id, account.as_ref());
                // By the running time: no setting of the wall clock ends a purchase that still works. The time without the
                // gateway does not count, and some of the deadline is always left.
                let age = running.since(accepted.unwrap_or(running)).min(rules.deadline / 6 * 5);
                let accepted = now.instant.checked_sub(age).unwrap_or(now.instant);
                let input_url_guards = InputUrlGuards::default();
                let api_kind = api_kind.polled_at();
                let handle = PurchaseHandle { id: upstream, poll_url, api_kind, input_url_guards };
                let class = class_of(&stored.record, pictures);
                let accepted = Accepted { resumed: true, ..Accepted::new(handle, account, class, accepted) };
                State::Polling(Box::new(accepted))
            }
            StoredState::Resolved { upstream, pictures, usage, at, .. } => {
                State::Ended(PurchaseEnd::Pictures { upstream, pictures, usage, at })
            }
            StoredState::Failed { failure, .. } => State::Ended(PurchaseEnd::Failure(failure)),
        };
        purchases.push(Purchase::new(state, pictures));
    }
    (RecoveredJob { record: stored.record, purchases, listing: Listing::Joinable }, ended)
}

impl RecoveredJob {
    /// Returns the number of its purchases.
    pub(in crate::engine) fn purchases(&self) -> usize {
        self.purchases.len()
    }

    /// Returns the number of pictures of each purchase that is polled on.
    pub(in crate::engine) fn polled(&self) -> impl Iterator<Item = u8> {
        self.purchases.iter().filter(|purchase| purchase.state.polled().is_some()).map(|purchase| purchase.pictures)
    }
}
