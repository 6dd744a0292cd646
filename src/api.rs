//! The client API: OpenAI's image API over HTTP. Parses and validates requests, hands valid ones to the engine, and
//! writes every response and every error.
//!
//! | route                                | file                        |
//! |--------------------------------------|-----------------------------|
//! | `POST /v1/images/edits`              | `routes/images.rs`          |
//! | `POST /v1/images/generations`        | `routes/images.rs`          |
//! | `POST /v1/images/variations`         | `routes/images.rs`          |
//! | `GET  /v1/models`, `/v1/models/{id}` | `routes/models.rs`          |
//! | `GET  /v1/inputs/{token}`            | `routes/inputs.rs`          |
//! | `GET  /v1/results/{job}/{index}`     | `routes/results.rs`         |
//! | `GET`, `DELETE /v1/predictions/{id}` | `routes/predictions.rs`     |
//!
//! Each route also works without `/v1` and with a trailing slash, because clients are configured both ways; and below
//! `/openai`, where `POST /openai/deployments/{model}/images/edits` and `…/generations` name the model in the path, as
//! Azure has them.
//!
//! How an edit travels:
//! 1. `middleware/` gives the request an id (`access_log.rs`), keeps its body to be drained if it is refused
//!    (`drain.rs`), and checks `Transfer-Encoding`, `Host` and `Origin` (`transfer_encoding.rs`, `cors.rs`).
//! 2. `routes/images.rs` receives it with a [`request::context::RequestContext`]: the key is checked (`middleware/auth.rs`),
//!    the client's rate is counted (`middleware/rate.rs`) and a permit is taken (`state.rs`).
//! 3. `request/parse.rs` reads the body: `body/incoming.rs` bounds it, `body/multipart.rs` or `body/json.rs` turn it into a
//!    `body/form.rs` with the pictures in the spool, and `validate.rs` makes a request for the engine of it.
//! 4. `response/mode.rs` and `request/response_deadline.rs` decide how and for how long the client waits; the engine
//!    returns a waiter.
//! 5. `response/` writes the result: `image_response.rs` for one JSON object, `events.rs` for server-sent events,
//!    `padded_json.rs` for JSON behind white space; `presenter.rs` converts pictures. What fails goes through `error.rs`.
//!
//! Of `storage` only the spool is used here: uploads are written to it as they arrive, before there is a job.

use std::sync::Arc;

use axum::Router;

use crate::admission::Admission;
use crate::config::{ApiPolicy, ServerConfig};
use crate::engine::Engine;
use crate::input_urls::InputUrls;
use crate::lifecycle::Lifecycle;
use crate::model::{Catalogue, Clock, Task};
use crate::server::accept::BusyResponses;
use crate::telemetry::Metrics;
use crate::webhooks::Webhooks;

mod error;
mod middleware;
mod request;
mod response;
mod routes;
mod state;

#[cfg(feature = "bench")]
pub(crate) use request::parse::bench;
#[cfg(fuzzing)]
pub(crate) use request::parse::fuzz;

use error::ApiError;
use middleware::Middleware;
use request::body::form::FormLimits;
use response::presenter::Presenter;
use response::signature::Signer;
use response::streaming::ResponseOutcomes;
use state::ApiState;

/// What the client API is built from.
#[derive(Debug)]
pub(crate) struct ApiDependencies {
    pub(crate) engine: Engine,
    pub(crate) admission: Admission,
    pub(crate) webhooks: Webhooks,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) server: ServerConfig,
    /// The upstream APIs that requests may use.
    pub(crate) api_policy: ApiPolicy,
    /// Published input pictures; `None` where they travel inside the submits.
    pub(crate) input_urls: Option<InputUrls>,
    /// Signs the addresses of results; the same after a restart.
    pub(crate) signing_key: [u8; 32],
    /// Marks every response as made by the sandbox.
    pub(crate) sandbox: bool,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
}

/// Returns the responses to connections over a limit, from the table of errors.
pub(crate) fn busy_responses() -> BusyResponses {
    BusyResponses {
        connections: ApiError::TooManyConnections.to_http1(),
        address: ApiError::TooManyConnectionsOfAddress.to_http1(),
    }
}

/// Builds the routes of the client API with their middleware.
pub(crate) fn router(dependencies: ApiDependencies) -> Router {
    let ApiDependencies {
        engine,
        admission,
        webhooks,
        catalogue,
        clock,
        server,
        api_policy,
        input_urls,
        signing_key,
        sandbox,
        lifecycle,
        metrics,
    } = dependencies;
    let middleware = Middleware::new(&server, sandbox, &lifecycle, &metrics);
    let (signer, outcomes) = (Signer::new(signing_key), ResponseOutcomes::new(&metrics));
    let presenter = Presenter::new(&server, &metrics);
    let form_limits = [Task::Edit, Task::Generate].map(|task| FormLimits::new(task, &server, &catalogue));
    let server = Arc::new(server);
    let state = ApiState {
        engine,
        admission,
        webhooks,
        catalogue,
        clock,
        server,
        api_policy,
        input_urls,
        signer,
        presenter,
        outcomes,
        form_limits,
    };
    middleware.wrap(routes::router(state))
}
