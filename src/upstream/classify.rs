//! What an error of the upstream means, by what may be done next ("Upstream facts" in `src/README.md`).
//!
//! The status alone does not decide: rejected content is documented as "503" and arrives as 400; 429 also means "no
//! channel".

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use super::SubmitError;
use crate::budget::Pushback;
use crate::model::Failure;

/// The longest text of the upstream that is kept, in characters. What of it a client sees is for `api` to decide.
const TEXT_CHARS_MAX: usize = 1000;

/// Classifies an answer that is not a success. `released`: the last byte of the request was sent.
pub(super) fn submit_error(
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
    released: bool,
) -> SubmitError {
    error_with(status, message_of(body), retry_after, released)
}

/// The same for an answer whose text was read already; `None` for one that is not from the service.
pub(super) fn error_with(
    status: StatusCode,
    message: Option<String>,
    retry_after: Option<Duration>,
    released: bool,
) -> SubmitError {
    let from_service = message.is_some();
    let message = message.unwrap_or_else(|| format!("HTTP {status} without a message"));
    match status {
        _ if mentions_policy(&message) && from_service => {
            SubmitError::Rejected(Failure::Moderated { message, bought: false })
        }
        StatusCode::TOO_MANY_REQUESTS if mentions_channels(&message) && from_service => {
            let reason = Failure::ModelUnavailable { message: message.clone() };
            SubmitError::Refused { pushback: Pushback::Model { retry_after, reason }, message }
        }
        _ if mentions_channels(&message) && from_service => {
            SubmitError::Rejected(Failure::ModelUnavailable { message })
        }
        StatusCode::TOO_MANY_REQUESTS => SubmitError::Refused { pushback: Pushback::Account { retry_after }, message },
        StatusCode::PAYMENT_REQUIRED => key_refused(Failure::BalanceExhausted { message }),
        StatusCode::FORBIDDEN if mentions_money(&message) => key_refused(Failure::BalanceExhausted { message }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => key_refused(Failure::KeyRefused { message }),
        // From the edge, about the exchange; not from the service, about the content.
        StatusCode::REQUEST_TIMEOUT => unknown_if(released, message),
        status if status.is_client_error() => SubmitError::Rejected(Failure::InvalidRequest { message }),
        status if status.is_redirection() => SubmitError::Rejected(Failure::Unreachable {
            message: format!(
                "upstream.base_url answers with a redirect ({status}), which is not followed with the key"
            ),
        }),
        _ => unknown_if(released, message),
    }
}

/// The key or its balance is refused; another account may work.
fn key_refused(reason: Failure) -> SubmitError {
    let message = reason.name().to_owned();
    SubmitError::Refused { pushback: Pushback::Key { reason }, message }
}

/// Classifies a broken exchange or an unusable answer.
pub(super) fn unknown_if(released: bool, message: String) -> SubmitError {
    if released { SubmitError::Unknown { message } } else { SubmitError::NotSent { message } }
}

/// Classifies a task that failed after it was accepted. Whether failed tasks are billed is not documented.
pub(super) fn task_failure(message: String) -> Failure {
    if mentions_policy(&message) {
        Failure::Moderated { message, bought: true }
    } else {
        Failure::TaskFailed { message }
    }
}

/// Returns the text of an error body, in any of the documented and observed forms; `None` for anything but JSON.
pub(super) fn message_of(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    message_in(&value)
}

/// Returns the text of an error in a parsed body or a part of one.
pub(super) fn message_in(value: &Value) -> Option<String> {
    let candidates = [
        value.pointer("/error/message"),
        value.get("error"),
        value.pointer("/data/error/message"),
        value.pointer("/data/error"),
        value.get("message"),
        value.get("msg"),
    ];
    candidates.into_iter().flatten().filter_map(Value::as_str).map(str::trim).find(|text| !text.is_empty()).map(bounded)
}

/// Bounds a text of the upstream, and replaces its control characters, which would break lines of the log.
pub(super) fn bounded(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect()
}

fn mentions_policy(message: &str) -> bool {
    contains_any(
        message,
        &[
            "guideline",
            "safety system",
            "content policy",
            "content_policy",
            "moderation",
            "policy violation",
            "sensitive content",
        ],
    )
}

fn mentions_channels(message: &str) -> bool {
    contains_any(message, &["no channel", "channel configuration", "no available channel", "channel unavailable"])
}

fn mentions_money(message: &str) -> bool {
    contains_any(message, &["balance", "quota", "credit", "billing", "insufficient fund"])
}

fn contains_any(message: &str, words: &[&str]) -> bool {
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(status: u16, body: &str) -> SubmitError {
        submit_error(StatusCode::from_u16(status).unwrap(), body.as_bytes(), None, true)
    }

    #[test]
    fn every_documented_error_is_classified() {
        type Is = fn(&SubmitError) -> bool;
        let cases: &[(u16, &str, Is)] = &[
            (401, r#"{"error":{"message":"Invalid signature","type":"401"}}"#, |e| {
                matches!(e, SubmitError::Refused { pushback: Pushback::Key { reason: Failure::KeyRefused { .. } }, .. })
            }),
            (401, r#"{"code":401,"message":"Token cannot be empty","type":"error"}"#, |e| {
                matches!(e, SubmitError::Refused { pushback: Pushback::Key { reason: Failure::KeyRefused { message } }, .. }
                    if message == "Token cannot be empty")
            }),
            (403, r#"{"error":{"message":"Invalid Token","type":"403"}}"#, |e| {
                matches!(e, SubmitError::Refused { pushback: Pushback::Key { reason: Failure::KeyRefused { .. } }, .. })
            }),
            (403, r#"{"error":{"message":"Insufficient balance","type":"403"}}"#, |e| {
                matches!(
                    e,
                    SubmitError::Refused { pushback: Pushback::Key { reason: Failure::BalanceExhausted { .. } }, .. }
                )
            }),
            (
                400,
                r#"{"error":{"message":"Input may not meet the guidelines. Please adjust and try again.","type":"503"}}"#,
                |e| matches!(e, SubmitError::Rejected(Failure::Moderated { bought: false, .. })),
            ),
            (503, r#"{"error":{"message":"Input may not meet the guidelines.","type":"503"}}"#, |e| {
                matches!(e, SubmitError::Rejected(Failure::Moderated { .. }))
            }),
            (400, r#"{"error":{"code":400,"message":"wrong image url"}}"#, |e| {
                matches!(e, SubmitError::Rejected(Failure::InvalidRequest { .. }))
            }),
            (404, "<html>404</html>", |e| matches!(e, SubmitError::Rejected(Failure::InvalidRequest { .. }))),
            (429, r#"{"error":{"message":"Too many requests","type":"429"}}"#, |e| {
                matches!(e, SubmitError::Refused { pushback: Pushback::Account { .. }, .. })
            }),
            (429, r#"{"error":{"message":"no channel found for model","type":"429"}}"#, |e| {
                matches!(e, SubmitError::Refused { pushback: Pushback::Model { .. }, .. })
            }),
            (400, r#"{"error":{"message":"no channel found for model","type":"400"}}"#, |e| {
                matches!(e, SubmitError::Rejected(Failure::ModelUnavailable { .. }))
            }),
            (500, r#"{"error":{"message":"Internal server error","type":"500"}}"#, |e| {
                matches!(e, SubmitError::Unknown { .. })
            }),
            (524, "<html>guidelines</html>", |e| matches!(e, SubmitError::Unknown { .. })),
            (408, "", |e| matches!(e, SubmitError::Unknown { .. })),
            (302, "", |e| matches!(e, SubmitError::Rejected(Failure::Unreachable { .. }))),
        ];
        for (status, body, is) in cases {
            let class = classify(*status, body);
            assert!(is(&class), "{status} {body} is {class:?}");
        }
    }

    #[test]
    fn before_the_last_byte_no_outcome_is_unknown() {
        let class = submit_error(StatusCode::BAD_GATEWAY, b"<html>", None, false);
        assert!(matches!(class, SubmitError::NotSent { .. }));
    }

    #[test]
    fn texts_are_bounded_and_free_of_control_characters() {
        let body = serde_json::json!({"error": {"message": format!("a\r\nb{}", "x".repeat(2000))}}).to_string();
        let text = message_of(body.as_bytes()).unwrap();
        assert!(text.starts_with("a  b") && text.chars().count() == TEXT_CHARS_MAX);
    }
}
