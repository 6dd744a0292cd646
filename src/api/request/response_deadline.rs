//! The response deadline: how long a request may take, by the gateway's settings and by the client's own timeouts.

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;

use crate::config::ResponseConfig;

/// Returns the latest time at which a request is answered.
///
/// `x-stainless-timeout` counts from the start of the request, `x-stainless-read-timeout` from the end of its body
/// (`src/README.md`). Both are in seconds, with fractions. The second is how long the client waits for the *next* byte, so
/// it is ignored where a `heartbeat` brings one sooner.
pub(crate) fn response_deadline(
    headers: &HeaderMap,
    responses: &ResponseConfig,
    started: Instant,
    body_ended: Instant,
    heartbeat: Option<Duration>,
) -> Instant {
    let declared = |name: &str| {
        let seconds = headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0)?;
        let timeout = Duration::try_from_secs_f64(seconds).ok()?;
        // The margin takes at most half of a short timeout.
        Some(timeout.checked_sub(responses.timeout_margin).unwrap_or_default().max(timeout.mul_f64(0.5)))
    };
    let total = declared("x-stainless-timeout").and_then(|timeout| started.checked_add(timeout));
    let read = declared("x-stainless-read-timeout")
        .filter(|&timeout| heartbeat.is_none_or(|heartbeat| heartbeat >= timeout))
        .and_then(|timeout| body_ended.checked_add(timeout));
    let own = body_ended + if heartbeat.is_some() { responses.streamed_timeout } else { responses.timeout };
    [total, read].into_iter().flatten().fold(own, Instant::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    #[tokio::test(start_paused = true)]
    async fn the_shortest_timeout_counts() {
        let responses = Config::load(None, &Environment::new()).unwrap().server.responses;
        let started = Instant::now();
        let body_ended = started + Duration::from_secs(10);
        let wait_with_heartbeat = |name: &'static str, value: &str, heartbeat: Option<u64>| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            let heartbeat = heartbeat.map(Duration::from_secs);
            (response_deadline(&headers, &responses, started, body_ended, heartbeat) - started).as_secs_f64()
        };
        let wait = |name: &'static str, value: &str| wait_with_heartbeat(name, value, None);
        assert!((wait("x-other", "5") - 600.0).abs() < 0.001);
        assert!((wait("x-stainless-read-timeout", "600") - 600.0).abs() < 0.001, "the gateway's own is shorter");
        assert!((wait("x-stainless-read-timeout", "60.5") - 68.5).abs() < 0.001);
        assert!((wait("x-stainless-timeout", "60") - 58.0).abs() < 0.001);
        assert!((wait("x-stainless-read-timeout", "1") - 10.5).abs() < 0.001);
        assert!(
            (wait_with_heartbeat("x-stainless-read-timeout", "60", Some(5)) - 1810.0).abs() < 0.001,
            "a heartbeat comes sooner"
        );
        assert!(
            (wait_with_heartbeat("x-stainless-read-timeout", "4", Some(5)) - 12.0).abs() < 0.001,
            "the heartbeat comes too late"
        );
        assert!((wait_with_heartbeat("x-stainless-timeout", "60", Some(5)) - 58.0).abs() < 0.001, "the whole call");
        for nonsense in ["-5", "NaN", "inf", "soon"] {
            assert!((wait("x-stainless-timeout", nonsense) - 600.0).abs() < 0.001, "{nonsense}");
        }
    }
}
