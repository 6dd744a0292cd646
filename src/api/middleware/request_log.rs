//! One id, one log line and one count for every request, and the headers that every response has.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use crate::api::error::response::ErrorReport;
use crate::config::LoggedRequests;
use crate::http::gateway_headers::{HIT, SANDBOX};
use crate::http::page_headers::{NO_STORE, NOSNIFF};
use crate::telemetry::{Metrics, RequestId};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
const VERSION: HeaderName = HeaderName::from_static("openai-version");

/// Logs and counts requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::api) struct RequestLog {
    sandbox: bool,
    logged: LoggedRequests,
    metrics: Arc<RequestMetrics>,
}

#[derive(Debug)]
struct RequestMetrics {
    requests: Family<RequestLabels, Counter>,
    cache: Family<CacheLabels, Counter>,
    duration: Family<RouteLabels, Histogram>,
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

/// From the first byte of a request to the head of its response, in seconds.
const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 10.0, 20.0, 45.0, 90.0, 150.0, 300.0, 600.0];

/// When a request arrived, as a request extension; response deadlines count from here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestStart(pub(crate) Instant);

/// What a handler adds to the log line of its request, as a response extension.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogFields {
    pub(crate) route: &'static str,
    pub(crate) client: String,
    pub(crate) model: String,
    pub(crate) cache: &'static str,
    pub(crate) job: String,
    /// Names of parameters that were ignored.
    pub(crate) ignored: Vec<String>,
}

/// The middleware.
pub(super) async fn log(State(request_log): State<RequestLog>, mut request: Request, next: Next) -> Response {
    let id = RequestId::random();
    let started = Instant::now();
    request.extensions_mut().insert(RequestStart(started));
    request.extensions_mut().insert(id.clone());
    let (method, path) = (request.method().clone(), loggable_path(request.uri().path()).to_owned());
    let is_silent = request_log.logged == LoggedRequests::Off;
    let mut disconnect = DisconnectLog { id: &id, path: &path, started, answered: is_silent };
    let mut response = next.run(request).await;
    disconnect.answered = true;
    drop(disconnect);
    let duration = started.elapsed();

    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id.0).expect("hex digits make a header value"));
    headers.insert(PROCESSING_MS, HeaderValue::from(whole_millis(duration)));
    headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    // Answers belong to the holder of a key; the few that a cache may keep say so themselves.
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
    if request_log.sandbox {
        headers.insert(SANDBOX, HeaderValue::from_static("true"));
    }

    let fields = response.extensions_mut().remove::<LogFields>().unwrap_or_default();
    let report = response.extensions_mut().remove::<ErrorReport>();
    let status = response.status().as_u16();
    request_log.count(&fields, report.as_ref(), status, duration);
    let code = report.as_ref().map_or("ok", |report| report.code);
    if is_logged(request_log.logged, status, &fields) {
        let detail = report.and_then(|report| report.detail);
        let line = LogLine { id: &id, method: method.as_str(), path: &path, duration, code, detail: detail.as_deref() };
        line.write(status, &fields);
    }
    response
}

/// Returns whether a request has a line in the log.
fn is_logged(logged: LoggedRequests, status: u16, fields: &LogFields) -> bool {
    match logged {
        LoggedRequests::All => true,
        LoggedRequests::NoHits => status >= 400 || fields.cache != HIT,
        LoggedRequests::Errors => status >= 400,
        LoggedRequests::Off => false,
    }
}

/// Returns a path without the token of an input URL: a reader of the log must not be able to fetch the picture.
fn loggable_path(path: &str) -> &str {
    const BEFORE_TOKEN: &[u8] = b"/inputs";
    // Other spellings of the path are served too (`routes/paths.rs`).
    let found = path.as_bytes().windows(BEFORE_TOKEN.len()).position(|part| part.eq_ignore_ascii_case(BEFORE_TOKEN));
    found.and_then(|at| path.get(..at + BEFORE_TOKEN.len() + 1)).unwrap_or(path)
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Logs a request whose client disconnects before the response: its future is dropped, so no other line is written.
struct DisconnectLog<'a> {
    id: &'a RequestId,
    path: &'a str,
    started: Instant,
    answered: bool,
}

