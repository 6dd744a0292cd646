//! Random histories of a gateway, repeatable by their seed.
//!
//! The engine runs against a journal in memory whose disk loses what was not synced, and against an upstream that is a
//! small world: it counts what it was made to buy, loses requests and loses answers. Time is virtual. A list of
//! operations drawn from a seed sends requests, retries, disconnects, cuts the power, cuts it again during recovery,
//! and lets time pass. Each client has one prompt that it wants one picture of.
//!
//! A run fails when
//! - a prompt was bought more than once (**double buy**), although its client only ever retried it;
//! - a purchase is on no record: the upstream took it, and the journal has neither its id nor an unknown outcome
//!   (**lost**);
//! - a client got the picture of another prompt (**swapped**);
//! - a client that retried to the end got neither pictures nor an error that states what is known (**silent**).
//!
//! It is no failure when a prompt was bought, its answer lost, and the journal shows "unknown": that is promised.
//!
//! `day.rs` runs one folder for a long time with all faults: besides those above, an upstream that lies, a full disk, damaged
//! and lost pictures, and jumps of the wall clock.
//!
//! Not simulated: the API (`tests/gateway` and the kill loop cover it), several purchases of a job at the same instant
//! (but see `directed.rs`), and disks that lie about a sync. One source of chance remains: picture files are written by
//! a real thread, though virtual time stands still while it works.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Engine, JobRequest, Parts, Undecided, WaitError, WaitMode};
use crate::admission::Admission;
use crate::budget::{self, Budget, Poll, Pushback, Reservation, Submit};
use crate::config::{Config, Environment};
use crate::input_urls::InputUrlGuards;
use crate::lifecycle::Lifecycle;
use crate::model::{
    ApiKind, Choices, ClientId, Clock, CompletionListener, Failure, JobId, PictureRequest, Rng, Size, Task, Timestamp,
    UnattendedFailure, UpstreamId,
};
use crate::storage::clients::StoredClients;
use crate::storage::journal::StoredState;
use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};
use crate::storage::results::memory::{MemoryPictures, PictureDisk};
use crate::storage::{DiskSpace, LearnedState, MemoryState, Results, spool::Spool};
use crate::telemetry::Metrics;
use crate::upstream::formats::{FormatStore, StoredFormats, SubmitFormat};
use crate::upstream::{
    Commit, FetchError, Finished, Output, PollError, Polled, PurchaseHandle, SubmitError, Submitted, Upstream,
};

#[path = "day.rs"]
mod day;
#[path = "directed.rs"]
mod directed;
#[path = "reproduction.rs"]
mod reproduction;

/// Seeds of each test run. More by hand: `SIMULATION_SEEDS=5000 cargo test --release simulation`.
const SEEDS: u64 = 150;
const OPERATIONS: usize = 25;
const PROMPTS: usize = 5;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug)]
struct Variant {
    sync: SyncMode,
    /// Whether the engine is asked to journal before the last byte; `false` is a negative control.
    commits: bool,
}

const AS_BUILT: Variant = Variant { sync: SyncMode::Full, commits: true };

/// A wall clock that follows virtual time, plus jumps.
#[derive(Clone, Debug)]
struct VirtualClock {
    start: Instant,
    jumped_ms: Arc<AtomicI64>,
}

impl VirtualClock {
    fn new() -> Self {
        Self { start: Instant::now(), jumped_ms: Arc::default() }
    }

    fn jump(&self, millis: i64) {
        self.jumped_ms.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000 + self.jumped_ms.load(Ordering::Relaxed)).plus(self.start.elapsed())
    }
}

/// The upstream: what it was made to buy, and what it does with requests. Outlives each gateway.
#[derive(Clone, Debug)]
struct World {
    state: Arc<Mutex<WorldState>>,
    clock: VirtualClock,
    variant: Variant,
}

#[derive(Debug)]
struct WorldState {
    rng: StdRng,
    /// Purchases in the order they were made: the prompt, and the id.
    bought: Vec<(String, UpstreamId)>,
    /// When each purchase is done.
    done_at: BTreeMap<String, Instant>,
    /// Purchases fail at the upstream instead of bringing pictures.
    fails: bool,
    /// Every purchase is made under the id of the first.
    repeats_ids: bool,
    /// Answers to polls and pictures are sometimes wrong.
    lies: bool,
    trace: String,
}

