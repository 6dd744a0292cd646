//! Submits, the same for all APIs: a call is counted, lost, refused or accepted, and its answer may then be lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::simulator::rules::edge;
use crate::simulator::rules::errors::{GUIDELINES, Refusal};
use crate::simulator::rules::fields::Fields;
use crate::simulator::rules::json::JsonValue;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::{Api, LimitKind};
use crate::simulator::scenario::{FaultTarget, PolicyAnswer, Scenario, SubmitAnswer};
use crate::simulator::world::counters::{RefusedSubmit, SentBody};
use crate::simulator::world::handle::Simulator;
use crate::simulator::world::links;
use crate::simulator::world::prediction::{Prediction, Sender, Submission};

/// Sixteen inputs of 50 MB in base64, a mask and the prompt.
const BODY_BYTES_MAX: usize = 1_200_000_000;

/// The part of a submit that is specific to an API.
pub(super) trait SubmitApi: Sized {
    const API: Api;

    /// Returns the model, where the path names it.
    fn model(&self) -> Option<&str> {
        None
    }

    /// Returns what a refused body holds.
    async fn sent(_content_type: &str, body: Bytes) -> SentBody {
        sent_json(&body)
    }

    /// Validates a body.
    async fn read(self, content_type: &str, body: Bytes, scenario: &Arc<Scenario>) -> Result<PictureRequest, Refusal>;

    /// Answers an accepted submit.
    async fn answer(simulator: &Simulator, scenario: &Scenario, prediction: &Prediction, origin: &str) -> Response;
}

/// Handles a submit.
pub(super) async fn submit<A: SubmitApi>(simulator: &Simulator, api: A, request: Request) -> Response {
    let (injected, mut scenario) = simulator.with(|world, _| {
        world.counters.submits += 1;
        (world.next_fault(FaultTarget::Submit), Arc::clone(&world.scenario))
    });
    if let Some(model) = api.model() {
        scenario = scenario.for_model(model);
    }
    // The edge reads the whole body before it looks at anything else.
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        let response = Refusal::new(413, "Request body too large").response(A::API, &scenario);
        keep_refusal::<A>(simulator, path, &head.headers, Bytes::new(), response.status()).await;
        return response;
    };
    if let Some(page) = edge::refused(&scenario, path, body.len()) {
        keep_refusal::<A>(simulator, path, &head.headers, body, page.status()).await;
        return page;
    }
    if let Some(answer) = injected.before_effect(A::API, &scenario) {
        let key = simulator.authenticate(&head.headers).ok();
        simulator.with(|world, _| {
            world.counters.submits_lost += 1;
            if injected.fault.is_429() {
                world.counters.submit_refused(key.as_deref(), LimitKind::Fault);
            }
        });
        return answer;
    }
    let origin = simulator.origin(&head.headers, &head.uri);
    let query = head.uri.query().map(str::to_owned);
    let call = Call { headers: head.headers.clone(), query, body: body.clone() };
    let accepted = accept(simulator, &scenario, api, call).await;
    if let Ok(prediction) = &accepted {
        simulator.with(|world, _| world.counters.paths.accepted(path));
        scenario = scenario.for_model(prediction.request.model.name);
        tokio::time::sleep(Duration::from_millis(scenario.submit.delay_ms)).await;
    }
    let response = match accepted {
        // A call that waits for its pictures would otherwise lose its answer only after minutes.
        Ok(_) if injected.fault.discards_answer() => StatusCode::OK.into_response(),
        Ok(prediction) => A::answer(simulator, &scenario, &prediction, &origin).await,
        Err(refused) => {
            keep_refusal::<A>(simulator, path, &head.headers, body, refused.status()).await;
            refused
        }
    };
    injected.after_effect(response, A::API, &scenario).await
}

