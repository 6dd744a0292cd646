//! The operator's pages, on a listener of their own: health, readiness, metrics, status. They change nothing and show no
//! secret; of the configuration they show limits and the names of clients and accounts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::json;

use crate::http::page_headers::{NO_STORE, wants_page};
use crate::model::Current;
use crate::openapi::{Document, Route};
use crate::server::descriptors::DescriptorShares;
use crate::server::hosts::{self, HostError, HostRules};
use crate::server::listener::Peer;
use crate::telemetry::MetricsFormat;
use crate::telemetry::recent::{EndedRequest, RequestTotals};
use crate::web::assets::{Assets, restrict_page};
use crate::{admission, budget, engine};

mod failures;
mod history;
mod live;
mod page;
mod probe;
mod view;

pub(crate) use failures::RecentFailure;
pub(crate) use live::Live;
pub(crate) use probe::ask;
pub use probe::probe;

/// The status at one moment, as `/status.json` has it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) version: &'static str,
    pub(crate) sandbox: bool,
    pub(crate) uptime_s: u64,
    pub(crate) ready: bool,
    /// Why the gateway is not ready; empty when it is.
    pub(crate) not_ready: Vec<String>,
    pub(crate) connections: Connections,
    pub(crate) engine: engine::Status,
    pub(crate) upstream: budget::Status,
    pub(crate) clients: Vec<admission::ClientStatus>,
    /// Requests for pictures since the start, by outcome.
    pub(crate) requests: RequestTotals,
    /// The last requests for pictures, newest first.
    pub(crate) recent_requests: Vec<EndedRequest>,
    /// The last of them that failed, or may have been bought without an answer.
    pub(crate) recent_failures: Vec<RecentFailure>,
    /// What follows a command, so that it finds the storage of this gateway.
    #[serde(skip)]
    pub(crate) command_arguments: String,
}

/// Open connections, and the shares of file descriptors.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) clients: usize,
    pub(crate) clients_max: usize,
    pub(crate) operator: usize,
    pub(crate) operator_max: usize,
    /// `None` where the system does not say.
    pub(crate) descriptors_open: Option<usize>,
    pub(crate) descriptors: DescriptorShares,
}

/// How much of an upload that came to the wrong port is read, in bytes, and for how long.
const UPLOAD_BYTES_MAX: usize = 64 << 20;
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The functions that the pages call.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    /// Updates the gauges and returns all metrics as text.
    pub(crate) metrics: Arc<dyn Fn(MetricsFormat) -> String + Send + Sync>,
    /// What open pages are kept up to date with.
    pub(crate) live: Live,
    /// The base URL of the client API.
    pub(crate) api: String,
    /// Answers a request that was meant for the client API.
    pub(crate) not_here: fn(&Method, &Uri, &str) -> Response,
    /// The administration is served here.
    pub(crate) administration: bool,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// Returns every route: the router has no others, and the `OpenAPI` document is compared with this list.
fn table(document: &Arc<Document>) -> Vec<Route<Sources>> {
    let [json, page] = [Arc::clone(document), Arc::clone(document)];
    vec![
        Route::get("/healthz", healthy),
        Route::get("/readyz", ready),
        Route::get("/metrics", metrics),
        Route::get("/status.json", status),
        Route::get("/", index),
        Route::get("/events", events),
        Route::get("/dashboard/{file}", file),
        Route::get("/openapi.json", async move || json.json()),
        Route::get("/docs", async move || page.page()),
    ]
}

/// Returns the routes of the operator's pages, and those of the administration.
pub(crate) fn router(sources: Sources, hosts: Current<HostRules>, administration: Router) -> Router {
    let document = Arc::new(Document::of_operator());
    let add = |router, route: Route<Sources>| route.at(route.path, router);
    table(&document)
        .into_iter()
        .fold(Router::new(), add)
        .fallback(not_here)
        .with_state(sources)
        .merge(administration)
        .layer(middleware::from_fn_with_state(hosts, check_host))
        .layer(middleware::map_response(restrict))
}

