//! The gateway begins to stop while something happens.

use crate::engine::jobs::event::AppendOutcome::Durable;
use crate::engine::jobs::tests::script::{Request, Script, seconds};

const STOPPED: &str = "end submits 0; release 0; journal failed 0 stopping";

/// *The gateway begins to stop while a request arrives.*
#[test]
fn a_gateway_that_stops_lists_no_job_and_lets_requests_join() {
    let other = || Request { prompt: "another", ..Request::default() };

    let mut jobs = Script::polling();
    assert_eq!(jobs.draining(), "");
    assert_eq!(jobs.list(&other()), "refused stopping");
    assert_eq!(jobs.list(&Request::default()), "joined 0");
    assert_eq!(jobs.join(), "joined 0");

    let mut jobs = Script::polling();
    assert_eq!(jobs.list(&other()), "journal intent 0x1; enqueue 0");
    assert_eq!(jobs.draining(), STOPPED);
}

/// *The gateway begins to stop while the budget grants a submit.*
#[test]
fn a_submit_that_is_granted_in_time_is_followed_to_its_end() {
    let mut jobs = Script::of(1);
    assert_eq!(jobs.draining(), STOPPED);
    assert_eq!(jobs.granted(0), "release 0");
    assert_eq!(jobs.end(0, Durable), "ended 0 stopping in 0s $0.5 free; job ended stopping");

    let mut jobs = Script::of(1);
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
    assert_eq!(jobs.draining(), "");
    assert_eq!(jobs.uploaded(0), "journal committing 0 a #1");
    assert_eq!(jobs.commit(0, 1, Durable), "send 0");
    assert_eq!(jobs.accepted(0), "journal accepted 0 up0; end submits 0");
    assert_eq!(jobs.acceptance(0, Durable), "upstream up0; poll 0 up0 a age 0s; stage processing");
}

/// *The gateway begins to stop while a submit is refused or withdrawn, or a purchase pauses.* Refused.
#[test]
fn a_refused_submit_is_not_queued_again() {
    // Before its commit record.
    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.draining(), "");
    assert_eq!(jobs.refused(0), STOPPED);

    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.refused(0), "enqueue 0; stage queued");
    assert_eq!(jobs.draining(), STOPPED);
}

/// *The gateway begins to stop while a submit is refused or withdrawn, or a purchase pauses.* Withdrawn.
#[test]
fn a_withdrawn_submit_is_not_queued_again() {
    let mut jobs = Script::withdrawing();
    assert_eq!(jobs.draining(), "");
    assert_eq!(jobs.withdrawal(0, Durable), STOPPED);

    let mut jobs = Script::withdrawing();
    assert_eq!(jobs.withdrawal(0, Durable), "enqueue 0; stage queued");
    assert_eq!(jobs.draining(), STOPPED);
}

/// *The gateway begins to stop while a submit is refused or withdrawn, or a purchase pauses.* Pauses.
#[test]
fn a_pausing_purchase_is_not_queued_again() {
    let start = || {
        let mut jobs = Script::of(1);
        jobs.granted(0);
        assert_eq!(jobs.not_sent(0), "stage queued");
        jobs.wait(seconds(1));
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.draining(), STOPPED);
    assert_eq!(jobs.time_passed(), "");

    let mut jobs = start();
    assert_eq!(jobs.time_passed(), "enqueue 0");
    assert_eq!(jobs.draining(), STOPPED);
}

/// *The gateway begins to stop while the last waiter leaves, or the budget explains a delay.* A delay.
#[test]
fn a_late_purchase_ends_with_what_came_first() {
    let start = || {
        let mut jobs = Script::of(1);
        jobs.wait(seconds(60));
        assert_eq!(jobs.time_passed(), "explain 0");
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.draining(), STOPPED);
    assert_eq!(jobs.not_granted(0), "");

    let mut jobs = start();
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");
    assert_eq!(jobs.draining(), "");
}

/// *The gateway begins to stop while the last waiter leaves, or the budget explains a delay.* A waiter.
#[test]
fn a_queued_job_ends_once() {
    let mut jobs = Script::of(1);
    assert_eq!(jobs.draining(), STOPPED);
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.end(0, Durable), "ended 0 stopping in 0s $0.5 free; job ended stopping");

    let mut jobs = Script::of(1);
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
    assert_eq!(jobs.draining(), "");
    assert_eq!(jobs.end(0, Durable), "ended 0 abandoned in 0s $0.5 free; job ended abandoned");
}
