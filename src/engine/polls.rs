//! When accepted purchases are polled: by the time that the planner finds best, then by what the poll rate of their
//! account allows, the likeliest first; with a bound on the polls under way.
//!
//! Pure: times and random numbers are passed in, and permission is asked of a function.

use std::collections::HashMap;

use tokio::time::Instant;

use super::jobs::event::{Completion, NextPoll};
use crate::model::{AccountId, PurchaseId};
use crate::polling::latency::{LatencyClass, LatencyModel};
use crate::polling::planner::PollPlanner;
use crate::polling::price::PollPrice;
use crate::polling::queue::PollQueue;

/// The polls that are planned, and what they are planned by.
#[derive(Debug)]
pub(super) struct PollSchedule {
    planner: PollPlanner,
    /// How long the upstream takes, as learned.
    pub(super) latencies: LatencyModel,
    /// How much more expensive polls are at the moment.
    price: PollPrice,
    planned: HashMap<PurchaseId, PlannedPoll>,
    queue: PollQueue<(PurchaseId, u32)>,
    /// The accounts of purchases; the index is the account's number in the queue. Few: they are named in the
    /// configuration.
    accounts: Vec<AccountId>,
    /// The number of the last plan. Only the last plan of a purchase counts.
    plans: u32,
    /// Polls that may still be started before one of those under way has ended.
    free: usize,
}

/// A purchase that waits for its next poll.
#[derive(Debug)]
struct PlannedPoll {
    plan: u32,
    at: Instant,
    poll: NextPoll,
}

/// The polls that start now.
#[derive(Debug)]
pub(super) struct StartedPolls<Permission> {
    pub(super) polls: Vec<(PurchaseId, NextPoll, Permission)>,
    /// When to look again, should nothing change before.
    pub(super) next: Option<Instant>,
}

impl PollSchedule {
    /// Makes a schedule of at most `polls_max` polls under way.
    pub(super) fn new(planner: PollPlanner, latencies: LatencyModel, polls_max: usize) -> Self {
        Self {
            planner,
            latencies,
            price: PollPrice::default(),
            planned: HashMap::new(),
            queue: PollQueue::new(planner.max_interval),
            accounts: Vec::new(),
            plans: 0,
            free: polls_max,
        }
    }

    /// Plans the next poll of a purchase, in place of any other.
    pub(super) fn plan(&mut self, purchase: PurchaseId, poll: NextPoll, now: Instant, spread: f64) {
        let (at, chance) = if poll.soon { (now, 1.0) } else { self.best(&poll, now, spread) };
        self.push(purchase, poll, at, chance);
    }

    /// Plans the next poll of a purchase again, if that makes it earlier. A poll that has become too early costs little,
    /// and no purchase may be postponed again and again.
    pub(super) fn replan(&mut self, purchase: PurchaseId, now: Instant) {
        let Some(PlannedPoll { at, poll, .. }) = self.planned.get(&purchase) else { return };
        let (before, poll) = (*at, poll.clone());
        let (at, chance) = self.best(&poll, now, 0.0);
        if at < before {
            self.push(purchase, poll, at, chance);
        }
    }

    /// Returns the purchases of a class whose next poll is later than `now`. A purchase whose last poll failed keeps its
    /// pause.
    pub(super) fn replannable(&self, class: &LatencyClass, now: Instant) -> Vec<PurchaseId> {
        let replannable = self
            .planned
            .iter()
            .filter(|(_, planned)| planned.poll.troubles == 0 && planned.at > now && planned.poll.class == *class);
        let mut replannable: Vec<PurchaseId> = replannable.map(|(&purchase, _)| purchase).collect();
        replannable.sort_unstable();
        replannable
    }

    /// Learns from a completion. Returns whether the plans for its class are out of date.
    pub(super) fn observe(&mut self, completion: &Completion) -> bool {
        self.latencies.observe(&completion.class, completion.working_at, completion.took)
    }

    /// Takes out the polls that may start now. `permit` asks for permission for one poll with an account; it fails with
    /// the time when there is one.
    pub(super) fn start<Permission>(
        &mut self,
        now: Instant,
        mut permit: impl FnMut(&AccountId) -> Result<Permission, Instant>,
    ) -> StartedPolls<Permission> {
        let planned = &self.planned;
        // A void plan must not use up the poll rate.
        self.queue
            .advance_if(now, |(purchase, plan)| planned.get(purchase).is_some_and(|planned| planned.plan == *plan));
        let mut started = StartedPolls { polls: Vec::new(), next: self.queue.next_due() };
        let mut ready = 0;
        for account in 0..self.accounts.len() {
            while self.free > 0 && self.queue.ready(account) > 0 {
                let permission = match permit(&self.accounts[account]) {
                    Ok(permission) => permission,
                    Err(at) => {
                        started.next = Some(started.next.map_or(at, |next| next.min(at)));
                        break;
                    }
                };
                let Some((purchase, poll)) = self.pop(account, now) else { break };
                self.free -= 1;
                started.polls.push((purchase, poll, permission));
            }
            ready += self.queue.ready(account);
        }
        self.price.update(now, ready, started.polls.len());
        started
    }

    /// Notes that a poll has ended.
    pub(super) fn end_poll(&mut self) {
        self.free += 1;
    }

    /// Takes out the ready purchase of an account whose poll is worth most. A plan may have become void since it was
    /// ready.
    fn pop(&mut self, account: usize, now: Instant) -> Option<(PurchaseId, NextPoll)> {
        while let Some((purchase, plan)) = self.queue.pop_ready(account, now) {
            if self.planned.get(&purchase).is_some_and(|planned| planned.plan == plan) {
                return self.planned.remove(&purchase).map(|planned| (purchase, planned.poll));
            }
        }
        None
    }

    /// Returns the best time of the next poll of a purchase, and how likely it is done then.
    fn best(&mut self, poll: &NextPoll, now: Instant, spread: f64) -> (Instant, f64) {
        let accepted = Instant::from_std(poll.accepted);
        let age = now.saturating_duration_since(accepted);
        let estimate = self.latencies.estimate(&poll.class);
        let planned = self.planner.next(estimate, poll.working_at, age, self.price.multiplier());
        // After each failure in a row the pause is longer, whatever has failed.
        let next = match poll.troubles {
            0 => planned,
            troubles => planned.max(age + self.planner.backoff(troubles, spread)),
        };
        let chance = self.planner.chance_done(estimate, poll.working_at, next);
        (accepted.checked_add(next).unwrap_or(now + self.planner.max_interval), chance)
    }

    fn push(&mut self, purchase: PurchaseId, poll: NextPoll, at: Instant, chance: f64) {
        let account = self.accounts.iter().position(|known| *known == poll.account).unwrap_or_else(|| {
            self.accounts.push(poll.account.clone());
            self.accounts.len() - 1
        });
        self.plans = self.plans.wrapping_add(1);
        self.planned.insert(purchase, PlannedPoll { plan: self.plans, at, poll });
        self.queue.push(at, (purchase, self.plans), account, chance);
    }
}
