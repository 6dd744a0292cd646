//! `GET /` for browsers, and `GET /web/{file}`: the playground's page and files. They need no key and contain no data.

use axum::Json;
use axum::extract::{OriginalUri, Path};
use axum::http::header::{ACCEPT, VARY};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};

use super::{gateway, paths};
use crate::api::error::ApiError;
use crate::http::header::{ParsedHeader, list_members};
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

/// Whether `Accept` names HTML, as browsers do; a wildcard does not.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().flat_map(|value| list_members(value.as_bytes()));
    accepted.into_iter().map(ParsedHeader::parse).any(|member| {
        let refused = member.text("q").is_some_and(|quality| quality.parse() == Ok(0.0_f32));
        matches!(&*member.word, "text/html" | "application/xhtml+xml") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_names_html_gets_the_page() {
        let wants = |accept: &str| wants_page(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]));
        assert!(wants("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"));
        assert!(wants("Text/HTML;q=0.1"));
        for accept in ["*/*", "application/json", "application/json, */*;q=0.5", "text/*", "text/html;q=0, */*", ""] {
            assert!(!wants(accept), "{accept}");
        }
        assert!(!wants_page(&HeaderMap::new()));
    }
}
