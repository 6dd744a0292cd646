//! The metrics of webhooks.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::storage::journal::WebhookEnd;
use crate::telemetry::Metrics;

#[derive(Clone, Debug, Default)]
pub(super) struct WebhookMetrics {
    attempts: Family<ResultLabel, Counter>,
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
        for result in ["delivered", "failed"] {
            own.attempts.get_or_create_owned(&ResultLabel { result });
        }
        for result in WebhookEnd::ALL.map(WebhookEnd::name) {
            own.ended.get_or_create_owned(&ResultLabel { result });
        }
        metrics.register("webhooks", |registry| {
            registry.register(
                "attempts",
                "Attempts to deliver an event, by result (delivered, failed)",
                own.attempts.clone(),
            );
            registry.register("ended", "Events that are not attempted any more, by result", own.ended.clone());
            registry.register("pending", "Events that are not delivered yet", own.pending.clone());
        });
        own
    }

    pub(super) fn attempted(&self, delivered: bool) {
        let result = if delivered { "delivered" } else { "failed" };
        self.attempts.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn ended(&self, end: WebhookEnd) {
        self.ended.get_or_create(&ResultLabel { result: end.name() }).inc();
    }

    pub(super) fn pending(&self, count: usize) {
        self.pending.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
