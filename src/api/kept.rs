//! An answer that has begun before its pictures are there: what it holds on to, and how it ends.
//!
//! Its status line is out before anybody knows the outcome, so the end is told by a log line and a counter of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use super::answer::Shape;
use super::error::ApiError;
use super::presenter::{Presented, Presenter};
use crate::admission::Permit;
use crate::engine::{Engine, WaitError, Waiter};
use crate::model::{Failure, JobId, StoredPicture};
use crate::server::connection::ConnectionHandle;
use crate::telemetry::{Metrics, RequestId};

/// What is being made ready to leave, in its order.
pub(super) type Presenting<T> = FuturesOrdered<BoxFuture<'static, Result<T, Failure>>>;

/// A request that waits behind such an answer.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) engine: Engine,
    pub(super) presenter: Presenter,
    /// Absent once the answer is complete.
    pub(super) waiter: Option<Waiter>,
    pub(super) shape: Shape,
    /// When the client is answered at the latest.
    pub(super) deadline: Instant,
    /// The longest time without a byte.
    pub(super) heartbeat: Duration,
    pub(super) wire: ConnectionHandle,
    /// Its place among the requests that are waited with.
    pub(super) _permit: Permit,
    pub(super) ending: Ending,
}

impl Kept {
    /// The answer is complete: the engine learns whether it reached somebody.
    pub(super) fn complete(&mut self) {
        self.ending.code = "ok";
        if let Some(waiter) = self.waiter.take() {
            waiter.delivered(self.wire.written());
        }
    }

    /// Opens stored pictures and makes them ready, as the request asked for them.
    pub(super) fn presented(
        &self,
        pictures: Vec<StoredPicture>,
    ) -> BoxFuture<'static, Result<Vec<Presented>, Failure>> {
        let (engine, presenter, conversion) = (self.engine.clone(), self.presenter.clone(), self.shape.conversion());
        async move {
            let sources = engine.open(&pictures).await?;
            Ok(presenter.present(&pictures, sources, conversion).await)
        }
        .boxed()
    }

    /// Why no picture came.
    pub(super) fn failed(&mut self, waiter: &Waiter, error: WaitError) -> ApiError {
        let error = ApiError::of_wait(waiter, error);
        self.ending.code = error.code();
        error
    }
}

/// Ends of such answers, by how they ended.
#[derive(Clone, Debug)]
pub(super) struct Endings {
    counter: Arc<Family<EndLabels, Counter>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    /// `events` or `spaces`.
    manner: &'static str,
    /// `error.code`, `ok`, or `client_left`.
    code: &'static str,
}

impl Endings {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counter: Family<EndLabels, Counter> = Family::default();
        metrics.register("api", |registry| {
            let help = "Answers that began before their pictures were there, by how they ended";
            registry.register("kept_answers", help, counter.clone());
        });
        Self { counter: Arc::new(counter) }
    }

    /// Begins to watch one.
    pub(super) fn watch(&self, manner: &'static str, request: RequestId, job: JobId, began: Instant) -> Ending {
        Ending { before: false, endings: self.clone(), manner, request, job, began, code: "client_left" }
    }
}

/// Tells how one answer ended, when it is dropped.
#[derive(Debug)]
pub(super) struct Ending {
    /// The answer came before it would have begun without it: there is nothing to tell.
    before: bool,
    endings: Endings,
    manner: &'static str,
    request: RequestId,
    job: JobId,
    began: Instant,
    code: &'static str,
}

impl Ending {
    /// The outcome came in time for an answer of the usual kind.
    pub(super) fn before<T>(mut self, outcome: T) -> T {
        self.before = true;
        outcome
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.before {
            return;
        }
        let Self { manner, code, .. } = *self;
        self.endings.counter.get_or_create(&EndLabels { manner, code }).inc();
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(request = %self.request, job = %self.job, manner, code, ms, "answer ended");
    }
}
