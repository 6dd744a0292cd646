//! How many requests wait for, or are receiving, the result of a job; also after the job has ended.
//!
//! A result that is being received is not claimed by another request, and not evicted. One that is being fetched again is
//! not evicted either.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::JobId;

/// The number of requests by job. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct WaiterCounts {
    counts: Arc<Mutex<HashMap<JobId, usize>>>,
    /// Jobs whose pictures are fetched again, which no request need wait for.
    refetched: Arc<Mutex<HashSet<JobId>>>,
}

/// Marks a job whose pictures are fetched again until this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct RefetchMark {
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
    pub(in crate::engine) fn add(&self, job: JobId) -> CountedWaiter {
        *self.lock().entry(job).or_default() += 1;
        CountedWaiter { counts: self.clone(), job }
    }

    /// Counts a request only if it is the first of its job: of two that claim the same result, one gets it.
    pub(in crate::engine) fn add_first(&self, job: JobId) -> Option<CountedWaiter> {
        let mut counts = self.lock();
        let count = counts.entry(job).or_default();
        (*count == 0).then(|| {
            *count = 1;
            CountedWaiter { counts: self.clone(), job }
        })
    }

    pub(in crate::engine) fn has(&self, job: JobId) -> bool {
        self.lock().contains_key(&job)
    }

    /// Marks a job whose pictures are fetched again. There is one refetch of a job at a time.
    pub(in crate::engine) fn mark_refetched(&self, job: JobId) -> RefetchMark {
        self.refetched.lock().unwrap_or_else(PoisonError::into_inner).insert(job);
        RefetchMark { counts: self.clone(), job }
    }

    /// Whether the pictures of a job are being received, or fetched again.
    pub(in crate::engine) fn is_in_use(&self, job: JobId) -> bool {
        self.has(job) || self.refetched.lock().unwrap_or_else(PoisonError::into_inner).contains(&job)
    }

    pub(in crate::engine) fn total(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CountedWaiter {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.job) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.job);
            }
        }
    }
}

impl Drop for RefetchMark {
    fn drop(&mut self) {
        self.counts.refetched.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.job);
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
}
