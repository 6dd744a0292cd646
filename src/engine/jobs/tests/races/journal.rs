//! Records that become durable, or do not, while something else happens.

use crate::config::OnUnknown;
use crate::engine::jobs::event::AppendOutcome::{Away, Durable, Failed, NotWritten};
use crate::engine::jobs::rules::Rules;
use crate::engine::jobs::tests::script::{Request, Script, rules, seconds};
use crate::model::ApiKind;

const UNRECORDED: &str =
    "end submits 0; release 0; ended 0 journal_unavailable in 0s $0.5 free; job ended journal_unavailable";

/// *The intent cannot be written while a submit is uploaded or answered.* Uploaded.
#[test]
fn without_an_intent_no_last_byte_leaves() {
    for outcome in [NotWritten, Failed] {
        let mut jobs = Script::unrecorded(1);
        jobs.granted(0);
        assert_eq!(jobs.intent(outcome), UNRECORDED);
        assert_eq!(jobs.uploaded(0), "", "the driver breaks the submit off: there is no such job");

        let mut jobs = Script::unrecorded(1);
        jobs.granted(0);
        assert_eq!(jobs.uploaded(0), "journal committing 0 a #1");
        assert_eq!(jobs.intent(outcome), UNRECORDED);
        assert_eq!(jobs.commit(0, 1, outcome), "");

        let mut jobs = Script::unrecorded(1);
        jobs.upload(0);
        assert_eq!(jobs.commit(0, 1, Durable), "");
        assert_eq!(jobs.intent(outcome), UNRECORDED);
    }
}

/// *The intent cannot be written while a submit is uploaded or answered.* Answered.
#[test]
fn without_an_intent_a_refused_submit_is_not_queued_again() {
    for outcome in [NotWritten, Failed] {
        // Not sent.
        let mut jobs = Script::unrecorded(1);
        jobs.granted(0);
        assert_eq!(jobs.intent(outcome), UNRECORDED);
        assert_eq!(jobs.not_sent(0), "");

        let mut jobs = Script::unrecorded(1);
        jobs.granted(0);
        assert_eq!(jobs.not_sent(0), "stage queued");
        assert_eq!(jobs.intent(outcome), UNRECORDED);

        // Rejected: the job ends once.
        let mut jobs = Script::unrecorded(1);
        jobs.granted(0);
        assert_eq!(jobs.rejected(0), "end submits 0; release 0; journal failed 0 moderated");
        assert_eq!(jobs.intent(outcome), "");
        assert_eq!(jobs.end(0, outcome), "ended 0 moderated in 0s $0.5 free; job ended moderated");

        // With one purchase queued and one submitting, both end.
        let mut jobs = Script::unrecorded(2);
        jobs.granted(1);
        assert_eq!(
            jobs.intent(outcome),
            "end submits 0; release 0; ended 0 journal_unavailable in 0s $0.5 free; \
             end submits 1; release 1; ended 1 journal_unavailable in 0s $0.5 free; job ended journal_unavailable"
        );
        assert_eq!(jobs.rejected(1), "");
    }
}

/// *The intent cannot be written while a submit is uploaded or answered.* The upstream accepts it before its last byte.
#[test]
fn what_the_upstream_has_taken_is_followed_without_an_intent() {
    let goes_on = |jobs: &mut Script| {
        assert_eq!(jobs.acceptance(0, Durable), "upstream up0; poll 0 up0 a age 0s; stage processing");
        assert_eq!(jobs.done(0), "release 0; learn 0s to 0s, polls 1; fetch 0 x1");
        assert_eq!(
            jobs.fetched(0, 1),
            "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1",
            "no record of a job that the journal does not know"
        );
    };

    let mut jobs = Script::unrecorded(1);
    jobs.upload(0);
    assert_eq!(jobs.accepted(0), "journal accepted 0 up0; end submits 0");
    assert_eq!(jobs.intent(NotWritten), "");
    goes_on(&mut jobs);

    let mut jobs = Script::unrecorded(1);
    jobs.upload(0);
    assert_eq!(jobs.intent(NotWritten), UNRECORDED);
    assert_eq!(jobs.accepted(0), "", "its submit was broken off without its last byte");

    let mut jobs = Script::unrecorded(1);
    jobs.upload(0);
    jobs.finished_at_once(0, false);
    assert_eq!(jobs.intent(NotWritten), "");
    assert_eq!(jobs.fetched(0, 1), "result x1; ended 0 x1 in 0s $8 charge x1 $8; job ended x1");
}

