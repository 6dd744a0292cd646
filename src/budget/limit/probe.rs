//! Probes above a learned limit, the increases they lead to, and what of them is proven.

use tokio::time::Instant;

use super::bounds::{floor, real};
use super::{AdaptiveLimit, Canary, Load};

/// Accepted submits before a limit is probed for the first time; doubled by every probe that fails.
const SUBMITS_BEFORE_FIRST: u32 = 20;
/// The most doublings: a probe every 160 submits, which is four to seven refusals in 1,000.
pub(super) const DOUBLINGS_MAX: u32 = 3;
/// A probe can cost a pause. At least this multiple of the last pause lies between two probes.
const PAUSES_BETWEEN: u32 = 40;
/// The concurrency limit is raised after this many acceptances above it: a single one may have been accepted because of an
/// end that the gateway had not seen yet.
const ACCEPTED_ABOVE: u32 = 4;
/// The step doubles up to this fraction of the limit.
const STEP_FRACTION: usize = 8;
/// A level that was used for this many windows without a refusal is proven. More than one, because a fixed window may
/// refuse once in each.
const PROVING_WINDOWS: f64 = 1.5;
/// A proven level this much above the last one clears the lost increases.
const GAINED: f64 = 1.1;

impl AdaptiveLimit {
    pub(super) fn may_probe(&self, now: Instant) -> bool {
        if self.canary == Canary::Due || self.probe_unacknowledged {
            return false;
        }
        let (at, accepted) = self.found;
        let doublings = self.failed_probes.min(DOUBLINGS_MAX) + self.lost_increases;
        let wait = (self.bounds.window * (1 + doublings)).max(self.first_pause * PAUSES_BETWEEN);
        self.increasing
            || (self.accepted - accepted >= u64::from(SUBMITS_BEFORE_FIRST << doublings)
                && now.saturating_duration_since(at) >= wait)
    }

    /// Raises a limit after an acceptance above it.
    pub(super) fn raise(&mut self, Load { held_level, counted_level, .. }: Load, now: Instant) {
        if let Some(concurrency) = &mut self.concurrency
            && held_level >= concurrency.limit
        {
            self.increasing = true;
            self.accepted_above += 1;
            if self.accepted_above >= ACCEPTED_ABOVE {
                self.accepted_above = 0;
                concurrency.limit += self.step;
                self.step = (self.step * 2).min(1 + concurrency.limit / STEP_FRACTION);
            }
        }
        if let Some(rate) = &mut self.rate
            && counted_level >= floor(rate.limit)
        {
            rate.limit += 1.0;
            self.increasing = true;
        }
        if self.increasing {
            self.changed_at = now;
        }
        self.concurrency = self.concurrency.filter(|concurrency| concurrency.limit < self.bounds.concurrency);
        self.rate = self.rate.filter(|rate| rate.limit < self.bounds.rate());
    }

    /// Marks as proven what was used for long enough without a refusal.
    pub(super) fn prove(&mut self, Load { held, counted, .. }: Load, now: Instant) {
        let since_change = now.saturating_duration_since(self.changed_at);
        if self.increasing || since_change < self.bounds.window.mul_f64(PROVING_WINDOWS) {
            return;
        }
        if let Some(concurrency) = &mut self.concurrency {
            let used = (held + 1).min(concurrency.limit);
            if real(used) > real(concurrency.proven) * GAINED {
                self.lost_increases = 0;
            }
            concurrency.proven = concurrency.proven.max(used);
        }
        if let Some(rate) = &mut self.rate {
            let used = real(counted + 1).min(rate.limit);
            if used > rate.proven * GAINED {
                self.lost_increases = 0;
            }
            rate.proven = rate.proven.max(used);
        }
    }
}
