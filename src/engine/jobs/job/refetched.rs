//! Lists a job again that has ended, because stored pictures of it are damaged or missing: they are fetched again by the
//! upstream's id.
//!
//! It buys nothing and holds nothing. Its usage, price and times stay as they are; the journal changes only where the
//! upstream returns pictures with other bytes. A refetch that fails leaves the journal as it is, so that a later request
//! may try again. The listed job is found by its id alone: which request it may answer is decided by the stored result.

use super::recovered::RecoveredJob;
use super::{Listing, outcome};
use crate::engine::jobs::event::Now;
use crate::engine::jobs::purchase::refetch::{Refetch, not_restored};
use crate::engine::jobs::purchase::{Accepted, Purchase, PurchaseEnd, State};
use crate::engine::jobs::rules::{Rules, class_of};
use crate::input_urls::InputUrlGuards;
use crate::model::{AccountId, Failure, PurchaseId};
use crate::storage::journal::{StoredJob, StoredPurchase, StoredState};
use crate::upstream::PurchaseHandle;

/// Prepares a job whose purchases `damaged` are polled again.
///
/// # Errors
///
/// [`Failure::ResultLost`] when one of them has no id at the upstream.
pub(in crate::engine) fn refetched(
    stored: StoredJob,
    damaged: &[PurchaseId],
    rules: &Rules,
    now: Now,
) -> Result<RecoveredJob, Failure> {
    let mut purchases = Vec::with_capacity(stored.purchases.len());
    for StoredPurchase { id, state, pictures: asked, api_kind, account, .. } in stored.purchases {
        let state = match state {
            StoredState::Resolved { upstream, poll_url, pictures, usage, at } if damaged.contains(&id) => {
                let Some(upstream) = upstream else { return Err(not_restored("the image service gave it no id")) };
                let (api_kind, input_url_guards) = (api_kind.polled_at(), InputUrlGuards::default());
                let handle = PurchaseHandle { id: upstream, poll_url, api_kind, input_url_guards };
                let account = account.unwrap_or_else(|| AccountId("default".into()));
                // It was made long ago: no poll waits for that.
                let accepted = now.instant.checked_sub(rules.deadline).unwrap_or(now.instant);
                let class = class_of(&stored.record, asked);
                let refetch = Refetch { pictures, usage, at, until: now.instant + rules.refetch_time };
                let accepted = Accepted {
                    resumed: true,
                    found_done: true,
                    refetch: Some(refetch),
                    ..Accepted::new(handle, account, class, accepted)
                };
                State::Polling(Box::new(accepted))
            }
            StoredState::Resolved { upstream, pictures, usage, at, .. } => {
                State::Ended(PurchaseEnd::Pictures { upstream, pictures, usage, at })
            }
            StoredState::Failed { failure, .. } => State::Ended(PurchaseEnd::Failure(failure)),
            StoredState::Intent | StoredState::Committing { .. } | StoredState::Accepted { .. } => {
                return Err(outcome::without_pictures());
            }
        };
        purchases.push(Purchase::new(state, asked));
    }
    Ok(RecoveredJob { record: stored.record, purchases, listing: Listing::Refetched })
}
