//! Rate limits and how they are reported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `[limits]`: rate limits, each for one key; 0 is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Accepted submits in a window.
    pub submits_per_minute: u32,
    /// How they are counted.
    pub submit_counting: SubmitCounting,
    /// The capacity of the token bucket, with that counting; 0 for a whole window's submits.
    pub submit_burst: u32,
    /// Submits and polls in a window, including those that are refused later.
    pub requests_per_minute: u32,
    /// The window in milliseconds, not scaled by `speed`.
    pub rate_window_ms: u64,
    /// Predictions that have not ended.
    pub concurrent: usize,
    /// What happens to a submit beyond `concurrent`.
    pub over_concurrent: OverConcurrent,
    /// Polls of all predictions in a second.
    pub polls_per_second: u32,
    /// Shortest time between two polls of one prediction, in milliseconds.
    pub poll_interval_min_ms: u64,
    /// Whether `speed` divides that time too.
    pub poll_interval_scaling: Scaled,
    /// `Retry-After`.
    pub retry_after: RetryAfter,
    /// The shape of a 429.
    pub shape: LimitShape,
    /// Limits of single keys, in place of those above.
    pub keys: BTreeMap<String, KeyLimits>,
}

/// `[limits.keys.KEY]`: a limit that is absent or null is the common one; 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimits {
    /// Accepted submits in a window.
    pub submits_per_minute: Option<u32>,
    /// Submits and polls in a window.
    pub requests_per_minute: Option<u32>,
    /// Predictions that have not ended.
    pub concurrent: Option<usize>,
    /// Polls in a second.
    pub polls_per_second: Option<u32>,
}

impl Limits {
    /// Returns the limits of one key.
    #[must_use]
    pub fn of(&self, key: &str) -> Self {
        let mut limits = self.clone();
        if let Some(own) = self.keys.get(key) {
            limits.submits_per_minute = own.submits_per_minute.unwrap_or(self.submits_per_minute);
            limits.requests_per_minute = own.requests_per_minute.unwrap_or(self.requests_per_minute);
            limits.concurrent = own.concurrent.unwrap_or(self.concurrent);
            limits.polls_per_second = own.polls_per_second.unwrap_or(self.polls_per_second);
        }
        limits
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            submits_per_minute: 0,
            submit_counting: SubmitCounting::Sliding,
            submit_burst: 0,
            requests_per_minute: 0,
            rate_window_ms: 60_000,
            concurrent: 0,
            over_concurrent: OverConcurrent::Reject,
            polls_per_second: 0,
            poll_interval_min_ms: 900,
            poll_interval_scaling: Scaled::Unscaled,
            retry_after: RetryAfter::Absent,
            shape: LimitShape::A,
            keys: BTreeMap::new(),
        }
    }
}

choices! {
    /// How submits are counted against their limit.
    SubmitCounting {
        /// A sliding window: those of the last window, at any moment.
        #[default]
        Sliding,
        /// A fixed window: those since the last multiple of the window.
        Fixed,
        /// A token bucket that refills evenly.
        Bucket,
    }
}

choices! {
    /// What happens to a submit beyond the concurrency limit.
    OverConcurrent {
        /// 429.
        #[default]
        Reject,
        /// The prediction waits, as created, until another one ends.
        Queue,
    }
}

choices! {
    /// The `Retry-After` header of a 429.
    RetryAfter {
        /// None.
        #[default]
        Absent,
        /// In seconds, rounded up.
        Seconds,
        /// As an HTTP date.
        Date,
    }
}

choices! {
    /// The shape of a 429.
    LimitShape {
        /// Shape A.
        #[default]
        A,
        /// Shape B.
        B,
    }
}

choices! {
    /// Whether a duration is divided by `speed`.
    Scaled {
        /// Used as written.
        #[default]
        Unscaled,
        /// Divided by `speed`.
        Scaled,
    }
}
