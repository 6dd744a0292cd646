//! One poll of an accepted purchase, and what follows from the answer.

use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Poll, Reservation};
use crate::engine::core::Core;
use crate::engine::jobs::AcceptedPurchase;
use crate::engine::jobs::transitions::AfterPoll;
use crate::model::PurchaseId;
use crate::polling::latency::LatencyClass;
use crate::upstream::{PollError, Polled};

/// The fixed interval of other clients (`src/README.md`), which the number of saved polls is relative to.
const FIXED_INTERVAL_S: f64 = 2.5;

/// A purchase that was found done for the first time: it ended after it was last found working, and by now.
#[derive(Debug)]
struct Completion {
    class: LatencyClass,
    working_at: Duration,
    took: Duration,
    polls: u32,
}

impl Completion {
    /// Returns `None` for a purchase that was found done before, and for one that ended at an unknown time while the
    /// gateway was down.
    fn of(accepted: &AcceptedPurchase) -> Option<Self> {
        let observed = !accepted.resumed || accepted.working_at.is_some();
        (observed && !accepted.found_done).then(|| Self {
            class: accepted.class.clone(),
            working_at: accepted.working_at.unwrap_or_default(),
            took: accepted.accepted.elapsed(),
            polls: accepted.poll.polls + 1,
        })
    }
}

impl Core {
    pub(super) async fn poll(self: &Arc<Self>, purchase: PurchaseId, reservation: Reservation<Poll>) {
        let polled = self.jobs.with_accepted(purchase, |accepted| {
            (accepted.poll.handle.clone(), accepted.account.clone(), accepted.accepted.elapsed())
        });
        let Some((handle, account, polled_at)) = polled else { return };
        let result = self.upstream.poll(reservation, &handle).await;
        self.metrics.polled(result.as_ref().err());
        match &result {
            Ok(_) => self.budget.poll_answered(&account),
            Err(error) => tracing::debug!(%purchase, %account, ?error, "a poll failed; the purchase is polled again"),
        }
        let deadline = self.settings.deadline;
        let mut completion = None;
        let next = self.jobs.with_accepted(purchase, |accepted| {
            match &result {
                Ok(Polled::Working) => (accepted.working_at, accepted.troubles) = (Some(polled_at), 0),
                Ok(Polled::Finished(_)) => {
                    accepted.in_flight = None;
                    completion = Completion::of(accepted);
                    accepted.found_done = true;
                }
                // After a refusal the budget slows down all polls of the account.
                Ok(Polled::Failed(_)) | Err(PollError::Refused { .. }) => {}
                Ok(Polled::Empty) | Err(PollError::Trouble { .. }) => {
                    accepted.troubles = accepted.troubles.saturating_add(1);
                }
            }
            accepted.poll.after_poll(result, accepted.accepted.elapsed() >= deadline)
        });
        if let Some(completion) = completion
            && self.learn(&completion)
        {
            // In a task of its own: it may concern many purchases.
            let core = Arc::clone(self);
            self.lifecycle.spawn_service("replan", async move { core.replan(&completion.class).await });
        }
        match next {
            None => {}
            Some(AfterPoll::PollAgain) => self.plan_poll(purchase),
            Some(AfterPoll::PushedBack { retry_after }) => {
                self.budget.poll_refused(&account, retry_after);
                self.plan_poll(purchase);
            }
            Some(AfterPoll::Collect(finished)) => {
                // In a task of its own: a slow download must not delay polls.
                let core = Arc::clone(self);
                self.lifecycle.spawn_service("fetch", async move { core.collect(purchase, finished).await });
            }
            Some(AfterPoll::End(failure)) => self.end(purchase, failure).await,
        }
    }

    /// Learns from a completion; returns whether the estimate of its class has shifted. Not to be called under the lock
    /// of the jobs: an estimate takes a while.
    fn learn(&self, Completion { class, working_at, took, polls }: &Completion) -> bool {
        self.metrics.completed(*polls, took.as_secs_f64() / FIXED_INTERVAL_S);
        self.latencies().observe(class, *working_at, *took)
    }
}
