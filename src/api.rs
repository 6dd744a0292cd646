//! The client face: OpenAI's image API. Reads requests at the edge, hands valid ones inward, and words every answer.
//!
//! | route                              | file          |
//! |------------------------------------|---------------|
//! | `POST /v1/images/edits`            | `images.rs`   |
//! | `POST /v1/images/generations`      | `images.rs`   |
//! | `POST /v1/images/variations`       | `images.rs`   |
//! | `GET  /v1/models`, `/v1/models/{id}` | `models.rs` |
//! | `GET  /v1/inputs/{token}`          | `inputs.rs`   |
//! | `GET  /v1/results/{order}/{index}` | `results.rs`  |
//! | `GET`, `DELETE /v1/predictions/{id}` | `predictions.rs` |
//!
//! Each also without `/v1` and with a trailing slash, because people type all of these; and below `/openai`, as Azure has
//! them, where `POST /openai/deployments/{model}/images/edits` and `…/generations` name the model in the path.

use std::sync::Arc;

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use url::Url;

use crate::admission::{Admission, Permit, Rejection};
use crate::config::{ApiPolicy, ServerConfig};
use crate::engine::Engine;
use crate::input_urls::InputUrls;
use crate::lifecycle::Lifecycle;
use crate::model::{Catalogue, ClientId, Clock, Task};
use crate::telemetry::Metrics;
use crate::webhooks::Webhooks;

mod answer;
mod auth;
mod base64;
mod body;
mod browsers;
mod conversion;
mod drain;
mod error;
mod events;
mod form;
mod framing;
mod header;
mod images;
mod inputs;
mod intake;
mod json_body;
mod kept;
mod layers;
mod manner;
mod models;
mod multipart;
mod offer;
mod pace;
mod patience;
mod predictions;
mod prefer;
mod presenter;
mod rate;
mod results;
mod signature;
mod spaces;
mod validate;

#[cfg(fuzzing)]
pub(crate) use intake::fuzz;
pub(crate) use intake::pieces;

use answer::Addresses;
use browsers::Gate;
use error::ApiError;
use form::Limits;
use kept::Endings;
use offer::Offer;
use presenter::Presenter;
use signature::Signer;

/// What the client face is built from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) engine: Engine,
    pub(crate) admission: Admission,
    pub(crate) webhooks: Webhooks,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) server: ServerConfig,
    /// Which faces of the upstream requests may take.
    pub(crate) route: ApiPolicy,
    /// Input pictures that the upstream fetches here; none where they travel in the requests.
    pub(crate) input_urls: Option<InputUrls>,
    /// Signs the addresses of results; the same after a restart.
    pub(crate) signing_key: [u8; 32],
    /// Every answer says that its pictures are make-believe.
    pub(crate) sandbox: bool,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Metrics,
}

/// What handlers share. Cheap to clone.
#[derive(Clone, Debug)]
struct ApiState {
    engine: Engine,
    admission: Admission,
    webhooks: Webhooks,
    catalogue: Arc<Catalogue>,
    clock: Arc<dyn Clock>,
    server: Arc<ServerConfig>,
    route: ApiPolicy,
    input_urls: Option<InputUrls>,
    signer: Signer,
    presenter: Presenter,
    endings: Endings,
    /// What bodies may hold, for each task.
    limits: [Limits; 2],
}

impl ApiState {
    /// What the body of a request for this task may hold.
    fn limits(&self, task: Task) -> &Limits {
        let [edits, generations] = &self.limits;
        match task {
            Task::Edit => edits,
            Task::Generate => generations,
        }
    }

