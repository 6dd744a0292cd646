//! Which stored results are evicted, and when: unclaimed results when they expire; delivered ones are cache, and are
//! also evicted, oldest first, when the results take more than their byte limit.
//!
//! Ages are counted in the journal's running time, so that no setting of the wall clock evicts anything. Results are read and
//! evicted in pages, between which purchases are journalled.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::waiters::WaiterCounts;
use crate::config::{CacheConfig, StorageConfig};
use crate::model::{JobId, RunningTime};
use crate::storage::journal::{Record, ResultPage, StoredResult};
use crate::storage::{Journal, JournalError, Results};

/// How long a result that must not answer later requests stays after its delivery: its address may still be in use.
const PRIVATE_LINGER: Duration = Duration::from_hours(1);
/// Results in one page: reading and evicting it takes the journal some milliseconds, for which purchases wait.
const PAGE: usize = 32;

/// Evicts stored results.
#[derive(Debug)]
pub(in crate::engine) struct Eviction {
    pub(in crate::engine) journal: Arc<dyn Journal>,
    pub(in crate::engine) results: Results,
    pub(in crate::engine) waiters: WaiterCounts,
    pub(in crate::engine) settings: EvictionSettings,
}

/// Settings of eviction.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct EvictionSettings {
    cache_ttl: Duration,
    results_ttl: Duration,
    results_bytes_max: u64,
    interval: Duration,
}

impl EvictionSettings {
    pub(in crate::engine) fn new(cache: &CacheConfig, storage: &StorageConfig) -> Self {
        Self {
            cache_ttl: cache.ttl,
            results_ttl: storage.results_ttl,
            results_bytes_max: storage.results_bytes_max,
            interval: storage.eviction_interval,
        }
    }

    /// Returns how long results of a kind are kept.
    fn keep(&self, kind: Kind) -> Duration {
        match (kind.delivered, kind.shareable) {
            (true, false) => PRIVATE_LINGER,
            (_, true) => self.results_ttl.max(self.cache_ttl),
            (false, false) => self.results_ttl,
        }
    }
}

/// A kind of stored results.
#[derive(Clone, Copy, Debug)]
struct Kind {
    delivered: bool,
    shareable: bool,
}

impl Kind {
    const ALL: [Self; 4] = [Self::DELIVERED[0], Self::DELIVERED[1], Self::of(false, false), Self::of(false, true)];
    const DELIVERED: [Self; 2] = [Self::of(true, false), Self::of(true, true)];

    const fn of(delivered: bool, shareable: bool) -> Self {
        Self { delivered, shareable }
    }
}

/// Reads the results of one kind that were stored before some time, page after page.
struct Pages {
    kind: Kind,
    stored_before: RunningTime,
    after: Option<(RunningTime, JobId)>,
}

impl Pages {
    fn new(kind: Kind, stored_before: RunningTime) -> Self {
        Self { kind, stored_before, after: None }
    }

    /// Reads the results behind the one that was noted last.
    async fn read(&self, journal: &dyn Journal) -> Result<Vec<StoredResult>, JournalError> {
        let Self { kind: Kind { delivered, shareable }, stored_before, after } = *self;
        journal.stored_results(ResultPage { delivered, shareable, stored_before, after, limit: PAGE }).await
    }

    /// Notes the last result that was looked at.
    fn pass(&mut self, result: &StoredResult) {
        self.after = Some((result.stored, result.job));
    }
}

/// What a sweep has removed.
#[derive(Clone, Copy, Debug, Default)]
struct Removed {
    jobs: usize,
    pictures: usize,
}

