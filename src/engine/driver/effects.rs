//! Starts the effects of an event. Called under the lock of the jobs, so nothing here blocks or takes long.

use std::sync::Arc;
use std::time::Duration;

use super::fetch::FetchOptions;
use super::live::{Deferred, StateGuard, Submission};
use super::polling::PollMessage;
use super::report::{count_end, log_accepted};
use super::start_time::missed_start;
use super::submit::Attempt;
use super::{Driver, fetch, submit};
use crate::engine::jobs::event::{AppendOutcome, Completion, Effect, Event, Step};
use crate::model::{AccountId, Digest, Failure, Input, PictureRequest, PurchaseId, UnattendedFailure};
use crate::polling::latency::LatencyClass;
use crate::storage::JournalError;
use crate::storage::journal::{Durability, JobRecord, Record, Standing};

/// The fixed interval of other clients (`src/README.md`), which the number of saved polls is relative to.
const FIXED_INTERVAL_S: f64 = 2.5;
/// How long an intent waits for another record, to share its commit.
const INTENT_WAIT: Duration = Duration::from_millis(5);
/// Uploads up to this size reach the upstream in about the time of a commit. During a longer one, the intent is committed.
const SMALL_UPLOAD_BYTES: u64 = 256 * 1024;

/// Starts one effect.
pub(super) fn start(driver: &Arc<Driver>, state: &mut StateGuard<'_>, effect: Effect) {
    match effect {
        Effect::Append { records, step } => {
            let durability = durability(state, &records);
            append(driver, records, step, durability);
        }
        Effect::Enqueue { purchase } => {
            if let Some(submission) = submission(state, purchase) {
                submit::wait_for_grant(driver, purchase, &mut submission.slot);
            }
        }
        Effect::ExplainDelay { purchase } => explain_delay(driver, state, purchase),
        Effect::Submit { purchase, pictures, attempt, format } => {
            if let Some(submission) = submission(state, purchase)
                && let Some(reservation) = submission.reservation.take()
            {
                let request = Arc::clone(&submission.request);
                submit::start(driver, purchase, pictures, Attempt { number: attempt, format }, reservation, request);
            }
        }
        Effect::SendLastByte { purchase, send } => {
            if let Some(last_byte) = state.live.purchase(purchase).and_then(|live| live.last_byte.take()) {
                // Without a receiver where the submit has ended meanwhile.
                let _ = last_byte.send(send);
            }
        }
        Effect::AssumeAccepted { purchase, class, age } => {
            if let Some(permit) = state.live.purchase(purchase).and_then(|live| live.in_flight.as_mut()) {
                permit.accepted();
                presumed(driver, purchase, permit.account().clone(), class, age);
            }
        }
        Effect::EndSubmits { purchase } => {
            if let Some(live) = state.live.purchase(purchase) {
                // A submit that still waits for its last byte breaks off.
                live.last_byte = None;
                let submission = live.submission.take();
                state.defer(submission.map(Deferred::Release));
            }
        }
        Effect::ReleaseInFlight { purchase } => {
            if let Some(live) = state.live.purchase(purchase) {
                live.in_flight = None;
            }
        }
        Effect::PlanPoll { purchase, poll } => {
            let spread = driver.services.rng.fraction();
            driver.send_to_scheduler(PollMessage::Plan { purchase, poll, spread });
        }
        Effect::Learn(completion) => learn(driver, completion),
        Effect::Fetch { purchase, finished, pause, resumable } => {
            // What is fetched again takes the place of damaged bytes, also where no record is written.
            let as_files = state.live.is_refetched(purchase.job);
            fetch::start(driver, purchase, finished, FetchOptions { pause, resumable, as_files });
        }
        Effect::Publish { job, change } => state.live.publish(job, change),
        Effect::ReportIdConflict { purchase, upstream, other } => {
            driver.services.metrics.upstream_id_conflict();
            state.defer([Deferred::LogIdConflict { purchase, upstream, other }]);
        }
        Effect::ReportSurplus { purchase, asked, surplus } => {
            driver.fetcher.metrics.unasked(surplus);
            state.defer([Deferred::LogSurplus { purchase, asked, surplus }]);
        }
        Effect::FormatsChanged(changes) => {
            driver.formats.save(state.jobs.formats.stored());
            for change in changes {
                driver.services.metrics.format_changed(&change);
                state.defer([Deferred::LogFormat(change)]);
            }
        }
        Effect::CountLostAnswer { usd } => driver.services.metrics.unknown(usd),
        Effect::EndPurchase(ended) => {
            if let Some(quota) = state.live.quota(ended.purchase.job) {
                let (pictures, usd) = ended.charge;
                quota.settle(pictures, usd);
            }
            count_end(&driver.services.metrics, &ended);
            state.defer([Deferred::Log(ended)]);
        }
        Effect::EndRefetch { purchase, upstream, result } => {
            driver.fetcher.metrics.refetched(result);
            state.defer([Deferred::LogRefetch { purchase, upstream, result }]);
        }
        Effect::EndJob { record, outcome, refetched, attended } => {
            match &outcome {
                Err(failure) if refetched => driver.cache.damaged.note_lost(record.id, failure),
                Ok(_) if refetched => {}
                Ok(_) | Err(_) => driver.cache.on_ended(&record, &outcome),
            }
            if let Err(failure) = &outcome
                && !refetched
                && !attended
            {
                driver.services.completion_listener.failed_unattended(unattended(&record, failure.clone()));
            }
            let live = state.live.end(record.id, outcome);
            state.defer(live.map(Deferred::ReleaseJob));
            // After the outcome is published: a subscription from now on sees it.
            driver.services.completion_listener.ended(record.id);
        }
    }
}

