//! When accepted purchases are polled: by the time that the planner finds best, then by what the poll rate of their
//! account allows, the likeliest first; with a bound on the polls under way.
//!
//! Pure: times, random numbers and what is known of generation times are passed in, and permission is asked of a function.

use std::collections::HashMap;

use tokio::time::Instant;

use super::jobs::event::NextPoll;
use crate::model::{AccountId, PurchaseId};
use crate::polling::latency::{LatencyClass, LatencyModel};
use crate::polling::planner::PollPlanner;
use crate::polling::price::PollPrice;
use crate::polling::queue::PollQueue;

/// The polls that are planned, and what they are planned by.
#[derive(Debug)]
pub(super) struct PollSchedule {
    planner: PollPlanner,
    /// How much more expensive polls are at the moment.
    price: PollPrice,
    /// In boxes, because a map keeps room for many more than it has.
    planned: HashMap<PurchaseId, Box<PlannedPoll>>,
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
    pub(super) fn new(planner: PollPlanner, polls_max: usize) -> Self {
        Self {
            planner,
            price: PollPrice::default(),
            planned: HashMap::new(),
            queue: PollQueue::new(planner.max_interval),
            accounts: Vec::new(),
            plans: 0,
            free: polls_max,
        }
    }

    /// Plans the next poll of a purchase, in place of any other. `spread` is from 0 to 1, at random.
    pub(super) fn plan(
        &mut self,
        purchase: PurchaseId,
        poll: NextPoll,
        latencies: &mut LatencyModel,
        now: Instant,
        spread: f64,
    ) {
        let (at, chance) = if poll.soon { (now, 1.0) } else { self.best(&poll, latencies, now, spread) };
        self.push(purchase, poll, at, chance);
    }

