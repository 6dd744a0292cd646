//! What follows a refusal: the pause, the canary, and the decrease of a limit that was exceeded.

use std::time::Duration;

use tokio::time::Instant;

use super::bounds::{floor, real};
use super::{AdaptiveLimit, Canary, Load, RATE_MIN, SendToken, probe};

/// The gain of an increase is provisional for this many windows.
const PROVISIONAL_WINDOWS: u32 = 2;
/// An increase whose gain is lost again met a token bucket or a fixed window. Such increases double the wait before the
/// next probe this often more.
const LOST_DOUBLINGS: u32 = 1;
/// A limit below this fraction of what it was a window ago is searched for again.
const FALLEN: f64 = 0.75;
/// A refusal is not transient if this many submits are refused that were unacknowledged at that moment.
const CONCURRENT_REFUSALS: u32 = 2;

impl AdaptiveLimit {
    /// Records that the upstream refused the submit with a 429 that concerns the account. `in_flight` includes it.
    /// Returns the pause until the canary.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is reported once")]
    pub(in crate::budget) fn on_refused(
        &mut self,
        token: SendToken,
        in_flight: usize,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        let load = self.on_result(&token, in_flight, now);
        let retry_after = retry_after.map(|pause| pause.min(self.bounds.pushback_max));
        if token.epoch < self.epoch {
            // Sent before the pause: the same event. A longer pause is new, and that the refusal was not transient.
            self.concurrent_refusals += 1;
            if self.concurrent_refusals >= CONCURRENT_REFUSALS
                && let Some(first) = self.transient.take()
            {
                self.attribute(first, now);
            }
            if let Some(pause) = retry_after {
                self.paused_until = self.paused_until.max(Some(now + pause));
            }
            return self.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        }
        self.consecutive_refusals = self.consecutive_refusals.saturating_add(1);
        let pause = retry_after.unwrap_or_else(|| self.bounds.pause(self.consecutive_refusals));
        self.epoch += 1;
        self.transient = None;
        self.concurrent_refusals = 0;
        self.unacknowledged_max = 1;
        self.paused_until = Some(now + pause);
        if self.consecutive_refusals == 1 {
            self.first_pause = pause;
        }
        self.canary = Canary::Due;
        self.decrease(load, now);
        pause
    }

    /// Lowers the limit that the refusal was above, or passes the refusal on to be attributed.
    fn decrease(&mut self, load: Load, now: Instant) {
        let Load { held, counted, held_level, counted_level } = load;
        let increased = std::mem::take(&mut self.increasing);
        self.accepted_above = 0;
        self.step = 1;
        self.changed_at = now;
        let throughput = self.throughput(now);
        let provisional_until = increased.then(|| now + self.bounds.window * PROVISIONAL_WINDOWS);
        let over_concurrency = self.concurrency.is_some_and(|concurrency| held_level >= concurrency.limit);
        let over_rate = self.rate.is_some_and(|rate| counted_level >= floor(rate.limit));
        // Where no level was exceeded, a recent increase is the reason.
        let (any_concurrency, any_rate) = (over_concurrency || !over_rate, over_rate || !over_concurrency);
        let mut explained = false;
        if let Some(concurrency) = self.concurrency.as_mut().filter(|_| any_concurrency)
            && (over_concurrency
                || concurrency.is_provisional(now)
                || (increased && concurrency.limit > concurrency.proven))
        {
            let lost = concurrency.is_provisional(now) && !increased;
            self.lost_increases =
                if lost { (self.lost_increases + 1).min(LOST_DOUBLINGS) } else { self.lost_increases };
            let below = if lost { held.min(concurrency.limit - 1) } else { held.min(concurrency.limit) };
            let floor = concurrency.before_decrease(self.bounds.window, now) / 2;
            concurrency.limit = below.max(concurrency.proven).max(floor).max(1);
            concurrency.provisional_until = provisional_until;
            explained = true;
        }
        if let Some(rate) = self.rate.as_mut().filter(|_| any_rate)
            && (over_rate || rate.is_provisional(now) || (increased && rate.limit > rate.proven))
        {
            let lost = rate.is_provisional(now) && !increased;
            self.lost_increases =
                if lost { (self.lost_increases + 1).min(LOST_DOUBLINGS) } else { self.lost_increases };
            let below = if lost { throughput.min(rate.limit - 1.0) } else { real(counted).min(rate.limit) };
            let floor = rate.before_decrease(self.bounds.window, now) / 2.0;
            rate.limit = below.max(rate.proven).max(floor).max(RATE_MIN);
            rate.provisional_until = provisional_until;
            self.rate_exceeded = Some((now, self.accepted));
            explained = true;
        }
        if explained || increased {
            self.found_again(now);
            self.search_after_a_fall();
        } else {
            self.attribute_unexplained(load, now);
        }
    }

    /// Submits per window since the rate was last exceeded.
    fn throughput(&self, now: Instant) -> f64 {
        let Some((at, accepted)) = self.rate_exceeded else { return f64::INFINITY };
        let windows = now.saturating_duration_since(at).as_secs_f64() / self.bounds.window.as_secs_f64();
        real(usize::try_from(self.accepted - accepted).unwrap_or(usize::MAX)) / windows.max(f64::EPSILON)
    }

    /// A probe found the limit unchanged, or an increase found it further up.
    fn found_again(&mut self, now: Instant) {
        self.failed_probes = (self.failed_probes + 1).min(probe::DOUBLINGS_MAX);
        self.found = (now, self.accepted);
        self.unexplained_refusals.clear();
    }

    /// Probes a limit that fell far as often as a new one.
    fn search_after_a_fall(&mut self) {
        let concurrency = self.concurrency.and_then(|concurrency| {
            concurrency.before_decrease.map(|(_, before)| real(concurrency.limit) < real(before) * FALLEN)
        });
        let rate = self.rate.and_then(|rate| rate.before_decrease.map(|(_, before)| rate.limit < before * FALLEN));
        if concurrency == Some(true) || rate == Some(true) {
            self.failed_probes = 0;
            self.lost_increases = 0;
        }
    }
}
