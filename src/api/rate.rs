//! Requests a minute: counted at the door, and told in `OpenAI`'s headers (`wire/openai.md` §5.1).
//!
//! The headers say how things stand when the answer leaves, which may be minutes after the request was counted. A
//! client without such a limit gets none of them.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::ApiError;
use crate::admission::{Admission, RequestRate};
use crate::model::{ClientId, Failure, LimitExceeded};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");

/// Counts a request.
///
/// # Errors
///
/// [`Failure::LimitExceeded`] when the client's minute is used up.
pub(super) fn count(admission: &Admission, client: &ClientId) -> Result<(), ApiError> {
    admission.check_rate(client).map_err(over)
}

/// How a client is told of a limit that it is over, before there is an order.
pub(super) fn over(LimitExceeded { limit, retry_after }: LimitExceeded) -> ApiError {
    ApiError::Failed { failure: Failure::LimitExceeded { limit, retry_after }, job: None }
}

/// Tells a client where it stands.
pub(super) fn tell(admission: &Admission, client: &ClientId, headers: &mut HeaderMap) {
    let Some(RequestRate { limit, remaining, reset }) = admission.request_rate(client) else { return };
    headers.insert(LIMIT, HeaderValue::from(limit));
    headers.insert(REMAINING, HeaderValue::from(remaining));
    let reset = HeaderValue::from_str(&span(reset)).expect("digits, points and letters");
    headers.insert(RESET, reset);
}

/// A duration as Go writes it, and so `OpenAI`: `12ms`, `1s`, `1m26.4s`, `1h0m0s`. Rounded up to milliseconds.
fn span(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
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
    fn spans_look_as_openai_writes_them() {
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
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(span(Duration::from_nanos(1)), "1ms", "never told too early");
        assert_eq!(span(Duration::from_nanos(999_000_001)), "1s");
    }
}
