//! What the listeners count.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::connection_limiter::{ConnectionLimiter, Full};
use super::timers::Cut;

/// Counters of all listeners, by the name of their face. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionMetrics {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: Family<FaceLabel, Counter>,
    refused: Family<ReasonLabels, Counter>,
    cut: Family<ReasonLabels, Counter>,
    accept_errors: Family<FaceLabel, Counter>,
    open: Family<FaceLabel, Gauge>,
    limit: Family<FaceLabel, Gauge>,
    descriptors: Gauge,
    descriptors_max: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaceLabel {
    face: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    face: &'static str,
    /// The key of the limit that bit.
    reason: &'static str,
}

impl ConnectionMetrics {
    /// Has the counters shown.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Counters { accepted, refused, cut, accept_errors, open, limit, descriptors, descriptors_max } =
            &*self.counters;
        registry.register("open", "Connections that are open", open.clone());
        registry.register("limit", "Connections that may be open", limit.clone());
        registry.register("descriptors", "Files and sockets that the process has open", descriptors.clone());
        registry.register("descriptors_limit", "Files and sockets that the process may open", descriptors_max.clone());
        registry.register("accepted", "Connections that got a place", accepted.clone());
        registry.register("refused", "Connections turned away, by the limit that was full", refused.clone());
        registry.register("cut", "Connections ended here, by the limit that the peer broke", cut.clone());
        registry.register(
            "accept_errors",
            "Connections that could not be accepted, mostly for want of descriptors",
            accept_errors.clone(),
        );
    }

    /// Brings the levels of a face up to date.
    pub(crate) fn level(&self, face: &'static str, caps: &ConnectionLimiter) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.counters.open.get_or_create(&FaceLabel { face }).set(count(caps.open()));
        self.counters.limit.get_or_create(&FaceLabel { face }).set(count(caps.connections_max()));
    }

    /// Brings the process's own levels up to date.
    pub(crate) fn descriptors(&self, open: Option<usize>, limit: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.counters.descriptors.set(open.map_or(-1, count));
        self.counters.descriptors_max.set(count(limit));
    }

    pub(super) fn accepted(&self, face: &'static str) {
        self.counters.accepted.get_or_create(&FaceLabel { face }).inc();
    }

    pub(super) fn accept_error(&self, face: &'static str) {
        self.counters.accept_errors.get_or_create(&FaceLabel { face }).inc();
    }

    pub(super) fn refused(&self, face: &'static str, full: Full) {
        let reason = match full {
            Full::Connections => "connections_max",
            Full::Address => "connections_per_address_max",
        };
        self.counters.refused.get_or_create(&ReasonLabels { face, reason }).inc();
    }

    pub(super) fn cut(&self, face: &'static str, cut: Cut) {
        let reason = match cut {
            Cut::Header => "header_timeout_s",
            Cut::Idle => "keep_alive_timeout_s",
            Cut::Write => "write_timeout_s",
            // A place was needed.
            Cut::Evicted => "connections_max",
        };
        self.counters.cut.get_or_create(&ReasonLabels { face, reason }).inc();
    }

    pub(super) fn handshake_failed(&self, face: &'static str, reason: &'static str) {
        self.counters.cut.get_or_create(&ReasonLabels { face, reason }).inc();
    }
}
