//! Refusals and the shapes they take on the wire.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::limits::Limit;
use super::rules::Face;
use super::scenario::{ErrorShape, LimitShape, RetryAfter, Scenario};

/// The text of a refusal by content policy.
pub(super) const GUIDELINES: &str = "Input may not meet the guidelines. Please adjust and try again.";

/// A request that is not done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    /// The status of the answer.
    pub(super) status: u16,
    /// The status that the body speaks of: content policy is a 400 that calls itself 503.
    code: u16,
    pub(super) message: String,
    /// When the same request would be let in.
    pub(super) retry_after: Option<Duration>,
    /// What refused it, where that is a limit.
    pub(super) limit: Option<Limit>,
    /// A missing key has a shape of its own.
    flat: bool,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, code: status, message: message.into(), retry_after: None, limit: None, flat: false }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// Documented as 503, sent as 400.
    pub(super) fn guidelines() -> Self {
        Self { code: 503, ..Self::bad(GUIDELINES) }
    }

    pub(super) fn missing_key() -> Self {
        Self { flat: true, ..Self::new(401, "Token cannot be empty") }
    }

    /// The account has no channel for a model.
    pub(super) fn no_channel(status: u16, model: &str) -> Self {
        Self { limit: Some(Limit::Channel), ..Self::new(status, format!("no channel found for model {model}")) }
    }

    pub(super) fn too_many(limit: Limit, message: &str, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), limit: Some(limit), ..Self::new(429, message) }
    }

    /// The answer, in the shape that `scenario` wants, or else the one of the face.
    pub(super) fn answer(&self, face: Face, scenario: &Scenario) -> Response {
        let shape = match (face, self.status, scenario.errors.shape) {
            (Face::OpenAi, _, ErrorShape::Documented) => ErrorShape::B,
            (Face::Unified, _, ErrorShape::Documented) => ErrorShape::D,
            (_, 429, _) if scenario.limits.shape == LimitShape::A => ErrorShape::A,
            (_, 429, _) => ErrorShape::B,
            (_, _, ErrorShape::Documented) if self.flat => ErrorShape::C,
            (_, _, shape) => shape,
        };
        let mut response = self.in_shape(shape);
        if let Some(after) = self.retry_after
            && let Some(value) = retry_after(scenario.limits.retry_after, after)
        {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }

    fn in_shape(&self, shape: ErrorShape) -> Response {
        let (code, message) = (self.code, &self.message);
        let body = match shape {
            ErrorShape::Documented | ErrorShape::A => json!({"error": {"message": message, "type": code.to_string()}}),
            ErrorShape::B => {
                let (kind, word) = match self.message.as_str() {
                    GUIDELINES => ("invalid_request_error", "content_policy_violation"),
                    _ => words(code),
                };
                json!({"error": {"message": message, "type": kind, "code": word}})
            }
            ErrorShape::C => json!({"code": code, "message": message, "type": "error"}),
            ErrorShape::D => json!({"error": {"code": code, "message": message}}),
        };
        (status(self.status), axum::Json(body)).into_response()
    }
}

/// The value of `Retry-After`, rounded up: a client that waits exactly so long must be let in.
fn retry_after(form: RetryAfter, after: Duration) -> Option<HeaderValue> {
    let seconds = (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1);
    match form {
        RetryAfter::Absent => None,
        RetryAfter::Seconds => Some(HeaderValue::from(seconds)),
        RetryAfter::Date => {
            // HTTP dates have whole seconds, so one more is needed to be late enough.
            let now = std::time::SystemTime::try_from(jiff::Timestamp::now()).ok()?;
            let at = now + Duration::from_secs(seconds + 1);
            HeaderValue::from_str(&httpdate::fmt_http_date(at)).ok()
        }
    }
}

fn words(code: u16) -> (&'static str, &'static str) {
    match code {
        401 => ("invalid_request_error", "invalid_api_key"),
        403 => ("permission_error", "insufficient_permissions"),
        404 => ("invalid_request_error", "not_found"),
        429 => ("rate_limit_error", "rate_limit_exceeded"),
        500..=599 => ("server_error", "internal_error"),
        _ => ("invalid_request_error", "invalid_value"),
    }
}

/// A status that was checked when the scenario was read.
pub(super) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A page such as the edge in front of the service sends.
pub(super) fn page(code: u16) -> Response {
    let title = match code {
        200 => "Just a moment...",
        404 => "404 Not Found",
        502 => "502 Bad Gateway",
        504 => "504 Gateway Time-out",
        524 => "524: A timeout occurred",
        _ => "Error",
    };
    let body = format!(
        "<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n<body><center><h1>{title}</h1></center>\n\
         <hr><center>simulated edge</center></body></html>\n"
    );
    (status(code), [(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: Response) -> serde_json::Value {
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[tokio::test]
    async fn each_shape_is_as_recorded() {
        let refusal = Refusal::new(401, "Invalid signature");
        let shapes = [
            (ErrorShape::A, json!({"error": {"message": "Invalid signature", "type": "401"}})),
            (
                ErrorShape::B,
                json!({"error": {"message": "Invalid signature", "type": "invalid_request_error", "code": "invalid_api_key"}}),
            ),
            (ErrorShape::C, json!({"code": 401, "message": "Invalid signature", "type": "error"})),
            (ErrorShape::D, json!({"error": {"code": 401, "message": "Invalid signature"}})),
        ];
        for (shape, wanted) in shapes {
            assert_eq!(body(refusal.in_shape(shape)).await, wanted);
        }
    }

    #[test]
    fn retry_after_is_rounded_up_and_absent_by_default() {
        let refusal = Refusal::too_many(Limit::Rate, "slow down", Duration::from_millis(1200));
        let mut scenario = Scenario::default();
        assert!(refusal.answer(Face::Prediction, &scenario).headers().get("retry-after").is_none());
        scenario.limits.retry_after = RetryAfter::Seconds;
        assert_eq!(refusal.answer(Face::Prediction, &scenario).headers()["retry-after"], "2");
    }
}
