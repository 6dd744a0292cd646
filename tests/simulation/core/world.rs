//! One life: what is there, and how time passes in it.

use std::time::{Duration, Instant};

use super::Variant;
use super::budget::Budget;
use super::clients::{Client, Prompt, Subscription};
use super::damage::Damage;
use super::formats::Formats;
use super::journal::Journal;
use super::live::{LiveJob, Task};
use super::random::{Random, Trace};
use super::setting::Setting;
use super::upstream::Upstream;
use crate::engine::jobs::Jobs;
use crate::engine::jobs::event::Now;
use crate::engine::jobs::rules::Rules;
use crate::model::{JobId, PurchaseId, Timestamp};

/// What clients and the outside do in one life.
const OPERATIONS: usize = 40;
/// Steps in which a life without further operations must come to rest.
const STEPS_MAX: usize = 20_000;
/// The wall clock at the beginning of a life.
pub(super) const WALL: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// A gateway, its disk, its upstream and its clients.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that others do not depend on")]
pub(super) struct World {
    pub(super) variant: Variant,
    pub(super) random: Random,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    /// The first promise that was broken.
    pub(super) violation: Option<String>,
    start: Instant,
    pub(super) elapsed: Duration,
    operations: usize,

    // What outlives a gateway.
    pub(super) rules: Rules,
    pub(super) cache_on: bool,
    pub(super) journal: Journal,
    pub(super) upstream: Upstream,
    pub(super) formats: Formats,
    pub(super) damage: Damage,
    pub(super) prompts: Vec<Prompt>,
    pub(super) histories: Vec<History>,
    pub(super) subscriptions: Vec<Subscription>,

    // The gateway.
    pub(super) running: bool,
    pub(super) draining: bool,
    /// A record of a job was not written, so only a restart makes the journal complete.
    pub(super) unlogged: bool,
    /// The disk of the pictures has failed.
    pub(super) results_failed: bool,
    pub(super) jobs: Jobs,
    pub(super) live: Vec<LiveJob>,
    pub(super) budget: Budget,
    pub(super) clients: Vec<Client>,
    /// What may happen now, in any order.
    pub(super) ready: Vec<Task>,
    /// What may happen from a time on.
    sleeping: Vec<(Duration, Task)>,
    wake_at: Duration,
}

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Calls of the core.
    pub(super) events: usize,
    pub(super) submits: usize,
    pub(super) purchases: usize,
    pub(super) crashes: usize,
    pub(super) resubmits: usize,
    pub(super) lost_answers: usize,
    pub(super) refused_formats: usize,
    /// Grants that were kept for a while.
    pub(super) kept_grants: usize,
    pub(super) refetches: usize,
}

/// What the world knows of a job, whatever the gateway knows.
#[derive(Debug)]
pub(super) struct History {
    pub(super) id: JobId,
    pub(super) prompt: usize,
    /// No waiter was left while nothing was bought, so that nothing may be bought any more.
    pub(super) dropped: bool,
    pub(super) purchases: [PurchaseHistory; 3],
    /// The outcome that waiters got: the number of pictures, or the failure. `None` where the journal may have another.
    pub(super) outcome: Option<Result<usize, &'static str>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PurchaseHistory {
    pub(super) bought: usize,
    pub(super) resubmits: usize,
}

impl World {
    pub(super) fn new(seed: u64, variant: Variant, with_text: bool) -> Self {
        let mut random = Random::seeded(seed);
        let setting = Setting::shared();
        let rules = setting.rules(&mut random);
        let formats = Formats::new(&mut random);
        let budget = Budget::new(&setting.accounts, &mut random);
        Self {
            variant,
            trace: Trace::new(with_text),
            counts: Counts::default(),
            violation: None,
            start: setting.start,
            elapsed: Duration::ZERO,
            operations: OPERATIONS,
            cache_on: !random.one_in(3),
            journal: Journal::default(),
            upstream: Upstream::default(),
            damage: Damage::default(),
            prompts: setting.prompts(&mut random),
            histories: Vec::new(),
            subscriptions: Vec::new(),
            running: false,
            draining: false,
            unlogged: false,
            results_failed: false,
            jobs: Jobs::new(rules.clone(), formats.table()),
            formats,
            rules,
            live: Vec::new(),
            budget,
            clients: Vec::new(),
            ready: Vec::new(),
            sleeping: Vec::new(),
            wake_at: Duration::MAX,
            random,
        }
    }