/// *The commit record becomes durable before the intent is known to be.*
#[test]
fn the_last_byte_waits_for_the_intent_and_the_commit() {
    let mut jobs = Script::unrecorded(2);
    jobs.upload(0);
    assert_eq!(jobs.intent(Durable), "recorded");
    assert_eq!(jobs.commit(0, 1, Durable), "send 0");

    let mut jobs = Script::unrecorded(2);
    jobs.upload(0);
    assert_eq!(jobs.commit(0, 1, Durable), "");
    assert_eq!(jobs.uploaded(1), "break off 1", "only what was submitted");
    assert_eq!(jobs.intent(Durable), "recorded; send 0");
    assert_eq!(jobs.commit(0, 1, Durable), "", "once");

    // The answer comes first: then there is no byte to let.
    let mut jobs = Script::unrecorded(1);
    jobs.upload(0);
    assert_eq!(jobs.commit(0, 1, Durable), "");
    assert_eq!(jobs.refused(0), "journal withdrawn 0");
    assert_eq!(jobs.intent(Durable), "recorded");
}

/// No race: a record that is refused alone closes nothing.
#[test]
fn after_a_record_that_was_refused_others_are_written() {
    let mut jobs = Script::unrecorded(1);
    assert_eq!(jobs.intent(NotWritten), UNRECORDED);
    assert_eq!(jobs.list(&Request::default()), "journal intent 0x1; enqueue 0");

    let mut jobs = Script::of(1);
    jobs.upload(0);
    assert_eq!(jobs.commit(0, 1, NotWritten), "break off 0");
    assert_eq!(jobs.not_sent(0), "stage queued");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "enqueue 0");
    assert_eq!(jobs.draining(), "end submits 0; release 0; journal failed 0 stopping");
}

/// A slow submit counts as accepted five seconds after the last byte, whichever record let that leave.
#[test]
fn a_slow_submit_counts_from_its_last_byte() {
    let slow = Request { api_kind: ApiKind::OpenAi, ..Request::default() };
    let mut jobs = Script::new(rules());
    jobs.list(&slow);
    jobs.upload(0);
    jobs.wait(seconds(3));
    assert_eq!(jobs.commit(0, 1, Durable), "");
    assert_eq!(jobs.timeout(), Some(seconds(57)), "the time to start");
    jobs.wait(seconds(3));
    assert_eq!(jobs.intent(Durable), "recorded; send 0");
    assert_eq!(jobs.timeout(), Some(seconds(5)));
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
    assert_eq!(jobs.commit(0, 1, Failed), "break off 0");
    assert_eq!(jobs.not_sent(0), UNRECORDED);

    let mut jobs = start();
    assert_eq!(jobs.not_sent(0), "journal withdrawn 0");
    assert_eq!(jobs.commit(0, 1, Failed), "", "the submit that asked for it has ended");
    assert_eq!(jobs.withdrawal(0, Failed), UNRECORDED);

    // A journal that refuses one record and writes the next: the purchase is submitted again.
    let mut jobs = start();
    assert_eq!(jobs.commit(0, 1, NotWritten), "break off 0");
    assert_eq!(jobs.not_sent(0), "stage queued", "nothing is in the journal that could be withdrawn");

    let mut jobs = start();
    assert_eq!(jobs.not_sent(0), "journal withdrawn 0");
    assert_eq!(jobs.commit(0, 1, NotWritten), "");
    assert_eq!(jobs.withdrawal(0, NotWritten), "", "it is appended again");
}

