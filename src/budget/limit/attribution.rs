//! Which dimension a refusal is attributed to: the concurrency, the rate, or neither.
//!
//! Asked only where no known limit explains the refusal.
//!
//! - **A level that was accepted before is not the reason.** Refused with fewer held than were accepted before: not the
//!   concurrency. Refused with fewer counted: not the rate. Both levels new: an [`Ambiguity`], until an acceptance above one
//!   of the two levels rules that one out. Neither new: the budget has shrunk, or the refusal was transient.
//! - **The first refusal that is not explained costs a pause and nothing else.** If the canary is refused too, or if
//!   refusals accumulate, old evidence is discarded and the ambiguity starts again. Two refusals of submits that were
//!   unacknowledged at that moment say as much: transient failures do not come in groups.
//! - Confusing the two dimensions is bearable: by Little's law (concurrency = rate × time) either limit enforces the other
//!   until the time changes, and then probes find out.

use std::collections::VecDeque;

use super::load::{Dimension, Load};

/// One in this many predictions may have ended without the gateway knowing.
const UNSEEN_FRACTION: usize = 8;
/// Unexplained refusals that are taken for a limit, while none is confirmed ...
const UNEXPLAINED: usize = 4;
/// ... and once one is confirmed, which may be the wrong one ...
const UNEXPLAINED_CONFIRMED: usize = 8;
/// ... within this many accepted submits.
const UNEXPLAINED_WITHIN: u64 = 100;
/// A refusal is not transient if this many submits are refused that were unacknowledged at that moment.
const CONCURRENT_REFUSALS: u32 = 2;

/// What a refusal is attributed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// This level of this dimension.
    Limit(Dimension, usize),
    /// One of the two dimensions.
    Ambiguous,
    /// Neither: a transient failure of the provider.
    Transient,
}

/// A refusal that either dimension explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ambiguity {
    pub(super) held: usize,
    pub(super) counted: usize,
}

/// What is known about refusals that no limit explained.
#[derive(Clone, Debug, Default)]
pub(super) struct Attribution {
    ambiguity: Option<Ambiguity>,
    /// The most that were held before one more was accepted, since the last attribution.
    accepted_at_held: Option<usize>,
    accepted_at_counted: Option<usize>,
    /// When refusals were unexplained, by the number of accepted submits.
    unexplained: VecDeque<u64>,
    /// The refusal that began this pause, while it is taken for a transient one.
    transient: Option<Load>,
    /// Later refusals of submits that were unacknowledged then.
    concurrent_refusals: u32,
}

/// What else is known when a refusal is attributed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// The canary was refused.
    pub(super) repeated: bool,
    /// A limit is known that probes have confirmed.
    pub(super) confirmed: bool,
    /// Submits accepted in all.
    pub(super) accepted: u64,
}

impl Attribution {
    /// Returns the refusal that either dimension explains, until one of them is ruled out.
    pub(super) fn ambiguity(&self) -> Option<Ambiguity> {
        self.ambiguity
    }

    /// Records the levels at which a submit was accepted. An acceptance above one of the two levels of an ambiguity rules
    /// that one out, and the cause is the other.
    pub(super) fn on_accepted(&mut self, load: &Load) -> Option<Cause> {
        let Load { held, counted, .. } = *load;
        self.accepted_at_held = self.accepted_at_held.max(Some(held));
        self.accepted_at_counted = self.accepted_at_counted.max(Some(counted));
        let ambiguity = self.ambiguity?;
        // An end that the gateway has not seen yet admits one more at the limit, so a little above it is required.
        match (held > ambiguity.held + ambiguity.held / UNSEEN_FRACTION, counted >= ambiguity.counted) {
            (true, false) => Some(self.limit(Dimension::Rate, ambiguity.counted)),
            (false, true) if held < ambiguity.held => Some(self.limit(Dimension::Concurrency, ambiguity.held)),
            (_, true) => {
                self.ambiguity = None;
                None
            }
            (false, false) => None,
        }
    }

