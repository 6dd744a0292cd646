//! A client cancels a job, or deletes one that has ended.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::view::stored;
use crate::engine::Engine;
use crate::engine::cache::deleted;
use crate::engine::jobs::CancelOutcome;
use crate::model::{ClientId, Digest, Failure, JobId};

/// How long a job is in use after its last byte was written: until the delivery is journalled.
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
        let cache = &self.driver.cache;
        let give_up_at = Instant::now() + IN_USE_WAIT;
        // No other request claims the result meanwhile.
        let _claim = loop {
            if let Some(claim) = cache.waiters.add_first(job) {
                break claim;
            }
            if Instant::now() >= give_up_at {
                return Ok(Some(DeleteOutcome::InUse));
            }
            tokio::time::sleep(IN_USE_PAUSE).await;
        };
        // It may have been deleted while this request waited.
        let Some(stored) = stored(&self.driver, client, job).await? else { return Ok(None) };
        if stored.end().is_none() {
            // Its end could not be journalled, and the next start resumes it.
            return Err(Failure::JournalUnavailable);
        }
        let pictures = deleted::delete(cache, &stored).await.map_err(|error| {
            tracing::error!(%job, %error, "a deletion could not be journalled; the job stays as it is");
            Failure::JournalUnavailable
        })?;
        Ok(Some(DeleteOutcome::Deleted(pictures)))
    }
}
