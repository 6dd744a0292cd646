//! What the handles of a journal see of its thread.

use std::sync::atomic::{AtomicU8, Ordering};

use prometheus_client::metrics::histogram::Histogram;

use super::running_clock::RunningClock;
use crate::storage::journal::traits::Standing;

/// A synced commit, in seconds: below a millisecond on a local disk with a cache of its own, some hundred on a bad network disk.
const SYNC_BUCKETS: [f64; 13] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];

/// The standing and the running time of an open journal, and how long its commits take.
#[derive(Debug)]
pub(in crate::storage::journal::sqlite) struct Shared {
    standing: AtomicU8,
    pub(super) clock: RunningClock,
    /// Of commits that are synced.
    pub(super) sync_seconds: Histogram,
}

impl Shared {
    pub(in crate::storage::journal::sqlite) fn new(clock: RunningClock) -> Self {
        Self { standing: AtomicU8::new(Standing::Fine as u8), clock, sync_seconds: Histogram::new(SYNC_BUCKETS) }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            standing if standing == Standing::Fine as u8 => Standing::Fine,
            standing if standing == Standing::Away as u8 => Standing::Away,
            _ => Standing::Failed,
        }
    }

    /// Changes the standing, unless the journal has failed: that lasts until the next start. Returns whether it was another
    /// one before.
    pub(super) fn change(&self, to: Standing) -> bool {
        let change = |now| (now != Standing::Failed as u8 && now != to as u8).then_some(to as u8);
        self.standing.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }
}
