//! Polls of a purchase that the upstream has accepted, and the rounds of fetching its pictures.

use super::script::{DEADLINE, Request, Script, finished, seconds};
use crate::engine::jobs::event::AppendOutcome::Durable;
use crate::engine::jobs::event::FetchFailure;
use crate::model::Failure;
use crate::upstream::{PollError, Polled, Submitted};

#[test]
fn polls_that_fail_lengthen_the_pause_and_one_that_succeeds_ends_that() {
    let mut jobs = Script::polling();
    jobs.wait(seconds(30));
    assert_eq!(jobs.poll_failed(0), "poll 0 up0 a age 30s troubles 1");
    assert_eq!(jobs.polled(0, seconds(30), Ok(Polled::Empty)), "release 0; poll 0 up0 a age 30s troubles 2");
    let refused = || Err(PollError::Refused { retry_after: None });
    assert_eq!(
        jobs.polled(0, seconds(30), refused()),
        "poll 0 up0 a age 30s troubles 2",
        "the budget slows down the polls of the account"
    );
    assert_eq!(jobs.working(0, seconds(29)), "poll 0 up0 a age 30s working at 29s");
    assert_eq!(jobs.poll_failed(0), "poll 0 up0 a age 30s working at 29s troubles 1");
}

#[test]
fn a_purchase_that_fails_at_the_upstream_may_have_been_paid() {
    let mut jobs = Script::polling();
    jobs.wait(seconds(30));
    let failed = Failure::TaskFailed { message: "no".to_owned() };
    assert_eq!(
        jobs.polled(0, seconds(30), Ok(Polled::Failed(failed))),
        "end submits 0; release 0; journal failed 0 task_failed"
    );
    assert_eq!(jobs.end(0, Durable), "ended 0 up0 task_failed in 30s $0.5 charge x1 $0.5; job ended task_failed");
}

#[test]
fn a_purchase_that_is_done_without_pictures_is_polled_until_the_deadline_and_holds_no_slot() {
    let mut jobs = Script::polling();
    let empty = |jobs: &mut Script| jobs.polled(0, seconds(0), Ok(Polled::Empty));
    for troubles in 1..=20 {
        assert_eq!(empty(&mut jobs), format!("release 0; poll 0 up0 a age 0s troubles {troubles}"));
    }
    jobs.wait(DEADLINE);
    assert_eq!(empty(&mut jobs), "release 0; end submits 0; release 0; journal failed 0 result_lost");
}

#[test]
fn pictures_that_come_late_after_a_poll_without_any_are_delivered() {
    let mut jobs = Script::polling();
    for _ in 0..5 {
        jobs.polled(0, seconds(0), Ok(Polled::Empty));
    }
    assert_eq!(jobs.done(0), "release 0; learn 0s to 0s, polls 6; fetch 0 x1");
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1 up0");
}

#[test]
fn outputs_beyond_those_that_were_asked_for_are_reported_once_and_not_fetched() {
    let mut jobs = Script::of_request(&Request { purchases: vec![2], ..Request::default() });
    jobs.poll_on(0);
    let many = |jobs: &mut Script| jobs.polled(0, seconds(0), Ok(Polled::Finished(finished(40))));
    assert_eq!(many(&mut jobs), "surplus 0 x38 of 2; release 0; learn 0s to 0s, polls 1; fetch 0 x2");
    assert_eq!(jobs.fetch_failed(0, 1), "poll 0 up0 a age 0s troubles 1");
    assert_eq!(many(&mut jobs), "release 0; fetch 0 x2");
    assert_eq!(jobs.fetched(0, 2), "journal resolved 0 x2 up0");

    let mut jobs = Script::openai();
    let finished = Submitted::Finished { handle: None, finished: finished(3) };
    assert_eq!(
        jobs.answered(0, Ok(finished)),
        "surplus 0 x2 of 1; release 0; end submits 0; learn 0s to 0s, polls 0; fetch 0 x1 only once; stage processing"
    );
}

