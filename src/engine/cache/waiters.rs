//! How many requests wait for, or are receiving, the result of a job; also after the job has ended.
//!
//! A result that is being received is not claimed by another request, and not evicted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::JobId;

/// The number of requests by job. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct WaiterCounts {
    counts: Arc<Mutex<HashMap<JobId, usize>>>,
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
}
