//! Which request joins, or reuses the result of, which earlier one.
//!
//! Only within one client: the client is part of the fingerprint.

use std::time::Duration;

/// How long after an answer was written a retry may still mean that it was not received: the official SDKs wait 10
/// minutes for an answer, and a little before they retry.
const RETRY_WINDOW: Duration = Duration::from_mins(11);

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerSource {
    /// A stored result of this age.
    Hit(Duration),
    /// A job that another request started.
    Joined,
    /// Bought for this request.
    Bought,
    /// Bought for this request, which accepted nothing earlier.
    Bypass,
}

/// What a request accepts of what was bought before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReusePolicy {
    /// The cache is on and the request does not have `no-cache`.
    pub(super) cache_allowed: bool,
    /// The SDK reports that this is a retry (`x-stainless-retry-count` above 0).
    pub(super) is_retry: bool,
    /// The client wants to buy regardless of what happened before: `no-cache`, or an idempotency key that is new.
    pub(super) force_new: bool,
}

/// A job with the same fingerprint that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LiveCandidate {
    /// A request waits for it, or its client fetches it later.
    pub(super) has_waiters: bool,
}

/// A job with the same fingerprint whose pictures are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredCandidate {
    pub(super) age: Duration,
    /// How long ago its answer was written to a connection that was still open. An answer that is written is not yet
    /// read: it may be lost on its way, or in a buffer.
    pub(super) delivered: Option<Duration>,
    /// A client is receiving it at this moment, or fetches it later.
    pub(super) in_delivery: bool,
    /// It may answer later requests: no `no-store`, no picture missing, and its input pictures were looked at.
    pub(super) shareable: bool,
    /// Its input pictures were not looked at.
    pub(super) inputs_unseen: bool,
    /// Pictures of it may have been bought without an answer, this long ago; `None` when there are none, when an operator
    /// has resolved them, and when unknown outcomes do not hold requests.
    pub(super) unknown_for: Option<Duration>,
}

/// How long a stored result answers requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReuseWindows {
    /// As a hit.
    pub(super) cache_ttl: Duration,
    /// While it is unclaimed.
    pub(super) claim: Duration,
    /// While an unknown outcome of it is held.
    pub(super) unknown_hold: Duration,
}

impl ReusePolicy {
    /// Whether the request joins a live job instead of buying.
    pub(super) fn may_join(self, live: LiveCandidate) -> bool {
        // Two deliberate identical calls buy two pictures; a retry, or a call after the first client has left, does
        // not.
        self.cache_allowed || self.is_retry || !live.has_waiters
    }

    /// Whether a stored result answers the request.
    pub(super) fn may_reuse(self, stored: StoredCandidate, windows: ReuseWindows) -> bool {
        let ReuseWindows { cache_ttl, claim: claim_window, unknown_hold } = windows;
        let hit = self.cache_allowed && stored.shareable && !stored.inputs_unseen && stored.age <= cache_ttl;
        // Paid for and never received: the next equal request gets it, once. One that forces a new purchase is not given
        // pictures that were made without its own.
        let unwanted = stored.inputs_unseen && self.force_new && !self.is_retry;
        let claimable = stored.delivered.is_none() && (!stored.in_delivery || self.is_retry);
        let claim = claimable && !unwanted && stored.age <= claim_window;
        // A retry means that the answer was not received, even where the socket accepted it.
        let redelivery = self.is_retry && stored.delivered.is_some_and(|ago| ago <= RETRY_WINDOW);
        // Asking for the missing pictures again would buy all of them again.
        let held = stored.unknown_for.is_some_and(|unknown_for| self.is_held(unknown_for, unknown_hold));
        hit || claim || redelivery || held
    }

    /// Whether a stored result that answers the request, and is damaged, is fetched again for it. A request that forces a new
    /// purchase buys instead; so does its retry once the damaged result is known to be `lost`.
    pub(super) fn may_refetch(self, lost: bool) -> bool {
        !self.force_new || (self.is_retry && !lost)
    }

