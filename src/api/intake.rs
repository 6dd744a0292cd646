//! From a request's headers and body to a checked request for pictures.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};

use super::body::Arriving;
use super::error::ApiError;
use super::form::Limits;
use super::header::Parameterised;
use super::validate::{self, Checked};
use super::{json_body, multipart};
use crate::config::ServerConfig;
use crate::engine::Spool;
use crate::model::{Catalogue, Task};

/// Reads a request and checks it. Pictures go to the spool; nothing is bought.
///
/// # Errors
///
/// The first thing that is wrong with it. The rest of the body may then be unread.
pub(super) async fn read(
    task: Task,
    headers: &HeaderMap,
    body: Body,
    spool: &Spool,
    server: &ServerConfig,
    catalogue: &Catalogue,
) -> Result<Checked, ApiError> {
    let form = kind_of_body(headers, server)?;
    let limits = Limits::new(task, server, catalogue);
    let arriving = Arriving::new(body, server);
    let form = match form {
        BodyKind::Multipart { boundary } => multipart::read(arriving, boundary, &limits, spool).await?,
        BodyKind::Json => json_body::read(arriving, limits, spool, server.body_bytes_max).await?,
    };
    validate::check(form, task, server, catalogue)
}

#[derive(Debug, PartialEq, Eq)]
enum BodyKind {
    Multipart { boundary: String },
    Json,
}

/// What the headers alone can tell.
fn kind_of_body(headers: &HeaderMap, server: &ServerConfig) -> Result<BodyKind, ApiError> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    if let Some(got) = text(CONTENT_ENCODING)
        && !matches!(got.trim().to_lowercase().as_str(), "" | "identity")
    {
        return Err(ApiError::UnsupportedEncoding { got });
    }
    let announced = text(CONTENT_LENGTH).and_then(|length| length.trim().parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > server.body_bytes_max) {
        return Err(ApiError::BodyTooLarge {
            bytes_max: server.body_bytes_max,
        });
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Err(ApiError::UnsupportedMediaType { got: None });
    };
    let content_type = Parameterised::parse(value.as_bytes());
    let word = content_type.word.as_str();
    if word == "application/json" || (word.starts_with("application/") && word.ends_with("+json")) {
        return Ok(BodyKind::Json);
    }
    let boundary = Some(word)
        .filter(|&word| word == "multipart/form-data")
        .and_then(|_| multipart::boundary(&content_type));
    match boundary {
        Some(boundary) => Ok(BodyKind::Multipart { boundary }),
        None => Err(ApiError::UnsupportedMediaType {
            got: text(CONTENT_TYPE),
        }),
    }
}
