//! The operator face: health, readiness, metrics, status page, on a listener of its own. It changes nothing and shows
//! no secret; of the configuration it shows limits and the names of clients.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::model::HostRule;
use crate::server::descriptors::DescriptorShares;
use crate::server::hosts::{self, HostError};
use crate::{admission, budget, engine};

mod page;

/// All that the operator face shows, at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) version: &'static str,
    pub(crate) sandbox: bool,
    pub(crate) uptime_s: u64,
    pub(crate) ready: bool,
    /// What readiness waits for; empty when ready.
    pub(crate) waiting_for: Vec<&'static str>,
    pub(crate) connections: Connections,
    pub(crate) engine: engine::Status,
    pub(crate) upstream: budget::Status,
    pub(crate) clients: Vec<admission::ClientStatus>,
}

/// Who is connected, and what the process may open.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) clients: usize,
    pub(crate) clients_max: usize,
    pub(crate) operator: usize,
    pub(crate) operator_max: usize,
    /// `None` where the system does not tell.
    pub(crate) descriptors_open: Option<usize>,
    pub(crate) descriptors: DescriptorShares,
}

/// Where the operator face gets what it shows.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    /// The metrics page, gauges brought up to date.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// The routes of the operator face.
pub(crate) fn router(sources: Sources, hosts: HostRule) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .route("/", get(status_page))
        .with_state(sources)
        .layer(middleware::from_fn_with_state(Arc::new(hosts), keep))
}

/// Turns away requests to a host that is not ours: web pages that had their own name point here.
async fn keep(State(hosts): State<Arc<HostRule>>, request: Request, next: Next) -> Response {
    let checked = hosts::check(request.version(), request.uri(), request.headers(), |host| hosts.allows(host));
    let (status, problem) = match checked {
        Ok(()) => return next.run(request).await,
        Err(problem @ HostError::Foreign(_)) => {
            (StatusCode::MISDIRECTED_REQUEST, format!("{problem}; operator.hosts lists more\n"))
        }
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    (status, problem).into_response()
}

/// The address by which this machine reaches a listener: one that listens everywhere is asked on the loopback.
pub(crate) fn from_here(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => listen.ip(),
    };
    SocketAddr::new(host, listen.port())
}

async fn ready(State(sources): State<Sources>) -> impl IntoResponse {
    let snapshot = (sources.snapshot)();
    if snapshot.ready {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", snapshot.waiting_for.join(", ")))
    }
}

async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], (sources.metrics)())
}

async fn status(State(sources): State<Sources>) -> impl IntoResponse {
    Json((sources.snapshot)())
}

async fn status_page(State(sources): State<Sources>) -> impl IntoResponse {
    Html(page::render(&(sources.snapshot)()))
}

/// How long `healthcheck` waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks a gateway on this machine whether it is ready. Blocks.
///
/// # Errors
///
/// A line that says what is wrong.
pub fn probe(listen: SocketAddr) -> Result<(), String> {
    let address = from_here(listen);
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
        stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("no gateway answers on {address}: {error}"))?;
    let words = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("{address}: {words}")) }
}
