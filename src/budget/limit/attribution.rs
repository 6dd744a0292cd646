//! Which dimension a refusal is attributed to: the concurrency, the rate, or neither.

use tokio::time::Instant;

use super::bounds::real;
use super::learned_limit::LearnedLimit;
use super::{AdaptiveLimit, Ambiguity, Load, RATE_MIN};

/// An unexplained refusal is evidence against a limit that was used from this fraction on ...
const NEARLY: f64 = 0.75;
/// ... and costs this fraction of a rate.
const NUDGE: f64 = 0.02;
/// One in this many predictions may have ended without the gateway knowing.
const UNSEEN_FRACTION: usize = 8;
/// Unexplained refusals that are taken for a limit, while none is confirmed ...
const UNEXPLAINED: usize = 4;
/// ... and once one is confirmed, which may be the wrong one ...
const UNEXPLAINED_CONFIRMED: usize = 8;
/// ... within this many accepted submits.
const UNEXPLAINED_WITHIN: u64 = 100;
/// A limit is confirmed after this many failed probes.
const CONFIRMED: u32 = 2;

impl AdaptiveLimit {
    /// An acceptance above one of the two levels of an ambiguity rules that one out.
    pub(super) fn resolve_ambiguity(&mut self, Load { held, counted, .. }: Load, now: Instant) {
        let Some(ambiguity) = self.ambiguity else { return };
        // An end that the gateway has not seen yet admits one more at the limit, so a little above it is required.
        match (held > ambiguity.held + ambiguity.held / UNSEEN_FRACTION, counted >= ambiguity.counted) {
            (true, false) => self.limit_rate(ambiguity.counted, now),
            (false, true) if held < ambiguity.held => self.limit_concurrency(ambiguity.held, now),
            (_, true) => self.ambiguity = None,
            (false, false) => {}
        }
    }

    /// Attributes a refusal that no known limit explains.
    pub(super) fn attribute_unexplained(&mut self, load: Load, now: Instant) {
        if self.ambiguity.is_some() {
            self.narrow_ambiguity(load.held, load.counted, now);
        } else if self.is_evidence() {
            self.attribute(load, now);
        } else {
            self.transient = Some(load);
            self.nudge(load);
        }
    }

    /// Attributes a refusal that was not transient.
    pub(super) fn attribute(&mut self, Load { held, counted, .. }: Load, now: Instant) {
        self.unexplained_refusals.clear();
        let by_concurrency = self.accepted_at_held < Some(held) && held > 0;
        let by_rate = self.accepted_at_counted < Some(counted) && counted > 0;
        match (by_concurrency, by_rate) {
            (true, false) => self.limit_concurrency(held, now),
            (false, true) => self.limit_rate(counted, now),
            (true, true) | (false, false) => self.begin_ambiguity(held, counted, now),
        }
    }

    /// Lowers a nearly used limit a little, not below what is proven, after a refusal that is taken for a transient one.
    fn nudge(&mut self, Load { held, counted, .. }: Load) {
        if let Some(concurrency) = &mut self.concurrency
            && real(held + self.unacknowledged) >= real(concurrency.limit) * NEARLY
        {
            concurrency.limit = (concurrency.limit - 1).max(concurrency.proven).max(1);
        }
        if let Some(rate) = &mut self.rate
            && real(counted + self.unacknowledged) >= rate.limit * NEARLY
        {
            let below = rate.limit - (rate.limit * NUDGE).max(1.0);
            rate.limit = below.max(rate.proven).max(RATE_MIN);
        }
    }

    /// Records an unexplained refusal. Returns whether it is evidence, or taken for a transient one.
    fn is_evidence(&mut self) -> bool {
        let known = self.concurrency.is_some() || self.rate.is_some();
        let confirmed = known && self.failed_probes >= CONFIRMED;
        self.unexplained_refusals.push_back(self.accepted);
        self.unexplained_refusals.retain(|&at| self.accepted - at <= UNEXPLAINED_WITHIN);
        let enough = if confirmed { UNEXPLAINED_CONFIRMED } else { UNEXPLAINED };
        self.consecutive_refusals > 1 || self.unexplained_refusals.len() >= enough
    }

    fn begin_ambiguity(&mut self, held: usize, counted: usize, now: Instant) {
        self.accepted_at_held = None;
        self.accepted_at_counted = None;
        if held == 0 {
            // An upstream that accepts none at all would be unusable: it is the rate.
            self.limit_rate(counted, now);
        } else if counted == 0 {
            self.limit_concurrency(held, now);
        } else {
            self.ambiguity = Some(Ambiguity { held, counted });
        }
    }

    /// Uses a further refusal to decide an ambiguity.
    fn narrow_ambiguity(&mut self, held: usize, counted: usize, now: Instant) {
        let Some(ambiguity) = self.ambiguity else { return };
        match (held >= ambiguity.held, counted >= ambiguity.counted) {
            (true, false) => self.limit_concurrency(ambiguity.held, now),
            (false, true) if self.accepted_at_held >= Some(held) => self.limit_rate(ambiguity.counted, now),
            _ => self.begin_ambiguity(held.min(ambiguity.held), counted.min(ambiguity.counted), now),
        }
    }

    fn limit_concurrency(&mut self, limit: usize, now: Instant) {
        self.ambiguity = None;
        self.accepted_at_held = None;
        // At most halved within a window: a refusal after a long pause would find little in flight.
        let floor = self.concurrency.as_mut().map(|concurrency| concurrency.before_decrease(self.bounds.window, now));
        let mut concurrency = LearnedLimit::at(limit.max(floor.unwrap_or_default() / 2).max(1));
        concurrency.before_decrease = self.concurrency.and_then(|concurrency| concurrency.before_decrease);
        self.concurrency = Some(concurrency).filter(|concurrency| concurrency.limit < self.bounds.concurrency);
        self.found_new(now);
    }

    fn limit_rate(&mut self, counted: usize, now: Instant) {
        self.ambiguity = None;
        self.accepted_at_counted = None;
        let before = self.rate.map_or(self.bounds.rate(), |rate| rate.limit);
        // Nothing at all was counted: slower than one per window.
        let limit = if counted == 0 { before.min(1.0) / 2.0 } else { real(counted) };
        let floor = self.rate.as_mut().map(|rate| rate.before_decrease(self.bounds.window, now));
        let limit = limit.min(before).max(floor.unwrap_or_default() / 2.0).max(RATE_MIN);
        let mut rate = LearnedLimit::at(limit);
        rate.before_decrease = self.rate.and_then(|rate| rate.before_decrease);
        self.rate = Some(rate).filter(|rate| rate.limit < self.bounds.rate());
        self.rate_exceeded = Some((now, self.accepted));
        self.found_new(now);
    }

    /// A limit was found where none was known.
    fn found_new(&mut self, now: Instant) {
        self.failed_probes = self.failed_probes.min(1);
        self.lost_increases = 0;
        self.found = (now, self.accepted);
        self.increasing = false;
    }
}
