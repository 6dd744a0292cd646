//! `GET /v1/results/{job}/{index}`: the bytes of `response_format: url`.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use serde::Deserialize;

use crate::api::error::ApiError;
use crate::api::request::response_options::Conversion;
use crate::api::state::ApiState;
use crate::http::StreamingBody;
use crate::http::page_headers::restrict_picture;
use crate::model::Format;

/// The query of a signed address.
#[derive(Debug, Deserialize)]
pub(crate) struct SignedQuery {
    /// The format to convert to; absent for the stored picture.
    format: Option<Format>,
    compression: Option<u8>,
    expires: i64,
    signature: String,
}

/// Sends one picture. The signature replaces the key: the address is enough to see the picture.
pub(crate) async fn show(
    State(state): State<ApiState>,
    path: Result<Path<(String, usize)>, PathRejection>,
    query: Result<Query<SignedQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path((job, index)) = path.map_err(|_| ApiError::ResultAddressInvalid)?;
    let job = job.parse().map_err(|_| ApiError::ResultAddressInvalid)?;
    let Query(SignedQuery { format, compression, expires, signature }) =
        query.map_err(|_| ApiError::ResultAddressInvalid)?;
    let conversion = format.map(|format| Conversion::new(format, compression));
    state.result_urls.signer().check(job, index, conversion, expires, &signature, state.clock.now())?;
    let picture = state.engine.picture(job, index).await;
    let picture = picture.map_err(|failure| ApiError::Failed { failure, job: Some(job) })?;
    let (stored, source) = picture.ok_or(ApiError::ResultGone)?;
    let picture = state.converter.prepare(&stored, source, conversion).await;
    let mut response = Response::builder()
        .header(CONTENT_TYPE, picture.format.media_type())
        .header(CONTENT_LENGTH, picture.source.size())
        .header(CACHE_CONTROL, "private, max-age=3600")
        // Any page that has the address may show the picture.
        .header("cross-origin-resource-policy", "cross-origin")
        .body(Body::new(StreamingBody::default().bare(picture.source)))
        .expect("the parts above make a response");
    restrict_picture(response.headers_mut());
    Ok(response)
}
