//! What the gateway learns while it runs, stored under these names.

use std::io;
use std::time::Duration;

use crate::budget::Budget;
use crate::config::Config;
use crate::engine::Engine;
use crate::model::AccountId;
use crate::storage::{LearnedState, open_state};
use crate::upstream::formats::{FormatStore, StoredFormats};

/// Names of stored state: limits of the upstream's accounts, and generation times.
pub(in crate::app) const BUDGET_STATE: &str = "budget";
pub(in crate::app) const LATENCY_STATE: &str = "latencies";
/// Name of the stored state of known request formats, which is written at each change.
pub(in crate::app) const FORMAT_STATE: &str = "contact";
/// A crash loses at most what was learned in this time.
const SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// Forgets what was learned of an account at the upstream, while no gateway runs. Blocks.
///
/// # Errors
///
/// When the storage is in use by a gateway, or cannot be written.
pub(crate) fn forget_account(config: &Config, sandbox: bool, account: &AccountId) -> anyhow::Result<()> {
    let mut storage = config.storage.clone();
    if sandbox {
        storage.directory = storage.sandbox();
    }
    let state = open_state(&storage)?;
    let Some(mut learned) = state.read::<serde_json::Map<String, serde_json::Value>>(BUDGET_STATE) else {
        return Ok(());
    };
    if learned.remove(&*account.0).is_some() {
        state.write(BUDGET_STATE, &learned)?;
    }
    Ok(())
}

/// Saves what the budget and the engine have learned.
#[derive(Clone, Debug)]
pub(in crate::app) struct Learned {
    pub(super) state: LearnedState,
    pub(super) budget: Budget,
    pub(super) engine: Engine,
}

/// The stored state of known request formats.
#[derive(Debug)]
pub(in crate::app) struct FormatState(pub(super) LearnedState);

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
