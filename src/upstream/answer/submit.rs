//! What an answer to a submit means, after the last byte of the request was sent and before it:
//!
//! | answer | means |
//! |---|---|
//! | any status, with an id, `urls` or outputs in a readable body | accepted; where it cannot be followed: unknown |
//! | 2xx, readable error and nothing else | refused, by its text and code |
//! | any status, a task that was begun and has no id | unknown |
//! | 2xx, unreadable or empty | unknown |
//! | 301, 302, 307, 308 | not served, while no submit of this kind was accepted before; else unknown |
//! | 4xx, 5xx with the code of a success in the body | unknown |
//! | 4xx, readable body of the service | refused: 401, 403 by text (key, balance, model), 402 balance, 429 by text (rate, model), else the request |
//! | 4xx page that the edge certainly made itself | refused by the edge |
//! | 413, any body | too large: refused, and tried in no other format |
//! | 404, 405, page or empty | the path is not served, while no submit of this kind was accepted before; else unknown |
//! | 429, page or empty | refused: whatever sent it counts calls, and let this one through to nothing behind it |
//! | other 4xx, page or empty | unknown |
//! | 400, 422 with a code of 5xx in the body, which names no part of the request | unknown; with 503, the code of refused content, refused |
//! | 5xx with a readable body of the service | 503 by its text: policy refused, channel model pushback; 501 by what it names; else unknown |
//! | 5xx page or empty, a broken exchange | unknown |
//!
//! Before the last byte nothing can be bought: a refusal keeps its meaning, and what would be unknown was not sent.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::edge_page::EdgePage;
use super::error_text::ErrorText;
use super::retry_after::retry_after;
use super::{SubmitAnswer, UpstreamPrediction};
use crate::budget::Pushback;
use crate::model::Failure;
use crate::upstream::formats::{FormatRefusal, SubmitFormat};
use crate::upstream::{Finished, SubmitError};

/// The result of a submit that was accepted.
#[derive(Debug, PartialEq)]
pub(in crate::upstream) enum Accepted {
    Prediction(UpstreamPrediction),
    /// Finished at once.
    Finished {
        prediction: Option<UpstreamPrediction>,
        finished: Finished,
    },
}

/// The head of an answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct AnswerHead {
    pub(in crate::upstream) status: StatusCode,
    pub(in crate::upstream) retry_after: Option<Duration>,
    /// The edge answered in place of the service, by its header `cf-mitigated`.
    mitigated: bool,
}

/// The body of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::upstream) enum AnswerBody {
    Whole {
        answer: SubmitAnswer,
        edge: Option<EdgePage>,
    },
    /// It broke off, or is too large.
    Broken(String),
}

/// What the meaning of an answer depends on besides the answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Sent<'a> {
    /// The last byte of the request was sent.
    pub(in crate::upstream) released: bool,
    pub(in crate::upstream) format: &'a SubmitFormat,
    /// The parameters that were sent.
    pub(in crate::upstream) fields: &'a [String],
}

impl AnswerHead {
    pub(in crate::upstream) fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        Self { status, retry_after: retry_after(headers), mitigated: headers.contains_key("cf-mitigated") }
    }

    /// Recognizes a page that the edge made itself.
    pub(in crate::upstream) fn edge_page(self, body: &[u8]) -> Option<EdgePage> {
        self.status.is_client_error().then(|| EdgePage::of(body, self.mitigated)).flatten()
    }
}