    /// Lives to the end, or to the first broken promise.
    pub(super) fn live(&mut self) {
        self.start();
        while self.operations > 0 && self.violation.is_none() {
            self.step();
        }
        self.finish();
    }

    /// Lets everything end: each careful client retries until it has its answer.
    fn finish(&mut self) {
        self.upstream.calm = true;
        for round in 0..60 {
            if !self.running {
                self.start();
            }
            self.rest();
            if self.violation.is_some() {
                return;
            }
            if self.draining || self.journal.failed || self.results_failed || self.unlogged {
                self.stop();
                continue;
            }
            if round > 2 {
                // Submits in other formats are limited by the hour.
                self.pass(Duration::from_mins(30));
            }
            if !self.retry_unanswered() {
                break;
            }
        }
        self.check_answered();
        if self.random.one_in(2) {
            self.cut_power();
            while !self.running {
                self.start();
            }
            self.rest();
        }
        if self.random.one_in(2) {
            self.ask_once_more();
        }
        self.check_end();
    }

    /// Other clients ask for the same, when the formats that are accepted are known as far as they can be.
    fn ask_once_more(&mut self) {
        for prompt in 0..self.prompts.len() {
            self.damage_pictures();
            self.prompts[prompt].is_careful = false;
            for _ in 0..2 {
                self.request(prompt, Duration::from_mins(10));
            }
        }
        self.rest();
    }

