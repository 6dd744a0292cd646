//! The gateway's own response headers.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::{Cost, JobId, JobResult, UpstreamId};

/// [`HIT`], `miss`, `joined` or `bypass`.
pub(crate) const CACHE: HeaderName = HeaderName::from_static("x-gateway-cache");
/// The value for a request that a stored result answered.
pub(crate) const HIT: &str = "hit";
/// The values of `x-gateway-cache`.
pub(crate) const CACHE_WORDS: [&str; 4] = [HIT, "joined", "miss", "bypass"];
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
/// What a response costs in US dollars: 0 for one that bought nothing.
pub(crate) const COST_USD: HeaderName = HeaderName::from_static("x-gateway-cost-usd");
/// `true` where the cost is by the catalogue's estimate.
pub(crate) const COST_ESTIMATED: HeaderName = HeaderName::from_static("x-gateway-cost-estimated");
/// The same as [`COST_USD`], under the name that `LiteLLM` reads.
pub(crate) const LITELLM_COST: HeaderName = HeaderName::from_static("x-litellm-response-cost");
/// The time until a job is expected to be done, in whole seconds.
pub(crate) const EXPECTED_SECONDS: HeaderName = HeaderName::from_static("x-gateway-expected-seconds");
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

/// Says what a response costs.
pub(crate) fn add_cost(headers: &mut HeaderMap, cost: Cost) {
    // Most answers are hits, which format nothing.
    let usd = if cost == Cost::default() {
        HeaderValue::from_static("0")
    } else {
        HeaderValue::from_str(&cost.usd.to_string()).expect("digits and a point")
    };
    headers.insert(LITELLM_COST, usd.clone());
    headers.insert(COST_USD, usd);
    if cost.estimated {
        headers.insert(COST_ESTIMATED, HeaderValue::from_static("true"));
    }
}

/// Says in how many seconds a job is expected to be done.
pub(crate) fn add_expected(headers: &mut HeaderMap, left: Duration) {
    headers.insert(EXPECTED_SECONDS, HeaderValue::from(whole_seconds(left)));
}

/// Returns a time in whole seconds, rounded up.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usd;

    fn header(headers: &HeaderMap, name: &str) -> String {
        headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_cost_has_both_names_and_says_whether_it_is_an_estimate() {
        for (usd, estimated, text) in [
            (0.0, false, "0"),
            (0.03, true, "0.03"),
            (0.021_720_4, false, "0.02172"),
            (1.5, false, "1.5"),
            (0.000_000_04, false, "0"),
            (12.0, true, "12"),
        ] {
            let mut headers = HeaderMap::new();
            add_cost(&mut headers, Cost { usd: Usd(usd), estimated });
            assert_eq!(header(&headers, "x-gateway-cost-usd"), text);
            assert_eq!(header(&headers, "x-litellm-response-cost"), text);
            assert_eq!(header(&headers, "x-gateway-cost-estimated"), if estimated { "true" } else { "" });
        }
    }

    #[test]
    fn expected_seconds_are_rounded_up() {
        let mut headers = HeaderMap::new();
        add_expected(&mut headers, Duration::from_millis(11_001));
        assert_eq!(header(&headers, "x-gateway-expected-seconds"), "12");
        assert_eq!([0, 1, 1000].map(|millis| whole_seconds(Duration::from_millis(millis))), [0, 1, 1]);
    }
}
