//! `GET /v1/inputs/{token}`: an input picture that is published for the upstream (`"links"` in `upstream.inputs`).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;

use crate::api::error::ApiError;
use crate::api::state::ApiState;
use crate::http::StreamingBody;
use crate::http::page_headers::{NO_STORE, restrict_picture};
use crate::input_urls::PublishedInput;

/// Sends a picture while it is published. The token replaces the key, which the upstream does not have.
pub(crate) async fn show(State(state): State<Arc<ApiState>>, Path(token): Path<String>) -> Result<Response, ApiError> {
    let published = state.input_urls.as_ref().and_then(|input_urls| input_urls.find(&token));
    let PublishedInput { picture, source, .. } = published.ok_or(ApiError::InputNotPublished)?;
    let mut response = Response::builder()
        .header(CONTENT_TYPE, picture.structure.format.map_or("application/octet-stream", |format| format.media_type()))
        .header(CONTENT_LENGTH, picture.bytes)
        .header(CACHE_CONTROL, NO_STORE)
        .body(Body::new(StreamingBody::default().bare(source)))
        .expect("the parts above make a response");
    restrict_picture(response.headers_mut());
    Ok(response)
}
