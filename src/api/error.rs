//! Every error a client can get: one closed enum, and one exhaustive table from it to the wire.
//!
//! The table follows OpenAI's own errors where they are known. Two rules are the gateway's: every error says by
//! `x-should-retry` whether a retry is useful, and never invites one that could pay again ([`table::Retry`]); and foreign
//! text (the client's values, the upstream's messages) is clipped and cleaned of control characters (`messages.rs`, the only
//! place for that rule).
//!
//! `error.rs` holds the errors with their messages, `table.rs` the status and code of each, `response.rs` the JSON and the
//! headers. `errors.md` shows the table to people; a test holds the two together.

use std::borrow::Cow;
use std::time::Duration;

use crate::engine::{WaitError, Waiter};
use crate::model::catalogue::SizeProblem;
use crate::model::{Failure, JobId, UpstreamId};
use crate::server::hosts::HostError;
use crate::storage::spool::SpoolError;
use crate::webhooks::WebhookRejection;

pub(super) mod messages;
pub(super) mod response;
mod table;
mod unattended;

use messages::{clean_message, clean_value, did_you_mean, list, megabytes, seconds};
use table::SHORT_PAUSE;
pub(crate) use unattended::record_unattended;

/// An error of the client API.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    // The connection.
    #[error(
        "This gateway has reached its limit of connections. Nothing was bought; retry after {}.",
        seconds(SHORT_PAUSE)
    )]
    TooManyConnections,
    #[error(
        "Your address has reached its limit of connections at this gateway. Nothing was bought; retry after {}.",
        seconds(SHORT_PAUSE)
    )]
    TooManyConnectionsOfAddress,
    #[error(
        "This port speaks HTTPS, and your request is plain HTTP. Nothing was bought; use an address that begins with \
         https://."
    )]
    PlainHttp,

    // The key.
    #[error(
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth \
         (i.e. Authorization: Bearer YOUR_KEY)."
    )]
    MissingKey,
    #[error(
        "You didn't provide an API key: the {header} header is empty behind its name or the word Bearer. A variable of \
         your client's configuration is probably not set."
    )]
    EmptyKey { header: &'static str },
    /// What of the header is wrong. It contains nothing of the key.
    #[error(
        "Incorrect API key provided: {problem}. Send your key for this gateway as 'Authorization: Bearer YOUR_KEY'."
    )]
    MalformedKey { problem: &'static str },
    // OpenAI repeats the key, masked; the gateway shows no letter of it.
    #[error(
        "Incorrect API key provided. Keys for this gateway come from its operator; a key of OpenAI or GPTProto does \
         not work here."
    )]
    WrongKey,

    // The head.
    #[error("Invalid Transfer-Encoding header. Only 'chunked' is accepted.")]
    BadTransferEncoding,
    #[error(
        "Duplicate header: '{name}'. Your request has more than one, whereas only one is allowed; nothing was bought."
    )]
    DuplicateHeader { name: &'static str },
    #[error("Invalid request: {problem}.")]
    BadHost { problem: HostError },
    #[error(
        "This gateway does not accept the host '{}'. If it is a name of this gateway, its operator can list it in \
         server.hosts.",
        clean_value(.host)
    )]
    ForeignHost { host: String },
    #[error(
        "Requests from web pages of the origin '{}' are not allowed. The operator of this gateway can list the origin in \
         server.cors_origins.",
        clean_value(.origin)
    )]
    ForeignOrigin { origin: String },

    // The resource.
    /// The hint is a sentence: the route that was probably meant, or why there is none.
    #[error("Invalid URL ({} {}). {hint}", clean_value(.method), clean_value(.path))]
    UnknownRoute { method: String, path: String, hint: Cow<'static, str> },
    #[error("Not allowed to {} on {} (HINT: use {allow}).", clean_value(.method), clean_value(.path))]
    MethodNotAllowed { method: String, path: String, allow: &'static str },
    #[error(
        "The variations endpoint is retired. Use POST /v1/images/edits with a prompt such as 'Create a variation of \
         this image'."
    )]
    VariationsRetired,
    #[error(
        "The Responses API is not offered by this gateway. Use POST /v1/chat/completions for pictures in a conversation, or \
         POST /v1/images/generations and /v1/images/edits."
    )]
    ResponsesUnsupported,
    /// `GET /v1/models/{id}` of an unknown model.
    #[error("The model '{}' does not exist{}", clean_value(.name), did_you_mean(". ", .nearest.as_deref(), ""))]
    UnknownModel { name: String, nearest: Option<String> },
    /// A request for pictures by an unknown model.
    #[error(
        "The model '{}' does not exist. {}Available models are: {}.",
        clean_value(.name),
        did_you_mean("", .nearest.as_deref(), " "),
        list(.known)
    )]
    ModelNotFound { name: String, nearest: Option<String>, known: Vec<String> },
    /// A model that this client may not use.
    #[error("This API key does not have access to the model '{}'. It may use: {}.", clean_value(.name), list(.allowed))]
    ModelNotAllowed { name: String, allowed: Vec<String> },
    /// A model that does not do this task.
    #[error("The model '{model}' does not offer {task}.{}", note.as_ref().map(|note| format!(" {note}")).unwrap_or_default())]
    ModelLacksTask { model: String, task: &'static str, note: Option<String> },
    /// The address of a result is unsigned, altered or expired.
    #[error("This address is invalid or has expired. The same image request returns a new one.")]
    ResultAddressInvalid,
    /// The result was stored once.
    #[error("This result is no longer stored.")]
    ResultGone,
    /// A stored picture that cannot be scaled.
    #[error(
        "No thumbnail can be made of this picture: {}. The address without 'width' returns the picture itself.",
        clean_message(.problem)
    )]
    NoThumbnail { problem: Cow<'static, str> },
    /// The token of an input URL is unknown, or no longer published.
    #[error("This address is invalid or has expired.")]
    InputNotPublished,
    /// The id is unknown, or belongs to another client: the two look the same.
    #[error("You have no prediction with this id.")]
    PredictionNotFound,
    /// `DELETE` of a job that is, or may be, paid for.
    #[error(
        "The prediction {job} cannot be cancelled, because it has been submitted to the image service and is paid for. \
         It goes on, and its result stays available at the same address."
    )]
    PredictionSubmitted { job: JobId },
    /// `DELETE` of a job whose result is being received.
    #[error(
        "The prediction {job} cannot be deleted while a request receives its result, and nothing was changed. Delete it \
         again when that request has ended."
    )]
    PredictionInUse { job: JobId },

    // The body.
    #[error(
        "Invalid Content-Type header{}. Expected 'multipart/form-data' with a boundary, or 'application/json'.",
        got.as_ref().map(|got| format!(" ('{}')", clean_value(got))).unwrap_or_default()
    )]
    UnsupportedMediaType { got: Option<String> },
    #[error(
        "Unsupported Content-Encoding '{}'. Send the body compressed once, by 'gzip', 'deflate' or 'zstd', or as it is \
         ('identity').",
        clean_value(.got)
    )]
    UnsupportedEncoding { got: String },
    #[error("We could not parse the body of your request: {}.", clean_message(.problem))]
    MalformedBody { problem: Cow<'static, str> },
    #[error("The body of your request is too large. At most {} are accepted.", megabytes(*.bytes_max))]
    BodyTooLarge { bytes_max: u64 },
    #[error("The body of your request stopped arriving before it was complete. Nothing was bought.")]
    BodyTimeout,
    #[error(
        "The body of your request arrives too slowly: at least {bytes_per_second} bytes per second are required. Nothing \
         was bought."
    )]
    BodyTooSlow { bytes_per_second: u64 },

    // One parameter.
    #[error("Missing required parameter: '{param}'.")]
    MissingParameter { param: &'static str },
    /// An edit without a picture under a known name.
    #[error("Missing required parameter: 'image'.{}", messages::only_fields(.fields))]
    MissingImage { fields: Vec<String> },
    /// A chat completion without a conversation.
    #[error(
        "Missing required parameter: 'messages'. Without a conversation, use POST /v1/images/generations, or POST \
         /v1/images/edits with pictures."
    )]
    MissingMessages,
    #[error(
        "Duplicate parameter: '{}'. You provided multiple values for this parameter, whereas only one is allowed.",
        clean_value(.param)
    )]
    DuplicateParameter { param: String },
    #[error("Invalid type for '{}': expected {expected}, but got {got} instead.", clean_value(.param))]
    InvalidType { param: String, expected: &'static str, got: &'static str },
    /// Not one of a closed list of values.
    #[error("Invalid value: '{}'. Supported values are: {}.", clean_value(.got), list(.allowed))]
    InvalidValue { param: String, got: String, allowed: Vec<String> },
    /// Invalid for a reason that takes a sentence.
    #[error("Invalid '{param}': {}.", clean_message(.problem))]
    Unacceptable { param: &'static str, problem: Cow<'static, str> },
    #[error(
        "Invalid '{param}': integer below minimum value. Expected a value >= {min}, but got {} instead.",
        clean_value(.got)
    )]
    BelowMinimum { param: &'static str, min: i64, got: String },
    #[error(
        "Invalid '{param}': integer above maximum value. Expected a value <= {max}, but got {} instead.",
        clean_value(.got)
    )]
    AboveMaximum { param: &'static str, max: i64, got: String },
    #[error("Invalid '{}': string too long. Expected a string with at most {max} {unit}.", clean_value(.param))]
    TextTooLong { param: String, unit: &'static str, max: usize },
    #[error("Invalid 'Idempotency-Key': expected 1 to {max} visible ASCII characters.")]
    BadIdempotencyKey { max: usize },
    #[error("Invalid 'image': too many images. Expected at most {max} images in one request.")]
    TooManyImages { max: usize },
    #[error("{0}")]
    BadSize(SizeProblem),
    #[error("Unsupported parameter: '{}' {problem}.", clean_value(.param))]
    UnsupportedParameter { param: String, problem: Cow<'static, str> },
    /// A chat program asks for a text about the conversation, of which its user may not know.
    #[error(
        "This request asks for {asked}, and the models of this gateway make pictures. Nothing was bought; let a model for \
         text do such tasks, or turn them off in your program."
    )]
    TextRequested { param: &'static str, asked: &'static str },
    /// `input_fidelity: high`, which has a code of its own.
    #[error(
        "The model '{model}' does not support 'input_fidelity' with the value 'high'{hint}; leave it out or send 'low'. For \
         clients that always send it, the operator of this gateway can set server.unsupported_parameters = \"drop\"."
    )]
    UnsupportedInputFidelity { model: String, hint: String },

    // One picture. `param` is `image`, `image[2]` or `mask`.
    /// `note`: what the file is and what to do; without one the text is OpenAI's.
    #[error(
        "Invalid file '{param}': unsupported mimetype ('{media_type}'){}. Supported file formats are 'image/jpeg', \
         'image/png', and 'image/webp'.", .note.as_ref().map(|note| format!(", because it is {note}")).unwrap_or_default()
    )]
    UnsupportedFileType { param: String, media_type: &'static str, note: Option<Cow<'static, str>> },
    #[error("Invalid image file '{param}': the file is empty (0 bytes). Please check your image file.")]
    EmptyImage { param: String },
    /// By its structure: nothing of it was decoded.
    #[error(
        "Invalid image file or mode for '{param}': {problem}. Nothing was bought; check the file and send it again."
    )]
    DamagedImage { param: String, problem: String },
    /// By its header: nothing of it was decoded.
    #[error("Invalid image file '{param}': {got}, and this gateway accepts at most {max} {unit} (server.{key}).")]
    ImageBeyondLimit { param: String, got: String, max: u64, unit: &'static str, key: &'static str },
    #[error("Invalid file '{param}': too large. At most {} are accepted.", megabytes(*.bytes_max))]
    ImageTooLarge { param: String, bytes_max: u64 },
    /// The problem is a clause, and contains nothing of the address but its host.
    #[error(
        "Invalid '{param}': {}. Nothing was bought; send the picture itself, as a file or a base64 data URL.",
        clean_message(.problem)
    )]
    BadPictureAddress { param: String, problem: String },
    #[error(
        "Invalid '{param}': 'file_id' is not supported by this gateway. Send the picture itself, as a file or a \
         base64 data URL in 'image_url', or its http(s) address."
    )]
    FileIdUnsupported { param: String },

    // Space and time.
    #[error(
        "The gateway has no room for uploads at the moment. Nothing was bought; retry after {}.",
        seconds(SHORT_PAUSE)
    )]
    SpoolFull,
    #[error("Too many requests are waiting at this gateway. Nothing was bought; retry after {}.", seconds(*.retry_after))]
    TooManyWaiting { retry_after: Duration },
    #[error(
        "The gateway is busy decoding the pictures of other requests. Nothing was bought; retry after {}.",
        seconds(SHORT_PAUSE)
    )]
    TooManyConversions,
    #[error(
        "Too many webhooks are pending at this gateway. Nothing was bought; leave out 'webhook_url', or retry after {}.",
        seconds(SHORT_PAUSE)
    )]
    TooManyWebhooks,
    /// The response deadline passed before the pictures came; the purchase goes on.
    #[error(
        "The picture was not ready within the time limit of this request. Its purchase goes on as {job}: the same \
         request, sent again, joins it and does not pay again."
    )]
    ResponseTimeout { job: JobId, purchases: Vec<UpstreamId> },
    /// The gateway stops while the purchase is under way.
    #[error(
        "The gateway is being restarted. The purchase goes on as {job}: the same request, sent again, joins it and does \
         not pay again."
    )]
    Restarting { job: JobId, purchases: Vec<UpstreamId> },

    /// The job brought no picture.
    #[error("{}", messages::of_failure(.failure, *.job))]
    Failed { failure: Failure, job: Option<JobId> },
    /// A fault of the gateway. The detail is logged and never shown.
    #[error("The gateway had an error while processing your request. It may have cost money.")]
    Internal { detail: String },
}

