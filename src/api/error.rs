//! What a client may be told: one closed enum, one exhaustive table from it to the wire.
//!
//! The table follows OpenAI's own errors where they are known. Two rules are the gateway's: every error says by
//! `x-should-retry` whether asking again is worth it, and never that it is where it could pay again ([`Retry`]); and text
//! that others wrote (the client's values, the upstream's messages) is clipped and loses its control characters.
//!
//! `src/api/error/errors.md` shows the table to people; a test holds the two together.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::engine::{SpoolError, WaitError, Waiter};
use crate::model::catalogue::SizeProblem;
use crate::model::{Failure, JobId, Limit, UpstreamId};
use crate::server::hosts::HostError;
use crate::webhooks::WebhookRejection;

mod text;

use text::{foreign, list, megabytes, named, value};

/// What a client may be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    // Who is asking.
    #[error(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth \
         (i.e. Authorization: Bearer YOUR_KEY)."
    )]
    MissingKey,
    // OpenAI repeats the key, masked; here not a letter of it is shown.
    #[error(
        "Incorrect API key provided. Keys for this gateway come from its operator; a key of OpenAI or GPTProto does \
         not work here."
    )]
    WrongKey,

    // How.
    #[error("Invalid Transfer-Encoding header. Only 'chunked' is accepted.")]
    BadTransferEncoding,

    // From where.
    #[error("Invalid request: {problem}.")]
    BadHost { problem: HostError },
    #[error(
        "This gateway does not answer to the host '{}'. If that is a name of this gateway, its operator can list it in \
         server.hosts.",
        value(.host)
    )]
    ForeignHost { host: String },
    #[error(
        "Requests of web pages of the origin '{}' are not allowed. The operator of this gateway can list the origin in \
         server.cors_origins.",
        value(.origin)
    )]
    ForeignOrigin { origin: String },

    // For what.
    #[error("Invalid URL ({} {})", value(.method), value(.path))]
    UnknownRoute { method: String, path: String },
    #[error("Not allowed to {} on {} (HINT: use {allow}).", value(.method), value(.path))]
    MethodNotAllowed { method: String, path: String, allow: &'static str },
    #[error(
        "The variations endpoint is retired. Use POST /v1/images/edits with a prompt such as 'Create a variation of \
         this image'."
    )]
    VariationsRetired,
    /// `GET /v1/models/{id}` of a model that is not there.
    #[error("The model '{}' does not exist", value(.name))]
    UnknownModel { name: String },
    /// A request for pictures by a model that is not there.
    #[error("The model '{}' does not exist. Available models are: {}.", value(.name), list(.known))]
    ModelNotFound { name: String, known: Vec<String> },
    /// The model is there, and not for this client.
    #[error("This API key does not have access to the model '{}'. It may use: {}.", value(.name), list(.allowed))]
    ModelNotAllowed { name: String, allowed: Vec<String> },
    /// The model is there and does not do this.
    #[error("The model '{model}' does not offer {task}.{}", note.as_ref().map(|note| format!(" {note}")).unwrap_or_default())]
    ModelLacksTask { model: String, task: &'static str, note: Option<String> },
    /// The address of a result is unsigned, altered or too old.
    #[error("This address is not valid, or no longer. The same image request, asked again, gives a new one.")]
    ResultAddressInvalid,
    /// The result was there once.
    #[error("This result is not kept any more.")]
    ResultGone,
    /// An input that was never lent here, or is not any more.
    #[error("This address is not valid, or no longer.")]
    InputNotLent,
    /// There is no such prediction, or it is somebody else's: nobody learns which.
    #[error("No prediction of yours has this id.")]
    PredictionNotFound,
    /// `DELETE` of what is, or may be, paid for.
    #[error(
        "The prediction {job} cannot be cancelled: it has been submitted to the image service, which cancels nothing, \
         and is paid for. It goes on, and its result stays available under the same address."
    )]
    PredictionSubmitted { job: JobId },
    /// `DELETE` of what is over.
    #[error(
        "The prediction {job} has ended, so there is nothing to cancel. If it was completed it is paid for, and its \
         result stays available under the same address until it expires."
    )]
    PredictionEnded { job: JobId },

    // The body as a whole.
    #[error(
        "Invalid Content-Type header{}. Expected 'multipart/form-data' with a boundary, or 'application/json'.",
        got.as_ref().map(|got| format!(" ('{}')", value(got))).unwrap_or_default()
    )]
    UnsupportedMediaType { got: Option<String> },
    #[error("Unsupported Content-Encoding '{}'. Send the body as it is ('identity').", value(.got))]
    UnsupportedEncoding { got: String },
    #[error("We could not parse the body of your request: {}.", foreign(.problem))]
    MalformedBody { problem: Cow<'static, str> },
    #[error("The body of your request is too large. At most {} are accepted.", megabytes(*.bytes_max))]
    BodyTooLarge { bytes_max: u64 },
    #[error("The body of your request stopped arriving before it was complete.")]
    BodyStopped,
    #[error("The body of your request arrives too slowly. At least {bytes_per_second} bytes a second are expected.")]
    BodyTooSlow { bytes_per_second: u64 },

    // One parameter.
    #[error("Missing required parameter: '{param}'.")]
    MissingParameter { param: &'static str },
    #[error(
        "Duplicate parameter: '{}'. You provided multiple values for this parameter, whereas only one is allowed.",
        value(.param)
    )]
    DuplicateParameter { param: String },
    #[error("Invalid type for '{}': expected {expected}, but got {got} instead.", value(.param))]
    InvalidType { param: String, expected: &'static str, got: &'static str },
    /// Not one of a closed list of values.
    #[error("Invalid value: '{}'. Supported values are: {}.", value(.got), list(.allowed))]
    InvalidValue { param: String, got: String, allowed: Vec<String> },
    /// Wrong in a way that takes a sentence to say.
    #[error("Invalid '{param}': {problem}.")]
    Unacceptable { param: &'static str, problem: Cow<'static, str> },
    #[error(
        "Invalid '{param}': integer below minimum value. Expected a value >= {min}, but got {} instead.",
        value(.got)
    )]
    BelowMinimum { param: &'static str, min: i64, got: String },
    #[error(
        "Invalid '{param}': integer above maximum value. Expected a value <= {max}, but got {} instead.",
        value(.got)
    )]
    AboveMaximum { param: &'static str, max: i64, got: String },
    #[error("Invalid '{}': string too long. Expected a string with at most {max} {unit}.", value(.param))]
    TextTooLong { param: String, unit: &'static str, max: usize },
    #[error("Invalid 'Idempotency-Key': expected 1 to {max} visible ASCII characters.")]
    BadIdempotencyKey { max: usize },
    #[error("Invalid 'image': too many images. Expected at most {max} images in one request.")]
    TooManyImages { max: usize },
    #[error("{0}")]
    BadSize(SizeProblem),
    #[error("Unsupported parameter: '{}' {problem}.", value(.param))]
    UnsupportedParameter { param: String, problem: Cow<'static, str> },
    /// `input_fidelity: high`, which has a code of its own.
    #[error(
        "The model '{model}' does not support 'input_fidelity' with the value 'high'{hint}; leave it out or send 'low'. For \
         clients that always send it, the operator of this gateway can set server.unsupported_parameters = \"drop\"."
    )]
    UnsupportedInputFidelity { model: String, hint: String },

    // One picture. `param` is `image`, `image[2]` or `mask`.
    #[error(
        "Invalid file '{param}': unsupported mimetype ('{media_type}'). Supported file formats are 'image/jpeg', \
         'image/png', and 'image/webp'."
    )]
    UnsupportedFileType { param: String, media_type: &'static str },
    #[error("Invalid image file '{param}': the file is empty (0 bytes). Please check your image file.")]
    EmptyImage { param: String },
    #[error(
        "Invalid image file or mode for '{param}': its width and height cannot be read. Please check your image file."
    )]
    UndecodableImage { param: String },
    /// By its header: nothing of it was decoded.
    #[error("Invalid image file '{param}': {got}, and this gateway accepts at most {max} {unit} (server.{key}).")]
    ImageBeyondLimit { param: String, got: String, max: u64, unit: &'static str, key: &'static str },
    #[error("Invalid file '{param}': too large. At most {} are accepted.", megabytes(*.bytes_max))]
    ImageTooLarge { param: String, bytes_max: u64 },
    #[error(
        "Invalid '{param}': 'file_id' is not supported by this gateway. Send the picture itself, as a file or a \
         base64 data URL in 'image_url', or its http(s) address."
    )]
    FileIdUnsupported { param: String },

    // Room and time.
    #[error("The gateway has no room for uploads at the moment. Nothing was bought.")]
    SpoolFull,
    #[error("Too many requests are waiting at this gateway. Nothing was bought.")]
    TooManyWaiting { retry_after: Duration },
    #[error(
        "Too many webhooks wait to be told at this gateway. Nothing was bought; leave 'webhook_url' out, or try again later."
    )]
    TooManyWebhooks,
    /// The client's or the gateway's patience ended before the picture came; the purchase goes on.
    #[error(
        "The picture is not ready, and this request could wait no longer. Its purchase goes on as {job}{}: the same \
         request, asked again, joins it and does not pay again.",
        named(.predictions)
    )]
    PatienceExhausted { job: JobId, predictions: Vec<UpstreamId> },

    /// The gateway stops while the purchase is under way.
    #[error(
        "The gateway is being restarted. Its purchase goes on as {job}{}: the same request, asked again, joins it \
         and does not pay again.",
        named(.predictions)
    )]
    Restarting { job: JobId, predictions: Vec<UpstreamId> },

    /// The engine gave up.
    #[error("{}", text::of_failure(.failure, *.job))]
    Failed { failure: Failure, job: Option<JobId> },
    /// Ours. The detail is logged and never shown.
    #[error("The gateway had an error while processing your request.")]
    Internal { detail: String },
}

