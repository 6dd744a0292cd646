//! A purchase keeps its grant while another one tries a format out.

use crate::engine::jobs::event::AppendOutcome::{Durable, NotWritten};
use crate::engine::jobs::tests::script::{Request, Script, seconds};
use crate::upstream::formats::{FormatTable, InputMethod};

const METHODS: &[InputMethod] = &[InputMethod::None, InputMethod::Multipart];

/// Two jobs of one purchase each, of which the first tries out a format. Events are about the second.
fn trying_with(methods: &'static [InputMethod]) -> Script {
    let mut jobs = Script::of_request(&Request { methods, ..Request::default() });
    jobs.jobs.formats = FormatTable::adapting();
    jobs.shows_formats = true;
    jobs.submit(0);
    jobs.list_recorded(&Request { prompt: "a hare", methods, ..Request::default() });
    jobs
}

fn trying() -> Script {
    trying_with(METHODS)
}

/// The second purchase waits, too.
fn waiting() -> Script {
    let mut jobs = trying();
    assert_eq!(jobs.granted(0), "", "the grant is kept");
    assert_eq!(jobs.timeout(), Some(seconds(30)));
    jobs
}

/// *A format that one purchase waits for is accepted.*
#[test]
fn a_format_that_is_accepted_is_used_at_once() {
    let mut jobs = waiting();
    assert_eq!(
        jobs.first(|jobs| jobs.accepted(0)),
        "formats no_pictures proven; journal accepted 0 up0; end submits 0; \
         submit 1.0 #1 x1 as no_pictures; 1: stage submitting"
    );
    assert_eq!(jobs.granted(0), "release 0", "it is submitted once");

    let mut jobs = trying();
    assert_eq!(
        jobs.first(|jobs| jobs.accepted(0)),
        "formats no_pictures proven; journal accepted 0 up0; end submits 0"
    );
    assert_eq!(jobs.granted(0), "submit 0 #1 x1 as no_pictures; stage submitting");
}

/// *A format that one purchase waits for is refused.*
#[test]
fn a_purchase_that_waits_tries_what_is_left() {
    let mut jobs = waiting();
    assert_eq!(
        jobs.first(|jobs| jobs.format_refused(0)),
        "formats no_pictures refused; journal withdrawn 0; submit 1.0 #1 x1 as multipart; 1: stage submitting"
    );
    assert_eq!(jobs.first(|jobs| jobs.withdrawal(0, Durable)), "enqueue 0; stage queued");
    assert_eq!(jobs.first(|jobs| jobs.granted(0)), "", "now the first waits for the second");
    assert_eq!(
        jobs.finished_at_once(0, true),
        "formats multipart proven; release 0; journal accepted 0 up0; end submits 0; \
         submit 0.0 #1 x1 as multipart; 0: stage submitting"
    );

    let mut jobs = trying();
    assert_eq!(jobs.first(|jobs| jobs.format_refused(0)), "formats no_pictures refused; journal withdrawn 0");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1 as multipart; stage submitting");
}

/// *A format that one purchase waits for is refused.* Where nothing is left, both end; what was refused may have been the
/// fault of the first one's pictures.
#[test]
fn a_purchase_that_waits_tries_again_what_was_refused_for_another() {
    let refused = "end submits 0; release 0; journal failed 0 invalid_request";
    let mut jobs = trying_with(&METHODS[..1]);
    assert_eq!(jobs.granted(0), "");
    let first = jobs.first(|jobs| jobs.format_refused(0));
    assert!(first.contains(refused), "{first}");
    assert!(first.ends_with("submit 1.0 #1 x1 as no_pictures; 1: stage submitting"), "{first}");

    let mut jobs = trying_with(&METHODS[..1]);
    assert!(jobs.first(|jobs| jobs.format_refused(0)).ends_with(refused));
    assert_eq!(jobs.granted(0), "submit 0 #1 x1 as no_pictures; stage submitting");
}

/// *A purchase that tries a format out is pushed back.*
#[test]
fn a_kept_grant_is_returned_when_the_account_is_pushed_back() {
    let mut jobs = waiting();
    assert_eq!(jobs.first(|jobs| jobs.refused(0)), "journal withdrawn 0; release 1.0; enqueue 1.0");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1 as no_pictures; stage submitting", "it tries instead");

    let mut jobs = trying();
    assert_eq!(jobs.first(|jobs| jobs.refused(0)), "journal withdrawn 0");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1 as no_pictures; stage submitting");
}

