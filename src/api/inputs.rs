//! `GET /v1/inputs/{token}`: an input picture that is lent to the upstream (`upstream.inputs = "link"`).

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;

use super::ApiState;
use super::error::ApiError;
use crate::http::StreamingBody;
use crate::input_urls::PublishedInput;

/// Answers with a picture for as long as it is lent. The token stands for a key: the upstream has no other.
pub(super) async fn show(State(state): State<ApiState>, Path(token): Path<String>) -> Result<Response, ApiError> {
    let published = state.input_urls.as_ref().and_then(|input_urls| input_urls.find(&token));
    let PublishedInput { picture, source, .. } = published.ok_or(ApiError::InputNotLent)?;
    let response = Response::builder()
        .header(CONTENT_TYPE, picture.format.map_or("application/octet-stream", |format| format.media_type()))
        .header(CONTENT_LENGTH, picture.bytes)
        .header(CACHE_CONTROL, "no-store")
        .header("x-content-type-options", "nosniff")
        .body(Body::new(StreamingBody::default().bare(source)))
        .expect("the parts above make a response");
    Ok(response)
}

/// A path as it may be logged: whoever reads the log of a lent picture must not see the picture.
pub(super) fn without_token(path: &str) -> &str {
    const BEFORE: &str = "/inputs/";
    path.find(BEFORE).map_or(path, |at| &path[..at + BEFORE.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_logged() {
        for (path, logged) in [
            ("/v1/inputs/0123abcd", "/v1/inputs/"),
            ("/inputs/0123abcd/", "/inputs/"),
            ("/v1/images/edits", "/v1/images/edits"),
            ("/", "/"),
        ] {
            assert_eq!(without_token(path), logged);
        }
    }
}