/// What a client may expect of asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// Nothing was bought, and another time it may work.
    Welcome,
    /// The same request joins the purchase that is under way.
    Joins,
    /// Nothing was bought, and the same request soon gets the same answer.
    Useless,
    /// Something may have been bought, and asking again could buy it again.
    MayPay,
}

impl Retry {
    fn is_invited(self) -> bool {
        match self {
            Self::Welcome | Self::Joins => true,
            Self::Useless | Self::MayPay => false,
        }
    }

    /// `x-should-retry`, which OpenAI's clients obey before they look at the status.
    fn told(self) -> &'static str {
        if self.is_invited() { "true" } else { "false" }
    }
}

/// One row of the table.
#[derive(Debug)]
struct ConnectionHandle<'a> {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    param: Option<&'a str>,
    retry: Retry,
    retry_after: Option<Duration>,
}

impl<'a> ConnectionHandle<'a> {
    fn new(status: StatusCode, kind: &'static str, code: &'static str) -> Self {
        Self { status, kind, code, param: None, retry: Retry::Useless, retry_after: None }
    }

    fn invalid(code: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, code)
    }

    fn param(self, param: &'a str) -> Self {
        Self { param: Some(param), ..self }
    }

    /// Nothing was bought: asking again is welcome.
    fn retry(self) -> Self {
        Self { retry: Retry::Welcome, ..self }
    }

    /// Nothing was bought, and asking again helps nobody, although clients would by the status.
    fn final_answer(self) -> Self {
        Self { retry: Retry::Useless, ..self }
    }

    /// Asking again joins what was begun.
    fn joins(self) -> Self {
        Self { retry: Retry::Joins, ..self }
    }

    /// Asking again could pay again.
    fn may_pay(self) -> Self {
        Self { retry: Retry::MayPay, ..self }
    }

    fn after(self, pause: Duration) -> Self {
        Self { retry_after: Some(pause), ..self }
    }
}

