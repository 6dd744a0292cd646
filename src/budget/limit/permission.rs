//! Whether one more submit may be sent under what was learned.

use tokio::time::Instant;

use super::bounds::floor;
use super::window::Availability;
use super::{AdaptiveLimit, Canary};

/// How much faster than its limit a rate is used while it increases.
const INCREASE_SPACING: f64 = 1.25;
/// The smallest rate, in submits per window, for which that holds: below it, one more is a large step already.
const INCREASE_SPACING_FROM: f64 = 20.0;

/// Whether one more submit may be sent. In every case, ask again when a prediction ends or a submit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::budget) enum Permission {
    Now,
    /// Not before this time.
    At(Instant),
    /// After a prediction has ended: too many are in flight.
    AfterCompletion,
    /// After an unacknowledged submit was answered.
    AfterAnswer,
}

impl AdaptiveLimit {
    /// Whether one more submit may be sent while `in_flight` predictions are in flight, unacknowledged ones included.
    pub(in crate::budget) fn permission(&self, in_flight: usize, now: Instant) -> Permission {
        if let Some(until) = self.paused_until.filter(|&until| until > now) {
            return Permission::At(until);
        }
        if self.canary == Canary::Unacknowledged {
            return Permission::AfterAnswer;
        }
        if in_flight >= self.bounds.concurrency.max(1) {
            return Permission::AfterCompletion;
        }
        if self.unacknowledged >= self.unacknowledged_max {
            return Permission::AfterAnswer;
        }
        let probing = self.may_probe(now);
        // A probe takes no slot below the limit: the level it tests must stay full meanwhile.
        let probes = usize::from(self.probe_unacknowledged);
        let unacknowledged = self.unacknowledged.saturating_sub(probes);
        let above_concurrency = match self.concurrency {
            Some(concurrency)
                if in_flight > concurrency.limit + probes || (in_flight >= concurrency.limit + probes && !probing) =>
            {
                return Permission::AfterCompletion;
            }
            Some(concurrency) => in_flight == concurrency.limit + probes,
            None => false,
        };
        if let Some(rate) = self.rate {
            let allowed = floor(rate.limit) + usize::from(probing && !above_concurrency);
            let spaced = self.window.by_spacing(self.spacing_rate(rate.limit));
            match self.window.by_count(allowed, unacknowledged, now) {
                Availability::AfterAnswer => return Permission::AfterAnswer,
                Availability::At(at) if at.max(spaced) > now => return Permission::At(at.max(spaced)),
                Availability::At(_) => {}
            }
        }
        if let Some(ambiguity) = self.ambiguity
            && in_flight >= ambiguity.held
        {
            match self.window.by_count(ambiguity.counted, self.unacknowledged, now) {
                Availability::AfterAnswer => return Permission::AfterAnswer,
                Availability::At(at) if at > now => return Permission::At(at),
                Availability::At(_) => {}
            }
        }
        Permission::Now
    }

    /// The rate that submits are spaced by: while the limit increases, faster than the limit, because the count in a
    /// window would otherwise never exceed it.
    pub(super) fn spacing_rate(&self, limit: f64) -> f64 {
        if self.increasing && limit >= INCREASE_SPACING_FROM { limit * INCREASE_SPACING } else { limit }
    }
}
