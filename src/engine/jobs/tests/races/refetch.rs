//! Stored pictures that are damaged and fetched again, and races of that.

use crate::engine::jobs::CancelOutcome;
use crate::engine::jobs::event::AppendOutcome::{Durable, Failed, NotWritten};
use crate::engine::jobs::event::{Event, FetchFailure, Fetched};
use crate::engine::jobs::tests::script::{BUY, Request, SHARE, START, Script, pictures, rules, seconds, usage};
use crate::model::{Digest, Failure, StoredPicture, UpstreamId};
use crate::storage::journal::StoredState;
use crate::upstream::{PollError, Polled};

/// A purchase that brought pictures under this id.
fn resolved(id: Option<&str>, number: usize) -> StoredState {
    let (upstream, poll_url) = (id.and_then(UpstreamId::new), None);
    StoredState::Resolved { upstream, poll_url, pictures: pictures(number), usage: Some(usage()), at: START }
}

/// A request found a stored job of one purchase with this number of pictures, damaged.
fn begun(number: u8) -> Script {
    let mut jobs = Script::new(rules());
    jobs.wait(seconds(100));
    let request = Request { purchases: vec![number], ..Request::default() };
    let effects = jobs.refetch(&request, vec![resolved(Some("up0"), usize::from(number))], &[0]);
    assert_eq!(effects, "recorded; upstream up0; stage processing; poll 0 up0 b age 600s soon");
    jobs
}

fn fetched(jobs: &mut Script, pictures: Vec<StoredPicture>, trouble: bool, durable: bool) -> String {
    let trouble = trouble.then(|| FetchFailure::Upstream("gone".to_owned()));
    let fetched = Fetched { pictures, contents: Vec::new(), trouble, usage: None, durable };
    jobs.event(Event::Fetched { purchase: jobs.purchase(0), fetched })
}

/// Pictures of other bytes than those that were stored.
fn others(number: u8) -> Vec<StoredPicture> {
    let other = |one: u8| StoredPicture { digest: Digest::of(&[1, one]), ..pictures(1)[0] };
    (0..number).map(other).collect()
}

#[test]
fn the_same_bytes_again_are_delivered_without_a_record_and_cost_nothing() {
    let mut jobs = begun(2);
    assert_eq!(jobs.polled(0, seconds(0), Ok(Polled::Working)), "poll 0 up0 b age 600s");
    assert_eq!(jobs.polled(0, seconds(0), Ok(Polled::Empty)), "release 0; poll 0 up0 b age 600s troubles 1");
    assert_eq!(jobs.done(0), "release 0; fetch 0 x1");
    let backwards = pictures(2).into_iter().rev().collect();
    assert_eq!(
        fetched(&mut jobs, backwards, false, true),
        "result x2; refetched 0 restored; job ended refetched x2",
        "usage, price and times are those of before"
    );
    assert_eq!(jobs.timeout(), Some(seconds(30)), "a time that is over costs a look");
    jobs.wait(seconds(30));
    assert_eq!(jobs.time_passed(), "");
}

#[test]
fn other_bytes_take_the_place_of_those_before() {
    let mut jobs = begun(2);
    jobs.done(0);
    assert_eq!(fetched(&mut jobs, others(2), false, true), "journal restored 0 x2");
    assert_eq!(jobs.end(0, Durable), "result x2; refetched 0 replaced; job ended refetched x2");

    // Pictures that may not be on disk are delivered, and the next request fetches them again.
    let mut jobs = begun(2);
    jobs.done(0);
    assert_eq!(fetched(&mut jobs, others(2), false, false), "result x2; refetched 0 replaced; job ended refetched x2");

    // A journal that is locked for a moment, or has failed, loses no picture.
    for outcome in [NotWritten, Failed] {
        let mut jobs = begun(1);
        jobs.done(0);
        fetched(&mut jobs, others(1), false, true);
        if outcome == NotWritten {
            assert_eq!(jobs.end(0, outcome), "");
            jobs.wait(seconds(1));
            assert_eq!(jobs.time_passed(), "journal restored 0 x1");
            assert_eq!(jobs.end(0, Durable), "result x1; refetched 0 replaced; job ended refetched x1");
        } else {
            assert_eq!(jobs.end(0, outcome), "result x1; refetched 0 replaced; job ended refetched x1");
        }
    }
}

#[test]
fn pictures_that_do_not_all_come_are_polled_for_again() {
    let mut jobs = begun(2);
    jobs.done(0);
    assert_eq!(fetched(&mut jobs, others(1), false, true), "poll 0 up0 b age 600s troubles 1");
    jobs.done(0);
    assert_eq!(fetched(&mut jobs, others(2), true, true), "poll 0 up0 b age 600s troubles 2");
    jobs.done(0);
    let both = others(1).into_iter().chain(pictures(2)).collect();
    assert_eq!(fetched(&mut jobs, both, true, true), "result x2; refetched 0 restored; job ended refetched x2");
}

