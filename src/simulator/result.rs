//! `GET /api/v3/predictions/{id}/result`: a prediction is asked after.

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::errors::{GUIDELINES, Refusal};
use super::faults::Place;
use super::limits::Limit;
use super::prediction::{Phase, Prediction, Usage};
use super::rules::{Face, ResponseFormat};
use super::scenario::{
    FailureError, Format, KeyStyle, NoError, Nsfw, Outcome, Outputs, OutputsPlace, Scenario, Timestamps, UsagePlace,
};
use super::world::Now;
use super::{Simulator, unified};

/// Answers a poll, or has an accident with it.
pub(super) async fn poll(State(simulator): State<Simulator>, Path(id): Path<String>, request: Request) -> Response {
    ask(&simulator, Face::Prediction, &id, request).await
}

/// Looks after a prediction at the face where it was bought, and answers in the form of that face.
pub(super) async fn ask(simulator: &Simulator, face: Face, id: &str, request: Request) -> Response {
    let caller = simulator.caller(request.headers());
    let (accident, scenario) = simulator.with(|world, _| {
        world.counters.polls += 1;
        let accident = world.accident(Place::Poll);
        if accident.fault.refuses() {
            world.counters.poll_refused(caller.as_deref().ok(), Limit::Fault);
        }
        (accident, std::sync::Arc::clone(&world.scenario))
    });
    if let Some(instead) = accident.instead(face, &scenario) {
        return instead;
    }
    let polled = caller.and_then(|key| {
        simulator.with(|world, now| {
            let polled = world.poll(face, id, &key, now.at);
            if let Err(Refusal { status: 429, limit: Some(limit), .. }) = polled {
                world.counters.poll_refused(Some(&key), limit);
            }
            polled
        })
    });
    let response = match polled {
        Ok(prediction) => {
            let origin = simulator.origin(request.headers(), request.uri());
            let body = match face {
                Face::Prediction | Face::OpenAi => envelope(simulator, &scenario, &prediction, &origin).await,
                Face::Unified => unified::task(simulator, &scenario, &prediction, &origin).await,
            };
            axum::Json(body).into_response()
        }
        Err(refusal) => refusal.answer(face, &scenario),
    };
    accident.spoil(response, face, &scenario).await
}

/// The text about an input that cannot be fetched.
pub(super) const UNREACHABLE: &str = "Unable to download the image, please check the image url";

/// Where a prediction is asked after.
pub(super) fn address(origin: &str, prediction: &Prediction) -> String {
    format!("{origin}/api/v3/predictions/{}/result", prediction.id)
}

/// The form of one entry of `outputs`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Url,
    RelativeUrl,
    Base64,
    DataUri,
    ObjectUrl,
    ObjectImageUrl,
    ObjectB64,
}

/// The whole answer for a prediction as it stands.
pub(super) async fn envelope(
    simulator: &Simulator,
    scenario: &Scenario,
    prediction: &Prediction,
    origin: &str,
) -> Value {
    let rules = &scenario.result;
    let now = Now::read().at;
    let phase = prediction.phase(now);
    let mut data = json!({
        "id": prediction.id,
        "model": prediction.order.model.name,
        "outputs": [],
        "urls": {"get": address(origin, prediction)},
        "status": status(scenario, prediction, phase),
        "executionTime": 0,
        "timings": {"inference": 0},
    });
    let mut message = "success".to_owned();
    let failure = (phase == Phase::Ended).then(|| failure(prediction.outcome)).flatten();
    match (failure, rules.failure_error, rules.no_error) {
        (Some(text), FailureError::String, _) => data["error"] = json!(text),
        (Some(text), FailureError::Object, _) => data["error"] = json!({"message": text, "code": "task_failed"}),
        (Some(text), FailureError::Message, _) => text.clone_into(&mut message),
        (None, _, NoError::Empty) => data["error"] = json!(""),
        (None, _, NoError::Null) => data["error"] = Value::Null,
        (None, _, NoError::Object) => data["error"] = json!({}),
        (None, _, NoError::Absent) => {}
    }
    if phase == Phase::Ended {
        data["executionTime"] = json!(prediction.latency_ms);
        data["timings"]["inference"] = json!(prediction.latency_ms);
    }
    let completed = prediction.has_completed(now);
    let mut pictures = 0;
    if completed {
        if prediction.completed_polls > rules.empty_polls || rules.empty_polls == 0 {
            let entries = entries_as_ruled(simulator, scenario, prediction, origin).await;
            pictures = entries.len();
            place(&mut data, rules.outputs_place, entries);
        }
        put_usage(&mut data, rules.usage, prediction);
    }
    let (nsfw_key, created_key) = match rules.keys {
        KeyStyle::Snake => ("has_nsfw_contents", "created_at"),
        KeyStyle::Camel => ("hasNsfwContents", "createdAt"),
    };
    match rules.nsfw {
        Nsfw::Empty => data[nsfw_key] = json!([]),
        Nsfw::Null => data[nsfw_key] = Value::Null,
        Nsfw::Flagged => data[nsfw_key] = json!(vec![true; pictures]),
        Nsfw::Absent => {}
    }
    data[created_key] = json!(created_at(prediction, rules.timestamps));
    json!({"data": data, "message": message, "code": 200})
}

pub(super) fn status(scenario: &Scenario, prediction: &Prediction, phase: Phase) -> String {
    let words = &scenario.life;
    let word = match (phase, prediction.outcome) {
        (Phase::Created, _) => &words.created,
        (Phase::Processing, _) => &words.processing,
        (Phase::Ended, Outcome::Completed) => &words.completed,
        (
            Phase::Ended,
            Outcome::FailedPolicy
            | Outcome::FailedProvider
            | Outcome::FailedLink
            | Outcome::FailedEmpty
            | Outcome::Stuck,
        ) => &words.failed,
        (Phase::Ended, Outcome::Cancelled) => "cancelled",
        (Phase::Ended, Outcome::Timeout) => "timeout",
        (Phase::Ended, Outcome::Expired) => "expired",
    };
    word.to_owned()
}