#[test]
fn an_upstream_that_does_not_answer_after_the_deadline_gets_thirty_chances() {
    let mut jobs = Script::polling();
    jobs.wait(DEADLINE);
    for troubles in 1..=30 {
        assert_eq!(jobs.poll_failed(0), format!("poll 0 up0 a age 600s troubles {troubles}"));
    }
    assert_eq!(jobs.poll_failed(0), "end submits 0; release 0; journal failed 0 deadline_exceeded");
}

#[test]
fn a_completion_teaches_once() {
    let mut jobs = Script::polling();
    jobs.wait(seconds(20));
    jobs.working(0, seconds(20));
    jobs.wait(seconds(10));
    assert_eq!(jobs.done(0), "release 0; learn 20s to 30s, polls 2; fetch 0 x1");
    assert_eq!(jobs.fetch_failed(0, 0), "poll 0 up0 a age 30s working at 20s troubles 1");
    jobs.wait(seconds(10));
    assert_eq!(jobs.done(0), "release 0; fetch 0 x1");
}

/// A purchase that took 30 seconds, and whose pictures are being fetched.
fn fetching() -> Script {
    let mut jobs = Script::polling();
    jobs.wait(seconds(30));
    jobs.done(0);
    jobs
}

#[test]
fn pictures_that_cannot_be_fetched_are_polled_for_again_after_growing_pauses() {
    let mut jobs = fetching();
    assert_eq!(jobs.fetch_failed(0, 0), "poll 0 up0 a age 30s troubles 1");
    assert_eq!(jobs.done(0), "release 0; fetch 0 x1");
    let full = Some(FetchFailure::Storage("no space".to_owned()));
    assert_eq!(jobs.fetched_as(0, 0, full, true), "poll 0 up0 a age 30s troubles 2");
    assert_eq!(jobs.done(0), "release 0; fetch 0 x1");
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1 up0");
}

#[test]
fn an_answer_without_an_id_whose_bytes_are_no_picture_ends_at_once() {
    let invalid = || Some(FetchFailure::Invalid("the checksum is wrong".to_owned()));
    let full = || Some(FetchFailure::Storage("no space".to_owned()));
    let mut jobs = Script::openai();
    jobs.finished_at_once(0, false);
    assert_eq!(jobs.fetched_as(0, 0, full(), true), "fetch 0 x1 in 2s only once", "the disk may have space again");
    assert_eq!(jobs.fetched_as(0, 0, invalid(), true), "end submits 0; release 0; journal failed 0 result_lost");
    assert_eq!(jobs.end(0, Durable), "ended 0 result_lost in 0s $0.5 charge x1 $0.5; job ended result_lost");

    let mut jobs = Script::openai();
    jobs.finished_at_once(0, false);
    assert_eq!(jobs.fetched_as(0, 1, invalid(), true), "journal resolved 0 x1", "what came is kept");

    // With an id there is another answer to be had.
    let mut jobs = fetching();
    assert_eq!(jobs.fetched_as(0, 0, invalid(), true), "poll 0 up0 a age 30s troubles 1");
}

#[test]
fn a_round_without_trouble_lengthens_no_pause() {
    let mut jobs = fetching();
    assert_eq!(jobs.fetched(0, 0), "journal resolved 0 x0 up0");
    assert_eq!(jobs.end(0, Durable), "result x0; ended 0 up0 x0 in 30s $8 charge x0 $8; job ended result_lost");
}

#[test]
fn pictures_that_may_not_be_on_disk_are_delivered_without_a_record() {
    let mut jobs = fetching();
    assert_eq!(
        jobs.fetched_as(0, 1, None, false),
        "result x1; ended 0 up0 x1 in 30s $8 charge x1 $8; job ended x1",
        "a restart fetches them again"
    );
}

#[test]
fn what_could_be_fetched_of_several_pictures_is_delivered_at_the_deadline() {
    let mut jobs = fetching();
    jobs.wait(DEADLINE);
    assert_eq!(jobs.fetch_failed(0, 2), "journal resolved 0 x2 up0");
    assert_eq!(jobs.end(0, Durable), "result x2; ended 0 up0 x2 in 630s $8 charge x2 $8; job ended x2");
}