    /// Takes steps until nothing is left to happen.
    fn rest(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.violation.is_some() {
                return;
            }
            if !self.step() {
                return self.check_rest();
            }
        }
        self.violate("it never comes to rest".to_owned());
    }

    /// Lets one thing happen of all that may. Returns whether there was one.
    fn step(&mut self) -> bool {
        if self.operations > 0 {
            let pause = if self.random.one_in(24) { 10_000 } else { 40 };
            let time = self.random.time(pause);
            self.pass(time);
            if self.random.one_in(5) {
                self.operations -= 1;
                self.operate();
                return true;
            }
        } else {
            let time = self.random.time(20);
            self.pass(time);
        }
        if !self.running {
            self.start();
            return true;
        }
        let is_due = self.jobs.next_timeout().is_some_and(|at| at <= self.instant());
        let syncs = 2 * usize::from(self.journal.pending() > 0);
        let stores = usize::from(self.formats.can_be_stored(self.ready.is_empty()));
        let grants = usize::from(self.budget.can_grant());
        let choices = self.ready.len() + syncs + stores + grants + usize::from(is_due);
        if choices == 0 {
            return self.skip();
        }
        let choice = self.random.below(choices);
        if choice < self.ready.len() {
            let task = self.ready.swap_remove(choice);
            if self.operations > 0 && self.random.one_in(16) {
                // It is slow for once.
                let pause = self.random.time(4000);
                self.after(pause, task);
            } else {
                self.run(task);
            }
        } else if choice < self.ready.len() + syncs {
            self.sync();
        } else if choice < self.ready.len() + syncs + stores {
            self.store_formats();
        } else if choice < self.ready.len() + syncs + stores + grants {
            self.grant();
        } else {
            self.time_out();
        }
        true
    }

    /// Lets the time pass until something may happen. Returns whether anything may.
    fn skip(&mut self) -> bool {
        let now = self.instant();
        let late = self.live.iter().find(|live| live.start_by <= now && self.budget.has_queued(live.record.id));
        if let Some(late) = late.map(|late| late.record.id) {
            self.violate(format!("{late} waits for the budget when it is too late"));
        }
        let timeout = self.jobs.next_timeout().map(|at| at - self.start);
        let sleeping = Some(self.wake_at).filter(|_| !self.sleeping.is_empty());
        let Some(at) = timeout.into_iter().chain(sleeping).min() else {
            if self.operations > 0 {
                self.operations -= 1;
                self.operate();
            }
            return self.operations > 0;
        };
        self.pass(at.saturating_sub(self.elapsed));
        true
    }

    /// Lets time pass, and makes ready what waited for it.
    pub(super) fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        if self.elapsed < self.wake_at {
            return;
        }
        let mut index = 0;
        self.wake_at = Duration::MAX;
        while let Some((at, _)) = self.sleeping.get(index) {
            if *at <= self.elapsed {
                let (_, task) = self.sleeping.swap_remove(index);
                self.ready.push(task);
            } else {
                self.wake_at = self.wake_at.min(*at);
                index += 1;
            }
        }
    }

    /// Makes a task ready after a pause.
    pub(super) fn after(&mut self, pause: Duration, task: Task) {
        if pause.is_zero() {
            return self.ready.push(task);
        }
        let at = self.elapsed + pause;
        self.wake_at = self.wake_at.min(at);
        self.sleeping.push((at, task));
    }

    /// Writes some records, all in one commit: either they are durable, or they are refused.
    fn sync(&mut self) {
        let records = 1 + self.random.below(self.journal.pending());
        let is_refused = !self.upstream.calm && self.random.one_in(60);
        self.note("sync", [records, 0], format_args!("refused: {is_refused}"));
        let ready = &mut self.ready;
        let notify = |report, outcome| ready.push(Task::Journalled { report, outcome });
        if is_refused { self.journal.refuse(records, notify) } else { self.journal.sync(records, notify) }
    }

    /// Makes all records durable.
    pub(super) fn sync_all(&mut self) {
        let ready = &mut self.ready;
        let notify = |report, outcome| ready.push(Task::Journalled { report, outcome });
        self.journal.sync(self.journal.pending(), notify);
    }

    /// Cuts the power: the gateway ends at once, and all its connections.
    pub(super) fn cut_power(&mut self) {
        if !self.running {
            return;
        }
        self.counts.crashes += 1;
        self.note("power cut", [0, 0], format_args!("{} records lost", self.journal.pending()));
        let journal = &self.journal;
        self.subscriptions.retain_mut(|subscription| subscription.survives(journal));
        self.journal.cut_power();
        self.running = false;
        (self.draining, self.unlogged, self.results_failed) = (false, false, false);
        self.formats.cut_power(self.variant);
        self.damage.forget();
        self.jobs = Jobs::new(self.rules.clone(), self.formats.table());
        self.live.clear();
        self.clients.clear();
        self.ready.clear();
        self.sleeping.clear();
        self.wake_at = Duration::MAX;
        self.budget.queue.clear();
        self.budget.accounts.iter_mut().for_each(|account| account.in_flight = 0);
        (self.budget.granted, self.budget.released) = (0, 0);
    }

    /// Ends the gateway in order: what it wrote is durable.
    pub(super) fn stop(&mut self) {
        if !self.journal.failed {
            self.sync_all();
        }
        self.cut_power();
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + self.elapsed
    }

    pub(super) fn timestamp(&self) -> Timestamp {
        WALL.plus(self.elapsed)
    }

    pub(super) fn now(&mut self) -> Now {
        Now { instant: self.instant(), timestamp: self.timestamp(), spread: self.random.fraction() }
    }

    /// Returns the number of a job in the order of the jobs.
    pub(super) fn number(&self, job: JobId) -> usize {
        self.histories.iter().rposition(|history| history.id == job).unwrap_or(usize::from(u8::MAX))
    }

    pub(super) fn about(&self, purchase: PurchaseId) -> [usize; 2] {
        [self.number(purchase.job), usize::from(purchase.slot)]
    }

    pub(super) fn note(&mut self, what: &str, about: [usize; 2], details: std::fmt::Arguments<'_>) {
        self.trace.note(self.elapsed, what, about, details);
    }

    pub(super) fn violate(&mut self, message: String) {
        self.violation.get_or_insert(message);
    }

    /// Notes a broken promise unless it holds.
    pub(super) fn check(&mut self, holds: bool, message: impl FnOnce() -> String) {
        if !holds {
            self.violate(message());
        }
    }
}
