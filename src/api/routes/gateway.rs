//! `GET /` and `GET /health`: what this address is, for people and programs that probe it. They need no key.

use axum::Json;
use serde_json::{Value, json};

/// Names the gateway and its routes.
pub(super) async fn index() -> Json<Value> {
    Json(description())
}

pub(super) fn description() -> Value {
    json!({
        "name": "gptproto-gateway",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "OpenAI's image API in front of GPTProto. A client's base URL is this address with /v1. Buying pictures, jobs and models need a key.",
        "routes": [
            "POST /v1/images/edits",
            "POST /v1/images/generations",
            "POST /v1/chat/completions",
            "GET /v1/models",
            "GET /v1/predictions",
            "GET /v1/predictions/{id}",
            "GET /health",
            "GET /openapi.json",
            "GET /docs",
        ],
        "documentation": "/docs for people, /openapi.json for programs; https://platform.openai.com/docs/api-reference/images for OpenAI's part",
    })
}

/// Says that this process answers. Whether it accepts purchases is on the operator listener.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}
