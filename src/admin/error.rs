//! Errors of the API for the operator, in OpenAI's shape.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::keys::KeyProblem;
use crate::storage::clients::ClientStoreError;
use crate::storage::journal::LedgerError;

const STORAGE_UNAVAILABLE: &str = "storage_unavailable";

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AdminError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    param: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
}

impl AdminError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None }
    }

    /// The administration is off.
    pub(super) fn off() -> Self {
        let message = "The administration is off. Set GATEWAY_ADMIN_TOKEN (or GATEWAY_ADMIN_TOKEN_FILE) to at least 24 characters and \
                       restart the gateway to switch it on; the command line works without it.";
        Self::new(StatusCode::NOT_FOUND, "administration_off", message)
    }

    pub(super) fn missing_token() -> Self {
        let message = "The admin token is missing. Send it as 'Authorization: Bearer <token>', or log in at /admin.";
        Self::new(StatusCode::UNAUTHORIZED, "missing_admin_token", message)
    }

    pub(super) fn wrong_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_admin_token", "The admin token is wrong.")
    }

    pub(super) fn too_many_attempts(retry_after: Duration) -> Self {
        let message = "Too many wrong admin tokens came from this address. Try again later; nothing else is affected.";
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message)
        }
    }

    pub(super) fn cross_site() -> Self {
        let message = "The request does not come from a page of this gateway, or its page is older than the session. Open /admin again.";
        Self::new(StatusCode::FORBIDDEN, "cross_site_request", message)
    }

    pub(super) fn invalid(param: impl Into<Cow<'static, str>>, problem: impl std::fmt::Display) -> Self {
        let param = param.into();
        let error = Self::new(StatusCode::BAD_REQUEST, "invalid_value", format!("{param}: {problem}"));
        Self { param: Some(param), ..error }
    }

    pub(super) fn bad_body(problem: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", format!("The body cannot be used: {problem}"))
    }

    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "The body is larger than 64 KB.")
    }

    pub(super) fn not_json() -> Self {
        let message = "The body must be JSON, with 'Content-Type: application/json'.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(super) fn unknown_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_url", "There is nothing at this address.")
    }

    pub(super) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This address does not take this method.")
    }

    pub(super) fn unknown_account(known: &[String]) -> Self {
        let message = format!("The configuration has no such account. It has: {}.", known.join(", "));
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn unknown_purchase() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such purchase; an id looks like pred_….0.")
    }

    pub(super) fn not_reloaded(problem: &str) -> Self {
        let message = format!("Nothing was changed, because the configuration cannot be used: {problem}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "configuration_invalid", message)
    }
}

/// Returns the error for a change that was not made.
pub(super) fn not_changed(error: ClientStoreError) -> AdminError {
    let mut error = AdminError::from(error);
    if error.code == STORAGE_UNAVAILABLE {
        error.message = format!("Nothing was changed. {}", error.message);
    }
    error
}

/// Returns the error for a change that was made, and what it has made cannot be shown.
pub(super) fn not_shown(error: ClientStoreError) -> AdminError {
    let error = AdminError::from(error);
    AdminError { message: format!("The change was made. {}", error.message), ..error }
}

impl From<KeyProblem> for AdminError {
    fn from(problem: KeyProblem) -> Self {
        let text = problem.to_string();
        match problem {
            KeyProblem::Invalid { param, problem } => Self::invalid(param, problem),
            KeyProblem::NoChange => Self::new(StatusCode::BAD_REQUEST, "invalid_value", text),
            KeyProblem::OfConfiguration(_) => Self::new(StatusCode::CONFLICT, "configured_client", text),
            KeyProblem::SeveralKeys(..) => Self::new(StatusCode::CONFLICT, "several_keys", text),
            KeyProblem::Store(error) => error.into(),
        }
    }
}

impl From<ClientStoreError> for AdminError {
    fn from(error: ClientStoreError) -> Self {
        let text = error.to_string();
        match error {
            ClientStoreError::NoSuchKey(_) => Self::new(StatusCode::NOT_FOUND, "not_found", text),
            ClientStoreError::NameTaken(_) => Self::new(StatusCode::CONFLICT, "name_taken", text),
            ClientStoreError::KeyEnded { .. } => Self::new(StatusCode::CONFLICT, "key_ended", text),
            ClientStoreError::Configured(_) => Self::new(StatusCode::CONFLICT, "configured_client", text),
            ClientStoreError::TooManyKeys => Self::new(StatusCode::CONFLICT, "too_many_keys", text),
            ClientStoreError::Missing(_) | ClientStoreError::Storage(_) | ClientStoreError::Version { .. } => {
                tracing::error!(
                    error = text,
                    "the keys of clients cannot be read or changed; the operator got an error"
                );
                let message = "The storage cannot be used at present. See the log, and try again.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, STORAGE_UNAVAILABLE, message)
            }
        }
    }
}

impl From<LedgerError> for AdminError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::NoSuchPurchase(_) => Self::unknown_purchase(),
            LedgerError::NotUnknown { .. } => Self::new(StatusCode::CONFLICT, "outcome_known", error.to_string()),
            LedgerError::Missing(text) | LedgerError::Storage(text) => ClientStoreError::Storage(text).into(),
            LedgerError::Version { .. } => ClientStoreError::Storage(error.to_string()).into(),
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let Self { status, code, message, param, retry_after } = self;
        let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let body = serde_json::json!({ "error": { "message": message, "type": kind, "param": param, "code": code } });
        let mut response = (status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(pause) = retry_after {
            let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"gateway administration\""));
        }
        response
    }
}
