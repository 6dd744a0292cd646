use std::fmt::Write;

use axum::body::Body;
use axum::response::IntoResponse;

use super::table::{ErrorRow, Retry};
use super::*;
use crate::model::{Limit, Size, Timestamp};

fn job() -> JobId {
    JobId::new(Timestamp::from_millis(1_790_000_000_000), 42)
}

fn failures() -> Vec<Failure> {
    let message = || "upstream\x1b[31m text".to_owned();
    let retry_after = Duration::from_millis(7200);
    vec![
        Failure::Moderated { message: message(), bought: false },
        Failure::Moderated { message: message(), bought: true },
        Failure::InvalidRequest { message: message() },
        Failure::KeyRefused { message: message() },
        Failure::BalanceExhausted { message: message() },
        Failure::ModelUnavailable { message: message() },
        Failure::ModelNotPermitted { message: message() },
        Failure::EdgeRefused { message: message(), code: Some(1010) },
        Failure::LinkNotFetched { message: message(), bought: false },
        Failure::LinkNotFetched { message: message(), bought: true },
        Failure::TaskFailed { message: message() },
        Failure::ResultLost { message: message() },
        Failure::OutcomeUnknown { message: message() },
        Failure::DeadlineExceeded,
        Failure::Unreachable { message: String::new() },
        Failure::Throttled { retry_after },
        Failure::QueueFull { retry_after },
        Failure::Overloaded { retry_after },
        Failure::Outpaced { retry_after },
        Failure::LimitExceeded { limit: Limit::RequestsPerMinute, retry_after },
        Failure::LimitExceeded { limit: Limit::RequestsAtOnce, retry_after },
        Failure::LimitExceeded { limit: Limit::PredictionsAtOnce, retry_after },
        Failure::LimitExceeded { limit: Limit::PicturesPerDay, retry_after },
        Failure::LimitExceeded { limit: Limit::UsdPerDay, retry_after },
        Failure::LimitExceeded { limit: Limit::UsdPerMonth, retry_after },
        Failure::JournalUnavailable,
        Failure::DiskFull,
        Failure::KeyReused,
        Failure::Stopping,
        Failure::Abandoned,
    ]
}

#[test]
fn the_names_of_all_failures_are_listed() {
    let mut names: Vec<&str> = failures().iter().map(Failure::name).collect();
    names.dedup();
    assert_eq!(names, Failure::NAMES);
}

fn all() -> Vec<ApiError> {
    let mut errors = refusals();
    errors.extend(about_pictures_space_and_time());
    errors.extend(failures().into_iter().map(|failure| ApiError::Failed { failure, job: Some(job()) }));
    errors
}

fn refusals() -> Vec<ApiError> {
    let text = str::to_owned;
    vec![
        ApiError::TooManyConnections,
        ApiError::TooManyConnectionsOfAddress,
        ApiError::PlainHttp,
        ApiError::MissingKey,
        ApiError::EmptyKey { header: "Authorization" },
        ApiError::MalformedKey { problem: "the word Bearer stands in front of it twice" },
        ApiError::WrongKey,
        ApiError::BadTransferEncoding,
        ApiError::DuplicateHeader { name: "Idempotency-Key" },
        ApiError::BadHost { problem: HostError::Several },
        ApiError::ForeignHost { host: text("evil.example") },
        ApiError::ForeignOrigin { origin: text("https://evil.example") },
        ApiError::UnknownRoute { method: text("POST"), path: text("/v1/foo"), hint: "Did you mean …?".into() },
        ApiError::MethodNotAllowed { method: text("DELETE"), path: text("/v1/models"), allow: "GET" },
        ApiError::VariationsRetired,
        ApiError::ResponsesUnsupported,
        ApiError::UnknownModel { name: text("fake_id"), nearest: None },
        ApiError::ModelNotFound {
            name: text("gpt-image-3"),
            nearest: Some(text("gpt-image-2")),
            known: vec![text("gpt-image-1"), text("gpt-image-2")],
        },
        ApiError::ModelNotAllowed { name: text("gpt-image-2"), allowed: vec![text("gpt-image-1")] },
        ApiError::ModelLacksTask {
            model: text("gpt-4o-image"),
            task: "image-edit",
            note: Some(text("It is sold elsewhere.")),
        },
        ApiError::ResultAddressInvalid,
        ApiError::ResultGone,
        ApiError::NoThumbnail { problem: "it cannot be decoded".into() },
        ApiError::InputNotPublished,
        ApiError::PredictionNotFound,
        ApiError::PredictionSubmitted { job: job() },
        ApiError::PredictionInUse { job: job() },
        ApiError::UnsupportedMediaType { got: Some(text("text/plain")) },
        ApiError::UnsupportedMediaType { got: None },
        ApiError::UnsupportedEncoding { got: text("gzip") },
        ApiError::MalformedBody { problem: "it is not a JSON object".into() },
        ApiError::BodyTooLarge { bytes_max: 1_200_000_000 },
        ApiError::BodyTimeout,
        ApiError::BodyTooSlow { bytes_per_second: 1024 },
        ApiError::MissingParameter { param: "prompt" },
        ApiError::MissingMessages,
        ApiError::MissingImage { fields: vec![text("prompt"), text("file\x1b")] },
        ApiError::DuplicateParameter { param: text("size") },
        ApiError::InvalidType { param: text("image"), expected: "a file", got: "a string" },
        ApiError::InvalidValue {
            param: text("quality"),
            got: text("ultra"),
            allowed: vec![text("low"), text("high"), text("auto")],
        },
        ApiError::Unacceptable { param: "mask", problem: "it is upside down".into() },
        ApiError::BelowMinimum { param: "n", min: 1, got: text("0") },
        ApiError::AboveMaximum { param: "n", max: 10, got: text("11") },
        ApiError::TextTooLong { param: text("prompt"), unit: "characters", max: 32000 },
        ApiError::BadIdempotencyKey { max: 255 },
        ApiError::TooManyImages { max: 16 },
        ApiError::BadSize(SizeProblem::EdgeTooLong { size: Size { width: 4096, height: 4096 }, edge_pixels_max: 3840 }),
        ApiError::UnsupportedParameter {
            param: text("mask"),
            problem: "is not supported with the model 'gpt-image-2'".into(),
        },
        ApiError::TextRequested { param: "messages", asked: "a title" },
        ApiError::UnsupportedInputFidelity { model: text("gpt-image-2"), hint: String::new() },
    ]
}

