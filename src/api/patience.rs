//! How long a client will wait, by what it says itself.

use std::time::Duration;

use axum::http::HeaderMap;
use tokio::time::Instant;

use crate::config::ServerConfig;

/// The moment at which a request is answered at the latest.
///
/// `x-stainless-timeout` counts from the start of the request, `x-stainless-read-timeout` from the end of its body
/// (`wire/openai.md` §5.3). Both are in seconds, with fractions.
pub(super) fn deadline(headers: &HeaderMap, server: &ServerConfig, began: Instant, body_ended: Instant) -> Instant {
    let declared = |name: &str| {
        let seconds = headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0)?;
        let patience = Duration::try_from_secs_f64(seconds).ok()?;
        // A client with hardly any patience still gets most of it.
        Some(patience.checked_sub(server.patience_margin).unwrap_or_default().max(patience.mul_f64(0.5)))
    };
    let own = body_ended + server.patience;
    let total = declared("x-stainless-timeout").and_then(|patience| began.checked_add(patience));
    let read = declared("x-stainless-read-timeout").and_then(|patience| body_ended.checked_add(patience));
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
        let wait = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
            (deadline(&headers, &server, began, body_ended) - began).as_secs_f64()
        };
        assert!((wait("x-other", "5") - 600.0).abs() < 0.001);
        assert!((wait("x-stainless-read-timeout", "600") - 600.0).abs() < 0.001, "the gateway's own is shorter");
        assert!((wait("x-stainless-read-timeout", "60.5") - 68.5).abs() < 0.001);
        assert!((wait("x-stainless-timeout", "60") - 58.0).abs() < 0.001);
        assert!((wait("x-stainless-read-timeout", "1") - 10.5).abs() < 0.001);
        for nonsense in ["-5", "NaN", "inf", "soon"] {
            assert!((wait("x-stainless-timeout", nonsense) - 600.0).abs() < 0.001, "{nonsense}");
        }
    }
}
