//! The jobs of a client, the newest first: those of the journal, in the order of their rows, each as it is now.
//!
//! Known races, and their solutions:
//! - *Jobs are journalled while pages are read.* They come before the first page; a page begins behind a job, not at a number.
//! - *A job ends between the read of the journal and the look-up among the live jobs.* Its end is in the journal before it
//!   leaves the table, so it is read once more.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::view::{JobSummary, stored, stored_state, summary, summary_of_live, unreadable};
use crate::engine::Engine;
use crate::engine::driver::Driver;
use crate::model::{ClientId, Failure, JobId};
use crate::storage::journal::StoredJob;

/// Jobs that are read from the journal at a time: purchases are journalled in between.
const CHUNK: usize = 32;
/// Jobs that are looked at for one page, where the filter leaves some out.
const LOOKED_AT_MAX: usize = 256;

/// Lists that are read at the same time. The journal reads between the commits of purchases, so all further ones wait here.
const LISTS_AT_ONCE: usize = 2;

/// Permission to read a list. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ListSlots(Arc<Semaphore>);

impl ListSlots {
    pub(in crate::engine) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LISTS_AT_ONCE)))
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
        let _slot = self.lists.0.acquire().await.expect("the slots are never closed");
        loop {
            let behind = page.last.or(after);
            let read = self.driver.services.journal.client_jobs(client.clone(), behind, CHUNK).await;
            let Some(jobs) = read.map_err(|error| unreadable(&error))? else { return Ok(None) };
            let is_last = jobs.len() < CHUNK;
            for job in summaries(&self.driver, client, jobs).await? {
                if page.jobs.len() == limit || looked_at == LOOKED_AT_MAX {
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