    /// The models a client may use.
    fn offer(&self, client: &ClientId) -> Offer<'_> {
        Offer { catalogue: &self.catalogue, allowed: self.admission.models(client), routes: self.route.api_kinds() }
    }

    /// Lets one more request be read and waited with.
    fn admit(&self, client: &ClientId) -> Result<Permit, ApiError> {
        self.admission.admit(client).map_err(|rejection| match rejection {
            Rejection::TooManyWaiters { retry_after } => ApiError::TooManyWaiting { retry_after },
            Rejection::LimitExceeded(over) => rate::over(over),
        })
    }

    /// Makes addresses that this client can reach.
    fn addresses(&self, headers: &HeaderMap) -> Result<Addresses, ApiError> {
        let (signer, base) = (self.signer.clone(), self.base_url(headers)?);
        Ok(Addresses { signer, base, now: self.clock.now(), ttl: self.server.result_url_ttl })
    }

    /// What clients reach the gateway by: as configured, else as this client just did.
    fn base_url(&self, headers: &HeaderMap) -> Result<Url, ApiError> {
        if let Some(url) = &self.server.public_url {
            return Ok(url.clone());
        }
        let host = headers.get(axum::http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.map_or_else(|| self.server.listen.to_string(), str::to_owned);
        format!("{}://{host}", self.server.scheme())
            .parse()
            .map_err(|_| ApiError::internal("the Host header makes no address"))
    }
}

/// The part of a path that names a model, as Azure's deployments do.
const DEPLOYMENT: &str = "deployment";

/// The routes of the client face, in all their layers.
pub(crate) fn router(parts: Parts) -> Router {
    let Parts {
        engine,
        admission,
        webhooks,
        catalogue,
        clock,
        server,
        route,
        input_urls,
        signing_key,
        sandbox,
        lifecycle,
        metrics,
    } = parts;
    let outermost = layers::Outermost::new(&server, sandbox, &lifecycle, &metrics);
    let gate = Gate::new(&server);
    let (signer, endings) = (Signer::new(signing_key), Endings::new(&metrics));
    let presenter = Presenter::new(&server, &metrics);
    let limits = [Task::Edit, Task::Generate].map(|task| Limits::new(task, &server, &catalogue));
    let server = Arc::new(server);
    let state = ApiState {
        engine,
        admission,
        webhooks,
        catalogue,
        clock,
        server,
        route,
        input_urls,
        signer,
        presenter,
        endings,
        limits,
    };
    let mut router = Router::new();
    for prefix in ["/v1", "", "/openai/v1", "/openai"] {
        for slash in ["", "/"] {
            let at = |path: &str| format!("{prefix}{path}{slash}");
            router = router
                .route(&at("/images/edits"), post(images::edits))
                .route(&at("/images/generations"), post(images::generations))
                .route(&at("/images/variations"), post(images::variations))
                .route(&at("/models"), get(models::index))
                .route(&at("/inputs/{token}"), get(inputs::show))
                .route(&at("/predictions/{id}"), get(predictions::show).delete(predictions::cancel))
                .route(&at("/results/{job}/{index}"), get(results::show));
        }
        // Ids with a slash arrive encoded or raw; the handler strips one at the end.
        router = router.route(&format!("{prefix}/models/{{*id}}"), get(models::show));
    }
    for slash in ["", "/"] {
        let at = |path: &str| format!("/openai/deployments/{{{DEPLOYMENT}}}{path}{slash}");
        router = router
            .route(&at("/images/edits"), post(images::edits))
            .route(&at("/images/generations"), post(images::generations));
    }
    let router = router.fallback(unknown_route).method_not_allowed_fallback(wrong_method).with_state(state);
    layers::wrap(router, gate, outermost)
}

async fn unknown_route(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::UnknownRoute { method: method.to_string(), path: uri.path().to_owned() }
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    if method == Method::OPTIONS {
        // Some programs see by this whether anybody is there. The router adds what is allowed.
        return StatusCode::NO_CONTENT.into_response();
    }
    let allow = match uri.path() {
        path if path.contains("/images/") => "POST",
        path if path.contains("/predictions/") => "GET, DELETE",
        _ => "GET",
    };
    ApiError::MethodNotAllowed { method: method.to_string(), path: uri.path().to_owned(), allow }.into_response()
}

/// The name of a task's route, for logs.
fn route_of(task: Task) -> &'static str {
    match task {
        Task::Edit => "edits",
        Task::Generate => "generations",
    }
}
