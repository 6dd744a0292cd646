//! What the gateway learns while it runs, in the state files of the data directory.

use std::io;
use std::time::Duration;

use crate::budget::Budget;
use crate::engine::Engine;
use crate::storage::StateFiles;
use crate::upstream::formats::{FormatStore, StoredFormats};

/// Names of the state files: limits of the upstream's accounts, and generation times.
pub(super) const BUDGET_STATE: &str = "budget";
pub(super) const LATENCY_STATE: &str = "latencies";
/// Name of the state file of known request formats, which is written at each change.
pub(super) const FORMAT_STATE: &str = "contact";
/// A crash loses at most what was learned in this time.
const SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// Saves what the budget and the engine have learned.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    pub(super) files: StateFiles,
    pub(super) budget: Budget,
    pub(super) engine: Engine,
}

/// The state file of known request formats.
#[derive(Debug)]
pub(super) struct FormatFile(pub(super) StateFiles);

impl FormatStore for FormatFile {
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
        let saved = self.files.write(BUDGET_STATE, &self.budget.learned());
        let saved = saved.and_then(|()| self.files.write(LATENCY_STATE, &self.engine.learned()));
        if let Err(error) = saved {
            tracing::warn!(%error, "saving the learned limits and generation times failed; a restart uses older ones");
        }
    }
}
