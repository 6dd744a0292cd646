//! Polls, the same for the two APIs with ids.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answers::failure;
use crate::simulator::rules::edge;
use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::values::{Api, LimitKind};
use crate::simulator::scenario::{FailureAnswer, FaultTarget, Scenario};
use crate::simulator::world::clock::Now;
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;
use crate::simulator::world::schedule::Phase;

/// The part of a poll that is specific to an API.
pub(super) trait PollApi {
    const API: Api;

    /// Returns the body that describes a prediction.
    async fn body(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Value;
}

/// Returns the answer to a poll of a failed prediction, whose documented body is `body`.
fn failed(mut body: Value, text: &str, api: Api, scenario: &Scenario) -> Response {
    let mut with_code = || {
        if body.get("code").is_some() {
            body["code"] = json!(400);
            body["message"] = json!(text);
        }
        body.take()
    };
    match (scenario.result.failure_answer, api) {
        (FailureAnswer::Status400, _) => (StatusCode::BAD_REQUEST, axum::Json(with_code())).into_response(),
        (FailureAnswer::Status400Bare, _) => Refusal::invalid(text).response(api, scenario),
        (FailureAnswer::Code400, Api::Prediction) => axum::Json(with_code()).into_response(),
        (FailureAnswer::Code400Bare, Api::Prediction) => {
            axum::Json(json!({"code": 400, "message": text, "data": null})).into_response()
        }
        // The other APIs have no envelope.
        (FailureAnswer::Documented | FailureAnswer::Code400 | FailureAnswer::Code400Bare, _) => {
            axum::Json(body).into_response()
        }
    }
}

/// Handles a poll of a prediction that was bought through the same API.
pub(super) async fn poll<A: PollApi>(simulator: &Simulator, id: &str, request: Request) -> Response {
    let key = simulator.authenticate(request.headers());
    if let Some(page) = edge::refused(&simulator.scenario(), request.uri().path(), 0) {
        return page;
    }
    let (injected, mut scenario) = simulator.with(|world, _| {
        world.counters.polls += 1;
        let injected = world.next_fault(FaultTarget::Poll);
        if injected.fault.is_429() {
            world.counters.poll_refused(key.as_deref().ok(), LimitKind::Fault);
        }
        (injected, Arc::clone(&world.scenario))
    });
    if let Some(answer) = injected.before_effect(A::API, &scenario) {
        return answer;
    }
    let polled = key.and_then(|key| {
        simulator.with(|world, now| {
            let polled = world.poll(A::API, id, &key, now.at);
            if let Err(Refusal { status: 429, limit: Some(limit), .. }) = polled {
                world.counters.poll_refused(Some(&key), limit);
            }
            polled
        })
    });
    let response = match polled {
        Ok(prediction) => {
            let origin = simulator.origin(request.headers(), request.uri());
            scenario = scenario.for_model(prediction.request.model.name);
            // Asked before the body is written, so that both are of a prediction that has ended.
            let has_ended = prediction.phase(Now::read().at) == Phase::Ended;
            let body = A::body(simulator, &scenario, &prediction, &origin).await;
            match failure(prediction.outcome, &scenario).filter(|_| has_ended) {
                Some(text) => failed(body, text, A::API, &scenario),
                None => axum::Json(body).into_response(),
            }
        }
        Err(refusal) => refusal.response(A::API, &scenario),
    };
    injected.after_effect(response, A::API, &scenario).await
}
