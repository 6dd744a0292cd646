//! The handlers, one file for each resource, and their paths.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, OriginalUri, Request};
use axum::http::uri::PathAndQuery;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use tower::ServiceExt;

use super::error::ApiError;
use super::middleware::Handlers;
use super::request::context::RequestContext;
use super::state::ApiState;
use crate::config::WebPages;
use crate::model::Task;
use crate::openapi::{Document, Route};

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

/// Returns every route, by the path that the OpenAPI document names: the router has no others, and the document is compared
/// with this list.
fn table(document: &Arc<Document>, pages: WebPages) -> Vec<Route<Arc<ApiState>>> {
    let [json, page] = [Arc::clone(document), Arc::clone(document)];
    let mut routes = vec![
        Route::post("/v1/images/edits", images::edits),
        Route::post("/v1/images/generations", images::generations),
        Route::post("/v1/images/variations", images::variations),
        Route::post("/v1/chat/completions", chat::completions),
        Route::post("/v1/responses", chat::responses),
        Route::get("/v1/models", models::index),
        // Ids with a slash arrive encoded or raw; the handler strips one at the end.
        Route::get("/v1/models/{*id}", models::show),
        Route::get("/v1/inputs/{token}", inputs::show),
        Route::get("/v1/predictions", predictions::index),
        Route::get("/v1/predictions/{id}", predictions::show),
        Route::delete("/v1/predictions/{id}", predictions::cancel),
        Route::get("/v1/results/{job}/{index}", results::show),
        Route::post("/openai/deployments/{deployment}/images/edits", images::edits),
        Route::post("/openai/deployments/{deployment}/images/generations", images::generations),
        Route::post("/openai/deployments/{deployment}/chat/completions", chat::completions),
        Route::get("/health", gateway::health),
        Route::get("/openapi.json", async move || json.json()),
        Route::get("/docs", async move || page.page()),
    ];
    match pages {
        WebPages::On => routes.extend([Route::get("/", web::index), Route::get("/web/{file}", web::file)]),
        WebPages::Off => routes.push(Route::get("/", gateway::index)),
    }
    routes
}

/// Returns the spellings of a route's path that the router knows; `paths.rs` has the others.
fn spellings(path: &str) -> Vec<String> {
    let slashes = if path.contains("{*") { &[""][..] } else { &["", "/"] };
    let with_slashes = |path: String| slashes.iter().map(move |slash| format!("{path}{slash}"));
    match path {
        "/" | "/web/{file}" => vec![path.to_owned()],
        "/health" => ["/health", "/healthz", "/livez", "/ping"].map(str::to_owned).into(),
        _ => match path.strip_prefix("/v1") {
            Some(path) => {
                let prefixes = ["/v1", "", "/openai/v1", "/openai"].into_iter();
                prefixes.flat_map(|prefix| with_slashes(format!("{prefix}{path}"))).collect()
            }
            None => with_slashes(path.to_owned()).collect(),
        },
    }
}

fn router(state: Arc<ApiState>) -> Router {
    let pages = state.server.addresses.web;
    let document = Arc::new(Document::of_clients(state.catalogue(), pages));
    // Programs take the base address of a client for a page.
    let mut router =
        ["/v1", "/v1/"].into_iter().fold(Router::new(), |router, path| router.route(path, get(gateway::index)));
    for route in table(&document, pages) {
        for path in spellings(route.path) {
            router = route.at(&path, router);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::request::test_support::catalogue;
    use crate::openapi::test_support::differences;

    #[test]
    fn the_document_has_these_routes_and_no_others() {
        for pages in [WebPages::On, WebPages::Off] {
            let document = Arc::new(Document::of_clients(&catalogue(), pages));
            let mut routes = table(&document, pages);
            assert_eq!(differences(&document, &routes, |_| true), Vec::<String>::new());
            let last = routes.pop().unwrap();
            assert_eq!(differences(&document, &routes, |_| true), [format!("get {}", last.path)]);
        }
    }
}