    /// Whether a purchase of unknown outcome, made `unknown_for` ago, answers the request: with the same error, buying
    /// nothing. Many clients retry by the status alone; a request that forces a new purchase passes, but not its retry.
    pub(super) fn is_held(self, unknown_for: Duration, window: Duration) -> bool {
        (!self.force_new || self.is_retry) && unknown_for <= window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const MINUTE: Duration = Duration::from_mins(1);
    const DAYS: ReuseWindows = ReuseWindows { cache_ttl: DAY, claim: DAY, unknown_hold: DAY };

    #[test]
    fn two_deliberate_calls_buy_two_pictures_unless_the_cache_is_on() {
        let live = LiveCandidate { has_waiters: true };
        let policy = |cache_allowed, is_retry| ReusePolicy { cache_allowed, is_retry, force_new: !cache_allowed };
        assert!(policy(true, false).may_join(live));
        assert!(policy(false, true).may_join(live));
        assert!(!policy(false, false).may_join(live));
        assert!(policy(false, false).may_join(LiveCandidate { has_waiters: false }));
    }

    #[test]
    fn unclaimed_results_are_claimed_and_delivered_ones_only_shared() {
        let policy = |cache_allowed| ReusePolicy { cache_allowed, is_retry: false, force_new: !cache_allowed };
        let stored = |delivered: bool, shareable| StoredCandidate {
            age: MINUTE,
            delivered: delivered.then_some(MINUTE),
            in_delivery: false,
            shareable,
            inputs_unseen: false,
            unknown_for: None,
        };
        let reuses = |policy: ReusePolicy, stored| policy.may_reuse(stored, DAYS);
        assert!(reuses(policy(true), stored(true, true)));
        assert!(!reuses(policy(true), stored(true, false)));
        assert!(reuses(policy(true), stored(false, false)));
        assert!(!reuses(policy(false), stored(true, true)));
        assert!(reuses(policy(false), stored(false, true)));
        let in_delivery = StoredCandidate { in_delivery: true, ..stored(false, true) };
        assert!(!reuses(policy(false), in_delivery), "a deliberate second call buys its own");
        assert!(reuses(ReusePolicy { cache_allowed: false, is_retry: true, force_new: true }, in_delivery));
        let no_cache = ReuseWindows { cache_ttl: Duration::ZERO, ..DAYS };
        assert!(!policy(true).may_reuse(stored(true, true), no_cache), "too old");
        let no_claims = ReuseWindows { claim: Duration::ZERO, ..DAYS };
        assert!(!policy(false).may_reuse(stored(false, true), no_claims), "too old to claim");
    }

    #[test]
    fn a_retry_gets_the_result_that_was_written_to_its_first_connection() {
        let reuses = |is_retry, delivered| {
            let stored = StoredCandidate {
                age: DAY,
                delivered,
                in_delivery: false,
                shareable: true,
                inputs_unseen: false,
                unknown_for: None,
            };
            let none = ReuseWindows { cache_ttl: Duration::ZERO, claim: Duration::ZERO, unknown_hold: Duration::ZERO };
            ReusePolicy { cache_allowed: false, is_retry, force_new: true }.may_reuse(stored, none)
        };
        assert!(reuses(true, Some(MINUTE)));
        assert!(!reuses(false, Some(MINUTE)), "a deliberate second call");
        assert!(!reuses(true, Some(DAY)), "a retry of something else");
    }

    #[test]
    fn an_unknown_outcome_holds_all_requests_but_forced_ones() {
        let held =
            |force_new, is_retry, age| ReusePolicy { cache_allowed: true, is_retry, force_new }.is_held(age, DAY);
        assert!(held(false, false, MINUTE));
        assert!(held(false, true, MINUTE));
        assert!(!held(true, false, MINUTE));
        assert!(held(true, true, MINUTE), "an SDK repeats the headers of the first try");
        assert!(!held(false, false, DAY + MINUTE));
    }

    #[test]
    fn a_damaged_result_is_fetched_again_unless_a_new_purchase_is_forced() {
        let refetches =
            |force_new, is_retry, lost| ReusePolicy { cache_allowed: true, is_retry, force_new }.may_refetch(lost);
        for is_retry in [false, true] {
            for lost in [false, true] {
                assert!(refetches(false, is_retry, lost), "a lost result answers with its failure, and buys nothing");
            }
        }
        assert!(!refetches(true, false, false) && !refetches(true, false, true));
        assert!(refetches(true, true, false), "an SDK repeats the headers of the first try");
        assert!(!refetches(true, true, true));
    }

    /// Promise: two deliberate identical calls still make two pictures. Every combination there is.
    #[test]
    fn no_request_joins_or_reuses_by_mistake() {
        let both = [false, true];
        for (cache_allowed, is_retry, force_new) in all(both, both, both) {
            let policy = ReusePolicy { cache_allowed, is_retry, force_new };
            for has_waiters in both {
                let deliberate = !cache_allowed && !is_retry && has_waiters;
                assert_eq!(policy.may_join(LiveCandidate { has_waiters }), !deliberate, "{policy:?} {has_waiters}");
            }
            let candidates = all(both, both, both).flat_map(|stored| both.map(|inputs_unseen| (stored, inputs_unseen)));
            for ((delivered, in_delivery, shareable), inputs_unseen) in candidates {
                let delivered_ago = delivered.then_some(MINUTE);
                let stored = StoredCandidate {
                    age: MINUTE,
                    delivered: delivered_ago,
                    in_delivery,
                    shareable,
                    inputs_unseen,
                    unknown_for: None,
                };
                let reuses = policy.may_reuse(stored, DAYS);
                let unknown = |age| StoredCandidate { unknown_for: Some(age), ..stored };
                let held = !force_new || is_retry;
                assert_eq!(policy.may_reuse(unknown(MINUTE), DAYS), reuses || held, "{policy:?} {stored:?}");
                assert_eq!(policy.may_reuse(unknown(DAY + MINUTE), DAYS), reuses, "no more: {policy:?} {stored:?}");
                let has_owner = delivered || in_delivery;
                if has_owner && !cache_allowed && !is_retry {
                    assert!(!reuses, "{policy:?} {stored:?}");
                }
                if is_retry {
                    assert!(reuses, "its own answer: {policy:?} {stored:?}");
                }
                if !has_owner && !inputs_unseen {
                    assert!(reuses, "paid for and unclaimed: {policy:?} {stored:?}");
                }
                if inputs_unseen && !is_retry {
                    let claims = !has_owner && !force_new;
                    assert_eq!(
                        reuses, claims,
                        "only what was not delivered, and never as a hit: {policy:?} {stored:?}"
                    );
                }
            }
        }
    }

    fn all(one: [bool; 2], two: [bool; 2], three: [bool; 2]) -> impl Iterator<Item = (bool, bool, bool)> {
        one.into_iter().flat_map(move |a| two.into_iter().flat_map(move |b| three.into_iter().map(move |c| (a, b, c))))
    }
}
