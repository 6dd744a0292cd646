//! The calls that buy: waiting for the budget, and the submit.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::Driver;
use super::report::{log_accepted, log_id_conflict, log_refused_submit};
use crate::budget::{Granted, Pushback, QueueSlot, Reservation, Submit};
use crate::engine::jobs::event::{Event, SubmitResult};
use crate::engine::jobs::rules::class;
use crate::input_urls::InputUrlGuards;
use crate::model::{Failure, PictureRequest, PurchaseId};
use crate::upstream::formats::SubmitFormat;
use crate::upstream::{Commit, SubmitError, Submitted};

/// Waits for the budget in a task of its own, until the slot is dropped at the latest.
pub(super) fn wait_for_grant(driver: &Arc<Driver>, purchase: PurchaseId, slot: &mut QueueSlot) {
    let granted = slot.granted();
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    lifecycle.spawn("queue", async move { on_granted(&driver, purchase, granted.await) });
}

fn on_granted(driver: &Arc<Driver>, purchase: PurchaseId, granted: Result<Granted, Failure>) {
    let mut state = driver.lock();
    match granted {
        Ok(Granted { reservation, in_flight }) => {
            // A purchase that has ended meanwhile returns the permission by dropping it.
            let Some(live) = state.live.purchase(purchase) else { return };
            let Some(submission) = &mut live.submission else { return };
            if !submission.is_permitted() {
                return driver.process(&mut state, Event::NotGranted { purchase, failure: Failure::Abandoned });
            }
            let account = in_flight.account().clone();
            (submission.reservation, live.in_flight) = (Some(reservation), Some(in_flight));
            driver.process(&mut state, Event::Granted { purchase, account });
        }
        Err(failure) => driver.process(&mut state, Event::NotGranted { purchase, failure }),
    }
}

/// A submit of a purchase.
#[derive(Debug)]
pub(super) struct Attempt {
    /// For the log: its number, without those that the upstream pushed back.
    pub(super) number: u32,
    pub(super) format: Box<SubmitFormat>,
}

/// Submits in a task that the drain waits for.
pub(super) fn start(
    driver: &Arc<Driver>,
    purchase: PurchaseId,
    pictures: u8,
    attempt: Attempt,
    reservation: Reservation<Submit>,
    request: Arc<PictureRequest>,
) {
    let lifecycle = &driver.services.lifecycle;
    let driver = Arc::clone(driver);
    lifecycle.spawn("submit", async move {
        let services = &driver.services;
        let Attempt { number: attempt, format } = attempt;
        let account = reservation.account().clone();
        let commit = commit(&driver, purchase);
        let submitted = async {
            let with_pictures;
            let request = if format.format.fetch_links {
                with_pictures = driver.links.fetch(&request).await?;
                &with_pictures
            } else {
                &*request
            };
            services.upstream.submit(reservation, request, pictures, &format, commit).await
        };
        let result = submitted.await;
        let result = refuse_repeated_id(&driver, purchase, result).await;
        services.metrics.submitted(&request.model, format.format.method, result.as_ref().err());
        match &result {
            Ok(Submitted::Accepted(_)) => {
                let PictureRequest { task, choices, size, .. } = &*request;
                let class = class(&request.model, *task, choices, *size, pictures);
                let expected = driver.latencies().expected(&class, Duration::ZERO);
                log_accepted(purchase, &account, expected);
            }
            Ok(Submitted::Finished { .. }) => {}
            Err(error) => log_refused_submit(purchase, &account, attempt, &format.format.describe(), error),
        }
        on_submitted(&driver, purchase, result);
    });
}

/// Takes a submit for an unknown outcome if its id is that of another purchase in the journal: what is polled under the id
/// may be the pictures of another client.
async fn refuse_repeated_id(
    driver: &Driver,
    purchase: PurchaseId,
    result: Result<Submitted, SubmitError>,
) -> Result<Submitted, SubmitError> {
    let Ok(Submitted::Accepted(handle) | Submitted::Finished { handle: Some(handle), .. }) = &result else {
        return result;
    };
    let (services, id) = (&driver.services, handle.id.clone());
    match services.journal.purchase_of_upstream_id(id.clone()).await {
        Ok(Some(other)) if other != purchase => {
            services.metrics.upstream_id_conflict();
            log_id_conflict(purchase, &id, other);
            let message = "the image service gave it the id of another purchase".to_owned();
            // It was accepted, so it is not bought again, whatever is to be done about a lost answer.
            Err(SubmitError::Rejected(Failure::OutcomeUnknown { message }))
        }
        Ok(_) => result,
        Err(error) => {
            tracing::error!(%purchase, %error, "the journal cannot be searched for an upstream id; the purchase is followed");
            result
        }
    }
}

/// Reports the outcome to the budget, whose permit it concerns, and then to the jobs.
fn on_submitted(driver: &Arc<Driver>, purchase: PurchaseId, result: Result<Submitted, SubmitError>) {
    let permit = driver.lock().live.purchase(purchase).and_then(|live| live.in_flight.take());
    let mut usable_accounts = Vec::new();
    let mut in_flight = None;
    let mut input_urls = InputUrlGuards::default();
    if let Some(mut permit) = permit {
        match &result {
            Ok(submitted) => {
                permit.accepted();
                if let Submitted::Accepted(handle) | Submitted::Finished { handle: Some(handle), .. } = submitted {
                    input_urls = handle.input_url_guards.clone();
                }
                in_flight = Some(permit);
            }
            Err(SubmitError::Refused { pushback, .. }) => {
                permit.refused(pushback.clone());
                if let Pushback::Key { .. } | Pushback::Permission { .. } = pushback {
                    usable_accounts = driver.services.budget.usable_accounts();
                }
            }
            Err(SubmitError::NotSent { .. }) => permit.not_sent(),
            // No evidence for the budget.
            Err(SubmitError::Rejected(_) | SubmitError::FormatRefused { .. } | SubmitError::Unknown { .. }) => {
                drop(permit);
            }
        }
    }
    let mut state = driver.lock();
    if let Some(live) = state.live.purchase(purchase) {
        (live.in_flight, live.input_urls) = (in_flight, input_urls);
    }
    driver.process(&mut state, Event::Submitted { purchase, result: SubmitResult { result, usable_accounts } });
}

/// Returns what runs between the last byte but one and the last: the jobs decide whether the last one leaves. It does not where
/// the client's key has ended, and the purchase, queued again, is cancelled.
fn commit(driver: &Arc<Driver>, purchase: PurchaseId) -> Commit {
    let driver = Arc::clone(driver);
    Box::new(move || {
        async move {
            let (last_byte, may_leave) = oneshot::channel();
            {
                let mut state = driver.lock();
                let Some(live) = state.live.purchase(purchase) else { return false };
                if live.submission.as_ref().is_some_and(|submission| !submission.is_permitted()) {
                    return false;
                }
                live.last_byte = Some(last_byte);
                driver.process(&mut state, Event::Uploaded { purchase });
            }
            may_leave.await.unwrap_or(false)
        }
        .boxed()
    })
}
