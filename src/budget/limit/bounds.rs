//! The configured upper bounds of what can be learned.

use std::time::Duration;

/// Configured upper bounds, and the times that pauses and windows take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::budget) struct Bounds {
    pub(in crate::budget) submits_per_minute: f64,
    /// Predictions in flight; at least 1.
    pub(in crate::budget) concurrency: usize,
    /// The upstream's window, as far as it is known (`upstream.rate_window_ms`).
    pub(in crate::budget) window: Duration,
    /// The first pause after a 429 without `Retry-After`; doubled by each further one.
    pub(in crate::budget) pushback: Duration,
    /// The longest pause, also for `Retry-After`.
    pub(in crate::budget) pushback_max: Duration,
}

impl Bounds {
    /// The pause after `consecutive` refusals (at least one) that named none.
    pub(super) fn pause(&self, consecutive: u32) -> Duration {
        let doubled = 1_u32.checked_shl(consecutive.saturating_sub(1)).unwrap_or(u32::MAX);
        self.pushback.saturating_mul(doubled).min(self.pushback_max)
    }

    /// The length of a window in minutes.
    pub(super) fn window_minutes(&self) -> f64 {
        self.window.as_secs_f64() / 60.0
    }

    /// The configured rate, in submits per window.
    pub(super) fn rate(&self) -> f64 {
        self.submits_per_minute * self.window_minutes()
    }
}

/// The largest count within a limit: at least one, because slower rates are enforced by spacing.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "learned rates lie between 0 and the configured one"
)]
pub(super) fn floor(limit: f64) -> usize {
    (limit.floor() as usize).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "numbers of submits in a window are far below 2^52")]
pub(super) fn real(count: usize) -> f64 {
    count as f64
}
