//! Metrics of what is kept on disk: uploads, and orphans.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Default)]
pub(super) struct DiskMetrics {
    bytes: Gauge,
    reserved_bytes: Gauge,
    memory_bytes: Gauge,
    requests_waiting: Gauge,
    requests_refused: Counter,
    orphans: Gauge,
    orphan_bytes: Gauge,
}

/// What the gauges show.
pub(super) struct DiskStatus {
    pub(super) spool_bytes: u64,
    pub(super) spool_reserved_bytes: u64,
    pub(super) spool_memory_bytes: u64,
    pub(super) spool_waiting: usize,
    /// Since the start.
    pub(super) spool_refused: u64,
    pub(super) orphans: u64,
    pub(super) orphan_bytes: u64,
}

impl DiskMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            ("spool_bytes", "Bytes of uploads that have arrived and are held", &self.bytes),
            ("spool_reserved_bytes", "Bytes held, or reserved for uploads that still arrive", &self.reserved_bytes),
            ("spool_memory_bytes", "Bytes of uploads held in memory", &self.memory_bytes),
            ("spool_requests_waiting", "Requests that wait for space for their upload", &self.requests_waiting),
            ("orphans", "Stored pictures that no job has", &self.orphans),
            ("orphan_bytes", "Bytes of stored pictures that no job has", &self.orphan_bytes),
        ] {
            registry.register(name, help, gauge.clone());
        }
        let help = "Requests refused because there was no space for their upload";
        registry.register("spool_requests_refused", help, self.requests_refused.clone());
    }

    pub(super) fn set(&self, figures: &DiskStatus) {
        for (figure, gauge) in [
            (figures.spool_bytes, &self.bytes),
            (figures.spool_reserved_bytes, &self.reserved_bytes),
            (figures.spool_memory_bytes, &self.memory_bytes),
            (figures.spool_waiting as u64, &self.requests_waiting),
            (figures.orphans, &self.orphans),
            (figures.orphan_bytes, &self.orphan_bytes),
        ] {
            gauge.set(i64::try_from(figure).unwrap_or(i64::MAX));
        }
        self.requests_refused.inc_by(figures.spool_refused.saturating_sub(self.requests_refused.get()));
    }
}
