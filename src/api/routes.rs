//! The handlers, one file for each resource, and their paths.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, OriginalUri, Request};
use axum::http::uri::PathAndQuery;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use tower::ServiceExt;

use super::error::ApiError;
use super::middleware::Handlers;
use super::request::context::{DEPLOYMENT, RequestContext};
use super::state::ApiState;
use crate::config::WebPages;
use crate::model::Task;

mod accepted;
mod chat;
mod gateway;
mod images;
mod inputs;
mod models;
mod paths;
mod predictions;
mod results;
mod web;

use accepted::{Endpoint, create};

/// The routes, without middleware.
#[derive(Debug)]
pub(super) struct Routes {
    state: Arc<ApiState>,
    router: Router,
}

impl Routes {
    pub(super) fn new(state: Arc<ApiState>) -> Self {
        Self { router: router(Arc::clone(&state)), state }
    }
}

impl Handlers for Routes {
    fn handle(&self, request: Request) -> BoxFuture<'static, Response> {
        // Nearly all requests are one of these two. The router would copy their route, and note what other handlers ask for.
        let task = match (request.method(), request.uri().path()) {
            (&Method::POST, "/v1/images/edits") => Task::Edit,
            (&Method::POST, "/v1/images/generations") => Task::Generate,
            _ => return self.router.handle(request),
        };
        let state = Arc::clone(&self.state);
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let context = RequestContext::from_request_parts(&mut head, &state).await;
            // Not held while the client waits.
            drop(head);
            match context {
                Ok(context) => create(Endpoint::Images(task), context, state, body).await,
                Err(refusal) => refusal.into_response(),
            }
        })
    }
}

fn router(state: Arc<ApiState>) -> Router {
    let mut router = Router::new();
    for prefix in ["/v1", "", "/openai/v1", "/openai"] {
        for slash in ["", "/"] {
            let at = |path: &str| format!("{prefix}{path}{slash}");
            router = router
                .route(&at("/images/edits"), post(images::edits))
                .route(&at("/images/generations"), post(images::generations))
                .route(&at("/images/variations"), post(images::variations))
                .route(&at("/chat/completions"), post(chat::completions))
                .route(&at("/responses"), post(chat::responses))
                .route(&at("/models"), get(models::index))
                .route(&at("/inputs/{token}"), get(inputs::show))
                .route(&at("/predictions"), get(predictions::index))
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
            .route(&at("/images/generations"), post(images::generations))
            .route(&at("/chat/completions"), post(chat::completions));
    }
    for path in ["/v1", "/v1/"] {
        router = router.route(path, get(gateway::index));
    }
    router = match state.server.addresses.web {
        WebPages::On => router.route("/", get(web::index)).route("/web/{file}", get(web::file)),
        WebPages::Off => router.route("/", get(gateway::index)),
    };
    for path in ["/health", "/healthz", "/livez", "/ping"] {
        router = router.route(path, get(gateway::health));
    }
    let served = router.fallback(unknown_route).method_not_allowed_fallback(wrong_method).with_state(state);
    let other_spellings = served.clone();
    served.fallback(move |request| serve_as_meant(other_spellings, request))
}

/// Serves a request whose path is none of the routes by the route that it can only mean.
async fn serve_as_meant(served: Router, mut request: Request) -> Response {
    if let Some(path) = paths::canonical(request.uri().path())
        && let Some(uri) = with_path(request.uri(), &path)
    {
        *request.uri_mut() = uri;
    }
    served.oneshot(request).await.unwrap_or_else(|never| match never {})
}

/// Returns the address with another path and the same query.
fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{path}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

async fn unknown_route(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let path = uri.path().to_owned();
    ApiError::UnknownRoute { method: method.to_string(), hint: paths::explain(&path), path }
}

/// `routed` is the path that was routed, `uri` the one that the client sent.
async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri, routed: Uri) -> Response {
    if method == Method::OPTIONS {
        // Some programs probe with OPTIONS whether a server is there. The router adds `Allow`.
        return StatusCode::NO_CONTENT.into_response();
    }
    let allow = match routed.path() {
        path if path.contains("/images/") || path.contains("/chat/") || path.contains("/responses") => "POST",
        path if path.trim_end_matches('/').contains("/predictions/") => "GET, DELETE",
        _ => "GET",
    };
    ApiError::MethodNotAllowed { method: method.to_string(), path: uri.path().to_owned(), allow }.into_response()
}
