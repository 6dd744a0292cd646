//! Metrics of the storage: the disk, and how long the journal takes.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;

use crate::storage::Journal;
use crate::telemetry::Metrics;

type Bytes = Gauge<u64, AtomicU64>;

/// The file system of the data directory, as it was last asked.
#[derive(Clone, Debug, Default)]
pub(super) struct DiskMetrics {
    pub(super) free: Bytes,
    pub(super) used: Bytes,
}

impl DiskMetrics {
    /// Registers the metrics, with the limit below which nothing is bought.
    pub(super) fn register(&self, free_bytes_min: u64, metrics: &Metrics) {
        let limit = Bytes::default();
        limit.set(free_bytes_min);
        metrics.register("storage", |registry| {
            for (name, help, gauge) in [
                ("disk_free_bytes", "Bytes of the file system of storage.directory that are free", &self.free),
                ("disk_used_bytes", "Bytes of that file system that are used, by the gateway or others", &self.used),
                ("disk_free_min_bytes", "Free bytes below which nothing is bought, as storage.free_bytes_min", &limit),
            ] {
                registry.register(name, help, gauge.clone());
            }
        });
    }
}

/// Registers the metrics of the journal.
pub(super) fn register_journal(journal: &dyn Journal, metrics: &Metrics) {
    metrics.register("storage", |registry| {
        let help = "Time of a commit to the journal that reaches the disk before it returns; purchases wait for them";
        registry.register("journal_sync_seconds", help, journal.sync_seconds());
    });
}