/// No race: a record that is not written is appended again five times, a second after each. A purchase that is bought
/// then goes on without it.
#[test]
fn a_record_that_is_not_written_is_appended_again() {
    let again = |jobs: &mut Script, journalled: &dyn Fn(&mut Script) -> String, record: &str| {
        for _ in 0..5 {
            assert_eq!(journalled(jobs), "");
            jobs.wait(seconds(1));
            assert_eq!(jobs.time_passed(), record);
        }
    };
    let start = |on_unknown| {
        let mut jobs = Script::of_rules(Rules { on_unknown, ..rules() }, &Request::default());
        jobs.submit(0);
        jobs
    };

    let mut jobs = start(OnUnknown::Hold);
    jobs.refused(0);
    again(&mut jobs, &|jobs| jobs.withdrawal(0, NotWritten), "journal withdrawn 0");
    assert_eq!(jobs.withdrawal(0, NotWritten), "enqueue 0; stage queued");

    let mut jobs = start(OnUnknown::Hold);
    jobs.accepted(0);
    again(&mut jobs, &|jobs| jobs.acceptance(0, NotWritten), "journal accepted 0 up0");
    assert_eq!(jobs.acceptance(0, NotWritten), "upstream up0; poll 0 up0 a age 5s; stage processing");

    let mut jobs = start(OnUnknown::Hold);
    jobs.lost(0);
    again(&mut jobs, &|jobs| jobs.end(0, NotWritten), "journal failed 0 outcome_unknown");
    assert_eq!(jobs.end(0, NotWritten), "ended 0 outcome_unknown in 5s $0.5 charge x1 $0.5; job ended outcome_unknown");

    // It would be bought again, and nothing would say so.
    let mut jobs = start(OnUnknown::Resubmit);
    jobs.lost(0);
    again(&mut jobs, &|jobs| jobs.withdrawal(0, NotWritten), "journal resubmitted 0");
    assert_eq!(jobs.withdrawal(0, NotWritten), "end submits 0; release 0; journal failed 0 outcome_unknown");

    // One that is written at last is enough.
    let mut jobs = start(OnUnknown::Hold);
    jobs.lost(0);
    assert_eq!(jobs.end(0, NotWritten), "");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "journal failed 0 outcome_unknown");
    assert_eq!(jobs.end(0, Durable), "ended 0 outcome_unknown in 1s $0.5 charge x1 $0.5; job ended outcome_unknown");
}

/// *The journal is away.* An end waits for it, and its job stays listed, so that the same request joins it.
#[test]
fn an_end_is_appended_until_the_journal_is_back() {
    let mut jobs = Script::of_rules(Rules { on_unknown: OnUnknown::Hold, ..rules() }, &Request::default());
    jobs.submit(0);
    jobs.lost(0);
    for _ in 0..30 {
        assert_eq!(jobs.end(0, Away), "");
        jobs.wait(seconds(1));
        assert_eq!(jobs.time_passed(), "journal failed 0 outcome_unknown");
    }
    assert_eq!(jobs.join(), "joined 0");
    assert_eq!(jobs.end(0, Durable), "ended 0 outcome_unknown in 30s $0.5 charge x1 $0.5; job ended outcome_unknown");
}

/// *The journal is away.* An acceptance is polled from memory after a while, and appended until the journal is back.
#[test]
fn an_acceptance_is_appended_while_the_purchase_is_polled() {
    const ACCEPTED: &str = "journal accepted 0 up0";
    let polled = || {
        let mut jobs = Script::of(1);
        jobs.submit(0);
        jobs.accepted(0);
        for _ in 0..5 {
            assert_eq!(jobs.acceptance(0, Away), "");
            jobs.wait(seconds(1));
            assert_eq!(jobs.time_passed(), ACCEPTED);
        }
        assert_eq!(jobs.acceptance(0, Away), "upstream up0; poll 0 up0 a age 5s; stage processing");
        jobs.wait(seconds(1));
        assert_eq!(jobs.time_passed(), ACCEPTED);
        jobs
    };

    let mut jobs = polled();
    for _ in 0..30 {
        assert_eq!(jobs.acceptance(0, Away), "");
        assert_eq!(jobs.time_passed(), "", "once a second");
        jobs.wait(seconds(1));
        assert_eq!(jobs.time_passed(), ACCEPTED);
    }
    assert_eq!(jobs.acceptance(0, Durable), "", "it is polled already");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "");

    // A record that is refused alone is appended again some times.
    let mut jobs = polled();
    for _ in 0..5 {
        assert_eq!(jobs.acceptance(0, NotWritten), "");
        jobs.wait(seconds(1));
        assert_eq!(jobs.time_passed(), ACCEPTED);
    }
    assert_eq!(jobs.acceptance(0, NotWritten), "");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "");

    let mut jobs = polled();
    assert_eq!(jobs.acceptance(0, Failed), "");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "");

    // The end brings the id, so the acceptance is not needed any more.
    let mut jobs = polled();
    jobs.acceptance(0, Away);
    jobs.done(0);
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1 up0");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "");
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
    assert_eq!(jobs.commit(0, 1, Durable), "send 0");
    assert_eq!(jobs.refused(0), "journal withdrawn 0");

    let mut jobs = start();
    assert_eq!(jobs.refused(0), "journal withdrawn 0", "the commit record may be on the disk");
    assert_eq!(jobs.commit(0, 1, Durable), "");
    assert_eq!(jobs.withdrawal(0, Durable), "enqueue 0; stage queued");
}