/// *A purchase that tries a format out ends without an answer.*
#[test]
fn a_purchase_that_waits_tries_when_the_other_has_ended() {
    let start = || {
        let mut jobs = Script::unrecorded(1);
        jobs.jobs.formats = FormatTable::adapting();
        jobs.upload(0);
        jobs.list_recorded(&Request { prompt: "a hare", ..Request::default() });
        jobs
    };
    let ended = "end submits 0; release 0; ended 0 journal_unavailable in 0s $0.5 free; job ended journal_unavailable";

    let mut jobs = start();
    assert_eq!(jobs.granted(0), "");
    let effects = jobs.first(|jobs| jobs.intent(NotWritten));
    assert_eq!(effects, format!("{ended}; submit 1.0 #1 x1; 1: stage submitting"));

    let mut jobs = start();
    assert_eq!(jobs.first(|jobs| jobs.intent(NotWritten)), ended);
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
}

/// *The last waiter leaves, or the gateway begins to stop, while a purchase waits for a format.* A waiter.
#[test]
fn a_purchase_that_waits_for_no_client_returns_its_grant() {
    let mut jobs = waiting();
    assert_eq!(jobs.waiter_left(), "end submits 0; release 0; journal failed 0 abandoned");
    let answered = jobs.first(|jobs| jobs.accepted(0));
    assert!(!answered.contains("submit 1.0"), "{answered}");

    let mut jobs = waiting();
    assert!(jobs.first(|jobs| jobs.accepted(0)).contains("submit 1.0"));
    assert_eq!(jobs.waiter_left(), "", "what is submitted is followed to its end");
}

/// *The time to start is over while a purchase waits for a format.*
#[test]
fn a_purchase_that_waits_too_long_returns_its_grant() {
    let start = || {
        let mut jobs = trying();
        jobs.wait(seconds(45));
        assert_eq!(jobs.granted(0), "");
        jobs
    };

    let mut jobs = start();
    jobs.wait(seconds(15));
    assert_eq!(jobs.time_passed(), "release 0; explain 0");
    let answered = jobs.first(|jobs| jobs.accepted(0));
    assert!(!answered.contains("1.0"), "{answered}");
    assert_eq!(jobs.not_granted(0), "end submits 0; release 0; journal failed 0 overloaded");

    let mut jobs = start();
    jobs.wait(seconds(14));
    assert!(jobs.first(|jobs| jobs.accepted(0)).contains("submit 1.0"));
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "", "what is submitted in time is followed to its end");
}

/// *The time to wait for a format is over when the answer comes.*
#[test]
fn a_purchase_waits_half_a_minute() {
    let mut jobs = waiting();
    jobs.wait(seconds(29));
    assert_eq!(jobs.time_passed(), "");
    jobs.wait(seconds(1));
    assert_eq!(jobs.time_passed(), "submit 0 #1 x1 as no_pictures; stage submitting");
    let answered = jobs.first(|jobs| jobs.accepted(0));
    assert!(!answered.contains("submit 1.0"), "once: {answered}");

    let mut jobs = waiting();
    jobs.wait(seconds(30));
    assert!(jobs.first(|jobs| jobs.accepted(0)).contains("submit 1.0"));
    assert_eq!(jobs.time_passed(), "");
}

/// *The last waiter leaves, or the gateway begins to stop, while a purchase waits for a format.* A stop.
#[test]
fn a_purchase_that_waits_is_not_submitted_by_a_gateway_that_stops() {
    let mut jobs = waiting();
    assert_eq!(jobs.draining(), "end submits 0; release 0; journal failed 0 stopping");
    let answered = jobs.first(|jobs| jobs.accepted(0));
    assert!(!answered.contains("1.0"), "{answered}");

    let mut jobs = waiting();
    assert!(jobs.first(|jobs| jobs.accepted(0)).contains("submit 1.0"));
    assert_eq!(jobs.draining(), "");
}

/// *A format that one purchase waits for is presumed to be accepted.*
#[test]
fn a_format_that_was_not_refused_at_once_is_used() {
    let methods: &[InputMethod] = &[InputMethod::Multipart, InputMethod::None];
    let mut jobs = trying_with(methods);
    assert_eq!(jobs.granted(0), "");
    assert_eq!(jobs.timeout(), Some(seconds(5)));
    jobs.wait(seconds(5));
    assert_eq!(
        jobs.time_passed(),
        "assume accepted 0.0; 0: stage processing; submit 0 #1 x1 as multipart; stage submitting"
    );
    assert_eq!(jobs.time_passed(), "", "once");

    let mut jobs = trying_with(methods);
    jobs.wait(seconds(5));
    assert_eq!(jobs.time_passed(), "assume accepted 0.0; 0: stage processing");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1 as multipart; stage submitting");

    // The answer comes at the same time.
    let mut jobs = trying_with(methods);
    assert_eq!(jobs.granted(0), "");
    jobs.wait(seconds(5));
    let answered = jobs.first(|jobs| jobs.format_refused(0));
    assert!(answered.contains("submit 1.0 #1 x1 as no_pictures"), "{answered}");
    assert_eq!(jobs.time_passed(), "");
}
