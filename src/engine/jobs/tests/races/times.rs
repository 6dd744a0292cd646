//! Times that pass while something happens.

use crate::engine::jobs::event::AppendOutcome::Durable;
use crate::engine::jobs::tests::script::{DEADLINE, Request, STARTS_WITHIN, Script, seconds};
use crate::model::ApiKind;

/// *A request joins or keeps a job whose time to start is over, or extends it.* Joins.
#[test]
fn the_time_of_the_latest_waiter_counts() {
    let mut jobs = Script::of(1);
    jobs.wait(seconds(30));
    assert_eq!(jobs.join(), "joined 0");
    jobs.wait(seconds(30));
    assert_eq!(jobs.time_passed(), "", "the time of the first waiter");
    assert_eq!(jobs.timeout(), Some(seconds(30)));
    jobs.wait(seconds(30));
    assert_eq!(jobs.time_passed(), "explain 0");
    assert_eq!(jobs.timeout(), None);

    // The time is over and was not looked at yet.
    let mut jobs = Script::of(1);
    jobs.wait(STARTS_WITHIN);
    assert_eq!(jobs.join(), "joined 0");
    assert_eq!(jobs.time_passed(), "");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");

    // The budget was asked why: its answer ends the job for all waiters, and nothing was bought.
    let mut jobs = Script::of(1);
    jobs.wait(STARTS_WITHIN);
    assert_eq!(jobs.time_passed(), "explain 0");
    assert_eq!(jobs.join(), "joined 0");
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");
    assert_eq!(jobs.end(0, Durable), "ended 0 overloaded in 0s $0.5 free; job ended overloaded");
}

/// *A request joins or keeps a job whose time to start is over, or extends it.* Keeps.
#[test]
fn the_time_of_a_request_that_keeps_the_job_counts_too() {
    let mut jobs = Script::of(1);
    jobs.wait(seconds(30));
    jobs.keep();
    jobs.wait(seconds(30));
    assert_eq!(jobs.time_passed(), "");
    assert_eq!(jobs.timeout(), Some(seconds(30)));

    let mut jobs = Script::of(1);
    jobs.wait(STARTS_WITHIN);
    assert_eq!(jobs.time_passed(), "explain 0");
    jobs.keep();
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");
}

/// *The time to start is over while the budget grants a submit.*
#[test]
fn a_submit_that_is_too_late_is_returned_unused() {
    let mut jobs = Script::of(1);
    jobs.wait(STARTS_WITHIN);
    assert_eq!(jobs.time_passed(), "explain 0");
    assert_eq!(jobs.granted(0), "release 0");
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");

    let mut jobs = Script::of(1);
    jobs.wait(STARTS_WITHIN);
    assert_eq!(jobs.granted(0), "release 0; explain 0");
    assert_eq!(jobs.time_passed(), "", "it is asked once");
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");

    let mut jobs = Script::of(1);
    jobs.wait(seconds(59));
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "", "what is submitted in time is followed to its end");
}

/// *The time to start is over while a refused submit is withdrawn.*
#[test]
fn a_withdrawn_submit_is_not_queued_again_too_late() {
    let mut jobs = Script::withdrawing();
    jobs.wait(STARTS_WITHIN);
    assert_eq!(jobs.time_passed(), "");
    assert_eq!(jobs.withdrawal(0, Durable), "explain 0; stage queued");
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");

    let mut jobs = Script::withdrawing();
    assert_eq!(jobs.withdrawal(0, Durable), "enqueue 0; stage queued");
    jobs.wait(STARTS_WITHIN);
    assert_eq!(jobs.time_passed(), "explain 0");
}

