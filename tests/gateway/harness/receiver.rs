//! A receiver of webhooks that records events and responds with given statuses.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use gptproto_gateway::lifecycle::{Grace, Lifecycle};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;

/// The secret that signs events.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_d2ViaG9vay12UTdrWnAzWHZRN2tacDNYdlE3a1pwM1h2UTdrWnAzWA==";

/// A received event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Its type, and the id of its job.
    pub(crate) fn type_and_job(&self) -> (String, String) {
        let event = self.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&event["type"]), text(&event["data"]["id"]))
    }

    /// Asserts a valid signature, with code that the gateway does not use.
    pub(crate) fn has_valid_signature(&self) {
        let key = base64_simd::STANDARD.decode_to_vec(WEBHOOK_SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        for part in [self.header("webhook-id").as_bytes(), b".", self.header("webhook-timestamp").as_bytes(), b"."] {
            mac.update(part);
        }
        mac.update(&self.body);
        let signature = base64_simd::STANDARD.encode_to_string(mac.finalize().into_bytes());
        assert_eq!(self.header("webhook-signature"), format!("v1,{signature}"));
        assert_eq!(self.header("content-type"), "application/json");
    }
}

/// A running receiver.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) origin: String,
    state: Shared,
    lifecycle: Lifecycle,
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    /// The next statuses; 200 when there are none.
    answers: Vec<u16>,
    seen: Vec<Event>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver {
    /// Responds to the first events with these statuses, and to all others with 200.
    pub(crate) async fn answering(statuses: &[u16]) -> Self {
        let state = Shared::default();
        state.lock().answers = statuses.iter().rev().copied().collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(state.clone());
        let lifecycle = Lifecycle::default();
        let serving =
            gptproto_gateway::server::accept::serve(listener, router, lifecycle.clone(), lifecycle.stop_token());
        lifecycle.spawn("receiver", serving);
        Self { origin, state, lifecycle }
    }

    pub(crate) async fn start() -> Self {
        Self::answering(&[]).await
    }

    /// Sets the statuses of the next responses.
    pub(crate) fn answer(&self, statuses: &[u16]) {
        self.state.lock().answers = statuses.iter().rev().copied().collect();
    }

    pub(crate) fn seen(&self) -> Vec<Event> {
        self.state.lock().seen.clone()
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Keys of the configuration that allow this receiver and short retries.
    pub(crate) fn allowed(&self) -> [(&str, &str); 4] {
        [
            ("webhooks.allowed_origins", self.origin.as_str()),
            ("GATEWAY_WEBHOOK_SECRET", WEBHOOK_SECRET),
            ("webhooks.retry_delay_min_ms", "20"),
            ("webhooks.retry_delay_max_s", "1"),
        ]
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let lifecycle = self.lifecycle.clone();
        super::in_background(
            async move { lifecycle.drain(Grace { delay: Duration::ZERO, finish: Duration::ZERO }).await },
        );
    }
}

async fn take(State(state): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut recorded = state.lock();
    recorded.seen.push(Event { path: uri.to_string(), headers, body });
    let status = StatusCode::from_u16(recorded.answers.pop().unwrap_or(200)).unwrap();
    // Reached only by a client that follows redirects, which the gateway must not do.
    (status, [(header::LOCATION, "/elsewhere")]).into_response()
}
