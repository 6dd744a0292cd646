//! Which request lists a job, and which joins one.

use super::script::{BUY, Request, SHARE, Script, rules, seconds};
use crate::engine::jobs::event::AppendOutcome::{Durable, Failed};
use crate::engine::reuse::ReusePolicy;
use crate::model::ApiKind;

fn keyed() -> Request {
    Request { key: Some("k"), policy: BUY, ..Request::default() }
}

#[test]
fn a_new_job_journals_its_intent_and_queues_its_purchases() {
    let mut jobs = Script::new(rules());
    let request = Request { purchases: vec![4, 4, 2], ..Request::default() };
    assert_eq!(jobs.list(&request), "journal intent 0x4 1x4 2x2; enqueue 0; enqueue 1; enqueue 2");
    assert_eq!(jobs.timeout(), Some(seconds(60)));
    assert_eq!(jobs.granted(2), "submit 2 #1 x2; stage submitting");

    let mut jobs = Script::new(rules());
    let request = Request { webhook: true, api_kind: ApiKind::OpenAi, ..Request::default() };
    assert_eq!(jobs.list(&request), "journal intent openai 0x1 and webhook https://alice.test/; enqueue 0");
}

#[test]
fn a_key_names_one_job_of_its_client() {
    let mut jobs = Script::of_request(&keyed());
    assert_eq!(jobs.join_by_key(&keyed()), "joined 0");
    assert_eq!(jobs.list(&keyed()), "joined 0");
    let other_prompt = Request { prompt: "a cat", ..keyed() };
    assert_eq!(jobs.join_by_key(&other_prompt), "refused idempotency_key_reused");
    assert_eq!(jobs.list(&other_prompt), "refused idempotency_key_reused");
    let other_client = Request { client: "bob", ..keyed() };
    assert_eq!(jobs.join_by_key(&other_client), "none");
    assert_eq!(jobs.list(&other_client), "journal intent 0x1; enqueue 0");
    let other_key = Request { key: Some("l"), ..keyed() };
    assert_eq!(jobs.join_by_key(&other_key), "none");
    assert_eq!(jobs.list(&other_key), "journal intent 0x1; enqueue 0");
}

#[test]
fn a_key_is_free_once_its_job_has_ended() {
    let mut jobs = Script::of_request(&keyed());
    jobs.resolve(0);
    jobs.end(0, Durable);
    assert_eq!(jobs.join_by_key(&keyed()), "none");
    assert_eq!(jobs.list(&keyed()), "journal intent 0x1; enqueue 0");
}

#[test]
fn the_newest_job_that_may_be_joined_is_joined() {
    let deliberate = Request { policy: BUY, ..Request::default() };
    let mut jobs = Script::of_request(&deliberate);
    jobs.list(&deliberate);
    jobs.list(&deliberate);
    assert_eq!(jobs.join_as(&Request { policy: SHARE, ..deliberate.clone() }), "joined 2");
    let retry = ReusePolicy { is_retry: true, ..BUY };
    assert_eq!(jobs.join_as(&Request { policy: retry, ..deliberate.clone() }), "joined 2");
    assert_eq!(jobs.join_as(&deliberate), "none", "each has a waiter");

    // A submitted job whose waiter has left serves a deliberate request too.
    jobs.job = jobs.listed[1];
    jobs.granted(0);
    jobs.waiter_left();
    assert_eq!(jobs.join_as(&deliberate), "joined 1");
    assert_eq!(jobs.join_as(&deliberate), "none", "now it has a waiter again");

    // A job that has ended is joined no more; the others still are.
    jobs.job = jobs.listed[2];
    jobs.not_granted(0);
    jobs.end(0, Durable);
    assert_eq!(jobs.join(), "joined 1");
}

#[test]
fn a_job_that_is_kept_counts_as_waited_for() {
    let deliberate = Request { policy: BUY, ..Request::default() };
    let mut jobs = Script::of_request(&Request { kept: true, ..deliberate.clone() });
    jobs.waiter_left();
    assert_eq!(jobs.join_as(&deliberate), "none");
    assert_eq!(jobs.join_as(&Request::default()), "joined 0");
}

#[test]
fn a_request_that_is_not_equal_does_not_join() {
    let mut jobs = Script::of(1);
    for other in [
        Request { prompt: "a cat", ..Request::default() },
        Request { client: "bob", ..Request::default() },
        Request { purchases: vec![2], ..Request::default() },
    ] {
        assert_eq!(jobs.join_as(&other), "none");
    }
}

#[test]
fn once_closed_nothing_is_listed_for_the_last_reason() {
    let other = || Request { prompt: "a cat", ..Request::default() };
    let mut jobs = Script::polling();
    jobs.draining();
    assert_eq!(jobs.list(&other()), "refused stopping");
    jobs.intent(Failed);
    assert_eq!(jobs.list(&other()), "refused journal_unavailable");

    let mut jobs = Script::polling();
    jobs.acceptance(0, Failed);
    jobs.draining();
    assert_eq!(jobs.list(&other()), "refused journal_unavailable", "the journal's failure is the graver one");
}

#[test]
fn a_waiter_that_leaves_twice_is_no_debt() {
    let mut jobs = Script::polling();
    jobs.waiter_left();
    jobs.waiter_left();
    assert_eq!(jobs.join(), "joined 0");
    let live = &jobs.jobs.table.live[&jobs.job];
    assert!(live.has_waiters());
}
