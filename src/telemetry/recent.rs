//! The last requests for pictures and how they ended, in memory: what the operator's page shows beside the metrics.
//!
//! Two rings, so that a thousand good requests do not push out the failure that matters: the last requests of any outcome,
//! and the last failures. When the ring of failures is full, the oldest one with which no money was spent leaves first.
//! Entries have no prompt, and of the texts only what the log has too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::{Serialize, Serializer};

use super::label_names::{LabelNames, NONE};
use super::{Metrics, RequestId};

/// Requests of any outcome that are kept.
const REQUESTS_MAX: usize = 50;
/// Failures that are kept.
const FAILURES_MAX: usize = 200;
/// The longest cause that is kept, in characters.
const CAUSE_CHARS_MAX: usize = 300;

/// How a request for pictures ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestOutcome {
    /// Pictures were bought for it.
    Made,
    /// A stored result answered it.
    Hit,
    /// It joined a job that another request had begun.
    Joined,
    /// It was answered before its pictures were ready, and its job goes on.
    UnderWay,
    /// Its client left before the answer was complete.
    Left,
    /// The client's own mistake, or a limit of the client.
    Refused,
    Failed,
    /// It may have been bought.
    Unknown,
}

impl RequestOutcome {
    pub(crate) const ALL: [Self; 8] =
        [Self::Made, Self::Hit, Self::Joined, Self::UnderWay, Self::Left, Self::Refused, Self::Failed, Self::Unknown];

    /// Returns the name in metrics and in `/status.json`.
    fn name(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Hit => "hit",
            Self::Joined => "joined",
            Self::UnderWay => "under_way",
            Self::Left => "left",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Returns whether it is kept among the failures.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Unknown)
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Whether a request cost money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Payment {
    NotBought,
    Bought,
    /// A purchase goes on, and the same request joins it.
    UnderWay,
    /// The upstream accepted it and made no picture: it may charge for it.
    Possible,
    /// The answer to a submit was lost.
    Unknown,
}

/// How a request ended, by the error that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestFailure {
    pub(crate) outcome: RequestOutcome,
    pub(crate) payment: Payment,
    /// `error.code`.
    pub(crate) code: &'static str,
    /// What the log says of it.
    pub(crate) cause: Option<String>,
}

/// A request for pictures that has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct EndedRequest {
    /// Unix time in milliseconds.
    pub(crate) at_ms: i64,
    /// `None` for a job that failed while no request waited for it.
    #[serde(serialize_with = "as_text_or_null")]
    pub(crate) request: Option<RequestId>,
    pub(crate) route: &'static str,
    #[serde(serialize_with = "as_text")]
    pub(crate) client: Arc<str>,
    #[serde(serialize_with = "as_text_or_null")]
    pub(crate) model: Option<Arc<str>>,
    pub(crate) outcome: RequestOutcome,
    pub(crate) status: u16,
    /// `error.code`, or `ok`.
    pub(crate) code: &'static str,
    pub(crate) ms: u64,
    pub(crate) payment: Payment,
    /// What it cost, where that is known.
    pub(crate) usd: Option<f64>,
    /// That is an estimate.
    pub(crate) usd_estimated: bool,
    /// The id of its job.
    pub(crate) prediction: Option<String>,
    /// What the log says of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
}

impl EndedRequest {
    /// Replaces how it ended.
    pub(crate) fn failed(&mut self, failure: RequestFailure) {
        let RequestFailure { outcome, payment, code, cause } = failure;
        (self.outcome, self.payment, self.code, self.cause) = (outcome, payment, code, cause);
        if payment == Payment::NotBought {
            self.usd = None;
        }
    }
}

/// Where the log of a request leaves its entry when the response goes on after its head: whatever ends the response records it.
pub(crate) type EndedLater = Arc<OnceLock<EndedRequest>>;

fn as_text<S: Serializer>(text: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text.to_string())
}

