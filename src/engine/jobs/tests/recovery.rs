//! Jobs that were under way before the gateway started.

use super::script::{DEADLINE, Request, START, Script, account, pictures, rules, seconds, usage};
use crate::engine::jobs::event::AppendOutcome::Durable;
use crate::engine::jobs::{EndedAtStart, recover};
use crate::model::{ApiKind, Failure, JobId, PurchaseId, RunningTime, Timestamp, UpstreamId};
use crate::storage::journal::{StoredJob, StoredPurchase, StoredState};

fn accepted(since: Timestamp) -> StoredState {
    StoredState::Accepted { upstream: UpstreamId::new("up0").unwrap(), poll_url: None, since }
}

fn resolved() -> StoredState {
    let (upstream, usage) = (UpstreamId::new("up1"), Some(usage()));
    StoredState::Resolved { upstream, poll_url: None, pictures: pictures(1), usage, at: START }
}

fn failed() -> StoredState {
    StoredState::Failed { upstream: None, failure: Failure::DeadlineExceeded, at: START }
}

fn of(purchases: usize) -> Request {
    Request { purchases: vec![1; purchases], ..Request::default() }
}

/// The failures with which the purchases of a job end at the start.
fn failures(ended: &[EndedAtStart]) -> Vec<String> {
    ended.iter().map(|end| format!("{} x{} {}", end.purchase.slot, end.pictures, end.failure.name())).collect()
}

#[test]
fn without_an_accepted_purchase_a_job_has_ended() {
    for (state, expected) in [
        (StoredState::Intent, vec!["0 x1 stopping"]),
        (StoredState::Committing { since: START }, vec!["0 x1 outcome_unknown"]),
        (resolved(), vec![]),
        (failed(), vec![]),
    ] {
        let mut jobs = Script::new(rules());
        let (effects, ended, adopted) = jobs.recover(&of(1), vec![state], Some("b"));
        assert_eq!(effects, "");
        assert_eq!(failures(&ended), expected);
        assert_eq!(adopted, Vec::<String>::new());
        assert_eq!(jobs.join(), "none", "it is not listed");
    }
}

#[test]
fn an_accepted_purchase_is_polled_soon_by_the_account_that_bought_it() {
    let mut jobs = Script::new(rules());
    jobs.wait(seconds(40));
    let (effects, ended, adopted) = jobs.recover(&of(1), vec![accepted(START)], Some("b"));
    assert_eq!(effects, "recorded; upstream up0; stage processing; poll 0 up0 b age 40s soon");
    assert_eq!((failures(&ended), adopted), (vec![], vec!["0 b".to_owned()]));
    assert_eq!(jobs.join(), "joined 0");
    assert_eq!(jobs.done(0), "release 0; fetch 0 x1", "it ended at an unknown time while the gateway was down");
    assert_eq!(jobs.fetched(0, 1), "journal resolved 0 x1 up0");
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 40s $8 charge x1 $8; job ended x1");

    let mut jobs = Script::new(rules());
    let (effects, _, adopted) = jobs.recover(&of(1), vec![accepted(START)], None);
    assert_eq!(effects, "recorded; upstream up0; stage processing; poll 0 up0 any age 0s soon");
    assert_eq!(adopted, ["0 any"]);
}

#[test]
fn each_purchase_is_polled_where_it_was_bought() {
    let request = of(2);
    let record = request.record(JobId::new(START, 1));
    let kinds = [ApiKind::Unified, ApiKind::Prediction];
    let purchases = (0..).zip(kinds).map(|(slot, api_kind)| StoredPurchase {
        id: PurchaseId { job: record.id, slot },
        pictures: 1,
        state: accepted(START),
        api_kind,
        format: None,
        account: None,
        lost_answers: 0,
        resolution: None,
        accepted: None,
        ended: None,
    });
    let stored = StoredJob { purchases: purchases.collect(), record, delivered: None, evicted: false, deleted: false };
    let (recovered, _) =
        recover(stored, &rules(), Script::new(rules()).now(), RunningTime::default(), |_, _| account("a"));
    let polled = recovered.purchases.iter().filter_map(|purchase| purchase.state.polled());
    assert_eq!(polled.map(|accepted| accepted.next_poll(true).handle.api_kind).collect::<Vec<_>>(), kinds);
}