/// Ignores the ends of jobs.
#[derive(Debug)]
struct NoListener;

impl CompletionListener for NoListener {
    fn ended(&self, _job: JobId) {}

    fn failed_unattended(&self, _failed: UnattendedFailure) {}
}

/// Stores nothing.
#[derive(Debug)]
struct NoStore;

impl FormatStore for NoStore {
    fn save(&self, _formats: &StoredFormats) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the network and the upstream do with a submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubmitFate {
    Fine,
    /// It never arrives, though its last byte was sent.
    LoseRequest,
    /// It is bought, and the answer is lost.
    LoseAnswer,
    PushBack,
    Refuse,
    Unreachable,
}

impl World {
    fn new(seed: u64, clock: VirtualClock, variant: Variant) -> Self {
        let state = WorldState {
            rng: StdRng::seed_from_u64(seed ^ 0x5eed),
            bought: Vec::new(),
            done_at: BTreeMap::new(),
            fails: false,
            repeats_ids: false,
            lies: false,
            trace: String::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), clock, variant }
    }

    fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, event: &str) {
        let now = self.clock.start.elapsed().as_millis();
        let _ = writeln!(self.lock().trace, "{now:>7} {event}");
    }

    fn buy(&self, prompt: &str) -> UpstreamId {
        let mut state = self.lock();
        let number = if state.repeats_ids { 0 } else { state.bought.len() };
        let id = UpstreamId::new(&format!("p{number}")).unwrap();
        let takes = Duration::from_millis(state.rng.random_range(500..30_000));
        state.done_at.insert(id.as_str().to_owned(), Instant::now() + takes);
        state.bought.push((prompt.to_owned(), id.clone()));
        drop(state);
        self.record(&format!("bought {prompt} as {id}"));
        id
    }
}

/// The connection of one gateway to the upstream: cut when that gateway crashes.
#[derive(Clone, Debug)]
struct Connection {
    world: World,
    cut: Arc<AtomicBool>,
}

