//! Carries out what the jobs ask for, and reports the results to them. It decides nothing.
//!
//! The jobs are behind one lock, which is held for an event and for starting its effects, and never over an await, an
//! estimate, a log line or the removal of a file. So the effects of all events start in the order of the events: the
//! records of a job are appended in the order of its steps. What takes time runs in tasks, each of which ends with an
//! event. The drain waits for tasks whose work a restart could not repeat: records, submits, pictures without an id. Each
//! of them starts what follows before it ends.
//!
//! - `effects`: starts the effects of an event. `live`: what the driver holds for each live job.
//! - `submit`, `polling`, `fetch`: the calls to the upstream. `links`: the pictures that a submit has as bytes and its client
//!   gave as addresses. `formats`: stores what is known of request formats.
//! - `recovery`: resumes jobs at the start.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::cache::ResultCache;
use super::jobs::Jobs;
use super::jobs::event::{Effect, Event, Now};
use super::metrics::EngineMetrics;
use super::polls::PollSchedule;
use crate::budget::Budget;
use crate::lifecycle::Lifecycle;
use crate::model::{Clock, CompletionListener, Rng};
use crate::polling::latency::LatencyModel;
use crate::storage::Journal;
use crate::upstream::Upstream;
use crate::upstream::formats::FormatStore;

mod effects;
mod fetch;
mod formats;
mod links;
mod live;
mod polling;
pub(super) mod recovery;
mod report;
pub(in crate::engine) mod start_time;
mod submit;

pub(super) use fetch::{FetchMetrics, Fetcher};
use formats::FormatWriter;
pub(super) use links::LinkFetcher;
pub(super) use live::{Joined, KeepAlive, Listed, ObservedJob, Progress, QueuedJob};
use live::{LiveJobs, StateGuard};
use polling::PollMessage;

/// Owns the live jobs, and runs what they ask for.
#[derive(Debug)]
pub(super) struct Driver {
    state: Mutex<State>,
    /// The next time-out of the jobs may have moved.
    timeout_moved: Notify,
    /// How long the upstream takes, as learned.
    latencies: Mutex<LatencyModel>,
    /// To the scheduler of polls. Not bounded by itself: a purchase in flight has at most a few messages on their way,
    /// and the scheduler takes all of them before it sleeps.
    polls: mpsc::UnboundedSender<PollMessage>,
    fetcher: Fetcher,
    links: LinkFetcher,
    formats: FormatWriter,
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
    /// Makes a driver, and the end of its channel for the scheduler of polls.
    pub(super) fn new(
        jobs: Jobs,
        latencies: LatencyModel,
        fetcher: Fetcher,
        links: LinkFetcher,
        formats: Arc<dyn FormatStore>,
        cache: ResultCache,
        services: Services,
    ) -> (Self, mpsc::UnboundedReceiver<PollMessage>) {
        let (polls, messages) = mpsc::unbounded_channel();
        let driver = Self {
            state: Mutex::new(State { jobs, live: LiveJobs::default(), armed: None }),
            timeout_moved: Notify::new(),
            latencies: Mutex::new(latencies),
            polls,
            fetcher,
            links,
            formats: FormatWriter::new(formats),
            cache,
            services,
        };
        (driver, messages)
    }

    /// Reports what has happened.
    fn handle(self: &Arc<Self>, event: Event) {
        self.process(&mut self.lock(), event);
    }

    /// Passes an event to the jobs and starts the effects.
    fn process(self: &Arc<Self>, state: &mut StateGuard<'_>, event: Event) {
        let effects = state.jobs.handle(event, self.now());
        self.carry_out(state, effects);
    }

    /// Starts effects, and wakes the task that waits for the next time-out if that has become earlier.
    fn carry_out(self: &Arc<Self>, state: &mut StateGuard<'_>, effects: Vec<Effect>) {
        for effect in effects {
            effects::start(self, state, effect);
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

    fn lock(&self) -> StateGuard<'_> {
        StateGuard::new(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn send_to_scheduler(&self, message: PollMessage) {
        // The scheduler is gone only when the process ends; after the restart the journal shows the purchase.
        let _ = self.polls.send(message);
    }

    pub(super) fn latencies(&self) -> MutexGuard<'_, LatencyModel> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves once the jobs could be locked, the scheduler of polls has taken a message, and the journal has answered. An error of
/// the journal is an answer.
pub(super) async fn shows_life(driver: &Driver) {
    drop(driver.lock());
    let (answer, answered) = oneshot::channel();
    driver.send_to_scheduler(PollMessage::Probe(answer));
    if answered.await.is_err() {
        // The scheduler has ended, and with it the process is about to.
        std::future::pending::<()>().await;
    }
    let _ = driver.services.journal.has_jobs().await;
}

/// Starts the tasks that run as long as the process does.
pub(super) fn start(driver: &Arc<Driver>, schedule: PollSchedule, messages: mpsc::UnboundedReceiver<PollMessage>) {
    let lifecycle = &driver.services.lifecycle;
    lifecycle.spawn_service("poll scheduler", polling::run(Arc::clone(driver), schedule, messages));
    lifecycle.spawn_service("job time-outs", run_timeouts(Arc::clone(driver)));
    let saving = Arc::clone(driver);
    lifecycle.spawn_service("request formats", async move { saving.formats.run().await });
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
