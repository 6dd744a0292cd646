//! What is seen of a job, and what its owner may do.

use super::script::{Request, Script, rules, seconds};
use crate::engine::jobs::event::AppendOutcome::Durable;
use crate::engine::jobs::{CancelOutcome, Counts, JobStage, OpenPurchase, PaymentStatus};
use crate::model::{ClientId, JobId, Usd};

fn open(starts_in: u64, age: u64) -> OpenPurchase {
    OpenPurchase { pictures: 1, starts_in: Some(seconds(starts_in)), age: seconds(age) }
}

fn alice() -> ClientId {
    ClientId("alice".into())
}

#[test]
fn a_view_shows_the_purchases_that_are_under_way() {
    let mut jobs = Script::of(4);
    jobs.wait(seconds(5));
    jobs.granted(1);
    jobs.poll_on(2);
    jobs.resolve(3);
    jobs.wait(seconds(7));
    let view = jobs.jobs.table.view(&alice(), jobs.job, jobs.instant()).unwrap();
    assert_eq!(view.record.id, jobs.job);
    assert_eq!(view.stage, JobStage::Processing);
    assert!(!view.abandoned);
    assert_eq!(view.open, [open(8, 0), open(0, 0), open(0, 7)], "the end of one is being journalled");

    jobs.end(3, Durable);
    let view = jobs.jobs.table.view(&alice(), jobs.job, jobs.instant()).unwrap();
    assert_eq!(view.open, [open(8, 0), open(0, 0), open(0, 7)]);
}

#[test]
fn a_call_that_is_held_until_the_pictures_are_made_grows_old_from_its_last_byte_on() {
    let mut jobs = Script::openai();
    let view = |jobs: &Script| {
        let view = jobs.jobs.table.view(&alice(), jobs.job, jobs.instant()).unwrap();
        (view.stage, view.open)
    };
    assert_eq!(view(&jobs), (JobStage::Submitting, vec![open(0, 0)]));
    jobs.wait(seconds(4));
    assert_eq!(view(&jobs), (JobStage::Submitting, vec![open(0, 4)]), "it may still be refused");
    jobs.wait(seconds(3));
    jobs.time_passed();
    assert_eq!(view(&jobs), (JobStage::Processing, vec![open(0, 7)]));
    jobs.wait(seconds(20));
    jobs.finished_at_once(0, false);
    assert_eq!(view(&jobs), (JobStage::Processing, vec![open(0, 27)]));
}

#[test]
fn of_a_start_that_does_not_come_nothing_is_expected() {
    let mut jobs = Script::of(1);
    let starts_in = |jobs: &Script| {
        let view = jobs.jobs.table.view(&alice(), jobs.job, jobs.instant()).unwrap();
        view.open[0].starts_in
    };
    jobs.wait(seconds(19));
    assert_eq!(starts_in(&jobs), Some(seconds(1)));
    jobs.wait(seconds(3));
    assert_eq!(starts_in(&jobs), Some(seconds(0)), "a little late");
    jobs.wait(seconds(2));
    assert_eq!(starts_in(&jobs), None, "a pause that the forecast did not know");
    jobs.granted(0);
    assert_eq!(starts_in(&jobs), Some(seconds(0)));
}

#[test]
fn a_job_is_shown_to_its_client_only() {
    let mut jobs = Script::of(1);
    assert!(jobs.jobs.table.view(&ClientId("bob".into()), jobs.job, jobs.instant()).is_none());
    assert_eq!(jobs.cancel_as("bob"), (None, String::new()));
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
    let unknown = JobId::new(super::script::START, 99);
    assert!(jobs.jobs.table.view(&alice(), unknown, jobs.instant()).is_none());
}

#[test]
fn a_view_shows_that_a_job_is_being_dropped() {
    let mut jobs = Script::of(1);
    jobs.waiter_left();
    let view = jobs.jobs.table.view(&alice(), jobs.job, jobs.instant()).unwrap();
    assert!(view.abandoned);
}

#[test]
fn a_cancellation_says_what_it_did() {
    let kept = || Script::of_request(&Request { kept: true, ..Request::default() });

    let mut jobs = kept();
    assert_eq!(jobs.cancel().0, Some(CancelOutcome::Shared), "its own request still waits");
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");

    let mut jobs = kept();
    jobs.waiter_left();
    assert_eq!(jobs.cancel().0, Some(CancelOutcome::Dropped));
    jobs.end(0, Durable);
    assert_eq!(jobs.cancel(), (None, String::new()), "it is in the journal alone");

    let mut jobs = kept();
    jobs.waiter_left();
    jobs.poll_on(0);
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Bought), String::new()));
    assert_eq!(jobs.jobs.table.counts().kept, 1, "a cancellation that is refused changes nothing");
}

