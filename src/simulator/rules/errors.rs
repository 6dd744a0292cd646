//! Refusals and their shapes on the wire.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::values::{Api, LimitKind};
use crate::simulator::scenario::{ErrorShape, ErrorTexts, LimitShape, RetryAfter, Scenario};

/// The text of a submit without balance.
pub(crate) const NO_BALANCE: &str = "Insufficient balance";
/// The beginning of the text about a model without a channel, before its name.
const NO_CHANNEL: &str = "no channel found for model ";
/// The text of a refusal by content policy.
pub(crate) const GUIDELINES: &str = "Input may not meet the guidelines. Please adjust and try again.";
/// The same by a relay.
pub(crate) const GUIDELINES_RELAY: &str = "提示词内容违规，请修改后重试";

/// A refused request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The status of the answer.
    pub(crate) status: u16,
    /// The status in the body: content policy is sent as 400 with 503 in the body.
    code: u16,
    pub(crate) message: String,
    /// The time until the same request would be accepted.
    pub(crate) retry_after: Option<Duration>,
    /// The limit that refused the request, if it was a limit.
    pub(crate) limit: Option<LimitKind>,
    /// A missing key has a flat shape.
    flat: bool,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, code: status, message: message.into(), retry_after: None, limit: None, flat: false }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// Returns the refusal by content policy: documented as 503, sent as 400.
    pub(crate) fn guidelines() -> Self {
        Self { code: 503, ..Self::invalid(GUIDELINES) }
    }

    /// Returns this refusal under another HTTP status; the body keeps its own.
    pub(crate) fn sent_as(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// Returns the refusal of a parameter that the vendor's table does not name.
    pub(crate) fn unknown_parameter(name: &str) -> Self {
        Self::invalid(format!("Unknown parameter: '{name}'."))
    }

    pub(crate) fn missing_key() -> Self {
        Self { flat: true, ..Self::new(401, "Token cannot be empty") }
    }

    /// Returns the refusal of a model without a channel for the account.
    pub(crate) fn no_channel(status: u16, model: &str) -> Self {
        Self { limit: Some(LimitKind::Channel), ..Self::new(status, format!("{NO_CHANNEL}{model}")) }
    }

    /// Returns the refusal of an overloaded model, with the trace id that such texts end in.
    pub(crate) fn overloaded() -> Self {
        let (trace, millis) = (rand::random::<u128>(), jiff::Timestamp::now().as_millisecond());
        let text = format!("The model is overloaded. Please try again later.  tid:{trace:032x}_{millis}");
        Self { limit: Some(LimitKind::Overload), ..Self::new(429, text) }
    }

    /// Returns a 429 after which the request may be repeated.
    pub(crate) fn too_many(limit: LimitKind, message: &str, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), limit: Some(limit), ..Self::new(429, message) }
    }

    /// Returns the response, in the scenario's shape, or else in the shape of the API.
    pub(crate) fn response(&self, api: Api, scenario: &Scenario) -> Response {
        let shape = match (api, self.status, scenario.errors.shape) {
            (Api::OpenAi, _, ErrorShape::Documented) => ErrorShape::B,
            (Api::Unified, _, ErrorShape::Documented) => ErrorShape::D,
            (_, 429, _) if scenario.limits.shape == LimitShape::A => ErrorShape::A,
            (_, 429, _) => ErrorShape::B,
            (_, _, ErrorShape::Documented) if self.flat => ErrorShape::C,
            (_, _, shape) => shape,
        };
        let mut response = match scenario.errors.texts {
            ErrorTexts::Vendor => self.in_shape(shape),
            ErrorTexts::Relay => self.translated().in_shape(shape),
        };
        if let Some(after) = self.retry_after
            && let Some(value) = retry_after(scenario.limits.retry_after, after)
        {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }

    /// Returns this refusal with the text of a relay.
    fn translated(&self) -> Self {
        let message = match self.message.as_str() {
            NO_BALANCE => "用户余额不足，请充值后重试".to_owned(),
            GUIDELINES => GUIDELINES_RELAY.to_owned(),
            text => match text.strip_prefix(NO_CHANNEL) {
                Some(model) => format!("当前分组下模型 {model} 无可用渠道"),
                None => return self.clone(),
            },
        };
        Self { message, code: self.status, ..self.clone() }
    }

    fn in_shape(&self, shape: ErrorShape) -> Response {
        let (code, message) = (self.code, &self.message);
        let body = match shape {
            ErrorShape::Documented | ErrorShape::A => json!({"error": {"message": message, "type": code.to_string()}}),
            ErrorShape::B => {
                let (kind, code) = match self.message.as_str() {
                    GUIDELINES | GUIDELINES_RELAY => ("invalid_request_error", "content_policy_violation"),
                    _ => type_and_code(code),
                };
                json!({"error": {"message": message, "type": kind, "code": code}})
            }
            ErrorShape::C => json!({"code": code, "message": message, "type": "error"}),
            ErrorShape::D => json!({"error": {"code": code, "message": message}}),
        };
        (status(self.status), axum::Json(body)).into_response()
    }
}