const INVALID: &str = "invalid_request_error";
const USER: &str = "image_generation_user_error";
const GENERATION: &str = "image_generation_server_error";
const SERVER: &str = "server_error";
const UNAVAILABLE: &str = "service_unavailable_error";

/// How long a client should leave a full spool, or a gateway that is being replaced, alone.
const SHORT_PAUSE: Duration = Duration::from_secs(5);

impl ApiError {
    /// `error.code`, also the label of metrics: a closed set.
    pub(super) fn code(&self) -> &'static str {
        self.wire().code
    }

    /// For what went wrong in the gateway itself.
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::Internal { detail: detail.into() }
    }

    /// Why a request that waited got no pictures.
    pub(super) fn of_wait(waiter: &Waiter, error: WaitError) -> Self {
        let job = waiter.job();
        match error {
            WaitError::Failed(failure) => Self::Failed { failure, job: Some(job) },
            WaitError::OutOfPatience { upstream } => Self::PatienceExhausted { job, predictions: upstream },
            WaitError::Closing { upstream } => Self::Restarting { job, predictions: upstream },
        }
    }

    /// Why nobody can be told at an address.
    pub(super) fn of_webhook(refusal: WebhookRejection) -> Self {
        let param = "webhook_url";
        match refusal {
            WebhookRejection::Disabled => Self::UnsupportedParameter {
                param: param.to_owned(),
                problem: "is not enabled at this gateway: its operator allows no address (webhooks.allowed_origins)"
                    .into(),
            },
            WebhookRejection::InvalidUrl(problem) => Self::Unacceptable { param, problem: problem.into() },
            WebhookRejection::OriginNotAllowed { origin } => {
                let origin = value(&origin);
                let problem =
                    format!("the operator of this gateway does not allow '{origin}' (webhooks.allowed_origins)");
                Self::Unacceptable { param, problem: problem.into() }
            }
            WebhookRejection::TooManyPending => Self::TooManyWebhooks,
        }
    }

    /// Whether a client may ask again by itself.
    pub(super) fn invites_retry(&self) -> bool {
        self.wire().retry.is_invited()
    }

    pub(super) fn envelope(&self) -> Envelope<'_> {
        Envelope { error: self.object() }
    }

    /// OpenAI's error object.
    pub(super) fn object(&self) -> Body<'_> {
        let wire = self.wire();
        Body { message: self.to_string(), r#type: wire.kind, param: wire.param, code: wire.code }
    }

    /// Why the picture called `param` could not be spooled.
    pub(super) fn from_spool(error: SpoolError, param: &str) -> Self {
        match error {
            SpoolError::PartTooLarge { bytes_max } => Self::ImageTooLarge { param: param.to_owned(), bytes_max },
            SpoolError::NeverFits { bytes_max } => Self::BodyTooLarge { bytes_max },
            SpoolError::Full { .. } | SpoolError::Exhausted(_) => Self::SpoolFull,
            SpoolError::Io(error) => Self::internal(format!("the spool cannot be used: {error}")),
        }
    }

    fn wire(&self) -> ConnectionHandle<'_> {
        match self {
            Self::MissingKey => ConnectionHandle::new(StatusCode::UNAUTHORIZED, INVALID, "missing_api_key"),
            Self::WrongKey => ConnectionHandle::new(StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key"),

            Self::BadTransferEncoding => ConnectionHandle::invalid("invalid_transfer_encoding"),

            Self::BadHost { .. } => ConnectionHandle::invalid("invalid_host"),
            Self::ForeignHost { .. } => {
                ConnectionHandle::new(StatusCode::MISDIRECTED_REQUEST, INVALID, "host_not_allowed")
            }
            Self::ForeignOrigin { .. } => ConnectionHandle::new(StatusCode::FORBIDDEN, INVALID, "origin_not_allowed"),

            Self::UnknownRoute { .. } => ConnectionHandle::new(StatusCode::NOT_FOUND, INVALID, "unknown_url"),
            Self::MethodNotAllowed { .. } => {
                ConnectionHandle::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_supported")
            }
            Self::VariationsRetired => ConnectionHandle::invalid("endpoint_retired"),
            Self::UnknownModel { .. } | Self::ModelNotFound { .. } => {
                ConnectionHandle::new(StatusCode::NOT_FOUND, INVALID, "model_not_found").param("model")
            }
            // As OpenAI answers a project that has no access to a model.
            Self::ModelNotAllowed { .. } => {
                ConnectionHandle::new(StatusCode::FORBIDDEN, INVALID, "model_not_found").param("model")
            }
            Self::ModelLacksTask { .. } => ConnectionHandle::invalid("unsupported_model").param("model"),
            Self::ResultAddressInvalid => {
                ConnectionHandle::new(StatusCode::FORBIDDEN, INVALID, "invalid_result_address")
            }
            Self::ResultGone => ConnectionHandle::new(StatusCode::NOT_FOUND, INVALID, "result_not_found"),
            Self::InputNotLent => ConnectionHandle::new(StatusCode::NOT_FOUND, INVALID, "input_not_found"),
            Self::PredictionNotFound => ConnectionHandle::new(StatusCode::NOT_FOUND, INVALID, "prediction_not_found"),
            // SDKs ask again after a 409 by themselves, and would hear the same.
            Self::PredictionSubmitted { .. } => {
                ConnectionHandle::new(StatusCode::CONFLICT, INVALID, "prediction_submitted").final_answer()
            }
            Self::PredictionEnded { .. } => {
                ConnectionHandle::new(StatusCode::CONFLICT, INVALID, "prediction_ended").final_answer()
            }

            Self::UnsupportedMediaType { .. } => ConnectionHandle::invalid("unsupported_content_type"),
            Self::UnsupportedEncoding { .. } => {
                ConnectionHandle::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_content_encoding")
            }
            Self::MalformedBody { .. } => ConnectionHandle::invalid("malformed_body"),
            Self::BodyTooLarge { .. } => {
                ConnectionHandle::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large")
            }
            Self::BodyStopped => {
                ConnectionHandle::new(StatusCode::REQUEST_TIMEOUT, INVALID, "body_timeout").final_answer()
            }
            Self::BodyTooSlow { .. } => {
                ConnectionHandle::new(StatusCode::REQUEST_TIMEOUT, INVALID, "body_too_slow").final_answer()
            }

            Self::MissingParameter { param } => ConnectionHandle::invalid("missing_required_parameter").param(param),
            Self::DuplicateParameter { param } => ConnectionHandle::invalid("duplicate_parameter").param(param),
            Self::InvalidType { param, .. } => ConnectionHandle::invalid("invalid_type").param(param),
            Self::InvalidValue { param, .. } => ConnectionHandle::invalid("invalid_value").param(param),
            Self::Unacceptable { param, .. } => ConnectionHandle::invalid("invalid_value").param(param),
            Self::BelowMinimum { param, .. } => ConnectionHandle::invalid("integer_below_min_value").param(param),
            Self::AboveMaximum { param, .. } => ConnectionHandle::invalid("integer_above_max_value").param(param),
            Self::TextTooLong { param, .. } => ConnectionHandle::invalid("string_above_max_length").param(param),
            Self::BadIdempotencyKey { .. } => {
                ConnectionHandle::invalid("invalid_idempotency_key").param("Idempotency-Key")
            }
            Self::TooManyImages { .. } => ConnectionHandle::invalid("array_above_max_length").param("image"),
            Self::BadSize(_) => ConnectionHandle::new(StatusCode::BAD_REQUEST, USER, "invalid_value").param("size"),
            Self::UnsupportedParameter { param, .. } => ConnectionHandle::invalid("unsupported_parameter").param(param),
            Self::UnsupportedInputFidelity { .. } => {
                ConnectionHandle::new(StatusCode::BAD_REQUEST, USER, "invalid_input_fidelity_model")
                    .param("input_fidelity")
            }

            Self::UnsupportedFileType { param, .. } => {
                ConnectionHandle::invalid("unsupported_file_mimetype").param(param)
            }
            Self::EmptyImage { param } => {
                ConnectionHandle::new(StatusCode::BAD_REQUEST, USER, "invalid_image_file").param(param)
            }
            Self::UndecodableImage { param } => {
                ConnectionHandle::new(StatusCode::BAD_REQUEST, USER, "invalid_image_file").param(param)
            }
            Self::ImageTooLarge { param, .. } | Self::ImageBeyondLimit { param, .. } => {
                ConnectionHandle::invalid("image_too_large").param(param)
            }
            Self::FileIdUnsupported { param } => ConnectionHandle::invalid("unsupported_file_id").param(param),

            Self::SpoolFull => unavailable("upload_space_full").retry().after(SHORT_PAUSE),
            Self::TooManyWaiting { retry_after } => unavailable("too_many_waiting").retry().after(*retry_after),
            Self::TooManyWebhooks => unavailable("too_many_webhooks").retry().after(SHORT_PAUSE),
            // The same request joins the purchase that is under way: this retry pays nothing.
            Self::PatienceExhausted { .. } => {
                ConnectionHandle::new(StatusCode::GATEWAY_TIMEOUT, SERVER, "prediction_still_running").joins()
            }
            Self::Restarting { .. } => unavailable("restarting").joins().after(SHORT_PAUSE),

            Self::Failed { failure, .. } => of_failure(failure),
            // Whether something was bought before it broke is not known here.
            Self::Internal { .. } => {
                ConnectionHandle::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal_error").may_pay()
            }
        }
    }
}

