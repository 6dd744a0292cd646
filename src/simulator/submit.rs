//! A prediction is bought, at whichever face: `POST /api/v3/openai/{model}/{capability}`, or as `openai` and `unified`
//! say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::errors::{GUIDELINES, Refusal, page};
use super::faults::Place;
use super::limits::Limit;
use super::models::Model;
use super::prediction::{Prediction, waits};
use super::result;
use super::rules::{self, Capability, Face, Order};
use super::scenario::{PolicyAnswer, Scenario, SubmitAnswer, SyncMode};
use super::world::{Now, Submission};
use super::{Simulator, links, openai, unified};

/// Sixteen inputs of 50 MB in base64, a mask and the prompt.
const BODY_BYTES_MAX: usize = 1_200_000_000;

/// `POST /api/v3/openai/{model}/{capability}`
pub(super) async fn submit(
    State(simulator): State<Simulator>,
    Path((model, capability)): Path<(String, String)>,
    request: Request,
) -> Response {
    let Some(capability) = Capability::named(&capability) else {
        return page(404);
    };
    buy(&simulator, Door::Prediction { model, capability }, request).await
}

/// Where a submit came in, with what the address says.
#[derive(Debug)]
pub(super) enum Door {
    Prediction { model: String, capability: Capability },
    OpenAi(Capability),
    Unified,
}

impl Door {
    fn face(&self) -> Face {
        match self {
            Self::Prediction { .. } => Face::Prediction,
            Self::OpenAi(_) => Face::OpenAi,
            Self::Unified => Face::Unified,
        }
    }
}

/// Counts, loses, refuses or accepts a submit, and then perhaps loses the answer.
pub(super) async fn buy(simulator: &Simulator, door: Door, request: Request) -> Response {
    let face = door.face();
    let (accident, scenario) = simulator.with(|world, _| {
        world.counters.submits += 1;
        (world.accident(Place::Submit), std::sync::Arc::clone(&world.scenario))
    });
    // The edge reads a body whole before it looks at anything else.
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        simulator.with(|world, _| world.counters.submits_rejected += 1);
        return Refusal::new(413, "Request body too large").answer(face, &scenario);
    };
    if let Some(instead) = accident.instead(face, &scenario) {
        let key = simulator.caller(&head.headers).ok();
        simulator.with(|world, _| {
            world.counters.submits_lost += 1;
            if accident.fault.refuses() {
                world.counters.submit_refused(key.as_deref(), Limit::Fault);
            }
        });
        return instead;
    }
    let asked = Asked { door, headers: head.headers, query: head.uri.query().map(str::to_owned), body };
    let origin = simulator.origin(&asked.headers, &head.uri);
    let accepted = accept(simulator, &scenario, asked).await;
    if accepted.is_ok() {
        tokio::time::sleep(Duration::from_millis(scenario.submit.delay_ms)).await;
    }
    let response = match accepted {
        // A call that is held would otherwise lose its answer only after minutes.
        Ok(_) if accident.fault.replaces_answer() => StatusCode::OK.into_response(),
        Ok(prediction) => answer(simulator, &scenario, &prediction, &origin).await,
        Err(refused) => {
            simulator.with(|world, _| world.counters.submits_rejected += 1);
            refused
        }
    };
    accident.spoil(response, face, &scenario).await
}

/// A submit as it arrived.
struct Asked {
    door: Door,
    headers: HeaderMap,
    query: Option<String>,
    body: Bytes,
}

