//! Answers from what is stored: a result, a failure, or a result whose damaged pictures are fetched again.

use std::sync::Arc;

use tokio::time::Instant;

use super::waiter::{Waiter, of_refetch};
use crate::engine::Engine;
use crate::engine::cache::damaged::DamagedResult;
use crate::engine::cache::{self, Stored, StoredAnswer};
use crate::engine::driver::Driver;
use crate::engine::reuse::AnswerSource;
use crate::model::{ByteSource, ClientId, Failure, JobId, StoredPicture};

/// Returns a waiter for what is stored. A damaged result is fetched again, and nothing is bought.
pub(super) fn answer(driver: &Arc<Driver>, stored: Stored) -> Waiter {
    match stored {
        Stored::Answer(stored) => Waiter::of_stored(driver, stored),
        Stored::Damaged(damaged) => refetch(driver, *damaged),
    }
}

/// Begins to fetch damaged pictures again, or joins that, or fails as it failed a short time ago.
pub(super) fn refetch(driver: &Arc<Driver>, damaged: DamagedResult) -> Waiter {
    let DamagedResult { stored, purchases, counted } = damaged;
    let (job, delivered_before) = (stored.record.id, stored.delivered.is_some());
    match driver.refetch(stored, &purchases) {
        Ok(joined) => of_refetch(driver, joined, delivered_before, counted),
        Err(failure) => {
            let (outcome, source) = (Err(failure), AnswerSource::Joined);
            Waiter::of_stored(driver, StoredAnswer { job, outcome, source, delivered_before, counted })
        }
    }
}

/// Returns what is recorded of one picture of a job, and opens nothing; `None` as for [`Engine::picture`].
pub(crate) async fn recorded_picture(
    engine: &Engine,
    job: JobId,
    index: usize,
    allowed: impl Fn(&ClientId) -> bool,
) -> Option<StoredPicture> {
    let found = cache::recorded_picture(&*engine.driver.services.journal, job, index, allowed).await;
    found.map(|(_, picture)| picture)
}

impl Engine {
    /// Opens one picture of a job, for its signed address; `None` when it does not exist, or not any more, or its client is not
    /// `allowed`. A damaged one is fetched again first.
    ///
    /// # Errors
    ///
    /// [`Failure::ResultLost`] when it is damaged and cannot be fetched again.
    pub(crate) async fn picture(
        &self,
        job: JobId,
        index: usize,
        allowed: impl Fn(&ClientId) -> bool,
    ) -> Result<Option<(StoredPicture, Arc<dyn ByteSource>)>, Failure> {
        let cache = &self.driver.cache;
        // Before the journal is read: what is in use is not removed, so a file that is missing is damage.
        let counted = cache.waiters.enter(job).await;
        let stored = match cache.picture(job, index, &allowed).await {
            Some(Ok(picture)) => return Ok(Some(picture)),
            Some(Err(stored)) => stored,
            None => return Ok(None),
        };
        let purchases = cache.damaged.find(&stored).await;
        // It keeps the result in use until the picture is open.
        let mut waiter;
        let mut outcome = None;
        if !purchases.is_empty() {
            waiter = refetch(&self.driver, DamagedResult { stored, purchases, counted });
            // A refetch ends by itself a little before.
            outcome = waiter.outcome(Instant::now() + cache.rules.refetch_time * 2).await;
        }
        match (cache.picture(job, index, &allowed).await, outcome) {
            (Some(Ok(picture)), _) => Ok(Some(picture)),
            (Some(Err(_)), Some(Err(failure))) => Err(failure),
            (Some(Err(_)), _) => Err(Failure::ResultLost { message: "a stored picture is damaged".to_owned() }),
            (None, _) => Ok(None),
        }
    }
}
