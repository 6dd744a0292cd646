//! What every request passes before and after its handler.

use std::convert::Infallible;
use std::fmt;
use std::future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::Method;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use tower::{Layer, ServiceExt};

use super::error::ApiError;
use crate::config::ServerConfig;
use crate::lifecycle::Lifecycle;
use crate::model::Current;
use crate::server::accept::HttpService;
use crate::server::listener::Peer;

pub(super) mod auth;
pub(super) mod min_rate;
pub(super) mod rate;
pub(super) mod request_log;

pub(super) mod cors;
mod drain;
mod forwarded;
mod single_headers;
mod transfer_encoding;

use cors::OriginPolicy;
use drain::BodyDrain;
use forwarded::ForwardedPolicy;
use request_log::RequestLog;

/// What answers a request that has passed the steps before it.
pub(super) trait Handlers: fmt::Debug + Send + Sync + 'static {
    fn handle(&self, request: Request) -> BoxFuture<'static, Response>;
}

impl Handlers for Router {
    fn handle(&self, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(self.clone().oneshot(request).map(|response| response.unwrap_or_else(|never| match never {})))
    }
}

/// The handlers, and the steps around them.
///
/// One function instead of a layer for each step: a router clones every layer of a route for every request.
#[derive(Debug)]
pub(super) struct Middleware<H> {
    request_log: RequestLog,
    drain: BodyDrain,
    origins: Current<OriginPolicy>,
    forwarded: ForwardedPolicy,
    handlers: H,
}

impl<H: Handlers> HttpService for Middleware<H> {
    /// Answers a request. Every response, also a refusal, gets an id, the standing headers and one log line.
    fn respond(self: Arc<Self>, mut request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let logged = self.request_log.begin(&mut request);
            let is_head = request.method() == Method::HEAD;
            // Before every refusal: the rest of a refused body is read to its end.
            let response = self.checked(self.drain.watch(request)).await;
            logged.end(if is_head { without_body(response) } else { response })
        })
    }
}

impl<H: Handlers> Middleware<H> {
    pub(super) fn new(
        server: &ServerConfig,
        origins: Current<OriginPolicy>,
        request_log: RequestLog,
        lifecycle: &Lifecycle,
        handlers: H,
    ) -> Self {
        Self {
            request_log,
            drain: BodyDrain::new(&server.bodies, lifecycle),
            forwarded: ForwardedPolicy::new(server, origins.clone()),
            origins,
            handlers,
        }
    }

    // The next three are no `async fn`, because each would hold the request once more for as long as its client waits.

    /// Checks the head of a request, before a key is checked or a body read.
    fn checked(&self, request: Request) -> impl Future<Output = Response> + Send {
        let origins = self.origins.get();
        match check(&origins, &request) {
            Ok(()) => Either::Left(self.with_cors(&origins, request)),
            Err(refusal) => Either::Right(future::ready(refusal.into_response())),
        }
    }

    /// Adds the CORS headers where an origin is listed, also to what a handler refuses: a listed page may read it, too.
    fn with_cors<'a>(
        &'a self,
        origins: &OriginPolicy,
        request: Request,
    ) -> impl Future<Output = Response> + Send + use<'a, H> {
        let Some(cors) = &origins.cors else { return Either::Left(self.handled(request)) };
        let routes = tower::service_fn(|request| self.handled(request).map(Ok::<_, Infallible>));
        let answered = cors.layer(routes).oneshot(request);
        Either::Right(Box::pin(answered.map(|response| response.unwrap_or_else(|never| match never {}))))
    }

    /// Calls the handler. A panic is a logged 500 and not a dropped connection.
    fn handled(&self, mut request: Request) -> impl Future<Output = Response> + Send + use<H> {
        self.forwarded.read(&mut request);
        let answered = AssertUnwindSafe(self.handlers.handle(request)).catch_unwind();
        answered
            .map(|answered| answered.unwrap_or_else(|_panic| ApiError::internal("a handler panicked").into_response()))
    }
}

/// Checks the head of a request.
///
/// # Errors
///
/// [`ApiError`] of the first rule that it breaks.
fn check(origins: &OriginPolicy, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    transfer_encoding::check(headers)?;
    single_headers::check(headers)?;
    let peer = request.extensions().get::<Peer>();
    origins.check(peer, request.method(), request.version(), request.uri(), headers)
}

/// Returns a response to HEAD. The router does this to what handlers return; refusals before them and panics are left, and over
/// HTTP/2 the HTTP library would send their bodies.
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|&length| length > 0) {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    Response::from_parts(head, Body::empty())
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;
    use crate::api::request::test_support::server;
    use crate::config::LoggedRequests;
    use crate::telemetry::Metrics;
    use crate::telemetry::recent::RecentRequests;

    #[tokio::test]
    async fn a_panic_of_a_handler_is_a_response_like_any_other() {
        let mut server = server();
        let origin = "https://app.example.com";
        server.addresses.cors_origins = vec![origin.to_owned().try_into().unwrap()];
        let routes = Router::new().route("/panic", get(async || -> () { panic!("a fault of a handler") }));
        let request_log =
            RequestLog::new(false, Current::new(LoggedRequests::All), &Metrics::default(), RecentRequests::default());
        let origins = Current::new(OriginPolicy::new(&server.addresses));
        let middleware = Arc::new(Middleware::new(&server, origins, request_log, &Lifecycle::default(), routes));
        let request = Request::get("/panic").header("host", "127.0.0.1").header("origin", origin);
        let responding = middleware.respond(request.body(Body::empty()).unwrap());
        let size = size_of_val(&*responding);
        assert!(size <= 900, "every waiting client is held with {size} bytes of the steps around its handler");
        let response = responding.await;
        assert_eq!(response.status(), 500);
        for header in ["x-request-id", "openai-processing-ms", "cache-control", "x-should-retry"] {
            assert!(response.headers().contains_key(header), "{header}");
        }
        assert_eq!(response.headers()["access-control-allow-origin"], origin);
    }

    #[tokio::test]
    async fn a_refusal_of_head_has_no_body() {
        let request_log =
            RequestLog::new(false, Current::new(LoggedRequests::All), &Metrics::default(), RecentRequests::default());
        let routes = Router::new().route("/a", get(async || "abc"));
        let origins = Current::new(OriginPolicy::new(&server().addresses));
        let middleware = Arc::new(Middleware::new(&server(), origins, request_log, &Lifecycle::default(), routes));
        for (host, status) in [("127.0.0.1", 200), ("evil.example", 421)] {
            let [got, head] = [Method::GET, Method::HEAD].map(|method| {
                let request = Request::builder().method(method).uri("/a").header("host", host).body(Body::empty());
                Arc::clone(&middleware).respond(request.unwrap())
            });
            let (got, head) = (got.await, head.await);
            assert_eq!((got.status().as_u16(), head.status().as_u16()), (status, status));
            let got = axum::body::to_bytes(got.into_body(), 1000).await.unwrap();
            assert_eq!(head.headers()[CONTENT_LENGTH], got.len().to_string());
            assert_eq!(axum::body::to_bytes(head.into_body(), 1000).await.unwrap(), "");
        }
    }
}
