//! The operator's pages, on a listener of their own: health, readiness, metrics, status. They change nothing and show no
//! secret; of the configuration they show limits and the names of clients and accounts.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::server::descriptors::DescriptorShares;
use crate::server::hosts::{self, HostError, HostRules};
use crate::server::listener::Peer;
use crate::telemetry::MetricsFormat;
use crate::{admission, budget, engine};

mod page;

/// The status at one moment, as `/status.json` has it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) version: &'static str,
    pub(crate) sandbox: bool,
    pub(crate) uptime_s: u64,
    pub(crate) ready: bool,
    /// Why the gateway is not ready; empty when it is.
    pub(crate) not_ready: Vec<&'static str>,
    pub(crate) connections: Connections,
    pub(crate) engine: engine::Status,
    pub(crate) upstream: budget::Status,
    pub(crate) clients: Vec<admission::ClientStatus>,
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

/// The functions that the pages call.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    /// Updates the gauges and returns all metrics as text.
    pub(crate) metrics: Arc<dyn Fn(MetricsFormat) -> String + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// Returns the routes of the operator's pages, and those of the administration.
pub(crate) fn router(sources: Sources, hosts: HostRules, administration: Router) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .route("/", get(status_page))
        .with_state(sources)
        .merge(administration)
        .layer(middleware::from_fn_with_state(Arc::new(hosts), check_host))
        .layer(middleware::map_response(restrict))
}

/// Tells browsers what they may do with a page: show it, and nothing else.
async fn restrict(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.entry(CONTENT_SECURITY_POLICY).or_insert_with(|| page::POLICY.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses requests to a host that is not ours: a web page can make its own host name resolve to this address.
async fn check_host(State(hosts): State<Arc<HostRules>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
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

async fn status_page(State(sources): State<Sources>) -> impl IntoResponse {
    Html(page::render(&(sources.snapshot)()))
}

/// Timeout of `healthcheck` for all addresses together, below that of the `HEALTHCHECK` in the Dockerfile.
const PROBE_TIMEOUT: Duration = Duration::from_millis(2500);
/// How much of an answer is read, in bytes.
const PROBE_BYTES_MAX: usize = 4096;

/// Asks a gateway on this machine whether it is ready, at its addresses in turn until one answers over HTTP. Blocks.
///
/// # Errors
///
/// One line that says why the gateway is not ready, or that none answers.
pub fn probe(listen: &[SocketAddr]) -> Result<(), String> {
    let deadline = Instant::now() + PROBE_TIMEOUT;
    let mut problem = "no address to ask at".to_owned();
    for (position, &address) in listen.iter().enumerate() {
        let address = reachable_address(address);
        // An address that does not answer leaves time for those after it.
        let others = u32::try_from(listen.len() - position).unwrap_or(u32::MAX);
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / others;
        match ask(address, until) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
            Ok(answer) if answer.starts_with("HTTP/1.") => {
                let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
                return Err(format!("{address}: {body}"));
            }
            Ok(_) => problem = format!("no gateway answers at {address}: the answer is not HTTP"),
            Err(error) => problem = format!("no gateway answers at {address}: {error}"),
        }
    }
    Err(problem)
}

/// Returns the answer of an address, or the beginning of it.
fn ask(address: SocketAddr, until: Instant) -> std::io::Result<String> {
    let left = || {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok::<_, std::io::Error>(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    // In one write: a program that answers to its beginning and closes would break the rest.
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while answer.len() < PROBE_BYTES_MAX {
        let read = left().and_then(|left| {
            stream.set_read_timeout(Some(left))?;
            stream.read(&mut piece)
        });
        match read {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            // What arrived before decides.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// An address that gives this answer to every connection; with `None` it gives none.
    fn answering(answer: Option<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                match answer {
                    Some(answer) => {
                        let _ = stream.read(&mut [0; 1024]);
                        let _ = stream.write_all(answer.as_bytes());
                    }
                    None => open.push(stream),
                }
            }
        });
        address
    }

    #[test]
    fn the_first_address_that_answers_over_http_decides() {
        let ready = || answering(Some("HTTP/1.1 200 OK\r\n\r\nready\n"));
        let busy = || answering(Some("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready: storage\n"));
        let closed = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(probe(&[ready()]), Ok(()));
        assert_eq!(probe(&[closed(), ready()]), Ok(()));
        assert_eq!(probe(&[answering(Some("SSH-2.0-OpenSSH\r\n")), answering(Some("")), ready()]), Ok(()));
        assert!(probe(&[busy(), ready()]).unwrap_err().ends_with("not ready: storage"));
        assert!(probe(&[closed(), busy(), closed()]).unwrap_err().ends_with("not ready: storage"));
        assert!(probe(&[closed()]).unwrap_err().contains("no gateway answers"));
        assert!(probe(&[]).is_err());
    }

    #[test]
    fn all_addresses_have_one_deadline() {
        let start = Instant::now();
        let silent: Vec<SocketAddr> = (0..4).map(|_| answering(None)).collect();
        assert!(probe(&silent).is_err());
        assert!(start.elapsed() < Duration::from_millis(2900), "{:?}", start.elapsed());
        let start = Instant::now();
        let ready = answering(Some("HTTP/1.1 200 OK\r\n\r\nready\n"));
        assert_eq!(probe(&[silent[0], ready]), Ok(()));
        assert!(start.elapsed() < PROBE_TIMEOUT, "{:?}", start.elapsed());
    }
}