/// Counts a refused submit and keeps what it held.
async fn keep_refusal<A: SubmitApi>(
    simulator: &Simulator,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
    status: StatusCode,
) {
    let (path, status) = (path.to_owned(), status.as_u16());
    let key_form = without_key(headers).remove(header::AUTHORIZATION.as_str());
    let body = A::sent(content_type(headers), body).await;
    simulator.with(|world, _| world.refuse(RefusedSubmit { path, status, key_form, body }));
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A received call.
struct Call {
    headers: HeaderMap,
    query: Option<String>,
    body: Bytes,
}

/// Accepts a submit. The prediction is in the log on disk when this returns.
async fn accept<A: SubmitApi>(
    simulator: &Simulator,
    scenario: &Arc<Scenario>,
    api: A,
    call: Call,
) -> Result<Prediction, Response> {
    if A::API == Api::Prediction && scenario.submit.answer == SubmitAnswer::Code500 {
        let body = json!({"code": 500, "message": "Internal server error", "data": null});
        return Err(axum::Json(body).into_response());
    }
    let key = simulator.authenticate(&call.headers).map_err(|refusal| refusal.response(A::API, scenario))?;
    let refuse = |refusal: Refusal| {
        if let (429, Some(limit)) = (refusal.status, refusal.limit) {
            simulator.with(|world, _| world.counters.submit_refused(Some(&key), limit));
        }
        refusal.response(A::API, scenario)
    };
    simulator.with(|world, now| world.count_request(&key, now.at)).map_err(refuse)?;
    let submission = read(scenario, api, call, key.clone()).await.map_err(refuse)?;
    let prediction = simulator.with(|world, now| world.accept(submission, now)).map_err(refuse)?;
    links::start(simulator, &prediction);
    match simulator.log(&prediction).await {
        Ok(()) => Ok(prediction),
        Err(error) => {
            tracing::error!(%error, id = prediction.id, "log of accepted predictions not written; answering 500");
            Err(refuse(Refusal::new(500, "Internal server error")))
        }
    }
}

async fn read<A: SubmitApi>(scenario: &Arc<Scenario>, api: A, call: Call, key: String) -> Result<Submission, Refusal> {
    let Call { headers, query, body } = call;
    let request = api.read(content_type(&headers), body, scenario).await?;
    let scenario = &scenario.for_model(request.model.name);
    let violates_policy = violates_policy(&request.prompt, scenario);
    match (violates_policy, scenario.policy.answer) {
        (true, PolicyAnswer::Submit400) => Err(Refusal::guidelines()),
        (true, PolicyAnswer::Submit503) => Err(Refusal::new(503, GUIDELINES)),
        (_, PolicyAnswer::Task) | (false, _) => {
            let sender = Sender { key, headers: Arc::new(without_key(&headers)), query };
            Ok(Submission { sender, request, violates_policy })
        }
    }
}

/// Runs a validation on a blocking thread, because decoding and hashing many megabytes would block the runtime.
pub(super) async fn blocking(
    read: impl FnOnce() -> Result<PictureRequest, Refusal> + Send + 'static,
) -> Result<PictureRequest, Refusal> {
    tokio::task::spawn_blocking(read).await.map_err(|_| Refusal::new(500, "Internal server error"))?
}

/// Returns what a JSON body holds.
pub(super) fn sent_json(body: &Bytes) -> SentBody {
    let Ok(JsonValue::Object(fields)) = JsonValue::parse(body) else {
        return SentBody::default();
    };
    let prompt = Fields(&fields).text("prompt").ok().flatten().map(str::to_owned);
    SentBody { fields: fields.into_iter().map(|(name, _)| name).collect(), prompt }
}

/// Returns whether a `Content-Type` has this media type.
pub(super) fn is_media_type(content_type: &str, media_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
}

/// Fails unless the `Content-Type` is JSON.
pub(super) fn check_json(content_type: &str) -> Result<(), Refusal> {
    if is_media_type(content_type, "application/json") {
        return Ok(());
    }
    Err(Refusal::invalid("Content-Type must be application/json"))
}

fn violates_policy(prompt: &str, scenario: &Scenario) -> bool {
    let prompt = prompt.to_lowercase();
    scenario.policy.words.iter().any(|word| prompt.contains(&word.to_lowercase()))
}

/// Returns all headers, with the form of the key (`bearer` or `raw`) in place of the key.
fn without_key(headers: &HeaderMap) -> BTreeMap<String, String> {
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
