//! When a learned limit is probed, and the increase that a successful probe begins.
//!
//! - **A known limit is probed rarely**, by one submit above it. Each failure doubles the wait before the next probe.
//! - **A probe that succeeds** raises the limit by one and is followed by the next at once, so that a raised budget is found
//!   as fast as answers arrive (the shape of CUBIC, RFC 9438 §4.2: flat at the last known maximum, steep beyond it).
//! - An increase ends with the next refusal. One whose gain is lost again met a token bucket or a fixed window, and doubles
//!   the wait once more.

use std::time::Duration;

use tokio::time::Instant;

use super::dimension::Progress;

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
    found: Progress,
    /// The last refusal or change of a limit.
    changed_at: Instant,
}

impl Probing {
    /// Starts with the confidence that `failed` probes in a row gave before.
    pub(super) fn new(window: Duration, failed: u32, now: Progress) -> Self {
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
    pub(super) fn is_due(&self, pause: Duration, now: Progress) -> bool {
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
    pub(super) fn on_confirmed(&mut self, lost: bool, now: Progress) {
        self.failed = (self.failed + 1).min(DOUBLINGS_MAX);
        self.lost_increase |= lost;
        self.found = now;
    }

    /// Records that a limit was found where none explained a refusal.
    pub(super) fn on_found(&mut self, now: Progress) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn start() -> Progress {
        Progress { at: Instant::now(), accepted: 7 }
    }

    fn after(start: Progress, windows: u32, submits: u64) -> Progress {
        Progress { at: start.at + WINDOW * windows, accepted: start.accepted + submits }
    }

    /// Whether a probe is due exactly from `windows` and `submits` after `since` on.
    fn waits(probing: &Probing, since: Progress, windows: u32, submits: u64) -> bool {
        let due = |now| probing.is_due(Duration::ZERO, now);
        let early = Progress { at: after(since, windows, 0).at - Duration::from_millis(1), ..after(since, 0, submits) };
        due(after(since, windows, submits)) && !due(early) && !due(after(since, windows, submits - 1))
    }

    #[test]
    fn every_failed_probe_doubles_the_wait_up_to_a_limit() {
        let mut now = start();
        let mut probing = Probing::new(WINDOW, 0, now);
        for (failed, windows, submits) in [(0, 1, 20), (1, 2, 40), (2, 3, 80), (3, 4, 160), (3, 4, 160)] {
            assert_eq!(probing.failed(), failed);
            assert_eq!(probing.is_confirmed(), failed >= 2);
            assert!(waits(&probing, now, windows, submits), "{failed}");
            now = after(now, windows, submits);
            assert!(!probing.on_refused(now.at), "no increase was in progress");
            probing.on_confirmed(false, now);
        }
        assert_eq!(Probing::new(WINDOW, u32::MAX, now).failed(), 3, "also where more is stored");
    }

    #[test]
    fn forty_pauses_lie_between_two_probes() {
        let start = start();
        let probing = Probing::new(WINDOW, 0, start);
        let pause = Duration::from_secs(6);
        assert!(!probing.is_due(pause, after(start, 3, 1000)));
        assert!(probing.is_due(pause, after(start, 4, 1000)));
    }

    #[test]
    fn one_probe_at_a_time_also_while_the_limits_increase() {
        let start = start();
        let mut probing = Probing::new(WINDOW, 0, start);
        probing.on_sent();
        assert!(!probing.is_due(Duration::ZERO, after(start, 9, 1000)));
        probing.on_result();
        probing.on_accepted(true, start.at);
        assert!(probing.is_due(Duration::from_mins(9), start), "after a success at once");
        probing.on_sent();
        assert!(!probing.is_due(Duration::ZERO, start));
    }

    #[test]
    fn an_increase_lasts_until_a_refusal_or_a_new_limit() {
        let start = start();
        let mut probing = Probing::new(WINDOW, 3, start);
        probing.on_accepted(false, start.at);
        assert!(!probing.is_increasing());
        probing.on_accepted(true, start.at);
        probing.on_accepted(false, start.at);
        assert!(probing.is_increasing(), "an acceptance below the limits does not end it");
        assert!(probing.on_refused(start.at) && !probing.on_refused(start.at));
        probing.on_accepted(true, start.at);
        probing.on_found(start);
        assert!(!probing.is_increasing());
    }

    #[test]
    fn a_lost_increase_doubles_once_more_until_there_is_a_gain() {
        let now = start();
        for (end, failed) in [("gained", 1), ("found", 1), ("fallen", 0)] {
            let mut probing = Probing::new(WINDOW, 0, now);
            probing.on_confirmed(true, now);
            probing.on_confirmed(false, now);
            assert!(waits(&probing, now, 4, 160), "two failures and a loss");
            match end {
                "gained" => probing.on_gained(),
                "found" => probing.on_found(now),
                _ => probing.on_fallen(),
            }
            let (windows, submits) = [(1, 20), (2, 40), (3, 80)][if end == "gained" { 2 } else { failed }];
            assert!(waits(&probing, now, windows, submits), "{end}");
        }
    }

    #[test]
    fn limits_are_steady_a_window_and_a_half_after_the_last_change() {
        let start = start();
        let steady = start.at + WINDOW * 3 / 2;
        let mut probing = Probing::new(WINDOW, 0, start);
        assert!(!probing.is_steady(steady - Duration::from_millis(1)) && probing.is_steady(steady));
        probing.on_accepted(false, steady);
        assert!(probing.is_steady(steady), "an acceptance below the limits changes none");
        probing.on_accepted(true, steady);
        assert!(!probing.is_steady(steady + WINDOW * 9), "while they increase");
        probing.on_refused(steady);
        assert!(!probing.is_steady(steady) && probing.is_steady(steady + WINDOW * 3 / 2));
    }
}