/// Returns the value of `Retry-After`, rounded up: a client that waits exactly this long must be accepted.
fn retry_after(form: RetryAfter, after: Duration) -> Option<HeaderValue> {
    let seconds = (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1);
    match form {
        RetryAfter::Absent => None,
        RetryAfter::Seconds => Some(HeaderValue::from(seconds)),
        RetryAfter::Date => {
            // HTTP dates have whole seconds, so one more second is needed.
            let now = std::time::SystemTime::try_from(jiff::Timestamp::now()).ok()?;
            let at = now + Duration::from_secs(seconds + 1);
            HeaderValue::from_str(&httpdate::fmt_http_date(at)).ok()
        }
    }
}

/// Returns `type` and `code` of shape B.
fn type_and_code(code: u16) -> (&'static str, &'static str) {
    match code {
        401 => ("invalid_request_error", "invalid_api_key"),
        403 => ("permission_error", "insufficient_permissions"),
        404 => ("invalid_request_error", "not_found"),
        429 => ("rate_limit_error", "rate_limit_exceeded"),
        500..=599 => ("server_error", "internal_error"),
        _ => ("invalid_request_error", "invalid_value"),
    }
}

/// Returns a status code; the scenario was validated, so it is in range.
pub(crate) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Returns an HTML page as sent by the edge in front of the service.
pub(crate) fn page(code: u16) -> Response {
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
    async fn every_shape_matches_the_recorded_one() {
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
        for (shape, expected) in shapes {
            assert_eq!(body(refusal.in_shape(shape)).await, expected);
        }
    }

    #[tokio::test]
    async fn a_relay_has_texts_of_its_own() {
        let mut scenario = Scenario::default();
        scenario.errors.texts = ErrorTexts::Relay;
        for (refusal, status, text) in [
            (Refusal::new(403, NO_BALANCE), 403, "余额不足"),
            (Refusal::no_channel(503, "gpt-image-2"), 503, "模型 gpt-image-2 无可用渠道"),
            (Refusal::guidelines(), 400, "违规"),
            (Refusal::new(401, "Invalid signature"), 401, "Invalid signature"),
        ] {
            let response = refusal.response(Api::Prediction, &scenario);
            assert_eq!(response.status(), status);
            let body = body(response).await;
            assert!(body["error"]["message"].as_str().unwrap().contains(text), "{body}");
            assert_eq!(body["error"]["type"], status.to_string());
        }
    }

    #[test]
    fn an_overloaded_model_is_named_with_a_trace_id() {
        let refusal = Refusal::overloaded();
        let (text, id) = refusal.message.split_once("  tid:").unwrap();
        assert_eq!((refusal.status, text), (429, "The model is overloaded. Please try again later."));
        let (hex, millis) = id.split_once('_').unwrap();
        assert!(hex.len() == 32 && millis.parse::<u64>().is_ok());
    }

    #[test]
    fn retry_after_is_absent_by_default_and_rounded_up() {
        let refusal = Refusal::too_many(LimitKind::Rate, "slow down", Duration::from_millis(1200));
        let mut scenario = Scenario::default();
        assert!(refusal.response(Api::Prediction, &scenario).headers().get("retry-after").is_none());
        scenario.limits.retry_after = RetryAfter::Seconds;
        assert_eq!(refusal.response(Api::Prediction, &scenario).headers()["retry-after"], "2");
    }
}
