//! The prediction API, v3: `POST /api/v3/openai/{model}/{task}`, `GET /api/v3/predictions/{id}/result`.
//!
//! Its answers are read tolerantly: every variant of "Upstream facts" in `src/README.md`.

use bytes::BytesMut;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::Value;
use url::Url;

use super::parameters::parameters;
use crate::http::StreamingBody;
use crate::input_urls::{InputUrlGuards, InputUrls};
use crate::model::{Model, PictureRequest, TaskSpec, UpstreamId, Usage};
use crate::upstream::answer::{
    SubmitAnswer, TaskState, UpstreamPrediction, failure_text, output_text, state, usage_of,
};
use crate::upstream::classify::{message_in, task_failure};
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
    let field = pictures_field(spec, format.method)?;
    if field.is_some() == request.inputs.is_empty() {
        return Err("it has another number of pictures");
    }
    for (position, input) in request.inputs.iter().enumerate() {
        let reference = match format.method {
            InputMethod::Links | InputMethod::OtherLinks => InputReference::url(input, input_urls, &mut guards),
            _ => InputReference::inline(input),
        };
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
        let reference = match format.method {
            InputMethod::Links | InputMethod::OtherLinks => Some(InputReference::either(mask, input_urls, &mut guards)),
            _ => InputReference::inline(mask),
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
