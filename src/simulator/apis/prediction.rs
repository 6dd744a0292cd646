//! The prediction API: `POST /api/v3/openai/{model}/{capability}` and `GET /api/v3/predictions/{id}/result`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::envelope::{envelope, urls};
use super::answers::{self, OutputForm, polling_origin};
use super::poll::{PollApi, poll};
use super::submit::{SubmitApi, blocking, check_json, submit};
use crate::simulator::rules::errors::{Refusal, page, status};
use crate::simulator::rules::models::Model;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::{Api, Capability, Mode};
use crate::simulator::scenario::{Scenario, SubmitAnswer, SyncMode};
use crate::simulator::world::clock::Now;
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::prediction::Prediction;

mod envelope;
pub(crate) mod read;

/// `POST /api/v3/openai/{model}/{capability}`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Path((model, capability)): Path<(String, String)>,
    request: Request,
) -> Response {
    let Some(capability) = Capability::named(&capability) else {
        return page(404);
    };
    submit(&simulator, PredictionApi { model, capability }, request).await
}

/// `GET /api/v3/predictions/{id}/result`
pub(crate) async fn result(State(simulator): State<Simulator>, Path(id): Path<String>, request: Request) -> Response {
    poll::<PredictionApi>(&simulator, &id, request).await
}

/// The prediction API, with the path of a submit.
struct PredictionApi {
    model: String,
    capability: Capability,
}

impl PollApi for PredictionApi {
    const API: Api = Api::Prediction;

    async fn body(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Value {
        envelope(simulator, scenario, prediction, origin).await
    }
}

impl SubmitApi for PredictionApi {
    const API: Api = Api::Prediction;

    fn model(&self) -> Option<&str> {
        Some(&self.model)
    }

    async fn read(self, content_type: &str, body: Bytes, scenario: &Arc<Scenario>) -> Result<PictureRequest, Refusal> {
        let model = Model::available(&self.model, &scenario.models)?;
        check_json(content_type)?;
        let scenario = Arc::clone(scenario);
        blocking(move || read::read(model, self.capability, &body, &scenario)).await
    }

    async fn answer(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Response {
        if prediction.request.mode == Mode::Sync {
            let limit_s = match scenario.sync.mode {
                SyncMode::Ignore => None,
                SyncMode::Hold => Some(u64::from(u32::MAX)),
                SyncMode::GiveUp => Some(scenario.sync.give_up_s),
                SyncMode::EdgeCut => Some(scenario.sync.edge_cut_s),
            };
            if let Some(limit_s) = limit_s {
                let deadline = Now::read().at + Duration::from_secs(limit_s).div_f64(scenario.speed.max(1e-3));
                return answer_at_end(simulator, scenario, prediction, origin, deadline).await;
            }
        }
        let all = prediction.request.n as usize;
        let body = match scenario.submit.answer {
            SubmitAnswer::ImmediateUrl => {
                immediate("url", &answers::outputs(simulator, prediction, origin, OutputForm::Url, all).await)
            }
            SubmitAnswer::ImmediateB64 => {
                immediate("b64_json", &answers::outputs(simulator, prediction, origin, OutputForm::Base64, all).await)
            }
            SubmitAnswer::Completed => envelope(simulator, scenario, prediction, origin).await,
            SubmitAnswer::Documented
            | SubmitAnswer::UrlsArray
            | SubmitAnswer::DataArray
            | SubmitAnswer::IdInUrl
            | SubmitAnswer::TopLevelId
            | SubmitAnswer::ColonId
            | SubmitAnswer::ForeignHost
            | SubmitAnswer::Code500 => created(scenario, prediction, origin),
            SubmitAnswer::Code429WithId => return error_with_id(200, 429, scenario, prediction),
            SubmitAnswer::Status400WithId => return error_with_id(400, 400, scenario, prediction),
            SubmitAnswer::Status500WithId => return error_with_id(500, 500, scenario, prediction),
        };
        axum::Json(body).into_response()
    }
}

/// Waits until a prediction has ended, within the time limit of the service or of the edge.
async fn answer_at_end(
    simulator: &Simulator,
    scenario: &Scenario,
    prediction: &Prediction,
    origin: &str,
    deadline: Instant,
) -> Response {
    if let Some(ended) = simulator.wait_for_end(prediction, Some(deadline)).await {
        return axum::Json(envelope(simulator, scenario, &ended, origin).await).into_response();
    }
    if scenario.sync.mode == SyncMode::EdgeCut {
        return page(524);
    }
    let mut body = created(scenario, prediction, origin);
    body["data"][scenario.result.status_key.name()] = json!("processing");
    body["data"]["code"] = json!(5004);
    let text = format!("Sync mode timed out after {} seconds, please query the result", scenario.sync.give_up_s);
    body["data"]["error"] = json!(text);
    axum::Json(body).into_response()
}

fn immediate(key: &str, outputs: &[Value]) -> Value {
    let data: Vec<_> = outputs.iter().map(|output| json!({ key: output })).collect();
    json!({"data": data, "message": "success", "code": 200})
}

/// Returns an error beside the id of a prediction, which exists all the same.
fn error_with_id(http: u16, code: u16, scenario: &Scenario, prediction: &Prediction) -> Response {
    let message = match code {
        429 => "Too many requests, please try again later",
        400 => "Bad Request",
        _ => "Internal server error",
    };
    let mut body = json!({"code": code, "message": message, "data": {}});
    answers::insert_id(&mut body["data"], scenario, prediction);
    (status(http), axum::Json(body)).into_response()
}

/// Returns the envelope of a prediction that was just accepted.
fn created(scenario: &Scenario, prediction: &Prediction, origin: &str) -> Value {
    let mut data = json!({
        "model": prediction.request.model.name,
        "outputs": [],
        "hasNsfwContents": [],
        "createdAt": prediction.schedule.created.wall.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        "executionTime": 0,
        "timings": {"inference": 0},
    });
    answers::insert_id(&mut data, scenario, prediction);
    data[scenario.result.status_key.name()] = json!(scenario.submit.status);
    if let Some(urls) = urls(scenario, polling_origin(scenario, origin), prediction) {
        data["urls"] = urls;
    }
    let mut body = json!({"message": "success", "code": 200});
    match scenario.submit.answer {
        SubmitAnswer::UrlsArray => data["urls"] = json!([data["urls"]]),
        SubmitAnswer::DataArray => data = json!([data]),
        SubmitAnswer::IdInUrl => remove(&mut data, answers::id_key(scenario)),
        SubmitAnswer::TopLevelId => {
            remove(&mut data, answers::id_key(scenario));
            remove(&mut data, "urls");
            body["task_id"] = answers::id(scenario, prediction);
        }
        SubmitAnswer::Documented
        | SubmitAnswer::ColonId
        | SubmitAnswer::ForeignHost
        | SubmitAnswer::ImmediateUrl
        | SubmitAnswer::ImmediateB64
        | SubmitAnswer::Completed
        | SubmitAnswer::Code429WithId
        | SubmitAnswer::Status400WithId
        | SubmitAnswer::Status500WithId
        | SubmitAnswer::Code500 => {}
    }
    body["data"] = data;
    body
}

fn remove(object: &mut Value, key: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(key);
    }
}

#[cfg(test)]
mod tests;
