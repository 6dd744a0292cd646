//! The table: status, type, code and retry advice of every error.

use std::time::Duration;

use axum::http::StatusCode;

use super::ApiError;
use crate::model::{Failure, Limit};

/// Whether a client should send the same request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// Nothing was bought, and a retry may succeed.
    Safe,
    /// The same request joins the purchase that is under way.
    JoinsJob,
    /// Nothing was bought, and the same request soon gets the same error.
    Pointless,
    /// Something may have been bought, and a retry could buy it again.
    MayPayAgain,
}

impl Retry {
    pub(super) fn is_invited(self) -> bool {
        match self {
            Self::Safe | Self::JoinsJob => true,
            Self::Pointless | Self::MayPayAgain => false,
        }
    }

    /// Returns the value of `x-should-retry`.
    pub(super) fn header_value(self) -> &'static str {
        if self.is_invited() { "true" } else { "false" }
    }
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct ErrorRow<'a> {
    pub(super) status: StatusCode,
    /// `error.type`.
    pub(super) error_type: &'static str,
    /// `error.code`.
    pub(super) code: &'static str,
    /// `error.param`.
    pub(super) param: Option<&'a str>,
    pub(super) retry: Retry,
    pub(super) retry_after: Option<Duration>,
}

impl<'a> ErrorRow<'a> {
    fn new(status: StatusCode, error_type: &'static str, code: &'static str) -> Self {
        Self { status, error_type, code, param: None, retry: Retry::Pointless, retry_after: None }
    }