fn of_failure(failure: &Failure) -> ConnectionHandle<'static> {
    let row = match failure {
        Failure::Moderated { .. } => ConnectionHandle::new(StatusCode::BAD_REQUEST, USER, "moderation_blocked"),
        Failure::InvalidRequest { .. } => {
            ConnectionHandle::new(StatusCode::BAD_REQUEST, USER, "upstream_refused_request")
        }
        // Not 401: the client's own key is fine.
        Failure::KeyRefused { .. } => {
            ConnectionHandle::new(StatusCode::BAD_GATEWAY, SERVER, "upstream_key_refused").final_answer()
        }
        Failure::BalanceExhausted { .. } => {
            ConnectionHandle::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", "insufficient_quota")
                .final_answer()
        }
        Failure::ModelUnavailable { .. } => unavailable("model_unavailable").retry().after(SHORT_PAUSE),
        Failure::TaskFailed { .. } => {
            ConnectionHandle::new(StatusCode::BAD_GATEWAY, GENERATION, "image_generation_failed")
        }
        Failure::ResultLost { .. } => ConnectionHandle::new(StatusCode::BAD_GATEWAY, GENERATION, "result_lost"),
        Failure::OutcomeUnknown { .. } => {
            ConnectionHandle::new(StatusCode::BAD_GATEWAY, SERVER, "submission_outcome_unknown")
        }
        Failure::DeadlineExceeded => ConnectionHandle::new(StatusCode::GATEWAY_TIMEOUT, SERVER, "upstream_timeout"),
        Failure::Unreachable { .. } => {
            ConnectionHandle::new(StatusCode::BAD_GATEWAY, SERVER, "upstream_unreachable").retry()
        }
        Failure::Throttled { retry_after } | Failure::Outpaced { retry_after } => {
            rate_limited().retry().after(*retry_after)
        }
        Failure::QueueFull { retry_after } | Failure::Overloaded { retry_after } => {
            unavailable("server_is_overloaded").retry().after(*retry_after)
        }
        Failure::LimitExceeded { limit, retry_after } => match limit {
            Limit::RequestsPerMinute | Limit::RequestsAtOnce | Limit::PredictionsAtOnce => {
                rate_limited().retry().after(*retry_after)
            }
            // As OpenAI words a quota that is used up: asking again soon helps nobody.
            Limit::PicturesPerDay | Limit::UsdPerDay | Limit::UsdPerMonth => {
                ConnectionHandle::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", "insufficient_quota")
                    .final_answer()
                    .after(*retry_after)
            }
        },
        Failure::JournalUnavailable => unavailable("journal_unavailable").retry().after(SHORT_PAUSE),
        Failure::DiskFull => unavailable("disk_full").retry().after(SHORT_PAUSE),
        Failure::KeyReused => {
            ConnectionHandle::new(StatusCode::UNPROCESSABLE_ENTITY, INVALID, "idempotency_key_reused").final_answer()
        }
        Failure::Stopping => unavailable("stopping").retry().after(SHORT_PAUSE),
        Failure::Abandoned => unavailable("abandoned").retry(),
    };
    if failure.may_have_been_bought() { row.may_pay() } else { row }
}

