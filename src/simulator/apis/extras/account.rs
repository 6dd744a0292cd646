//! What an account can see: `GET /v1/models`, `GET /api/home-model-catalog` and `GET /api/v3/user/me`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::simulator::rules::edge;
use crate::simulator::rules::errors::{Refusal, page, status};
use crate::simulator::rules::models::MODELS;
use crate::simulator::rules::values::Api;
use crate::simulator::scenario::Scenario;
use crate::simulator::world::handle::Simulator;

/// Returns the scenario of a call that the edge and the key let through.
pub(super) fn admit(simulator: &Simulator, headers: &HeaderMap, uri: &Uri) -> Result<Arc<Scenario>, Box<Response>> {
    let scenario = simulator.scenario();
    if let Some(page) = edge::refused(&scenario, uri.path(), 0) {
        return Err(Box::new(page));
    }
    match simulator.authenticate(headers) {
        Ok(_) => Ok(scenario),
        Err(refusal) => Err(Box::new(refusal.response(Api::Prediction, &scenario))),
    }
}

/// `GET /v1/models`
pub(crate) async fn models(State(simulator): State<Simulator>, headers: HeaderMap, uri: Uri) -> Response {
    let scenario = match admit(&simulator, &headers, &uri) {
        Ok(scenario) => scenario,
        Err(refused) => return *refused,
    };
    if scenario.extras.models_status != 200 {
        return Refusal::new(scenario.extras.models_status, "Not available").response(Api::Prediction, &scenario);
    }
    let data: Vec<_> = MODELS
        .iter()
        .map(|model| json!({"id": model.name, "object": "model", "created": 1_766_000_000, "owned_by": "openai"}))
        .collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

/// `GET /api/home-model-catalog`, which needs no key.
pub(crate) async fn catalog(State(simulator): State<Simulator>, uri: Uri) -> Response {
    if let Some(page) = edge::refused(&simulator.scenario(), uri.path(), 0) {
        return page;
    }
    let items: Vec<_> = MODELS
        .iter()
        .flat_map(|model| ["text-to-image", "image-edit"].map(|capability| (model, capability)))
        .map(|(model, capability)| {
            let prices = model
                .price
                .map_or((String::new(), String::new()), |price| (price.input.to_string(), price.output.to_string()));
            json!({
                "modelManufacturerName": "openai",
                "modelName": format!("{}/{capability}", model.name),
                "platformInputPrice": prices.0,
                "platformOutPrice": prices.1,
                "platformLockPrice": "",
                "priceTypeStr": if model.price.is_some() { "token" } else { "run" },
                "modelTag": capability,
            })
        })
        .collect();
    axum::Json(json!({"code": 200, "message": "success", "data": {"items": items}})).into_response()
}

/// `GET /api/v3/user/me`
pub(crate) async fn user(State(simulator): State<Simulator>, headers: HeaderMap, uri: Uri) -> Response {
    let scenario = match admit(&simulator, &headers, &uri) {
        Ok(scenario) => scenario,
        Err(refused) => return *refused,
    };
    match scenario.extras.user_me_status {
        404 => page(404),
        code @ 200..=299 => {
            (status(code), axum::Json(json!({"code": 200, "message": "success", "data": {}}))).into_response()
        }
        code => Refusal::new(code, "Not available").response(Api::Prediction, &scenario),
    }
}
