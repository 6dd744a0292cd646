//! What each listener says about itself: an OpenAPI 3.1 document, and the same as a page.
//!
//! The texts, parameters and shapes are in `clients.json`, `operator.json` and `components.json`. What has another owner is filled
//! in: error codes of `src/api/error/errors.md`, and the models with their values of the catalogue. Tests hold the document to
//! the routes, and every answer of the gateway tests to the document.

use std::sync::LazyLock;

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use bytes::Bytes;

use serde_json::Value;

use crate::config::{Config, WebPages};
use crate::model::Catalogue;
use crate::web::assets::restrict_page;

mod document;
mod error_codes;
mod model_values;
mod page;
mod routes;

pub(crate) use routes::Route;

/// Returns the document of the client API under this configuration.
#[must_use]
pub fn client_document(config: &Config) -> Value {
    document::of_clients(&config.catalogue, config.server.addresses.web)
}

/// Returns the document of the operator's listener.
#[must_use]
pub fn operator_document() -> Value {
    document::of_operator()
}

/// A document as it is sent. It is written when it is first asked for.
#[derive(Debug)]
pub(crate) struct Document(LazyLock<Rendered, Box<dyn FnOnce() -> Rendered + Send>>);

#[derive(Debug)]
struct Rendered {
    json: Bytes,
    page: Bytes,
}

impl Document {
    /// The document of the client API.
    pub(crate) fn of_clients(catalogue: &Catalogue, pages: WebPages) -> Self {
        let catalogue = catalogue.clone();
        Self(LazyLock::new(Box::new(move || Rendered::of(&document::of_clients(&catalogue, pages)))))
    }

    /// The document of the operator's listener.
    pub(crate) fn of_operator() -> Self {
        Self(LazyLock::new(Box::new(|| Rendered::of(&document::of_operator()))))
    }

    /// Returns the document itself.
    pub(crate) fn json(&self) -> Response {
        ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], self.0.json.clone()).into_response()
    }

    /// Returns the document as a page.
    pub(crate) fn page(&self) -> Response {
        let mut response = Html(self.0.page.clone()).into_response();
        let headers = response.headers_mut();
        restrict_page(headers);
        headers.insert(CONTENT_SECURITY_POLICY, page::POLICY.clone());
        response
    }
}

impl Rendered {
    fn of(document: &Value) -> Self {
        let json = serde_json::to_vec(document).expect("a document is JSON");
        Self { json: json.into(), page: page::render(document).into() }
    }
}

#[cfg(test)]
pub(crate) mod test_support {
    use std::collections::BTreeSet;

    use super::{Document, Route, document};

    /// Returns the operations with such paths that a document has and a listener has not, and the reverse.
    pub(crate) fn differences<S>(
        document: &Document,
        routes: &[Route<S>],
        is_compared: fn(&str) -> bool,
    ) -> Vec<String> {
        let document: serde_json::Value = serde_json::from_slice(&document.0.json).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<String> = paths
            .iter()
            .filter(|(path, _)| is_compared(path))
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
            .collect();
        let operation =
            |route: &Route<S>| format!("{} {}", route.method.as_str().to_lowercase(), route.path.replace("{*", "{"));
        let served: BTreeSet<String> = routes.iter().map(operation).collect();
        assert!(described.iter().all(|one| document::METHODS.contains(&one.split(' ').next().unwrap())));
        described.symmetric_difference(&served).cloned().collect()
    }
}
