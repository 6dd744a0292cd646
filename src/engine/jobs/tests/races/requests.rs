//! Requests that come and go while the jobs go on.

use crate::engine::jobs::CancelOutcome;
use crate::engine::jobs::event::AppendOutcome::{Durable, Failed, NotWritten};
use crate::engine::jobs::tests::script::{BUY, Request, SHARE, Script, rules};

/// *Two equal requests arrive at once.*
#[test]
fn of_two_equal_requests_the_second_joins_the_first() {
    let mut jobs = Script::new(rules());
    assert_eq!(jobs.join(), "none");
    assert_eq!(jobs.join(), "none");
    assert_eq!(jobs.list(&Request::default()), "journal intent 0x1; enqueue 0");
    assert_eq!(jobs.list(&Request::default()), "joined 0");
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");

    // A request that deliberately buys again does, whether it comes first or second.
    for [one, two] in [[BUY, BUY], [Request::default().policy, BUY]] {
        let mut jobs = Script::new(rules());
        assert_eq!(jobs.list(&Request { policy: one, ..Request::default() }), "journal intent 0x1; enqueue 0");
        assert_eq!(jobs.list(&Request { policy: two, ..Request::default() }), "journal intent 0x1; enqueue 0");
    }
}

/// *A request joins, or keeps the job, while its last waiter leaves.* Joins.
#[test]
fn a_job_is_joined_until_its_last_waiter_has_left() {
    let mut jobs = Script::of(1);
    assert_eq!(jobs.join(), "joined 0");
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");

    let mut jobs = Script::of(1);
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
    assert_eq!(jobs.join(), "none");
    assert_eq!(jobs.list(&Request::default()), "journal intent 0x1; enqueue 0");
}

/// *A request with the key of an abandoned job arrives before that job has ended.*
#[test]
fn the_key_of_an_abandoned_job_is_free() {
    let keyed = Request { key: Some("k"), ..Request::default() };
    let start = || {
        let mut jobs = Script::of_request(&keyed);
        assert_eq!(jobs.join_by_key(&keyed), "joined 0");
        assert_eq!(jobs.waiter_left(), "");
        assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
        assert_eq!(jobs.join_by_key(&keyed), "none");
        jobs
    };

    let mut jobs = start();
    let abandoned = jobs.job;
    assert_eq!(jobs.list(&keyed), "journal intent 0x1; enqueue 0");
    let listed = std::mem::replace(&mut jobs.job, abandoned);
    assert_eq!(jobs.end(0, Durable), "ended 0 abandoned in 0s $0.5 free; job ended abandoned");
    jobs.job = listed;
    assert_eq!(jobs.join_by_key(&keyed), "joined 1");
    assert_eq!(jobs.join(), "joined 1");

    let mut jobs = start();
    assert_eq!(jobs.end(0, Durable), "ended 0 abandoned in 0s $0.5 free; job ended abandoned");
    assert_eq!(jobs.list(&keyed), "journal intent 0x1; enqueue 0");
    assert_eq!(jobs.join_by_key(&keyed), "joined 1");
}

/// *The last waiter leaves while the budget grants a submit.*
#[test]
fn a_waiter_that_leaves_before_the_grant_costs_nothing() {
    let mut jobs = Script::of(2);
    assert_eq!(
        jobs.waiter_left(),
        "end submits 0; release 0; journal failed 0 abandoned; end submits 1; release 1; journal failed 1 abandoned"
    );
    assert_eq!(jobs.granted(0), "release 0");
    assert_eq!(jobs.end(0, Durable), "ended 0 abandoned in 0s $0.5 free");
    assert_eq!(jobs.end(1, Durable), "ended 1 abandoned in 0s $0.5 free; job ended abandoned");

    // What is submitted is followed to its end, and so are the others of its job.
    let mut jobs = Script::of(2);
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.granted(1), "submit 1 #1 x1");
}

/// *The last waiter leaves while the budget does not grant a submit, or while the intent or an end is journalled.*
#[test]
fn a_job_that_is_not_granted_ends_with_what_came_first() {
    let mut jobs = Script::of(1);
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
    assert_eq!(jobs.not_granted(0), "");
    assert_eq!(jobs.end(0, Durable), "ended 0 abandoned in 0s $0.5 free; job ended abandoned");

    let mut jobs = Script::of(1);
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.end(0, Durable), "ended 0 overloaded in 0s $0.5 free; job ended overloaded");
}

