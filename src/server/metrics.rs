//! Counters and gauges of the listeners.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::connection_limiter::{ConnectionLimiter, ExceededLimit};
use super::timers::CloseReason;

/// Metrics of all listeners, by the name of the listener. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionMetrics {
    families: Arc<Families>,
}

#[derive(Debug, Default)]
struct Families {
    open: Family<ListenerLabel, Gauge>,
    limit: Family<ListenerLabel, Gauge>,
    accepted: Family<ListenerLabel, Counter>,
    refused: Family<ReasonLabels, Counter>,
    closed: Family<ReasonLabels, Counter>,
    accept_errors: Family<ListenerLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    listener: &'static str,
    /// The key of the limit that was reached, where there is one.
    reason: &'static str,
}

/// Why connections are refused, and why open ones are closed.
const REFUSED: [&str; 2] = ["connections_max", "connections_per_address_max"];
const CLOSED: [&str; 7] = [
    "header_timeout_s",
    "keep_alive_timeout_s",
    "write_timeout_s",
    "connections_max",
    "plain_http",
    "tls_error",
    "tls_handshake_timeout_s",
];

impl ConnectionMetrics {
    /// Adds the metrics to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Families { open, limit, accepted, refused, closed, accept_errors } = &*self.families;
        registry.register("open", "Connections that are open", open.clone());
        registry.register("limit", "Connections that may be open at the same time", limit.clone());
        registry.register("accepted", "Connections accepted within the limits", accepted.clone());
        registry.register("refused", "Connections refused, by the limit that was reached", refused.clone());
        registry.register(
            "closed",
            "Connections closed by the gateway, by the timeout or limit that was the reason",
            closed.clone(),
        );
        registry.register(
            "accept_errors",
            "Connections that the system could not accept, mostly for lack of file descriptors",
            accept_errors.clone(),
        );
    }

    /// Makes the counters of a listener, at 0.
    pub(crate) fn begin(&self, listener: &'static str) {
        let Families { accepted, refused, closed, accept_errors, .. } = &*self.families;
        for counter in [accepted, accept_errors] {
            counter.get_or_create_owned(&ListenerLabel { listener });
        }
        for (family, reasons) in [(refused, &REFUSED[..]), (closed, &CLOSED)] {
            for &reason in reasons {
                family.get_or_create_owned(&ReasonLabels { listener, reason });
            }
        }
    }

    /// Updates the gauges of a listener.
    pub(crate) fn update(&self, listener: &'static str, limiter: &ConnectionLimiter) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.families.open.get_or_create(&ListenerLabel { listener }).set(count(limiter.open()));
        self.families.limit.get_or_create(&ListenerLabel { listener }).set(count(limiter.connections_max()));
    }

    pub(super) fn accepted(&self, listener: &'static str) {
        self.families.accepted.get_or_create(&ListenerLabel { listener }).inc();
    }

    pub(super) fn accept_error(&self, listener: &'static str) {
        self.families.accept_errors.get_or_create(&ListenerLabel { listener }).inc();
    }

    pub(super) fn refused(&self, listener: &'static str, limit: ExceededLimit) {
        let reason = match limit {
            ExceededLimit::Connections => "connections_max",
            ExceededLimit::PerAddress => "connections_per_address_max",
        };
        self.families.refused.get_or_create(&ReasonLabels { listener, reason }).inc();
    }

    pub(super) fn closed(&self, listener: &'static str, reason: CloseReason) {
        let reason = match reason {
            CloseReason::HeaderTimeout => "header_timeout_s",
            CloseReason::IdleTimeout => "keep_alive_timeout_s",
            CloseReason::WriteTimeout => "write_timeout_s",
            // Another connection needed the slot.
            CloseReason::Evicted => "connections_max",
        };
        self.families.closed.get_or_create(&ReasonLabels { listener, reason }).inc();
    }

    pub(super) fn handshake_failed(&self, listener: &'static str) {
        self.families.closed.get_or_create(&ReasonLabels { listener, reason: "tls_error" }).inc();
    }

    pub(super) fn plain_http(&self, listener: &'static str) {
        self.families.closed.get_or_create(&ReasonLabels { listener, reason: "plain_http" }).inc();
    }

    pub(super) fn handshake_timed_out(&self, listener: &'static str) {
        self.families.closed.get_or_create(&ReasonLabels { listener, reason: "tls_handshake_timeout_s" }).inc();
    }
}
