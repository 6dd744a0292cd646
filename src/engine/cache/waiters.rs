//! Which results are in use: how many requests wait for, or are receiving, the result of a job, also after the job has ended;
//! whether it is fetched again; whether it is being removed.
//!
//! A result that is being received is not claimed by another request, and not removed. One that is being fetched again is
//! not removed either. While one is removed, requests wait: its record and its files change one after the other, and in between a
//! file that is gone would be taken for a damaged one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::JobId;

/// The pause between two looks at whether a result is still being removed: a commit takes some milliseconds.
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// The number of requests by job, and what else uses a result. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct WaiterCounts(Arc<Mutex<HashMap<JobId, Uses>>>);

/// What uses the result of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Uses {
    waiters: usize,
    /// Its pictures are fetched again, which no request need wait for.
    refetched: bool,
    /// It is being deleted or evicted.
    removed: bool,
}

/// Marks a job whose pictures are fetched again until this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct RefetchMark {
    counts: WaiterCounts,
    job: JobId,
}

/// Keeps requests from a result that is being removed until this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct DeleteMark {
    counts: WaiterCounts,
    job: JobId,
}

/// One request that is counted until this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct CountedWaiter {
    counts: WaiterCounts,
    job: JobId,
}

impl WaiterCounts {
    /// Counts a request for a job that has not ended, or for a failure.
    pub(in crate::engine) fn add(&self, job: JobId) -> CountedWaiter {
        self.lock().entry(job).or_default().waiters += 1;
        CountedWaiter { counts: self.clone(), job }
    }

    /// Counts a request for a stored result, once that is not being removed. What was read of the job before may be removed by then.
    pub(in crate::engine) async fn enter(&self, job: JobId) -> CountedWaiter {
        loop {
            if let Some(counted) = self.add_if(job, |uses| !uses.removed) {
                return counted;
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
    }

    /// Counts a request only if it is the first of its job: of two that claim the same result, one gets it.
    pub(in crate::engine) fn add_first(&self, job: JobId) -> Option<CountedWaiter> {
        self.add_if(job, |uses| uses.waiters == 0 && !uses.removed)
    }

    fn add_if(&self, job: JobId, may: impl FnOnce(Uses) -> bool) -> Option<CountedWaiter> {
        let mut counts = self.lock();
        if !may(counts.get(&job).copied().unwrap_or_default()) {
            return None;
        }
        counts.entry(job).or_default().waiters += 1;
        Some(CountedWaiter { counts: self.clone(), job })
    }

    pub(in crate::engine) fn has(&self, job: JobId) -> bool {
        self.lock().get(&job).is_some_and(|uses| uses.waiters > 0)
    }

    /// Claims a result that is to be removed; `None` while it is in use.
    pub(in crate::engine) fn claim_removal(&self, job: JobId) -> Option<DeleteMark> {
        let mut counts = self.lock();
        if counts.contains_key(&job) {
            return None;
        }
        counts.insert(job, Uses { removed: true, ..Uses::default() });
        Some(DeleteMark { counts: self.clone(), job })
    }

    /// Marks a job whose pictures are fetched again, for a request that is counted. There is one refetch of a job at a time.
    pub(in crate::engine) fn mark_refetched(&self, job: JobId) -> RefetchMark {
        self.lock().entry(job).or_default().refetched = true;
        RefetchMark { counts: self.clone(), job }
    }

    /// Whether the pictures of a job are being received, fetched again, or removed.
    pub(in crate::engine) fn is_in_use(&self, job: JobId) -> bool {
        self.lock().contains_key(&job)
    }

    pub(in crate::engine) fn total(&self) -> usize {
        self.lock().values().map(|uses| uses.waiters).sum()
    }

    fn end(&self, job: JobId, end: impl FnOnce(&mut Uses)) {
        let mut counts = self.lock();
        if let Some(uses) = counts.get_mut(&job) {
            end(uses);
            if *uses == Uses::default() {
                counts.remove(&job);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Uses>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CountedWaiter {
    fn drop(&mut self) {
        self.counts.end(self.job, |uses| uses.waiters -= 1);
    }
}

impl Drop for RefetchMark {
    fn drop(&mut self) {
        self.counts.end(self.job, |uses| uses.refetched = false);
    }
}

impl Drop for DeleteMark {
    fn drop(&mut self) {
        self.counts.end(self.job, |uses| uses.removed = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn of_two_claims_the_first_succeeds_until_it_is_dropped() {
        let counts = WaiterCounts::default();
        let job = JobId::new(Timestamp::from_millis(1_790_000_000_000), 1);
        let first = counts.add_first(job).unwrap();
        assert!(counts.add_first(job).is_none());
        let second = counts.add(job);
        assert_eq!(counts.total(), 2);
        drop(first);
        assert!(counts.has(job) && counts.add_first(job).is_none());
        drop(second);
        assert!(!counts.has(job), "nothing is left of it");
        assert!(counts.add_first(job).is_some());
    }

    #[test]
    fn a_refetch_is_no_waiter_and_keeps_the_result() {
        let counts = WaiterCounts::default();
        let job = JobId::new(Timestamp::from_millis(1_790_000_000_000), 1);
        let mark = counts.mark_refetched(job);
        assert!(counts.is_in_use(job) && !counts.has(job));
        assert_eq!(counts.total(), 0);
        assert!(counts.add_first(job).is_some(), "its result can be claimed");
        drop(mark);
        assert!(!counts.is_in_use(job));
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_that_is_removed_has_no_other_use_and_requests_wait() {
        let counts = WaiterCounts::default();
        let job = JobId::new(Timestamp::from_millis(1_790_000_000_000), 1);
        let mark = counts.mark_refetched(job);
        assert!(counts.claim_removal(job).is_none(), "it is fetched again");
        drop(mark);
        let counted = counts.enter(job).await;
        assert!(counts.claim_removal(job).is_none(), "it is received");
        drop(counted);
        let claim = counts.claim_removal(job).unwrap();
        assert!(counts.claim_removal(job).is_none() && counts.add_first(job).is_none() && !counts.has(job));
        let late = tokio::time::timeout(Duration::from_secs(1), counts.enter(job)).await;
        assert!(late.is_err() && counts.total() == 0);
        drop(claim);
        drop(counts.enter(job).await);
        assert!(!counts.is_in_use(job), "nothing is left of it");
    }
}
