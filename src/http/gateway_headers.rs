//! The gateway's own response headers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::{JobId, JobResult, UpstreamId};

/// `hit`, `miss`, `joined` or `bypass`.
pub(crate) const CACHE: HeaderName = HeaderName::from_static("x-gateway-cache");
/// Parameters that were not honoured, by name.
pub(crate) const DROPPED: HeaderName = HeaderName::from_static("x-gateway-dropped");
/// The number of pictures that are missing because one of several purchases failed.
pub(crate) const MISSING: HeaderName = HeaderName::from_static("x-gateway-missing");
/// What is doubtful about the pictures: [`INPUTS_UNSEEN`].
pub(crate) const WARNING: HeaderName = HeaderName::from_static("x-gateway-warning");
/// The warning that the pictures were made without looking at the input pictures.
pub(crate) const INPUTS_UNSEEN: &str = "inputs-unseen";
/// The id of the job.
pub(crate) const PREDICTION: HeaderName = HeaderName::from_static("x-gateway-prediction");
/// The upstream's ids of the job's purchases, separated by commas.
pub(crate) const UPSTREAM_ID: HeaderName = HeaderName::from_static("x-gateway-upstream-id");
/// `true` on every response of a sandbox.
pub(crate) const SANDBOX: HeaderName = HeaderName::from_static("x-gateway-sandbox");
/// Whether a client should send the same request again; OpenAI's clients obey it before they look at the status.
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Which preferences of `Prefer` were honoured (RFC 7240 §3).
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Names a job, and its purchases as far as their ids are known.
pub(crate) fn name_job(headers: &mut HeaderMap, job: JobId, purchases: &[UpstreamId]) {
    headers.insert(PREDICTION, HeaderValue::from_str(&job.to_string()).expect("an id is ASCII"));
    let ids = purchases.iter().map(UpstreamId::as_str).collect::<Vec<_>>().join(",");
    if let Ok(ids) = HeaderValue::from_str(&ids)
        && !ids.is_empty()
    {
        headers.insert(UPSTREAM_ID, ids);
    }
}

/// Says what is missing from a result, and what is doubtful about it.
pub(crate) fn qualify_result(headers: &mut HeaderMap, result: &JobResult) {
    if result.missing > 0 {
        headers.insert(MISSING, HeaderValue::from(u16::from(result.missing)));
    }
    if result.inputs_unseen {
        headers.insert(WARNING, HeaderValue::from_static(INPUTS_UNSEEN));
    }
}