#[test]
fn a_recovered_purchase_does_not_teach_how_long_it_took() {
    let mut jobs = Script::new(rules());
    jobs.wait(seconds(40));
    jobs.recover(&of(1), vec![accepted(START)], Some("b"));
    assert_eq!(jobs.working(0, seconds(40)), "poll 0 up0 b age 40s working at 40s");
    jobs.wait(seconds(10));
    assert_eq!(jobs.done(0), "release 0; fetch 0 x1", "the time without the gateway is not known");
}

#[test]
fn a_job_without_waiters_goes_on_after_a_start() {
    let mut jobs = Script::new(rules());
    jobs.recover(&of(1), vec![accepted(START)], None);
    assert_eq!(jobs.join(), "joined 0");
    assert_eq!(jobs.waiter_left(), "");
    assert_eq!(jobs.join(), "joined 0");
}

#[test]
fn the_purchases_of_a_job_are_recovered_by_their_states() {
    let mut jobs = Script::new(rules());
    let states =
        vec![accepted(START), resolved(), StoredState::Intent, StoredState::Committing { since: START }, failed()];
    let (effects, ended, adopted) = jobs.recover(&of(5), states, None);
    assert_eq!(
        effects,
        "recorded; upstream up0; upstream up1; result x1; stage processing; poll 0 up0 any age 0s soon"
    );
    assert_eq!(failures(&ended), ["2 x1 stopping", "3 x1 outcome_unknown"]);
    assert_eq!(adopted, ["0 any"]);
    jobs.done(0);
    jobs.fetched(0, 1);
    assert_eq!(jobs.end(0, Durable), "result x1; ended 0 up0 x1 in 0s $8 charge x1 $8; job ended x2 missing 3");
}

#[test]
fn an_unknown_outcome_says_when_the_answer_was_lost() {
    let mut jobs = Script::new(rules());
    let (_, ended, _) = jobs.recover(&of(1), vec![StoredState::Committing { since: START }], None);
    let message = "the gateway stopped between the last byte and the answer".to_owned();
    assert_eq!(ended[0].failure, Failure::OutcomeUnknown { message });
}

#[test]
fn a_submit_that_was_to_be_repeated_after_a_lost_answer_has_an_unknown_outcome() {
    let request = of(1);
    let record = request.record(JobId::new(START, 1));
    let purchases = vec![StoredPurchase {
        id: PurchaseId { job: record.id, slot: 0 },
        pictures: 1,
        state: StoredState::Intent,
        api_kind: ApiKind::Prediction,
        format: None,
        account: None,
        lost_answers: 1,
        resolution: None,
        accepted: None,
        ended: None,
    }];
    let stored = StoredJob { purchases, record, delivered: None, evicted: false, deleted: false };
    let (_, ended) = recover(stored, &rules(), Script::new(rules()).now(), RunningTime::default(), |_, _| account("a"));
    assert_eq!(failures(&ended), ["0 x1 outcome_unknown"]);
}

#[test]
fn a_sixth_of_the_deadline_is_always_left() {
    let mut jobs = Script::new(rules());
    jobs.wait(DEADLINE * 5);
    let (effects, ..) = jobs.recover(&of(1), vec![accepted(START)], None);
    assert_eq!(effects, "recorded; upstream up0; stage processing; poll 0 up0 any age 500s soon");
}

#[test]
fn a_recovered_job_is_kept_if_its_client_fetches_it_later() {
    for (kept, expected) in [(true, 1), (false, 0)] {
        let mut jobs = Script::new(rules());
        jobs.recover(&Request { kept, ..of(1) }, vec![accepted(START)], None);
        assert_eq!(jobs.jobs.table.counts().kept, expected);
        assert_eq!(jobs.jobs.table.counts().polling, 1);
    }
}
