//! Events that no driver reports: the jobs must survive them.

use std::sync::Arc;
use std::time::Duration;

use super::formats::{Formats, MethodRefusal, SentRefusal, api_kind_of};
use super::random::Random;
use super::setting::Setting;
use super::upstream::{Upstream, handle_of, refusal};
use crate::engine::jobs::event::{AppendOutcome, Event, Fetched, Now, Step, SubmitResult};
use crate::engine::jobs::{Jobs, ListOutcome, NewJob, StartTimes};
use crate::engine::reuse::ReusePolicy;
use crate::model::{ApiKind, Failure, JobId, PurchaseId, Timestamp};
use crate::storage::journal::JobRecord;
use crate::upstream::{Finished, PollError, Polled, SubmitError, Submitted};

/// Returns an event about a purchase, whether or not it can happen.
pub(super) fn event(purchase: PurchaseId, random: &mut Random) -> Event {
    let finished = || Finished { outputs: Vec::new(), usage: None };
    match random.below(16) {
        0 => Event::Journalled { step: Step::Intent(purchase.job), outcome: AppendOutcome::Durable },
        1 => Event::Journalled { step: Step::Commit { purchase, submit: 1 }, outcome: AppendOutcome::Durable },
        2 => Event::Journalled { step: Step::Withdrawal(purchase), outcome: AppendOutcome::Durable },
        3 => Event::Journalled { step: Step::Acceptance(purchase), outcome: AppendOutcome::Durable },
        4 => Event::Journalled { step: Step::End(purchase), outcome: AppendOutcome::Durable },
        5 => Event::Granted { purchase, account: Setting::shared().accounts[0].clone() },
        6 => Event::NotGranted { purchase, failure: Failure::Stopping },
        7 => Event::Uploaded { purchase },
        8 | 9 => {
            let result = match random.below(7) {
                0 => Ok(Submitted::Accepted(handle_of(0, ApiKind::Prediction))),
                1 => Ok(Submitted::Finished { handle: None, finished: finished() }),
                2 => Ok(Submitted::Finished { handle: Some(handle_of(0, ApiKind::Unified)), finished: finished() }),
                3 => Err(SubmitError::NotSent { message: String::new() }),
                4 => Err(SubmitError::Unknown { message: String::new() }),
                5 => Err(SentRefusal::Method(MethodRefusal::Unclear).error()),
                _ => Err(refusal(random)),
            };
            Event::Submitted { purchase, result: SubmitResult { result, usable_accounts: Vec::new() } }
        }
        10 | 11 => {
            let result = match random.below(4) {
                0 => Ok(Polled::Working),
                1 => Ok(Polled::Finished(finished())),
                2 => Ok(Polled::Empty),
                _ => Err(PollError::Trouble { message: String::new() }),
            };
            Event::Polled { purchase, age: random.time(9000), result }
        }
        12 | 13 => {
            let fetched =
                Fetched { pictures: Vec::new(), contents: Vec::new(), trouble: None, usage: None, durable: true };
            Event::Fetched { purchase, fetched }
        }
        _ => Event::WaiterLeft { job: purchase.job },
    }
}

/// Tells jobs what cannot happen to them, or not in this order.
fn confuse(seed: u64) {
    let (setting, mut random) = (Setting::shared(), Random::seeded(seed));
    let mut jobs = Jobs::new(setting.rules(&mut random), Formats::new(&mut random).table());
    let job = JobId::new(Timestamp::from_millis(1), 1);
    let mut instant = setting.start;
    let record = Arc::new(JobRecord { id: job, ..setting.record.clone() });
    let times = StartTimes { start_by: instant + random.time(60_000), expected_start: instant };
    let formats = Formats::options(&record.model, &mut random);
    let kind = api_kind_of(&formats);
    let new = NewJob { record, api_kind: kind, formats, pictures: vec![1, 1], webhook: None, times };
    let policy = ReusePolicy { cache_allowed: true, is_retry: false, force_new: false };
    assert!(matches!(jobs.list_or_join(new, policy, 0), Ok(ListOutcome::New(_))));
    for _ in 0..60 {
        instant += random.time(2000);
        let now = Now { instant, timestamp: Timestamp::from_millis(2), spread: random.fraction() };
        let purchase = PurchaseId { job, slot: u8::try_from(random.below(3)).unwrap() };
        let event = match random.below(30) {
            0 => Event::TimePassed,
            1 => Event::Draining,
            2 => Event::Journalled { step: Step::Intent(job), outcome: AppendOutcome::Failed },
            // Most of them in an order that leads somewhere.
            _ => event(purchase, &mut random),
        };
        // A waiter that stays.
        let _ = jobs.join(setting.record.fingerprint, policy, instant + Duration::from_secs(1));
        jobs.handle(event, now);
    }
}

#[test]
fn events_that_cannot_happen_do_no_harm() {
    let _ = Upstream::default();
    for seed in 0..2000 {
        confuse(seed);
    }
}
