//! Records that become durable, or do not, while something else happens.

use crate::config::OnUnknown;
use crate::engine::jobs::event::Step;
use crate::engine::jobs::tests::script::{Request, Script, rules, seconds};

const UNRECORDED: &str =
    "end submits 0; release 0; ended 0 journal_unavailable in 0s $0.5 free; job ended journal_unavailable";

/// *The intent cannot be written while a submit is uploaded or answered.* Uploaded.
#[test]
fn without_an_intent_no_last_byte_leaves() {
    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.intent(false), UNRECORDED);
    assert_eq!(jobs.uploaded(0), "", "the driver breaks the submit off: there is no such job");

    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.uploaded(0), "journal committing 0 a #1");
    assert_eq!(jobs.intent(false), UNRECORDED);
    assert_eq!(jobs.commit(0, 1, false), "");
}

/// *The intent cannot be written while a submit is uploaded or answered.* Answered.
#[test]
fn without_an_intent_a_refused_submit_is_not_queued_again() {
    // Not sent.
    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.intent(false), UNRECORDED);
    assert_eq!(jobs.not_sent(0), "");

    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.not_sent(0), "stage queued");
    assert_eq!(jobs.intent(false), UNRECORDED);

    // Rejected: the job ends once.
    let mut jobs = Script::of(1);
    jobs.granted(0);
    assert_eq!(jobs.rejected(0), "end submits 0; release 0; journal failed 0 moderated");
    assert_eq!(jobs.intent(false), "");
    assert_eq!(jobs.end(0, false), "ended 0 moderated in 0s $0.5 free; job ended moderated");

    // With one purchase queued and one submitting, both end.
    let mut jobs = Script::of(2);
    jobs.granted(1);
    assert_eq!(
        jobs.intent(false),
        "end submits 0; release 0; ended 0 journal_unavailable in 0s $0.5 free; \
         end submits 1; release 1; ended 1 journal_unavailable in 0s $0.5 free; job ended journal_unavailable"
    );
    assert_eq!(jobs.rejected(1), "");
}

/// *The commit record cannot be written while the submit is answered.*
#[test]
fn without_a_commit_the_last_byte_does_not_leave() {
    let start = || {
        let mut jobs = Script::of(1);
        jobs.upload(0);
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.commit(0, 1, false), "break off 0");
    assert_eq!(jobs.not_sent(0), UNRECORDED);

    let mut jobs = start();
    assert_eq!(jobs.not_sent(0), "journal withdrawn 0");
    assert_eq!(jobs.commit(0, 1, false), "", "the submit that asked for it has ended");
    assert_eq!(jobs.withdrawal(0, false), UNRECORDED);
}

/// *The commit record becomes durable before the intent is known to be.*
#[test]
fn the_last_byte_waits_for_the_commit_record_and_the_intent() {
    let start = || {
        let mut jobs = Script::of(1);
        jobs.granted(0);
        jobs.uploaded(0);
        jobs
    };
    let mut jobs = start();
    assert_eq!(jobs.intent(true), "recorded");
    assert_eq!(jobs.commit(0, 1, true), "send 0");

    let mut jobs = start();
    assert_eq!(jobs.commit(0, 1, true), "");
    assert_eq!(jobs.intent(true), "recorded; send 0");

    // A journal that is locked for a moment refuses the intent and writes the commit record.
    let mut jobs = start();
    assert_eq!(jobs.commit(0, 1, true), "");
    assert_eq!(jobs.refused_record(Step::Intent(jobs.purchase(0).job)), UNRECORDED);
}

/// No race: a record that is refused alone closes nothing.
#[test]
fn after_a_record_that_was_refused_others_are_written() {
    let mut jobs = Script::of(1);
    assert_eq!(jobs.refused_record(Step::Intent(jobs.purchase(0).job)), UNRECORDED);
    assert_eq!(jobs.list(&Request::default()), "journal intent 0x1; enqueue 0");

    let mut jobs = Script::of(1);
    let submit = jobs.upload(0);
    assert_eq!(jobs.refused_record(Step::Commit { purchase: jobs.purchase(0), submit }), "break off 0");
    assert_eq!(jobs.not_sent(0), "stage queued", "the journal knows of no submit, so none is withdrawn");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "enqueue 0");
    assert_eq!(jobs.draining(), "end submits 0; release 0; journal failed 0 stopping");
}