    /// Records that a refusal begins a pause. Later refusals of earlier submits are compared with this one.
    pub(super) fn on_pause(&mut self) {
        self.transient = None;
        self.concurrent_refusals = 0;
    }

    /// Records that a known limit explains the refusal.
    pub(super) fn on_explained(&mut self) {
        self.unexplained.clear();
    }

    /// Attributes a refusal that no known limit explains.
    pub(super) fn on_unexplained(&mut self, load: &Load, circumstances: Circumstances) -> Cause {
        if let Some(ambiguity) = self.ambiguity {
            self.narrow(ambiguity, load)
        } else if self.is_evidence(circumstances) {
            self.attribute(load)
        } else {
            self.transient = Some(*load);
            Cause::Transient
        }
    }

    /// Records that a submit was refused that was unacknowledged when the pause began. Returns the cause of the refusal that
    /// began it, if that was taken for a transient one and was not.
    pub(super) fn on_concurrent_refusal(&mut self) -> Option<Cause> {
        self.concurrent_refusals += 1;
        if self.concurrent_refusals < CONCURRENT_REFUSALS {
            return None;
        }
        let first = self.transient.take()?;
        Some(self.attribute(&first))
    }

    /// Records an unexplained refusal. Returns whether it is evidence, or taken for a transient one.
    fn is_evidence(&mut self, Circumstances { repeated, confirmed, accepted }: Circumstances) -> bool {
        self.unexplained.push_back(accepted);
        self.unexplained.retain(|&at| accepted - at <= UNEXPLAINED_WITHIN);
        let enough = if confirmed { UNEXPLAINED_CONFIRMED } else { UNEXPLAINED };
        repeated || self.unexplained.len() >= enough
    }

    /// Attributes a refusal that was not transient.
    fn attribute(&mut self, load: &Load) -> Cause {
        let Load { held, counted, .. } = *load;
        self.unexplained.clear();
        let by_concurrency = self.accepted_at_held < Some(held) && held > 0;
        let by_rate = self.accepted_at_counted < Some(counted) && counted > 0;
        match (by_concurrency, by_rate) {
            (true, false) => self.limit(Dimension::Concurrency, held),
            (false, true) => self.limit(Dimension::Rate, counted),
            (true, true) | (false, false) => self.begin(Ambiguity { held, counted }),
        }
    }

    /// Begins an ambiguity, without the evidence of before.
    fn begin(&mut self, ambiguity: Ambiguity) -> Cause {
        self.accepted_at_held = None;
        self.accepted_at_counted = None;
        match ambiguity {
            // An upstream that accepts none at all would be unusable: it is the rate.
            Ambiguity { held: 0, counted } => self.limit(Dimension::Rate, counted),
            Ambiguity { held, counted: 0 } => self.limit(Dimension::Concurrency, held),
            Ambiguity { .. } => {
                self.ambiguity = Some(ambiguity);
                Cause::Ambiguous
            }
        }
    }

    /// Uses a further refusal to decide an ambiguity.
    fn narrow(&mut self, ambiguity: Ambiguity, load: &Load) -> Cause {
        let Load { held, counted, .. } = *load;
        match (held >= ambiguity.held, counted >= ambiguity.counted) {
            (true, false) => self.limit(Dimension::Concurrency, ambiguity.held),
            (false, true) if self.accepted_at_held >= Some(held) => self.limit(Dimension::Rate, ambiguity.counted),
            _ => self.begin(Ambiguity { held: held.min(ambiguity.held), counted: counted.min(ambiguity.counted) }),
        }
    }

    /// Decides for one dimension. What was accepted below the old limit says nothing about the new one.
    fn limit(&mut self, dimension: Dimension, level: usize) -> Cause {
        self.ambiguity = None;
        match dimension {
            Dimension::Concurrency => self.accepted_at_held = None,
            Dimension::Rate => self.accepted_at_counted = None,
        }
        Cause::Limit(dimension, level)
    }
}
