//! `GET /v1/results/{order}/{index}`: the bytes behind `response_format: url`.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use serde::Deserialize;

use super::ApiState;
use super::conversion::Conversion;
use super::error::ApiError;
use crate::http::StreamingBody;
use crate::model::Format;

/// What a signed address carries.
#[derive(Debug, Deserialize)]
pub(super) struct Signed {
    /// What the picture is to be converted to; absent for the stored one.
    format: Option<Format>,
    compression: Option<u8>,
    expires: i64,
    signature: String,
}

/// Answers with one picture. The signature stands for the key: whoever has the address may see the picture.
pub(super) async fn show(
    State(state): State<ApiState>,
    path: Result<Path<(String, usize)>, PathRejection>,
    query: Result<Query<Signed>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path((job, index)) = path.map_err(|_| ApiError::ResultAddressInvalid)?;
    let job = job.parse().map_err(|_| ApiError::ResultAddressInvalid)?;
    let Query(Signed { format, compression, expires, signature }) =
        query.map_err(|_| ApiError::ResultAddressInvalid)?;
    let conversion = format.map(|format| Conversion::new(format, compression));
    state.signer.check(job, index, conversion, expires, &signature, state.clock.now())?;
    let (picture, source) = state.engine.picture(job, index).await.ok_or(ApiError::ResultGone)?;
    let presented = state.presenter.one(&picture, source, conversion).await;
    let response = Response::builder()
        .header(CONTENT_TYPE, presented.format.media_type())
        .header(CONTENT_LENGTH, presented.source.size())
        .header(CACHE_CONTROL, "private, max-age=3600")
        // Whatever page has the address may show the picture.
        .header("cross-origin-resource-policy", "cross-origin")
        .body(Body::new(StreamingBody::default().bare(presented.source)))
        .expect("the parts above make a response");
    Ok(response)
}
