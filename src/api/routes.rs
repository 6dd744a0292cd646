//! The handlers, one file for each resource, and their paths.

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::error::ApiError;
use super::request::context::DEPLOYMENT;
use super::state::ApiState;

mod accepted;
mod chat;
mod images;
mod inputs;
mod models;
mod predictions;
mod results;

/// Builds the routes, without middleware.
pub(super) fn router(state: ApiState) -> Router {
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
    router.fallback(unknown_route).method_not_allowed_fallback(wrong_method).with_state(state)
}

async fn unknown_route(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::UnknownRoute { method: method.to_string(), path: uri.path().to_owned() }
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    if method == Method::OPTIONS {
        // Some programs probe with OPTIONS whether a server is there. The router adds `Allow`.
        return StatusCode::NO_CONTENT.into_response();
    }
    let allow = match uri.path() {
        path if path.contains("/images/") || path.contains("/chat/") || path.contains("/responses") => "POST",
        path if path.contains("/predictions/") => "GET, DELETE",
        _ => "GET",
    };
    ApiError::MethodNotAllowed { method: method.to_string(), path: uri.path().to_owned(), allow }.into_response()
}
