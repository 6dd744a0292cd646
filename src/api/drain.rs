//! The rest of a refused upload, read and thrown away.
//!
//! A server that answers 401 or 413 and closes while a client is still sending makes Node report a broken pipe, and
//! retry, instead of the refusal. So a body that is dropped before its end is read on in the background, within bounds.
//! Not one that was given up because nothing came any more: its connection closes with the answer. And one that crawls is
//! soon left alone.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::pace::Pace;
use crate::config::ServerConfig;
use crate::lifecycle::Lifecycle;

/// The rest of a refused body may be slower than is allowed for no longer than this.
const CRAWL_MAX: Duration = Duration::from_secs(5);

/// How much of a refused upload is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainLimits {
    bytes_max: u64,
    timeout: Duration,
    /// After so long a standstill nobody waits for more.
    idle_timeout: Duration,
    pace: Pace,
}

impl DrainLimits {
    pub(super) fn new(server: &ServerConfig) -> Self {
        Self {
            bytes_max: server.drain_bytes_max,
            timeout: server.drain_timeout,
            idle_timeout: server.body_idle_timeout,
            pace: Pace::new(server).within(CRAWL_MAX),
        }
    }
}

/// A request body that is drained when it is dropped before its end.
#[derive(Debug)]
pub(super) struct DrainedOnDrop {
    /// Absent once it has ended, or must not be drained.
    body: Option<Body>,
    /// The client waits for `100 Continue`, which only reading makes the server send. Unread, there is nothing to drain.
    untouched_expectation: bool,
    /// Since when nothing has come, while somebody waits for it.
    still_since: Option<Instant>,
    limits: DrainLimits,
    lifecycle: Lifecycle,
}

impl DrainedOnDrop {
    pub(super) fn new(body: Body, expects_continue: bool, limits: DrainLimits, lifecycle: Lifecycle) -> Self {
        Self { body: Some(body), untouched_expectation: expects_continue, still_since: None, limits, lifecycle }
    }
}

impl HttpBody for DrainedOnDrop {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.untouched_expectation = false;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            self.still_since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        self.still_since = None;
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
        let Some(body) = self.body.take().filter(|body| !self.untouched_expectation && !body.is_end_stream()) else {
            return;
        };
        let DrainLimits { bytes_max, timeout, idle_timeout, pace } = self.limits;
        if self.still_since.is_some_and(|since| since.elapsed() >= idle_timeout) {
            return;
        }
        self.lifecycle.spawn("drain", async move {
            let _ = tokio::time::timeout(timeout, discard(body, bytes_max, pace)).await;
        });
    }
}

async fn discard(mut body: Body, bytes_max: u64, mut pace: Pace) {
    let mut bytes = 0;
    loop {
        let began = Instant::now();
        let frame = tokio::time::timeout(pace.left().unwrap_or(Duration::MAX), body.frame());
        let Ok(Some(Ok(frame))) = frame.await else { return };
        let length = frame.data_ref().map_or(0, Bytes::len);
        pace.came(length, began.elapsed());
        bytes += length as u64;
        if bytes > bytes_max {
            return;
        }
    }
}
