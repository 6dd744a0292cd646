//! An error on the wire: OpenAI's error object, and the headers beside it.

use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::ApiError;
use super::messages::{clean_message, whole_seconds};
use crate::http::gateway_headers::{SHOULD_RETRY, name_job};
use crate::http::page_headers::{NO_STORE, NOSNIFF};
use crate::model::Failure;
use crate::telemetry::recent::{Payment, RequestFailure, RequestOutcome};

/// OpenAI's envelope; all four keys are always present.
#[derive(Debug, Serialize)]
pub(in crate::api) struct ErrorEnvelope<'a> {
    error: ErrorObject<'a>,
}

#[derive(Debug, Serialize)]
pub(in crate::api) struct ErrorObject<'a> {
    message: String,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

/// What an error response adds to the log line and the count of its request, as a response extension.
#[derive(Clone, Debug)]
pub(in crate::api) struct ErrorReport {
    pub(in crate::api) code: &'static str,
    /// The whole message of a server error; messages about the client's own mistakes are not logged.
    pub(in crate::api) detail: Option<String>,
    outcome: RequestOutcome,
    payment: Payment,
    /// The technical cause of a server error, without what may be a secret.
    cause: Option<String>,
}

impl ErrorReport {
    /// Returns what is kept of it among the last requests.
    pub(in crate::api) fn failure(&self) -> RequestFailure {
        let Self { code, cause, outcome, payment, .. } = self;
        RequestFailure { outcome: *outcome, payment: *payment, code, cause: cause.clone() }
    }
}

impl ApiError {
    pub(in crate::api) fn envelope(&self) -> ErrorEnvelope<'_> {
        ErrorEnvelope { error: self.object() }
    }

    /// Returns OpenAI's error object.
    pub(in crate::api) fn object(&self) -> ErrorObject<'_> {
        let row = self.row();
        ErrorObject { message: self.to_string(), r#type: row.error_type, param: row.param, code: row.code }
    }

    pub(in crate::api) fn report(&self) -> ErrorReport {
        let detail = || if let Self::Internal { detail } = self { detail.clone() } else { self.to_string() };
        let row = self.row();
        let (outcome, payment) = self.ending();
        let is_server_error = row.status.is_server_error();
        let cause = self.cause().filter(|cause| is_server_error && !cause.is_empty());
        ErrorReport { code: row.code, detail: is_server_error.then(detail), outcome, payment, cause }
    }

    /// Returns the technical cause, for the operator.
    fn cause(&self) -> Option<String> {
        // The message about a key or a balance may quote it.
        if let Self::Failed { failure: Failure::KeyRefused { .. } | Failure::BalanceExhausted { .. }, .. } = self {
            None
        } else if let Self::Failed { failure, .. } = self {
            failure.message().map(clean_message)
        } else if let Self::Internal { detail } = self {
            Some(clean_message(detail))
        } else {
            None
        }
    }

    /// Returns how a request with this error ended, and whether it cost money.
    fn ending(&self) -> (RequestOutcome, Payment) {
        if let Self::Failed { failure, .. } = self {
            return ending_of(failure);
        }
        if let Self::ResponseTimeout { .. } | Self::Restarting { .. } = self {
            return (RequestOutcome::UnderWay, Payment::UnderWay);
        }
        if let Self::Internal { .. } = self {
            return (RequestOutcome::Unknown, Payment::Unknown);
        }
        let is_ours = self.row().status.is_server_error();
        (if is_ours { RequestOutcome::Failed } else { RequestOutcome::Refused }, Payment::NotBought)
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        let row = self.row();
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(row.retry.header_value()));
        if let Some(pause) = row.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(pause)));
        }
        if row.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"OpenAI API\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::ResponseTimeout { job, purchases } | Self::Restarting { job, purchases } = self {
            name_job(headers, *job, purchases);
        }
        if let Self::BodyTimeout
        | Self::BodyTooSlow { .. }
        | Self::BadTransferEncoding
        | Self::BadHost { .. }
        | Self::TooManyConnections
        | Self::TooManyConnectionsOfAddress
        | Self::PlainHttp = self
        {
            // The rest of the body may still arrive and must not be read as the next request; and a peer that sends an
            // ambiguous head is not trusted with a second one.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::MethodNotAllowed { allow, .. } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
    }

    /// Writes the whole HTTP/1.1 response, for a connection that is closed before a request is read from it.
    pub(in crate::api) fn to_http1(&self) -> Bytes {
        let status = self.row().status;
        let body = serde_json::to_vec(&self.envelope()).expect("strings make JSON");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        // What the outermost layer adds to every other response.
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(CACHE_CONTROL, NO_STORE);
        self.add_headers(&mut headers);
        let mut response = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in &headers {
            response.extend_from_slice(name.as_str().as_bytes());
            response.extend_from_slice(b": ");
            response.extend_from_slice(value.as_bytes());
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"\r\n");
        response.extend_from_slice(&body);
        response.into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.row().status, axum::Json(self.envelope())).into_response();
        response.extensions_mut().insert(self.report());
        self.add_headers(response.headers_mut());
        response
    }
}

/// Returns how a request ended whose job failed, and whether it cost money.
fn ending_of(failure: &Failure) -> (RequestOutcome, Payment) {
    if let Failure::OutcomeUnknown { .. } = failure {
        (RequestOutcome::Unknown, Payment::Unknown)
    } else if failure.may_have_been_bought() {
        (RequestOutcome::Failed, Payment::Possible)
    } else if let Failure::LimitExceeded { .. }
    | Failure::Outpaced { .. }
    | Failure::KeyReused
    | Failure::Abandoned
    | Failure::Moderated { .. } = failure
    {
        // A limit of the client, or what it asked for itself.
        (RequestOutcome::Refused, Payment::NotBought)
    } else {
        (RequestOutcome::Failed, Payment::NotBought)
    }
}