impl Connection {
    async fn alive(&self) {
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    async fn submit_once(&self, prompt: String, commit: Commit) -> Result<Submitted, SubmitError> {
        let (upload, answer, fate) = {
            let mut state = self.world.lock();
            let fate = match state.rng.random_range(0..20) {
                0 | 1 => SubmitFate::LoseAnswer,
                2 => SubmitFate::LoseRequest,
                3 => SubmitFate::PushBack,
                4 => SubmitFate::Refuse,
                5 => SubmitFate::Unreachable,
                _ => SubmitFate::Fine,
            };
            // What fails at the upstream was accepted by it.
            let fate = if state.fails { SubmitFate::Fine } else { fate };
            let upload = Duration::from_millis(state.rng.random_range(1..200));
            (upload, Duration::from_millis(state.rng.random_range(1..2000)), fate)
        };
        tokio::time::sleep(upload).await;
        self.alive().await;
        if fate == SubmitFate::Unreachable {
            return Err(SubmitError::NotSent { message: "no route".to_owned() });
        }
        if self.world.variant.commits && !commit().await {
            return Err(SubmitError::NotSent { message: "not journalled".to_owned() });
        }
        self.alive().await;
        // The last byte leaves here. From now on a crash of the gateway takes nothing back.
        let id = match fate {
            SubmitFate::Fine | SubmitFate::LoseAnswer => Some(self.world.buy(&prompt)),
            SubmitFate::LoseRequest | SubmitFate::PushBack | SubmitFate::Refuse | SubmitFate::Unreachable => None,
        };
        tokio::time::sleep(answer).await;
        self.alive().await;
        match (fate, id) {
            (SubmitFate::Fine, Some(id)) => Ok(Submitted::Accepted(PurchaseHandle {
                id,
                poll_url: None,
                api_kind: ApiKind::Prediction,
                input_url_guards: InputUrlGuards::default(),
            })),
            (SubmitFate::PushBack, _) => Err(SubmitError::Refused {
                pushback: Pushback::Account { retry_after: Some(Duration::from_secs(2)) },
                message: "429".to_owned(),
            }),
            (SubmitFate::Refuse, _) => {
                Err(SubmitError::Rejected(Failure::InvalidRequest { message: "wrong image url".to_owned() }))
            }
            _ => Err(SubmitError::Unknown { message: "the answer was lost".to_owned() }),
        }
    }

    async fn poll_once(&self, id: &UpstreamId) -> Result<Polled, PollError> {
        let (pause, trouble) = {
            let mut state = self.world.lock();
            (Duration::from_millis(state.rng.random_range(1..300)), state.rng.random_range(0..10))
        };
        tokio::time::sleep(pause).await;
        self.alive().await;
        match trouble {
            0 => return Err(PollError::Trouble { message: "HTML".to_owned() }),
            1 => return Err(PollError::Refused { retry_after: None }),
            _ => {}
        }
        if let Some(lie) = self.lie() {
            return lie;
        }
        let done = self.world.lock().done_at.get(id.as_str()).is_some_and(|&done| done <= Instant::now());
        if !done {
            return Ok(Polled::Working);
        }
        if self.world.lock().fails {
            return Ok(Polled::Failed(Failure::TaskFailed { message: format!("{id} failed") }));
        }
        Ok(Polled::Finished(Finished { outputs: vec![Output::Bytes(picture_of(id))], usage: None }))
    }
}

impl Upstream for Connection {
    fn submit<'a>(
        &'a self,
        _reservation: Reservation<Submit>,
        request: &'a PictureRequest,
        _pictures: u8,
        _format: &'a SubmitFormat,
        commit: Commit,
    ) -> BoxFuture<'a, Result<Submitted, SubmitError>> {
        self.submit_once(request.prompt.clone(), commit).boxed()
    }

    fn poll<'a>(
        &'a self,
        _reservation: Reservation<Poll>,
        handle: &'a PurchaseHandle,
    ) -> BoxFuture<'a, Result<Polled, PollError>> {
        self.poll_once(&handle.id).boxed()
    }

    fn fetch(
        &self,
        output: Output,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>> {
        let Output::Bytes(bytes) = output else { unreachable!("this world answers with bytes") };
        async move { Ok(futures_util::stream::once(async { Ok(bytes) }).boxed()) }.boxed()
    }

    fn fetch_link<'a>(
        &'a self,
        _address: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>> {
        unreachable!("clients of this world send no addresses")
    }
}

/// A picture whose width names the purchase it belongs to.
fn picture_of(id: &UpstreamId) -> Bytes {
    let number: u32 = id.as_str()[1..].parse().unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(number + 1, 1).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

/// One gateway, between a start and a crash.
struct Gateway {
    engine: Engine,
    journal: MemoryJournal,
    lifecycle: Lifecycle,
    connection: Connection,
}

/// What a client has received for its prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Picture(UpstreamId),
    Failed(Failure),
    /// Nothing yet; or its connection broke, or the response deadline passed: it will retry.
    Nothing,
}

/// The request of a client for one picture of its prompt.
fn job(prompt: usize, timeout: Duration) -> JobRequest {
    JobRequest {
        client: ClientId("alice".into()),
        credential: None,
        request: PictureRequest {
            task: Task::Generate,
            model: "gpt-image-2-plus".into(),
            prompt: format!("prompt {prompt}"),
            inputs: Vec::new(),
            mask: None,
            n: 1,
            size: Size { width: 1254, height: 1254 },
            choices: Choices::default(),
            explicit: std::collections::BTreeSet::new(),
            api_kind: ApiKind::Prediction,
        },
        fresh: false,
        private: false,
        is_retry: false,
        key: None,
        until: Instant::now() + timeout,
        wait_mode: WaitMode::Connected,
        webhook: None,
    }
}