/// Tells browsers what they may do with a page: show it with its own files, and nothing else.
async fn restrict(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.contains_key(CONTENT_SECURITY_POLICY) {
        restrict_page(headers);
    }
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
    response
}

/// Refuses requests to a host that is not ours: a web page can make its own host name resolve to this address.
async fn check_host(State(hosts): State<Current<HostRules>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let hosts = hosts.get();
    let allows = |host: &str| hosts.allows(peer, host);
    let checked = hosts::check(request.version(), request.uri(), request.headers(), allows);
    let (status, problem) = match checked {
        Ok(()) => return next.run(request).await,
        Err(problem @ HostError::Foreign(_)) => {
            (StatusCode::MISDIRECTED_REQUEST, format!("{problem}; list it in operator.hosts to allow it\n"))
        }
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    (status, problem).into_response()
}

/// Returns the address at which this machine reaches a listener: the loopback address for one that listens on all.
pub(crate) fn reachable_address(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen.ip(),
    };
    SocketAddr::new(host, listen.port())
}

/// A failed storage is the one state that only a restart ends.
async fn healthy(State(sources): State<Sources>) -> impl IntoResponse {
    if (sources.snapshot)().engine.storage == "failed" {
        (StatusCode::SERVICE_UNAVAILABLE, "the storage has failed; restart the gateway\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn ready(State(sources): State<Sources>) -> impl IntoResponse {
    let snapshot = (sources.snapshot)();
    if snapshot.ready {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", snapshot.not_ready.join(", ")))
    }
}

async fn metrics(State(sources): State<Sources>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = MetricsFormat::from_accept(accept);
    ([(CONTENT_TYPE, format.content_type())], (sources.metrics)(format))
}

async fn status(State(sources): State<Sources>) -> impl IntoResponse {
    Json((sources.snapshot)())
}

/// Shows the page to people; programs that do not ask for HTML get the addresses of the pages.
async fn index(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    if !wants_page(&headers) {
        return Json(json!({
            "name": "gptproto-gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The pages of the operator. The client API is at another address.",
            "api": sources.api,
            "pages": ["/", "/healthz", "/readyz", "/metrics", "/status.json", "/events", "/openapi.json", "/docs"],
        }))
        .into_response();
    }
    let mut view = sources.live.view();
    view.shown.insert("admin", sources.administration);
    Html(page::render(&view)).into_response()
}

async fn events(State(sources): State<Sources>) -> Response {
    sources.live.response()
}

async fn file(name: Result<Path<String>, PathRejection>, headers: HeaderMap) -> Response {
    static FILES: LazyLock<Assets> = LazyLock::new(|| Assets::new(&page::FILES));
    let response = name.ok().and_then(|Path(name)| FILES.response(&name, &headers));
    response.unwrap_or_else(|| (StatusCode::NOT_FOUND, "no such file\n").into_response())
}

/// Answers a request for what is not here, which a client of the API may have sent to the wrong port. What it uploads is read
/// first, within bounds: several clients report a broken connection otherwise, and not the answer.
async fn not_here(State(sources): State<Sources>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let reading = async {
        let mut pieces = body.into_data_stream();
        let mut read = 0;
        while let Some(Ok(piece)) = pieces.next().await {
            read += piece.len();
            if read > UPLOAD_BYTES_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(UPLOAD_TIMEOUT, reading).await;
    (sources.not_here)(&head.method, &head.uri, &sources.api)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::test_support::differences;

    #[test]
    fn the_document_has_these_routes_and_no_others() {
        let document = Arc::new(Document::of_operator());
        let mut routes = table(&document);
        // The administration compares its own.
        let is_own = |path: &str| !path.starts_with("/admin");
        assert_eq!(differences(&document, &routes, is_own), Vec::<String>::new());
        routes.pop();
        assert_eq!(differences(&document, &routes, is_own), ["get /docs"]);
    }
}