fn about_pictures_space_and_time() -> Vec<ApiError> {
    let text = str::to_owned;
    vec![
        ApiError::UnsupportedFileType {
            param: text("image"),
            media_type: "application/pdf",
            note: Some("a PDF document; send one page of it as a PNG".into()),
        },
        ApiError::EmptyImage { param: text("image[1]") },
        ApiError::DamagedImage {
            param: text("image"),
            problem: text("the checksum of PNG chunk IDAT at byte 8213 is wrong"),
        },
        ApiError::ImageTooLarge { param: text("image"), bytes_max: 52_428_800 },
        ApiError::ImageBeyondLimit {
            param: text("image[2]"),
            got: text("it is 65535x65535 pixels"),
            max: 200_000_000,
            unit: "pixels",
            key: "picture_pixels_max",
        },
        ApiError::BadPictureAddress {
            param: text("image"),
            problem: text("the image service cannot reach the host 'localhost', the machine of the reader itself"),
        },
        ApiError::FileIdUnsupported { param: text("image") },
        ApiError::SpoolFull,
        ApiError::TooManyWaiting { retry_after: Duration::from_secs(10) },
        ApiError::TooManyConversions,
        ApiError::TooManyWebhooks,
        ApiError::ResponseTimeout {
            job: job(),
            purchases: vec![UpstreamId::new("a1").unwrap(), UpstreamId::new("b2").unwrap()],
        },
        ApiError::Restarting { job: job(), purchases: Vec::new() },
        ApiError::internal("a secret detail"),
    ]
}

/// Returns the name of a variant. Exhaustive, so that a new variant must be added here, and to the lists above.
fn name(error: &ApiError) -> String {
    let debug = format!("{error:?}");
    let name: String = debug.chars().take_while(char::is_ascii_alphanumeric).collect();
    match error {
        ApiError::Failed { failure, .. } => format!("{name} {}", failure.name()),
        ApiError::TooManyConnections
        | ApiError::TooManyConnectionsOfAddress
        | ApiError::PlainHttp
        | ApiError::MissingKey
        | ApiError::EmptyKey { .. }
        | ApiError::MalformedKey { .. }
        | ApiError::WrongKey
        | ApiError::BadTransferEncoding
        | ApiError::DuplicateHeader { .. }
        | ApiError::BadHost { .. }
        | ApiError::ForeignHost { .. }
        | ApiError::ForeignOrigin { .. }
        | ApiError::UnknownRoute { .. }
        | ApiError::MethodNotAllowed { .. }
        | ApiError::VariationsRetired
        | ApiError::ResponsesUnsupported
        | ApiError::UnknownModel { .. }
        | ApiError::ModelNotFound { .. }
        | ApiError::ModelNotAllowed { .. }
        | ApiError::ModelLacksTask { .. }
        | ApiError::ResultAddressInvalid
        | ApiError::ResultGone
        | ApiError::NoThumbnail { .. }
        | ApiError::InputNotPublished
        | ApiError::PredictionNotFound
        | ApiError::PredictionSubmitted { .. }
        | ApiError::PredictionInUse { .. }
        | ApiError::UnsupportedMediaType { .. }
        | ApiError::UnsupportedEncoding { .. }
        | ApiError::MalformedBody { .. }
        | ApiError::BodyTooLarge { .. }
        | ApiError::BodyTimeout
        | ApiError::BodyTooSlow { .. }
        | ApiError::MissingParameter { .. }
        | ApiError::MissingMessages
        | ApiError::MissingImage { .. }
        | ApiError::DuplicateParameter { .. }
        | ApiError::InvalidType { .. }
        | ApiError::InvalidValue { .. }
        | ApiError::Unacceptable { .. }
        | ApiError::BelowMinimum { .. }
        | ApiError::AboveMaximum { .. }
        | ApiError::TextTooLong { .. }
        | ApiError::BadIdempotencyKey { .. }
        | ApiError::TooManyImages { .. }
        | ApiError::BadSize(_)
        | ApiError::UnsupportedParameter { .. }
        | ApiError::UnsupportedInputFidelity { .. }
        | ApiError::TextRequested { .. }
        | ApiError::UnsupportedFileType { .. }
        | ApiError::EmptyImage { .. }
        | ApiError::DamagedImage { .. }
        | ApiError::ImageTooLarge { .. }
        | ApiError::ImageBeyondLimit { .. }
        | ApiError::BadPictureAddress { .. }
        | ApiError::FileIdUnsupported { .. }
        | ApiError::SpoolFull
        | ApiError::TooManyWaiting { .. }
        | ApiError::TooManyConversions
        | ApiError::TooManyWebhooks
        | ApiError::ResponseTimeout { .. }
        | ApiError::Restarting { .. }
        | ApiError::Internal { .. } => name,
    }
}

