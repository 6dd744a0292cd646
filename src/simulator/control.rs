//! `/_simulator/...`: the control routes of tests, without a key.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::ScheduledFault;
use super::rules::inputs::Input;
use super::scenario::Outcome;
use super::world::clock::Now;
use super::world::handle::Simulator;
use super::world::prediction::Prediction;
use super::world::schedule::Phase;
use super::world::state::World;

/// `GET /_simulator/counters`
pub(crate) async fn counters(State(simulator): State<Simulator>) -> Json<Value> {
    simulator.with(|world, now| {
        let mut states = json!({"created": 0, "processing": 0, "completed": 0, "failed": 0});
        for prediction in world.predictions.iter() {
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
pub(crate) async fn scenario(State(simulator): State<Simulator>) -> Json<Value> {
    Json(json!(*simulator.scenario()))
}

/// `PUT /_simulator/scenario`: replaces the keys of an object in the scenario.
pub(crate) async fn set_scenario(State(simulator): State<Simulator>, body: Bytes) -> Response {
    let changes: Value = match serde_json::from_slice(&body) {
        Ok(changes) => changes,
        Err(error) => return bad_request(&error.to_string()),
    };
    simulator.with(|world, _| match world.scenario.merged(changes) {
        Ok(merged) => {
            let shown = json!(merged);
            world.set_scenario(merged);
            Json(shown).into_response()
        }
        Err(error) => bad_request(&error.to_string()),
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<ScheduledFault>),
    One(ScheduledFault),
}

/// `GET /_simulator/faults`: the faults that are still scheduled.
pub(crate) async fn faults(State(simulator): State<Simulator>) -> Json<Value> {
    simulator.with(|world, _| Json(json!(world.faults)))
}

/// `POST /_simulator/faults`: schedules one fault, or an array of them.
pub(crate) async fn add_faults(State(simulator): State<Simulator>, body: Bytes) -> Response {
    let added = match serde_json::from_slice(&body) {
        Ok(OneOrMany::Many(faults)) => faults,
        Ok(OneOrMany::One(fault)) => vec![fault],
        Err(error) => return bad_request(&error.to_string()),
    };
    simulator.with(|world, _| {
        world.faults.extend(added.into_iter().filter(|fault| fault.times > 0));
        Json(json!({"faults_pending": world.faults.len()})).into_response()
    })
}

/// `GET /_simulator/predictions`
pub(crate) async fn predictions(State(simulator): State<Simulator>) -> Json<Value> {
    simulator.with(|world, now| Json(world.predictions.iter().map(|prediction| shown(prediction, now)).collect()))
}

/// `GET /_simulator/refusals`
pub(crate) async fn refusals(State(simulator): State<Simulator>) -> Json<Value> {
    simulator.with(|world, _| Json(json!(world.refusals)))
}

fn shown(prediction: &Prediction, now: Now) -> Value {
    let request = &prediction.request;
    json!({
        "id": prediction.id,
        "api": request.api,
        "model": request.model.name,
        "capability": request.capability.name(),
        "key": prediction.sender.key,
        "parameters": request.parameters,
        "method": if request.methods.is_empty() { "none".to_owned() } else { request.methods.join("+") },
        "inputs": request.inputs.iter().map(input).collect::<Vec<_>>(),
        "mask": request.mask.as_ref().map(input),
        "headers": *prediction.sender.headers,
        "query": prediction.sender.query,
        "created": prediction.schedule.created.wall.to_string(),
        "state": state(prediction, now),
        "outcome": prediction.outcome,
        "link_error": prediction.links.error,
        "ends_in_ms": u64::try_from(prediction.schedule.ends.saturating_duration_since(now.at).as_millis()).unwrap_or(u64::MAX),
        "polls": prediction.polls.count,
        "downloads": prediction.pictures.iter().map(|picture| picture.downloads).collect::<Vec<_>>(),
        "cost_usd": prediction.cost.usd,
        "charged": prediction.cost.charged,
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
pub(crate) async fn reset(State(simulator): State<Simulator>) -> StatusCode {
    simulator.with(World::reset);
    StatusCode::NO_CONTENT
}

fn bad_request(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": message}))).into_response()
}
