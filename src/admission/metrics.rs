//! The metrics of admission: rejections by limit, and for each client its limits and how much of them is used.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::status::ClientStatus;
use crate::model::Limit;
use crate::telemetry::Metrics;
use crate::telemetry::label_names::{LabelNames, OTHER};

type Level = Family<LevelLabels, Gauge<f64, AtomicU64>>;

#[derive(Clone, Debug)]
pub(super) struct AdmissionMetrics {
    clients: LabelNames,
    rejections: Family<LimitLabel, Counter>,
    limit: Level,
    used: Level,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LevelLabels {
    client: Arc<str>,
    limit: &'static str,
}

impl AdmissionMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let own = Self {
            clients: metrics.clients(),
            rejections: Family::default(),
            limit: Family::default(),
            used: Family::default(),
        };
        for limit in Limit::ALL.map(Limit::name) {
            own.rejections.get_or_create_owned(&LimitLabel { limit });
        }
        metrics.register("admission", |registry| {
            registry.register(
                "rejections",
                "Requests rejected because of a limit of their client, by limit",
                own.rejections.clone(),
            );
            registry.register(
                "limit",
                "Configured limits, by client and limit, in the unit of the limit's name",
                own.limit.clone(),
            );
            registry.register(
                "used",
                "Used or reserved part of each limit, by client and limit, in the unit of the limit's name",
                own.used.clone(),
            );
        });
        own
    }

    pub(super) fn refused(&self, limit: Limit) {
        self.rejections.get_or_create(&LimitLabel { limit: limit.name() }).inc();
    }

    /// Updates the gauges. Those of clients and limits that are gone end. Limits of several clients cannot be added up, so clients that
    /// share a label value have none.
    pub(super) fn refresh(&self, clients: &[ClientStatus]) {
        self.limit.clear();
        self.used.clear();
        for client in clients {
            let name = self.clients.value(&client.name);
            if *name == *OTHER {
                continue;
            }
            for (limit, used, max) in client.levels() {
                let labels = LevelLabels { client: Arc::clone(&name), limit: limit.name() };
                self.limit.get_or_create(&labels).set(max);
                self.used.get_or_create(&labels).set(used);
            }
        }
    }
}
