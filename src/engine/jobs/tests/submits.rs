//! Submits that fail, or bring the pictures at once.

use super::script::{Request, STARTS_WITHIN, Script, handle, rules, seconds};
use crate::config::OnUnknown;
use crate::engine::jobs::CancelOutcome;
use crate::engine::jobs::event::AppendOutcome::Durable;
use crate::engine::jobs::rules::Rules;
use crate::upstream::Submitted;

fn resubmitting() -> Rules {
    Rules { on_unknown: OnUnknown::Resubmit, ..rules() }
}

#[test]
fn a_submit_that_was_not_sent_is_repeated_after_growing_pauses() {
    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.not_sent(0), "stage queued", "nothing was journalled, so nothing is withdrawn");
    assert_eq!(jobs.time_passed(), "");
    jobs.wait(seconds(1) / 2);
    assert_eq!(jobs.time_passed(), "enqueue 0");
    assert_eq!(jobs.granted(0), "submit 0 #2 x1; stage submitting");
    assert_eq!(jobs.uploaded(0), "journal committing 0 a #2");
    assert_eq!(jobs.not_sent(0), "journal withdrawn 0");
    assert_eq!(jobs.withdrawal(0, Durable), "stage queued");
    jobs.wait(seconds(999) / 1000);
    assert_eq!(jobs.time_passed(), "");
    jobs.wait(seconds(1) / 1000);
    assert_eq!(jobs.time_passed(), "enqueue 0");
    assert_eq!(jobs.granted(0), "submit 0 #3 x1; stage submitting");
    assert_eq!(jobs.not_sent(0), "end submits 0; release 0; journal failed 0 unreachable");
    assert_eq!(jobs.end(0, Durable), "ended 0 unreachable in 0s $0.5 free; job ended unreachable");
}

#[test]
fn a_pause_that_ends_too_late_ends_the_purchase() {
    let mut jobs = Script::of(1);
    jobs.wait(seconds(59));
    jobs.granted(0);
    assert_eq!(jobs.not_sent(0), "stage queued");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "explain 0");
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");
}

#[test]
fn a_submit_that_is_rejected_ends_the_purchase_for_nothing() {
    let mut jobs = Script::of(1);
    jobs.submit(0);
    assert_eq!(jobs.rejected(0), "end submits 0; release 0; journal failed 0 moderated");
    assert_eq!(jobs.end(0, Durable), "ended 0 moderated in 0s $0.5 free; job ended moderated");
}

#[test]
fn a_lost_answer_ends_the_purchase_and_counts_as_paid() {
    let mut jobs = Script::of(1);
    jobs.submit(0);
    assert_eq!(jobs.lost(0), "end submits 0; release 0; journal failed 0 outcome_unknown");
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.end(0, Durable), "ended 0 outcome_unknown in 0s $0.5 charge x1 $0.5; job ended outcome_unknown");
}

#[test]
fn a_lost_answer_is_repeated_and_counted_where_the_operator_prefers_that() {
    let mut jobs = Script::of_rules(resubmitting(), &Request::default());
    for pause in [500, 1000] {
        jobs.submit(0);
        assert_eq!(jobs.lost(0), "journal resubmitted 0");
        assert_eq!(jobs.withdrawal(0, Durable), "lost answer $0.5; stage queued");
        jobs.wait(seconds(pause) / 1000);
        assert_eq!(jobs.time_passed(), "enqueue 0");
    }
    jobs.submit(0);
    assert_eq!(jobs.lost(0), "end submits 0; release 0; journal failed 0 outcome_unknown");
}

#[test]
fn a_slow_submit_counts_as_accepted_after_five_seconds() {
    let mut jobs = Script::openai();
    assert_eq!(jobs.timeout(), Some(seconds(5)));
    jobs.wait(seconds(4));
    assert_eq!(jobs.time_passed(), "");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "assume accepted 0; stage processing");
    assert_eq!(jobs.time_passed(), "");
    jobs.wait(seconds(20));
    assert_eq!(
        jobs.finished_at_once(0, false),
        "release 0; end submits 0; learn 25s to 25s, polls 0; fetch 0 x1 only once",
        "it took the time since its last byte"
    );

    let mut jobs = Script::of(1);
    jobs.submit(0);
    assert_eq!(jobs.timeout(), Some(seconds(60)), "other API kinds answer at once");
    jobs.wait(seconds(5));
    assert_eq!(jobs.time_passed(), "");
}

#[test]
fn pictures_that_come_at_once_with_an_id_are_fetched_after_the_id_is_journalled() {
    let mut jobs = Script::of(1);
    jobs.submit(0);
    assert_eq!(jobs.finished_at_once(0, true), "release 0; journal accepted 0 up0; end submits 0");
    assert_eq!(jobs.acceptance(0, Durable), "upstream up0; fetch 0 x1; stage processing");
    jobs.wait(seconds(3));
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1 up0");
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 3s $8 charge x1 $8; job ended x1");
}