fn unattended(record: &JobRecord, failure: Failure) -> UnattendedFailure {
    let JobRecord { id: job, client, model, task, created, .. } = record;
    let (client, model) = (client.clone(), model.clone());
    UnattendedFailure { job: *job, client, model, task: *task, created: *created, failure }
}

fn submission<'a>(state: &'a mut StateGuard<'_>, purchase: PurchaseId) -> Option<&'a mut Submission> {
    state.live.purchase(purchase)?.submission.as_mut()
}

/// Asks the budget in a task of its own: many purchases may be late at once, and each answer looks at the whole queue.
fn explain_delay(driver: &Arc<Driver>, state: &StateGuard<'_>, purchase: PurchaseId) {
    let Some((record, usd)) = state.jobs.expected_cost(purchase.job) else { return };
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    lifecycle.spawn("late start", async move {
        let failure = missed_start(&driver.services.budget, &record, usd);
        driver.handle(Event::NotGranted { purchase, failure });
    });
}

/// Returns when records have to be durable. An intent has nothing to wait for it but the last byte of its submit, whose own
/// record comes later and covers it. Where that takes long, or a client is waiting for the intent, it is written at once.
fn durability(state: &mut StateGuard<'_>, records: &[Record]) -> Durability {
    let [Record::Intent { job, purchases, .. }] = records else { return Durability::Now };
    let first = purchases.first().and_then(|&(purchase, _)| submission(state, purchase));
    let is_small = first.is_some_and(|submission| upload_bytes(&submission.request) <= SMALL_UPLOAD_BYTES);
    if is_small && !job.respond_async { Durability::Within(INTENT_WAIT) } else { Durability::Now }
}

/// Returns the bytes of the input pictures and the mask of a request.
fn upload_bytes(request: &PictureRequest) -> u64 {
    let bytes = |input: &Input| if let Input::Bytes { picture, .. } = input { picture.bytes } else { 0 };
    request.inputs.iter().chain(&request.mask).map(bytes).sum()
}

/// Returns the pictures of these records.
fn pictures(records: &[Record]) -> impl Iterator<Item = Digest> {
    let pictures = records.iter().flat_map(|record| {
        if let Record::Resolved { pictures, .. } | Record::Restored { pictures, .. } = record {
            &pictures[..]
        } else {
            &[]
        }
    });
    pictures.map(|picture| picture.digest)
}

/// Appends records; reports once they are durable, or are not.
fn append(driver: &Arc<Driver>, records: Vec<Record>, step: Step, durability: Durability) {
    let (formats_settled, journal) = (driver.formats.settled(), &driver.services.journal);
    let pictures: Vec<Digest> = pictures(&records).collect();
    let appended: Vec<_> = records.into_iter().map(|record| journal.append_with(record, durability)).collect();
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    lifecycle.spawn("journal", async move {
        let mut result = Ok(());
        for appended in appended {
            result = result.and(appended.await);
        }
        formats_settled.await;
        if result.is_ok() {
            for digest in &pictures {
                driver.fetcher.results.on_recorded(digest);
            }
        }
        // A journal that is away says so itself, once.
        if let Err(error) = &result
            && !matches!(error, JournalError::Away)
        {
            log_not_journalled(step, error);
        }
        let outcome = match result {
            Ok(()) => AppendOutcome::Durable,
            Err(_) if driver.services.journal.standing() == Standing::Failed => AppendOutcome::Failed,
            Err(JournalError::Away) => AppendOutcome::Away,
            Err(_) => AppendOutcome::NotWritten,
        };
        driver.handle(Event::Journalled { step, outcome });
    });
}

fn log_not_journalled(step: Step, error: &JournalError) {
    match step {
        Step::Intent(job) => {
            tracing::error!(%job, %error, "the intent could not be journalled; nothing is bought");
        }
        Step::Commit { purchase, .. } => {
            tracing::error!(%purchase, %error, "the commit record was not written; the last byte is not sent");
        }
        Step::Withdrawal(purchase) => {
            tracing::error!(%purchase, %error, "a withdrawal was not written; appended again unless the journal has failed");
        }
        Step::Acceptance(purchase) => {
            tracing::error!(%purchase, %error, "an acceptance was not written; appended again, or polled from memory if the journal has failed");
        }
        Step::End(purchase) => {
            tracing::error!(%purchase, %error, "an end was not written; appended again, or shown without its record if the journal has failed");
        }
    }
}

/// Logs that a submit without an answer counts as accepted, in a task of its own: an estimate takes a while.
fn presumed(driver: &Arc<Driver>, purchase: PurchaseId, account: AccountId, class: Arc<LatencyClass>, age: Duration) {
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    lifecycle.spawn("acceptance", async move {
        let expected = driver.latencies().expected(&class, age);
        log_accepted(purchase, &account, expected.map(|expected| expected.saturating_sub(age)));
    });
}

/// Learns how long the upstream takes, in a task of its own: an estimate takes a while.
fn learn(driver: &Arc<Driver>, completion: Completion) {
    if completion.polls > 0 {
        driver.services.metrics.completed(completion.polls, completion.took.as_secs_f64() / FIXED_INTERVAL_S);
    }
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    lifecycle.spawn_service("learn", async move {
        let Completion { class, working_at, took, .. } = completion;
        let shifted = driver.latencies().observe(&class, working_at, took);
        if shifted {
            driver.send_to_scheduler(PollMessage::Replan(class));
        }
    });
}
