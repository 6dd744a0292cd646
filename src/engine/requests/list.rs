//! The jobs of a client, the newest first: those of the journal, in the order of their rows, each as it is now.
//!
//! Known races, and their solutions:
//! - *Jobs are journalled while pages are read.* They come before the first page; a page begins behind a job, not at a number.
//! - *A job ends between the read of the journal and the look-up among the live jobs.* Its end is in the journal before it
//!   leaves the table, so it is read once more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::view::{JobSummary, stored, stored_state, summary, summary_of_live, unreadable};
use crate::engine::Engine;
use crate::engine::driver::Driver;
use crate::model::{ClientId, Failure, JobId};
use crate::storage::journal::StoredJob;

/// Jobs that are read from the journal at a time: purchases are journalled in between.
const CHUNK: usize = 32;
/// Jobs that are looked at for one page, where the filter leaves some out; more for an empty one, which clients take for the end.
const LOOKED_AT_MAX: usize = 256;
/// For how long more are looked at.
const LOOKING_MAX: Duration = Duration::from_secs(1);

/// Lists that are read at the same time, each of another client. The journal reads between the commits of purchases, so all further
/// ones wait here.
const LISTS_AT_ONCE: usize = 2;

/// Permission to read a list. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ListSlots {
    slots: Arc<Semaphore>,
    /// One for each client, so that the lists of a client wait for each other and not those of others for them.
    turns: Arc<Mutex<HashMap<ClientId, Arc<Semaphore>>>>,
}

/// Permission to read a list until this is dropped.
#[derive(Debug)]
struct ListSlot {
    _slot: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
}

impl ListSlots {
    pub(in crate::engine) fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(LISTS_AT_ONCE)), turns: Arc::default() }
    }

    /// Waits until this client reads no other list, and then for a slot.
    async fn enter(&self, client: &ClientId) -> ListSlot {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that no list holds or waits for are as good as new.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(client.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let turn = turn.acquire_owned().await.expect("the turns are never closed");
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the slots are never closed");
        ListSlot { _slot: slot, _turn: turn }
    }
}

/// Some of the jobs of a client.
#[derive(Debug)]
pub(crate) struct JobPage {
    pub(crate) jobs: Vec<JobSummary>,
    /// The last job that was looked at: the next page begins behind it.
    pub(crate) last: Option<JobId>,
    /// There are jobs behind the last one.
    pub(crate) has_more: bool,
}

impl Engine {
    /// Returns the jobs of a client that `accepts` leaves in, behind `after`: at most `limit`, and fewer where many are left
    /// out. `None` when the client has no job `after`.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`] when the journal cannot be read.
    pub(crate) async fn list(
        &self,
        client: &ClientId,
        after: Option<JobId>,
        limit: usize,
        accepts: impl Fn(&JobSummary) -> bool,
    ) -> Result<Option<JobPage>, Failure> {
        let mut page = JobPage { jobs: Vec::new(), last: None, has_more: false };
        let mut looked_at = 0;
        let _slot = self.lists.enter(client).await;
        let started = Instant::now();
        loop {
            let behind = page.last.or(after);
            let read = self.driver.services.journal.client_jobs(client.clone(), behind, CHUNK).await;
            let Some(jobs) = read.map_err(|error| unreadable(&error))? else { return Ok(None) };
            let is_last = jobs.len() < CHUNK;
            for job in summaries(&self.driver, client, jobs).await? {
                let seen_enough = !page.jobs.is_empty() || started.elapsed() >= LOOKING_MAX;
                if page.jobs.len() == limit || (looked_at >= LOOKED_AT_MAX && seen_enough) {
                    page.has_more = true;
                    return Ok(Some(page));
                }
                looked_at += 1;
                page.last = Some(job.id);
                if accepts(&job) {
                    page.jobs.push(job);
                }
            }
            if is_last {
                return Ok(Some(page));
            }
        }
    }
}

/// Returns the jobs as they are now.
async fn summaries(driver: &Driver, client: &ClientId, jobs: Vec<StoredJob>) -> Result<Vec<JobSummary>, Failure> {
    let live = driver.views(client, jobs.iter().map(|job| job.record.id));
    let mut summaries = Vec::with_capacity(jobs.len());
    for mut job in jobs {
        if let Some(observed) = live.get(&job.record.id) {
            summaries.push(summary_of_live(driver, observed));
            continue;
        }
        if job.end().is_none() {
            let Some(now) = stored(driver, client, job.record.id).await? else { continue };
            job = now;
        }
        let state = stored_state(driver, &job);
        summaries.push(summary(&job.record, state));
    }
    Ok(summaries)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_lists_of_one_client_do_not_wait_for_those_of_another() {
        let (slots, client) = (ListSlots::new(), |name: &str| ClientId(name.into()));
        let (alice, bob, carol) = (client("alice"), client("bob"), client("carol"));
        let reading = slots.enter(&alice).await;
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(slots.enter(&alice))).collect();
        assert!(waiting.iter_mut().all(|one| one.now_or_never().is_none()), "one at a time");
        let other = slots.enter(&bob).now_or_never().expect("a slot is left for another client");
        assert!(slots.enter(&carol).now_or_never().is_none(), "two in all");
        drop(other);
        assert!(slots.enter(&carol).now_or_never().is_some());
        drop(reading);
        waiting.remove(0).now_or_never().expect("the next list of the client");
        drop(waiting);
        drop(slots.enter(&bob).await);
        assert_eq!(slots.turns.lock().unwrap().len(), 1, "no more than are in use, and the last");
    }
}
