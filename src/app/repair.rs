//! `ledger verify --repair`: fetches damaged and missing pictures again, through the ordinary engine, and brings orphans back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream;

use super::backend::Backend;
use crate::config::Config;
use crate::ledger;
use crate::lifecycle::{Grace, Lifecycle};
use crate::storage;
use crate::telemetry::Metrics;
use crate::telemetry::recent::RecentRequests;

/// Pictures that are fetched at once.
const AT_ONCE: usize = 4;

/// Repairs what can be repaired; nothing is bought. Purchases that are under way are followed meanwhile, as by a gateway.
///
/// # Errors
///
/// When the journal cannot be read, or a gateway runs on the storage.
pub async fn repair(config: &Config) -> anyhow::Result<()> {
    let damaged = ledger::damaged_pictures(config)?;
    let lifecycle = Lifecycle::default();
    let upstream = |gptproto| Arc::new(gptproto) as Arc<_>;
    // Its start brings orphans back that the journal knows.
    let refused = "nothing was repaired; a repair needs the storage to itself, so stop a gateway that runs";
    let (metrics, recent) = (Metrics::default(), RecentRequests::default());
    let opened = storage::open(&config.storage, &config.cache, rand::random(), &metrics).await.context(refused)?;
    let backend =
        Backend::start(config, opened, false, &lifecycle, &metrics, &recent, upstream).await.context(refused)?;
    let total = damaged.len();
    let mut fetches =
        stream::iter(damaged.into_iter().map(|(job, index)| backend.engine.picture(job, index, |_| true)))
            .buffer_unordered(AT_ONCE)
            .enumerate();
    while let Some((done, _)) = fetches.next().await {
        eprintln!("{} of {total} damaged or missing pictures tried", done + 1);
    }
    drop(fetches);
    lifecycle.drain(Grace { delay: Duration::ZERO, finish: config.server.shutdown.grace }).await;
    backend.storage.close().await;
    Ok(())
}
