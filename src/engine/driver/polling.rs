//! Starts the polls that are due, and reports what they found.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Driver, sleep_until};
use crate::budget::{Poll, Reservation};
use crate::engine::jobs::event::{Event, NextPoll};
use crate::engine::polls::{PollSchedule, StartedPolls};
use crate::model::PurchaseId;
use crate::polling::latency::LatencyClass;
use crate::upstream::PollError;

/// A message to the scheduler of polls.
#[derive(Debug)]
pub(in crate::engine) enum PollMessage {
    /// A purchase is to be polled at the best time.
    Plan { purchase: PurchaseId, poll: NextPoll, spread: f64 },
    /// The estimate of a class has shifted, so plans that were made before are out of date.
    Replan(Arc<LatencyClass>),
    /// A poll has ended.
    Ended,
    /// Is answered at once: the scheduler lives.
    Probe(oneshot::Sender<()>),
}

/// Reports to the scheduler that a poll has ended, also after a panic.
struct PollEnded {
    driver: Arc<Driver>,
}

impl Drop for PollEnded {
    fn drop(&mut self) {
        self.driver.send_to_scheduler(PollMessage::Ended);
    }
}

/// Starts polls, until the process ends.
pub(super) async fn run(
    driver: Arc<Driver>,
    mut schedule: PollSchedule,
    mut messages: mpsc::UnboundedReceiver<PollMessage>,
) {
    let services = &driver.services;
    loop {
        let started = schedule.start(Instant::now(), |account| services.budget.reserve_poll(account));
        let StartedPolls { polls, next } = started;
        for (purchase, poll, reservation) in polls {
            let polled = poll_once(Arc::clone(&driver), purchase, poll, reservation);
            services.lifecycle.spawn_service("poll", polled);
        }
        tokio::select! {
            biased;
            message = messages.recv() => {
                // `None` only when the driver is gone.
                let Some(message) = message else { return };
                take(&driver, &mut schedule, message).await;
                while let Ok(message) = messages.try_recv() {
                    take(&driver, &mut schedule, message).await;
                }
            }
            () = sleep_until(next) => {}
        }
    }
}

async fn take(driver: &Driver, schedule: &mut PollSchedule, message: PollMessage) {
    match message {
        PollMessage::Plan { purchase, poll, spread } => {
            schedule.plan(purchase, poll, &mut driver.latencies(), Instant::now(), spread);
        }
        PollMessage::Replan(class) => {
            for purchase in schedule.replannable(&class, Instant::now()) {
                schedule.replan(purchase, &mut driver.latencies(), Instant::now());
                // There may be very many.
                tokio::task::consume_budget().await;
            }
        }
        PollMessage::Ended => schedule.end_poll(),
        PollMessage::Probe(answer) => {
            // The task that asked may have ended.
            let _ = answer.send(());
        }
    }
}

async fn poll_once(driver: Arc<Driver>, purchase: PurchaseId, poll: NextPoll, reservation: Reservation<Poll>) {
    let NextPoll { handle, account, accepted, .. } = poll;
    let ended = PollEnded { driver: Arc::clone(&driver) };
    let (services, age) = (&driver.services, Instant::from_std(accepted).elapsed());
    let result = services.upstream.poll(reservation, &handle).await;
    services.metrics.polled(result.as_ref().err());
    match &result {
        Ok(_) => services.budget.poll_answered(&account),
        Err(PollError::Refused { retry_after }) => {
            services.budget.poll_refused(&account, *retry_after);
        }
        Err(PollError::Trouble { .. } | PollError::OtherPrediction { .. } | PollError::Moderated { .. }) => {}
    }
    if let Err(error) = &result {
        tracing::debug!(%purchase, %account, %error, "a poll failed; the purchase is polled again");
    }
    drop(ended);
    driver.handle(Event::Polled { purchase, age, result });
}
