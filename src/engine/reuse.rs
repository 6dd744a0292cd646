//! Which request waits with, or takes over, which earlier one (`design.md` §4, `promises.md` §1.3).
//!
//! All of it within one client: the client is part of the fingerprint.

use std::time::Duration;

/// How long after an answer was written an SDK may still say that it never got it: the official ones wait 10 minutes for
/// one, and a little before they ask again.
const RETRY_WINDOW: Duration = Duration::from_mins(11);

/// How a request looks at what was bought before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReusePolicy {
    /// The cache is on and the request did not say `no-cache`.
    pub(super) shares: bool,
    /// An SDK says that it asks again (`x-stainless-retry-count` above 0).
    pub(super) is_retry: bool,
    /// The client wants to buy whatever happened before: `no-cache`, or an idempotency key that is new.
    pub(super) insists: bool,
}

/// An order with the same fingerprint that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LiveCandidate {
    /// Somebody is connected and waiting for it.
    pub(super) has_waiters: bool,
}

/// An order with the same fingerprint whose pictures are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredCandidate {
    pub(super) age: Duration,
    /// How long ago its answer was written to a connection that was still there. What is written is not yet read: it may
    /// be lost on its way, or in a buffer.
    pub(super) delivered: Option<Duration>,
    /// Somebody is being given it at this moment, or comes back for it.
    pub(super) in_delivery: bool,
    /// Later requests may have it: no `no-store`, and no picture missing.
    pub(super) shareable: bool,
}

impl ReusePolicy {
    /// Whether the request waits with a live order instead of buying.
    pub(super) fn joins(self, live: LiveCandidate) -> bool {
        // Two deliberate identical calls buy two pictures; a repeated one, or one whose first caller is gone, does not.
        self.shares || self.is_retry || !live.has_waiters
    }

    /// Whether a stored result answers the request.
    pub(super) fn takes(self, stored: StoredCandidate, cache_ttl: Duration, claim_window: Duration) -> bool {
        let hit = self.shares && stored.shareable && stored.age <= cache_ttl;
        // Paid for and never received: whoever asks for the same gets it, once.
        let claim = stored.delivered.is_none() && (!stored.in_delivery || self.is_retry) && stored.age <= claim_window;
        // Whoever asks again did not get the answer, whatever the socket said.
        let again = self.is_retry && stored.delivered.is_some_and(|ago| ago <= RETRY_WINDOW);
        hit || claim || again
    }

    /// Whether a purchase of unknown outcome, so long ago, answers the request: with the same error, buying nothing.
    /// Many clients look at the status alone and ask again by themselves; one that insists is let through, but not its
    /// own retry.
    pub(super) fn is_held(self, unknown_for: Duration, window: Duration) -> bool {
        (!self.insists || self.is_retry) && unknown_for <= window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn two_deliberate_calls_buy_two_pictures_unless_the_cache_is_on() {
        let live = LiveCandidate { has_waiters: true };
        let asker = |shares, is_retry| ReusePolicy { shares, is_retry, insists: !shares };
        assert!(asker(true, false).joins(live));
        assert!(asker(false, true).joins(live));
        assert!(!asker(false, false).joins(live));
        assert!(asker(false, false).joins(LiveCandidate { has_waiters: false }));
    }

    #[test]
    fn undelivered_goods_are_claimed_and_delivered_ones_only_shared() {
        let asker = |shares| ReusePolicy { shares, is_retry: false, insists: !shares };
        let stored = |delivered: bool, shareable| StoredCandidate {
            age: MINUTE,
            delivered: delivered.then_some(MINUTE),
            in_delivery: false,
            shareable,
        };
        let takes = |asker: ReusePolicy, stored| asker.takes(stored, DAY, DAY);
        assert!(takes(asker(true), stored(true, true)));
        assert!(!takes(asker(true), stored(true, false)));
        assert!(takes(asker(true), stored(false, false)));
        assert!(!takes(asker(false), stored(true, true)));
        assert!(takes(asker(false), stored(false, true)));
        let in_delivery = StoredCandidate { in_delivery: true, ..stored(false, true) };
        assert!(!takes(asker(false), in_delivery), "a deliberate second call buys its own");
        assert!(takes(ReusePolicy { shares: false, is_retry: true, insists: true }, in_delivery));
        assert!(!asker(true).takes(stored(true, true), Duration::ZERO, DAY), "too old");
        assert!(!asker(false).takes(stored(false, true), DAY, Duration::ZERO), "too old to claim");
    }

    #[test]
    fn a_retry_gets_again_what_was_written_to_its_first_connection() {
        let takes = |is_retry, delivered| {
            let stored = StoredCandidate { age: DAY, delivered, in_delivery: false, shareable: true };
            ReusePolicy { shares: false, is_retry, insists: true }.takes(stored, Duration::ZERO, Duration::ZERO)
        };
        assert!(takes(true, Some(MINUTE)));
        assert!(!takes(false, Some(MINUTE)), "a deliberate second call");
        assert!(!takes(true, Some(DAY)), "a retry of something else");
    }

    #[test]
    fn an_unknown_outcome_holds_everybody_but_who_insists() {
        let held = |insists, is_retry, age| ReusePolicy { shares: true, is_retry, insists }.is_held(age, DAY);
        assert!(held(false, false, MINUTE));
        assert!(held(false, true, MINUTE));
        assert!(!held(true, false, MINUTE));
        assert!(held(true, true, MINUTE), "an SDK repeats the headers of the first try");
        assert!(!held(false, false, DAY + MINUTE));
    }

    /// Promise: two deliberate identical calls still make two pictures. Every combination there is.
    #[test]
    fn nobody_joins_or_takes_by_mistake() {
        let both = [false, true];
        for (shares, is_retry, insists) in all(both, both, both) {
            let asker = ReusePolicy { shares, is_retry, insists };
            for has_waiters in both {
                let deliberate = !shares && !is_retry && has_waiters;
                assert_eq!(asker.joins(LiveCandidate { has_waiters }), !deliberate, "{asker:?} {has_waiters}");
            }
            for (delivered, in_delivery, shareable) in all(both, both, both) {
                let stored =
                    StoredCandidate { age: MINUTE, delivered: delivered.then_some(MINUTE), in_delivery, shareable };
                let somebody_has_it = delivered || in_delivery;
                if somebody_has_it && !shares && !is_retry {
                    assert!(!asker.takes(stored, DAY, DAY), "{asker:?} {stored:?}");
                }
                if !somebody_has_it {
                    assert!(asker.takes(stored, DAY, DAY), "paid for and nobody's: {asker:?} {stored:?}");
                }
            }
        }
    }

    fn all(one: [bool; 2], two: [bool; 2], three: [bool; 2]) -> impl Iterator<Item = (bool, bool, bool)> {
        one.into_iter().flat_map(move |a| two.into_iter().flat_map(move |b| three.into_iter().map(move |c| (a, b, c))))
    }
}
