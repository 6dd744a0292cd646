//! Random lives of the jobs, which are pure, in virtual time and without a runtime: one thread, one seed for each life.
//!
//! A world carries out the effects of the jobs as the driver does: a journal whose records become durable in order and
//! late, or never; a budget that grants in any order; an upstream that loses requests and answers, and accepts some
//! request formats alone; clients that join, retry, cancel and leave; power cuts at any moment, and starts on what is
//! durable. At each step one thing is chosen at random of all that may happen, so the lives differ in the order of events
//! above all.
//!
//! A life fails when, among others,
//! - a last byte leaves without a durable commit record, or for a job that no client needed any more;
//! - a purchase is bought again without a record that says so, or a careful client's prompt although something earlier
//!   answers it;
//! - a step is taken, or shown, before its record is durable;
//! - a purchase is refused for its format more than three times, or is submitted in a format that is known to be refused
//!   although it has another one, also after a power cut;
//! - a prompt is bought again because stored pictures are damaged, or a refetch of them changes an end in the journal;
//! - a grant is kept while no submit is under way that it could wait for;
//! - a purchase is resolved without the bytes of its pictures, in files or in the record;
//! - a purchase is unknown to the journal, or a waiter gets another outcome than the one in the journal;
//! - something is left when all has come to rest: a job, a permit, a place in the queue, a request without an answer.
//!
//! `formats` is what the upstream accepts, the state file, and what must hold of both. `driver` carries out effects and
//! `tasks` what follows from them; `clients` and `outside` are what acts on a gateway, `checks` is what else must hold.
//! Polls are planned at random times here: `polls` has tests of its own. The driver and the API are not part of it; the
//! real driver runs in `simulation.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

#[path = "core/arbitrary.rs"]
mod arbitrary;
#[path = "core/budget.rs"]
mod budget;
#[path = "core/checks.rs"]
mod checks;
#[path = "core/clients.rs"]
mod clients;
#[path = "core/damage.rs"]
mod damage;
#[path = "core/driver.rs"]
mod driver;
#[path = "core/formats.rs"]
mod formats;
#[path = "core/journal.rs"]
mod journal;
#[path = "core/live.rs"]
mod live;
#[path = "core/outside.rs"]
mod outside;
#[path = "core/random.rs"]
mod random;
#[path = "core/reproductions.rs"]
mod reproductions;
#[path = "core/setting.rs"]
mod setting;
#[path = "core/tasks.rs"]
mod tasks;
#[path = "core/upstream.rs"]
mod upstream;
#[path = "core/world.rs"]
mod world;

use world::{Counts, World};

/// Lives of each test run. More: `SIMULATION_LIVES=100000`; `tests/README.md` has the command with optimisation.
const LIVES: u64 = 5000;

/// What the driver does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    AsBuilt,
    /// The last byte leaves as soon as the upload has ended.
    LastByteBeforeCommit,
    /// The last byte leaves although the jobs say that it must not.
    LastByteAlways,
    /// Records are reported as durable as soon as they are appended.
    DurableTooEarly,
    /// The record that a submit had no effect is not appended.
    WithdrawalNotAppended,
    /// What is known of formats is lost with the power.
    FormatsNotStored,
    /// Steps are reported before what is known of formats is stored.
    FormatsStoredLate,
    /// A grant that was kept while another purchase tried out a format is not returned.
    KeptGrantNotReturned,
    /// A request lists a job although an equal one has ended since it looked for stored answers.
    LooksOnce,
    /// A stored result that is damaged answers no request.
    DamagedIsBought,
    /// Pictures of other bytes that take the place of damaged ones are not journalled.
    RestorationNotAppended,
    /// The bytes of pictures without a file are not stored with their record.
    ContentsNotAppended,
}

/// How a life went.
#[derive(Debug)]
struct Report {
    counts: Counts,
    hash: u64,
    violation: Option<String>,
    text: String,
}

/// Runs one life.
fn run(seed: u64, variant: Variant, with_text: bool) -> Report {
    let mut world = World::new(seed, variant, with_text);
    let panicked = catch_unwind(AssertUnwindSafe(|| world.live())).is_err();
    if panicked {
        world.violate("a panic".to_owned());
    }
    let World { counts, trace, violation, .. } = world;
    Report { counts, hash: trace.hash, violation, text: trace.text.unwrap_or_default() }
}

fn assert_sound(seed: u64) -> Report {
    let report = run(seed, Variant::AsBuilt, false);
    if let Some(violation) = report.violation {
        panic!("seed {seed}: {violation}\n{}", run(seed, Variant::AsBuilt, true).text);
    }
    report
}

fn lives() -> u64 {
    std::env::var("SIMULATION_LIVES").ok().and_then(|text| text.parse().ok()).unwrap_or(LIVES)
}

