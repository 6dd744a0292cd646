//! The prediction API, v3: `POST /api/v3/openai/{model}/{task}`, `GET /api/v3/predictions/{id}/result`.
//!
//! Its answers are read tolerantly: every variant of "Upstream facts" in `src/README.md`.

use bytes::BytesMut;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use url::Url;

use super::parameters::parameters;
use crate::http::StreamingBody;
use crate::input_urls::{InputUrlGuards, InputUrls};
use crate::model::{Model, PictureRequest, TaskSpec, UpstreamId, Usage};
use crate::upstream::answer::error_text::{ErrorText, bounded, task_failure};
use crate::upstream::answer::{
    PollAnswer, PredictionName, SubmitAnswer, TaskState, UpstreamPrediction, failure_text, id_after, ids, is_begun,
    is_final_word, is_same_id, json, output_text, state, usage_of,
};
use crate::upstream::exchange::Exchange;
use crate::upstream::formats::{InputMethod, RequestFormat};
use crate::upstream::inputs::InputReference;
use crate::upstream::{Finished, Output, Polled, PurchaseHandle};

/// The characters of an id that are not escaped in a path.
pub(super) const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Builds the body of a submit in its format, with every parameter explicit that the format does not leave out. Pictures
/// that are addresses in this format are published below `input_urls`.
///
/// # Errors
///
/// Why the request cannot be written in this format, as the end of a sentence.
pub(in crate::upstream) fn body(
    model: &Model,
    spec: &TaskSpec,
    request: &PictureRequest,
    pictures: u8,
    format: &RequestFormat,
    input_urls: Option<&InputUrls>,
) -> Result<(StreamingBody, InputUrlGuards), &'static str> {
    let choices = request.choices.pairs().map(|(name, value)| (name, Value::from(value)));
    let fixed = [("enable_sync_mode", Value::from(false)), ("response_format", Value::from("url"))];
    let has_n = model.parameters.n_max.is_some();
    let mut body = StreamingBody::default().text("{\"prompt\":").json(&request.prompt);
    for (name, value) in parameters(request, pictures, has_n, format, choices.chain(fixed))? {
        body = body.text(",").json(&name).text(":").json(&value);
    }
    let mut guards = InputUrlGuards::default();
    let has_urls = matches!(format.method, InputMethod::Links | InputMethod::OtherLinks);
    let field = pictures_field(spec, format.method)?;
    if field.is_some() == request.inputs.is_empty() {
        return Err("it has another number of pictures");
    }
    for (position, input) in request.inputs.iter().enumerate() {
        let reference =
            if has_urls { InputReference::url(input, input_urls, &mut guards) } else { InputReference::inline(input) };
        let reference = reference.ok_or("it takes the pictures in another way")?;
        body = match field.filter(|_| position == 0) {
            Some(field) => body.text(",").json(&field).text(":["),
            None => body.text(","),
        };
        body = reference.append_to(body);
    }
    if field.is_some() {
        body = body.text("]");
    }
    if let Some(mask) = &request.mask {
        let field = spec.mask_field.as_ref().ok_or("the prediction API has no mask for the model")?;
        let reference = if has_urls {
            Some(InputReference::either(mask, input_urls, &mut guards))
        } else {
            InputReference::inline(mask)
        };
        let reference = reference.ok_or("it cannot have the mask as an address")?;
        body = reference.append_to(body.text(",").json(field).text(":"));
    }
    Ok((body.text("}"), guards))
}

/// Returns the field for pictures in a format of this API; `None` for a format without pictures.
fn pictures_field(spec: &TaskSpec, method: InputMethod) -> Result<Option<&str>, &'static str> {
    let (links, inline) = (spec.links_field.as_deref(), spec.inline_field.as_deref());
    match method {
        InputMethod::None => Ok(None),
        InputMethod::Base64Images => inline.map(Some).ok_or("the model has no field for data URIs"),
        InputMethod::Links | InputMethod::DataUris => links.map(Some).ok_or("the model has no field for addresses"),
        InputMethod::OtherLinks => match links {
            Some("image") => Ok(Some("images")),
            Some("images") => Ok(Some("image")),
            _ => Err("the model has no other field for addresses"),
        },
        InputMethod::Multipart | InputMethod::MultipartStream | InputMethod::Unified => Err("it is of another API"),
    }
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
    let naming =
        PredictionName::of(&[data, &envelope], poll_url.as_deref(), poll_url.as_deref().and_then(id_in), naming);
    match naming {
        PredictionName::Named(id) => {
            let prediction = UpstreamPrediction { id, poll_url };
            // A task that failed is asked for once more, as one that fails later is.
            if outputs.is_empty() || state(data) == TaskState::Working || state(data) == TaskState::Failed {
                SubmitAnswer::Accepted(prediction)
            } else {
                let finished = Finished { outputs, usage: usage(&envelope) };
                SubmitAnswer::Finished { prediction: Some(prediction), finished }
            }
        }
        PredictionName::Unusable if outputs.is_empty() => SubmitAnswer::UnusableId,
        PredictionName::Unusable | PredictionName::None if !outputs.is_empty() => {
            SubmitAnswer::Finished { prediction: None, finished: Finished { outputs, usage: usage(&envelope) } }
        }
        // The word "error" beside an error is the shape of a refusal, and that of no task.
        PredictionName::Unusable | PredictionName::None
            if envelope.get("data").is_some() && state(data) == TaskState::Failed =>
        {
            SubmitAnswer::Failed(task_failure(failure_text(&envelope, data)))
        }
        PredictionName::Unusable | PredictionName::None if is_begun(data, envelope.get("data").is_some()) => {
            SubmitAnswer::UnusableId
        }
        PredictionName::Unusable | PredictionName::None => {
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
    id_after("/predictions/", url)
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
