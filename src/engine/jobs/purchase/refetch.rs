//! Stored pictures that are damaged or missing, and are fetched again.

use std::time::Instant;

use super::{Accepted, Accounting, PendingEnd, PurchaseEnd};
use crate::engine::jobs::event::{Fetched, RefetchResult};
use crate::model::{Failure, StoredPicture, Timestamp, Usage};

/// The end of a purchase whose stored pictures are fetched again.
#[derive(Clone, Debug)]
pub(in crate::engine::jobs) struct Refetch {
    /// Its pictures, of which some are damaged or missing.
    pub(in crate::engine::jobs) pictures: Vec<StoredPicture>,
    pub(in crate::engine::jobs) usage: Option<Usage>,
    /// When it ended.
    pub(in crate::engine::jobs) at: Timestamp,
    /// When the refetch is given up.
    pub(in crate::engine::jobs) until: Instant,
}

/// Returns the end of a purchase whose stored pictures were fetched again; `None` when too few came.
pub(super) fn refetch_end(accepted: &Accepted, fetched: &Fetched) -> Option<PendingEnd> {
    let Refetch { pictures: before, usage, at, .. } = accepted.refetch.as_ref()?;
    let pictures = restored(before, &fetched.pictures, fetched.trouble.is_none())?;
    let (upstream, usage, at) = (Some(accepted.poll.handle.id.clone()), *usage, *at);
    let is_same = pictures == *before;
    let result = if is_same { RefetchResult::Restored } else { RefetchResult::Replaced };
    Some(PendingEnd {
        end: PurchaseEnd::Pictures { upstream: upstream.clone(), pictures, usage, at },
        contents: Vec::new(),
        upstream,
        poll_url: None,
        since: accepted.at,
        recordable: fetched.durable && !is_same,
        accounting: Accounting::Refetched(result),
    })
}

/// Returns the pictures that take the place of stored ones, from those that were fetched; `None` when too few came.
/// `complete`: no output is missing. Where all stored pictures came again, in whatever order, they keep their places.
fn restored(stored: &[StoredPicture], fetched: &[StoredPicture], complete: bool) -> Option<Vec<StoredPicture>> {
    if stored.iter().all(|picture| fetched.contains(picture)) {
        return Some(stored.to_vec());
    }
    fetched.get(..stored.len()).filter(|_| complete).map(<[StoredPicture]>::to_vec)
}

/// Returns the failure of a job whose stored pictures are damaged and cannot be had again.
pub(in crate::engine::jobs) fn not_restored(cause: &str) -> Failure {
    let message = format!(
        "a stored picture is damaged and could not be fetched again; the same request tries that again later, and \
         'Cache-Control: no-cache' or a new Idempotency-Key buys new pictures ({cause})"
    );
    Failure::ResultLost { message }
}
