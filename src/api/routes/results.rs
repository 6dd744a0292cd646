//! `GET /v1/results/{job}/{n}.png`: the bytes of `response_format: url`; with `width` behind the signed address, a thumbnail.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use crate::api::error::ApiError;
use crate::api::request::parse::inputs::slots::{ConversionSlot, ConversionSlots};
use crate::api::request::parse::own_results::{OwnAddress, OwnResults};
use crate::api::response::converter::thumbnails::ThumbnailWidth;
use crate::api::response::converter::{PictureConverter, ReadyPicture, untouched};
use crate::api::response::signature::{AddressProblem, ResultAddress};
use crate::api::state::ApiState;
use crate::engine::recorded_picture;
use crate::http::StreamingBody;
use crate::http::header::list_members;
use crate::http::page_headers::restrict_picture;
use crate::model::{ByteSource, Format, JobId, StoredPicture};

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Sends one picture. The signature replaces the key: the address is enough to see the picture.
pub(crate) async fn show(
    State(state): State<Arc<ApiState>>,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((job, picture)) = path.map_err(|_| ApiError::ResultAddressInvalid)?;
    let address = ResultAddress::parse(job.trim(), picture.trim(), query.as_deref().unwrap_or_default());
    let address = address.ok_or(ApiError::ResultAddressInvalid)?;
    let checked = state.result_urls.signer().check(&address, state.clock.now());
    checked.map_err(|_| ApiError::ResultAddressInvalid)?;
    if let Some(width) = requested_width(query.as_deref().unwrap_or_default())? {
        return thumbnail(&state, address, width, &headers).await;
    }
    let picture = open(&state, address).await?.ok_or(ApiError::ResultGone)?;
    let mut response = Response::builder()
        .header(CONTENT_TYPE, picture.format.media_type())
        .header(CONTENT_LENGTH, picture.source.size())
        .body(Body::new(StreamingBody::default().bare(picture.source)))
        .expect("the parts above make a response");
    add_picture_headers(response.headers_mut());
    Ok(response)
}

/// Returns the width of the thumbnail that a query asks for. It is not part of what is signed.
///
/// # Errors
///
/// [`ApiError::InvalidValue`].
fn requested_width(query: &str) -> Result<Option<ThumbnailWidth>, ApiError> {
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    // As a page may have escaped it.
    let Some((_, width)) = parameters.find(|(name, _)| matches!(&**name, "width" | "amp;width")) else {
        return Ok(None);
    };
    let made = width.trim().parse().ok().and_then(ThumbnailWidth::of);
    made.map(Some).ok_or_else(|| ApiError::InvalidValue {
        param: "width".to_owned(),
        got: width.into_owned(),
        allowed: vec!["16 to 2048".to_owned()],
    })
}

/// Sends a small copy of a picture, or that it has not changed. It does not depend on the format of the address.
async fn thumbnail(
    state: &ApiState,
    ResultAddress { job, index, .. }: ResultAddress,
    width: ThumbnailWidth,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let picture = recorded(state, job, index).await.ok_or(ApiError::ResultGone)?;
    let etag = width.etag(&picture);
    let known = headers.get_all(IF_NONE_MATCH).iter().flat_map(|value| list_members(value.as_bytes()));
    let is_known = known
        .map(<[u8]>::trim_ascii)
        .any(|known| known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == etag.as_bytes());
    let mut response = if is_known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let thumbnails = &state.converter.thumbnails;
        let made = if let Some(made) = thumbnails.find(&picture, width) {
            made
        } else {
            let (slot, picture, source) = open_in_slot(state, job, index, picture, &thumbnails.slots).await?;
            thumbnails.make(slot, &picture, source, width).await
        };
        let made = made.map_err(|problem| ApiError::NoThumbnail { problem: problem.to_string().into() })?;
        let length = made.len();
        let mut response = Response::new(Body::from(made));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Format::Webp.media_type()));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        response
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&etag).expect("hexadecimal digits in quotes"));
    add_picture_headers(headers);
    Ok(response)
}

fn add_picture_headers(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600"));
    // Any page that has the address may show the picture.
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    restrict_picture(headers);
}

/// Opens the picture of an address whose signature was checked; `None` when it is not stored any more.
async fn open(state: &ApiState, address: ResultAddress) -> Result<Option<ReadyPicture>, ApiError> {
    let ResultAddress { job, index, conversion, .. } = address;
    let Some(picture) = recorded(state, job, index).await else { return Ok(None) };
    let converter = &state.converter;
    let Some(conversion) = PictureConverter::due(&picture, conversion) else {
        return Ok(stored(state, job, index).await?.map(|(picture, source)| untouched(&picture, source)));
    };
    if let Some(ready) = converter.find(&picture, conversion) {
        return Ok(Some(ready));
    }
    let (slot, picture, source) = match open_in_slot(state, job, index, picture, &converter.slots).await {
        Err(ApiError::ResultGone) => return Ok(None),
        opened => opened?,
    };
    Ok(Some(converter.convert(slot, &picture, source, conversion).await))
}