fn rate_limited() -> ConnectionHandle<'static> {
    ConnectionHandle::new(StatusCode::TOO_MANY_REQUESTS, "requests", "rate_limit_exceeded")
}

fn unavailable(code: &'static str) -> ConnectionHandle<'static> {
    ConnectionHandle::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, code)
}

/// OpenAI's envelope; all four keys are always there.
#[derive(Debug, Serialize)]
pub(super) struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Debug, Serialize)]
pub(super) struct Body<'a> {
    message: String,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

/// What an error answer says, for the request's one log line and its metric.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) code: &'static str,
    /// The whole text of a server error; a client's own mistakes are told to the client alone.
    pub(super) detail: Option<String>,
}

const PREDICTION: HeaderName = HeaderName::from_static("x-gateway-prediction");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let wire = self.wire();
        let told = Told {
            code: self.code(),
            detail: wire
                .status
                .is_server_error()
                .then(|| if let Self::Internal { detail } = &self { detail.clone() } else { self.to_string() }),
        };
        let mut response = (wire.status, axum::Json(self.envelope())).into_response();
        response.extensions_mut().insert(told);
        let headers = response.headers_mut();
        headers.insert(SHOULD_RETRY, HeaderValue::from_static(wire.retry.told()));
        if let Some(pause) = wire.retry_after {
            // Rounded up: a client that waits exactly this long must be let in.
            let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if wire.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"OpenAI API\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Self::PatienceExhausted { predictions, .. } | Self::Restarting { predictions, .. } = &self {
            name_predictions(headers, predictions);
        }
        if let Self::BodyStopped | Self::BodyTooSlow { .. } | Self::BadTransferEncoding | Self::BadHost { .. } = &self {
            // What is left of the body may still come, and must not be taken for the next request; and who is not clear about
            // one thing is not believed about another.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Self::MethodNotAllowed { allow, .. } = &self {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// Puts the upstream's names for the predictions of an order into `x-gateway-prediction`.
pub(super) fn name_predictions(headers: &mut HeaderMap, predictions: &[UpstreamId]) {
    let names = predictions.iter().map(UpstreamId::as_str).collect::<Vec<_>>().join(",");
    if let Ok(names) = HeaderValue::from_str(&names)
        && !names.is_empty()
    {
        headers.insert(PREDICTION, names);
    }
}

#[cfg(test)]
mod tests;
