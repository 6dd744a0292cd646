//! Carries out what the jobs ask for, and reports to them what came of it. It decides nothing.
//!
//! The jobs are behind one lock, which is held for an event and for starting its effects, and never over an await. So
//! the effects of all events start in the order of the events: the records of a job are appended in the order of its
//! steps. What takes time runs in tasks, each of which ends with an event. A task that something paid for depends on is
//! one that the drain waits for, and it has started what follows before it ends.
//!
//! - `effects`: starts the effects of an event. `live`: what the driver holds for each live job.
//! - `submit`, `polling`, `fetch`: the calls to the upstream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::cache::ResultCache;
use super::jobs::Jobs;
use super::jobs::event::{Effect, Event, Now};
use super::metrics::EngineMetrics;
use super::polls::PollSchedule;
use crate::budget::Budget;
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, CompletionListener, Rng};
use crate::storage::Journal;
use crate::upstream::Upstream;

mod effects;
mod fetch;
pub(super) mod forecast;
mod live;
mod polling;
pub(super) mod recovery;
mod submit;

pub(super) use fetch::Fetcher;
use live::LiveJobs;
pub(super) use live::{Joined, KeepAlive, Progress, QueuedJob};

/// Owns the live jobs, and runs what they ask for.
#[derive(Debug)]
pub(super) struct Driver {
    state: Mutex<State>,
    /// The next time-out of the jobs may have moved.
    timeout_moved: Notify,
    polls: Mutex<PollSchedule>,
    /// A poll was planned, or one has ended.
    polls_changed: Notify,
    fetcher: Fetcher,
    pub(super) cache: ResultCache,
    pub(super) services: Services,
}

/// What the engine works with.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rng: Rng,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) budget: Budget,
    pub(super) upstream: Arc<dyn Upstream>,
    /// Notified of each job that has ended.
    pub(super) completion_listener: Arc<dyn CompletionListener>,
    pub(super) lifecycle: Lifecycle,
    pub(super) metrics: EngineMetrics,
}

/// The live jobs, and what the driver holds for them.
#[derive(Debug)]
struct State {
    jobs: Jobs,
    live: LiveJobs,
    /// The time-out that is being waited for.
    armed: Option<std::time::Instant>,
}

impl Driver {
    pub(super) fn new(
        jobs: Jobs,
        polls: PollSchedule,
        fetcher: Fetcher,
        cache: ResultCache,
        services: Services,
    ) -> Self {
        Self {
            state: Mutex::new(State { jobs, live: LiveJobs::default(), armed: None }),
            timeout_moved: Notify::new(),
            polls: Mutex::new(polls),
            polls_changed: Notify::new(),
            fetcher,
            cache,
            services,
        }
    }

    /// Reports what has happened.
    fn handle(self: &Arc<Self>, event: Event) {
        self.process(&mut self.lock(), event);
    }

    /// Passes an event to the jobs and starts the effects.
    fn process(self: &Arc<Self>, state: &mut State, event: Event) {
        let effects = state.jobs.handle(event, self.now());
        self.carry_out(state, effects);
    }

    /// Starts effects, and those of the events that answer them at once.
    fn carry_out(self: &Arc<Self>, state: &mut State, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(answer) = effects::start(self, state, effect) {
                effects.extend(state.jobs.handle(answer, self.now()));
            }
        }
        let next = state.jobs.next_timeout();
        if next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed)) {
            self.timeout_moved.notify_one();
        }
    }

    /// Asks the jobs.
    pub(super) fn read<T>(&self, ask: impl FnOnce(&Jobs) -> T) -> T {
        ask(&self.lock().jobs)
    }

    /// Changes the jobs, and starts the effects.
    pub(super) fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut Jobs, Now) -> (T, Vec<Effect>)) -> T {
        let mut state = self.lock();
        let (changed, effects) = change(&mut state.jobs, self.now());
        self.carry_out(&mut state, effects);
        changed
    }

    pub(super) fn now(&self) -> Now {
        Now {
            instant: Instant::now().into_std(),
            timestamp: self.services.clock.now(),
            spread: self.services.rng.fraction(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn polls(&self) -> MutexGuard<'_, PollSchedule> {
        self.polls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the tasks that run as long as the process does.
pub(super) fn start(driver: &Arc<Driver>) {
    let lifecycle = &driver.services.lifecycle;
    lifecycle.spawn_service("poll scheduler", polling::run(Arc::clone(driver)));
    lifecycle.spawn_service("job time-outs", run_timeouts(Arc::clone(driver)));
    // A task that the drain waits for, so the drain does not end before the jobs know of it.
    let driver = Arc::clone(driver);
    lifecycle.spawn("drain", async move {
        driver.services.lifecycle.draining().await;
        driver.handle(Event::Draining);
    });
}

async fn run_timeouts(driver: Arc<Driver>) {
    loop {
        let next = {
            let mut state = driver.lock();
            state.armed = state.jobs.next_timeout();
            state.armed
        };
        tokio::select! {
            () = driver.timeout_moved.notified() => {}
            () = sleep_until(next.map(Instant::from_std)) => driver.handle(Event::TimePassed),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
