//! Submits that the upstream pushes back.

use super::script::{Script, moderated, seconds};
use crate::budget::Pushback;
use crate::engine::jobs::event::AppendOutcome::Durable;
use crate::model::Failure;

#[test]
fn a_refused_submit_is_queued_again_at_once() {
    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.refused(0), "enqueue 0; stage queued", "before its commit record");
    jobs.submit(0);
    assert_eq!(jobs.refused(0), "journal withdrawn 0");
    assert_eq!(jobs.withdrawal(0, Durable), "enqueue 0; stage queued");
    let pushback = Pushback::Model { retry_after: Some(seconds(9)), reason: moderated() };
    jobs.granted(0);
    assert_eq!(jobs.pushed_back(0, pushback, &[]), "enqueue 0; stage queued");
}

#[test]
fn a_pushback_counts_as_no_attempt() {
    let mut jobs = Script::of(1);
    for _ in 0..5 {
        jobs.granted(0);
        assert_eq!(jobs.refused(0), "enqueue 0; stage queued");
    }
    jobs.granted(0);
    assert_eq!(jobs.not_sent(0), "stage queued");
    assert_eq!(jobs.timeout(), Some(seconds(1) / 2), "the first pause");
    jobs.wait(seconds(1));
    jobs.time_passed();
    jobs.granted(0);
    assert_eq!(jobs.not_sent(0), "stage queued", "the second of three");
    jobs.wait(seconds(1));
    jobs.time_passed();
    jobs.granted(0);
    assert_eq!(jobs.not_sent(0), "end submits 0; release 0; journal failed 0 unreachable");
}

#[test]
fn only_a_late_refusal_of_a_slow_submit_pauses() {
    let mut jobs = Script::openai();
    jobs.wait(seconds(5));
    jobs.refused(0);
    assert_eq!(jobs.withdrawal(0, Durable), "stage queued");
    assert_eq!(jobs.time_passed(), "", "the time at which it would have counted as accepted");
    assert_eq!(jobs.timeout(), Some(seconds(5)));
    jobs.wait(seconds(5));
    assert_eq!(jobs.time_passed(), "enqueue 0");

    let mut jobs = Script::of(1);
    jobs.submit(0);
    jobs.wait(seconds(5));
    jobs.refused(0);
    assert_eq!(jobs.withdrawal(0, Durable), "enqueue 0; stage queued");
}

#[test]
fn a_purchase_whose_key_is_refused_goes_to_another_account() {
    let mut jobs = Script::of(1);
    jobs.granted_by(0, "a");
    assert_eq!(jobs.key_refused(0, &["a", "b"]), "enqueue 0; stage queued");
    // The same account again: still one refusal.
    jobs.granted_by(0, "a");
    assert_eq!(jobs.key_refused(0, &["a", "b"]), "enqueue 0; stage queued");
    jobs.granted_by(0, "b");
    assert_eq!(jobs.key_refused(0, &["a", "b"]), "end submits 0; release 0; journal failed 0 key_refused");
    assert_eq!(jobs.end(0, Durable), "ended 0 key_refused in 0s $0.5 free; job ended key_refused");
}

#[test]
fn a_purchase_whose_model_an_account_may_not_use_goes_to_another_account() {
    let refused = |jobs: &mut Script, usable: &[&str]| {
        let reason = Failure::ModelNotPermitted { message: "no permission for this model".to_owned() };
        jobs.pushed_back(0, Pushback::Permission { reason }, usable)
    };
    let mut jobs = Script::of(1);
    jobs.granted_by(0, "a");
    assert_eq!(refused(&mut jobs, &["a", "b"]), "enqueue 0; stage queued");
    jobs.granted_by(0, "b");
    assert_eq!(refused(&mut jobs, &["a", "b"]), "end submits 0; release 0; journal failed 0 model_not_permitted");
    let mut jobs = Script::of(1);
    jobs.granted_by(0, "a");
    assert_eq!(refused(&mut jobs, &["a"]), "end submits 0; release 0; journal failed 0 model_not_permitted");
}

#[test]
fn a_purchase_without_another_account_ends_with_the_reason() {
    for usable in [&["a"] as &[&str], &[]] {
        let mut jobs = Script::of(1);
        jobs.granted_by(0, "a");
        assert_eq!(jobs.key_refused(0, usable), "end submits 0; release 0; journal failed 0 key_refused");
    }
}

#[test]
fn each_purchase_of_a_job_asks_for_itself() {
    let mut jobs = Script::of(2);
    jobs.granted_by(0, "a");
    jobs.granted_by(1, "b");
    assert_eq!(jobs.key_refused(0, &["b"]), "enqueue 0");
    assert_eq!(jobs.key_refused(1, &["a"]), "enqueue 1; stage queued");
    jobs.granted_by(1, "a");
    assert_eq!(jobs.key_refused(1, &["b"]), "end submits 1; release 1; journal failed 1 key_refused; stage queued");
    assert_eq!(jobs.granted_by(0, "b"), "submit 0 #1 x1; stage submitting");
}