impl Drop for DisconnectLog<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let ms = whole_millis(self.started.elapsed());
            tracing::info!(request = %self.id, path = self.path, ms, "client disconnected before the response");
        }
    }
}

struct LogLine<'a> {
    id: &'a RequestId,
    method: &'a str,
    path: &'a str,
    duration: Duration,
    code: &'a str,
    detail: Option<&'a str>,
}

impl LogLine<'_> {
    fn write(&self, status: u16, fields: &LogFields) {
        let ms = whole_millis(self.duration);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let ignored = text(&fields.ignored.join(","));
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request = %self.id,
                    method = self.method,
                    path = self.path,
                    status,
                    ms,
                    code = self.code,
                    client = text(&fields.client),
                    model = text(&fields.model),
                    cache = text(fields.cache),
                    job = text(&fields.job),
                    ignored,
                    detail = self.detail,
                    "request"
                )
            };
        }
        // A picture that takes longer than its client waits is expected, and no fault.
        if status >= 500 && self.code != "prediction_still_running" {
            line!(warn);
        } else {
            line!(info);
        }
    }
}

impl RequestLog {
    pub(in crate::api) fn new(sandbox: bool, logged: LoggedRequests, metrics: &Metrics) -> Self {
        let own = RequestMetrics {
            requests: Family::default(),
            cache: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(SECONDS_BUCKETS)),
        };
        metrics.register("api", |registry| {
            registry.register("requests", "Requests by route, status and error code", own.requests.clone());
            registry.register("cache", "Image requests by cache result", own.cache.clone());
            let help = "Seconds from the arrival of a request to the head of its response";
            registry.register("request_duration_seconds", help, own.duration.clone());
        });
        Self { sandbox, logged, metrics: Arc::new(own) }
    }

    fn count(&self, fields: &LogFields, report: Option<&ErrorReport>, status: u16, duration: Duration) {
        let route = if fields.route.is_empty() { "other" } else { fields.route };
        let labels = RequestLabels { route, status, code: report.map_or("ok", |report| report.code) };
        self.metrics.requests.get_or_create(&labels).inc();
        self.metrics.duration.get_or_create(&RouteLabels { route }).observe(duration.as_secs_f64());
        if !fields.cache.is_empty() {
            self.metrics.cache.get_or_create(&CacheLabels { result: fields.cache }).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_can_be_thinned() {
        let logged = |which, status, cache| is_logged(which, status, &LogFields { cache, ..LogFields::default() });
        for (which, expected) in [
            (LoggedRequests::All, [true, true, true, true]),
            (LoggedRequests::NoHits, [false, true, true, true]),
            (LoggedRequests::Errors, [false, false, true, true]),
            (LoggedRequests::Off, [false, false, false, false]),
        ] {
            let lines = [(200, "hit"), (200, "miss"), (404, ""), (500, "hit")];
            assert_eq!(lines.map(|(status, cache)| logged(which, status, cache)), expected, "{which:?}");
        }
    }

    #[test]
    fn tokens_are_not_logged() {
        for (path, logged) in [
            ("/v1/inputs/0123abcd", "/v1/inputs/"),
            ("/inputs/0123abcd/", "/inputs/"),
            ("//v1//inputs//0123abcd", "//v1//inputs/"),
            ("/V1/Inputs/0123abcd", "/V1/Inputs/"),
            ("/v1/inputs%20/0123abcd", "/v1/inputs%"),
            ("/v1/inputs", "/v1/inputs"),
            ("/v1/images/edits", "/v1/images/edits"),
            ("/", "/"),
        ] {
            assert_eq!(loggable_path(path), logged);
        }
    }
}