/// Opens a stored picture once there is a slot to convert it in: a request that waits for one holds no bytes, and needs no key, so
/// there may be many.
async fn open_in_slot(
    state: &ApiState,
    job: JobId,
    index: usize,
    mut picture: StoredPicture,
    slots: &ConversionSlots,
) -> Result<(ConversionSlot, StoredPicture, Arc<dyn ByteSource>), ApiError> {
    let mut fetched_again = false;
    loop {
        let slot = slots.enter().await;
        match state.engine.open(&[picture]).await.map(|mut sources| sources.pop()) {
            Ok(Some(source)) => return Ok((slot, picture, source)),
            Err(failure) if fetched_again => return Err(ApiError::Failed { failure, job: Some(job) }),
            Ok(None) | Err(_) => {}
        }
        // Damaged, or removed since it was looked up. No slot is held while it is fetched again.
        drop(slot);
        (picture, _) = stored(state, job, index).await?.ok_or(ApiError::ResultGone)?;
        fetched_again = true;
    }
}

/// Looks up a stored picture of a client that still has a key, and opens nothing; `None` when there is none.
async fn recorded(state: &ApiState, job: JobId, index: usize) -> Option<StoredPicture> {
    recorded_picture(&state.engine, job, index, |client| state.admission.has_key(client)).await
}

/// Opens a stored picture of a client that still has a key; `None` when there is none.
async fn stored(
    state: &ApiState,
    job: JobId,
    index: usize,
) -> Result<Option<(StoredPicture, Arc<dyn ByteSource>)>, ApiError> {
    let picture = state.engine.picture(job, index, |client| state.admission.has_key(client)).await;
    picture.map_err(|failure| ApiError::Failed { failure, job: Some(job) })
}

/// Returns the path of an address, decoded, without what changes no meaning here: empty segments, white space around them,
/// and capitals in the names of routes. At least what `GET` accepts must be found, because the rest is passed on.
fn meant_path(address: &Url) -> String {
    let path = percent_decode_str(address.path()).decode_utf8_lossy();
    let meant = |segment: &str| match segment.to_ascii_lowercase() {
        word if matches!(word.as_str(), "results" | "inputs") => word,
        _ => segment.to_owned(),
    };
    let segments = path.split(['/', '\\']).map(str::trim).filter(|segment| !segment.is_empty()).map(meant);
    segments.collect::<Vec<_>>().join("/")
}

impl OwnResults for ApiState {
    fn lists_host(&self, host: &str) -> bool {
        self.request_rules.lists_host(host)
    }

    fn open<'a>(&'a self, address: &'a Url) -> BoxFuture<'a, Result<OwnAddress, ApiError>> {
        Box::pin(async {
            const INPUT: &str =
                "it is an address at which this gateway publishes an input picture for the image service";
            let path = meant_path(address);
            let segments: Vec<&str> = path.split('/').collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::paths;

    #[test]
    fn every_spelling_of_an_own_address_is_found() {
        for path in [
            "/v1/results/pred_1/0.png",
            "/v1/Results/pred_1/0.png",
            "/V1/RESULTS/pred_1/0.png/",
            "//v1//results//pred_1//0.png",
            "/v1/results/pred_1/0.png%20",
            "/v1/results/pred_1/%200.png%0a",
            "/v1/results/pred_1/0%2Epng",
            "/v1/results/pred%5F1/0.png",
            "/v1/%72esults/pred_1/0.png",
            "/v1/results%2Fpred_1/0.png",
            "/base/v1/results/pred_1/0.png",
            "/v1/v1/results/pred_1/0.png",
            "/openai/v1/results/pred_1/0.png",
            "/results/pred_1/0.png",
            "/v1/x/../results/pred_1/./0.png",
            "\\v1\\results\\pred_1\\0.png",
        ] {
            let address: Url = format!("https://gateway.example{path}?s=1").parse().unwrap();
            let meant = meant_path(&address);
            assert!(format!("/{meant}").ends_with("/results/pred_1/0.png"), "{path}: {meant}");
            let served = paths::canonical(address.path()).filter(|route| route.starts_with("/v1/results/"));
            if let Some(served) = served {
                let served = percent_decode_str(&served).decode_utf8_lossy().into_owned();
                assert!(served.ends_with("/results/pred_1/0.png"), "{path}: {served}");
            }
        }
        for path in ["/v1/results", "/images/pred_1/0.png", "/resultsx/pred_1/0.png"] {
            let address: Url = format!("https://gateway.example{path}").parse().unwrap();
            assert!(!meant_path(&address).contains("results/"), "{path}");
        }
    }
}