/// *The commit record becomes durable while the submit is answered.*
#[test]
fn a_commit_record_of_an_answered_submit_sends_nothing() {
    let start = || {
        let mut jobs = Script::of(1);
        jobs.upload(0);
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.commit(0, 1, true), "send 0");
    assert_eq!(jobs.refused(0), "journal withdrawn 0");

    let mut jobs = start();
    assert_eq!(jobs.refused(0), "journal withdrawn 0", "the commit record may be on the disk");
    assert_eq!(jobs.commit(0, 1, true), "");
    assert_eq!(jobs.withdrawal(0, true), "enqueue 0; stage queued");
}

/// No race: an acceptance, or an end, cannot be written. After that no further record is tried.
#[test]
fn what_is_bought_is_followed_and_shown_without_its_records() {
    let ended = "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1";
    let mut jobs = Script::of(1);
    jobs.submit(0);
    assert_eq!(jobs.accepted(0), "end submits 0; journal accepted 0 up0");
    assert_eq!(jobs.acceptance(0, false), "upstream up0; poll 0 up0 a age 0s; stage processing");
    jobs.done(0);
    assert_eq!(jobs.fetched(0, 1), ended);

    let mut jobs = Script::of(1);
    jobs.resolve(0);
    assert_eq!(jobs.end(0, false), ended);
}

/// *The last waiter leaves while a refused submit is withdrawn.* Here its answer was lost.
#[test]
fn a_lost_answer_counts_as_bought_until_it_is_journalled() {
    let start = || {
        let mut rules = rules();
        rules.on_unknown = OnUnknown::Resubmit;
        let mut jobs = Script::of_rules(rules, &Request::default());
        jobs.submit(0);
        assert_eq!(jobs.lost(0), "lost answer $0.5; journal resubmitted 0");
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.withdrawal(0, true), "end submits 0; release 0; journal failed 0 abandoned");

    let mut jobs = start();
    assert_eq!(jobs.withdrawal(0, true), "stage queued");
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
}

/// *The commit record of an earlier attempt becomes durable late.*
#[test]
fn a_late_commit_record_lets_no_byte_of_another_attempt_leave() {
    // The second attempt is uploaded before, or after, the record of the first is reported. The first was not sent, or
    // was pushed back, which counts as no attempt.
    for first in [Script::not_sent, Script::refused] {
        let start = || {
            let mut jobs = Script::of(1);
            let earlier = jobs.upload(0);
            assert_eq!(first(&mut jobs, 0), "journal withdrawn 0");
            jobs.withdrawal(0, true);
            jobs.wait(seconds(1));
            jobs.time_passed();
            (jobs, earlier)
        };

        let (mut jobs, earlier) = start();
        jobs.granted(0);
        assert_eq!(jobs.commit(0, earlier, true), "");
        let later = jobs.commit_number(0);
        assert_eq!(jobs.commit(0, later, true), "send 0");

        let (mut jobs, earlier) = start();
        let later = jobs.upload(0);
        assert_eq!(jobs.commit(0, earlier, true), "");
        assert_eq!(jobs.commit(0, later, true), "send 0");
        assert_eq!(jobs.commit(0, later, true), "", "once");
    }
}

/// *A record cannot be written while the budget grants a submit of another job.*
#[test]
fn once_a_record_could_not_be_written_nothing_is_submitted() {
    let start = || {
        let mut jobs = Script::of(1);
        jobs.resolve(0);
        let first = jobs.job;
        assert_eq!(jobs.list(&Request { prompt: "another", ..Request::default() }), "journal intent 0x1; enqueue 0");
        (jobs, first)
    };

    let (mut jobs, first) = start();
    let second = std::mem::replace(&mut jobs.job, first);
    assert_eq!(jobs.end(0, false), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1");
    jobs.job = second;
    assert_eq!(jobs.granted(0), UNRECORDED);
    assert_eq!(jobs.list(&Request { prompt: "a third", ..Request::default() }), "refused journal_unavailable");

    let (mut jobs, first) = start();
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
    let second = std::mem::replace(&mut jobs.job, first);
    assert_eq!(jobs.end(0, false), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1");
    jobs.job = second;
    assert_eq!(jobs.uploaded(0), "journal committing 0 a #1");
    assert_eq!(jobs.commit(0, 1, false), "break off 0");
}
