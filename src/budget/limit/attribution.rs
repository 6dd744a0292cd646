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

use super::dimension::{Dimension, Load};

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
pub(super) struct RefusalContext {
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
    pub(super) fn on_unexplained(&mut self, load: &Load, context: RefusalContext) -> Cause {
        if let Some(ambiguity) = self.ambiguity {
            self.narrow(ambiguity, load)
        } else if self.is_evidence(context) {
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
    fn is_evidence(&mut self, RefusalContext { repeated, confirmed, accepted }: RefusalContext) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use Cause::{Ambiguous, Limit, Transient};
    use Dimension::{Concurrency, Rate};

    const FIRST: RefusalContext = RefusalContext { repeated: false, confirmed: false, accepted: 0 };
    const REPEATED: RefusalContext = RefusalContext { repeated: true, ..FIRST };

    fn load(held: usize, counted: usize) -> Load {
        Load { held, counted, unacknowledged: 0, probe: false }
    }

    /// After acceptances at these levels of both dimensions.
    fn after(accepted: &[(usize, usize)]) -> Attribution {
        let mut attribution = Attribution::default();
        for &(held, counted) in accepted {
            assert_eq!(attribution.on_accepted(&load(held, counted)), None);
        }
        attribution
    }

    #[test]
    fn a_level_that_was_accepted_before_is_not_the_reason() {
        for (accepted, refused, expected) in [
            // Both levels are new, or neither is.
            ((4, 20), (5, 21), Ambiguous),
            ((4, 20), (4, 20), Ambiguous),
            // One of them is.
            ((4, 20), (5, 20), Limit(Concurrency, 5)),
            ((4, 20), (4, 21), Limit(Rate, 21)),
            // Nothing is held, or counted: it is no limit.
            ((4, 20), (0, 21), Limit(Rate, 21)),
            ((4, 20), (0, 0), Limit(Rate, 0)),
            ((4, 20), (5, 0), Limit(Concurrency, 5)),
            ((4, 20), (4, 0), Limit(Concurrency, 4)),
            ((4, 20), (0, 20), Limit(Rate, 20)),
        ] {
            let mut attribution = after(&[accepted]);
            let cause = attribution.on_unexplained(&load(refused.0, refused.1), REPEATED);
            assert_eq!(cause, expected, "{accepted:?}, {refused:?}");
            let ambiguity = Ambiguity { held: refused.0, counted: refused.1 };
            assert_eq!(attribution.ambiguity(), (expected == Ambiguous).then_some(ambiguity));
        }
        let mut attribution = after(&[]);
        assert_eq!(attribution.on_unexplained(&load(0, 0), REPEATED), Limit(Rate, 0), "the first submit of all");
    }

    #[test]
    fn the_first_refusal_is_transient_and_one_of_the_canary_is_not() {
        let mut attribution = after(&[(4, 20)]);
        assert_eq!(attribution.on_unexplained(&load(5, 20), FIRST), Transient);
        assert_eq!(attribution.on_unexplained(&load(5, 20), REPEATED), Limit(Concurrency, 5));
    }

    #[test]
    fn refusals_that_accumulate_are_evidence() {
        for (confirmed, enough, apart) in [(false, 4, 33), (true, 8, 14)] {
            let mut attribution = after(&[(4, 20)]);
            let mut refuse = |index: u64, apart: u64| {
                let context = RefusalContext { repeated: false, confirmed, accepted: index * apart };
                attribution.on_unexplained(&load(5, 20), context)
            };
            for index in 1..enough {
                assert_eq!(refuse(index, apart), Transient, "{index}");
            }
            assert_eq!(refuse(enough, apart), Limit(Concurrency, 5));
            assert_eq!(refuse(enough + 1, apart), Transient, "the count starts again");
            // Too far apart.
            let mut attribution = after(&[(4, 20)]);
            for index in 0..20 {
                let context = RefusalContext { repeated: false, confirmed, accepted: index * (apart + 1) };
                assert_eq!(attribution.on_unexplained(&load(5, 20), context), Transient);
            }
            // A refusal that a limit explains clears them.
            let mut attribution = after(&[(4, 20)]);
            for _ in 1..enough {
                assert_eq!(attribution.on_unexplained(&load(5, 20), RefusalContext { confirmed, ..FIRST }), Transient);
            }
            attribution.on_explained();
            assert_eq!(attribution.on_unexplained(&load(5, 20), RefusalContext { confirmed, ..FIRST }), Transient);
        }
    }

    #[test]
    fn refusals_within_a_hundred_submits_are_counted_together() {
        for (last, expected) in [(100, Limit(Concurrency, 5)), (101, Transient)] {
            let mut attribution = after(&[(4, 20)]);
            for _ in 0..3 {
                assert_eq!(attribution.on_unexplained(&load(5, 20), FIRST), Transient);
            }
            assert_eq!(attribution.on_unexplained(&load(5, 20), RefusalContext { accepted: last, ..FIRST }), expected);
        }
    }

    /// An ambiguity at 16 held and 40 counted.
    fn ambiguous() -> Attribution {
        let mut attribution = after(&[]);
        assert_eq!(attribution.on_unexplained(&load(16, 40), REPEATED), Ambiguous);
        attribution
    }

    #[test]
    fn an_acceptance_above_one_level_rules_it_out() {
        for (held, counted, expected, remains) in [
            (15, 39, None, true),
            // Two ends may not have been seen.
            (18, 39, None, true),
            (19, 39, Some(Limit(Rate, 40)), false),
            (15, 40, Some(Limit(Concurrency, 16)), false),
            (15, 41, Some(Limit(Concurrency, 16)), false),
            // Above both: the budget has grown.
            (16, 40, None, false),
            (19, 40, None, false),
        ] {
            let mut attribution = ambiguous();
            assert_eq!(attribution.on_accepted(&load(held, counted)), expected, "{held}, {counted}");
            assert_eq!(attribution.ambiguity().is_some(), remains, "{held}, {counted}");
        }
    }

    #[test]
    fn a_further_refusal_decides_an_ambiguity_or_narrows_it() {
        for (accepted_at_held, held, counted, expected, ambiguity) in [
            (None, 16, 39, Limit(Concurrency, 16), None),
            (Some(12), 12, 40, Limit(Rate, 40), None),
            // With fewer held, and none accepted there since.
            (Some(11), 12, 40, Ambiguous, Some((12, 40))),
            (None, 12, 40, Ambiguous, Some((12, 40))),
            (None, 12, 30, Ambiguous, Some((12, 30))),
            (None, 20, 50, Ambiguous, Some((16, 40))),
            (None, 0, 40, Limit(Rate, 40), None),
            (None, 12, 0, Limit(Concurrency, 12), None),
        ] {
            let mut attribution = ambiguous();
            if let Some(held) = accepted_at_held {
                assert_eq!(attribution.on_accepted(&load(held, 10)), None);
            }
            let case = format!("{accepted_at_held:?}, {held}, {counted}");
            assert_eq!(attribution.on_unexplained(&load(held, counted), FIRST), expected, "{case}");
            let ambiguity = ambiguity.map(|(held, counted)| Ambiguity { held, counted });
            assert_eq!(attribution.ambiguity(), ambiguity, "{case}");
        }
    }

    #[test]
    fn an_attribution_forgets_what_was_accepted_in_its_dimension_only() {
        let mut attribution = after(&[(9, 20)]);
        assert_eq!(attribution.on_unexplained(&load(10, 20), REPEATED), Limit(Concurrency, 10));
        assert_eq!(attribution.on_unexplained(&load(5, 20), REPEATED), Limit(Concurrency, 5));
        let mut attribution = after(&[(9, 20)]);
        assert_eq!(attribution.on_unexplained(&load(9, 21), REPEATED), Limit(Rate, 21));
        assert_eq!(attribution.on_unexplained(&load(9, 15), REPEATED), Limit(Rate, 15));
    }

    #[test]
    fn two_refusals_of_submits_from_before_the_pause_are_evidence_for_its_first() {
        let mut attribution = after(&[(4, 20)]);
        attribution.on_pause();
        assert_eq!(attribution.on_unexplained(&load(5, 20), FIRST), Transient);
        assert_eq!(attribution.on_concurrent_refusal(), None);
        assert_eq!(attribution.on_concurrent_refusal(), Some(Limit(Concurrency, 5)));
        assert_eq!(attribution.on_concurrent_refusal(), None, "once");
        // Neither across pauses, nor where the first was attributed at once.
        attribution.on_pause();
        assert_eq!(attribution.on_unexplained(&load(4, 20), FIRST), Transient);
        assert_eq!(attribution.on_concurrent_refusal(), None);
        attribution.on_pause();
        assert_eq!(attribution.on_concurrent_refusal(), None);
        assert_eq!(attribution.on_concurrent_refusal(), None);
    }

    /// Two submits that were unacknowledged at a refusal are answered in either order.
    #[test]
    fn an_acceptance_and_a_concurrent_refusal_in_both_orders() {
        for refused_first in [true, false] {
            let mut attribution = after(&[(4, 20)]);
            attribution.on_pause();
            assert_eq!(attribution.on_unexplained(&load(5, 20), FIRST), Transient);
            assert_eq!(attribution.on_concurrent_refusal(), None);
            let cause = if refused_first {
                let cause = attribution.on_concurrent_refusal();
                assert_eq!(attribution.on_accepted(&load(5, 20)), None);
                cause
            } else {
                assert_eq!(attribution.on_accepted(&load(5, 20)), None);
                attribution.on_concurrent_refusal()
            };
            // Five held were accepted meanwhile, so neither level is new.
            let expected = if refused_first { Limit(Concurrency, 5) } else { Ambiguous };
            assert_eq!(cause, Some(expected), "refused first: {refused_first}");
        }
    }
}
