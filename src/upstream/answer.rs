//! What the answers of all APIs have in common: the result of a submit, the state of a task, outputs and usage. Read
//! tolerantly, see "Upstream facts" in `src/README.md`.

use base64_simd::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::Value;

use super::classify::{bounded, message_in};
use super::{Finished, Output};
use crate::model::{Failure, UpstreamId, Usage};

/// The name of a prediction in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UpstreamPrediction {
    pub(super) id: UpstreamId,
    /// The URL of its result, as the answer gives it.
    pub(super) poll_url: Option<String>,
}

/// The result of a submit, as its answer says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SubmitAnswer {
    Accepted(UpstreamPrediction),
    /// The answer contains the result.
    Finished {
        prediction: Option<UpstreamPrediction>,
        finished: Finished,
    },
    /// The answer reports a failed task.
    Failed(Failure),
    /// An error in an answer with HTTP 200.
    Error {
        status: StatusCode,
        message: String,
    },
    /// The answer has neither an id nor a picture.
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
    let Some(status) = data.get("status").and_then(Value::as_str) else {
        return TaskState::Missing;
    };
    match status.trim().to_lowercase().as_str() {
        "completed" | "succeeded" | "succeed" | "success" | "complete" | "done" | "finished" => TaskState::Done,
        "failed" | "error" | "failure" | "cancelled" | "canceled" | "timeout" | "expired" => TaskState::Failed,
        // Known words for waiting and working, and unknown words: the deadline decides.
        _ => TaskState::Working,
    }
}

/// Returns the reason why a task failed, from the task or its envelope.
pub(super) fn failure_text(envelope: &Value, data: &Value) -> String {
    let error = data.get("error");
    error
        .and_then(|error| error.get("message").unwrap_or(error).as_str())
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(bounded)
        .or_else(|| message_in(envelope).filter(|text| !text.eq_ignore_ascii_case("success")))
        .unwrap_or_else(|| "the upstream reported a failure without a reason".to_owned())
}

/// Reads an output that is a string: a URL, a data URI, or base64.
pub(super) fn output_text(text: &str) -> Option<Output> {
    let text = text.trim();
    if text.is_empty() {
        None
    } else if text.starts_with("http://") || text.starts_with("https://") {
        Some(Output::Url(text.to_owned()))
    } else if let Some(rest) = text.strip_prefix("data:") {
        base64(rest.split_once(',')?.1).map(Output::Bytes)
    } else {
        // A relative URL starts with a slash and is short. The base64 of a JPEG starts with one too, and is long.
        let url = || (text.starts_with('/') && text.len() < 2048).then(|| Output::Url(text.to_owned()));
        base64(text).filter(|bytes| crate::model::Format::sniff(bytes).is_some()).map(Output::Bytes).or_else(url)
    }
}

/// Decodes base64 tolerantly: standard or URL-safe, padded or not, with white space.
pub(super) fn base64(text: &str) -> Option<Bytes> {
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
    let decoded = if clean.len().is_multiple_of(4) {
        STANDARD.decode_type::<Vec<u8>>(&clean)
    } else {
        STANDARD_NO_PAD.decode_type::<Vec<u8>>(&clean)
    };
    decoded.ok().filter(|bytes| !bytes.is_empty()).map(Bytes::from)
}

/// Reads the tokens used, where both numbers are present.
pub(super) fn usage_of(found: &Value) -> Option<Usage> {
    Some(Usage {
        input_tokens: found.get("input_tokens")?.as_u64()?,
        output_tokens: found.get("output_tokens")?.as_u64()?,
        input_image_tokens: found.pointer("/input_tokens_details/image_tokens").and_then(Value::as_u64),
    })
}
