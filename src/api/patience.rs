//! How long a client will wait, by what it says itself.

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;

use crate::config::ServerConfig;

/// The moment at which a request is answered at the latest.
///
/// `x-stainless-timeout` counts from the start of the request, `x-stainless-read-timeout` from the end of its body
/// (`wire/openai.md` §5.3). Both are in seconds, with fractions. The second is how long the client waits for the *next*
/// byte, and so means nothing where `heartbeat` brings one sooner.
pub(super) fn deadline(
    headers: &HeaderMap,
    server: &ServerConfig,
    began: Instant,
    body_ended: Instant,
    heartbeat: Option<Duration>,
) -> Instant {
    let declared = |name: &str| {
        let seconds = headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0)?;
        let patience = Duration::try_from_secs_f64(seconds).ok()?;
        // A client with hardly any patience still gets most of it.
        Some(patience.checked_sub(server.response_timeout_margin).unwrap_or_default().max(patience.mul_f64(0.5)))
    };
    let total = declared("x-stainless-timeout").and_then(|patience| began.checked_add(patience));
    let read = declared("x-stainless-read-timeout")
        .filter(|&patience| heartbeat.is_none_or(|heartbeat| heartbeat >= patience))
        .and_then(|patience| body_ended.checked_add(patience));
    let own = body_ended + if heartbeat.is_some() { server.streamed_response_timeout } else { server.response_timeout };
    [total, read].into_iter().flatten().fold(own, Instant::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    #[tokio::test(start_paused = true)]
    async fn the_shortest_patience_counts() {
        let server = Config::load(None, &Environment::new()).unwrap().server;
        let began = Instant::now();
        let body_ended = began + Duration::from_secs(10);
        let wait_kept = |name: &'static str, value: &str, heartbeat: Option<u64>| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            let heartbeat = heartbeat.map(Duration::from_secs);
            (deadline(&headers, &server, began, body_ended, heartbeat) - began).as_secs_f64()
        };
        let wait = |name: &'static str, value: &str| wait_kept(name, value, None);
        assert!((wait("x-other", "5") - 600.0).abs() < 0.001);
        assert!((wait("x-stainless-read-timeout", "600") - 600.0).abs() < 0.001, "the gateway's own is shorter");
        assert!((wait("x-stainless-read-timeout", "60.5") - 68.5).abs() < 0.001);
        assert!((wait("x-stainless-timeout", "60") - 58.0).abs() < 0.001);
        assert!((wait("x-stainless-read-timeout", "1") - 10.5).abs() < 0.001);
        assert!((wait_kept("x-stainless-read-timeout", "60", Some(5)) - 1810.0).abs() < 0.001, "kept alive");
        assert!((wait_kept("x-stainless-read-timeout", "4", Some(5)) - 12.0).abs() < 0.001, "too rarely");
        assert!((wait_kept("x-stainless-timeout", "60", Some(5)) - 58.0).abs() < 0.001, "the whole call");
        for nonsense in ["-5", "NaN", "inf", "soon"] {
            assert!((wait("x-stainless-timeout", nonsense) - 600.0).abs() < 0.001, "{nonsense}");
        }
    }
}
