//! A response that begins before its pictures are ready: what it holds on to, and how it ends.
//!
//! Its status is sent before the outcome is known, so the outcome gets a log line and a counter of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use super::converter::{PictureConverter, ReadyPicture};
use super::image_response::ResponseShape;
use crate::admission::Permit;
use crate::api::error::ApiError;
use crate::engine::{Engine, WaitError, Waiter};
use crate::model::{Failure, JobId, StoredPicture};
use crate::server::connection::ConnectionHandle;
use crate::telemetry::recent::{EndedLater, Payment, RecentRequests, RequestFailure, RequestOutcome};
use crate::telemetry::{Metrics, RequestId};

/// Pictures that are being read and converted, in their order.
pub(crate) type PendingPictures<T> = FuturesOrdered<BoxFuture<'static, Result<T, Failure>>>;

/// A response whose status has been sent, and the request that waits behind it.
#[derive(Debug)]
pub(crate) struct StreamingResponse {
    pub(crate) engine: Engine,
    pub(crate) converter: PictureConverter,
    /// `None` once the response is complete.
    pub(crate) waiter: Option<Waiter>,
    pub(crate) shape: ResponseShape,
    /// The response deadline.
    pub(crate) deadline: Instant,
    /// The longest time without a byte.
    pub(crate) heartbeat: Duration,
    pub(crate) connection: ConnectionHandle,
    /// Counts against the limits of concurrent requests until the response ends.
    pub(crate) permit: Permit,
    pub(crate) outcome: ResponseOutcome,
}

impl StreamingResponse {
    /// Marks the response as complete; the engine is notified once it has reached the client.
    pub(crate) fn complete(&mut self) {
        self.outcome.code = "ok";
        if let Some(waiter) = self.waiter.take() {
            waiter.delivered(self.connection.written());
        }
    }

    /// Opens stored pictures and converts them as the request asked.
    pub(crate) fn prepare(
        &self,
        pictures: Vec<StoredPicture>,
    ) -> BoxFuture<'static, Result<Vec<ReadyPicture>, Failure>> {
        let (engine, converter, conversion) = (self.engine.clone(), self.converter.clone(), self.shape.conversion());
        async move {
            let sources = engine.open(&pictures).await?;
            Ok(converter.prepare_all(&pictures, sources, conversion).await)
        }
        .boxed()
    }

    /// Returns the error for a client whose keys were revoked while it waited, and records its code.
    pub(crate) fn revoked(&mut self) -> ApiError {
        self.outcome.code = ApiError::WrongKey.code();
        ApiError::WrongKey
    }

    /// Returns the error for a request that got no picture, and records its code.
    pub(crate) fn failed(&mut self, waiter: &Waiter, error: WaitError) -> ApiError {
        let error = ApiError::of_wait(waiter, error);
        self.outcome.code = error.code();
        self.outcome.failure = Some(error.report().failure());
        error
    }
}

/// The outcome of a response whose client left before its end.
const LEFT: &str = "client_disconnected";

/// Counts streaming responses by their outcome. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ResponseOutcomes {
    counter: Arc<Family<OutcomeLabels, Counter>>,
    recent: RecentRequests,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    /// `events`, `prediction_events` or `padded_json`.
    mode: &'static str,
    /// `error.code`, `ok`, or `client_disconnected`.
    code: &'static str,
}

impl ResponseOutcomes {
    pub(crate) fn new(metrics: &Metrics, recent: RecentRequests) -> Self {
        let counter: Family<OutcomeLabels, Counter> = Family::default();
        for mode in ["events", "prediction_events", "padded_json"] {
            for code in ["ok", LEFT] {
                counter.get_or_create_owned(&OutcomeLabels { mode, code });
            }
        }
        metrics.register("api", |registry| {
            let help = "Responses that started before their pictures were ready, by mode and outcome";
            registry.register("streaming_responses", help, counter.clone());
        });
        Self { counter: Arc::new(counter), recent }
    }

    /// Begins to follow one response.
    pub(crate) fn track(
        &self,
        mode: &'static str,
        request: RequestId,
        job: JobId,
        started: Instant,
    ) -> ResponseOutcome {
        ResponseOutcome {
            unused: false,
            outcomes: self.clone(),
            mode,
            request,
            job,
            started,
            code: LEFT,
            failure: None,
            entry: EndedLater::default(),
        }
    }
}

/// Logs and counts the outcome of one response when it is dropped.
#[derive(Debug)]
pub(crate) struct ResponseOutcome {
    /// The result came before the response had to begin: an ordinary response is sent instead.
    unused: bool,
    outcomes: ResponseOutcomes,
    mode: &'static str,
    request: RequestId,
    job: JobId,
    started: Instant,
    code: &'static str,
    failure: Option<RequestFailure>,
    /// What the log of the request left here; empty for a response that is no request for pictures.
    entry: EndedLater,
}

impl ResponseOutcome {
    /// Returns where the log of the request leaves its entry, as a response extension.
    pub(crate) fn entry(&self) -> EndedLater {
        Arc::clone(&self.entry)
    }

    /// Records the request among the last ones.
    fn record(&mut self, ms: u64) {
        let Some(mut ended) = Arc::get_mut(&mut self.entry).and_then(OnceLock::take) else { return };
        ended.ms = ms;
        match self.failure.take() {
            Some(failure) => ended.failed(failure),
            None if self.code == "ok" => {}
            // What was bought goes on.
            None => (ended.outcome, ended.payment, ended.code) = (RequestOutcome::Left, Payment::UnderWay, self.code),
        }
        self.outcomes.recent.record(ended);
    }

    /// Discards the record, because an ordinary response is sent instead.
    pub(crate) fn discard(mut self) {
        self.unused = true;
    }
}

impl Drop for ResponseOutcome {
    fn drop(&mut self) {
        if self.unused {
            return;
        }
        let Self { mode, code, .. } = *self;
        self.outcomes.counter.get_or_create(&OutcomeLabels { mode, code }).inc();
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.record(ms);
        tracing::info!(request = %self.request, job = %self.job, mode, code, ms, "streaming response ended");
    }
}
