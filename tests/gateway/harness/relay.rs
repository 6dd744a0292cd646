//! A server that forwards everything to the simulator and records the requests: a file host, or an unrelated host.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{OriginalUri, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use gptproto_gateway::lifecycle::Lifecycle;
use tokio::net::TcpListener;

use super::{Upstream, http};

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

#[derive(Clone, Debug)]
pub(crate) struct Relay {
    pub(crate) origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    http: reqwest::Client,
    to: String,
    replaced: Option<(String, String)>,
}

impl Relay {
    pub(crate) async fn to(upstream: &Upstream) -> Self {
        Self::start(upstream, "", None).await
    }

    /// Forwards what is below a path, and nothing else.
    pub(crate) async fn below(upstream: &Upstream, prefix: &str) -> Self {
        Self::start(upstream, prefix, None).await
    }

    /// Forwards what is below a path, and makes paths of the simulator's addresses in every response.
    pub(crate) async fn below_with_paths(upstream: &Upstream, prefix: &str) -> Self {
        Self::start(upstream, prefix, Some((upstream.origin.clone(), String::new()))).await
    }

    /// Replaces a text in every response.
    pub(crate) async fn replacing(upstream: &Upstream, from: &str, by: &str) -> Self {
        Self::start(upstream, "", Some((from.to_owned(), by.to_owned()))).await
    }

    async fn start(upstream: &Upstream, prefix: &str, replaced: Option<(String, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let relay = Self { origin, seen: Arc::default(), http: http(), to: upstream.origin.clone(), replaced };
        let service = Router::new().fallback(pass_on).with_state(relay.clone());
        let router = if prefix.is_empty() { service } else { Router::new().nest(prefix, service) };
        let lifecycle = Lifecycle::default();
        let serving =
            gptproto_gateway::server::accept::serve(listener, router, lifecycle.clone(), lifecycle.stop_token());
        lifecycle.spawn("relay", serving);
        relay
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass_on(State(relay): State<Relay>, OriginalUri(uri): OriginalUri, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = uri.path().to_owned();
    relay.seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { path, headers: head.headers.clone() });
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut headers = head.headers;
    headers.remove(header::HOST);
    let answer =
        relay.http.request(head.method, format!("{}{}", relay.to, head.uri)).headers(headers).body(body).send().await;
    let answer = answer.unwrap();
    let status = answer.status();
    let kept = [header::CONTENT_TYPE, header::LOCATION].map(|name| (answer.headers().get(&name).cloned(), name));
    let mut bytes = answer.bytes().await.unwrap().to_vec();
    if let (Some((from, by)), Ok(text)) = (&relay.replaced, std::str::from_utf8(&bytes)) {
        bytes = text.replace(from, by).into_bytes();
    }
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    for (value, name) in kept {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
