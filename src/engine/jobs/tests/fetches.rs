//! Rounds of fetching the pictures of a purchase that is done.

use super::script::{DEADLINE, Script, seconds};
use crate::engine::jobs::event::FetchFailure;

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
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1");
}

#[test]
fn a_round_without_trouble_lengthens_no_pause() {
    let mut jobs = fetching();
    assert_eq!(jobs.fetched(0, 0), "journal resolved 0 x0");
    assert_eq!(jobs.end(0, true), "result x0; ended 0 up0 x0 in 30s $8 charge x0 $8; job ended result_lost");
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
    assert_eq!(jobs.fetch_failed(0, 2), "journal resolved 0 x2");
    assert_eq!(jobs.end(0, true), "result x2; ended 0 up0 x2 in 630s $8 charge x2 $8; job ended x2");
}
