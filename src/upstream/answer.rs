//! What the answers of all APIs have in common: the result of a submit, the state of a task, ids, outputs and usage. Read
//! tolerantly, see "Upstream facts" in `src/README.md`; what follows from them is in `submit` and `poll`.

use std::borrow::Cow;

use base64_simd::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use serde_json::Value;

use super::{Finished, Output, Polled};
use crate::model::{Failure, UpstreamId, Usage};
use error_text::{ErrorText, bounded, message_in};

pub(super) mod collector;
pub(super) mod edge_page;
pub(super) mod error_text;
pub(super) mod events;
pub(super) mod json;
pub(super) mod poll;
mod retry_after;
pub(super) mod submit;

/// The name of a prediction in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpstreamPrediction {
    pub(super) id: UpstreamId,
    /// The URL of its result, as the answer gives it.
    pub(super) poll_url: Option<String>,
}

/// What the body of an answer to a submit says, whatever its status. Anything that may be a purchase comes before an error.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SubmitAnswer {
    Accepted(UpstreamPrediction),
    /// The answer contains the result.
    Finished {
        prediction: Option<UpstreamPrediction>,
        finished: Finished,
    },
    /// It names a prediction by something that is no plain path segment, or reports a task and does not name it, so that it
    /// cannot be asked for.
    UnusableId,
    /// It reports a failed task, without an id.
    Failed(Failure),
    /// It reports an error, and nothing else.
    Error(ErrorText),
    /// It has none of these: a page, an empty body, or JSON without a meaning.
    Unusable,
}

/// What the body of an answer to a poll says, whatever its status.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PollAnswer {
    /// It is about the prediction that was asked for.
    Task(Polled),
    /// It has a status or an output, and does not say of which prediction.
    Unnamed(Polled),
    /// It is about another prediction, of this id.
    Other(String),
    Error(ErrorText),
    Unusable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    Working,
    Done,
    Failed,
    /// There is no status.
    Missing,
}

/// Reads the status of a task.
pub(super) fn state(data: &Value) -> TaskState {
    let Some(status) = status_word(data) else {
        return TaskState::Missing;
    };
    match status.as_str() {
        "completed" | "succeeded" | "succeed" | "success" | "complete" | "done" | "finished" => TaskState::Done,
        "failed" | "error" | "failure" | "cancelled" | "canceled" | "timeout" | "expired" => TaskState::Failed,
        // Known words for waiting and working, and unknown words: the deadline decides.
        _ => TaskState::Working,
    }
}

/// Returns whether a failed status is one that only tasks have.
pub(super) fn is_final_word(task: &Value) -> bool {
    let word = status_word(task).unwrap_or_default();
    matches!(word.as_str(), "failed" | "cancelled" | "canceled" | "expired")
}

/// Returns the status of a task in small letters.
fn status_word(task: &Value) -> Option<String> {
    let word = ["status", "state"].iter().find_map(|name| task.get(*name)?.as_str())?;
    Some(word.trim().to_lowercase())
}

/// Returns the reason why a task failed, from the task or its envelope.
pub(super) fn failure_text(envelope: &Value, data: &Value) -> String {
    let error = data.get("error");
    let fields = ["fail_reason", "error_message", "reason"];
    error
        .and_then(|error| error.get("message").unwrap_or(error).as_str())
        .into_iter()
        .chain(fields.iter().filter_map(|name| data.get(*name)?.as_str()))
        .map(str::trim)
        .find(|text| !text.is_empty())
        .map(bounded)
        .or_else(|| message_in(envelope).filter(|text| !text.eq_ignore_ascii_case("success")))
        .unwrap_or_else(|| "the upstream reported a failure without a reason".to_owned())
}

/// The names of the field that has the id of a prediction, the documented one first.
const ID_FIELDS: [&str; 7] = ["id", "result_id", "task_id", "taskId", "prediction_id", "predictionId", "resultId"];

/// Returns whether a task without an id says of itself that it was begun. `is_data`: it is the data of an envelope, in which
/// a success is one of the task and not of the call.
pub(super) fn is_begun(task: &Value, is_data: bool) -> bool {
    let word = status_word(task).unwrap_or_default();
    let is_working = matches!(
        word.as_str(),
        "created" | "pending" | "queued" | "starting" | "processing" | "running" | "in_progress"
    );
    is_working || (is_data && state(task) == TaskState::Done)
}