#[test]
fn a_job_whose_purchases_failed_for_nothing_can_be_cancelled() {
    let mut jobs = Script::of_request(&Request { kept: true, purchases: vec![1, 1], ..Request::default() });
    jobs.waiter_left();
    jobs.granted(0);
    jobs.rejected(0);
    let dropped = "end submits 1; release 1; journal failed 1 abandoned";
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Dropped), dropped.to_owned()));

    let mut jobs = Script::of_request(&Request { kept: true, purchases: vec![1, 1], ..Request::default() });
    jobs.waiter_left();
    jobs.submit(0);
    jobs.lost(0);
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Bought), String::new()), "it may have been paid for");
    jobs.end(0, Durable);
    assert_eq!(jobs.cancel(), (Some(CancelOutcome::Bought), String::new()));
}

#[test]
fn a_job_is_paid_for_as_far_as_its_furthest_purchase_is() {
    let mut jobs = Script::of(1);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::NotBought);
    jobs.granted(0);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::Submitting);
    jobs.refused(0);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::NotBought);
    jobs.submit(0);
    jobs.refused(0);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::Submitting, "the withdrawal is being journalled");
    jobs.withdrawal(0, Durable);
    jobs.submit(0);
    jobs.accepted(0);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::Submitting, "the acceptance is being journalled");
    jobs.acceptance(0, Durable);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::Bought);
    jobs.done(0);
    jobs.fetched(0, 1);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::Bought);
    jobs.end(0, Durable);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::Bought, "it has ended");

    let mut jobs = Script::openai();
    jobs.finished_at_once(0, false);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::Submitting, "its only result is not stored yet");
    let mut jobs = Script::of(1);
    jobs.granted(0);
    jobs.rejected(0);
    assert_eq!(jobs.jobs.table.payment(jobs.job), PaymentStatus::NotBought);
}

#[test]
fn purchases_are_counted_by_state_and_kept_jobs_apart() {
    let mut jobs = Script::new(rules());
    assert_eq!((jobs.jobs.table.counts(), jobs.jobs.table.longest_waited_for()), (Counts::default(), None));
    let request = |prompt, kept| Request { prompt, kept, purchases: vec![1; 6], ..Request::default() };
    jobs.list_recorded(&request("one", true));
    jobs.granted(0);
    jobs.submit(1);
    jobs.accepted(1);
    jobs.poll_on(2);
    jobs.resolve(3);
    jobs.resolve(4);
    jobs.end(4, Durable);
    assert_eq!(jobs.jobs.table.counts(), Counts { queued: 1, submitting: 2, polling: 1, kept: 1 });
    let first = jobs.jobs.table.longest_waited_for().map(|record| record.id);
    assert!(first.is_some(), "a job that is asked for later is waited for");
    jobs.list(&request("another", false));
    assert_eq!(jobs.jobs.table.longest_waited_for().map(|record| record.id), first);
    assert_eq!(jobs.jobs.table.counts(), Counts { queued: 7, submitting: 2, polling: 1, kept: 1 });
    jobs.wait(seconds(60));
    jobs.time_passed();
    assert_eq!(
        jobs.jobs.table.counts(),
        Counts { queued: 7, submitting: 2, polling: 1, kept: 1 },
        "late ones wait too"
    );
    jobs.keep();
    assert_eq!(jobs.jobs.table.counts().kept, 2);
}

#[test]
fn a_live_job_has_an_expected_cost() {
    let jobs = Script::of(3);
    let (record, usd) = jobs.jobs.expected_cost(jobs.job).unwrap();
    assert_eq!((record.id, usd), (jobs.job, Usd(1.5)));
    assert!(jobs.jobs.expected_cost(JobId::new(super::script::START, 99)).is_none());
    let jobs = Script::of_request(&Request { model: "sculptor", ..Request::default() });
    assert_eq!(jobs.jobs.expected_cost(jobs.job).unwrap().1, Usd(0.0));
}

#[test]
fn keeping_a_job_that_has_ended_does_nothing() {
    let mut jobs = Script::of(1);
    jobs.waiter_left();
    jobs.end(0, Durable);
    jobs.time_passed();
    jobs.keep();
    assert_eq!(jobs.jobs.table.counts(), Counts::default());
}
