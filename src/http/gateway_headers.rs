//! The gateway's own response headers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::{JobId, JobResult, UpstreamId};

/// [`HIT`], `miss`, `joined` or `bypass`.
pub(crate) const CACHE: HeaderName = HeaderName::from_static("x-gateway-cache");
/// The value for a request that a stored result answered.
pub(crate) const HIT: &str = "hit";
/// Parameters that were not honoured, by name.
pub(crate) const DROPPED: HeaderName = HeaderName::from_static("x-gateway-dropped");
/// Fields of the request that the gateway does not know, and that change nothing, by name.
pub(crate) const IGNORED: HeaderName = HeaderName::from_static("x-gateway-ignored");
/// Fields of other APIs, each with `=` and the parameter that it was read as.
pub(crate) const RENAMED: HeaderName = HeaderName::from_static("x-gateway-renamed");
/// The number of pictures that were asked for and are not there.
pub(crate) const MISSING: HeaderName = HeaderName::from_static("x-gateway-missing");
/// What is doubtful about the result: [`INPUTS_UNSEEN`], [`OUTCOME_UNKNOWN`], or both, separated by commas.
pub(crate) const WARNING: HeaderName = HeaderName::from_static("x-gateway-warning");
/// The warning that the pictures were made without looking at the input pictures.
pub(crate) const INPUTS_UNSEEN: &str = "inputs-unseen";
/// The warning that missing pictures may have been bought.
const OUTCOME_UNKNOWN: &str = "outcome-unknown";
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
    let ids = match purchases {
        [] => return,
        [only] => HeaderValue::from_str(only.as_str()),
        several => HeaderValue::from_str(&several.iter().map(UpstreamId::as_str).collect::<Vec<_>>().join(",")),
    };
    headers.extend(ids.ok().filter(|ids| !ids.is_empty()).map(|ids| (UPSTREAM_ID, ids)));
}

/// Says what is missing from a result, and what is doubtful about it.
pub(crate) fn qualify_result(headers: &mut HeaderMap, result: &JobResult) {
    let missing = result.missing_pictures();
    if missing > 0 {
        headers.insert(MISSING, HeaderValue::from(u16::from(missing)));
    }
    let warnings = [(result.inputs_unseen, INPUTS_UNSEEN), (result.has_unknown(), OUTCOME_UNKNOWN)];
    let warnings: Vec<&str> = warnings.into_iter().filter_map(|(applies, name)| applies.then_some(name)).collect();
    if let Ok(warnings) = HeaderValue::from_str(&warnings.join(", "))
        && !warnings.is_empty()
    {
        headers.insert(WARNING, warnings);
    }
}