#[test]
fn no_life_breaks_a_promise() {
    let (mut sum, begun) = (Counts::default(), Instant::now());
    for seed in 0..lives() {
        let counts = assert_sound(seed).counts;
        sum.events += counts.events;
        sum.purchases += counts.purchases;
        sum.crashes += counts.crashes;
        sum.resubmits += counts.resubmits;
        sum.refused_formats += counts.refused_formats;
        sum.kept_grants += counts.kept_grants;
        sum.refetches += counts.refetches;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let Counts { events, purchases, crashes, resubmits, refused_formats, kept_grants, refetches, .. } = sum;
    let rate = f64::from(u32::try_from(events).unwrap()) / seconds;
    println!(
        "{} lives, {events} events, {rate:.0} events/s, {purchases} purchases ({resubmits} resubmitted), {crashes} crashes, \
         {refused_formats} formats refused, {kept_grants} grants kept, {refetches} refetches",
        lives()
    );
    // A world in which nothing happens would prove nothing.
    let enough = usize::try_from(lives()).unwrap();
    assert!(events > 50 * enough && purchases > enough && crashes > enough);
    assert!(refused_formats > enough && kept_grants > enough && refetches > enough / 20);
}

/// What must happen in a few lives: where one of these is missing, the rest proves less than it seems to.
const HAPPENS: &[&str] = &[
    "assume accepted",
    "attempt 3",
    "Bought",
    "Dropped",
    "Shared",
    "draining",
    "dropped",
    "ended at start",
    "Err(Abandoned)",
    "Err(DeadlineExceeded)",
    "Err(JournalUnavailable)",
    "Err(KeyRefused",
    "Err(Moderated",
    "Err(OutcomeUnknown",
    "Err(Overloaded",
    "Err(ResultLost",
    "Err(Stopping)",
    "Err(TaskFailed",
    "Err(Unreachable",
    "explain delay",
    "has_id: false",
    "Acceptance(_) Failed",
    "Acceptance(_) NotWritten",
    "Commit(_) Failed",
    "Commit(_) NotWritten",
    "End(_) Failed",
    "End(_) NotWritten",
    "Intent(_) Failed",
    "Intent(_) NotWritten",
    "Withdrawal(_) Failed",
    "Withdrawal(_) NotWritten",
    "Withdrawal(_) Durable",
    "FormatRefused { refusal: Auth",
    "FormatRefused { refusal: Field",
    "FormatRefused { refusal: Inputs",
    "FormatRefused { refusal: Path",
    "FormatRefused { refusal: Unclear",
    "Err(InvalidRequest",
    "KeyReused",
    "asks again",
    "keeps its grant",
    "looks again",
    "formats stored",
    "raw key",
    "without background",
    "LookingByKey",
    "not granted",
    "Subscribing",
    "send last byte",
    "refetch Lost",
    "refetch Replaced",
    "refetch Restored",
    "the disk fails",
    "troubles 2",
];

#[test]
fn lives_are_eventful() {
    let reports: Vec<Report> = (0..800).map(|seed| run(seed, Variant::AsBuilt, true)).collect();
    let violations: Vec<&String> = reports.iter().filter_map(|report| report.violation.as_ref()).collect();
    assert!(violations.is_empty(), "{violations:#?}");
    let texts: String = reports.into_iter().map(|report| report.text).collect();
    let missing: Vec<_> = HAPPENS.iter().filter(|happens| !texts.contains(**happens)).collect();
    assert!(missing.is_empty(), "never happened: {missing:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..200 {
        assert_eq!(run(seed, Variant::AsBuilt, false).hash, run(seed, Variant::AsBuilt, false).hash, "seed {seed}");
    }
    for seed in 0..10 {
        let texts = [(); 2].map(|()| run(seed, Variant::AsBuilt, true).text);
        assert!(texts[0] == texts[1] && !texts[0].is_empty(), "seed {seed}:\n{}\n{}", texts[0], texts[1]);
    }
}

/// Lives with a broken driver until one finds what it breaks. Some need a rare order of events.
const CONTROL_LIVES: u64 = 20_000;

/// Asserts that a broken driver is found out, and by what it breaks.
fn assert_found(variant: Variant, message: &str) {
    let mut violations = (0..CONTROL_LIVES).filter_map(|seed| run(seed, variant, false).violation);
    assert!(violations.any(|violation| violation.contains(message)), "{CONTROL_LIVES} lives did not find {variant:?}");
}

#[test]
fn control_a_last_byte_before_the_commit_record_is_found() {
    assert_found(Variant::LastByteBeforeCommit, "without a durable commit record");
}

#[test]
fn control_a_last_byte_that_was_refused_is_found() {
    assert_found(Variant::LastByteAlways, "without a durable commit record");
}

#[test]
fn control_a_journal_that_reports_too_early_is_found() {
    assert_found(Variant::DurableTooEarly, "without a durable commit record");
}

#[test]
fn control_a_withdrawal_that_is_not_journalled_is_found() {
    assert_found(Variant::WithdrawalNotAppended, "a restart would not find it unbought");
}

#[test]
fn control_known_formats_that_are_lost_with_the_power_are_found() {
    assert_found(Variant::FormatsNotStored, "known to be refused");
}

#[test]
fn control_a_step_before_known_formats_are_stored_is_found() {
    assert_found(Variant::FormatsStoredLate, "known to be refused");
}

#[test]
fn control_a_kept_grant_that_is_not_returned_is_found() {
    assert_found(Variant::KeptGrantNotReturned, "is kept, and no submit is under way");
}

#[test]
fn control_a_request_that_looks_once_is_found() {
    assert_found(Variant::LooksOnce, "is bought again although");
}

#[test]
fn control_a_damaged_result_that_is_bought_again_is_found() {
    assert_found(Variant::DamagedIsBought, "is bought again although");
}

#[test]
fn control_restored_pictures_that_are_not_journalled_are_found() {
    assert_found(Variant::RestorationNotAppended, "is shown before it is in the journal");
}

#[test]
fn control_a_record_without_the_bytes_of_its_pictures_is_found() {
    assert_found(Variant::ContentsNotAppended, "without the bytes of its pictures");
}