/// Decides what an answer to a submit means.
pub(in crate::upstream) fn meaning(
    head: AnswerHead,
    body: AnswerBody,
    sent: Sent<'_>,
) -> Result<Accepted, SubmitError> {
    let status = head.status;
    let without_meaning = |what: &str| sent.unknown(format!("HTTP {status} with {what}"));
    let (answer, edge) = match body {
        AnswerBody::Whole { answer, edge } => (answer, edge),
        AnswerBody::Broken(problem) => {
            return Err(match head.edge_page(b"") {
                _ if status == StatusCode::PAYLOAD_TOO_LARGE => too_large(),
                Some(page) => refused_by_edge(page),
                None => sent.unknown(problem),
            });
        }
    };
    let (failure, text) = match answer {
        SubmitAnswer::Accepted(prediction) => return Ok(Accepted::Prediction(prediction)),
        SubmitAnswer::Finished { prediction, finished } => return Ok(Accepted::Finished { prediction, finished }),
        SubmitAnswer::UnusableId => return Err(without_meaning("an id that cannot be asked for")),
        SubmitAnswer::Failed(failure) => (Some(failure), None),
        SubmitAnswer::Error(text) => (None, Some(text)),
        SubmitAnswer::Unusable => (None, None),
    };
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Err(too_large());
    }
    if let Some(page) = edge {
        return Err(refused_by_edge(page));
    }
    // Before the last byte no task can have failed.
    if let Some(failure) = failure.filter(|_| sent.released) {
        return Err(SubmitError::Rejected(failure));
    }
    Err(match text {
        // It contradicts itself.
        Some(text) if text.is_success && !status.is_success() => without_meaning("the code of a success"),
        Some(text) if status.is_client_error() || status.is_server_error() => {
            refusal(effective(status, &text), &text, head.retry_after, sent)
        }
        Some(text) if status.is_success() && text.is_explicit => {
            refusal(text.code.unwrap_or(StatusCode::BAD_REQUEST), &text, head.retry_after, sent)
        }
        Some(_) | None => match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED if !sent.format.accepted_before => {
                let message = format!("HTTP {status}: the path of this submit is not served");
                format_refused(FormatRefusal::Path, message)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let (retry_after, message) = (head.retry_after, format!("HTTP {status} without a reason"));
                SubmitError::Refused { pushback: Pushback::Account { retry_after }, message }
            }
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
                if !sent.format.accepted_before =>
            {
                SubmitError::Rejected(Failure::Unreachable {
                    message: format!(
                        "upstream.base_url answers with a redirect ({status}), which is not followed with the key"
                    ),
                })
            }
            _ => without_meaning("neither a prediction nor a picture nor a refusal of the service"),
        },
    })
}

impl Sent<'_> {
    /// Classifies a broken exchange, or an answer that decides nothing.
    pub(in crate::upstream) fn unknown(self, message: String) -> SubmitError {
        unknown_if(self.released, message)
    }
}

/// Classifies a broken exchange. `released`: the last byte was sent.
pub(in crate::upstream) fn unknown_if(released: bool, message: String) -> SubmitError {
    if released { SubmitError::Unknown { message } } else { SubmitError::NotSent { message } }
}

/// Returns the status of a refusal. Some relays answer everything with 400, and have the status in the body.
fn effective(status: StatusCode, text: &ErrorText) -> StatusCode {
    let in_body =
        text.code.filter(|code| status == StatusCode::BAD_REQUEST && matches!(code.as_u16(), 401..=403 | 429));
    in_body.unwrap_or(status)
}

