//! `/_simulator/...`: what tests ask and order, without a key.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Simulator;
use super::faults::FaultOrder;
use super::inputs::Input;
use super::prediction::{Phase, Prediction};
use super::scenario::Outcome;
use super::world::{Now, World};

/// `GET /_simulator/counters`
pub(super) async fn counters(State(simulator): State<Simulator>) -> Json<Value> {
    simulator.with(|world, now| {
        let mut states = json!({"created": 0, "processing": 0, "completed": 0, "failed": 0});
        for prediction in &world.predictions {
            let count = &mut states[state(prediction, now)];
            *count = json!(count.as_u64().unwrap_or(0) + 1);
        }
        let mut counters = json!(world.counters(now.at));
        counters["age_s"] = json!(world.age(now.at).as_secs_f64());
        counters["balance_usd"] = json!(world.balance_usd);
        counters["faults_pending"] = json!(world.faults.len());
        counters["predictions"] = states;
        Json(counters)
    })
}

fn state(prediction: &Prediction, now: Now) -> &'static str {
    match (prediction.phase(now.at), prediction.outcome) {
        (Phase::Created, _) => "created",
        (Phase::Processing, _) => "processing",
        (Phase::Ended, Outcome::Completed) => "completed",
        (Phase::Ended, _) => "failed",
    }
}

/// `GET /_simulator/scenario`
pub(super) async fn scenario(State(simulator): State<Simulator>) -> Json<Value> {
    Json(json!(*simulator.scenario()))
}

/// `PUT /_simulator/scenario`: lays an object over the scenario.
pub(super) async fn set_scenario(State(simulator): State<Simulator>, body: Bytes) -> Response {
    let above: Value = match serde_json::from_slice(&body) {
        Ok(above) => above,
        Err(error) => return misunderstood(&error.to_string()),
    };
    simulator.with(|world, _| match world.scenario.merged(above) {
        Ok(merged) => {
            let shown = json!(merged);
            world.set_scenario(merged);
            Json(shown).into_response()
        }
        Err(error) => misunderstood(&error.to_string()),
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Orders {
    Many(Vec<FaultOrder>),
    One(FaultOrder),
}

/// `GET /_simulator/faults`: what is still to happen.
pub(super) async fn faults(State(simulator): State<Simulator>) -> Json<Value> {
    simulator.with(|world, _| Json(json!(world.faults)))
}

/// `POST /_simulator/faults`: queues one order, or an array of them.
pub(super) async fn add_faults(State(simulator): State<Simulator>, body: Bytes) -> Response {
    let orders = match serde_json::from_slice(&body) {
        Ok(Orders::Many(orders)) => orders,
        Ok(Orders::One(order)) => vec![order],
        Err(error) => return misunderstood(&error.to_string()),
    };
    simulator.with(|world, _| {
        world.faults.extend(orders.into_iter().filter(|order| order.times > 0));
        Json(json!({"faults_pending": world.faults.len()})).into_response()
    })
}

/// `GET /_simulator/predictions`
pub(super) async fn predictions(State(simulator): State<Simulator>) -> Json<Value> {
    simulator.with(|world, now| Json(world.predictions.iter().map(|one| shown(one, now)).collect()))
}

fn shown(prediction: &Prediction, now: Now) -> Value {
    let order = &prediction.order;
    json!({
        "id": prediction.id,
        "face": order.face,
        "model": order.model.name,
        "capability": order.capability.name(),
        "key": prediction.key,
        "parameters": order.parameters,
        "inputs": order.inputs.iter().map(input).collect::<Vec<_>>(),
        "mask": order.mask.as_ref().map(input),
        "headers": *prediction.headers,
        "query": prediction.query,
        "created": prediction.created.wall.to_string(),
        "state": state(prediction, now),
        "outcome": prediction.outcome,
        "link_error": prediction.link_error,
        "ends_in_ms": u64::try_from(prediction.ends.saturating_duration_since(now.at).as_millis()).unwrap_or(u64::MAX),
        "polls": prediction.polls,
        "downloads": prediction.downloads,
        "cost_usd": prediction.cost_usd,
        "charged": prediction.charged,
    })
}

fn input(input: &Input) -> Value {
    match input {
        Input::Url(url) => json!({"url": url, "digest": input.digest()}),
        Input::Picture(picture) => json!({
            "digest": input.digest(),
            "width": picture.width,
            "height": picture.height,
        }),
    }
}

/// `POST /_simulator/reset`
pub(super) async fn reset(State(simulator): State<Simulator>) -> StatusCode {
    simulator.with(World::reset);
    StatusCode::NO_CONTENT
}

fn misunderstood(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": message}))).into_response()
}