async fn shown(error: ApiError) -> String {
    let mut text = format!("## {}\n", name(&error));
    let (parts, body) = error.into_response().into_parts();
    writeln!(text, "{}", parts.status).unwrap();
    for (name, value) in &parts.headers {
        writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
    }
    let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let error = body["error"].as_object().unwrap();
    let mut keys: Vec<&str> = error.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "the envelope has all four keys");
    for key in ["type", "code", "param", "message"] {
        writeln!(text, "  {key}: {}", error[key]).unwrap();
    }
    text
}

#[tokio::test]
async fn the_whole_table() {
    let mut table = Vec::new();
    for error in all() {
        table.push(shown(error).await);
    }
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn a_retry_that_could_pay_again_is_never_invited() {
    for failure in failures() {
        let bought = failure.may_have_been_bought();
        let error = ApiError::Failed { failure, job: None };
        let row = error.row();
        assert_eq!(row.retry == Retry::MayPayAgain, bought, "{error:?}");
        if bought {
            assert_eq!(row.retry.header_value(), "false", "{error:?}");
            assert_eq!(row.retry_after, None, "{error:?}");
        }
        // A used-up quota says when it is renewed, which is longer than an SDK should wait by itself.
        if row.retry_after.is_some() && row.code != "insufficient_quota" {
            assert_eq!(row.retry.header_value(), "true", "{error:?}");
        }
    }
}

#[test]
fn secrets_of_the_operator_are_never_shown() {
    for error in all() {
        let text = error.to_string();
        assert!(!text.contains("secret detail") && !text.contains('\x1b'), "{text:?}");
    }
}

/// One line of `src/api/error/errors.md`.
fn documented(error: &ApiError) -> String {
    let ErrorRow { status, error_type, code, param, retry, retry_after } = error.row();
    let pays = match retry {
        Retry::Safe => "no: nothing was bought",
        Retry::JoinsJob => "no: it joins the purchase",
        Retry::Pointless => "no: it is refused again",
        Retry::MayPayAgain => "**yes**",
    };
    let after = retry_after.map_or("", |_| " with `retry-after`");
    let param = if param.is_some() { "named" } else { "null" };
    let status = status.as_u16();
    format!(
        "| {} | {status} | `{error_type}` | `{code}` | {param} | {}{after} | {pays} |\n",
        name(error),
        retry.header_value()
    )
}

/// Holds `errors.md` to the table. After a change, the failing test writes the new file beside the old one.
#[test]
fn the_documentation_shows_every_row() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/error/errors.md");
    let known = std::fs::read_to_string(&path).unwrap();
    let (introduction, _) = known.split_once("| error |").unwrap();
    let mut now = format!(
        "{introduction}| error | status | `type` | `code` | `param` | `x-should-retry` | can a retry pay again? |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    let mut rows: Vec<String> = all().iter().map(documented).collect();
    // Several causes of one kind of error share a row.
    rows.dedup();
    now.extend(rows);
    if known != now {
        let new = path.with_extension("md.new");
        std::fs::write(&new, now).unwrap();
        panic!("{} differs; {} is what it should be", path.display(), new.display());
    }
}

#[test]
fn a_refused_connection_gets_a_whole_http_response() {
    let response = ApiError::TooManyConnections.to_http1();
    let (head, body) = std::str::from_utf8(&response).unwrap().split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"), "{head}");
    let length = format!("content-length: {}", body.len());
    for line in [
        "retry-after: 5",
        "x-should-retry: true",
        "connection: close",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        &length,
    ] {
        assert!(head.split("\r\n").any(|known| known == line), "{line} is missing: {head}");
    }
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "too_many_connections");
}
