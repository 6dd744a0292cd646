//! The accept loop of an HTTP listener: one tracked task for each connection, limited numbers of connections, explicit limits
//! and timeouts (`limits.rs`), and a graceful shutdown.
//!
//! A connection over a limit gets a short response where that costs nearly nothing: over plain HTTP/1.1, a few of them at a
//! time are answered after they have sent a request, and closed within two seconds. All others, and those over TLS, are closed
//! without a response. Plain HTTP where TLS is expected is answered within the time of a handshake, and closed.
//!
//! Three responses come from the HTTP library and have no body, because what the library cannot parse never becomes a request
//! (hyper 1.12, `Http1Transaction::on_error`): 400 to what is not HTTP, 431 to too many headers or too many bytes of them, 414
//! to a target that is too long. A head that does not arrive in time gets no response: the connection is closed. OpenAI's
//! clients show such a status without a message and do not retry.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::{HeaderValue, Version};
use axum::response::Response;
use axum::{BoxError, Router};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::connection::{ConnectionHandle, FlushTrackedStream};
use super::connection_limiter::{ConnectionLimiter, ExceededLimit};
use super::limits::ConnectionLimits;
use super::listener::{AcceptedStream, Handshake, Listener, Peer, Socket};
use super::metrics::ConnectionMetrics;
use super::timers::body::TrackedBody;
use super::timers::{CloseReason, ConnectionTimers};
use super::tls::Tls;
use crate::lifecycle::Lifecycle;

/// Pause after a failed `accept`, which mostly means that no descriptor is free.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);
/// Accept errors are logged at most once in this time.
const ACCEPT_ERROR_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Connections that get a refusal at the same time, and the timeout of reading the request and of writing the refusal.
const REFUSALS_MAX: usize = 8;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection that was accepted just before the stop may take to begin its first request. Closing it at once would
/// lose a request that is on its way.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of headers for which the HTTP library needs no allocation; every other number costs one for each request.
const HEADERS_WITHOUT_ALLOCATION: usize = 100;

/// Response extension: the response is not sent, and the connection closes without a byte of it.
///
/// The simulator loses responses this way; nothing else sets it.
#[derive(Clone, Copy, Debug)]
pub struct CloseConnection;

/// Serves `router` to the tests and the sandbox of this machine, without a limit on connections.
///
/// Returns when `stop` is cancelled; see [`HttpServer::serve`].
pub async fn serve(listener: TcpListener, router: Router, lifecycle: Lifecycle, stop: CancellationToken) {
    local(router, lifecycle).serve(Listener::Tcp(listener), stop).await;
}

fn local(router: Router, lifecycle: Lifecycle) -> HttpServer {
    HttpServer {
        listener_name: "local",
        service: Arc::new(router),
        limits: ConnectionLimits::TRUSTED,
        limiter: ConnectionLimiter::unlimited(),
        refusals: Refusals::default(),
        metrics: ConnectionMetrics::default(),
        lifecycle,
    }
}

/// What a connection that is refused is sent: whole HTTP/1.1 responses, head and body, that close the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals {
    /// All slots of the listener are taken.
    pub(crate) connections: Bytes,
    /// All slots of one address are taken.
    pub(crate) per_address: Bytes,
    /// The client speaks plain HTTP, and the listener TLS.
    pub(crate) plain_http: Bytes,
}

/// What answers the requests of a listener.
pub trait HttpService: fmt::Debug + Send + Sync + 'static {
    fn respond(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response>;
}

impl HttpService for Router {
    fn respond(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(Self::clone(&self).oneshot(request).map(|response| response.unwrap_or_else(|never| match never {})))
    }
}

/// What is served and within which limits. Cheap to clone: several listeners may share one.
#[derive(Clone, Debug)]
pub(crate) struct HttpServer {
    /// For metrics and logs.
    pub(crate) listener_name: &'static str,
    pub(crate) service: Arc<dyn HttpService>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) limiter: ConnectionLimiter,
    pub(crate) refusals: Refusals,
    pub(crate) metrics: ConnectionMetrics,
    pub(crate) lifecycle: Lifecycle,
}

