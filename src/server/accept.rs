//! The accept loop of every HTTP listener: one tracked task a connection, places that are counted, limits that are all
//! explicit (`limits.rs`), and a graceful close.
//!
//! What is over a cap is told so, where that costs nearly nothing: a few such connections at a time, of plain HTTP/1.1, get
//! a short answer of ours once they have asked, and are closed within two seconds, whatever they do. Beyond these, and over
//! TLS, the connection just closes.
//!
//! Three answers are the HTTP library's and have no body, because what it cannot read as a request never becomes one,
//! and it offers no place to put words (hyper 1.12, `Http1Transaction::on_error`): 400 to what is no HTTP, 431 to too many
//! headers or too many bytes of them, 414 to an endless target. A head that does not arrive in time is not answered at all:
//! the connection closes. OpenAI's clients show their status without a message, and retry none of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::HOST;
use axum::http::{HeaderValue, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::connection::{ConnectionHandle, FlushTrackedStream};
use super::connection_limiter::{ConnectionLimiter, Full};
use super::limits::ConnectionLimits;
use super::listener::{Listener, Peer, Raw, Socket};
use super::metrics::ConnectionMetrics;
use super::timers::{ConnectionTimers, Cut, InService};
use super::tls::Tls;
use crate::lifecycle::Lifecycle;

/// Pause after a failed `accept`, which mostly means that no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often that is logged.
const ACCEPT_ERROR_INTERVAL: Duration = Duration::from_secs(10);
/// How many connections are being told that there is no place for them; how long they have to ask, and then to read it.
const TURNED_AWAY_MAX: usize = 8;
const TURNED_AWAY_FOR: Duration = Duration::from_secs(1);
/// As many headers as the HTTP library takes without an allocation for each request, which it makes for any other number.
const HEADERS_USUAL: usize = 100;

/// Marks, as a response extension, an answer that must not be sent: the connection closes without a byte of it.
///
/// This is how the simulator loses answers; nothing else sets it.
#[derive(Clone, Copy, Debug)]
pub struct CloseConnection;

/// Serves `router` to this machine's own tests and demonstrations, without caps; otherwise as [`ConnectionSettings::serve`].
pub async fn serve(listener: TcpListener, router: Router, lifecycle: Lifecycle, stop: CancellationToken) {
    let face = ConnectionSettings {
        name: "own",
        router,
        limits: ConnectionLimits::AMONG_OURSELVES,
        caps: ConnectionLimiter::none(),
        figures: ConnectionMetrics::default(),
        lifecycle,
    };
    face.serve(Listener::Tcp(listener), stop).await;
}

/// What is served, and within which limits. Cheap to clone: several listeners may be one face.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionSettings {
    /// For metrics.
    pub(crate) name: &'static str,
    pub(crate) router: Router,
    pub(crate) limits: ConnectionLimits,
    pub(crate) caps: ConnectionLimiter,
    pub(crate) figures: ConnectionMetrics,
    pub(crate) lifecycle: Lifecycle,
}

