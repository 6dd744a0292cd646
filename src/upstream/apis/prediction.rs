//! The prediction API, v3: `POST /api/v3/openai/{model}/{task}`, `GET /api/v3/predictions/{id}/result`.
//!
//! Its answers are read tolerantly: every variant of "Upstream facts" in `src/README.md`.

use bytes::BytesMut;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::Value;
use url::Url;

use crate::http::StreamingBody;
use crate::input_urls::InputUrlGuards;
use crate::model::{Model, PictureRequest, TaskSpec, UpstreamId, Usage};
use crate::upstream::answer::{
    SubmitAnswer, TaskState, UpstreamPrediction, failure_text, output_text, state, usage_of,
};
use crate::upstream::classify::{message_in, task_failure};
use crate::upstream::exchange::Exchange;
use crate::upstream::inputs::{InputReference, Inputs};
use crate::upstream::{Finished, Output, Polled, PurchaseHandle};

/// The characters of an id that are not escaped in a path.
pub(super) const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Builds the body of a submit, as the model's page documents it, with every parameter explicit. Data URIs never go into
/// the field for URLs, which rejects them.
pub(in crate::upstream) fn body(
    model: &Model,
    spec: &TaskSpec,
    request: &PictureRequest,
    pictures: u8,
    inputs: &Inputs,
) -> (StreamingBody, InputUrlGuards) {
    let mut body = StreamingBody::default().text("{\"prompt\":").json(&request.prompt);
    body = body.text(",\"size\":").json(&request.size.to_string());
    if model.parameters.n_max.is_some() {
        body = body.text(",\"n\":").json(&pictures);
    }
    for (name, value) in request.choices.pairs() {
        body = body.text(",").json(&name).text(":").json(&value);
    }
    // A model without a field for URLs gets its pictures inline, whatever is configured.
    let inputs = if spec.links_field.is_some() { inputs } else { &Inputs::Inline };
    let mut input_url_guards = InputUrlGuards::default();
    let (mut urls, mut inline) = (Vec::new(), Vec::new());
    for input in &request.inputs {
        match inputs.refer(input, &mut input_url_guards) {
            InputReference::Url(url) => urls.push(url),
            reference @ InputReference::Inline(..) => inline.push(reference),
        }
    }
    if let Some(field) = spec.links_field.as_ref().filter(|_| !urls.is_empty()) {
        body = body.text(",").json(field).text(":").json(&urls);
    }
    if let Some(field) = spec.inline_field.as_ref().filter(|_| !inline.is_empty()) {
        body = body.text(",").json(field).text(":[");
        for (position, reference) in inline.into_iter().enumerate() {
            body = reference.append_to(if position == 0 { body } else { body.text(",") });
        }
        body = body.text("]");
    }
    if let Some((field, mask)) = spec.mask_field.as_ref().zip(request.mask.as_ref()) {
        body = inputs.refer(mask, &mut input_url_guards).append_to(body.text(",").json(field).text(":"));
    }
    (body.text(",\"enable_sync_mode\":false,\"response_format\":\"url\"}"), input_url_guards)
}

/// Reads the answer to a submit.
#[expect(clippy::needless_pass_by_value, reason = "one of several readers, another of which decodes in place")]
pub(in crate::upstream) fn answer(body: BytesMut) -> SubmitAnswer {
    submit_answer(&body)
}

/// Returns the URL of the result: the one from the upstream where it is on the configured origin and has the path of a
/// result, else the documented one.
pub(in crate::upstream) fn result_url(exchange: &Exchange, handle: &PurchaseHandle) -> Url {
    exchange.trusted(handle.poll_url.as_deref(), "/api/v3/predictions/").unwrap_or_else(|| {
        let id = utf8_percent_encode(handle.id.as_str(), PATH_SEGMENT);
        exchange.at(&format!("/api/v3/predictions/{id}/result"))
    })
}

