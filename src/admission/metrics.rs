//! What admission counts: refusals by limit, and for each client how far it is with each limit it has.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Admission;
use crate::model::Limit;
use crate::telemetry::Metrics;

type Level = Family<LevelLabels, Gauge<f64, AtomicU64>>;

#[derive(Clone, Debug, Default)]
pub(super) struct AdmissionMetrics {
    refusals: Family<LimitLabel, Counter>,
    limit: Level,
    used: Level,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

/// Clients are those of the configuration, so the set stays finite.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabels {
    client: String,
    limit: &'static str,
}

impl AdmissionMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("admission", |registry| {
            registry.register("refusals", "Requests refused by a limit of their client", own.refusals.clone());
            registry.register("limit", "Limits that are set, in the unit of their name", own.limit.clone());
            registry.register("used", "What of each limit is used or reserved", own.used.clone());
        });
        own
    }

    pub(super) fn refused(&self, limit: Limit) {
        self.refusals.get_or_create(&LimitLabel { limit: limit.name() }).inc();
    }
}

impl Admission {
    /// Brings the gauges up to date.
    pub(crate) fn refresh_metrics(&self) {
        for client in self.status() {
            for (limit, used, most) in client.levels() {
                let labels = LevelLabels { client: client.name.clone(), limit: limit.name() };
                self.metrics.limit.get_or_create(&labels).set(most);
                self.metrics.used.get_or_create(&labels).set(used);
            }
        }
    }
}
