//! The client's rate limit: counts its requests, and reports its state in `OpenAI`'s `x-ratelimit-*` headers
//! (`src/README.md`).
//!
//! The headers give the state at the time the response leaves, which may be minutes after the request was counted.
//! Clients without a rate limit get none of them.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::admission::{Admission, RequestRate};
use crate::api::error::ApiError;
use crate::model::{ClientId, Failure, LimitExceeded};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");

/// Counts a request.
///
/// # Errors
///
/// [`Failure::LimitExceeded`] when the client's requests of this minute are used up.
pub(crate) fn count(admission: &Admission, client: &ClientId) -> Result<(), ApiError> {
    admission.check_rate(client).map_err(limit_exceeded)
}

/// Returns the error for a limit that a client has reached before it has a job.
pub(crate) fn limit_exceeded(LimitExceeded { limit, retry_after }: LimitExceeded) -> ApiError {
    ApiError::Failed { failure: Failure::LimitExceeded { limit, retry_after }, job: None }
}

/// Adds the state of the client's rate limit.
pub(crate) fn add_headers(admission: &Admission, client: &ClientId, headers: &mut HeaderMap) {
    let Some(RequestRate { limit, remaining, reset }) = admission.request_rate(client) else { return };
    headers.insert(LIMIT, HeaderValue::from(limit));
    headers.insert(REMAINING, HeaderValue::from(remaining));
    let reset = HeaderValue::from_str(&go_duration(reset)).expect("digits, points and letters");
    headers.insert(RESET, reset);
}

/// Writes a duration as Go does, and so `OpenAI`: `12ms`, `1s`, `1m26.4s`, `1h0m0s`. Rounds up to milliseconds.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    if (1..1000).contains(&millis) {
        return format!("{millis}ms");
    }
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let fraction = format!(".{:03}", millis % 1000);
    let seconds = format!("{}{}s", millis / 1000, fraction.trim_end_matches('0').trim_end_matches('.'));
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (12, "12ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (60_000, "1m0s"),
            (86_400, "1m26.4s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (3_725_050, "1h2m5.05s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(go_duration(Duration::from_nanos(1)), "1ms", "never too short");
        assert_eq!(go_duration(Duration::from_nanos(999_000_001)), "1s");
    }
}