/// Decides what a readable refusal means.
fn refusal(status: StatusCode, text: &ErrorText, retry_after: Option<Duration>, sent: Sent<'_>) -> SubmitError {
    let message = || text.message.clone();
    let by_text = status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE;
    if by_text && text.is_policy() {
        return SubmitError::Rejected(Failure::Moderated { message: message(), bought: false });
    }
    let no_channel = || Failure::ModelUnavailable { message: message() };
    let account_pushback = || SubmitError::Refused { pushback: Pushback::Account { retry_after }, message: message() };
    let model_pushback =
        || SubmitError::Refused { pushback: Pushback::Model { retry_after, reason: no_channel() }, message: message() };
    match status.as_u16() {
        429 if text.is_channel() || text.is_load() => model_pushback(),
        429 => account_pushback(),
        503 if text.is_channel() => model_pushback(),
        501 => match not_implemented(text, sent) {
            Some(refusal) => format_refused(refusal, message()),
            None => sent.unknown(message()),
        },
        500.. => sent.unknown(message()),
        402 => account_refused(Failure::BalanceExhausted { message: message() }),
        _ if text.is_channel() => SubmitError::Rejected(no_channel()),
        _ if text.is_balance() => account_refused(Failure::BalanceExhausted { message: message() }),
        403 if text.is_rate() => account_pushback(),
        // Without a reason it may be about this request alone, where the account was given the model before.
        403 if !text.is_model_permission() && !text.is_key() && sent.format.accepted_before => {
            SubmitError::Rejected(Failure::InvalidRequest { message: message() })
        }
        403 if text.is_model_permission() || !text.is_key() => {
            let reason = Failure::ModelNotPermitted { message: message() };
            SubmitError::Refused { pushback: Pushback::Permission { reason }, message: message() }
        }
        401 | 403 => {
            let failure = Failure::KeyRefused { message: message() };
            if sent.format.may_change_auth {
                SubmitError::FormatRefused { refusal: FormatRefusal::Auth, failure }
            } else {
                account_refused(failure)
            }
        }
        _ => match of_request(status, text, sent) {
            // The code contradicts the status, and nothing else says that the request was not begun.
            Some(FormatRefusal::Unclear) if text.code.is_some_and(|code| code.is_server_error()) => {
                if text.code == Some(StatusCode::SERVICE_UNAVAILABLE) {
                    // Documented for content that is refused.
                    SubmitError::Rejected(Failure::InvalidRequest { message: message() })
                } else {
                    sent.unknown(message())
                }
            }
            Some(refusal) => format_refused(refusal, message()),
            None => SubmitError::Rejected(Failure::InvalidRequest { message: message() }),
        },
    }
}

/// Returns what a refusal of the request says of its format; `None` where another format could not help.
fn of_request(status: StatusCode, text: &ErrorText, sent: Sent<'_>) -> Option<FormatRefusal> {
    if text.is_key() || text.is_rate() || text.is_load() {
        return None;
    }
    match (status.as_u16(), named(text, sent)) {
        (400 | 404 | 405 | 415 | 422, Some(refusal)) => Some(refusal),
        (404 | 405, None) => Some(FormatRefusal::Path),
        // The media type of the body is the way in which the pictures are sent.
        (415, None) => Some(FormatRefusal::Inputs),
        (400 | 422, None) => Some(FormatRefusal::Unclear),
        _ => None,
    }
}

fn not_implemented(text: &ErrorText, sent: Sent<'_>) -> Option<FormatRefusal> {
    named(text, sent).or_else(|| text.message.to_lowercase().contains("not implemented").then_some(FormatRefusal::Path))
}

fn named(text: &ErrorText, sent: Sent<'_>) -> Option<FormatRefusal> {
    text.named(sent.fields.iter().map(String::as_str))
}

fn format_refused(refusal: FormatRefusal, message: String) -> SubmitError {
    SubmitError::FormatRefused { refusal, failure: Failure::InvalidRequest { message } }
}

/// The key or its balance is refused; another account may work.
fn account_refused(reason: Failure) -> SubmitError {
    let message = reason.name().to_owned();
    SubmitError::Refused { pushback: Pushback::Key { reason }, message }
}

fn refused_by_edge(EdgePage { code }: EdgePage) -> SubmitError {
    let number = code.map(|code| format!(" with error {code}")).unwrap_or_default();
    let message = format!("the network edge in front of the upstream refused the call{number}");
    SubmitError::Rejected(Failure::EdgeRefused { message, code })
}

fn too_large() -> SubmitError {
    SubmitError::Rejected(Failure::InvalidRequest {
        message:
            "HTTP 413, the pictures are too large for one call; send smaller ones or their addresses, or have the \
                  operator set server.public_url, so that the gateway sends addresses"
                .to_owned(),
    })
}

#[cfg(test)]
mod tests;
