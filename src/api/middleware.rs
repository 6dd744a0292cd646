//! What every request passes before and after its handler.

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::response::IntoResponse;
use tower_http::catch_panic::CatchPanicLayer;

use super::error::ApiError;
use crate::config::ServerConfig;
use crate::lifecycle::Lifecycle;

pub(super) mod auth;
pub(super) mod min_rate;
pub(super) mod rate;
pub(super) mod request_log;

mod cors;
mod drain;
mod forwarded;
mod single_headers;
mod transfer_encoding;

use cors::OriginPolicy;
use drain::BodyDrain;
use forwarded::ForwardedPolicy;
use request_log::RequestLog;

/// The layers around the routes.
#[derive(Debug)]
pub(super) struct Middleware {
    origins: OriginPolicy,
    forwarded: ForwardedPolicy,
    drain: BodyDrain,
    request_log: RequestLog,
}

impl Middleware {
    pub(super) fn new(server: &ServerConfig, request_log: RequestLog, lifecycle: &Lifecycle) -> Self {
        let origins = OriginPolicy::new(&server.addresses);
        Self {
            forwarded: ForwardedPolicy::new(server, Arc::clone(&origins.hosts)),
            origins,
            drain: BodyDrain::new(&server.bodies, lifecycle),
            request_log,
        }
    }

    /// Wraps the routes in all layers.
    pub(super) fn wrap(self, router: Router) -> Router {
        let Self { origins, forwarded, drain, request_log } = self;
        let cors = origins.cors();
        // `Router::layer` puts each new layer outside the ones before, so this list reads from the inside out.
        router
            // Innermost, and inside the log, so that a panic is a logged 500 and not a dropped connection.
            .layer(CatchPanicLayer::custom(|_| ApiError::internal("a handler panicked").into_response()))
            .layer(middleware::from_fn_with_state(forwarded, forwarded::read))
            // Outside everything that may refuse a request: a listed page may read refusals, too.
            .layer(tower::util::option_layer(cors))
            // Before a key is checked or a body read.
            .layer(middleware::from_fn_with_state(origins, cors::check))
            // Outside every refusal: the rest of a refused body is read to its end.
            .layer(middleware::from_fn_with_state(drain, drain::drain))
            // Outermost: every response, also a refusal, gets an id, the standing headers and one log line.
            .layer(middleware::from_fn_with_state(request_log, request_log::log))
    }
}
