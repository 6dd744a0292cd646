//! The prediction API, v3: `POST /api/v3/openai/{model}/{task}`, `GET /api/v3/predictions/{id}/result`.
//!
//! Its answers are read tolerantly: every variant of "Upstream facts" in `src/README.md`.

use bytes::BytesMut;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::Url;

use crate::http::StreamingBody;
use crate::input_urls::InputUrlGuards;
use crate::model::{Model, PictureRequest, TaskSpec, UpstreamId, Usage};
use crate::upstream::answer::error_text::{ErrorText, bounded, task_failure};
use crate::upstream::answer::{
    Naming, PollAnswer, SubmitAnswer, TaskState, UpstreamPrediction, failure_text, ids, is_final_word, is_same_id, json, output_text,
    state, usage_of,
};
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
    let Some(envelope) = json::parse(body) else {
        return SubmitAnswer::Unusable;
    };
    let data = first_of(envelope.get("data").unwrap_or(&envelope));
    let outputs = outputs(&envelope);
    let poll_url = [data, &envelope].into_iter().find_map(poll_url);
    let naming = if outputs.is_empty() { &envelope } else { &Value::Null };
    let naming = Naming::of(&[data, &envelope], poll_url.as_deref(), poll_url.as_deref().and_then(id_in), naming);
    match naming {
        Naming::Named(id) => {
            let prediction = UpstreamPrediction { id, poll_url };
            // A task that failed is asked for once more, as one that fails later is.
            if outputs.is_empty() || state(data) == TaskState::Working || state(data) == TaskState::Failed {
                SubmitAnswer::Accepted(prediction)
            } else {
                let finished = Finished { outputs, usage: usage(&envelope) };
                SubmitAnswer::Finished { prediction: Some(prediction), finished }
            }
        }
        Naming::Unusable if outputs.is_empty() => SubmitAnswer::UnusableId,
        Naming::Unusable | Naming::None if !outputs.is_empty() => {
            SubmitAnswer::Finished { prediction: None, finished: Finished { outputs, usage: usage(&envelope) } }
        }
        // The word "error" beside an error is the shape of a refusal, and that of no task.
        Naming::Unusable | Naming::None if envelope.get("data").is_some() && state(data) == TaskState::Failed => {
            SubmitAnswer::Failed(task_failure(failure_text(&envelope, data)))
        }
        Naming::Unusable | Naming::None => {
            ErrorText::in_body(&envelope).map_or(SubmitAnswer::Unusable, SubmitAnswer::Error)
        }
    }
}

/// Reads the answer to a poll for the prediction `asked`.
pub(in crate::upstream) fn poll_answer(body: &[u8], asked: &UpstreamId) -> PollAnswer {
    let Some(envelope) = json::parse(body) else {
        return PollAnswer::Unusable;
    };
    let data = first_of(envelope.get("data").unwrap_or(&envelope));
    let named: Vec<String> = ids(data).chain(ids(&envelope)).filter(|id| !id.is_empty()).collect();
    if let Some(other) = named.first().filter(|_| !named.iter().any(|id| is_same_id(asked, id))) {
        return PollAnswer::Other(bounded(other));
    }
    let is_named = !named.is_empty();
    let error = ErrorText::in_body(&envelope);
    let polled = polled(&envelope, data);
    let polled = polled.filter(|polled| is_named || !is_refusal(polled, &envelope, data, error.as_ref()));
    match (polled, error) {
        (Some(polled), _) if is_named => PollAnswer::Task(polled),
        (Some(polled), _) => PollAnswer::Unnamed(polled),
        (None, Some(error)) => PollAnswer::Error(error),
        (None, None) => PollAnswer::Unusable,
    }
}

/// Reads the status and the outputs of a task.
fn polled(envelope: &Value, data: &Value) -> Option<Polled> {
    let task = if data.is_object() { data } else { envelope };
    let finished = || {
        let outputs = outputs(envelope);
        (!outputs.is_empty()).then(|| Polled::Finished(Finished { outputs, usage: usage(envelope) }))
    };
    match state(task) {
        TaskState::Failed => Some(Polled::Failed(task_failure(failure_text(envelope, data)))),
        TaskState::Done => finished().or(data.is_object().then_some(Polled::Empty)),
        TaskState::Working => Some(Polled::Working),
        // Without a status, pictures are a result; without pictures the answer is unusable.
        TaskState::Missing => finished(),
    }
}

/// Whether an answer that names no prediction is a refusal of the poll: many services have `"status": "error"` in every
/// error. Only a word that means nothing else, or pictures, make a task of it.
fn is_refusal(polled: &Polled, envelope: &Value, data: &Value, error: Option<&ErrorText>) -> bool {
    let in_data = envelope.get("data").is_some_and(|_| data.is_object());
    match polled {
        Polled::Finished(_) => false,
        Polled::Failed(_) => !in_data && !is_final_word(envelope),
        Polled::Working | Polled::Empty => error.is_some_and(|error| error.is_explicit),
    }
}

/// Returns the id in a URL of the form `…/predictions/{id}/result`.
pub(in crate::upstream) fn id_in(url: &str) -> Option<UpstreamId> {
    let rest = url.split("/predictions/").nth(1)?;
    let id = rest.split(['/', '?', '#']).next()?;
    let id = percent_encoding::percent_decode_str(id).decode_utf8().ok()?;
    UpstreamId::new(&id)
}

fn first_of(data: &Value) -> &Value {
    data.as_array().map_or(data, |items| items.first().unwrap_or(&Value::Null))
}

/// Returns the URL of the result that an object gives, if it gives one.
fn poll_url(data: &Value) -> Option<String> {
    let url = data.get("urls").and_then(|urls| first_of(urls).get("get")?.as_str()).map(str::trim)?;
    (!url.is_empty()).then(|| url.to_owned())
}

/// Reads the outputs from the first place that has any. These are all places where they have been seen, the documented
/// ones first.
fn outputs(envelope: &Value) -> Vec<Output> {
    let places = [
        "/data/outputs",
        "/data/output",
        "/data/images",
        "/data/result",
        "/data/result/outputs",
        "/data/result/images",
        "/data/image_url",
        "/data/url",
        "/data/uri",
        "/outputs",
        "/result",
        "/data",
    ];
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
        Value::Object(fields) => ["b64_json", "b64Json", "url", "uri", "image_url", "image"].iter().find_map(|name| {
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