impl HttpServer {
    /// Serves until `stop` is cancelled; then idle connections are closed, and requests in progress finish.
    ///
    /// Returns as soon as nothing new is accepted; open connections are tasks of the lifecycle.
    pub(crate) async fn serve(self, listener: Listener, stop: CancellationToken) {
        let server = Arc::new(self);
        let refusal_permits = Arc::new(Semaphore::new(REFUSALS_MAX));
        let mut last_logged: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => server.start_connection(stream, peer, &listener, &stop, &refusal_permits),
                Err(error) => {
                    server.metrics.accept_error(server.listener_name);
                    if last_logged.is_none_or(|at| at.elapsed() >= ACCEPT_ERROR_LOG_INTERVAL) {
                        last_logged = Some(Instant::now());
                        tracing::warn!(
                            listener = server.listener_name,
                            %error,
                            "accepting a connection failed; trying again every 50 ms"
                        );
                    }
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                }
            }
        }
    }

    fn start_connection(
        self: &Arc<Self>,
        stream: AcceptedStream,
        peer: Peer,
        listener: &Listener,
        stop: &CancellationToken,
        refusal_permits: &Arc<Semaphore>,
    ) {
        let timers = ConnectionTimers::new(&self.limits);
        let address = match peer {
            Peer::Network(address) => Some(address.ip()),
            Peer::Local => None,
        };
        let tls = listener.tls().cloned();
        match self.limiter.acquire(address, &timers) {
            Ok(slot) => {
                self.metrics.accepted(self.listener_name);
                let (server, stop) = (Arc::clone(self), stop.clone());
                self.lifecycle.spawn("connection", async move {
                    // In a box: a TLS handshake takes much more memory than the connection does afterwards.
                    let socket = Box::pin(server.handshake(stream, peer, tls.as_ref(), &timers)).await;
                    if let Some(socket) = socket {
                        server.serve_connection(socket, peer, &timers, &stop).await;
                    }
                    drop(slot);
                });
            }
            Err(limit) => {
                self.metrics.refused(self.listener_name, limit);
                if let (AcceptedStream::Tcp(stream), None) = (stream, tls) {
                    self.refuse(stream, limit, refusal_permits);
                }
            }
        }
    }

    /// Sends a refusal, unless many others are being sent.
    fn refuse(&self, mut stream: TcpStream, limit: ExceededLimit, permits: &Arc<Semaphore>) {
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { return };
        let refusal = match limit {
            ExceededLimit::Connections => self.refusals.connections.clone(),
            ExceededLimit::PerAddress => self.refusals.per_address.clone(),
        };
        self.lifecycle.spawn("refusal", async move {
            // A response before the request is an error to some clients.
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, stream.read(&mut [0; 4096])).await;
            let _ = tokio::time::timeout(REFUSAL_TIMEOUT, send_refusal(stream, &refusal)).await;
            drop(permit);
        });
    }

    /// Performs the TLS handshake where the listener has TLS; `None` when it failed, or the client does not speak TLS.
    async fn handshake(
        &self,
        stream: AcceptedStream,
        peer: Peer,
        tls: Option<&Tls>,
        timers: &Arc<ConnectionTimers>,
    ) -> Option<Socket> {
        let handshake = tokio::time::timeout(self.limits.handshake_timeout, async {
            match stream.handshake(tls, timers).await? {
                Handshake::Done(socket) => Ok(Some(socket)),
                Handshake::PlainHttp(stream) => {
                    self.metrics.plain_http(self.listener_name);
                    // Its end says nothing: the client has the response, or it has left.
                    let _ = send_refusal(stream, &self.refusals.plain_http).await;
                    io::Result::Ok(None)
                }
            }
        });
        let result = tokio::select! {
            biased;
            result = handshake => result,
            reason = timers.expired() => {
                self.metrics.closed(self.listener_name, reason);
                return None;
            }
        };
        match result {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => {
                self.metrics.handshake_failed(self.listener_name);
                tracing::debug!(%peer, %error, "TLS handshake failed; connection closed");
                None
            }
            Err(_) => {
                self.metrics.handshake_timed_out(self.listener_name);
                None
            }
        }
    }

    async fn serve_connection(
        &self,
        socket: Socket,
        peer: Peer,
        timers: &Arc<ConnectionTimers>,
        stop: &CancellationToken,
    ) {
        let handle = ConnectionHandle::default();
        let mut stream = FlushTrackedStream::new(socket, handle.clone());
        let version = tokio::select! {
            biased;
            is_http2 = stream.is_http2() => is_http2,
            () = stop.cancelled().then(|()| Box::pin(tokio::time::sleep(FIRST_BYTE_TIMEOUT))) => return,
            reason = timers.expired() => {
                self.metrics.closed(self.listener_name, reason);
                return;
            }
        };
        let (service, request_timers) = (Arc::clone(&self.service), Arc::clone(timers));
        let responder = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let is_http2 = request.version() == Version::HTTP_2;
            let guard = request_timers.begin_request(is_http2);
            let request_guard = Arc::clone(&guard);
            let mut request = request.map(|body| Body::new(TrackedBody::request(body, request_guard)));
            copy_authority_to_host(&mut request);
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(handle.clone());
            let responding = Arc::clone(&service).respond(request);
            async move {
                let response = responding.await;
                match response.extensions().get::<CloseConnection>() {
                    Some(CloseConnection) => Err(io::Error::other("closed on purpose")),
                    None => Ok(response.map(|body| TrackedBody::response(body, guard, is_http2))),
                }
            }
        });
        let io = TokioIo::new(stream);
        let result = match version {
            Ok(false) => {
                // Pinned where it is made: every move would reserve room for another copy in this task.
                let connection = std::pin::pin!(self.limits.http1().serve_connection(io, responder));
                self.run(connection, peer, timers, stop).await
            }
            Ok(true) => {
                // In a box: connections over HTTP/1.1 shall not hold room for it.
                let mut connection = Box::pin(self.limits.http2().serve_connection(io, responder));
                self.run(connection.as_mut(), peer, timers, stop).await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "connection ended with an error");
        }
    }

    /// Runs the HTTP of a connection until it ends, or is closed because of a deadline or of the stop.
    async fn run<C>(
        &self,
        mut connection: Pin<&mut C>,
        peer: Peer,
        timers: &ConnectionTimers,
        stop: &CancellationToken,
    ) -> Result<(), BoxError>
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut closing = false;
        loop {
            let expired = tokio::select! {
                biased;
                result = connection.as_mut() => return Ok(result?),
                () = stop.cancelled(), if !closing => None,
                reason = timers.expired() => Some(reason),
            };
            if let Some(reason) = expired {
                if closing {
                    return Ok(());
                }
                self.metrics.closed(self.listener_name, reason);
                if reason != CloseReason::IdleTimeout {
                    tracing::debug!(%peer, reason = reason.name(), "connection closed");
                    return Ok(());
                }
                // No request is in progress: the peer is notified, and the rest of the last response may still be written.
                timers.start_closing();
            }
            closing = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// Writes the response and reads what the client still sends: a socket that is closed with unread bytes discards the response.
async fn send_refusal(mut stream: TcpStream, response: &[u8]) -> io::Result<()> {
    stream.write_all(response).await?;
    stream.shutdown().await?;
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

impl ConnectionLimits {
    /// Returns the settings of the HTTP library for HTTP/1.1.
    ///
    /// `half_close` stays off: a client that ends its direction after the request looks like one that has disconnected, and its
    /// request is dropped. With `half_close` no disconnect would be seen before the response is written, so waiters of
    /// abandoned jobs would be counted as present, and a finished picture as delivered.
    fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        // `ConnectionTimers` has the timeouts of heads and of idle connections.
        builder.header_read_timeout(None).max_buf_size(self.http1.buffer_bytes);
        if self.http1.headers_max != HEADERS_WITHOUT_ALLOCATION {
            builder.max_headers(self.http1.headers_max);
        }
        builder
    }

    /// Returns the settings of the HTTP library for HTTP/2.
    ///
    /// The library has no setting against floods of SETTINGS, PING or PRIORITY frames. It holds one answer to each kind at a
    /// time and reads no further until that is written, so such a flood costs processor time and no memory.
    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let limits = &self.http2;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(limits.header_bytes_max)
            .max_pending_accept_reset_streams(limits.pending_resets_max)
            .max_local_error_reset_streams(limits.error_resets_max)
            .initial_stream_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .max_send_buf_size(limits.send_buffer_bytes)
            .keep_alive_interval(limits.ping_interval)
            .keep_alive_timeout(limits.ping_timeout);
        builder
    }
}

/// Over HTTP/2 the host is in `:authority`; the modules behind look for it in `Host` (RFC 9113 §8.3.1).
fn copy_authority_to_host(request: &mut Request) {
    if request.version() == Version::HTTP_2
        && !request.headers().contains_key(HOST)
        && let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::timers::stream::TimedStream;

    #[tokio::test]
    async fn a_connection_holds_little() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = local(Router::new(), Lifecycle::default());
        let timers = ConnectionTimers::new(&server.limits);
        let socket = Socket::Tcp(TimedStream::new(stream, Arc::clone(&timers)));
        let stop = CancellationToken::new();
        let size = size_of_val(&server.serve_connection(socket, Peer::Local, &timers, &stop));
        assert!(size <= 1900, "{size} bytes");
    }
}
