//! `GET /v1/results/{order}/{index}`: the bytes behind `response_format: url`.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use serde::Deserialize;

use super::ApiState;
use super::error::ApiError;
use crate::payload::Payload;

/// What a signed address carries.
#[derive(Debug, Deserialize)]
pub(super) struct Signed {
    expires: i64,
    signature: String,
}

/// Answers with one picture. The signature stands for the key: whoever has the address may see the picture.
pub(super) async fn show(
    State(state): State<ApiState>,
    Path((order, index)): Path<(String, usize)>,
    query: Result<Query<Signed>, QueryRejection>,
) -> Result<Response, ApiError> {
    let order = order.parse().map_err(|_| ApiError::ResultAddressInvalid)?;
    let Query(Signed { expires, signature }) = query.map_err(|_| ApiError::ResultAddressInvalid)?;
    state.signer.check(order, index, expires, &signature, state.clock.now())?;
    let (picture, source) = state.engine.picture(order, index).await.ok_or(ApiError::ResultGone)?;
    let response = Response::builder()
        .header(CONTENT_TYPE, picture.format.media_type())
        .header(CONTENT_LENGTH, picture.bytes)
        .header(CACHE_CONTROL, "private, max-age=3600")
        // A browser shows it as what it is, whatever it thinks the bytes look like.
        .header("x-content-type-options", "nosniff")
        .body(Body::new(Payload::default().bare(source)))
        .expect("the parts above make a response");
    Ok(response)
}
