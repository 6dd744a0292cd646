//! `GET /v1/results/{job}/{n}.png`: the bytes of `response_format: url`.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;

use crate::api::error::ApiError;
use crate::api::response::signature::ResultAddress;
use crate::api::state::ApiState;
use crate::http::StreamingBody;
use crate::http::page_headers::restrict_picture;

/// Sends one picture. The signature replaces the key: the address is enough to see the picture.
pub(crate) async fn show(
    State(state): State<ApiState>,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let Path((job, picture)) = path.map_err(|_| ApiError::ResultAddressInvalid)?;
    let address = ResultAddress::parse(&job, &picture, query.as_deref().unwrap_or_default());
    let address = address.ok_or(ApiError::ResultAddressInvalid)?;
    let checked = state.result_urls.signer().check(&address, state.clock.now());
    checked.map_err(|_| ApiError::ResultAddressInvalid)?;
    let ResultAddress { job, index, conversion, .. } = address;
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
