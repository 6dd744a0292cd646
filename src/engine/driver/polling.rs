//! Starts the polls that are due, and reports what they found.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Driver, sleep_until};
use crate::budget::{Poll, Reservation};
use crate::engine::jobs::event::{Event, NextPoll};
use crate::engine::polls::StartedPolls;
use crate::model::PurchaseId;
use crate::upstream::PollError;

/// Starts polls, until the process ends.
pub(super) async fn run(driver: Arc<Driver>) {
    let services = &driver.services;
    loop {
        let started = driver.polls().start(Instant::now(), |account| services.budget.reserve_poll(account));
        let StartedPolls { polls, next } = started;
        for (purchase, poll, reservation) in polls {
            let polled = poll_once(Arc::clone(&driver), purchase, poll, reservation);
            services.lifecycle.spawn_service("poll", polled);
        }
        tokio::select! {
            biased;
            () = driver.polls_changed.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

async fn poll_once(driver: Arc<Driver>, purchase: PurchaseId, poll: NextPoll, reservation: Reservation<Poll>) {
    let NextPoll { handle, account, accepted, .. } = poll;
    let (services, age) = (&driver.services, Instant::from_std(accepted).elapsed());
    let result = services.upstream.poll(reservation, &handle).await;
    services.metrics.polled(result.as_ref().err());
    match &result {
        Ok(_) => services.budget.poll_answered(&account),
        Err(PollError::Refused { retry_after }) => {
            services.budget.poll_refused(&account, *retry_after);
        }
        Err(PollError::Trouble { .. }) => {}
    }
    if let Err(error) = &result {
        tracing::debug!(%purchase, %account, ?error, "a poll failed; the purchase is polled again");
    }
    driver.polls().end_poll();
    driver.handle(Event::Polled { purchase, age, result });
    driver.polls_changed.notify_one();
}
