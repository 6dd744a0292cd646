//! What a purchase is accounted with when it ends, and how its job ends.

use super::script::{Request, Script, rules, usage};
use crate::engine::jobs::event::AppendOutcome::Durable;
use crate::engine::jobs::event::{Event, Fetched};
use crate::model::{Failure, Usage};
use crate::upstream::Polled;

#[test]
fn the_price_is_that_of_the_tokens_or_else_of_the_pictures() {
    let end = |usage| {
        let mut jobs = Script::of_request(&Request { purchases: vec![2], ..Request::default() });
        jobs.poll_on(0);
        jobs.done(0);
        let pictures = super::script::pictures(2);
        let fetched = Fetched { pictures, contents: Vec::new(), trouble: None, usage, durable: true };
        jobs.event(Event::Fetched { purchase: jobs.purchase(0), fetched });
        jobs.end(0, Durable)
    };
    assert_eq!(end(Some(usage())), "result x2; ended 0 up0 x2 in 0s $8 charge x2 $8; job ended x2");
    assert_eq!(end(None), "result x2; ended 0 up0 x2 in 0s $1 charge x2 $1; job ended x2");
}

#[test]
fn pictures_made_without_looking_at_the_inputs_are_marked() {
    let end = |inputs, usage| {
        let mut jobs = Script::of_request(&Request { inputs, ..Request::default() });
        jobs.poll_on(0);
        jobs.done(0);
        let fetched =
            Fetched { pictures: super::script::pictures(1), contents: Vec::new(), trouble: None, usage, durable: true };
        jobs.event(Event::Fetched { purchase: jobs.purchase(0), fetched });
        jobs.end(0, Durable)
    };
    let unseen = "result x1 unseen; ended 0 up0 x1 unseen in 0s $8 charge x1 $8; job ended x1 unseen";
    assert_eq!(end(1, Some(usage())), unseen);
    assert_eq!(end(0, Some(usage())), unseen.replace(" unseen", ""), "a generation");
    let seen = Usage { input_image_tokens: Some(1), ..usage() };
    assert_eq!(end(1, Some(seen)), unseen.replace(" unseen", ""));
    assert!(!end(1, None).contains("unseen"), "no usage, no conclusion");
}

#[test]
fn a_failure_is_charged_if_it_may_have_been_bought() {
    let end = |failure: Failure| {
        let mut jobs = Script::of_request(&Request { purchases: vec![3], ..Request::default() });
        jobs.poll_on(0);
        let name = failure.name();
        jobs.polled(0, super::script::seconds(0), Ok(Polled::Failed(failure)));
        jobs.end(0, Durable).replace(name, "failed")
    };
    let moderated = |bought| Failure::Moderated { message: String::new(), bought };
    assert_eq!(end(moderated(true)), "ended 0 up0 failed in 0s $1.5 charge x3 $1.5; job ended failed");
    assert_eq!(end(moderated(false)), "ended 0 up0 failed in 0s $1.5 free; job ended failed");
}

#[test]
fn a_model_that_is_not_in_the_catalogue_has_no_price() {
    let unknown = || Request { model: "sculptor", ..Request::default() };
    let mut jobs = Script::of_request(&unknown());
    jobs.submit(0);
    jobs.lost(0);
    assert_eq!(jobs.end(0, Durable), "ended 0 outcome_unknown in 0s $? charge x1 $0; job ended outcome_unknown");

    let rules = crate::engine::jobs::rules::Rules { on_unknown: crate::config::OnUnknown::Resubmit, ..rules() };
    let mut jobs = Script::of_rules(rules, &unknown());
    jobs.submit(0);
    assert_eq!(jobs.lost(0), "journal resubmitted 0");
    assert_eq!(jobs.withdrawal(0, Durable), "lost answer $0; stage queued");
}

#[test]
fn a_job_without_any_picture_ends_with_its_most_severe_failure() {
    let mut jobs = Script::of(3);
    jobs.granted(0);
    jobs.rejected(0);
    jobs.submit(1);
    jobs.lost(1);
    jobs.not_granted(2);
    assert_eq!(jobs.end(0, Durable), "ended 0 moderated in 0s $0.5 free");
    assert_eq!(jobs.end(1, Durable), "ended 1 outcome_unknown in 0s $0.5 charge x1 $0.5");
    assert_eq!(jobs.end(2, Durable), "ended 2 overloaded in 0s $0.5 free; job ended outcome_unknown");
}

#[test]
fn stages_are_shown_when_they_change() {
    let mut jobs = Script::of(2);
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
    assert_eq!(jobs.granted(1), "submit 1 #1 x1");
    assert_eq!(jobs.refused(1), "enqueue 1");
    assert_eq!(jobs.refused(0), "enqueue 0; stage queued");
    jobs.submit(0);
    assert_eq!(jobs.accepted(0), "journal accepted 0 up0; end submits 0");
    assert_eq!(jobs.acceptance(0, Durable), "upstream up0; poll 0 up0 a age 0s; stage processing");
    assert_eq!(jobs.granted(1), "submit 1 #1 x1", "the furthest purchase decides");
    // Pictures that are being journalled, or are, count as processing; a failure does not.
    jobs.done(0);
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1 up0");
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8");
    assert_eq!(jobs.refused(1), "enqueue 1");

    let mut jobs = Script::of(2);
    jobs.poll_on(0);
    let failed = Failure::DeadlineExceeded;
    assert_eq!(
        jobs.polled(0, super::script::seconds(0), Ok(Polled::Failed(failed))),
        "end submits 0; release 0; journal failed 0 deadline_exceeded; stage queued"
    );
}
