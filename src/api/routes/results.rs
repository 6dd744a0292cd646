//! `GET /v1/results/{job}/{n}.png`: the bytes of `response_format: url`.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use futures_util::future::BoxFuture;
use url::Url;

use crate::api::error::ApiError;
use crate::api::request::parse::own_results::{OwnAddress, OwnResults};
use crate::api::response::converter::ReadyPicture;
use crate::api::response::signature::{AddressProblem, ResultAddress};
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
    let picture = open(&state, address).await?.ok_or(ApiError::ResultGone)?;
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

/// Opens the picture of an address whose signature was checked; `None` when it is not stored any more.
async fn open(state: &ApiState, address: ResultAddress) -> Result<Option<ReadyPicture>, ApiError> {
    let ResultAddress { job, index, conversion, .. } = address;
    let picture = state.engine.picture(job, index).await;
    let picture = picture.map_err(|failure| ApiError::Failed { failure, job: Some(job) })?;
    match picture {
        Some((stored, source)) => Ok(Some(state.converter.prepare(&stored, source, conversion).await)),
        None => Ok(None),
    }
}

impl OwnResults for ApiState {
    fn open<'a>(&'a self, address: &'a Url) -> BoxFuture<'a, Result<OwnAddress, ApiError>> {
        Box::pin(async {
            const INPUT: &str =
                "it is an address at which this gateway publishes an input picture for the image service";
            let segments: Vec<&str> =
                address.path_segments().into_iter().flatten().filter(|one| !one.is_empty()).collect();
            let found = match segments[..] {
                [.., "inputs", token] => {
                    let published = self.input_urls.as_ref().is_some_and(|urls| urls.find(token).is_some());
                    return Ok(if published { OwnAddress::Invalid(INPUT) } else { OwnAddress::Doubtful(INPUT) });
                }
                [.., "results", job, picture] => (job, picture),
                _ => return Ok(OwnAddress::Foreign),
            };
            let altered = "the address of a result has no valid signature of this gateway: it was altered, or another gateway made it";
            let query = address.query().unwrap_or_default();
            let Some(result) = ResultAddress::parse(found.0, found.1, query) else {
                return Ok(OwnAddress::Doubtful(altered));
            };
            match self.result_urls.signer().check(&result, self.clock.now()) {
                Ok(()) => {}
                Err(AddressProblem::Altered) => return Ok(OwnAddress::Doubtful(altered)),
                Err(AddressProblem::Expired) => {
                    return Ok(OwnAddress::Invalid("this address of a result of this gateway has expired"));
                }
            }
            Ok(match open(self, result).await? {
                Some(picture) => OwnAddress::Result(picture.source),
                None => OwnAddress::Invalid("this result of this gateway is no longer stored"),
            })
        })
    }
}