/// Accepts a submit for good: when this returns a prediction, it is in the log on disk.
async fn accept(simulator: &Simulator, scenario: &Arc<Scenario>, asked: Asked) -> Result<Prediction, Response> {
    let face = asked.door.face();
    if face == Face::Prediction && scenario.submit.answer == SubmitAnswer::Code500 {
        let body = json!({"code": 500, "message": "Internal server error", "data": null});
        return Err(axum::Json(body).into_response());
    }
    let key = simulator.caller(&asked.headers).map_err(|refusal| refusal.answer(face, scenario))?;
    let refuse = |refusal: Refusal| {
        if let (429, Some(limit)) = (refusal.status, refusal.limit) {
            simulator.with(|world, _| world.counters.submit_refused(Some(&key), limit));
        }
        refusal.answer(face, scenario)
    };
    simulator.with(|world, now| world.enter(&key, now.at)).map_err(refuse)?;
    let submission = read(scenario, asked, key.clone()).await.map_err(refuse)?;
    let prediction = simulator.with(|world, now| world.accept(submission, now)).map_err(refuse)?;
    links::start(simulator, &prediction);
    match simulator.log(&prediction).await {
        Ok(()) => Ok(prediction),
        Err(error) => {
            tracing::error!(%error, "the acceptance log cannot be written");
            Err(refuse(Refusal::new(500, "Internal server error")))
        }
    }
}

async fn read(scenario: &Arc<Scenario>, asked: Asked, key: String) -> Result<Submission, Refusal> {
    let Asked { door, headers, query, body } = asked;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let in_force = Arc::clone(scenario);
    let order = match door {
        Door::OpenAi(Capability::ImageEdit) if is_media(content_type, "multipart/form-data") => {
            let posted = openai::Posted::read(content_type, body).await?;
            blocking(move || openai::read_form(posted, &in_force)).await?
        }
        Door::Prediction { model, capability } => {
            let model = Model::ordered(&model, &scenario.models)?;
            check_json(content_type)?;
            blocking(move || rules::read(model, capability, &body, &in_force)).await?
        }
        Door::OpenAi(capability) => {
            check_json(content_type)?;
            blocking(move || openai::read_json(capability, &body, &in_force)).await?
        }
        Door::Unified => {
            check_json(content_type)?;
            blocking(move || unified::read(&body, &in_force)).await?
        }
    };
    let doomed = offends(&order.prompt, scenario);
    match (doomed, scenario.policy.answer) {
        (true, PolicyAnswer::Submit400) => Err(Refusal::guidelines()),
        (true, PolicyAnswer::Submit503) => Err(Refusal::new(503, GUIDELINES)),
        (_, PolicyAnswer::Task) | (false, _) => {
            Ok(Submission { key, order, headers: remembered(&headers), query, doomed })
        }
    }
}

/// Decoding and hashing many megabytes would hold up the runtime.
async fn blocking(read: impl FnOnce() -> Result<Order, Refusal> + Send + 'static) -> Result<Order, Refusal> {
    tokio::task::spawn_blocking(read).await.map_err(|_| Refusal::new(500, "Internal server error"))?
}

fn is_media(content_type: &str, media: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media)
}

fn check_json(content_type: &str) -> Result<(), Refusal> {
    if is_media(content_type, "application/json") {
        return Ok(());
    }
    Err(Refusal::bad("Content-Type must be application/json"))
}

fn offends(prompt: &str, scenario: &Scenario) -> bool {
    let prompt = prompt.to_lowercase();
    scenario.policy.words.iter().any(|word| prompt.contains(&word.to_lowercase()))
}

/// All headers but the key, of which only the form is kept.
fn remembered(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = match *name == header::AUTHORIZATION {
            true if value.trim().contains(' ') => "bearer".to_owned(),
            true => "raw".to_owned(),
            false => value.into_owned(),
        };
        kept.insert(name.as_str().to_owned(), value);
    }
    kept
}

