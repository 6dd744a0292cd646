//! Which stored results go, and when: goods until delivered or expired, then cache under a byte budget.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Core, Settings};
use crate::model::{Digest, JobId, Timestamp};
use crate::storage::JournalError;
use crate::storage::journal::{Record, StoredResult};

/// How long a result that is not for later requests stays after its delivery: its address may still be in use.
const PRIVATE_LINGER: Duration = Duration::from_hours(1);

pub(super) async fn run(core: Arc<Core>) {
    loop {
        tokio::time::sleep(core.settings.sweep_interval).await;
        if let Err(error) = core.sweep().await {
            tracing::warn!(%error, "the sweep did not finish");
        }
    }
}

impl Core {
    async fn sweep(&self) -> Result<(), JournalError> {
        let shelved = self.journal.stored_results().await?;
        let doomed = doomed(&shelved, self.clock.now(), &self.settings);
        if doomed.is_empty() {
            return Ok(());
        }
        let mut holders: HashMap<Digest, usize> = HashMap::new();
        for picture in shelved.iter().flat_map(|shelved| &shelved.pictures) {
            *holders.entry(picture.digest).or_default() += 1;
        }
        let mut removed = 0_usize;
        for shelved in shelved.iter().filter(|shelved| doomed.contains(&shelved.job)) {
            if self.jobs.has_waiters(shelved.job) {
                continue;
            }
            // The record first: a file without an order is swept at the next start, an order without its file is a loss.
            self.journal.append(Record::Evicted { job: shelved.job }).await?;
            for picture in &shelved.pictures {
                let left = holders.entry(picture.digest).and_modify(|count| *count -= 1).or_default();
                if *left == 0 {
                    if let Err(error) = self.results.remove(picture.digest).await {
                        tracing::warn!(%error, "a result could not be removed");
                    }
                    removed += 1;
                }
            }
        }
        tracing::info!(jobs = doomed.len(), files = removed, "swept expired results");
        Ok(())
    }
}

/// The orders whose pictures go. `shelved` is oldest first.
fn doomed(shelved: &[StoredResult], now: Timestamp, settings: &Settings) -> Vec<JobId> {
    let expired = |shelved: &StoredResult| {
        let keep = match (shelved.delivered, shelved.shareable) {
            (Some(_), false) => PRIVATE_LINGER,
            (_, true) => settings.results_ttl.max(settings.cache_ttl),
            (None, false) => settings.results_ttl,
        };
        now.since(shelved.resolved) > keep
    };
    let size = |shelved: &StoredResult| shelved.pictures.iter().map(|picture| picture.bytes).sum::<u64>();
    let (gone, kept): (Vec<&StoredResult>, Vec<&StoredResult>) = shelved.iter().partition(|shelved| expired(shelved));
    let mut doomed: Vec<JobId> = gone.iter().map(|shelved| shelved.job).collect();
    let mut bytes: u64 = kept.iter().map(|shelved| size(shelved)).sum();
    // Undelivered results are goods, not cache: the byte budget never takes them.
    for shelved in kept.iter().filter(|shelved| shelved.delivered.is_some()) {
        if bytes <= settings.results_bytes_max {
            break;
        }
        bytes -= size(shelved);
        doomed.push(shelved.job);
    }
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CacheMode;
    use crate::model::{Format, StoredPicture};

    const DAY: Duration = Duration::from_hours(24);
    const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn shelved(number: u128, delivered: bool, shareable: bool) -> StoredResult {
        let picture = StoredPicture { digest: Digest::of(b"x"), bytes: 100, format: Format::Png, width: 1, height: 1 };
        StoredResult {
            job: JobId::new(START, number),
            pictures: vec![picture],
            resolved: START,
            delivered: delivered.then_some(START),
            shareable,
        }
    }

    fn settings(results_bytes_max: u64) -> Settings {
        Settings {
            cache: CacheMode::On,
            cache_ttl: DAY,
            results_ttl: 2 * DAY,
            results_bytes_max,
            sweep_interval: DAY,
            submit_attempts_max: 1,
            on_unknown: crate::config::OnUnknown::Hold,
            unknown_hold: DAY,
            deadline: DAY,
            picture_bytes_max: 1,
            download_timeout: DAY,
            polls_max: 1,
        }
    }

    #[test]
    fn goods_stay_until_they_expire() {
        let shelf = [shelved(1, true, true), shelved(2, false, true), shelved(3, true, false)];
        let at = |after: Duration| doomed(&shelf, START.plus(after), &settings(u64::MAX));
        assert!(at(Duration::from_mins(1)).is_empty());
        assert_eq!(at(DAY), [shelf[2].job], "not for later requests, and delivered");
        assert_eq!(at(3 * DAY).len(), 3);
    }

    #[test]
    fn the_byte_budget_takes_the_oldest_delivered_ones() {
        let shelf = [shelved(1, false, true), shelved(2, true, true), shelved(3, true, true)];
        let doomed = |bytes| doomed(&shelf, START, &settings(bytes));
        assert!(doomed(300).is_empty());
        assert_eq!(doomed(200), [shelf[1].job]);
        assert_eq!(doomed(0), [shelf[1].job, shelf[2].job], "the undelivered one is not cache");
    }
}
