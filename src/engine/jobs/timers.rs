//! When live jobs are to be looked at again.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::model::JobId;

/// Times at which jobs are looked at. What is due at that time, the job knows: a time that has become void costs a look.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Instant, JobId)>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, job: JobId) {
        self.due.insert((at, job));
    }

    /// Returns the earliest time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Takes out one job whose time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<JobId> {
        let &(at, _) = self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first().map(|(_, job)| job)
    }
}
