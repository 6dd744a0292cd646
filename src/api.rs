//! The client API: OpenAI's image API over HTTP. Parses and validates requests, hands valid ones to the engine, and
//! writes every response and every error.
//!
//! | route                                | file                        |
//! |--------------------------------------|-----------------------------|
//! | `POST /v1/images/edits`              | `routes/images.rs`          |
//! | `POST /v1/images/generations`        | `routes/images.rs`          |
//! | `POST /v1/images/variations`         | `routes/images.rs`          |
//! | `POST /v1/chat/completions`          | `routes/chat.rs`            |
//! | `POST /v1/responses`                 | `routes/chat.rs`            |
//! | `GET  /v1/models`, `/v1/models/{id}` | `routes/models.rs`          |
//! | `GET  /v1/inputs/{token}`            | `routes/inputs.rs`          |
//! | `GET  /v1/results/{job}/{n}.png`     | `routes/results.rs`         |
//! | `GET  /v1/predictions`               | `routes/predictions/list.rs` |
//! | `GET`, `DELETE /v1/predictions/{id}` | `routes/predictions.rs`     |
//!
//! `GET /` for browsers and `GET /web/{file}` are in `routes/web.rs`, `GET /v1` and `GET /health` in `routes/gateway.rs`; `routes/paths.rs` has the other spellings of paths.
//!
//! Each route also works without `/v1` and with a trailing slash, because clients are configured both ways; and below
//! `/openai`, where `POST /openai/deployments/{model}/images/edits` and `…/generations` name the model in the path, as
//! Azure has them.
//!
//! How an edit travels:
//! 1. `middleware/request_log.rs` gives the request an id, `middleware/drain.rs` will read the rest of its body if the request
//!    is refused, `middleware/transfer_encoding.rs` and `middleware/cors.rs` check the head.
//! 2. `request/context.rs` collects the head for the handler in `routes/images.rs`; `middleware/auth.rs` checks the key.
//!    `routes/accepted.rs` counts the client's rate (`middleware/rate.rs`) and takes a permit (`state.rs`).
//! 3. `request/parse.rs` reads the body: `request/body/incoming.rs` bounds it, `request/body/multipart.rs` or
//!    `request/body/json.rs` turn it into a form (`request/body/form.rs`) with the pictures in the spool,
//!    `request/parse/inputs.rs` converts those that cannot be sent on as they are, and `request/validate.rs` turns the form into a request for the engine.
//! 4. `response/mode.rs` and `request/response_deadline.rs` decide how and for how long the client waits. The engine
//!    returns a waiter.
//! 5. `response/image_response.rs` writes the result as one JSON object, `response/events.rs` as server-sent events,
//!    `response/padded_json.rs` as JSON behind white space; `response/converter.rs` converts pictures. Every failure
//!    becomes an error of `error.rs`.
//!
//! Of `storage` only the spool is used here: uploads are written to it as they arrive, before there is a job.

use std::sync::Arc;

use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};

use crate::admission::Admission;
use crate::config::{ApiPolicy, LoggedRequests, ServerConfig};
use crate::engine::Engine;
use crate::input_urls::InputUrls;
use crate::lifecycle::Lifecycle;
use crate::model::{Catalogue, Clock, Current};
use crate::server::accept::{HttpService, Refusals};
use crate::telemetry::Metrics;
use crate::telemetry::recent::RecentRequests;
use crate::webhooks::Webhooks;

mod error;
mod middleware;
mod request;
mod response;
mod routes;
mod state;

pub(crate) use error::record_unattended;
#[cfg(feature = "bench")]
pub(crate) use request::parse::benching;
#[cfg(fuzzing)]
pub(crate) use request::parse::fuzz;

use error::ApiError;
use middleware::Middleware;
pub(crate) use middleware::cors::OriginPolicy;
use middleware::request_log::RequestLog;
use request::parse::inputs::InputConverter;
use response::converter::PictureConverter;
use response::signature::{ResultUrlBuilder, Signer};
use response::streaming::ResponseOutcomes;
use routes::Routes;
use state::{ApiState, RequestRules};

/// What the client API is built from.
#[derive(Debug)]
pub(crate) struct ApiServices {
    pub(crate) engine: Engine,
    pub(crate) admission: Admission,
    pub(crate) webhooks: Webhooks,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) server: ServerConfig,
    /// Which hosts and pages requests may name.
    pub(crate) origins: Current<OriginPolicy>,
    /// The upstream APIs that requests may use.
    pub(crate) api_policy: ApiPolicy,
    /// Published input pictures; `None` where they travel inside the submits.
    pub(crate) input_urls: Option<InputUrls>,
    /// Signs the addresses of results; the same after a restart.
    pub(crate) signing_key: [u8; 32],
    /// Memory for thumbnails of results.
    pub(crate) thumbnail_bytes_max: u64,
    /// Marks every response as made by the sandbox.
    pub(crate) sandbox: bool,
    pub(crate) logged_requests: Current<LoggedRequests>,
    pub(crate) recent: RecentRequests,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
}

/// Returns the responses to connections that are refused, from the table of errors.
pub(crate) fn connection_refusals() -> Refusals {
    Refusals {
        connections: ApiError::TooManyConnections.to_http1(),
        per_address: ApiError::TooManyConnectionsOfAddress.to_http1(),
        plain_http: ApiError::PlainHttp.to_http1(),
    }
}

/// Answers a request that came to the port of the operator's pages, with the base URL of this API.
pub(crate) fn not_here(method: &Method, uri: &Uri, base_url: &str) -> Response {
    let hint = format!("This is the port of the operator's pages. The API of this gateway is at {base_url}.");
    let (method, path) = (method.to_string(), uri.path().to_owned());
    ApiError::UnknownRoute { method, path, hint: hint.into() }.into_response()
}

/// Builds the client API: its routes behind their middleware.
pub(crate) fn service(services: ApiServices) -> Arc<dyn HttpService> {
    let ApiServices {
        engine,
        admission,
        webhooks,
        catalogue,
        clock,
        server,
        origins,
        api_policy,
        input_urls,
        signing_key,
        thumbnail_bytes_max,
        sandbox,
        logged_requests,
        recent,
        lifecycle,
        metrics,
    } = services;
    let request_log = RequestLog::new(sandbox, logged_requests, &metrics, recent.clone());
    let result_urls = ResultUrlBuilder::new(Signer::new(signing_key), &server);
    let outcomes = ResponseOutcomes::new(&metrics, recent);
    let converter = PictureConverter::new(&server.conversions, thumbnail_bytes_max, &metrics);
    let inputs = InputConverter::new(&server.conversions, &metrics);
    let request_rules = RequestRules::new(catalogue, api_policy, &server.bodies, inputs, origins.clone());
    let server = Arc::new(server);
    let state = ApiState {
        engine,
        admission,
        webhooks,
        clock,
        server: Arc::clone(&server),
        request_rules,
        input_urls,
        result_urls,
        converter,
        outcomes,
    };
    let routes = Routes::new(Arc::new(state));
    Arc::new(Middleware::new(&server, origins, request_log, &lifecycle, routes))
}
