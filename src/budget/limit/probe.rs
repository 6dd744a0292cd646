//! When a learned limit is probed, and the increase that a successful probe begins.
//!
//! - **A known limit is probed rarely**, by one submit above it. Each failure doubles the wait before the next probe.
//! - **A probe that succeeds** raises the limit by one and is followed by the next at once, so that a raised budget is found
//!   as fast as answers arrive (the shape of CUBIC, RFC 9438 §4.2: flat at the last known maximum, steep beyond it).
//! - An increase ends with the next refusal. One whose gain is lost again met a token bucket or a fixed window, and doubles
//!   the wait once more.

use std::time::Duration;

use tokio::time::Instant;

use super::load::Checkpoint;

/// Accepted submits before a limit is probed for the first time; doubled by every probe that fails.
const SUBMITS_BEFORE_FIRST: u32 = 20;
/// The most doublings: a probe every 160 submits, which is four to seven refusals in 1,000.
const DOUBLINGS_MAX: u32 = 3;
/// A probe can cost a pause. At least this multiple of the last pause lies between two probes.
const PAUSES_BETWEEN: u32 = 40;
/// A limit is confirmed after this many failed probes.
const CONFIRMED: u32 = 2;
/// A level that was used for this many windows without a refusal is proven. More than one, because a fixed window may
/// refuse once in each.
const PROVING_WINDOWS: f64 = 1.5;

/// The schedule of the probes, and the increase that is in progress.
#[derive(Clone, Debug)]
pub(super) struct Probing {
    window: Duration,
    /// A probe is unacknowledged.
    unacknowledged: bool,
    /// Probes that failed in a row: the confidence in the limits.
    failed: u32,
    /// The last probe succeeded, and the next follows at once.
    increasing: bool,
    /// The gain of an increase was lost again.
    lost_increase: bool,
    /// When a limit was last found.
    found: Checkpoint,
    /// The last refusal or change of a limit.
    changed_at: Instant,
}

impl Probing {
    /// Starts with the confidence that `failed` probes in a row gave before.
    pub(super) fn new(window: Duration, failed: u32, now: Checkpoint) -> Self {
        let failed = failed.min(DOUBLINGS_MAX);
        Self {
            window,
            unacknowledged: false,
            failed,
            increasing: false,
            lost_increase: false,
            found: now,
            changed_at: now.at,
        }
    }

    /// Whether the next submit may be a probe. `pause` is what the last refusal cost.
    pub(super) fn is_due(&self, pause: Duration, now: Checkpoint) -> bool {
        if self.unacknowledged {
            return false;
        }
        let doublings = self.failed + u32::from(self.lost_increase);
        let wait = (self.window * (1 + doublings)).max(pause * PAUSES_BETWEEN);
        self.increasing
            || (now.accepted - self.found.accepted >= u64::from(SUBMITS_BEFORE_FIRST << doublings)
                && now.at.saturating_duration_since(self.found.at) >= wait)
    }

    pub(super) fn is_unacknowledged(&self) -> bool {
        self.unacknowledged
    }

    pub(super) fn is_increasing(&self) -> bool {
        self.increasing
    }

    /// Whether enough probes have failed to trust the limits.
    pub(super) fn is_confirmed(&self) -> bool {
        self.failed >= CONFIRMED
    }

    /// Whether the limits have been used unchanged for long enough to prove what was used of them.
    pub(super) fn is_steady(&self, now: Instant) -> bool {
        let since_change = now.saturating_duration_since(self.changed_at);
        !self.increasing && since_change >= self.window.mul_f64(PROVING_WINDOWS)
    }

    /// Returns the probes that failed in a row.
    pub(super) fn failed(&self) -> u32 {
        self.failed
    }

    pub(super) fn on_sent(&mut self) {
        self.unacknowledged = true;
    }

    pub(super) fn on_result(&mut self) {
        self.unacknowledged = false;
    }

    /// Records an acceptance. One above a limit begins an increase.
    pub(super) fn on_accepted(&mut self, above: bool, now: Instant) {
        self.increasing |= above;
        if self.increasing {
            self.changed_at = now;
        }
    }

    /// Records a refusal, which ends an increase. Returns whether one was in progress.
    pub(super) fn on_refused(&mut self, now: Instant) -> bool {
        self.changed_at = now;
        std::mem::take(&mut self.increasing)
    }

    /// Records that a refusal found the limits unchanged, or further up after an increase. `lost`: it took the gain of the
    /// increase before.
    pub(super) fn on_confirmed(&mut self, lost: bool, now: Checkpoint) {
        self.failed = (self.failed + 1).min(DOUBLINGS_MAX);
        self.lost_increase |= lost;
        self.found = now;
    }

    /// Records that a limit was found where none explained a refusal.
    pub(super) fn on_found(&mut self, now: Checkpoint) {
        self.failed = self.failed.min(1);
        self.lost_increase = false;
        self.found = now;
        self.increasing = false;
    }

    /// Records that a limit fell far: it is probed as often as a new one.
    pub(super) fn on_fallen(&mut self) {
        self.failed = 0;
        self.lost_increase = false;
    }

    /// Records that more than before is proven, so that the last gain was not lost.
    pub(super) fn on_gained(&mut self) {
        self.lost_increase = false;
    }
}