/// No race: an acceptance, or an end, cannot be written. After that no further record is tried.
#[test]
fn what_is_bought_is_followed_and_shown_without_its_records() {
    let ended = "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1";
    let mut jobs = Script::of(1);
    jobs.submit(0);
    assert_eq!(jobs.accepted(0), "journal accepted 0 up0; end submits 0");
    assert_eq!(jobs.acceptance(0, Failed), "upstream up0; poll 0 up0 a age 0s; stage processing");
    jobs.done(0);
    assert_eq!(jobs.fetched(0, 1), ended);

    let mut jobs = Script::of(1);
    jobs.resolve(0);
    assert_eq!(jobs.end(0, Failed), ended);
}

/// *The last waiter leaves while a refused submit is withdrawn.* Here its answer was lost.
#[test]
fn a_lost_answer_counts_as_bought_also_once_it_is_journalled() {
    let start = || {
        let mut rules = rules();
        rules.on_unknown = OnUnknown::Resubmit;
        let mut jobs = Script::of_rules(rules, &Request::default());
        jobs.submit(0);
        assert_eq!(jobs.lost(0), "journal resubmitted 0");
        jobs
    };

    let mut jobs = start();
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.withdrawal(0, Durable), "lost answer $0.5; stage queued");

    let mut jobs = start();
    assert_eq!(jobs.withdrawal(0, Durable), "lost answer $0.5; stage queued");
    assert_eq!(jobs.waiter_left(), "", "it is submitted again all the same");
}

/// *The commit record of an earlier submit becomes durable late.*
#[test]
fn a_late_commit_record_lets_no_byte_of_another_attempt_leave() {
    // The second attempt is uploaded before, or after, the record of the first is reported. The first was not sent, or
    // was pushed back, which counts as no attempt.
    for first in [Script::not_sent, Script::refused] {
        let start = || {
            let mut jobs = Script::of(1);
            let earlier = jobs.upload(0);
            assert_eq!(first(&mut jobs, 0), "journal withdrawn 0");
            jobs.withdrawal(0, Durable);
            jobs.wait(seconds(1));
            jobs.time_passed();
            (jobs, earlier)
        };

        let (mut jobs, earlier) = start();
        jobs.granted(0);
        assert_eq!(jobs.commit(0, earlier, Durable), "");
        let later = jobs.commit_number(0);
        assert_eq!(jobs.commit(0, later, Durable), "send 0");

        let (mut jobs, earlier) = start();
        let later = jobs.upload(0);
        assert_eq!(jobs.commit(0, earlier, Durable), "");
        assert_eq!(jobs.commit(0, later, Durable), "send 0");
        assert_eq!(jobs.commit(0, later, Durable), "", "once");
    }
}

/// *The journal fails while the budget grants a submit of another job.*
#[test]
fn once_the_journal_has_failed_nothing_is_submitted() {
    let start = || {
        let mut jobs = Script::of(1);
        jobs.resolve(0);
        let first = jobs.job;
        assert_eq!(jobs.list(&Request { prompt: "another", ..Request::default() }), "journal intent 0x1; enqueue 0");
        (jobs, first)
    };

    let (mut jobs, first) = start();
    let second = std::mem::replace(&mut jobs.job, first);
    assert_eq!(jobs.end(0, Failed), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1");
    jobs.job = second;
    assert_eq!(jobs.granted(0), UNRECORDED);
    assert_eq!(jobs.list(&Request { prompt: "a third", ..Request::default() }), "refused journal_unavailable");

    // A record that is refused once closes nothing.
    let (mut jobs, first) = start();
    let second = std::mem::replace(&mut jobs.job, first);
    assert_eq!(jobs.end(0, NotWritten), "");
    jobs.job = second;
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");

    let (mut jobs, first) = start();
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
    let second = std::mem::replace(&mut jobs.job, first);
    assert_eq!(jobs.end(0, Failed), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x1");
    jobs.job = second;
    assert_eq!(jobs.uploaded(0), "journal committing 0 a #1");
    assert_eq!(jobs.commit(0, 1, Failed), "break off 0");
}
