//! `GET /` for browsers, and `GET /web/{file}`: the playground's page and files. They need no key and contain no data.

use axum::Json;
use axum::extract::{OriginalUri, Path};
use axum::http::header::VARY;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};

use super::{gateway, paths};
use crate::api::error::ApiError;
use crate::http::page_headers::wants_page;
use crate::web::playground::{ASSETS, PAGE};

/// Sends the page to browsers, and to programs the same JSON as `GET /v1`.
pub(super) async fn index(headers: HeaderMap) -> Response {
    let page = if wants_page(&headers) { ASSETS.response(PAGE, &headers) } else { None };
    let mut response = page.unwrap_or_else(|| Json(gateway::description()).into_response());
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Sends a file of the page.
///
/// # Errors
///
/// [`ApiError::UnknownRoute`] where the page has no such file.
pub(super) async fn file(
    Path(name): Path<String>,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let unknown = || {
        let path = uri.path().to_owned();
        ApiError::UnknownRoute { method: method.to_string(), hint: paths::explain(&path), path }
    };
    ASSETS.response(&name, &headers).ok_or_else(unknown)
}