    fn invalid(code: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, code)
    }

    fn param(self, param: &'a str) -> Self {
        Self { param: Some(param), ..self }
    }

    /// Nothing was bought, and a retry may succeed.
    fn retry(self) -> Self {
        Self { retry: Retry::Safe, ..self }
    }

    /// Nothing was bought, and a retry is pointless although clients would retry by the status.
    fn no_retry(self) -> Self {
        Self { retry: Retry::Pointless, ..self }
    }

    /// A retry joins the job.
    fn joins_job(self) -> Self {
        Self { retry: Retry::JoinsJob, ..self }
    }

    /// A retry could pay again.
    fn may_pay_again(self) -> Self {
        Self { retry: Retry::MayPayAgain, ..self }
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

/// When a client may retry after a lack of space or connections, or after a restart.
pub(super) const SHORT_PAUSE: Duration = Duration::from_secs(5);

impl ApiError {
    /// Returns `error.code`, which is also the label of metrics: a closed set.
    pub(in crate::api) fn code(&self) -> &'static str {
        self.row().code
    }

    /// Whether a client may retry without a decision of its user.
    pub(in crate::api) fn invites_retry(&self) -> bool {
        self.row().retry.is_invited()
    }

    /// Returns the row of this error.
    pub(super) fn row(&self) -> ErrorRow<'_> {
        match self {
            Self::TooManyConnections => unavailable("too_many_connections").retry().after(SHORT_PAUSE),
            Self::TooManyConnectionsOfAddress => {
                unavailable("too_many_connections_of_address").retry().after(SHORT_PAUSE)
            }
            Self::PlainHttp => ErrorRow::invalid("https_required"),

            Self::MissingKey | Self::EmptyKey { .. } => {
                ErrorRow::new(StatusCode::UNAUTHORIZED, INVALID, "missing_api_key")
            }
            Self::WrongKey | Self::MalformedKey { .. } => {
                ErrorRow::new(StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key")
            }

            Self::BadTransferEncoding => ErrorRow::invalid("invalid_transfer_encoding"),

            Self::DuplicateHeader { name } => ErrorRow::invalid("duplicate_header").param(name),
            Self::BadHost { .. } => ErrorRow::invalid("invalid_host"),
            Self::ForeignHost { .. } => ErrorRow::new(StatusCode::MISDIRECTED_REQUEST, INVALID, "host_not_allowed"),
            Self::ForeignOrigin { .. } => ErrorRow::new(StatusCode::FORBIDDEN, INVALID, "origin_not_allowed"),

            Self::UnknownRoute { .. } => ErrorRow::new(StatusCode::NOT_FOUND, INVALID, "unknown_url"),
            Self::MethodNotAllowed { .. } => {
                ErrorRow::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_supported")
            }
            Self::VariationsRetired => ErrorRow::invalid("endpoint_retired"),
            Self::ResponsesUnsupported => ErrorRow::new(StatusCode::NOT_FOUND, INVALID, "endpoint_not_supported"),
            Self::UnknownModel { .. } | Self::ModelNotFound { .. } => {
                ErrorRow::new(StatusCode::NOT_FOUND, INVALID, "model_not_found").param("model")
            }
            // OpenAI's code for a project that has no access to a model.
            Self::ModelNotAllowed { .. } => {
                ErrorRow::new(StatusCode::FORBIDDEN, INVALID, "model_not_found").param("model")
            }
            Self::ModelLacksTask { .. } => ErrorRow::invalid("unsupported_model").param("model"),
            Self::ResultAddressInvalid => ErrorRow::new(StatusCode::FORBIDDEN, INVALID, "invalid_result_address"),
            Self::ResultGone => ErrorRow::new(StatusCode::NOT_FOUND, INVALID, "result_not_found"),
            Self::NoThumbnail { .. } => {
                ErrorRow::new(StatusCode::UNPROCESSABLE_ENTITY, INVALID, "thumbnail_unavailable").param("width")
            }
            Self::InputNotPublished => ErrorRow::new(StatusCode::NOT_FOUND, INVALID, "input_not_found"),
            Self::PredictionNotFound => ErrorRow::new(StatusCode::NOT_FOUND, INVALID, "prediction_not_found"),
            // SDKs retry a 409 by themselves, and would get the same error.
            Self::PredictionSubmitted { .. } => {
                ErrorRow::new(StatusCode::CONFLICT, INVALID, "prediction_submitted").no_retry()
            }
            Self::PredictionInUse { .. } => {
                ErrorRow::new(StatusCode::CONFLICT, INVALID, "prediction_in_use").no_retry()
            }

            Self::UnsupportedMediaType { .. } => ErrorRow::invalid("unsupported_content_type"),
            Self::UnsupportedEncoding { .. } => {
                ErrorRow::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, "unsupported_content_encoding")
            }
            Self::MalformedBody { .. } => ErrorRow::invalid("malformed_body"),
            Self::BodyTooLarge { .. } => ErrorRow::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large"),
            Self::BodyTimeout => ErrorRow::new(StatusCode::REQUEST_TIMEOUT, INVALID, "body_timeout").no_retry(),
            Self::BodyTooSlow { .. } => ErrorRow::new(StatusCode::REQUEST_TIMEOUT, INVALID, "body_too_slow").no_retry(),

            Self::MissingMessages => ErrorRow::invalid("missing_required_parameter").param("messages"),
            Self::MissingImage { .. } => ErrorRow::invalid("missing_required_parameter").param("image"),
            Self::MissingParameter { param } => ErrorRow::invalid("missing_required_parameter").param(param),
            Self::DuplicateParameter { param } => ErrorRow::invalid("duplicate_parameter").param(param),
            Self::InvalidType { param, .. } => ErrorRow::invalid("invalid_type").param(param),
            Self::InvalidValue { param, .. } => ErrorRow::invalid("invalid_value").param(param),
            Self::Unacceptable { param, .. } => ErrorRow::invalid("invalid_value").param(param),
            Self::BelowMinimum { param, .. } => ErrorRow::invalid("integer_below_min_value").param(param),
            Self::AboveMaximum { param, .. } => ErrorRow::invalid("integer_above_max_value").param(param),
            Self::TextTooLong { param, .. } => ErrorRow::invalid("string_above_max_length").param(param),
            Self::BadIdempotencyKey { .. } => ErrorRow::invalid("invalid_idempotency_key").param("Idempotency-Key"),
            Self::TooManyImages { .. } => ErrorRow::invalid("array_above_max_length").param("image"),
            Self::BadSize(_) => ErrorRow::new(StatusCode::BAD_REQUEST, USER, "invalid_value").param("size"),
            Self::UnsupportedParameter { param, .. } => ErrorRow::invalid("unsupported_parameter").param(param),
            Self::TextRequested { param, .. } => ErrorRow::invalid("text_not_supported").param(param),
            Self::UnsupportedInputFidelity { .. } => {
                ErrorRow::new(StatusCode::BAD_REQUEST, USER, "invalid_input_fidelity_model").param("input_fidelity")
            }

            Self::UnsupportedFileType { param, .. } => ErrorRow::invalid("unsupported_file_mimetype").param(param),
            Self::EmptyImage { param } | Self::DamagedImage { param, .. } => {
                ErrorRow::new(StatusCode::BAD_REQUEST, USER, "invalid_image_file").param(param)
            }
            Self::ImageTooLarge { param, .. } | Self::ImageBeyondLimit { param, .. } => {
                ErrorRow::invalid("image_too_large").param(param)
            }
            Self::BadPictureAddress { param, .. } => ErrorRow::invalid("invalid_image_url").param(param),
            Self::FileIdUnsupported { param } => ErrorRow::invalid("unsupported_file_id").param(param),

            Self::SpoolFull => unavailable("upload_space_full").retry().after(SHORT_PAUSE),
            Self::TooManyWaiting { retry_after } => unavailable("too_many_waiting").retry().after(*retry_after),
            Self::TooManyConversions => unavailable("too_many_conversions").retry().after(SHORT_PAUSE),
            Self::TooManyWebhooks => unavailable("too_many_webhooks").retry().after(SHORT_PAUSE),
            // A retry joins the purchase that is under way and pays nothing.
            Self::ResponseTimeout { .. } => {
                ErrorRow::new(StatusCode::GATEWAY_TIMEOUT, SERVER, "prediction_still_running").joins_job()
            }
            Self::Restarting { .. } => unavailable("restarting").joins_job().after(SHORT_PAUSE),

            Self::Failed { failure, .. } => of_failure(failure),
            // Whether something was bought before it broke is not known here.
            Self::Internal { .. } => {
                ErrorRow::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal_error").may_pay_again()
            }
        }
    }
}