/// *The last waiter leaves while a refused submit is withdrawn.*
#[test]
fn a_job_without_waiters_is_dropped_once_its_withdrawal_is_durable() {
    let mut jobs = Script::withdrawing();
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(
        jobs.withdrawal(0, Durable),
        "enqueue 0; end submits 0; release 0; journal failed 0 abandoned",
        "the record of the end follows that of the withdrawal"
    );

    let mut jobs = Script::withdrawing();
    assert_eq!(jobs.withdrawal(0, Durable), "enqueue 0; stage queued");
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
}

/// *The last waiter leaves while … the intent or an end is journalled.* The intent.
#[test]
fn an_abandoned_job_ends_once_whatever_becomes_of_its_intent() {
    for (outcome, recorded) in [(Durable, "recorded"), (NotWritten, ""), (Failed, "")] {
        let mut jobs = Script::unrecorded(1);
        assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
        assert_eq!(jobs.intent(outcome), recorded);
        assert_eq!(jobs.end(0, outcome), "ended 0 abandoned in 0s $0.5 free; job ended abandoned");
    }

    let mut jobs = Script::unrecorded(1);
    assert_eq!(jobs.intent(Durable), "recorded");
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");

    for outcome in [NotWritten, Failed] {
        let mut jobs = Script::unrecorded(1);
        assert_eq!(
            jobs.intent(outcome),
            "end submits 0; release 0; ended 0 journal_unavailable in 0s $0.5 free; job ended journal_unavailable"
        );
        assert_eq!(jobs.waiter_left(), "");
    }
}

/// *The last waiter leaves while … the intent or an end is journalled.* An end.
#[test]
fn a_result_that_is_being_journalled_is_kept_without_waiters() {
    let mut jobs = Script::of(1);
    jobs.resolve(0);
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1");

    let mut jobs = Script::of(1);
    jobs.resolve(0);
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1");
    assert_eq!(jobs.waiter_left(), "");

    // A failure that cost nothing: the answer of the others is dropped with the job.
    let mut jobs = Script::of(2);
    jobs.granted(0);
    assert_eq!(jobs.rejected(0), "end submits 0; release 0; journal failed 0 moderated; stage queued");
    assert_eq!(jobs.waiter_left(), "end submits 1; release 1; journal failed 1 abandoned");
    assert_eq!(jobs.end(0, Durable), "ended 0 moderated in 0s $0.5 free");
    assert_eq!(jobs.end(1, Durable), "ended 1 abandoned in 0s $0.5 free; job ended moderated");
}

/// *A request joins, or keeps the job, while its last waiter leaves.* Keeps.
#[test]
fn a_job_that_is_kept_in_time_goes_on() {
    let mut jobs = Script::of(1);
    jobs.keep();
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");

    let mut jobs = Script::of(1);
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
    jobs.keep();
    assert_eq!(jobs.join(), "none");
    assert_eq!(jobs.end(0, Durable), "ended 0 abandoned in 0s $0.5 free; job ended abandoned");
}

/// *A client cancels while the budget grants a submit, or the upstream answers one.* A grant.
#[test]
fn a_cancellation_before_the_grant_costs_nothing() {
    let start = || Script::of_request(&Request { kept: true, purchases: vec![1, 1], ..Request::default() });
    let dropped = "end submits 0; release 0; journal failed 0 abandoned; \
                   end submits 1; release 1; journal failed 1 abandoned";

    let mut jobs = start();
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Dropped), dropped.to_owned()));
    assert_eq!(jobs.granted(0), "release 0");
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Dropped), String::new()), "the same answer as to the first");

    let mut jobs = start();
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Bought), String::new()));
    assert_eq!(jobs.granted(1), "submit 1 #1 x1");
}

/// *A client cancels while the budget grants a submit, or the upstream answers one.* An answer.
#[test]
fn a_submit_that_is_answered_decides_over_a_cancellation() {
    let start = || {
        let mut jobs = Script::of_request(&Request { kept: true, ..Request::default() });
        jobs.waiter_left();
        jobs.submit(0);
        jobs
    };

    // Accepted: it goes on, whatever comes first.
    let mut jobs = start();
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Bought), String::new()));
    assert_eq!(jobs.accepted(0), "journal accepted 0 up0; end submits 0");
    assert_eq!(jobs.acceptance(0, Durable), "upstream up0; poll 0 up0 a age 0s; stage processing");

    let mut jobs = start();
    assert_eq!(jobs.accepted(0), "journal accepted 0 up0; end submits 0");
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Bought), String::new()));
    assert_eq!(jobs.acceptance(0, Durable), "upstream up0; poll 0 up0 a age 0s; stage processing");

    // NotWritten: the purchase counts as bought until the withdrawal is durable. The refused cancellation changes nothing.
    let mut jobs = start();
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Bought), String::new()));
    assert_eq!(jobs.refused(0), "journal withdrawn 0");
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Bought), String::new()));
    assert_eq!(jobs.withdrawal(0, Durable), "enqueue 0; stage queued");
    let dropped = "end submits 0; release 0; journal failed 0 abandoned";
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Dropped), dropped.to_owned()));
}

