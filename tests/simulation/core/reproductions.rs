//! What lives have found, each as the shortest list of events.

use std::sync::Arc;
use std::time::Duration;

use super::random::Random;
use super::setting::Setting;
use super::upstream::handle_of;
use crate::config::OnUnknown;
use crate::engine::jobs::event::{AppendOutcome, Effect, Event, Now, Step, SubmitResult};
use crate::engine::jobs::rules::Rules;
use crate::engine::jobs::{Jobs, ListOutcome, NewJob, StartTimes};
use crate::engine::reuse::ReusePolicy;
use crate::model::{ApiKind, Failure, JobId, PurchaseId, Timestamp};
use crate::storage::journal::JobRecord;
use crate::upstream::formats::{FormatOptions, FormatTable};
use crate::upstream::{SubmitError, Submitted};

const POLICY: ReusePolicy = ReusePolicy { cache_allowed: false, is_retry: false, force_new: false };

fn now() -> Now {
    Now { instant: Setting::shared().start, timestamp: Timestamp::from_millis(1), spread: 0.0 }
}

fn jobs() -> Jobs {
    Jobs::new(Setting::shared().rules(&mut Random::seeded(0)), FormatTable::strict())
}

fn job_id(number: u128) -> JobId {
    JobId::new(Timestamp::from_millis(1), number)
}

/// Lists a job of one purchase, whose waiter waits for a minute.
fn list(jobs: &mut Jobs, job: JobId) -> PurchaseId {
    let start_by = now().instant + Duration::from_mins(1);
    let new = NewJob {
        record: Arc::new(JobRecord { id: job, ..Setting::shared().record.clone() }),
        api_kind: ApiKind::Prediction,
        formats: FormatOptions::only(Setting::shared().record.model.as_str(), ApiKind::Prediction),
        pictures: vec![1],
        webhook: None,
        times: StartTimes { start_by, expected_start: now().instant },
    };
    assert!(matches!(jobs.list_or_join(new, POLICY, 0), Ok(ListOutcome::New(_))));
    PurchaseId { job, slot: 0 }
}

#[test]
fn jobs_drain_in_the_order_of_their_ids() {
    let mut jobs = jobs();
    for number in 0..20 {
        list(&mut jobs, job_id(number));
    }
    let effects = jobs.handle(Event::Draining, now());
    let ended = effects
        .iter()
        .filter_map(|effect| if let Effect::EndSubmits { purchase } = effect { Some(purchase.job) } else { None });
    assert!(ended.eq((0..20).map(job_id)));
}

/// An upstream that answers before the last byte has taken the purchase, whatever the journal holds.
#[test]
fn a_purchase_that_was_accepted_early_outlives_a_failed_intent() {
    let mut jobs = jobs();
    let purchase = list(&mut jobs, job_id(1));
    let account = Setting::shared().accounts[0].clone();
    jobs.handle(Event::Granted { purchase, account }, now());
    let result = Ok(Submitted::Accepted(handle_of(0, ApiKind::Prediction)));
    jobs.handle(Event::Submitted { purchase, result: SubmitResult { result, usable_accounts: Vec::new() } }, now());
    let accepted = Event::Journalled { step: Step::Acceptance(purchase), outcome: AppendOutcome::Failed };
    let effects = jobs.handle(accepted, now());
    assert!(effects.iter().any(|effect| matches!(effect, Effect::PlanPoll { .. })), "{effects:?}");
    let effects =
        jobs.handle(Event::Journalled { step: Step::Intent(purchase.job), outcome: AppendOutcome::Failed }, now());
    assert!(effects.is_empty(), "it is polled on: {effects:?}");
    let other = NewJob {
        record: Arc::new(JobRecord { id: job_id(2), ..Setting::shared().record.clone() }),
        api_kind: ApiKind::Prediction,
        formats: FormatOptions::only(Setting::shared().record.model.as_str(), ApiKind::Prediction),
        pictures: vec![1],
        webhook: None,
        times: StartTimes { start_by: now().instant, expected_start: now().instant },
    };
    let refused = jobs.list_or_join(other, POLICY, 0);
    assert!(matches!(refused, Err(Failure::JournalUnavailable)), "nothing more is bought: {refused:?}");
}

/// An answer is lost, and the operator prefers to pay twice. The purchase ends as an unknown outcome, which is counted as
/// such: the lost answer is not counted too.
#[test]
fn a_lost_answer_that_cannot_be_journalled_is_counted_once() {
    let rules = Setting::shared().rules(&mut Random::seeded(0));
    let rules = Rules { on_unknown: OnUnknown::Resubmit, submit_attempts_max: 3, ..rules };
    let mut jobs = Jobs::new(rules, FormatTable::strict());
    let purchase = list(&mut jobs, job_id(1));
    let account = Setting::shared().accounts[0].clone();
    let durable = |step| Event::Journalled { step, outcome: AppendOutcome::Durable };
    jobs.handle(durable(Step::Intent(purchase.job)), now());
    jobs.handle(Event::Granted { purchase, account }, now());
    jobs.handle(Event::Uploaded { purchase }, now());
    jobs.handle(durable(Step::Commit { purchase, submit: 1 }), now());
    let result = Err(SubmitError::Unknown { message: String::new() });
    let submitted = Event::Submitted { purchase, result: SubmitResult { result, usable_accounts: Vec::new() } };
    let mut effects = jobs.handle(submitted, now());
    let failed = Event::Journalled { step: Step::Withdrawal(purchase), outcome: AppendOutcome::Failed };
    effects.extend(jobs.handle(failed, now()));
    let ended = effects.iter().find_map(
        |effect| {
            if let Effect::EndJob { outcome, .. } = effect { Some(outcome) } else { None }
        },
    );
    assert!(matches!(ended, Some(Err(Failure::OutcomeUnknown { .. }))), "{effects:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::CountLostAnswer { .. })), "{effects:?}");
}
