//! `Retry-After` per RFC 9110 §10.2.3: seconds, or a date measured against the answer's own `Date`.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// A longer pause counts as this one, so that no time overflows. `upstream.pushback_max_s` is not longer.
const PAUSE_MAX: Duration = Duration::from_hours(24);

/// Reads the pause that the upstream asks for. A date without the answer's own `Date` is ignored: the two clocks may differ
/// by more than any pause.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    asked(headers).map(|pause| pause.min(PAUSE_MAX))
}

fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        let is_pause = seconds.is_finite() && seconds >= 0.0;
        return is_pause.then(|| Duration::from_secs_f64(seconds.min(PAUSE_MAX.as_secs_f64())));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_other_values_ignored() {
        let read = |value: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            retry_after(&headers)
        };
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(read("7", None), Some(Duration::from_secs(7)));
        for far in ["86401", "1e18", "18446744073709551615", "1e300"] {
            assert_eq!(read(far, None), Some(PAUSE_MAX), "{far}");
        }
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT", date), Some(PAUSE_MAX));
        assert_eq!(read("0.5", None), Some(Duration::from_millis(500)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT", date), Some(Duration::from_secs(10)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:27 GMT", date), Some(Duration::ZERO));
        for nonsense in ["-1", "NaN", "inf", "soon", ""] {
            assert_eq!(read(nonsense, date), None, "{nonsense}");
        }
        assert_eq!(read("Sun, 06 Nov 1994 08:49:47 GMT", None), None);
    }
}