    /// Plans the next poll of a purchase again, if that makes it earlier. A poll that has become too early costs little,
    /// and no purchase may be postponed again and again.
    pub(super) fn replan(&mut self, purchase: PurchaseId, latencies: &mut LatencyModel, now: Instant) {
        let Some(planned) = self.planned.get(&purchase) else { return };
        let (before, poll) = (planned.at, planned.poll.clone());
        let (at, chance) = self.best(&poll, latencies, now, 0.0);
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
            .filter(|(_, planned)| planned.poll.troubles == 0 && planned.at > now && *planned.poll.class == *class);
        let mut replannable: Vec<PurchaseId> = replannable.map(|(&purchase, _)| purchase).collect();
        replannable.sort_unstable();
        replannable
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
    fn best(&self, poll: &NextPoll, latencies: &mut LatencyModel, now: Instant, spread: f64) -> (Instant, f64) {
        let accepted = Instant::from_std(poll.accepted);
        let age = now.saturating_duration_since(accepted);
        let estimate = latencies.estimate(&poll.class);
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
        self.planned.insert(purchase, Box::new(PlannedPoll { plan: self.plans, at, poll }));
        self.queue.push(at, (purchase, self.plans), account, chance);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::input_urls::InputUrlGuards;
    use crate::model::{ApiKind, JobId, Timestamp, UpstreamId};
    use crate::polling::latency::LatencyPriors;
    use crate::upstream::PurchaseHandle;

    const PLANNER: PollPlanner = PollPlanner {
        min_interval: Duration::from_secs(1),
        max_interval: Duration::from_secs(10),
        first_poll: Duration::from_secs(5),
        poll_cost: Duration::from_millis(100),
    };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn class(quality: &str) -> LatencyClass {
        LatencyClass::new("painter", "image-edit", quality, 1024 * 1024, 1)
    }

    fn purchase(slot: u8) -> PurchaseId {
        PurchaseId { job: JobId::new(Timestamp::from_millis(1_790_000_000_000), 1), slot }
    }

    /// A schedule that knows nothing of generation times, and a clock.
    struct Polls {
        schedule: PollSchedule,
        latencies: LatencyModel,
        start: Instant,
        now: Instant,
        /// Times that permission was asked for.
        asked: usize,
    }

    impl Polls {
        fn new(polls_max: usize) -> Self {
            let schedule = PollSchedule::new(PLANNER, polls_max);
            let latencies = LatencyModel::new(LatencyPriors::None);
            let start = Instant::now() + Duration::from_hours(1);
            Self { schedule, latencies, start, now: start, asked: 0 }
        }

        fn aged(mut self, age: f64) -> Self {
            self.wait_until(age);
            self
        }

        fn wait_until(&mut self, age: f64) {
            self.now = self.start + seconds(age);
        }

        /// The poll of a purchase that was accepted at the start.
        fn poll(&self, account: &str) -> NextPoll {
            NextPoll {
                handle: PurchaseHandle {
                    id: UpstreamId::new("up").unwrap(),
                    poll_url: None,
                    api_kind: ApiKind::Prediction,
                    input_url_guards: InputUrlGuards::default(),
                },
                account: AccountId(account.into()),
                class: class("low").into(),
                accepted: self.start.into_std(),
                working_at: Duration::ZERO,
                troubles: 0,
                soon: false,
            }
        }

        fn plan(&mut self, slot: u8, poll: NextPoll) {
            self.schedule.plan(purchase(slot), poll, &mut self.latencies, self.now, 0.0);
        }

        fn plan_soon(&mut self, slot: u8, account: &str) {
            let poll = NextPoll { soon: true, ..self.poll(account) };
            self.plan(slot, poll);
        }

        /// Starts the polls that are due, with this number of permissions at hand. Returns their slots, and the time of the next
        /// look in seconds from the start.
        fn started(&mut self, mut permissions: usize) -> (Vec<u8>, Option<f64>) {
            let (now, asked) = (self.now, &mut self.asked);
            let started = self.schedule.start(now, |_| {
                *asked += 1;
                if permissions == 0 {
                    return Err(now + seconds(0.25));
                }
                permissions -= 1;
                Ok(())
            });
            let slots = started.polls.iter().map(|(purchase, ..)| purchase.slot).collect();
            (slots, started.next.map(|next| next.duration_since(self.start).as_secs_f64()))
        }

        /// Returns when a purchase is polled next, in seconds from the start.
        fn at(&self, slot: u8) -> f64 {
            self.schedule.planned[&purchase(slot)].at.duration_since(self.start).as_secs_f64()
        }

        /// Observes completions of the class at this age.
        fn observe(&mut self, age: f64) {
            for _ in 0..30 {
                let _ = self.latencies.observe(&class("low"), seconds(age - 0.1), seconds(age + 0.1));
            }
        }
    }

    #[test]
    fn a_purchase_is_polled_once_at_its_time_or_soon() {
        let mut polls = Polls::new(10);
        polls.plan(0, polls.poll("a"));
        assert_eq!(polls.started(9), (vec![], Some(5.0)));
        polls.plan_soon(1, "a");
        assert_eq!(polls.started(9), (vec![1], Some(5.0)));
        polls.wait_until(5.0);
        assert_eq!(polls.started(9), (vec![0], None));
        assert_eq!(polls.started(9), (vec![], None));
        assert_eq!(polls.asked, 2);
    }

    #[test]
    fn a_poll_is_returned_as_it_was_planned() {
        let mut polls = Polls::new(1);
        let poll = NextPoll { soon: true, working_at: seconds(3.0), ..polls.poll("b") };
        polls.plan(0, poll.clone());
        let mut accounts = Vec::new();
        let started = polls.schedule.start(polls.now, |account| {
            accounts.push(account.to_string());
            Ok("permission")
        });
        assert_eq!(started.polls, [(purchase(0), poll, "permission")]);
        assert_eq!(accounts, ["b"]);
    }

    #[test]
    fn a_void_plan_uses_up_no_permission() {
        let mut polls = Polls::new(10);
        polls.plan_soon(0, "a");
        polls.plan(0, polls.poll("a"));
        assert_eq!(polls.started(9), (vec![], Some(5.0)), "the last plan counts");
        assert_eq!(polls.asked, 0);
        polls.wait_until(5.0);
        assert_eq!(polls.started(9), (vec![0], None));
        assert_eq!(polls.asked, 1);
    }

    #[test]
    fn a_plan_that_becomes_void_while_it_waits_for_permission_gives_it_to_the_next() {
        let mut polls = Polls::new(10);
        polls.plan_soon(0, "a");
        polls.plan_soon(1, "a");
        assert_eq!(polls.started(0), (vec![], Some(0.25)), "both are ready");
        polls.plan(0, polls.poll("a"));
        assert_eq!(polls.started(1).0, [1]);
        polls.wait_until(5.0);
        assert_eq!(polls.started(9).0, [0], "once");
    }

    #[test]
    fn no_more_polls_are_under_way_than_the_bound_allows() {
        let mut polls = Polls::new(2);
        for slot in 0..4 {
            polls.plan_soon(slot, if slot % 2 == 0 { "a" } else { "b" });
        }
        assert_eq!(polls.started(9), (vec![0, 2], None));
        assert_eq!(polls.asked, 2, "permission is not asked for a poll that cannot start");
        assert_eq!(polls.started(9), (vec![], None));
        polls.schedule.end_poll();
        assert_eq!(polls.started(9), (vec![1], None));
        polls.schedule.end_poll();
        polls.schedule.end_poll();
        assert_eq!(polls.started(9), (vec![3], None));
    }

    #[test]
    fn an_account_without_permission_does_not_hold_up_the_others() {
        let mut polls = Polls::new(10);
        for (slot, account) in [(0, "a"), (1, "b"), (2, "c"), (3, "a")] {
            polls.plan_soon(slot, account);
        }
        polls.plan(4, polls.poll("a"));
        let now = polls.now;
        let started = polls.schedule.start(now, |account| match &*account.0 {
            "a" => Err(now + seconds(3.0)),
            "b" => Ok(()),
            _ => Err(now + seconds(2.0)),
        });
        assert_eq!(started.polls.len(), 1);
        assert_eq!(started.polls[0].0, purchase(1));
        assert_eq!(started.next, Some(now + seconds(2.0)), "the earliest permission");
        let started = polls.schedule.start(now, |_| Err::<(), _>(now + seconds(60.0)));
        assert_eq!(started.next, Some(now + seconds(5.0)), "the next plan is due before");
    }

    #[test]
    fn of_the_ready_purchases_the_likeliest_is_polled_first() {
        let mut polls = Polls::new(10).aged(70.0);
        // Both were last found working; 1 has had the longer time since to be done.
        polls.plan(0, NextPoll { working_at: seconds(69.0), ..polls.poll("a") });
        polls.plan(1, NextPoll { working_at: seconds(20.0), ..polls.poll("a") });
        polls.plan(2, NextPoll { working_at: seconds(60.0), ..polls.poll("a") });
        polls.wait_until(80.0);
        assert_eq!(polls.started(9).0, [1, 2, 0]);
    }

    #[test]
    fn a_plan_is_replaced_by_an_earlier_one_only() {
        let mut polls = Polls::new(10);
        polls.schedule.replan(purchase(0), &mut polls.latencies, polls.now);
        assert_eq!(polls.started(9), (vec![], None), "there is no such purchase");

        polls.plan(0, polls.poll("a"));
        polls.observe(60.0);
        polls.schedule.replan(purchase(0), &mut polls.latencies, polls.now);
        assert_eq!(polls.started(9), (vec![], Some(5.0)), "not later");

        let mut polls = Polls::new(10);
        polls.plan(0, polls.poll("a"));
        polls.observe(3.0);
        polls.schedule.replan(purchase(0), &mut polls.latencies, polls.now);
        assert!((2.9..4.0).contains(&polls.at(0)), "{}", polls.at(0));
        polls.wait_until(4.0);
        assert_eq!(polls.started(9), (vec![0], Some(5.0)));
        polls.wait_until(5.0);
        assert_eq!(polls.started(9), (vec![], None), "once");
    }

    #[test]
    fn what_is_learned_changes_the_plans_of_its_class() {
        let mut polls = Polls::new(10);
        polls.observe(60.0);
        polls.plan(0, polls.poll("a"));
        assert!((55.0..62.0).contains(&polls.at(0)), "{}", polls.at(0));
        let shifted = (0..20).any(|_| polls.latencies.observe(&class("low"), seconds(9.0), seconds(10.0)));
        assert!(shifted, "the plans are out of date");
    }

    #[test]
    fn a_purchase_after_troubles_keeps_its_pause() {
        let mut polls = Polls::new(10).aged(20.0);
        let after = |polls: &mut Polls, troubles, spread| {
            let poll = NextPoll { working_at: seconds(20.0), troubles, ..polls.poll("a") };
            polls.schedule.plan(purchase(0), poll, &mut polls.latencies, polls.now, spread);
            polls.at(0)
        };
        let planned = after(&mut polls, 0, 0.0);
        assert!((planned - (20.0 + 20.0 / 7.0)).abs() < 1e-6, "{planned}");
        assert!((after(&mut polls, 1, 0.0) - planned).abs() < 1e-6, "a pause is never shorter than the plan");
        let sixth = after(&mut polls, 6, 0.0);
        assert!((sixth - (20.0 + 1.5_f64.powi(5))).abs() < 1e-6, "{sixth}");
        let spread = after(&mut polls, 6, 1.0);
        assert!((spread - (20.0 + 1.1 * 1.5_f64.powi(5))).abs() < 1e-6, "{spread}");
    }

    #[test]
    fn the_plans_of_a_class_that_lie_ahead_may_be_replaced() {
        let mut polls = Polls::new(10);
        for slot in [3, 0, 2] {
            polls.plan(slot, polls.poll("a"));
        }
        polls.plan(1, NextPoll { class: class("high").into(), ..polls.poll("a") });
        polls.plan(4, NextPoll { troubles: 1, ..polls.poll("a") });
        polls.plan_soon(5, "a");
        let replannable = polls.schedule.replannable(&class("low"), polls.now);
        assert_eq!(replannable, [purchase(0), purchase(2), purchase(3)]);
        assert_eq!(polls.schedule.replannable(&class("high"), polls.now), [purchase(1)]);
        assert_eq!(polls.schedule.replannable(&class("low"), polls.now + seconds(5.0)), [], "they are due");
    }

    #[test]
    fn while_ready_purchases_wait_polls_are_planned_later() {
        let next = |backlog: u8, permissions: usize| {
            let mut polls = Polls::new(200);
            polls.observe(60.0);
            for slot in 0..backlog {
                polls.plan_soon(slot, "a");
            }
            for second in 1..30 {
                polls.wait_until(f64::from(second));
                polls.started(permissions);
            }
            polls.plan(200, NextPoll { working_at: seconds(59.0), ..polls.poll("b") });
            polls.at(200)
        };
        assert!(next(100, 0) > next(100, 100) + 0.1, "{} {}", next(100, 0), next(100, 100));
        assert!((next(100, 100) - next(0, 0)).abs() < 1e-6);
    }
}
