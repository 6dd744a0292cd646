//! One id, one log line and one count for every request, and the headers that every response has.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tokio::time::Instant;

use crate::api::error::response::ErrorReport;
use crate::config::LoggedRequests;
use crate::http::gateway_headers::{CACHE_WORDS, COST_ESTIMATED, COST_USD, HIT, SANDBOX};
use crate::http::page_headers::{NO_STORE, NOSNIFF};
use crate::model::{ClientId, Clock, Current, JobId, ModelId, SystemClock};
use crate::telemetry::recent::{EndedLater, EndedRequest, Payment, RecentRequests, RequestOutcome};
use crate::telemetry::{Metrics, RequestId};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
const VERSION: HeaderName = HeaderName::from_static("openai-version");

/// Logs and counts requests.
#[derive(Debug)]
pub(in crate::api) struct RequestLog {
    sandbox: bool,
    logged: Current<LoggedRequests>,
    metrics: RequestMetrics,
    recent: RecentRequests,
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

/// The routes whose requests are kept among the last ones: those that ask for pictures.
const PICTURE_ROUTES: [&str; 3] = ["edits", "generations", "chat_completions"];

/// The label of all routes without one of their own.
const OTHER_ROUTE: &str = "other";

/// From the first byte of a request to the head of its response, in seconds.
const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0, 10.0, 20.0, 45.0, 90.0, 150.0, 300.0, 600.0];

/// When a request arrived, as a request extension; response deadlines count from here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestStart(pub(crate) Instant);

/// What a handler adds to the log line of its request, as a response extension.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogFields {
    pub(crate) route: Option<&'static str>,
    pub(crate) client: Option<ClientId>,
    pub(crate) model: Option<ModelId>,
    pub(crate) cache: Option<&'static str>,
    pub(crate) job: Option<JobId>,
    /// Names of parameters that were ignored.
    pub(crate) ignored: Vec<String>,
}

/// Returns whether a request has a line in the log.
fn is_logged(logged: LoggedRequests, status: u16, fields: &LogFields) -> bool {
    match logged {
        LoggedRequests::All => true,
        LoggedRequests::NoHits => status >= 400 || fields.cache != Some(HIT),
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

/// A request in progress. When its client disconnects, it is dropped before its end and logs that: no other line is written.
#[derive(Debug)]
pub(super) struct LoggedRequest<'a> {
    log: &'a RequestLog,
    id: RequestId,
    method: Method,
    path: String,
    started: Instant,
    is_answered: bool,
}

impl Drop for LoggedRequest<'_> {
    fn drop(&mut self) {
        if !self.is_answered && *self.log.logged.get() != LoggedRequests::Off {
            let (path, ms) = (loggable_path(&self.path), whole_millis(self.started.elapsed()));
            tracing::info!(request = %self.id, path, ms, "client disconnected before the response");
        }
    }
}