impl ConnectionSettings {
    /// Serves until `stop` is cancelled, then closes idle connections and lets running requests finish.
    ///
    /// Returns as soon as nothing new is accepted; connections in progress are tracked by the lifecycle.
    pub(crate) async fn serve(self, listener: Listener, stop: CancellationToken) {
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
        let mut logged: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((raw, peer)) => self.admit(raw, peer, &listener, &stop, &turned_away),
                Err(error) => {
                    self.figures.accept_error(self.name);
                    if logged.is_none_or(|at| at.elapsed() >= ACCEPT_ERROR_INTERVAL) {
                        logged = Some(Instant::now());
                        tracing::warn!(face = self.name, %error, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, raw: Raw, peer: Peer, listener: &Listener, stop: &CancellationToken, turned_away: &Arc<Semaphore>) {
        let pulse = ConnectionTimers::new(&self.limits);
        let address = match peer {
            Peer::Network(address) => Some(address.ip()),
            Peer::Local => None,
        };
        let tls = listener.tls().cloned();
        match self.caps.enter(address, &pulse) {
            Ok(place) => {
                self.figures.accepted(self.name);
                let (face, stop) = (self.clone(), stop.clone());
                self.lifecycle.spawn("connection", async move {
                    // In a box: an exchange of keys takes much more room than the connection does afterwards.
                    let opened = Box::pin(face.open(raw, peer, tls.as_ref(), &pulse)).await;
                    if let Some(socket) = opened {
                        face.connection(socket, peer, pulse, stop).await;
                    }
                    drop(place);
                });
            }
            Err(full) => {
                self.figures.refused(self.name, full);
                if let (Raw::Tcp(stream), None) = (raw, tls) {
                    self.turn_away(stream, full, turned_away);
                }
            }
        }
    }

    /// Tells a client that there is no place, if few others are being told.
    fn turn_away(&self, mut stream: TcpStream, full: Full, turned_away: &Arc<Semaphore>) {
        let Ok(permit) = Arc::clone(turned_away).try_acquire_owned() else { return };
        self.lifecycle.spawn("turning away", async move {
            let mut unread = [0; 4096];
            // An answer before the question is an error to some clients.
            let _ = tokio::time::timeout(TURNED_AWAY_FOR, stream.read(&mut unread)).await;
            let _ = tokio::time::timeout(TURNED_AWAY_FOR, async {
                stream.write_all(refusal(full).as_bytes()).await?;
                stream.shutdown().await?;
                // Closed over unread bytes, a connection takes the answer with it.
                while stream.read(&mut unread).await? > 0 {}
                io::Result::Ok(())
            })
            .await;
            drop(permit);
        });
    }

    /// Exchanges keys where that is wanted; `None` when it came to nothing.
    async fn open(&self, raw: Raw, peer: Peer, tls: Option<&Tls>, pulse: &Arc<ConnectionTimers>) -> Option<Socket> {
        let opening = tokio::time::timeout(self.limits.handshake_timeout, raw.open(tls, pulse));
        let opened = tokio::select! {
            biased;
            opened = opening => opened,
            cut = pulse.ends() => {
                self.figures.cut(self.name, cut);
                return None;
            }
        };
        match opened {
            Ok(Ok(socket)) => Some(socket),
            Ok(Err(error)) => {
                self.figures.handshake_failed(self.name, "tls");
                tracing::debug!(?peer, %error, "no handshake");
                None
            }
            Err(_) => {
                self.figures.handshake_failed(self.name, "tls_handshake_timeout_s");
                None
            }
        }
    }

    async fn connection(self, socket: Socket, peer: Peer, pulse: Arc<ConnectionTimers>, stop: CancellationToken) {
        let wire = ConnectionHandle::default();
        let io = TokioIo::new(FlushTrackedStream::new(socket, wire.clone()));
        let (router, heard) = (self.router.clone(), Arc::clone(&pulse));
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let is_http2 = request.version() == Version::HTTP_2;
            let service = heard.request(is_http2);
            let held = Arc::clone(&service);
            let mut request = request.map(|body| Body::new(InService::request(body, held)));
            name_host(&mut request);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(wire.clone());
            let router = router.clone();
            async move {
                let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
                match response.extensions().get::<CloseConnection>() {
                    Some(CloseConnection) => Err(io::Error::other("hung up on purpose")),
                    None => Ok(response.map(|body| InService::answer(body, service, is_http2))),
                }
            }
        });
        // Pinned where it is made: every move would keep room for one more of it, for as long as it lives.
        let mut connection = std::pin::pin!(self.limits.builder().serve_connection(io, service).into_owned());
        let mut closing = false;
        let result = loop {
            let cut = tokio::select! {
                biased;
                result = connection.as_mut() => break result,
                () = stop.cancelled(), if !closing => None,
                cut = pulse.ends() => Some(cut),
            };
            if let Some(cut) = cut {
                if closing {
                    break Ok(());
                }
                self.figures.cut(self.name, cut);
                if cut != Cut::Idle {
                    tracing::debug!(?peer, ?cut, "connection cut");
                    break Ok(());
                }
                // Nothing is in service: the peer is told, and what is left of the last answer may still be written.
                pulse.closing();
            }
            closing = true;
            connection.as_mut().graceful_shutdown();
        };
        if let Err(error) = result {
            tracing::debug!(?peer, %error, "connection ended early");
        }
    }
}

impl ConnectionLimits {
    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let Self { http1, http2, .. } = self;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        // The pulse has the time of a head, and that of a connection between two.
        builder.http1().header_read_timeout(None).max_buf_size(http1.buffer_bytes);
        if http1.headers_max != HEADERS_USUAL {
            builder.http1().max_headers(http1.headers_max);
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(http2.streams_max)
            .max_header_list_size(http2.header_bytes_max)
            .max_pending_accept_reset_streams(http2.pending_resets_max)
            .max_local_error_reset_streams(http2.error_resets_max)
            .initial_stream_window_size(http2.stream_window_bytes)
            .initial_connection_window_size(http2.connection_window_bytes)
            .max_send_buf_size(http2.send_buffer_bytes)
            .keep_alive_interval(http2.ping_interval)
            .keep_alive_timeout(http2.ping_timeout);
        builder
    }
}

/// Over HTTP/2 the host is in `:authority`; everybody further in looks for it in `Host` (RFC 9113 §8.3.1).
fn name_host(request: &mut axum::extract::Request) {
    if request.version() == Version::HTTP_2
        && !request.headers().contains_key(HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
}

/// What a client is told for whom there is no place: the error object of `OpenAI`.
fn refusal(full: Full) -> String {
    let (message, code) = match full {
        Full::Connections => {
            ("This gateway holds as many connections as it can. Nothing was bought.", "too_many_connections")
        }
        Full::Address => (
            "Your address holds as many connections as one may have at this gateway. Nothing was bought.",
            "too_many_connections_of_address",
        ),
    };
    let body = format!(
        "{{\"error\":{{\"message\":\"{message}\",\"type\":\"service_unavailable_error\",\"param\":null,\"code\":\"{code}\"}}}}"
    );
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 5\r\n\
         x-should-retry: true\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