fn of_failure(failure: &Failure) -> ErrorRow<'static> {
    let row = match failure {
        Failure::Moderated { .. } => ErrorRow::new(StatusCode::BAD_REQUEST, USER, "moderation_blocked"),
        Failure::InvalidRequest { .. } => ErrorRow::new(StatusCode::BAD_REQUEST, USER, "upstream_refused_request"),
        // Not 401: the client's own key is valid.
        Failure::KeyRefused { .. } => ErrorRow::new(StatusCode::BAD_GATEWAY, SERVER, "upstream_key_refused").no_retry(),
        Failure::BalanceExhausted { .. } => {
            ErrorRow::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", "insufficient_quota").no_retry()
        }
        Failure::ModelUnavailable { .. } => unavailable("model_unavailable").retry().after(SHORT_PAUSE),
        Failure::ModelNotPermitted { .. } => {
            ErrorRow::new(StatusCode::NOT_FOUND, INVALID, "model_not_found").param("model")
        }
        Failure::EdgeRefused { .. } => {
            ErrorRow::new(StatusCode::BAD_GATEWAY, SERVER, "upstream_edge_refused").no_retry()
        }
        Failure::LinkNotFetched { .. } => ErrorRow::new(StatusCode::BAD_REQUEST, USER, "image_not_fetched"),
        Failure::TaskFailed { .. } => ErrorRow::new(StatusCode::BAD_GATEWAY, GENERATION, "image_generation_failed"),
        Failure::ResultLost { .. } => ErrorRow::new(StatusCode::BAD_GATEWAY, GENERATION, "result_lost"),
        Failure::OutcomeUnknown { .. } => ErrorRow::new(StatusCode::BAD_GATEWAY, SERVER, "submission_outcome_unknown"),
        Failure::DeadlineExceeded => ErrorRow::new(StatusCode::GATEWAY_TIMEOUT, SERVER, "upstream_timeout"),
        Failure::Unreachable { .. } => ErrorRow::new(StatusCode::BAD_GATEWAY, SERVER, "upstream_unreachable").retry(),
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
            // OpenAI's code for a quota that is used up: a retry soon is pointless.
            Limit::PicturesPerDay | Limit::UsdPerDay | Limit::UsdPerMonth => {
                ErrorRow::new(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", "insufficient_quota")
                    .no_retry()
                    .after(*retry_after)
            }
        },
        Failure::JournalUnavailable => unavailable("journal_unavailable").retry().after(SHORT_PAUSE),
        Failure::DiskFull => unavailable("disk_full").retry().after(SHORT_PAUSE),
        Failure::KeyReused => {
            ErrorRow::new(StatusCode::UNPROCESSABLE_ENTITY, INVALID, "idempotency_key_reused").no_retry()
        }
        Failure::Stopping => unavailable("stopping").retry().after(SHORT_PAUSE),
        Failure::Abandoned => unavailable("abandoned").retry(),
    };
    if failure.may_have_been_bought() { row.may_pay_again() } else { row }
}

fn rate_limited() -> ErrorRow<'static> {
    ErrorRow::new(StatusCode::TOO_MANY_REQUESTS, "requests", "rate_limit_exceeded")
}

fn unavailable(code: &'static str) -> ErrorRow<'static> {
    ErrorRow::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, code)
}