impl LoggedRequest<'_> {
    /// Completes the head of the response, and counts and logs the request.
    pub(super) fn end(mut self, mut response: Response) -> Response {
        self.is_answered = true;
        let duration = self.started.elapsed();
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, HeaderValue::from_str(self.id.as_str()).expect("hex digits make a header value"));
        headers.insert(PROCESSING_MS, HeaderValue::from(whole_millis(duration)));
        headers.insert(VERSION, HeaderValue::from_static("2020-10-01"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        // Answers belong to the holder of a key; the few that a cache may keep say so themselves.
        headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
        if self.log.sandbox {
            headers.insert(SANDBOX, HeaderValue::from_static("true"));
        }

        let fields = response.extensions_mut().remove::<LogFields>().unwrap_or_default();
        let report = response.extensions_mut().remove::<ErrorReport>();
        let status = response.status().as_u16();
        self.log.count(&fields, report.as_ref(), status, duration);
        if is_logged(*self.log.logged.get(), status, &fields) {
            self.write(&fields, report.as_ref(), &response, duration);
        }
        if let Some(mut ended) = self.ended(&fields, &response, duration) {
            if let Some(report) = &report {
                ended.failed(report.failure());
            }
            match response.extensions_mut().remove::<EndedLater>() {
                Some(later) => drop(later.set(ended)),
                None => self.log.recent.record(ended),
            }
        }
        response
    }

    /// Returns the entry of a request for pictures among the last requests, as if it had ended well.
    fn ended(&self, fields: &LogFields, response: &Response, duration: Duration) -> Option<EndedRequest> {
        let route = fields.route.filter(|route| PICTURE_ROUTES.contains(route))?;
        let (outcome, payment) = match fields.cache {
            _ if response.status() == StatusCode::ACCEPTED => (RequestOutcome::UnderWay, Payment::UnderWay),
            Some(HIT) => (RequestOutcome::Hit, Payment::NotBought),
            Some("joined") => (RequestOutcome::Joined, Payment::NotBought),
            _ => (RequestOutcome::Made, Payment::Bought),
        };
        Some(EndedRequest {
            at_ms: SystemClock.now().millis(),
            request: Some(self.id),
            route,
            client: fields.client.as_ref().map(|client| Arc::clone(&client.0)).unwrap_or_default(),
            model: fields.model.as_ref().map(|model| model.as_str().into()),
            outcome,
            status: response.status().as_u16(),
            code: "ok",
            ms: whole_millis(duration),
            payment,
            usd: number(response, &COST_USD),
            usd_estimated: response.headers().contains_key(COST_ESTIMATED),
            prediction: fields.job.map(|job| job.to_string()),
            cause: None,
        })
    }

    fn write(&self, fields: &LogFields, report: Option<&ErrorReport>, response: &Response, duration: Duration) {
        let status = response.status().as_u16();
        let code = report.map_or("ok", |report| report.code);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request = %self.id,
                    method = self.method.as_str(),
                    path = loggable_path(&self.path),
                    status,
                    ms = whole_millis(duration),
                    code,
                    client = fields.client.as_ref().map(|client| &*client.0),
                    model = fields.model.as_deref().filter(|model| !model.is_empty()),
                    cache = fields.cache,
                    usd = number(response, &COST_USD),
                    job = fields.job.map(tracing::field::display),
                    ignored = (!fields.ignored.is_empty()).then(|| fields.ignored.join(",")),
                    detail = report.and_then(|report| report.detail.as_deref()),
                    "request"
                )
            };
        }
        // A picture that takes longer than its client waits is expected, and no fault.
        if status >= 500 && code != "prediction_still_running" {
            line!(warn);
        } else {
            line!(info);
        }
    }
}

/// Returns the number in a header of a response.
fn number(response: &Response, header: &HeaderName) -> Option<f64> {
    response.headers().get(header)?.to_str().ok()?.parse().ok()
}

impl RequestLog {
    pub(in crate::api) fn new(
        sandbox: bool,
        logged: Current<LoggedRequests>,
        metrics: &Metrics,
        recent: RecentRequests,
    ) -> Self {
        let own = RequestMetrics {
            requests: Family::default(),
            cache: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(SECONDS_BUCKETS)),
        };
        for route in PICTURE_ROUTES.into_iter().chain(["predictions", OTHER_ROUTE]) {
            own.requests.get_or_create_owned(&RequestLabels { route, status: 200, code: "ok" });
            own.duration.get_or_create_owned(&RouteLabels { route });
        }
        for result in CACHE_WORDS {
            own.cache.get_or_create_owned(&CacheLabels { result });
        }
        metrics.register("api", |registry| {
            registry.register("requests", "Requests by route, status and error code", own.requests.clone());
            registry.register("cache", "Image requests by cache result", own.cache.clone());
            let help = "Seconds from the arrival of a request to the head of its response";
            registry.register("request_duration_seconds", help, own.duration.clone());
        });
        Self { sandbox, logged, metrics: own, recent }
    }

    /// Gives a request its id.
    pub(super) fn begin(&self, request: &mut Request) -> LoggedRequest<'_> {
        let (id, started) = (RequestId::random(), Instant::now());
        request.extensions_mut().insert(RequestStart(started));
        request.extensions_mut().insert(id);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        LoggedRequest { log: self, id, method, path, started, is_answered: false }
    }

    fn count(&self, fields: &LogFields, report: Option<&ErrorReport>, status: u16, duration: Duration) {
        let route = fields.route.unwrap_or(OTHER_ROUTE);
        let labels = RequestLabels { route, status, code: report.map_or("ok", |report| report.code) };
        self.metrics.requests.get_or_create(&labels).inc();
        self.metrics.duration.get_or_create(&RouteLabels { route }).observe(duration.as_secs_f64());
        if let Some(result) = fields.cache {
            self.metrics.cache.get_or_create(&CacheLabels { result }).inc();
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
            let lines = [(200, Some("hit")), (200, Some("miss")), (404, None), (500, Some("hit"))];
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
