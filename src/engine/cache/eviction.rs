//! Which stored results are evicted, and when: unclaimed results when they expire; delivered ones are cache, and are
//! also evicted, oldest first, when the results take more than their byte limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::waiters::WaiterCounts;
use crate::config::{CacheConfig, StorageConfig};
use crate::model::{Clock, Digest, JobId, Timestamp};
use crate::storage::journal::{Record, StoredResult};
use crate::storage::{Journal, JournalError, Results};

/// How long a result that must not answer later requests stays after its delivery: its address may still be in use.
const PRIVATE_LINGER: Duration = Duration::from_hours(1);

/// Evicts stored results.
#[derive(Debug)]
pub(in crate::engine) struct Eviction {
    pub(in crate::engine) clock: Arc<dyn Clock>,
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
}

impl Eviction {
    pub(in crate::engine) async fn run(self) {
        loop {
            tokio::time::sleep(self.settings.interval).await;
            if let Err(error) = self.evict().await {
                tracing::warn!(%error, "eviction of results failed; it is tried again after the interval");
            }
        }
    }

    async fn evict(&self) -> Result<(), JournalError> {
        let results = self.journal.stored_results().await?;
        let evicted = to_evict(&results, self.clock.now(), &self.settings);
        if evicted.is_empty() {
            return Ok(());
        }
        let mut uses: HashMap<Digest, usize> = HashMap::new();
        for picture in results.iter().flat_map(|result| &result.pictures) {
            *uses.entry(picture.digest).or_default() += 1;
        }
        let mut removed = 0_usize;
        for result in results.iter().filter(|result| evicted.contains(&result.job)) {
            if self.waiters.is_in_use(result.job) {
                continue;
            }
            // The record first: a file without a job is removed at the next start, a job without its file is a loss.
            self.journal.append(Record::Evicted { job: result.job }).await?;
            for picture in &result.pictures {
                let left = uses.entry(picture.digest).and_modify(|count| *count -= 1).or_default();
                if *left == 0 {
                    if let Err(error) = self.results.remove(picture.digest).await {
                        tracing::warn!(%error, "an evicted picture could not be removed; it stays until a restart");
                    }
                    removed += 1;
                }
            }
        }
        tracing::info!(jobs = evicted.len(), files = removed, "evicted results");
        Ok(())
    }
}

/// Returns the jobs whose pictures are evicted. `results` is oldest first.
fn to_evict(results: &[StoredResult], now: Timestamp, settings: &EvictionSettings) -> Vec<JobId> {
    let is_expired = |result: &StoredResult| {
        let keep = match (result.delivered, result.shareable) {
            (Some(_), false) => PRIVATE_LINGER,
            (_, true) => settings.results_ttl.max(settings.cache_ttl),
            (None, false) => settings.results_ttl,
        };
        now.since(result.resolved) > keep
    };
    let size = |result: &StoredResult| result.pictures.iter().map(|picture| picture.bytes).sum::<u64>();
    let (expired, kept): (Vec<&StoredResult>, Vec<&StoredResult>) =
        results.iter().partition(|result| is_expired(result));
    let mut evicted: Vec<JobId> = expired.iter().map(|result| result.job).collect();
    let mut bytes: u64 = kept.iter().map(|result| size(result)).sum();
    // Unclaimed results are no cache: the byte limit never evicts them.
    for result in kept.iter().filter(|result| result.delivered.is_some()) {
        if bytes <= settings.results_bytes_max {
            break;
        }
        bytes -= size(result);
        evicted.push(result.job);
    }
    evicted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Format, StoredPicture};

    const DAY: Duration = Duration::from_hours(24);
    const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn stored(number: u128, delivered: bool, shareable: bool) -> StoredResult {
        let picture = StoredPicture { digest: Digest::of(b"x"), bytes: 100, format: Format::Png, width: 1, height: 1 };
        StoredResult {
            job: JobId::new(START, number),
            pictures: vec![picture],
            resolved: START,
            delivered: delivered.then_some(START),
            shareable,
        }
    }

    fn settings(results_bytes_max: u64) -> EvictionSettings {
        EvictionSettings { cache_ttl: DAY, results_ttl: 2 * DAY, results_bytes_max, interval: DAY }
    }

    #[test]
    fn unclaimed_results_stay_until_they_expire() {
        let all = [stored(1, true, true), stored(2, false, true), stored(3, true, false)];
        let at = |after: Duration| to_evict(&all, START.plus(after), &settings(u64::MAX));
        assert!(at(Duration::from_mins(1)).is_empty());
        assert_eq!(at(DAY), [all[2].job], "not for later requests, and delivered");
        assert_eq!(at(3 * DAY).len(), 3);
    }

    #[test]
    fn the_byte_limit_evicts_the_oldest_delivered_results() {
        let all = [stored(1, false, true), stored(2, true, true), stored(3, true, true)];
        let evicted = |bytes| to_evict(&all, START, &settings(bytes));
        assert!(evicted(300).is_empty());
        assert_eq!(evicted(200), [all[1].job]);
        assert_eq!(evicted(0), [all[1].job, all[2].job], "the unclaimed result is no cache");
    }
}