/// *A client cancels while another of its requests joins.*
#[test]
fn a_job_with_a_waiter_is_not_cancelled() {
    let start = || {
        let mut jobs = Script::of_request(&Request { kept: true, ..Request::default() });
        jobs.waiter_left();
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.join(), "joined 0");
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Shared), String::new()));
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned", "it is kept no more");

    let mut jobs = start();
    let dropped = "end submits 0; release 0; journal failed 0 abandoned";
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Dropped), dropped.to_owned()));
    assert_eq!(jobs.join(), "none");
}

/// *A request joins while the end of a job is journalled.*
#[test]
fn a_job_is_joined_until_it_has_ended() {
    let mut jobs = Script::of(1);
    jobs.resolve(0);
    assert_eq!(jobs.join(), "joined 0");
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1");

    let mut jobs = Script::of(1);
    jobs.resolve(0);
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1");
    assert_eq!(jobs.join(), "none");
}

/// *A purchase of a job ends while another is granted, or ends.* Granted.
#[test]
fn a_purchase_that_fails_does_not_end_the_others() {
    let start = || {
        let mut jobs = Script::of(2);
        jobs.granted(0);
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.rejected(0), "end submits 0; release 0; journal failed 0 moderated; stage queued");
    assert_eq!(jobs.end(0, Durable), "ended 0 moderated in 0s $0.5 free");
    assert_eq!(jobs.granted(1), "submit 1 #1 x1; stage submitting");

    let mut jobs = start();
    assert_eq!(jobs.granted(1), "submit 1 #1 x1");
    assert_eq!(jobs.rejected(0), "end submits 0; release 0; journal failed 0 moderated");
    assert_eq!(jobs.end(0, Durable), "ended 0 moderated in 0s $0.5 free");
    assert_eq!(jobs.uploaded(1), "journal committing 1 a #1");
}

/// *A purchase of a job ends while another is granted, or ends.* Ends.
#[test]
fn a_job_ends_with_the_last_of_its_purchases() {
    for [first, second] in [[0, 1], [1, 0]] {
        let mut jobs = Script::of(2);
        jobs.resolve(0);
        jobs.submit(1);
        assert_eq!(jobs.lost(1), "end submits 1; release 1; journal failed 1 outcome_unknown");
        let end = |slot| match slot {
            0 => "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8",
            _ => "ended 1 outcome_unknown in 0s $0.5 charge x1 $0.5",
        };
        assert_eq!(jobs.end(first, Durable), end(first));
        assert_eq!(jobs.end(second, Durable), format!("{}; job ended x1 missing 1", end(second)));
    }
}

/// *An equal job is listed and ends while a request looks for stored answers.*
#[test]
fn a_request_that_looked_before_an_equal_job_ended_looks_again() {
    let ended = || {
        let mut jobs = Script::new(rules());
        let seen = Some(jobs.jobs.table.ends());
        jobs.list_recorded(&Request::default());
        jobs.resolve(0);
        jobs.end(0, Durable);
        (jobs, seen)
    };
    for policy in [SHARE, BUY] {
        let (mut jobs, seen) = ended();
        assert_eq!(jobs.list(&Request { policy, seen, ..Request::default() }), "look again");
        assert!(jobs.list(&Request { policy, ..Request::default() }).starts_with("journal intent"), "it has looked");
    }
    let (mut jobs, seen) = ended();
    let other = Request { prompt: "a hen", seen, ..Request::default() };
    assert!(jobs.list(&other).starts_with("journal intent"), "it asks for something else");
    // Too many ends to remember are taken for an equal one.
    for _ in 0..1100 {
        jobs.list(&Request { prompt: "a cow", policy: BUY, ..Request::default() });
        jobs.waiter_left();
        jobs.end(0, Durable);
    }
    assert_eq!(jobs.list(&Request { prompt: "a dog", seen, ..Request::default() }), "look again");
}
