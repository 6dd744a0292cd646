//! Whether one more submit may be sent under what was learned.

use tokio::time::Instant;

use super::AdaptiveLimit;

/// What one more submit waits for. In every case, ask again when a prediction ends or a submit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::budget) enum Wait {
    /// This time.
    Until(Instant),
    /// The end of a prediction: too many are in flight.
    ForCompletion,
    /// The answer to an unacknowledged submit.
    ForAnswer,
}

impl AdaptiveLimit {
    /// Whether one more submit may be sent while `in_flight` predictions are in flight, unacknowledged ones included.
    ///
    /// # Errors
    ///
    /// What it waits for.
    pub(in crate::budget) fn permission(&self, in_flight: usize, now: Instant) -> Result<(), Wait> {
        self.recovery.check(now)?;
        if in_flight >= self.bounds.concurrency.max(1) {
            return Err(Wait::ForCompletion);
        }
        self.slow_start.check()?;
        let may_probe =
            !self.recovery.is_canary_due() && self.probing.is_due(self.recovery.first_pause(), self.progress(now));
        // A probe takes no slot below the limit: the level it tests must stay full meanwhile.
        let probes = usize::from(self.probing.is_unacknowledged());
        let level = in_flight.saturating_sub(probes);
        let concurrency = &self.limits.concurrency;
        if concurrency.is_exceeded(level.saturating_sub(usize::from(may_probe))) {
            return Err(Wait::ForCompletion);
        }
        // One submit is not a probe of both limits.
        let may_probe_rate = may_probe && !concurrency.is_exceeded(level);
        let unacknowledged = self.slow_start.unacknowledged();
        self.check_rate(unacknowledged.saturating_sub(probes), may_probe_rate, now)?;
        match self.attribution.ambiguity() {
            // Below one of the two levels the other may be exceeded, which rules one of them out.
            Some(ambiguity) if in_flight >= ambiguity.held => {
                let at = self.window.by_count(ambiguity.counted, unacknowledged, now).ok_or(Wait::ForAnswer)?;
                until(at, now)
            }
            _ => Ok(()),
        }
    }

    /// Whether the learned rate allows one more submit.
    fn check_rate(&self, unacknowledged: usize, may_probe: bool, now: Instant) -> Result<(), Wait> {
        let Some((allowed, spacing)) =
            self.limits.rate.allowed().zip(self.limits.spacing(self.probing.is_increasing()))
        else {
            return Ok(());
        };
        let allowed = allowed + usize::from(may_probe);
        let at = self.window.by_count(allowed, unacknowledged, now).ok_or(Wait::ForAnswer)?;
        until(at.max(self.window.by_spacing(spacing)), now)
    }
}

fn until(at: Instant, now: Instant) -> Result<(), Wait> {
    if at > now { Err(Wait::Until(at)) } else { Ok(()) }
}