#[test]
fn what_cannot_be_fetched_again_writes_no_end() {
    let lost = "refetched 0 lost; job ended refetched result_lost";
    let failed = Failure::TaskFailed { message: "no such task".to_owned() };
    assert_eq!(begun(1).polled(0, seconds(0), Ok(Polled::Failed(failed))), lost);

    let mut jobs = begun(1);
    let moderated = || Err(PollError::Moderated { message: "policy".to_owned() });
    jobs.polled(0, seconds(0), moderated());
    jobs.polled(0, seconds(0), moderated());
    assert_eq!(jobs.polled(0, seconds(0), moderated()), lost);

    let mut jobs = begun(1);
    for troubles in 1..=50 {
        assert_eq!(jobs.poll_failed(0), format!("poll 0 up0 b age 600s troubles {troubles}"));
    }
    jobs.wait(seconds(29));
    assert_eq!(jobs.time_passed(), "");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), lost);

    let mut jobs = Script::new(rules());
    assert_eq!(jobs.refetch(&Request::default(), vec![resolved(None, 1)], &[0]), "refused result_lost");
}

#[test]
fn a_job_with_a_lost_picture_is_lost_and_one_that_missed_pictures_before_is_not() {
    let two = || Request { purchases: vec![1, 1], ..Request::default() };
    let mut jobs = Script::new(rules());
    let states = vec![resolved(Some("up0"), 1), resolved(Some("up1"), 1)];
    assert_eq!(
        jobs.refetch(&two(), states, &[0]),
        "recorded; upstream up0; upstream up1; result x1; stage processing; poll 0 up0 b age 600s soon"
    );
    jobs.wait(seconds(30));
    assert_eq!(jobs.time_passed(), "refetched 0 lost; job ended refetched result_lost");

    let mut jobs = Script::new(rules());
    let failed = StoredState::Failed { upstream: None, failure: Failure::DeadlineExceeded, at: START };
    jobs.refetch(&two(), vec![resolved(Some("up0"), 1), failed], &[0]);
    jobs.done(0);
    assert_eq!(
        fetched(&mut jobs, pictures(1), false, true),
        "result x1; refetched 0 restored; job ended refetched x1 missing 1"
    );
}

/// *Several requests find the same damaged result.*
#[test]
fn several_requests_share_one_refetch() {
    let mut jobs = begun(1);
    let again = |jobs: &mut Script| jobs.refetch(&Request::default(), vec![resolved(Some("up0"), 1)], &[0]);
    assert_eq!(again(&mut jobs), "joined 0");
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.waiter_left(), "", "it goes on without a waiter");
    assert_eq!(again(&mut jobs), "joined 0");
    jobs.done(0);
    fetched(&mut jobs, pictures(1), false, true);
    // A request that looked before that finds a job that has ended, and fetches again.
    assert_eq!(again(&mut jobs), "recorded; upstream up0; stage processing; poll 0 up0 b age 600s soon");
}

/// *A request arrives while the pictures of an equal one are fetched again.*
#[test]
fn a_refetch_is_found_by_the_stored_result_alone() {
    let request = Request { key: Some("key"), ..Request::default() };
    for policy in [SHARE, BUY] {
        let request = Request { policy, ..request.clone() };
        let mut jobs = Script::new(rules());
        jobs.refetch(&request, vec![resolved(Some("up0"), 1)], &[0]);
        assert_eq!(jobs.join_as(&request), "none");
        assert_eq!(jobs.join_by_key(&request), "none");
        assert!(jobs.list(&request).starts_with("journal intent"), "a request that forces a purchase buys");
        // The end of the refetch leaves the new job listed.
        let bought = jobs.job;
        jobs.job = jobs.listed[0];
        jobs.done(0);
        let ended = fetched(&mut jobs, pictures(1), false, true);
        assert_eq!(ended, "result x1; refetched 0 restored; job ended refetched x1");
        jobs.job = bought;
        assert_eq!(jobs.join_by_key(&request), "joined 1");
        assert_eq!(jobs.join_as(&Request { policy: SHARE, ..request }), "joined 1");
    }
}

/// *The time of a refetch is over while its pictures arrive.*
#[test]
fn pictures_that_come_at_the_end_of_a_refetch_are_delivered_or_found_by_the_next_request() {
    let ready = || {
        let mut jobs = begun(1);
        jobs.done(0);
        jobs.wait(seconds(30));
        jobs
    };
    let mut jobs = ready();
    assert_eq!(fetched(&mut jobs, pictures(1), false, true), "result x1; refetched 0 restored; job ended refetched x1");
    assert_eq!(jobs.time_passed(), "");

    let mut jobs = ready();
    assert_eq!(jobs.time_passed(), "refetched 0 lost; job ended refetched result_lost");
    assert_eq!(fetched(&mut jobs, pictures(1), false, true), "");

    // A record on its way is waited for.
    let mut jobs = ready();
    fetched(&mut jobs, others(1), false, true);
    assert_eq!(jobs.time_passed(), "");
    assert_eq!(jobs.end(0, Durable), "result x1; refetched 0 replaced; job ended refetched x1");
}

/// *The gateway begins to stop, or a client cancels, while pictures are fetched again.*
#[test]
fn a_refetch_goes_on_while_the_gateway_stops_and_is_not_cancelled() {
    let mut jobs = begun(1);
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Ended), String::new()));
    assert_eq!(jobs.draining(), "");
    jobs.done(0);
    assert_eq!(fetched(&mut jobs, pictures(1), false, true), "result x1; refetched 0 restored; job ended refetched x1");
}