/// *A pause ends while the last waiter leaves.*
#[test]
fn a_pausing_job_without_waiters_is_not_queued_again() {
    let start = || {
        let mut jobs = Script::of(1);
        jobs.granted(0);
        assert_eq!(jobs.not_sent(0), "stage queued");
        assert_eq!(jobs.timeout().map(|time| time.as_millis()), Some(500));
        jobs.wait(seconds(1));
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
    assert_eq!(jobs.time_passed(), "");

    let mut jobs = start();
    assert_eq!(jobs.time_passed(), "enqueue 0");
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
}

/// *A slow submit is refused when it begins to count as accepted.*
#[test]
fn a_late_refusal_pauses_the_purchase_whether_or_not_it_counted_as_accepted() {
    let start = || {
        let mut jobs = Script::of_request(&Request { api_kind: ApiKind::OpenAi, ..Request::default() });
        jobs.submit(0);
        assert_eq!(jobs.timeout(), Some(seconds(5)));
        jobs
    };

    let mut jobs = start();
    jobs.wait(seconds(5));
    assert_eq!(jobs.time_passed(), "assume accepted 0; stage processing");
    assert_eq!(jobs.time_passed(), "", "once");
    assert_eq!(jobs.refused(0), "journal withdrawn 0; stage submitting");
    assert_eq!(jobs.withdrawal(0, Durable), "stage queued", "it pauses");
    jobs.wait(seconds(5));
    assert_eq!(jobs.time_passed(), "enqueue 0");

    let mut jobs = start();
    jobs.wait(seconds(5));
    assert_eq!(jobs.refused(0), "journal withdrawn 0");
    assert_eq!(jobs.time_passed(), "");
    assert_eq!(jobs.withdrawal(0, Durable), "stage queued", "it pauses");

    let mut jobs = start();
    jobs.wait(seconds(4));
    assert_eq!(jobs.refused(0), "journal withdrawn 0");
    assert_eq!(jobs.withdrawal(0, Durable), "enqueue 0; stage queued", "a refusal at once delays nothing");
}

/// *The deadline passes while a purchase is polled or its pictures are fetched.* Polled.
#[test]
fn a_purchase_that_works_ends_at_its_deadline() {
    let mut jobs = Script::polling();
    jobs.wait(seconds(599));
    assert_eq!(jobs.working(0, seconds(599)), "poll 0 up0 a age 599s working at 599s");

    let mut jobs = Script::polling();
    jobs.wait(DEADLINE);
    assert_eq!(jobs.working(0, seconds(599)), "end submits 0; release 0; journal failed 0 deadline_exceeded");
    assert_eq!(
        jobs.end(0, Durable),
        "ended 0 up0 deadline_exceeded in 600s $0.5 charge x1 $0.5; job ended deadline_exceeded"
    );

    let mut jobs = Script::polling();
    jobs.wait(DEADLINE);
    assert_eq!(jobs.done(0), "release 0; learn 0s to 600s, polls 1; fetch 0 x1", "its pictures are still fetched");
}

/// *The deadline passes while a purchase is polled or its pictures are fetched.* Fetched.
#[test]
fn pictures_are_fetched_until_the_deadline_and_delivered_as_far_as_they_came() {
    let start = || {
        let mut jobs = Script::polling();
        jobs.done(0);
        jobs
    };

    let mut jobs = start();
    jobs.wait(seconds(599));
    assert_eq!(jobs.fetch_failed(0, 1), "poll 0 up0 a age 599s troubles 1");

    let mut jobs = start();
    jobs.wait(DEADLINE);
    assert_eq!(jobs.fetch_failed(0, 1), "journal resolved 0 x1 up0");

    let mut jobs = start();
    jobs.wait(DEADLINE);
    assert_eq!(jobs.fetch_failed(0, 0), "end submits 0; release 0; journal failed 0 result_lost");

    let mut jobs = start();
    jobs.wait(DEADLINE);
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1 up0");
}

/// *Two accounts refuse their keys.*
#[test]
fn a_purchase_ends_once_all_accounts_have_refused_their_keys() {
    for [first, second] in [["a", "b"], ["b", "a"]] {
        let mut jobs = Script::of(1);
        jobs.granted_by(0, first);
        assert_eq!(jobs.key_refused(0, &[second]), "enqueue 0; stage queued", "by {first}");
        jobs.granted_by(0, second);
        assert_eq!(
            jobs.key_refused(0, &[first]),
            "end submits 0; release 0; journal failed 0 key_refused",
            "{first} is usable again, but has refused"
        );
        assert_eq!(jobs.end(0, Durable), "ended 0 key_refused in 0s $0.5 free; job ended key_refused");
    }
}