impl Eviction {
    pub(in crate::engine) async fn run(self) {
        loop {
            tokio::time::sleep(self.settings.interval).await;
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "eviction of results failed; it is tried again after the interval");
            }
        }
    }

    async fn sweep(&self) -> Result<(), JournalError> {
        let mut removed = Removed::default();
        let swept = match self.evict_expired(&mut removed).await {
            Ok(()) => self.make_room(&mut removed).await,
            Err(error) => Err(error),
        };
        let swept = match swept {
            Ok(()) => self.forget_prompts().await,
            Err(error) => Err(error),
        };
        if removed.jobs > 0 {
            tracing::info!(jobs = removed.jobs, pictures = removed.pictures, "evicted results");
        }
        swept
    }

    /// Evicts the results that have been kept long enough.
    async fn evict_expired(&self, removed: &mut Removed) -> Result<(), JournalError> {
        let now = self.journal.running_time();
        for kind in Kind::ALL {
            let mut pages = Pages::new(kind, now.minus(self.settings.keep(kind)));
            loop {
                let page = pages.read(&*self.journal).await?;
                let Some(last) = page.last() else { break };
                pages.pass(last);
                self.evict(&page, removed).await?;
            }
        }
        Ok(())
    }

    /// Forgets the prompts of jobs that have brought no pictures, or none that are stored, and are as old as results become.
    async fn forget_prompts(&self) -> Result<(), JournalError> {
        let kept_before = self.journal.running_time().minus(self.settings.results_ttl);
        loop {
            let jobs = self.journal.expired_prompts(kept_before, PAGE).await?;
            if jobs.is_empty() {
                return Ok(());
            }
            for appended in jobs.into_iter().map(|job| self.journal.append(Record::PromptExpired { job })) {
                appended.await?;
            }
        }
    }

    /// Evicts delivered results, oldest first, until the others are within the byte limit. Unclaimed results are no cache:
    /// the byte limit never evicts them.
    async fn make_room(&self, removed: &mut Removed) -> Result<(), JournalError> {
        let mut bytes = self.journal.stored_bytes().await?;
        let mut kinds = Kind::DELIVERED.map(|kind| Pages::new(kind, RunningTime::MAX));
        while bytes > self.settings.results_bytes_max {
            let mut oldest = Vec::new();
            for (kind, pages) in kinds.iter().enumerate() {
                oldest.extend(pages.read(&*self.journal).await?.into_iter().map(|result| (kind, result)));
            }
            oldest.sort_by_key(|(_, result)| (result.stored, result.job));
            oldest.truncate(PAGE);
            if oldest.is_empty() {
                break;
            }
            let mut page = Vec::new();
            for (kind, result) in oldest {
                if bytes <= self.settings.results_bytes_max {
                    break;
                }
                kinds[kind].pass(&result);
                // A result that is being received, or fetched again, stays, and does not count as room.
                if !self.waiters.is_in_use(result.job) {
                    bytes = bytes.saturating_sub(result.bytes());
                    page.push(result);
                }
            }
            self.evict(&page, removed).await?;
        }
        Ok(())
    }

    /// Evicts these results, but for those that are being received or fetched again.
    async fn evict(&self, page: &[StoredResult], removed: &mut Removed) -> Result<(), JournalError> {
        // The record first: a file without a job is an orphan from the next start on, a job without its file is a loss. All records
        // of a page share one commit.
        let claimed = page.iter().filter_map(|result| Some((result, self.waiters.claim_removal(result.job)?)));
        let (evicted, _claims): (Vec<_>, Vec<_>) = claimed
            .map(|(result, claim)| ((result, self.journal.append(Record::Evicted { job: result.job })), claim))
            .unzip();
        let mut digests = HashSet::new();
        let mut journalled = Ok(());
        for (result, appended) in evicted {
            match appended.await {
                Ok(()) => {
                    removed.jobs += 1;
                    digests.extend(result.pictures.iter().map(|picture| picture.digest));
                }
                Err(error) => journalled = Err(error),
            }
        }
        // Two jobs with equal bytes share one file. The record has removed the bytes of pictures in the journal.
        let (pictures, refused) = self.results.remove_unused(&*self.journal, digests).await?;
        removed.pictures += pictures;
        if let Some(error) = refused {
            tracing::warn!(%error, "evicted pictures could not be removed; the next start makes them orphans");
        }
        journalled
    }
}

#[cfg(test)]
mod tests;