#[expect(clippy::ref_option, reason = "serde passes the field itself")]
fn as_text_or_null<S: Serializer>(text: &Option<impl ToString>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_ref().map(ToString::to_string).serialize(serializer)
}

/// The last requests for pictures, and the count of all. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RecentRequests {
    shared: Arc<Mutex<Rings>>,
    counted: Family<RequestLabels, Counter>,
    clients: LabelNames,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    client: Arc<str>,
    /// Known from the moment on at which the request was found to be valid, so it is a model of the catalogue.
    model: Arc<str>,
    outcome: &'static str,
}

impl Default for RecentRequests {
    fn default() -> Self {
        Self::new(&Metrics::default())
    }
}

#[derive(Debug, Default)]
struct Rings {
    requests: VecDeque<EndedRequest>,
    failures: VecDeque<EndedRequest>,
    totals: RequestTotals,
}

/// Requests since the start, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestTotals([u64; RequestOutcome::ALL.len()]);

impl Serialize for RequestTotals {
    /// Writes the number of each outcome under its name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(RequestOutcome::ALL.iter().map(|outcome| (outcome, self.of(*outcome))))
    }
}

impl RequestTotals {
    pub(crate) fn of(&self, outcome: RequestOutcome) -> u64 {
        self.0[outcome.index()]
    }

    /// Returns what was counted after `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let mut counted = *self;
        for (count, before) in counted.0.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(before);
        }
        counted
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn failures(&self) -> u64 {
        self.of(RequestOutcome::Failed) + self.of(RequestOutcome::Unknown)
    }
}

/// A copy of both rings, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentSnapshot {
    pub(crate) requests: Vec<EndedRequest>,
    pub(crate) failures: Vec<EndedRequest>,
    pub(crate) totals: RequestTotals,
}

