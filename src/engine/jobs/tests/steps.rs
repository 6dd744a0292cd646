//! Which event means something in which state of a purchase.

use super::script::{Request, Script, pictures, seconds};
use crate::engine::jobs::event::AppendOutcome::{Durable, Failed};
use crate::upstream::formats::FormatTable;

/// A way to a state of the first purchase. Another purchase of the job is polled meanwhile.
type Way = fn(&mut Script);

const STATES: [(&str, Way); 13] = [
    ("queued", |_| {}),
    ("late", |jobs| {
        jobs.wait(seconds(60));
        jobs.time_passed();
    }),
    ("pausing", |jobs| {
        jobs.granted(0);
        jobs.not_sent(0);
    }),
    ("awaiting format", |jobs| {
        jobs.jobs.formats = FormatTable::adapting();
        // Another job tries the format out.
        jobs.list_recorded(&Request { prompt: "a hare", ..Request::default() });
        jobs.granted(0);
        jobs.job = jobs.listed[0];
        assert_eq!(jobs.granted(0), "");
    }),
    ("uploading", |jobs| {
        jobs.granted(0);
    }),
    ("committing", |jobs| {
        jobs.upload(0);
    }),
    ("submitted", |jobs| jobs.submit(0)),
    ("withdrawing", |jobs| {
        jobs.submit(0);
        jobs.refused(0);
    }),
    ("accepting", |jobs| {
        jobs.submit(0);
        jobs.accepted(0);
    }),
    ("polling", |jobs| jobs.poll_on(0)),
    ("collecting", |jobs| {
        jobs.submit(0);
        jobs.finished_at_once(0, false);
    }),
    ("ending", |jobs| jobs.resolve(0)),
    ("ended", |jobs| {
        jobs.resolve(0);
        jobs.end(0, Durable);
    }),
];

/// Reports an event about the first purchase. Returns the effects.
type Report = fn(&mut Script) -> String;

const EVENTS: [(&str, Report); 11] = [
    ("granted", |jobs| jobs.granted(0)),
    ("not granted", |jobs| jobs.not_granted(0)),
    ("uploaded", |jobs| jobs.uploaded(0)),
    ("commit", |jobs| jobs.commit(0, 1, Durable)),
    ("submitted", |jobs| jobs.accepted(0)),
    ("withdrawal", |jobs| jobs.withdrawal(0, Durable)),
    ("acceptance", |jobs| jobs.acceptance(0, Durable)),
    ("polled", |jobs| jobs.working(0, seconds(1))),
    ("fetched", |jobs| jobs.fetched(0, 1)),
    ("end", |jobs| jobs.end(0, Durable)),
    ("draining", Script::draining),
];

/// `x`: something follows. `r`, `b`: an event that comes too late or is foreign; the grant is returned unused, or the
/// submit is broken off. `.`: nothing.
#[rustfmt::skip]
const EXPECTED: [&str; 13] = [
//   granted not  upload commit answer withdr accept poll fetch end drain
    "x       x    b      .      r      .      .      .    .     .   x", // queued
    "r       x    b      .      r      .      .      .    .     .   x", // late
    "r       x    b      .      r      .      .      .    .     .   x", // pausing
    "r       x    b      .      r      .      .      .    .     .   x", // awaiting format
    "r       .    x      .      x      .      .      .    .     .   .", // uploading
    "r       .    b      x      x      .      .      .    .     .   .", // committing
    "r       .    b      .      x      .      .      .    .     .   .", // submitted
    "r       .    b      .      r      x      .      .    .     .   .", // withdrawing
    "r       .    b      .      r      .      x      .    .     .   .", // accepting
    "r       .    b      .      r      .      .      x    x     .   .", // polling
    "r       .    b      .      r      .      .      .    x     .   .", // collecting
    "r       .    b      .      r      .      .      .    .     x   .", // ending
    "r       .    b      .      r      .      .      .    .     .   .", // ended
];

#[test]
fn each_event_means_something_in_its_states_only() {
    for ((state, way), row) in STATES.into_iter().zip(EXPECTED) {
        let expected: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(expected.len(), EVENTS.len(), "{state}");
        for ((event, report), expected) in EVENTS.into_iter().zip(expected) {
            let mut jobs = Script::of(2);
            jobs.poll_on(1);
            way(&mut jobs);
            let before = format!("{:?}", jobs.jobs);
            let effects = report(&mut jobs);
            let found = match effects.as_str() {
                "" => ".",
                "release 0" => "r",
                "break off 0" => "b",
                _ => "x",
            };
            assert_eq!(found, expected, "{event} when {state}: {effects}");
            if found != "x" && event != "draining" {
                assert_eq!(format!("{:?}", jobs.jobs), before, "{event} when {state} changes nothing");
            }
        }
    }
}

#[test]
fn an_event_of_an_unknown_job_or_purchase_is_ignored() {
    for (event, report) in EVENTS {
        let mut jobs = Script::polling();
        jobs.done(0);
        jobs.fetched(0, 1);
        jobs.end(0, Durable);
        assert_eq!(report(&mut jobs), "", "{event}");
        assert_eq!(jobs.intent(Durable), "", "nothing is published of a job that has ended");
        assert_eq!(jobs.intent(Failed), "");
        assert_eq!(jobs.waiter_left(), "");
    }
    let mut jobs = Script::of(1);
    assert_eq!(jobs.granted(1), "", "a slot that the job does not have");
    assert_eq!(jobs.granted(0), "submit 0 #1 x1; stage submitting");
}

#[test]
fn a_purchase_goes_from_the_queue_to_its_end() {
    let mut jobs = Script::unrecorded(1);
    assert_eq!(jobs.intent(Durable), "recorded");
    jobs.wait(seconds(1));
    assert_eq!(jobs.granted_by(0, "b"), "submit 0 #1 x1; stage submitting");
    jobs.wait(seconds(1));
    assert_eq!(jobs.uploaded(0), "journal committing 0 b #1");
    assert_eq!(jobs.commit(0, 1, Durable), "send 0");
    jobs.wait(seconds(1));
    assert_eq!(jobs.accepted(0), "journal accepted 0 up0; end submits 0");
    jobs.wait(seconds(1));
    assert_eq!(jobs.acceptance(0, Durable), "upstream up0; poll 0 up0 b age 1s; stage processing");
    jobs.wait(seconds(29));
    assert_eq!(jobs.working(0, seconds(29)), "poll 0 up0 b age 30s working at 29s");
    jobs.wait(seconds(10));
    assert_eq!(jobs.done(0), "release 0; learn 29s to 40s, polls 2; fetch 0 x1");
    jobs.wait(seconds(2));
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1 up0");
    jobs.wait(seconds(1));
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 43s $8 charge x1 $8; job ended x1");
}

#[test]
fn the_pictures_of_a_result_are_those_that_were_fetched() {
    let mut jobs = Script::polling();
    jobs.done(0);
    jobs.fetched(0, 2);
    let view = jobs.jobs.table.live.get(&jobs.job).unwrap();
    let result = view.purchases[0].state.end().unwrap().result(0).unwrap();
    assert_eq!(result.pictures, pictures(2));
    assert_eq!(result.resolved, jobs.now().timestamp);
}