/// Returns the ids in an object: texts and whole numbers. An empty text, also for a zero and for a number that was rounded, is
/// a field that has none.
pub(super) fn ids(object: &Value) -> impl Iterator<Item = String> {
    ID_FIELDS.iter().filter_map(|field| match object.get(*field)? {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => {
            let is_id =
                number.as_u64().is_some_and(|number| number > 0) || number.as_i64().is_some_and(|number| number < 0);
            Some(if is_id { number.to_string() } else { String::new() })
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// Returns the id in a URL: the path segment after `marker`.
pub(super) fn id_after(marker: &str, url: &str) -> Option<UpstreamId> {
    let id = url.split(marker).nth(1)?.split(['/', '?', '#']).next()?;
    UpstreamId::new(&percent_encoding::percent_decode_str(id).decode_utf8().ok()?)
}

/// What an answer to a submit calls its prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PredictionName {
    Named(UpstreamId),
    /// By something that is no plain path segment.
    Unusable,
    None,
}

impl PredictionName {
    /// Reads the name of a prediction from the documented places, given first, or else from anywhere in the body.
    pub(super) fn of(places: &[&Value], poll_url: Option<&str>, id_in_url: Option<UpstreamId>, body: &Value) -> Self {
        let found: Vec<String> = places.iter().flat_map(|place| ids(place)).collect();
        if let Some(id) = found.iter().find_map(|id| UpstreamId::new(id)).or(id_in_url) {
            return Self::Named(id);
        }
        if !found.is_empty() || poll_url.is_some() {
            return Self::Unusable;
        }
        anywhere(body).map_or(Self::None, |id| UpstreamId::new(&id).map_or(Self::Unusable, Self::Named))
    }
}

/// Finds an id in any object of a body, or a place for results, which has no id that could be used. The depth of the body
/// is bounded where it is parsed.
fn anywhere(value: &Value) -> Option<String> {
    let has_results = |urls: &Value| urls.get("get").or_else(|| urls.get(0)?.get("get")).is_some_and(Value::is_string);
    match value {
        Value::Object(fields) => ids(value)
            .next()
            .or_else(|| fields.get("urls").filter(|urls| has_results(urls)).map(|_| String::new()))
            .or_else(|| fields.values().find_map(anywhere)),
        Value::Array(items) => items.iter().find_map(anywhere),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Whether two ids name one prediction: some answers leave out the model of `model:task_x`.
pub(super) fn is_same_id(asked: &UpstreamId, answered: &str) -> bool {
    let asked = asked.as_str();
    let ends = |whole: &str, part: &str| whole.strip_suffix(part).is_some_and(|model| model.ends_with(':'));
    !answered.is_empty() && (asked == answered || ends(asked, answered) || ends(answered, asked))
}

/// Reads an output that is a string: a URL, a data URI, or base64.
pub(super) fn output_text(text: &str) -> Option<Output> {
    let text = text.trim();
    if text.is_empty() {
        None
    } else if has_scheme(text) {
        Some(Output::Url(text.to_owned()))
    } else if let Some(rest) = text.strip_prefix("data:") {
        base64(rest.split_once(',')?.1).map(Output::Bytes)
    } else {
        // A relative URL starts with a slash and is short. The base64 of a JPEG starts with one too, and is long.
        let url = || (text.starts_with('/') && text.len() < 2048).then(|| Output::Url(text.to_owned()));
        base64(text).filter(|bytes| crate::model::Format::sniff(bytes).is_some()).map(Output::Bytes).or_else(url)
    }
}

/// Whether a text is an address, in letters of any size.
fn has_scheme(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// Decodes base64 tolerantly: standard or URL-safe, padded or not, with white space.
pub(super) fn base64(text: &str) -> Option<Bytes> {
    let text = text.trim_ascii_end().trim_end_matches('=');
    // Most is written as it is decoded, and megabytes need not be copied.
    let is_standard = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    let clean = if is_standard { Cow::Borrowed(text.as_bytes()) } else { Cow::Owned(standard(text)) };
    let decoded = if clean.len().is_multiple_of(4) {
        STANDARD.decode_type::<Vec<u8>>(&clean)
    } else {
        STANDARD_NO_PAD.decode_type::<Vec<u8>>(&clean)
    };
    decoded.ok().filter(|bytes| !bytes.is_empty()).map(Bytes::from)
}

/// Returns base64 in the standard alphabet, without white space and padding.
fn standard(text: &str) -> Vec<u8> {
    let mut clean: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|b| match b {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    while clean.last() == Some(&b'=') {
        clean.pop();
    }
    clean
}

/// Reads the tokens used, where both numbers are present.
pub(super) fn usage_of(found: &Value) -> Option<Usage> {
    Some(Usage {
        input_tokens: found.get("input_tokens")?.as_u64()?,
        output_tokens: found.get("output_tokens")?.as_u64()?,
        input_image_tokens: found.pointer("/input_tokens_details/image_tokens").and_then(Value::as_u64),
    })
}

#[cfg(test)]
mod tests;