struct Simulation {
    seed: u64,
    rng: StdRng,
    world: World,
    clock: VirtualClock,
    disk: Disk,
    pictures: PictureDisk,
    directory: tempfile::TempDir,
    variant: Variant,
    /// The size of the read cache of pictures; 0: each is read from the disk.
    memory_bytes: u64,
    gateway: Option<Gateway>,
    /// The number of the first of the prompts that are asked for at present.
    first: usize,
    /// For each of them: the number of requests, and the answer.
    prompts: Vec<(u32, Answer)>,
    /// The request of each prompt that waits for its answer.
    waiting: Vec<Option<JoinHandle<Answer>>>,
}

impl Simulation {
    fn new(seed: u64, variant: Variant) -> Self {
        let clock = VirtualClock::new();
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            world: World::new(seed, clock.clone(), variant),
            clock,
            disk: Disk::default(),
            pictures: PictureDisk::default(),
            directory: tempfile::tempdir().unwrap(),
            variant,
            memory_bytes: 1 << 20,
            gateway: None,
            first: 0,
            prompts: vec![(0, Answer::Nothing); PROMPTS],
            waiting: (0..PROMPTS).map(|_| None).collect(),
        }
    }

    /// Starts a gateway on the contents of the disk.
    async fn start(&mut self) {
        let environment = Environment::from([("GPTPROTO_API_KEY".to_owned(), "sk-simulation".to_owned())]);
        let config = Config::load(None, &environment).unwrap();
        let (mut upstream, cache, storage) = (config.upstream, config.cache, config.storage);
        upstream.first_poll = Duration::from_secs(1);
        let metrics = Metrics::default();
        let lifecycle = Lifecycle::default();
        let sync_time = Duration::from_millis(self.rng.random_range(1..40));
        let journal = MemoryJournal::on(&self.disk, sync_time, self.variant.sync);
        let connection = Connection { world: self.world.clone(), cut: Arc::default() };
        let path = self.directory.path();
        let account = config.accounts.first().cloned().unwrap();
        let budget = Budget::new(&upstream, &[account], HashMap::new(), budget::Learned::default(), &metrics);
        lifecycle.spawn_service("budget", budget.clone().run());
        let parts = Parts {
            clock: Arc::new(self.clock.clone()),
            rng: Rng::seeded(self.seed ^ u64::try_from(self.disk.records()).unwrap()),
            catalogue: Arc::new(config.catalogue),
            journal: Arc::new(journal.clone()),
            results: Results::new(Box::new(MemoryPictures::on(&self.pictures, true)), self.memory_bytes, 1 << 20)
                .recording_in(Arc::new(journal.clone()), self.rng.random_range(0..2) << 16),
            state: LearnedState::new(Arc::new(MemoryState::default())),
            room: DiskSpace::new(path, 0),
            spool: Spool::for_test(path.to_owned(), 1 << 20, 1 << 20),
            budget: budget.clone(),
            quotas: Arc::new(Admission::new(
                &config.clients,
                &StoredClients::default(),
                &config.server.responses,
                Arc::new(self.clock.clone()),
                &metrics,
            )),
            completion_listener: Arc::new(NoListener),
            undecided: Undecided::default(),
            upstream: Arc::new(connection.clone()),
            lifecycle: lifecycle.clone(),
            metrics,
            learned: None,
            formats: (StoredFormats::default(), Arc::new(NoStore)),
            publishes_inputs: false,
            picture_limits: config.server.requests.picture_limits(),
        };
        let starting = Engine::start(parts, &upstream, &cache, &storage);
        // Sometimes the power is cut again while the gateway resumes unfinished jobs.
        if self.rng.random_range(0..4) == 0 {
            journal.cut_power_after(self.rng.random_range(0..5));
        }
        // A start never takes this long, unless the journal no longer answers.
        if let Ok(engine) = tokio::time::timeout(Duration::from_secs(5), starting).await {
            journal.keep_power();
            self.world.record("started");
            self.gateway = Some(Gateway { engine: engine.unwrap(), journal, lifecycle, connection });
        } else {
            self.world.record("power cut during recovery");
            journal.cut_power();
            connection.cut.store(true, Ordering::Relaxed);
            lifecycle.crash().await;
        }
    }

    /// Cuts the power: the gateway ends at once, and all its connections.
    async fn crash(&mut self) {
        let Some(gateway) = self.gateway.take() else { return };
        self.world.record("power cut");
        gateway.journal.cut_power();
        self.pictures.cut_power();
        gateway.connection.cut.store(true, Ordering::Relaxed);
        gateway.lifecycle.crash().await;
        for waiting in &mut self.waiting {
            if let Some(waiting) = waiting.take() {
                waiting.abort();
                let _ = waiting.await;
            }
        }
    }

    /// Sends the request of one client, or its retry as an SDK does.
    fn request(&mut self, prompt: usize, timeout: Duration) {
        let Some(gateway) = &self.gateway else { return };
        if self.waiting[prompt].is_some() || !matches!(self.prompts[prompt].1, Answer::Nothing) {
            return;
        }
        let engine = gateway.engine.clone();
        let (count, _) = &mut self.prompts[prompt];
        let is_retry = *count > 0;
        *count += 1;
        let job = JobRequest { is_retry, ..job(self.first + prompt, timeout) };
        self.world.record(&format!("request {count} for prompt {prompt}"));
        #[expect(clippy::disallowed_methods, reason = "a client is no task of the gateway")]
        let waiting = tokio::spawn(async move {
            let mut waiter = match engine.submit(job).await {
                Ok(waiter) => waiter,
                Err(failure) => return Answer::Failed(failure),
            };
            match waiter.wait(Instant::now() + timeout).await {
                Ok(result) => {
                    let upstream = result.purchases.first().cloned().expect("this world returns ids");
                    assert!(engine.open(&result.pictures).await.is_ok(), "a delivered picture is on disk");
                    waiter.delivered(async { true });
                    Answer::Picture(upstream)
                }
                Err(WaitError::Failed(failure)) => Answer::Failed(failure),
                Err(WaitError::DeadlinePassed { .. } | WaitError::Closing { .. }) => Answer::Nothing,
            }
        });
        self.waiting[prompt] = Some(waiting);
    }

    fn disconnect(&mut self, prompt: usize) {
        if let Some(waiting) = self.waiting[prompt].take() {
            self.world.record(&format!("the client of prompt {prompt} disconnects"));
            waiting.abort();
        }
    }

    /// Lets time pass, and collects the answers.
    async fn pass(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        for prompt in 0..PROMPTS {
            if self.waiting[prompt].as_ref().is_some_and(JoinHandle::is_finished) {
                let answer =
                    self.waiting[prompt].take().expect("it has just been checked").await.expect("clients do not panic");
                self.world.record(&format!("prompt {prompt} got {answer:?}"));
                // A failure that cost nothing is retried; each other answer is final for its client.
                let costs_nothing = matches!(&answer, Answer::Failed(failure) if !failure.may_have_been_bought());
                self.prompts[prompt].1 = if costs_nothing { Answer::Nothing } else { answer };
            }
        }
    }

    async fn operate(&mut self) {
        for _ in 0..OPERATIONS {
            let prompt = self.rng.random_range(0..PROMPTS);
            match self.rng.random_range(0..10) {
                0..=4 => {
                    let timeout = Duration::from_millis(self.rng.random_range(100..60_000));
                    self.request(prompt, timeout);
                }
                5 => self.disconnect(prompt),
                6 | 7 => self.crash().await,
                _ => {}
            }
            if self.gateway.is_none() && self.rng.random_range(0..2) == 0 {
                self.start().await;
            }
            if self.world.lock().lies {
                self.disturb();
            }
            let time = Duration::from_millis(self.rng.random_range(1..4000));
            self.pass(time).await;
        }
        self.settle();
        // To the end: each client retries until it has a final answer.
        for _ in 0..200 {
            while self.gateway.is_none() {
                self.start().await;
            }
            for prompt in 0..PROMPTS {
                if self.prompts[prompt].0 > 0 {
                    self.request(prompt, Duration::from_mins(10));
                }
            }
            self.pass(Duration::from_secs(10)).await;
            let open = self.prompts.iter().any(|(count, answer)| *count > 0 && *answer == Answer::Nothing);
            if !open {
                break;
            }
        }
        // A job without waiters is resolved all the same.
        self.pass(Duration::from_mins(5)).await;
    }

    /// Describes each violation of a promise.
    fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let bought = self.world.lock().bought.clone();
        let jobs = self.disk.jobs();
        for prompt in 0..PROMPTS {
            let name = format!("prompt {}", self.first + prompt);
            let purchases = bought.iter().filter(|(of, _)| *of == name).count();
            if purchases > 1 {
                violations.push(format!("double buy: {name} was bought {purchases} times"));
            }
            let (count, answer) = &self.prompts[prompt];
            if let Answer::Picture(id) = answer
                && !bought.iter().any(|(of, bought)| *of == name && bought == id)
            {
                violations.push(format!("swapped: {name} got the picture of {id}"));
            }
            if *count > 0 && *answer == Answer::Nothing {
                violations.push(format!("silent: {name} was never answered"));
            }
            if purchases == 1
                && matches!(answer, Answer::Failed(failure) if !matches!(failure, Failure::OutcomeUnknown { .. }))
            {
                violations.push(format!("lost: {name} was bought and its client got {answer:?}"));
            }
        }
        let states = || jobs.iter().flat_map(|job| &job.purchases).map(|purchase| &purchase.state);
        let mut unknown = states()
            .filter(|state| matches!(state, StoredState::Failed { failure: Failure::OutcomeUnknown { .. }, .. }))
            .count();
        for (name, id) in &bought {
            let known = states().any(|state| match state {
                StoredState::Accepted { upstream, .. } => upstream == id,
                StoredState::Resolved { upstream, .. } | StoredState::Failed { upstream, .. } => {
                    upstream.as_ref() == Some(id)
                }
                StoredState::Intent | StoredState::Committing { .. } => false,
            });
            if known {
                continue;
            }
            // An unknown outcome stands for one purchase at most.
            match unknown.checked_sub(1) {
                Some(left) => unknown = left,
                None => violations.push(format!("lost: {name} was bought as {id}, and the journal does not know")),
            }
        }
        violations
    }
}