/// What a prediction that did not complete says.
pub(super) fn failure(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Completed => None,
        Outcome::FailedPolicy => Some(GUIDELINES),
        Outcome::FailedProvider | Outcome::Stuck => {
            Some("The upstream provider returned an error, please try again later")
        }
        Outcome::FailedLink => Some(UNREACHABLE),
        Outcome::FailedEmpty => Some(""),
        Outcome::Cancelled => Some("The task was cancelled"),
        Outcome::Timeout => Some("The task timed out"),
        Outcome::Expired => Some("The task has expired"),
    }
}

fn created_at(prediction: &Prediction, form: Timestamps) -> String {
    let wall = prediction.created.wall;
    match form {
        Timestamps::Zoneless => wall.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        // The number of fraction digits varies, as in recorded answers.
        Timestamps::Rfc3339 => format!("{wall:.*}", 3 + prediction.number % 7),
    }
}

async fn entries_as_ruled(
    simulator: &Simulator,
    scenario: &Scenario,
    prediction: &Prediction,
    origin: &str,
) -> Vec<Value> {
    let form = match scenario.result.outputs {
        Outputs::AsAsked => match prediction.order.response_format {
            ResponseFormat::Url => Form::Url,
            ResponseFormat::B64Json => Form::Base64,
        },
        Outputs::Url => Form::Url,
        Outputs::RelativeUrl => Form::RelativeUrl,
        Outputs::Base64 => Form::Base64,
        Outputs::DataUri => Form::DataUri,
        Outputs::ObjectUrl => Form::ObjectUrl,
        Outputs::ObjectImageUrl => Form::ObjectImageUrl,
        Outputs::ObjectB64 => Form::ObjectB64,
        Outputs::Mixed => {
            const TURNS: [Form; 4] = [Form::Url, Form::Base64, Form::DataUri, Form::ObjectUrl];
            let mut mixed = Vec::new();
            for index in 0..shown(scenario, prediction) {
                mixed.push(entry(simulator, prediction, origin, index, TURNS[index % TURNS.len()]).await);
            }
            return mixed;
        }
    };
    entries(simulator, prediction, origin, form, shown(scenario, prediction)).await
}

/// How many pictures an answer holds.
pub(super) fn shown(scenario: &Scenario, prediction: &Prediction) -> usize {
    prediction.order.n.saturating_sub(scenario.result.missing_outputs) as usize
}

/// The first pictures of a prediction, in one form.
pub(super) async fn entries(
    simulator: &Simulator,
    prediction: &Prediction,
    origin: &str,
    form: Form,
    count: usize,
) -> Vec<Value> {
    let mut all = Vec::new();
    for index in 0..count {
        all.push(entry(simulator, prediction, origin, index, form).await);
    }
    all
}

async fn entry(simulator: &Simulator, prediction: &Prediction, origin: &str, index: usize, form: Form) -> Value {
    let scenario = simulator.scenario();
    let format = prediction.order.format(&scenario);
    let ending = match format {
        Format::Png => "png",
        Format::Jpeg => "jpg",
        Format::Webp => "webp",
    };
    let path = format!("/files/{}/{index}.{ending}", prediction.id);
    let origin = match scenario.files.origin.as_str() {
        "" => origin,
        elsewhere => elsewhere.trim_end_matches('/'),
    };
    let url = format!("{origin}{path}");
    match form {
        Form::Url => json!(url),
        Form::RelativeUrl => json!(path),
        Form::ObjectUrl => json!({"url": url}),
        Form::ObjectImageUrl => json!({"image_url": url}),
        Form::Base64 => json!(base64(simulator, prediction, index).await),
        Form::ObjectB64 => json!({"b64_json": base64(simulator, prediction, index).await}),
        Form::DataUri => {
            let media = super::files::media(format);
            json!(format!("data:{media};base64,{}", base64(simulator, prediction, index).await))
        }
    }
}

async fn base64(simulator: &Simulator, prediction: &Prediction, index: usize) -> String {
    let bytes = simulator.picture(prediction.number, index).await.unwrap_or_default();
    base64_simd::STANDARD.encode_to_string(&bytes)
}

fn place(data: &mut Value, place: OutputsPlace, entries: Vec<Value>) {
    let first = || entries.first().cloned().unwrap_or(Value::Null);
    match place {
        OutputsPlace::Outputs => data["outputs"] = json!(entries),
        OutputsPlace::Output => data["output"] = json!(entries),
        OutputsPlace::Images => {
            let objects =
                entries.into_iter().map(|entry| if entry.is_object() { entry } else { json!({ "url": entry }) });
            data["images"] = objects.collect();
        }
        OutputsPlace::ImageUrl => data["image_url"] = first(),
        OutputsPlace::Url => data["url"] = first(),
    }
}

/// Tokens, as all faces report them.
pub(super) fn tokens(usage: Usage) -> Value {
    let input = usage.text + usage.image;
    json!({
        "input_tokens": input,
        "input_tokens_details": {"text_tokens": usage.text, "image_tokens": usage.image},
        "output_tokens": usage.output,
        "total_tokens": input + usage.output,
    })
}

fn put_usage(data: &mut Value, place: UsagePlace, prediction: &Prediction) {
    let value = tokens(prediction.usage);
    match place {
        UsagePlace::Data => data["usage"] = value,
        UsagePlace::ExtraParams => data["extra_params"] = json!({ "usage": value }),
        UsagePlace::Absent => {}
    }
}