async fn answer(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Response {
    match prediction.order.face {
        Face::Prediction => {}
        Face::OpenAi => return openai::answer(simulator, scenario, prediction, origin).await,
        Face::Unified => {
            let task = unified::task(simulator, scenario, prediction, said_origin(scenario, origin)).await;
            return (StatusCode::ACCEPTED, axum::Json(task)).into_response();
        }
    }
    if waits(prediction) {
        let response_timeout_s = match scenario.sync.mode {
            SyncMode::Ignore => 0,
            SyncMode::Hold => u64::from(u32::MAX),
            SyncMode::GiveUp => scenario.sync.give_up_s,
            SyncMode::EdgeCut => scenario.sync.edge_cut_s,
        };
        let gives_up = Now::read().at + Duration::from_secs(response_timeout_s).div_f64(scenario.speed.max(1e-3));
        if scenario.sync.mode != SyncMode::Ignore {
            return hold(simulator, scenario, prediction, origin, gives_up).await;
        }
    }
    let all = prediction.order.n as usize;
    let body = match scenario.submit.answer {
        SubmitAnswer::ImmediateUrl => {
            immediate("url", &result::entries(simulator, prediction, origin, result::Form::Url, all).await)
        }
        SubmitAnswer::ImmediateB64 => {
            immediate("b64_json", &result::entries(simulator, prediction, origin, result::Form::Base64, all).await)
        }
        SubmitAnswer::Completed => result::envelope(simulator, scenario, prediction, origin).await,
        SubmitAnswer::Documented
        | SubmitAnswer::UrlsArray
        | SubmitAnswer::DataArray
        | SubmitAnswer::IdInUrl
        | SubmitAnswer::TopLevelId
        | SubmitAnswer::ColonId
        | SubmitAnswer::ForeignHost
        | SubmitAnswer::Code500 => created(scenario, prediction, origin),
    };
    axum::Json(body).into_response()
}

/// Waits for the end of a prediction, within the patience of the service or of the edge.
async fn hold(
    simulator: &Simulator,
    scenario: &Scenario,
    prediction: &Prediction,
    origin: &str,
    gives_up: Instant,
) -> Response {
    if let Some(ended) = simulator.ended(prediction, Some(gives_up)).await {
        return axum::Json(result::envelope(simulator, scenario, &ended, origin).await).into_response();
    }
    if scenario.sync.mode == SyncMode::EdgeCut {
        return page(524);
    }
    let mut body = created(scenario, prediction, origin);
    body["data"]["status"] = json!("processing");
    body["data"]["code"] = json!(5004);
    let text = format!("Sync mode timed out after {} seconds, please query the result", scenario.sync.give_up_s);
    body["data"]["error"] = json!(text);
    axum::Json(body).into_response()
}

fn immediate(key: &str, entries: &[Value]) -> Value {
    let data: Vec<_> = entries.iter().map(|entry| json!({ key: entry })).collect();
    json!({"data": data, "message": "success", "code": 200})
}

/// The origin of the address under which a job is to be asked after, as the submit's answer names it.
pub(super) fn said_origin<'a>(scenario: &Scenario, origin: &'a str) -> &'a str {
    if scenario.submit.answer == SubmitAnswer::ForeignHost { "https://collector.example.net" } else { origin }
}

/// The envelope of a job that has just begun.
fn created(scenario: &Scenario, prediction: &Prediction, origin: &str) -> Value {
    let get = result::address(said_origin(scenario, origin), prediction);
    let mut data = json!({
        "id": prediction.id,
        "model": prediction.order.model.name,
        "outputs": [],
        "urls": {"get": get},
        "hasNsfwContents": [],
        "status": scenario.submit.status,
        "createdAt": prediction.created.wall.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        "executionTime": 0,
        "timings": {"inference": 0},
    });
    let mut body = json!({"message": "success", "code": 200});
    match scenario.submit.answer {
        SubmitAnswer::UrlsArray => data["urls"] = json!([{"get": get}]),
        SubmitAnswer::DataArray => data = json!([data]),
        SubmitAnswer::IdInUrl => remove(&mut data, "id"),
        SubmitAnswer::TopLevelId => {
            remove(&mut data, "id");
            remove(&mut data, "urls");
            body["task_id"] = json!(prediction.id);
        }
        SubmitAnswer::Documented
        | SubmitAnswer::ColonId
        | SubmitAnswer::ForeignHost
        | SubmitAnswer::ImmediateUrl
        | SubmitAnswer::ImmediateB64
        | SubmitAnswer::Completed
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