#[test]
fn pictures_that_come_at_once_without_an_id_are_fetched_until_they_are_here() {
    let mut jobs = Script::openai();
    jobs.wait(seconds(40));
    assert_eq!(
        jobs.finished_at_once(0, false),
        "release 0; end submits 0; learn 40s to 40s, polls 0; fetch 0 x1 only once; stage processing"
    );
    for pause in ["2s", "3s", "4.5s"] {
        assert_eq!(jobs.fetch_failed(0, 0), format!("fetch 0 x1 in {pause} only once"));
    }
    jobs.wait(seconds(10));
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1");
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 x1 in 50s $8 charge x1 $8; job ended x1");
}

#[test]
fn pictures_that_came_at_once_are_polled_for_fresh_addresses_and_teach_nothing() {
    let mut jobs = Script::of(1);
    jobs.submit(0);
    jobs.finished_at_once(0, true);
    jobs.acceptance(0, Durable);
    jobs.wait(seconds(3));
    assert_eq!(jobs.fetch_failed(0, 0), "poll 0 up0 a age 3s troubles 1");
    jobs.wait(seconds(3));
    assert_eq!(jobs.done(0), "release 0; fetch 0 x1", "it was found done before");
}

#[test]
fn pictures_without_an_id_that_cannot_be_fetched_are_lost_at_the_deadline() {
    let mut jobs = Script::openai();
    jobs.wait(seconds(40));
    jobs.finished_at_once(0, false);
    jobs.wait(seconds(599));
    assert_eq!(jobs.fetch_failed(0, 0), "fetch 0 x1 in 2s only once", "counted from the answer");
    jobs.wait(seconds(1));
    assert_eq!(jobs.fetch_failed(0, 0), "end submits 0; release 0; journal failed 0 result_lost");
    assert_eq!(
        jobs.end(0, Durable),
        "ended 0 result_lost in 640s $0.5 charge x1 $0.5; job ended result_lost",
        "from its submit"
    );
}

#[test]
fn a_second_purchase_under_the_same_id_has_an_unknown_outcome() {
    // It was accepted, so it is not bought again, whatever is to be done about a lost answer.
    let mut jobs = Script::of_rules(resubmitting(), &Request { purchases: vec![1; 2], ..Request::default() });
    jobs.poll_on(0);
    jobs.submit(1);
    let answer = Ok(Submitted::Accepted(handle(0)));
    assert_eq!(
        jobs.answered(1, answer),
        "conflict 1 up0 0; end submits 1; release 1; journal failed 1 outcome_unknown"
    );
    // The first is followed as if nothing had happened, and its id is free again once its job has ended.
    assert_eq!(jobs.working(0, seconds(1)), "poll 0 up0 a age 0s working at 1s");
    jobs.end(1, Durable);
    jobs.done(0);
    jobs.fetched(0, 1);
    jobs.end(0, Durable);
    jobs.list_recorded(&Request::default());
    jobs.submit(0);
    assert_eq!(jobs.accepted(0), "journal accepted 0 up0; end submits 0");
}

#[test]
fn what_ends_after_a_lost_answer_may_have_been_bought() {
    let resubmitted = || {
        let mut jobs = Script::of_rules(resubmitting(), &Request::default());
        jobs.submit(0);
        assert_eq!(jobs.lost(0), "journal resubmitted 0");
        assert_eq!(jobs.withdrawal(0, Durable), "lost answer $0.5; stage queued");
        jobs
    };
    let ended = "ended 0 outcome_unknown in 0s $0.5 charge x1 $0.5 counted; job ended outcome_unknown";
    let failed = "end submits 0; release 0; journal failed 0 outcome_unknown";

    let mut jobs = resubmitted();
    jobs.wait(seconds(1));
    jobs.time_passed();
    jobs.granted(0);
    assert_eq!(jobs.rejected(0), failed);
    assert_eq!(jobs.end(0, Durable), ended);

    let mut jobs = resubmitted();
    assert_eq!(jobs.draining(), failed);
    assert_eq!(jobs.end(0, Durable), ended);

    let mut jobs = resubmitted();
    assert_eq!(jobs.waiter_left(), "", "it goes on: something may have been paid for");
    assert_eq!(jobs.cancel().0, Some(CancelOutcome::Bought));
    jobs.wait(STARTS_WITHIN);
    assert_eq!(jobs.time_passed(), "explain 0");
    assert_eq!(jobs.not_granted(0), failed);
}
