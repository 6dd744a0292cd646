//! How many calls the upstream answered, with which status, and how fast.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use reqwest::StatusCode;

use crate::telemetry::Metrics;
use crate::telemetry::label_names::{NONE, OTHER};

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CallKind {
    Submit,
    Poll,
    /// Of a result.
    Download,
    /// Of a picture that a client gave as an address.
    Link,
    /// One that is free of charge: whether the key is accepted.
    Question,
}

impl CallKind {
    const ALL: [Self; 5] = [Self::Submit, Self::Poll, Self::Download, Self::Link, Self::Question];

    fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Poll => "poll",
            Self::Download => "download",
            Self::Link => "link",
            Self::Question => "question",
        }
    }
}

/// Statuses with a label value of their own: those that the upstream, its edge or its storage answer with by their documents. They
/// are counted from the start.
const STATUSES: [&str; 21] = [
    "200", "201", "202", "204", "301", "302", "307", "400", "401", "402", "403", "404", "409", "413", "422", "429",
    "500", "502", "503", "504", "524",
];

/// Seconds until the head of an answer. A submit includes its upload, and with the OpenAI-format endpoints the picture.
const SECONDS_BUCKETS: [f64; 13] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    call: &'static str,
}

/// Counts the calls. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct CallMetrics {
    responses: Family<CallLabels, Counter>,
    seconds: Family<KindLabel, Histogram>,
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self { responses: Family::default(), seconds: Family::new_with_constructor(|| Histogram::new(SECONDS_BUCKETS)) }
    }
}

impl CallMetrics {
    pub(super) fn register(&self, metrics: &Metrics) {
        for call in CallKind::ALL.map(CallKind::name) {
            for status in STATUSES.into_iter().chain([NONE, OTHER]) {
                self.responses.get_or_create_owned(&CallLabels { call, status });
            }
            self.seconds.get_or_create_owned(&KindLabel { call });
        }
        metrics.register("upstream", |registry| {
            let help = "Calls by kind and status of the answer; (none) for calls without an answer";
            registry.register("responses", help, self.responses.clone());
            let help = "Time from the beginning of a call to the head of its answer, or to its failure, by kind";
            registry.register("response_seconds", help, self.seconds.clone());
        });
    }

    /// Begins to follow a call, which is counted at the head of its answer, or when it is dropped without one.
    pub(super) fn begin(&self, kind: CallKind) -> PendingCall<'_> {
        PendingCall { metrics: self, call: kind.name(), began: Instant::now(), status: NONE }
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct PendingCall<'a> {
    metrics: &'a CallMetrics,
    call: &'static str,
    began: Instant,
    status: &'static str,
}

impl PendingCall<'_> {
    /// Counts the call with the status of its answer.
    pub(super) fn answered(mut self, status: StatusCode) {
        let text = status.as_str();
        self.status = STATUSES.into_iter().find(|known| *known == text).unwrap_or(OTHER);
    }
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        let Self { metrics, call, began, status } = self;
        metrics.responses.get_or_create(&CallLabels { call, status }).inc();
        metrics.seconds.get_or_create(&KindLabel { call }).observe(began.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_kind_and_status_and_one_without_an_answer_too() {
        let calls = CallMetrics::default();
        calls.register(&Metrics::default());
        calls.begin(CallKind::Poll).answered(StatusCode::OK);
        calls.begin(CallKind::Poll).answered(StatusCode::IM_A_TEAPOT);
        drop(calls.begin(CallKind::Submit));
        let count = |call, status| calls.responses.get(&CallLabels { call, status }).map(|counted| counted.get());
        assert_eq!(
            [("poll", "200"), ("poll", OTHER), ("submit", NONE)].map(|(call, status)| count(call, status)),
            [Some(1); 3]
        );
        assert_eq!(count("question", "429"), Some(0), "it exists from the start");
        assert_eq!(calls.responses.get(&CallLabels { call: "poll", status: "418" }).map(|_| ()), None);
    }
}