impl ApiError {
    /// Returns the error for a fault of the gateway itself.
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::Internal { detail: detail.into() }
    }

    /// Whether the error is about an input picture itself, which a conversion may mend.
    pub(super) fn is_about_picture(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedFileType { .. }
                | Self::EmptyImage { .. }
                | Self::DamagedImage { .. }
                | Self::ImageTooLarge { .. }
                | Self::ImageBeyondLimit { .. }
                | Self::Unacceptable { param: "mask", .. }
        )
    }

    /// Returns the error of a request that waited and got no pictures.
    pub(super) fn of_wait(waiter: &Waiter, error: WaitError) -> Self {
        let job = waiter.job();
        match error {
            WaitError::Failed(failure) => Self::Failed { failure, job: Some(job) },
            WaitError::DeadlinePassed { upstream } => Self::ResponseTimeout { job, purchases: upstream },
            WaitError::Closing { upstream } => Self::Restarting { job, purchases: upstream },
        }
    }

    /// Returns the error for a `webhook_url` that was refused.
    pub(super) fn of_webhook(rejection: WebhookRejection) -> Self {
        let param = "webhook_url";
        match rejection {
            WebhookRejection::Disabled => Self::UnsupportedParameter {
                param: param.to_owned(),
                problem: "is not enabled at this gateway: its operator allows no address (webhooks.allowed_origins)"
                    .into(),
            },
            WebhookRejection::InvalidUrl(problem) => Self::Unacceptable { param, problem: problem.into() },
            WebhookRejection::OriginNotAllowed { origin } => {
                let origin = clean_value(&origin);
                let problem =
                    format!("the operator of this gateway does not allow '{origin}' (webhooks.allowed_origins)");
                Self::Unacceptable { param, problem: problem.into() }
            }
            WebhookRejection::TooManyPending => Self::TooManyWebhooks,
        }
    }

    /// Returns the error for a picture called `param` that could not be spooled.
    pub(super) fn from_spool(error: SpoolError, param: &str) -> Self {
        match error {
            SpoolError::PartTooLarge { bytes_max } => Self::ImageTooLarge { param: param.to_owned(), bytes_max },
            SpoolError::NeverFits { bytes_max } => Self::BodyTooLarge { bytes_max },
            SpoolError::Full { .. } | SpoolError::Exhausted(_) => Self::SpoolFull,
            SpoolError::Io(error) => Self::internal(format!("the spool cannot be used: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