impl RecentRequests {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let counted = Family::default();
        metrics.register("api", |registry| {
            let help = "Requests for pictures that have ended, and jobs that failed when no request waited, by client, model and outcome";
            registry.register("picture_requests", help, Family::clone(&counted));
        });
        Self { shared: Arc::default(), counted, clients: metrics.clients() }
    }

    /// Counts a request. The first one of a client and a model also makes the counts of the other outcomes, at 0: what appears
    /// with its first event has no increase that could be seen.
    fn count(&self, ended: &EndedRequest) {
        let client = self.clients.value(&ended.client);
        let model = ended.model.clone().unwrap_or_else(|| NONE.into());
        let labels = |outcome: RequestOutcome| RequestLabels {
            client: Arc::clone(&client),
            model: Arc::clone(&model),
            outcome: outcome.name(),
        };
        let own = labels(ended.outcome);
        if self.counted.get(&own).is_none() {
            for outcome in RequestOutcome::ALL {
                self.counted.get_or_create_owned(&labels(outcome));
            }
        }
        self.counted.get_or_create(&own).inc();
    }

    /// Records a request that has ended.
    pub(crate) fn record(&self, mut ended: EndedRequest) {
        self.count(&ended);
        if let Some(cause) = &mut ended.cause
            && let Some((end, _)) = cause.char_indices().nth(CAUSE_CHARS_MAX)
        {
            cause.truncate(end);
            cause.push('…');
        }
        let mut rings = self.lock();
        rings.totals.0[ended.outcome.index()] += 1;
        if ended.outcome.is_failure() {
            let failures = &mut rings.failures;
            if failures.len() >= FAILURES_MAX {
                // With equal requests that fail again and again, those about money stay.
                let unpaid = failures.iter().position(|failure| failure.payment == Payment::NotBought);
                failures.remove(unpaid.unwrap_or(0));
            }
            failures.push_back(ended.clone());
        }
        if rings.requests.len() >= REQUESTS_MAX {
            rings.requests.pop_front();
        }
        rings.requests.push_back(ended);
    }

    pub(crate) fn snapshot(&self) -> RecentSnapshot {
        let rings = self.lock();
        RecentSnapshot {
            requests: rings.requests.iter().rev().cloned().collect(),
            failures: rings.failures.iter().rev().cloned().collect(),
            totals: rings.totals,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::MetricsFormat;

    fn ended(ms: u64, outcome: RequestOutcome, payment: Payment) -> EndedRequest {
        EndedRequest {
            at_ms: 0,
            request: Some(RequestId::random()),
            route: "edits",
            client: "alice".into(),
            model: None,
            outcome,
            status: 200,
            code: "ok",
            ms,
            payment,
            usd: None,
            usd_estimated: false,
            prediction: None,
            cause: None,
        }
    }

    #[test]
    fn both_rings_are_bounded_and_newest_first() {
        let recent = RecentRequests::default();
        for ms in 0..1000 {
            recent.record(ended(ms, RequestOutcome::Failed, Payment::NotBought));
        }
        let snapshot = recent.snapshot();
        let of = |rows: &[EndedRequest]| (rows.len(), rows[0].ms, rows[rows.len() - 1].ms);
        assert_eq!(of(&snapshot.requests), (REQUESTS_MAX, 999, 950));
        assert_eq!(of(&snapshot.failures), (FAILURES_MAX, 999, 800));
        assert_eq!(snapshot.totals.of(RequestOutcome::Failed), 1000);
    }

    #[test]
    fn failures_about_money_stay_longest_and_good_requests_are_no_failures() {
        let recent = RecentRequests::default();
        recent.record(ended(1, RequestOutcome::Unknown, Payment::Unknown));
        recent.record(ended(2, RequestOutcome::Made, Payment::Bought));
        for ms in 10..1000 {
            recent.record(ended(ms, RequestOutcome::Failed, Payment::NotBought));
        }
        let failures = recent.snapshot().failures;
        assert_eq!((failures.len(), failures.last().map(|failure| failure.ms)), (FAILURES_MAX, Some(1)));
        for ms in 1000..2000 {
            recent.record(ended(ms, RequestOutcome::Failed, Payment::Possible));
        }
        assert_eq!(recent.snapshot().failures.last().map(|failure| failure.ms), Some(1800), "then the oldest leaves");
    }

    #[test]
    fn totals_are_counted_by_outcome_and_long_causes_are_cut() {
        let recent = RecentRequests::default();
        for outcome in RequestOutcome::ALL {
            recent.record(ended(0, outcome, Payment::NotBought));
        }
        let before = recent.snapshot().totals;
        assert!(RequestOutcome::ALL.iter().all(|&outcome| before.of(outcome) == 1));
        let cause = Some("ü".repeat(1000));
        recent.record(EndedRequest { cause, ..ended(0, RequestOutcome::Unknown, Payment::Unknown) });
        let later = recent.snapshot().totals.since(&before);
        assert_eq!((later.sum(), later.failures()), (1, 1));
        let kept = recent.snapshot().failures[0].cause.clone().unwrap();
        assert_eq!(kept.chars().count(), CAUSE_CHARS_MAX + 1);
    }

    #[test]
    fn requests_are_counted_by_client_model_and_outcome_from_zero_on() {
        let metrics = Metrics::new(1);
        let recent = RecentRequests::new(&metrics);
        let model = Some("gpt-image-2".into());
        recent.record(EndedRequest { model, ..ended(0, RequestOutcome::Made, Payment::Bought) });
        let client = "bob".into();
        recent.record(EndedRequest { client, ..ended(0, RequestOutcome::Refused, Payment::NotBought) });
        let text = metrics.encode(MetricsFormat::Prometheus);
        for (client, model, outcome, count) in [
            ("alice", "gpt-image-2", "made", 1),
            ("alice", "gpt-image-2", "unknown", 0),
            ("(other)", "(none)", "refused", 1),
        ] {
            let labels = format!("client=\"{client}\",model=\"{model}\",outcome=\"{outcome}\"");
            let line = format!("gptproto_gateway_api_picture_requests_total{{{labels}}} {count}\n");
            assert!(text.contains(&line), "no {line} in {text}");
        }
        for outcome in RequestOutcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
    }
}
