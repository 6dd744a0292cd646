//! Jobs from the request to the result, and the requests that wait for them. The engine knows nothing of HTTP.
//!
//! A *job* is what a request asks for. It has one or more *purchases*, each one paid prediction at the upstream, and
//! any number of *waiters*, the requests that wait for it. A tracked task owns the work, never the request: dropping a
//! waiter removes one waiter and cancels nothing that is paid for.
//!
//! Wanted:
//! - A step is in the journal before it is taken: the intent before the upload, the commit before the last byte, the id
//!   before the first poll, the pictures before the answer.
//! - A further request for a job that is under way joins it, as `reuse` decides.
//! - A job without waiters gives up its slot in the queue while nothing of it is bought.
//!
//! Known races, and their solutions:
//! - Two equal requests arrive at once: the table is searched again, under its lock, before a job is listed; the second
//!   request joins the first job.
//! - The last waiter leaves while the reservation arrives: the lock decides. The side that finds no waiter and nothing
//!   bought takes the job off the list, so that no request can join a job that is being dropped.
//! - A job ends between a look-up in the table and a look-up in the journal: its end is in the journal before it leaves
//!   the table, so the second look-up finds it.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::config::{CacheConfig, StorageConfig, UpstreamConfig};
use crate::model::{ByteSource, ClientId, Failure, JobId, StoredPicture};
use crate::polling::latency::StoredLatencies;
use crate::storage::JournalError;
use crate::storage::spool::{Spool, SpoolStatus};

mod cache;
mod core;
mod eviction;
mod jobs;
mod metrics;
mod purchase;
mod recovery;
mod reuse;
mod view;
mod waiter;

pub(crate) use self::core::Parts;
use self::core::{Core, Settings};
pub(crate) use jobs::{CancelOutcome, JobRequest, JobStage, WaitMode};
pub(crate) use metrics::Status;
pub(crate) use view::{JobStatus, JobView};
pub(crate) use waiter::{AnswerSource, JobEvent, WaitError, Waiter};

/// Handle to the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    core: Arc<Core>,
}

impl Engine {
    /// Builds the engine, resumes what the journal shows as under way, and starts the scheduler of polls and the
    /// eviction.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be read or written.
    pub(crate) async fn start(
        parts: Parts,
        upstream: &UpstreamConfig,
        cache: &CacheConfig,
        storage: &StorageConfig,
    ) -> Result<Self, JournalError> {
        // `Core::scheduled_polls` says what bounds it.
        let (sender, scheduled_polls) = mpsc::unbounded_channel();
        let core = Arc::new(Core::new(parts, upstream, Settings::new(upstream, cache, storage), sender));
        core.recover().await?;
        core.lifecycle.spawn_service("poll scheduler", purchase::scheduler::run(Arc::clone(&core), scheduled_polls));
        core.lifecycle.spawn_service("eviction", eviction::run(Arc::clone(&core)));
        Ok(Self { core })
    }

    /// Returns the store of uploads.
    pub(crate) fn spool(&self) -> &Spool {
        &self.core.spool
    }

    /// Answers from what is stored, joins what is under way, or begins to buy.
    ///
    /// # Errors
    ///
    /// A [`Failure`] with which nothing was bought.
    pub(crate) async fn submit(&self, job: JobRequest) -> Result<Waiter, Failure> {
        self.core.submit(job).await
    }

    /// Opens stored pictures, in their order.
    ///
    /// # Errors
    ///
    /// [`Failure::ResultLost`] when a picture is gone or changed on disk.
    pub(crate) async fn open(&self, pictures: &[StoredPicture]) -> Result<Vec<Arc<dyn ByteSource>>, Failure> {
        self.core.open(pictures).await
    }

    /// Opens one picture of a job, for its signed address; `None` when it does not exist, or not any more.
    pub(crate) async fn picture(&self, job: JobId, index: usize) -> Option<(StoredPicture, Arc<dyn ByteSource>)> {
        self.core.picture(job, index).await
    }

    /// Returns a job of a client by its id; `None` when the client has no such job.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`] when the journal cannot be read.
    pub(crate) async fn view(&self, client: &ClientId, job: JobId) -> Result<Option<JobView>, Failure> {
        self.core.view(client, job).await
    }

    /// Cancels a client's job while nothing of it is bought; `None` when the client has no such job.
    ///
    /// # Errors
    ///
    /// [`Failure::JournalUnavailable`] when the journal cannot be read.
    pub(crate) async fn cancel(&self, client: &ClientId, job: JobId) -> Result<Option<CancelOutcome>, Failure> {
        self.core.cancel(client, job).await
    }

    /// Whether a write or a sync has failed, so that nothing more may be bought.
    pub(crate) fn storage_failed(&self) -> bool {
        self.core.storage_failed()
    }

    /// Whether the disk has space for what would be bought.
    pub(crate) fn has_room(&self) -> bool {
        self.core.room.has_space()
    }

    /// Returns the learned generation times.
    pub(crate) fn learned(&self) -> StoredLatencies {
        self.core.latencies().stored()
    }

    pub(crate) fn status(&self) -> Status {
        let core = &self.core;
        let mut status = core.jobs.status();
        core.metrics.fill(&mut status);
        let SpoolStatus { bytes, reserved, bytes_max, memory_bytes, waiting, refused } = core.spool.status();
        (status.spool_bytes, status.spool_reserved_bytes, status.spool_memory_bytes) = (bytes, reserved, memory_bytes);
        (status.spool_bytes_max, status.spool_waiting, status.spool_refused) = (bytes_max, waiting, refused);
        status.memory_cache_bytes = core.results.memory_bytes();
        status.storage = if core.storage_failed() { "failed" } else { "ok" };
        status
    }

    /// Updates the gauges before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        self.core.metrics.set_gauges(&self.status());
    }
}

#[cfg(test)]
#[path = "../tests/simulation/simulation.rs"]
mod simulation;
