//! What every request passes through, listed once, outermost first.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{EXPECT, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

use super::browsers::{self, Gate};
use super::drain::{DrainLimits, DrainedOnDrop};
use super::error::{ApiError, Told};
use super::inputs::without_token;
use crate::config::ServerConfig;
use crate::lifecycle::Lifecycle;
use crate::telemetry::{Metrics, RequestId};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
const VERSION: HeaderName = HeaderName::from_static("openai-version");
const SANDBOX: HeaderName = HeaderName::from_static("x-gateway-sandbox");

/// Wraps the routes.
pub(super) fn wrap(router: Router, gate: Gate, outermost: Outermost) -> Router {
    let cors = gate.cors();
    // `Router::layer` puts each new layer outside the ones before, so this list reads from the inside out.
    router
        // Innermost, and inside the log, so that a panic is a logged 500 and not a dropped connection.
        .layer(CatchPanicLayer::custom(|_| ApiError::internal("a handler panicked").into_response()))
        // Outside whatever may refuse a request: a listed page may read refusals, too.
        .layer(tower::util::option_layer(cors))
        // Before a key is looked at or a body read.
        .layer(middleware::from_fn_with_state(gate, browsers::keep))
        // Outside of all who refuse: what they leave of a body is read to its end.
        .layer(middleware::from_fn_with_state(outermost.clone(), drain))
        // Outermost: everything inside, also a refusal, gets an id, the standing headers, and one log line.
        .layer(middleware::from_fn_with_state(outermost, account))
}

/// What the outermost layers share. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Outermost {
    sandbox: bool,
    drain: DrainLimits,
    lifecycle: Lifecycle,
    metrics: Arc<ApiMetrics>,
}

#[derive(Debug)]
struct ApiMetrics {
    requests: Family<RequestLabels, Counter>,
    cache: Family<CacheLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
    /// `error.code`, or `ok`.
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    result: &'static str,
}

/// From the first byte of a request to the head of its answer, in seconds.
const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 10.0, 20.0, 45.0, 90.0, 150.0, 300.0, 600.0];

impl Outermost {
    pub(super) fn new(server: &ServerConfig, sandbox: bool, lifecycle: &Lifecycle, metrics: &Metrics) -> Self {
        let own = ApiMetrics {
            requests: Family::default(),
            cache: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS_BUCKETS)),
        };
        metrics.register("api", |registry| {
            registry.register("requests", "Requests by route, status and error code", own.requests.clone());
            registry.register("cache", "Image requests by what the cache had", own.cache.clone());
            registry.register("seconds", "From a request to the head of its answer", own.seconds.clone());
        });
        Self { sandbox, drain: DrainLimits::new(server), lifecycle: lifecycle.clone(), metrics: Arc::new(own) }
    }
}

/// When a request arrived; handlers measure patience from here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began(pub(super) Instant);

/// What a handler says about its request for the one log line, as a response extension.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    pub(super) route: &'static str,
    pub(super) client: String,
    pub(super) model: String,
    pub(super) cache: &'static str,
    pub(super) job: String,
    /// Parameters that mean nothing here.
    pub(super) ignored: Vec<String>,
}

async fn account(State(outermost): State<Outermost>, mut request: Request, next: Next) -> Response {
    let id = RequestId::random();
    let began = Instant::now();
    request.extensions_mut().insert(Began(began));
    request.extensions_mut().insert(id.clone());
    let (method, path) = (request.method().clone(), without_token(request.uri().path()).to_owned());
    let mut report = Unfinished { id: &id, path: &path, began, answered: false };
    let mut response = next.run(request).await;
    report.answered = true;
    drop(report);
    let took = began.elapsed();

    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id.0).expect("hex digits make a header value"));
    headers.insert(PROCESSING_MS, HeaderValue::from(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
    // A browser takes an answer as what it is, whatever it thinks the bytes look like.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if outermost.sandbox {
        headers.insert(SANDBOX, HeaderValue::from_static("true"));
    }

    let noted = response.extensions_mut().remove::<Noted>().unwrap_or_default();
    let told = response.extensions_mut().remove::<Told>();
    outermost.count(&noted, told.as_ref(), response.status().as_u16(), took);
    let code = told.as_ref().map_or("ok", |told| told.code);
    let detail = told.and_then(|told| told.detail);
    let fields = LogFields { id: &id, method: method.as_str(), path: &path, took, code, detail: detail.as_deref() };
    fields.log(response.status().as_u16(), &noted);
    response
}

/// Logs a request whose client left before it was answered: the handler's future is dropped, and nothing else would.
struct Unfinished<'a> {
    id: &'a RequestId,
    path: &'a str,
    began: Instant,
    answered: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(request = %self.id, path = self.path, ms, "client left before the answer");
        }
    }
}

struct LogFields<'a> {
    id: &'a RequestId,
    method: &'a str,
    path: &'a str,
    took: Duration,
    code: &'a str,
    detail: Option<&'a str>,
}

impl LogFields<'_> {
    fn log(&self, status: u16, noted: &Noted) {
        let ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let ignored = text(&noted.ignored.join(","));
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request = %self.id,
                    method = self.method,
                    path = self.path,
                    status,
                    ms,
                    code = self.code,
                    client = text(&noted.client),
                    model = text(&noted.model),
                    cache = text(noted.cache),
                    job = text(&noted.job),
                    ignored,
                    detail = self.detail,
                    "request"
                )
            };
        }
        // A picture that takes longer than a client waits is the normal slow case.
        if status >= 500 && self.code != "prediction_still_running" {
            line!(warn);
        } else {
            line!(info);
        }
    }
}

impl Outermost {
    fn count(&self, noted: &Noted, told: Option<&Told>, status: u16, took: Duration) {
        let route = if noted.route.is_empty() { "other" } else { noted.route };
        let labels = RequestLabels { route, status, code: told.map_or("ok", |told| told.code) };
        self.metrics.requests.get_or_create(&labels).inc();
        self.metrics.seconds.get_or_create(&RouteLabels { route }).observe(took.as_secs_f64());
        if !noted.cache.is_empty() {
            self.metrics.cache.get_or_create(&CacheLabels { result: noted.cache }).inc();
        }
    }
}

async fn drain(State(outermost): State<Outermost>, request: Request, next: Next) -> Response {
    let expects_continue = request.headers().contains_key(EXPECT);
    let (limits, lifecycle) = (outermost.drain, outermost.lifecycle.clone());
    let request = request.map(|body| Body::new(DrainedOnDrop::new(body, expects_continue, limits, lifecycle)));
    next.run(request).await
}
