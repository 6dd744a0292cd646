//! Reads and discards the rest of a refused upload.
//!
//! Node reports a broken pipe and retries, instead of showing the refusal, when a server answers 401 or 413 and closes
//! while the client still sends. So a body that is dropped before its end is read on in the background, within limits.
//! A body that was given up because nothing arrived any more is not drained: its connection closes with the response. A
//! body slower than `server.body_bytes_per_second_min` is drained for at most [`SLOW_MAX`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::api::middleware::min_rate::MinRateCheck;
use crate::config::BodyConfig;
use crate::lifecycle::Lifecycle;

/// The longest time for which the rest of a refused body may arrive below the minimum rate.
const SLOW_MAX: Duration = Duration::from_secs(5);

/// Drains bodies. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct BodyDrain {
    limits: DrainLimits,
    lifecycle: Lifecycle,
}

/// How much of a refused upload is read, and for how long.
#[derive(Clone, Copy, Debug)]
struct DrainLimits {
    bytes_max: u64,
    timeout: Duration,
    /// A body that has been silent for this long is not drained.
    idle_timeout: Duration,
    min_rate: MinRateCheck,
}

impl BodyDrain {
    pub(super) fn new(bodies: &BodyConfig, lifecycle: &Lifecycle) -> Self {
        let limits = DrainLimits {
            bytes_max: bodies.drain_bytes_max,
            timeout: bodies.drain_timeout,
            idle_timeout: bodies.idle_timeout,
            min_rate: MinRateCheck::new(bodies).with_window_max(SLOW_MAX),
        };
        Self { limits, lifecycle: lifecycle.clone() }
    }

    /// Has the rest of the body read when it is dropped before its end.
    pub(super) fn watch(&self, request: Request) -> Request {
        let awaits_continue = request.headers().contains_key(EXPECT);
        let drain = self.clone();
        request.map(|body| Body::new(DrainedOnDrop { body: Some(body), awaits_continue, idle_since: None, drain }))
    }
}

/// A request body that is drained when it is dropped before its end.
#[derive(Debug)]
struct DrainedOnDrop {
    /// `None` once it has ended, or must not be drained.
    body: Option<Body>,
    /// The client waits for `100 Continue`, which the server sends on the first read: there is nothing to drain before.
    awaits_continue: bool,
    /// Since when a read has been pending.
    idle_since: Option<Instant>,
    drain: BodyDrain,
}

impl HttpBody for DrainedOnDrop {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.awaits_continue = false;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            self.idle_since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        self.idle_since = None;
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for DrainedOnDrop {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !self.awaits_continue && !body.is_end_stream()) else {
            return;
        };
        let limits = self.drain.limits;
        if self.idle_since.is_some_and(|since| since.elapsed() >= limits.idle_timeout) {
            return;
        }
        self.drain.lifecycle.spawn("drain", async move {
            let _ = tokio::time::timeout(limits.timeout, discard(body, limits)).await;
        });
    }
}

async fn discard(mut body: Body, DrainLimits { bytes_max, mut min_rate, .. }: DrainLimits) {
    let mut bytes = 0;
    loop {
        let started = Instant::now();
        let frame = tokio::time::timeout(min_rate.time_left().unwrap_or(Duration::MAX), body.frame());
        let Ok(Some(Ok(frame))) = frame.await else { return };
        let length = frame.data_ref().map_or(0, Bytes::len);
        min_rate.received(length, started.elapsed());
        bytes += length as u64;
        if bytes > bytes_max {
            return;
        }
    }
}
