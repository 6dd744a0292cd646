//! A client cancels a job, or deletes one that has ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::view::stored;
use crate::engine::Engine;
use crate::engine::cache::deleted;
use crate::engine::cache::waiters::DeleteMark;
use crate::engine::driver::Driver;
use crate::engine::jobs::CancelOutcome;
use crate::model::{ClientId, Digest, Failure, JobId};

/// How long a deletion waits for requests that receive the result.
const IN_USE_WAIT: Duration = Duration::from_secs(2);
/// The pause between two looks at whether it still is.
const IN_USE_PAUSE: Duration = Duration::from_millis(20);

/// What `DELETE` of a job did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeleteOutcome {
    /// It was under way: nothing of it will be bought, or it goes on for other requests of the same client.
    Cancelled,
    /// It is, or may be, paid for, and has not ended.
    Bought,
    /// A request receives its result, or its pictures are fetched again.
    InUse,
    /// It had ended, and is gone with these pictures.
    Deleted(HashSet<Digest>),
}

impl Engine {
    /// Cancels a client's job while nothing of it is bought, and deletes one that has ended; `None` when the client has no
    /// such job.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`] when the journal cannot be read or written.
    pub(crate) async fn delete(&self, client: &ClientId, job: JobId) -> Result<Option<DeleteOutcome>, Failure> {
        let cancelled = self.driver.change(|jobs, now| match jobs.cancel(client, job, now) {
            Some((outcome, effects)) => (Some(outcome), effects),
            None => (None, Vec::new()),
        });
        match cancelled {
            Some(CancelOutcome::Dropped | CancelOutcome::Shared) => return Ok(Some(DeleteOutcome::Cancelled)),
            Some(CancelOutcome::Bought) => return Ok(Some(DeleteOutcome::Bought)),
            Some(CancelOutcome::Ended) => return Ok(Some(DeleteOutcome::InUse)),
            None => {}
        }
        if stored(&self.driver, client, job).await?.is_none() {
            return Ok(None);
        }
        let give_up_at = Instant::now() + IN_USE_WAIT;
        // No request uses the result meanwhile.
        let claim = loop {
            if let Some(claim) = self.driver.cache.waiters.claim_removal(job) {
                break claim;
            }
            if Instant::now() >= give_up_at {
                return Ok(Some(DeleteOutcome::InUse));
            }
            tokio::time::sleep(IN_USE_PAUSE).await;
        };
        // In a task of its own: a client that leaves does not stop a deletion that is journalled already.
        let (ended, outcome) = oneshot::channel();
        let (driver, client) = (Arc::clone(&self.driver), client.clone());
        self.driver.services.lifecycle.spawn("deletion", async move {
            let _ = ended.send(delete_claimed(&driver, &client, job, claim).await);
        });
        outcome.await.unwrap_or(Err(Failure::JournalUnavailable))
    }
}

async fn delete_claimed(
    driver: &Driver,
    client: &ClientId,
    job: JobId,
    _claim: DeleteMark,
) -> Result<Option<DeleteOutcome>, Failure> {
    // It may have been deleted while this request waited.
    let Some(stored) = stored(driver, client, job).await? else { return Ok(None) };
    if stored.end().is_none() {
        // Its end could not be journalled, and the next start resumes it.
        return Err(Failure::JournalUnavailable);
    }
    let pictures = deleted::delete(&driver.cache, &stored).await.map_err(|error| {
        tracing::error!(%job, %error, "a deletion could not be journalled; the job stays as it is");
        Failure::JournalUnavailable
    })?;
    Ok(Some(DeleteOutcome::Deleted(pictures)))
}