/// Runs a history in virtual time.
fn with_virtual_time<T>(history: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(1);
    runtime.build().unwrap().block_on(history)
}

/// Runs the history of one seed. Returns its trace, and its violations.
fn run(seed: u64, variant: Variant) -> (String, Vec<String>) {
    with_virtual_time(async {
        let mut simulation = Simulation::new(seed, variant);
        simulation.start().await;
        simulation.operate().await;
        let violations = simulation.violations();
        if let Some(gateway) = simulation.gateway.take() {
            gateway.lifecycle.crash().await;
        }
        let trace = simulation.world.lock().trace.clone();
        (trace, violations)
    })
}

fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn no_history_buys_twice_or_loses_a_purchase() {
    let mut purchases = 0;
    let mut cuts = 0;
    for seed in 0..seeds() {
        let (trace, violations) = run(seed, AS_BUILT);
        purchases += trace.matches(" bought ").count();
        cuts += trace.matches("power cut").count();
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}\n{trace}");
    }
    println!("{} seeds, {purchases} purchases, {cuts} power cuts: 0 double buys, 0 lost, 0 silent", seeds());
    // A world in which nothing happens would prove nothing.
    let enough = usize::try_from(seeds()).unwrap();
    assert!(purchases > enough && cuts > enough);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..12 {
        assert_eq!(run(seed, AS_BUILT).0, run(seed, AS_BUILT).0, "seed {seed}");
    }
}

/// Returns the number of seeds that fail with a deliberately broken variant.
fn failures(variant: Variant) -> usize {
    (0..40).filter(|&seed| !run(seed, variant).1.is_empty()).count()
}

#[test]
fn control_without_the_commit_record_the_simulation_fails() {
    assert!(failures(Variant { commits: false, ..AS_BUILT }) > 0);
}

#[test]
fn control_with_a_journal_that_acknowledges_too_early_the_simulation_fails() {
    assert!(failures(Variant { sync: SyncMode::Off, ..AS_BUILT }) > 0);
}
