//! The unified API: `POST /api/v3/images` and `GET /api/v3/tasks/result/{id}`, as the vendor's own SDK uses them.
//!
//! Unknown fields are ignored, also `seed` and `provider`. A size is either explicit pixels, which follow the rules of
//! the model, or a tier (`512`, `1K`, `2K`, `4K`) and an aspect ratio, which select the nearest documented size of the
//! model. The vendor does not document the models of this API; the simulator accepts every model, named `openai/MODEL`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answers::{self, OutputForm, polling_origin};
use super::poll::{PollApi, poll};
use super::submit::{SubmitApi, blocking, check_json, submit};
use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::Api;
use crate::simulator::scenario::{Outcome, Scenario, UnifiedUsage};
use crate::simulator::world::clock::Now;
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;
use crate::simulator::world::schedule::Phase;

mod read;

/// `POST /api/v3/images`
pub(crate) async fn create(State(simulator): State<Simulator>, request: Request) -> Response {
    submit(&simulator, UnifiedApi, request).await
}

/// `GET /api/v3/tasks/result/{id}`
pub(crate) async fn result(State(simulator): State<Simulator>, Path(id): Path<String>, request: Request) -> Response {
    poll::<UnifiedApi>(&simulator, &id, request).await
}

/// The unified API.
struct UnifiedApi;

impl PollApi for UnifiedApi {
    const API: Api = Api::Unified;

    async fn body(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Value {
        task(simulator, scenario, prediction, origin).await
    }
}

impl SubmitApi for UnifiedApi {
    const API: Api = Api::Unified;

    async fn read(self, content_type: &str, body: Bytes, scenario: &Arc<Scenario>) -> Result<PictureRequest, Refusal> {
        check_json(content_type)?;
        let scenario = Arc::clone(scenario);
        blocking(move || read::read(&body, &scenario)).await
    }

    async fn answer(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Response {
        let task = task(simulator, scenario, prediction, polling_origin(scenario, origin)).await;
        (StatusCode::ACCEPTED, axum::Json(task)).into_response()
    }
}

/// Returns the task in its current state, which answers submits and polls.
async fn task(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Value {
    let phase = prediction.phase(Now::read().at);
    let mut task = json!({
        "model": format!("{}{}", read::VENDOR, prediction.request.model.name),
        "native_status": answers::status(scenario, prediction, phase),
        "created_at": prediction.schedule.created.wall.to_string(),
    });
    answers::insert_id(&mut task, scenario, prediction);
    task[scenario.result.status_key.name()] = json!(status(phase, prediction.outcome));
    let path = format!("/api/v3/tasks/result/{}", prediction.id);
    if let Some(url) = answers::poll_url(scenario, origin, &path) {
        task["polling_url"] = json!(url);
    }
    if phase != Phase::Ended {
        return task;
    }
    let ran = prediction.schedule.ends.saturating_duration_since(prediction.schedule.created.at);
    let ended =
        prediction.schedule.created.wall.saturating_add(jiff::SignedDuration::try_from(ran).unwrap_or_default());
    task["completed_at"] = json!(ended.unwrap_or(prediction.schedule.created.wall).to_string());
    task["timings"] = json!({"inference": prediction.schedule.latency_ms});
    if let Some(text) = answers::failure(prediction.outcome, scenario) {
        task["error"] = json!(text);
        return task;
    }
    let empty = scenario.result.empty_polls;
    let count =
        if empty > 0 && prediction.polls.completed <= empty { 0 } else { answers::output_count(scenario, prediction) };
    let urls = answers::outputs(simulator, prediction, origin, OutputForm::Url, count).await;
    task["unsigned_urls"] = json!(urls);
    if scenario.unified.usage == UnifiedUsage::Reported {
        task["usage"] = answers::usage(prediction.cost.usage, scenario);
    }
    task
}

/// Returns the status word of this API.
fn status(phase: Phase, outcome: Outcome) -> &'static str {
    match (phase, outcome) {
        (Phase::Created, _) => "pending",
        (Phase::Processing, _) => "in_progress",
        (Phase::Ended, Outcome::Completed) => "completed",
        (Phase::Ended, Outcome::Cancelled) => "cancelled",
        (Phase::Ended, Outcome::Expired) => "expired",
        (
            Phase::Ended,
            Outcome::FailedPolicy
            | Outcome::FailedProvider
            | Outcome::FailedLink
            | Outcome::FailedImageUrl
            | Outcome::FailedEmpty
            | Outcome::Timeout
            | Outcome::Stuck,
        ) => "failed",
    }
}

#[cfg(test)]
mod tests;
