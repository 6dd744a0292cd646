//! What is counted of webhooks.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::storage::journal::WebhookEnd;
use crate::telemetry::Metrics;

#[derive(Clone, Debug, Default)]
pub(super) struct WebhookMetrics {
    tries: Family<ResultLabel, Counter>,
    ended: Family<ResultLabel, Counter>,
    pending: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl WebhookMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register("webhooks", |registry| {
            registry.register("tries", "Events posted, by whether the receiver took them", own.tries.clone());
            registry.register("ended", "Events that are not tried any more, by how that came", own.ended.clone());
            registry.register("pending", "Events that wait to be told", own.pending.clone());
        });
        own
    }

    pub(super) fn tried(&self, sent: bool) {
        let result = if sent { "sent" } else { "failed" };
        self.tries.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn ended(&self, end: WebhookEnd) {
        self.ended.get_or_create(&ResultLabel { result: end.name() }).inc();
    }

    pub(super) fn pending(&self, count: usize) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
