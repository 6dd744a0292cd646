//! Polls, the same for the two APIs with ids.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::simulator::rules::edge;
use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::values::{Api, LimitKind};
use crate::simulator::scenario::{FaultTarget, Scenario};
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;

/// The part of a poll that is specific to an API.
pub(super) trait PollApi {
    const API: Api;

    /// Returns the body that describes a prediction.
    async fn body(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Value;
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
            axum::Json(A::body(simulator, &scenario, &prediction, &origin).await).into_response()
        }
        Err(refusal) => refusal.response(A::API, &scenario),
    };
    injected.after_effect(response, A::API, &scenario).await
}
