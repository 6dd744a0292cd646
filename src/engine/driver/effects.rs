//! Starts the effects of an event. Called under the lock of the jobs, so nothing here waits.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Driver, Services, State, fetch, submit};
use crate::engine::driver::forecast::missed_start;
use crate::engine::jobs::event::{AppendOutcome, Completion, Effect, EndedPurchase, Event, Step};
use crate::model::{ClientId, Failure, PurchaseId, UpstreamId, Usd};
use crate::storage::JournalError;
use crate::storage::journal::Record;

/// The fixed interval of other clients (`src/README.md`), which the number of saved polls is relative to.
const FIXED_INTERVAL_S: f64 = 2.5;

/// Starts one effect. Returns the event that answers it, where the answer is known at once.
pub(super) fn start(driver: &Arc<Driver>, state: &mut State, effect: Effect) -> Option<Event> {
    let live = &mut state.live;
    match effect {
        Effect::Append { records, step } => append(driver, records, step),
        Effect::Enqueue { purchase } => {
            if let Some(submission) = live.purchase(purchase).and_then(|live| live.submission.as_mut()) {
                submit::wait_for_grant(driver, purchase, &mut submission.slot);
            }
        }
        Effect::ExplainDelay { purchase } => {
            let (record, usd) = state.jobs.expected_cost(purchase.job)?;
            let failure = missed_start(&driver.services.budget, &record, usd);
            return Some(Event::NotGranted { purchase, failure });
        }
        Effect::Submit { purchase, pictures, attempt } => {
            let submission = live.purchase(purchase)?.submission.as_mut()?;
            let reservation = submission.reservation.take()?;
            submit::start(driver, purchase, pictures, attempt, reservation, Arc::clone(&submission.request));
        }
        Effect::SendLastByte { purchase, send } => {
            // Without a receiver where the submit has ended meanwhile.
            let _ = live.purchase(purchase)?.last_byte.take()?.send(send);
        }
        Effect::AssumeAccepted { purchase } => live.purchase(purchase)?.in_flight.as_mut()?.accepted(),
        Effect::EndSubmits { purchase } => live.purchase(purchase)?.submission = None,
        Effect::ReleaseInFlight { purchase } => live.purchase(purchase)?.in_flight = None,
        Effect::PlanPoll { purchase, poll } => {
            driver.polls().plan(purchase, poll, Instant::now(), driver.services.rng.fraction());
            driver.polls_changed.notify_one();
        }
        Effect::Learn(completion) => learn(driver, completion),
        Effect::Fetch { purchase, finished, pause, resumable } => {
            fetch::start(driver, purchase, finished, pause, resumable);
        }
        Effect::Publish { job, change } => live.publish(job, change),
        Effect::CountLostAnswer { usd } => driver.services.metrics.unknown(usd),
        Effect::EndPurchase(ended) => {
            if let Some(quota) = live.quota(ended.purchase.job) {
                let (pictures, usd) = ended.charge;
                quota.settle(pictures, usd);
            }
            report(driver, *ended);
        }
        Effect::EndJob { record, outcome } => {
            driver.cache.on_ended(&record, &outcome);
            live.end(record.id, outcome);
            // After the outcome is published: a subscription from now on sees it.
            driver.services.completion_listener.ended(record.id);
        }
    }
    None
}

/// Appends records; reports once they are durable, or are not.
fn append(driver: &Arc<Driver>, records: Vec<Record>, step: Step) {
    let appended: Vec<_> = records.into_iter().map(|record| driver.services.journal.append(record)).collect();
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    lifecycle.spawn("journal", async move {
        let mut result = Ok(());
        for appended in appended {
            result = result.and(appended.await);
        }
        if let Err(error) = &result {
            log_not_journalled(step, error);
        }
        let outcome = match result {
            Ok(()) => AppendOutcome::Durable,
            Err(_) if driver.services.journal.failed() => AppendOutcome::Failed,
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
            tracing::error!(%purchase, %error, "a purchase could not be journalled; it is not made");
        }
        Step::Withdrawal(purchase) => {
            tracing::error!(%purchase, %error, "a withdrawal could not be journalled; the purchase ends");
        }
        Step::Acceptance(purchase) => {
            tracing::error!(%purchase, %error, "an acceptance was not journalled; polled until a restart");
        }
        Step::End(purchase) => {
            tracing::error!(%purchase, %error, "an end could not be journalled; the client is answered all the same");
        }
    }
}

/// Learns how long the upstream takes, and plans the polls of a class again that has shifted. In a task of its own,
/// since it may concern many purchases.
fn learn(driver: &Arc<Driver>, completion: Completion) {
    driver.services.metrics.completed(completion.polls, completion.took.as_secs_f64() / FIXED_INTERVAL_S);
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    lifecycle.spawn_service("replan", async move {
        if !driver.polls().observe(&completion) {
            return;
        }
        let purchases = driver.polls().replannable(&completion.class, Instant::now());
        for purchase in purchases {
            driver.polls().replan(purchase, Instant::now());
            // There may be very many.
            tokio::task::consume_budget().await;
        }
        driver.polls_changed.notify_one();
    });
}

/// Counts the end of a purchase, and logs it in a task of its own, since that may block.
fn report(driver: &Driver, ended: EndedPurchase) {
    let Services { metrics, lifecycle, .. } = &driver.services;
    match &ended.result {
        Ok(pictures) => metrics.resolved(ended.record.model.as_str(), *pictures, ended.usd, ended.took),
        Err(failure) => metrics.ended(failure, ended.usd.unwrap_or_default()),
    }
    lifecycle.spawn("purchase log", async move { log_end(&ended) });
}

fn log_end(ended: &EndedPurchase) {
    let EndedPurchase { purchase, record, upstream, result, took, usd, .. } = ended;
    let (client, model) = (&record.client, record.model.as_str());
    match result {
        Ok(pictures) => {
            let seconds = rounded(took.as_secs_f64(), 1000.0);
            let usd = usd.map(|usd| rounded(usd.0, 1e6));
            tracing::info!(%purchase, %client, model, pictures, seconds, usd, "purchase resolved");
        }
        Err(failure) => {
            log_failure(*purchase, client, upstream.as_ref(), failure, usd.unwrap_or_default());
        }
    }
}

fn log_failure(
    purchase: PurchaseId,
    client: &ClientId,
    upstream: Option<&UpstreamId>,
    failure: &Failure,
    Usd(usd): Usd,
) {
    let name = failure.name();
    if failure.may_have_been_bought() {
        let upstream = upstream.map(ToString::to_string);
        tracing::warn!(%purchase, upstream, %client, failure = name, usd, "purchase ended without a picture");
    } else {
        tracing::info!(%purchase, %client, failure = name, "purchase ended without a picture");
    }
}

/// A figure for people, rounded to `parts` of one.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
