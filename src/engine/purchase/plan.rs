//! When accepted purchases are polled next.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::core::{Core, ScheduledPoll};
use crate::engine::jobs::AcceptedPurchase;
use crate::model::PurchaseId;
use crate::polling::latency::LatencyClass;
use crate::polling::planner::PollPlanner;

/// Growth of the pause from one failed poll to the next.
const BACKOFF: f64 = 1.5;

/// What a new plan replaces.
#[derive(Clone, Copy, Debug)]
enum Replace {
    /// Any plan: the purchase has just been accepted or polled.
    Any,
    /// Only a later one.
    Later,
}

impl Core {
    /// Polls a purchase as soon as the budget allows it: while the gateway was down the purchase may have ended.
    pub(in crate::engine) fn poll_soon(&self, purchase: PurchaseId) {
        let plan = self.jobs.with_accepted(purchase, |accepted| (accepted.replan(None), accepted.account.clone()));
        if let Some((plan, account)) = plan {
            self.send_plan(ScheduledPoll { at: Instant::now(), purchase, plan, account, chance: 1.0 });
        }
    }

    /// Plans the next poll of a purchase that was accepted, polled or fetched.
    pub(super) fn plan_poll(&self, purchase: PurchaseId) {
        self.plan(purchase, Replace::Any);
    }

    /// Plans the next polls of the waiting purchases of a class again: sooner, or not at all. A poll that has become
    /// too early costs little, and no purchase may be postponed again and again.
    pub(super) async fn replan(&self, class: &LatencyClass) {
        for purchase in self.jobs.replannable(class, Instant::now()) {
            self.plan(purchase, Replace::Later);
            // There may be very many.
            tokio::task::consume_budget().await;
        }
    }

    /// Whether this is the current plan of a purchase that is still polled.
    pub(super) fn is_current_plan(&self, purchase: PurchaseId, plan: u32) -> bool {
        self.jobs.with_accepted(purchase, |accepted| accepted.plan == plan).unwrap_or_default()
    }

    /// Whether a purchase is to be polled by this plan. From then on it is not planned again until it has been polled.
    pub(super) fn begin_poll(&self, purchase: PurchaseId, plan: u32) -> bool {
        let begun = self.jobs.with_accepted(purchase, |accepted| {
            let current = accepted.plan == plan;
            if current {
                accepted.planned = None;
            }
            current
        });
        begun.unwrap_or_default()
    }

    fn plan(&self, purchase: PurchaseId, replace: Replace) {
        let known = self.jobs.with_accepted(purchase, |purchase| {
            let AcceptedPurchase { class, account, accepted, working_at, troubles, plan, .. } = purchase;
            (class.clone(), account.clone(), *accepted, working_at.unwrap_or_default(), *troubles, *plan)
        });
        let Some((class, account, accepted, working_at, troubles, before)) = known else { return };
        let now = Instant::now();
        let age = now.saturating_duration_since(accepted);
        let price = self.poll_price().multiplier();
        let mut latencies = self.latencies();
        let estimate = latencies.estimate(&class);
        let planned = self.planner.next(estimate, working_at, age, price);
        // After each failure in a row the pause is longer, whatever has failed.
        let next = if troubles > 0 { planned.max(age + self.backoff(troubles)) } else { planned };
        let chance = self.planner.chance_done(estimate, working_at, next);
        drop(latencies);
        let at = accepted.checked_add(next).unwrap_or(now + self.planner.max_interval);
        let number = self.jobs.with_accepted(purchase, |accepted| {
            let replaces = match replace {
                Replace::Any => true,
                // Meanwhile it may have been polled.
                Replace::Later => {
                    let still_waits = accepted.plan == before && accepted.may_replan(now);
                    still_waits && accepted.planned.is_some_and(|planned| at < planned)
                }
            };
            replaces.then(|| accepted.replan(Some(at)))
        });
        let Some(plan) = number.flatten() else { return };
        self.send_plan(ScheduledPoll { at, purchase, plan, account, chance });
    }

    fn send_plan(&self, planned: ScheduledPoll) {
        // The scheduler is gone only when the process ends; after the restart the journal shows the purchase.
        let _ = self.scheduled_polls.send(planned);
    }

    /// Returns the pause after `troubles` failures in a row, at least one.
    pub(super) fn backoff(&self, troubles: u32) -> Duration {
        let PollPlanner { min_interval, max_interval, .. } = self.planner;
        let grown = min_interval.as_secs_f64() * BACKOFF.powi(i32::try_from(troubles - 1).unwrap_or(i32::MAX));
        // Spread, so that purchases that failed together are not polled together.
        let spread = 1.0 + 0.1 * self.rng.fraction();
        Duration::try_from_secs_f64(grown * spread).unwrap_or(max_interval).min(max_interval)
    }
}
