//! Bodies that keep their request in progress.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::RequestGuard;

/// The body of a request or of a response. The request is in progress until both have been dropped.
#[derive(Debug)]
pub(in crate::server) struct TrackedBody<B> {
    body: B,
    guard: Arc<RequestGuard>,
    /// The number of a response over HTTP/2.
    response: Option<u64>,
}

impl<B> TrackedBody<B> {
    pub(in crate::server) fn request(body: B, guard: Arc<RequestGuard>) -> Self {
        Self { body, guard, response: None }
    }
}

impl TrackedBody<Body> {
    pub(in crate::server) fn response(body: Body, guard: Arc<RequestGuard>, is_http2: bool) -> Self {
        let response = is_http2.then(|| guard.timers.register_response());
        Self { body, guard, response }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(response) = self.response {
            let timers = &self.guard.timers;
            match frame {
                Poll::Ready(Some(Ok(_))) => timers.piece_handed_over(response),
                Poll::Ready(_) | Poll::Pending => timers.nothing_to_hand_over(response),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for TrackedBody<B> {
    fn drop(&mut self) {
        if let Some(response) = self.response {
            self.guard.timers.nothing_to_hand_over(response);
        }
    }
}
