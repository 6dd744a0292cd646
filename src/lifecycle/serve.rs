//! The accept loop of every HTTP listener: one tracked task a connection, header time-out, graceful close.
//!
//! The caller owns the socket, so the address is known and reserved before anything is built; a test passes port 0.
//!
//! Three answers are the HTTP library's and have no body, because what it cannot read as a request never becomes one,
//! and it offers no place to put words (hyper 1.12, `Http1Transaction::on_error`): 400 to what is no HTTP, 431 to more
//! than 100 headers or some 400 KB of them, 414 to an endless target. A head that does not arrive in time is not
//! answered at all: the connection closes. OpenAI's clients show their status without a message, and retry none of them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::Lifecycle;
use super::wire::{Watched, Wire};

/// How long a peer may take to send a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed `accept`, which mostly means that no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Marks, as a response extension, an answer that must not be sent: the connection closes without a byte of it.
///
/// This is how the simulator loses answers; nothing else sets it.
#[derive(Clone, Copy, Debug)]
pub struct HangUp;

/// Serves `router` until `stop` is cancelled, then closes idle connections and lets running requests finish.
///
/// Returns as soon as nothing new is accepted; connections in progress are tracked by `lifecycle`.
pub async fn serve(listener: TcpListener, router: Router, lifecycle: Lifecycle, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Answers are written in large pieces; waiting for more bytes only adds latency.
                let _ = stream.set_nodelay(true);
                lifecycle.spawn("connection", connection(stream, peer, router.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let wire = Wire::default();
    let io = TokioIo::new(Watched::new(stream, wire.clone()));
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(wire.clone());
        let router = router.clone();
        async move {
            let response = router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {});
            match response.extensions().get::<HangUp>() {
                Some(HangUp) => Err(io::Error::other("hung up on purpose")),
                None => Ok(response),
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100);
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}