/// Reads the answer to a submit.
pub(in crate::upstream) fn submit_answer(body: &[u8]) -> SubmitAnswer {
    let Ok(envelope) = serde_json::from_slice::<Value>(body) else {
        return SubmitAnswer::Unusable;
    };
    let data = first_of(envelope.get("data").unwrap_or(&envelope));
    if let Some(status) = error_status(&envelope) {
        let message = message_in(&envelope).unwrap_or_else(|| "an error without a message".to_owned());
        return SubmitAnswer::Error { status, message };
    }
    let prediction = prediction(data).or_else(|| prediction(&envelope));
    match state(data) {
        TaskState::Failed => SubmitAnswer::Failed(task_failure(failure_text(&envelope, data))),
        TaskState::Done | TaskState::Missing => match (outputs(&envelope), prediction) {
            (outputs, prediction) if !outputs.is_empty() => {
                SubmitAnswer::Finished { prediction, finished: Finished { outputs, usage: usage(&envelope) } }
            }
            (_, Some(prediction)) => SubmitAnswer::Accepted(prediction),
            (_, None) => SubmitAnswer::Unusable,
        },
        TaskState::Working => prediction.map_or(SubmitAnswer::Unusable, SubmitAnswer::Accepted),
    }
}

/// Reads the answer to a poll; `None` when it is not from the service.
pub(in crate::upstream) fn poll_answer(body: &[u8]) -> Option<Polled> {
    let envelope: Value = serde_json::from_slice(body).ok()?;
    if error_status(&envelope).is_some() {
        return None;
    }
    let data = first_of(envelope.get("data").unwrap_or(&envelope));
    Some(match state(data) {
        TaskState::Failed => Polled::Failed(task_failure(failure_text(&envelope, data))),
        TaskState::Done => match outputs(&envelope) {
            outputs if outputs.is_empty() => Polled::Empty,
            outputs => Polled::Finished(Finished { outputs, usage: usage(&envelope) }),
        },
        TaskState::Working => Polled::Working,
        // Without a status, pictures are a result; without pictures the answer is unusable.
        TaskState::Missing => match outputs(&envelope) {
            outputs if outputs.is_empty() => return None,
            outputs => Polled::Finished(Finished { outputs, usage: usage(&envelope) }),
        },
    })
}

/// Returns the id in a URL of the form `…/predictions/{id}/result`.
pub(in crate::upstream) fn id_in(url: &str) -> Option<UpstreamId> {
    let rest = url.split("/predictions/").nth(1)?;
    let id = rest.split(['/', '?', '#']).next()?;
    let id = percent_encoding::percent_decode_str(id).decode_utf8().ok()?;
    UpstreamId::new(&id)
}

/// Returns the envelope's `code` where it is not a success.
fn error_status(envelope: &Value) -> Option<StatusCode> {
    let code = envelope.get("code")?;
    let code = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    let status = || u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
    (!(200..300).contains(&code) && code != 0).then(|| status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

fn first_of(data: &Value) -> &Value {
    data.as_array().map_or(data, |items| items.first().unwrap_or(&Value::Null))
}

fn prediction(data: &Value) -> Option<UpstreamPrediction> {
    let urls = data.get("urls");
    let poll_url = urls.and_then(|urls| first_of(urls).get("get")).and_then(Value::as_str).map(str::to_owned);
    let id = ["id", "result_id", "task_id", "prediction_id"]
        .iter()
        .filter_map(|field| data.get(*field)?.as_str())
        .find_map(UpstreamId::new);
    let id = id.or_else(|| poll_url.as_deref().and_then(id_in))?;
    Some(UpstreamPrediction { id, poll_url })
}

/// Reads the outputs from the first place that has any. These are all places where they have been seen, the documented
/// ones first.
fn outputs(envelope: &Value) -> Vec<Output> {
    let places = ["/data/outputs", "/data/output", "/data/images", "/data/image_url", "/data/url", "/outputs", "/data"];
    places
        .iter()
        .filter_map(|place| envelope.pointer(place))
        .map(|found| match found.as_array() {
            Some(items) => items.iter().filter_map(output).collect::<Vec<_>>(),
            None => output(found).into_iter().collect(),
        })
        .find(|outputs| !outputs.is_empty())
        .unwrap_or_default()
}

fn output(value: &Value) -> Option<Output> {
    match value {
        Value::String(text) => output_text(text),
        Value::Object(fields) => ["b64_json", "url", "image_url", "image"].iter().find_map(|name| {
            let field = fields.get(*name)?;
            // `image_url` may hold an object with an `url` of its own.
            field.as_str().or_else(|| field.get("url")?.as_str()).and_then(output_text)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    }
}

fn usage(envelope: &Value) -> Option<Usage> {
    let places = ["/data/usage", "/data/extra_params/usage", "/usage"];
    places.iter().find_map(|place| usage_of(envelope.pointer(place)?))
}

#[cfg(test)]
mod tests;
