//! What the gateway learns while it runs, stored under these names.

use std::io;
use std::time::Duration;

use crate::budget::Budget;
use crate::engine::Engine;
use crate::storage::LearnedState;
use crate::upstream::formats::{FormatStore, StoredFormats};

/// Names of stored state: limits of the upstream's accounts, and generation times.
pub(super) const BUDGET_STATE: &str = "budget";
pub(super) const LATENCY_STATE: &str = "latencies";
/// Name of the stored state of known request formats, which is written at each change.
pub(super) const FORMAT_STATE: &str = "contact";
/// A crash loses at most what was learned in this time.
const SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// Saves what the budget and the engine have learned.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    pub(super) state: LearnedState,
    pub(super) budget: Budget,
    pub(super) engine: Engine,
}

/// The stored state of known request formats.
#[derive(Debug)]
pub(super) struct FormatState(pub(super) LearnedState);

impl FormatStore for FormatState {
    fn save(&self, formats: &StoredFormats) -> io::Result<()> {
        self.0.write(FORMAT_STATE, formats)
    }
}

impl Learned {
    /// Saves at regular intervals. Runs forever.
    pub(super) async fn save_regularly(self) {
        loop {
            tokio::time::sleep(SAVE_INTERVAL).await;
            let learned = self.clone();
            // A panic inside loses what was learned since the last save, no more.
            let _ = tokio::task::spawn_blocking(move || learned.save()).await;
        }
    }

    /// Blocks.
    pub(super) fn save(&self) {
        let saved = self.state.write(BUDGET_STATE, &self.budget.learned());
        let saved = saved.and_then(|()| self.state.write(LATENCY_STATE, &self.engine.learned()));
        if let Err(error) = saved {
            tracing::warn!(%error, "saving the learned limits and generation times failed; a restart uses older ones");
        }
    }
}
