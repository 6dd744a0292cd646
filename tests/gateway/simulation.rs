//! Random lives of a gateway, repeatable by their seed.
//!
//! The engine runs against a journal in memory whose disk loses what was not synced, and against an upstream that is a
//! small world: it counts what it was made to buy, loses requests and loses answers. Time is virtual. An operation list
//! drawn from a seed edits, repeats, hangs up, cuts the power, cuts it again during recovery, and lets time pass.
//!
//! A run fails when
//! - one wish of a client was bought more than once (**double buy**), although its client only ever repeated it;
//! - a purchase is in nobody's books: the upstream took it, and the journal has neither its id nor an unknown outcome
//!   (**lost**);
//! - a client that repeated its wish to the end got neither pictures nor an error that says what is known (**silent**).
//!
//! It is no failure when a wish was bought, its answer lost, and the journal says "unknown": that is promised.
//!
//! Not simulated: the face towards clients (`tests/gateway` and the kill loop have it), several predictions an order
//! sharing one instant, and disks that lie about a sync. What is left of chance: picture files are written by a real
//! thread, though virtual time stands still while it works.

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

use super::{Engine, JobRequest, Parts, Presence, WaitError};
use crate::admission::Admission;
use crate::budget::{self, Budget, Poll, Pushback, Reservation, Submit};
use crate::config::{Config, Environment};
use crate::input_urls::InputUrlGuards;
use crate::lifecycle::Lifecycle;
use crate::model::{
    AccountId, ApiKind, ClientId, Clock, CompletionListener, Failure, JobId, PictureRequest, Rng, Size, Task,
    Timestamp, UpstreamId,
};
use crate::storage::journal::StoredState;
use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};
use crate::storage::{DiskSpace, Results, spool::Spool};
use crate::telemetry::Metrics;
use crate::upstream::{
    Commit, FetchError, Finished, KeyCheck, Output, PollError, Polled, PurchaseHandle, SubmitError, Submitted, Upstream,
};

#[path = "simulation/directed.rs"]
mod directed;
#[path = "simulation/reproduction.rs"]
mod reproduction;

/// Seeds that every test run tries. More by hand: `SIMULATION_SEEDS=5000 cargo test --release simulation`.
const SEEDS: u64 = 150;
const OPERATIONS: usize = 25;
const WISHES: usize = 5;

/// What the simulated world is built like.
#[derive(Clone, Copy, Debug)]
struct Plan {
    promise: SyncMode,
    /// Whether the engine is asked to journal before the last byte; `false` is a negative control.
    commits: bool,
}

const AS_BUILT: Plan = Plan { promise: SyncMode::Full, commits: true };

/// Wall time that follows virtual time, unless somebody sets it.
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

/// The upstream: what it was made to buy, and what it does with requests. Outlives every gateway.
#[derive(Clone, Debug)]
struct World {
    state: Arc<Mutex<WorldState>>,
    clock: VirtualClock,
    plan: Plan,
}

#[derive(Debug)]
struct WorldState {
    dice: StdRng,
    /// Purchases in the order they were made: the wish, and the id.
    bought: Vec<(String, UpstreamId)>,
    /// When each prediction is done.
    done_at: BTreeMap<String, Instant>,
    trace: String,
}

/// Nobody wants to be told.
#[derive(Debug)]
struct Nobody;

impl CompletionListener for Nobody {
    fn ended(&self, _order: JobId) {}
}

/// What becomes of a submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// It never arrives, though its last byte left.
    LoseRequest,
    /// It is bought, and nobody hears.
    LoseAnswer,
    PushBack,
    Refuse,
    Unreachable,
}

impl World {
    fn new(seed: u64, clock: VirtualClock, plan: Plan) -> Self {
        let state = WorldState {
            dice: StdRng::seed_from_u64(seed ^ 0x5eed),
            bought: Vec::new(),
            done_at: BTreeMap::new(),
            trace: String::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), clock, plan }
    }

    fn lock(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: &str) {
        let now = self.clock.start.elapsed().as_millis();
        let _ = writeln!(self.lock().trace, "{now:>7} {what}");
    }

    fn buy(&self, wish: &str) -> UpstreamId {
        let mut state = self.lock();
        let id = UpstreamId::new(&format!("p{}", state.bought.len())).unwrap();
        let takes = Duration::from_millis(state.dice.random_range(500..30_000));
        state.done_at.insert(id.as_str().to_owned(), Instant::now() + takes);
        state.bought.push((wish.to_owned(), id.clone()));
        drop(state);
        self.note(&format!("bought {wish} as {id}"));
        id
    }
}

/// The upstream as one gateway reaches it: dead once that gateway is.
#[derive(Clone, Debug)]
struct Line {
    world: World,
    cut: Arc<AtomicBool>,
}

impl Line {
    async fn alive(&self) {
        if self.cut.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    async fn submit_once(&self, wish: String, commit: Commit) -> Result<Submitted, SubmitError> {
        let (upload, answer, fate) = {
            let mut state = self.world.lock();
            let fate = match state.dice.random_range(0..20) {
                0 | 1 => Fate::LoseAnswer,
                2 => Fate::LoseRequest,
                3 => Fate::PushBack,
                4 => Fate::Refuse,
                5 => Fate::Unreachable,
                _ => Fate::Fine,
            };
            let upload = Duration::from_millis(state.dice.random_range(1..200));
            (upload, Duration::from_millis(state.dice.random_range(1..2000)), fate)
        };
        tokio::time::sleep(upload).await;
        self.alive().await;
        if fate == Fate::Unreachable {
            return Err(SubmitError::NotSent { message: "no route".to_owned() });
        }
        if self.world.plan.commits && !commit().await {
            return Err(SubmitError::NotSent { message: "not journalled".to_owned() });
        }
        self.alive().await;
        // The last byte leaves here. From now on a crash of the gateway does not take anything back.
        let id = match fate {
            Fate::Fine | Fate::LoseAnswer => Some(self.world.buy(&wish)),
            Fate::LoseRequest | Fate::PushBack | Fate::Refuse | Fate::Unreachable => None,
        };
        tokio::time::sleep(answer).await;
        self.alive().await;
        match (fate, id) {
            (Fate::Fine, Some(id)) => Ok(Submitted::Accepted(PurchaseHandle {
                id,
                poll_url: None,
                api_kind: ApiKind::Prediction,
                input_url_guards: InputUrlGuards::default(),
            })),
            (Fate::PushBack, _) => Err(SubmitError::Refused {
                pushback: Pushback::Account { retry_after: Some(Duration::from_secs(2)) },
                message: "429".to_owned(),
            }),
            (Fate::Refuse, _) => {
                Err(SubmitError::Rejected(Failure::InvalidRequest { message: "wrong image url".to_owned() }))
            }
            _ => Err(SubmitError::Unknown { message: "the answer was lost".to_owned() }),
        }
    }

    async fn poll_once(&self, id: &UpstreamId) -> Result<Polled, PollError> {
        let (pause, trouble) = {
            let mut state = self.world.lock();
            (Duration::from_millis(state.dice.random_range(1..300)), state.dice.random_range(0..10))
        };
        tokio::time::sleep(pause).await;
        self.alive().await;
        match trouble {
            0 => return Err(PollError::Trouble { message: "HTML".to_owned() }),
            1 => return Err(PollError::Refused { retry_after: None }),
            _ => {}
        }
        let done = self.world.lock().done_at.get(id.as_str()).is_some_and(|&done| done <= Instant::now());
        if !done {
            return Ok(Polled::Working);
        }
        Ok(Polled::Finished(Finished { outputs: vec![Output::Bytes(picture_of(id))], usage: None }))
    }
}

impl Upstream for Line {
    fn submit<'a>(
        &'a self,
        _reservation: Reservation<Submit>,
        request: &'a PictureRequest,
        _pictures: u8,
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
        let Output::Bytes(bytes) = output else { unreachable!("this world gives bytes") };
        async move { Ok(futures_util::stream::once(async { Ok(bytes) }).boxed()) }.boxed()
    }

    fn check_key<'a>(&'a self, _account: &'a AccountId) -> BoxFuture<'a, KeyCheck> {
        async { KeyCheck::Good { upstream_time: None } }.boxed()
    }
}

/// A picture that says by its width which prediction it is of.
fn picture_of(id: &UpstreamId) -> Bytes {
    let number: u32 = id.as_str()[1..].parse().unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(number + 1, 1).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

/// One life of the gateway, between a start and a crash.
struct Life {
    engine: Engine,
    journal: MemoryJournal,
    lifecycle: Lifecycle,
    line: Line,
}

/// What a client got in the end for one wish.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    Picture(UpstreamId),
    Failed(Failure),
    /// Its connection broke, or its patience ended: it will ask again.
    Nothing,
}

struct Simulation {
    seed: u64,
    dice: StdRng,
    world: World,
    clock: VirtualClock,
    disk: Disk,
    directory: tempfile::TempDir,
    plan: Plan,
    life: Option<Life>,
    /// For every wish: whether it was asked before, and what came of it.
    wishes: Vec<(u32, Got)>,
    asking: Vec<Option<JoinHandle<Got>>>,
}

impl Simulation {
    fn new(seed: u64, plan: Plan) -> Self {
        let clock = VirtualClock::new();
        Self {
            seed,
            dice: StdRng::seed_from_u64(seed),
            world: World::new(seed, clock.clone(), plan),
            clock,
            disk: Disk::default(),
            directory: tempfile::tempdir().unwrap(),
            plan,
            life: None,
            wishes: vec![(0, Got::Nothing); WISHES],
            asking: (0..WISHES).map(|_| None).collect(),
        }
    }

    /// Starts a gateway on what the disk holds.
    async fn start(&mut self) {
        let environment = Environment::from([("GPTPROTO_API_KEY".to_owned(), "sk-simulation".to_owned())]);
        let config = Config::load(None, &environment).unwrap();
        let (mut upstream, cache, storage) = (config.upstream, config.cache, config.storage);
        upstream.first_poll = Duration::from_secs(1);
        let metrics = Metrics::default();
        let lifecycle = Lifecycle::default();
        let sync_time = Duration::from_millis(self.dice.random_range(1..40));
        let journal = MemoryJournal::on(&self.disk, sync_time, self.plan.promise);
        let line = Line { world: self.world.clone(), cut: Arc::default() };
        let path = self.directory.path();
        let account = config.accounts.first().cloned().unwrap();
        let budget = Budget::new(&upstream, &[account], HashMap::new(), budget::Learned::default(), &metrics);
        lifecycle.spawn_service("budget", budget.clone().run());
        let parts = Parts {
            clock: Arc::new(self.clock.clone()),
            rng: Rng::seeded(self.seed ^ u64::try_from(self.disk.records()).unwrap()),
            catalogue: Arc::new(config.catalogue),
            journal: Arc::new(journal.clone()),
            results: Results::open(path, 1 << 20, 1 << 20).unwrap(),
            room: DiskSpace::new(path, 0),
            spool: Spool::for_test(path.to_owned(), 1 << 20, 1 << 20),
            budget: budget.clone(),
            quotas: Arc::new(Admission::new(&[], &config.server, Arc::new(self.clock.clone()), &metrics)),
            completion_listener: Arc::new(Nobody),
            upstream: Arc::new(line.clone()),
            lifecycle: lifecycle.clone(),
            metrics,
            learned: None,
        };
        let starting = Engine::start(parts, &upstream, &cache, &storage);
        // Sometimes the power goes again while the gateway takes up what was under way.
        if self.dice.random_range(0..4) == 0 {
            journal.cut_power_after(self.dice.random_range(0..5));
        }
        // Nothing of a start takes this long, unless the journal no longer answers.
        if let Ok(engine) = tokio::time::timeout(Duration::from_secs(5), starting).await {
            journal.keep_power();
            self.world.note("started");
            self.life = Some(Life { engine: engine.unwrap(), journal, lifecycle, line });
        } else {
            self.world.note("power cut during recovery");
            journal.cut_power();
            line.cut.store(true, Ordering::Relaxed);
            lifecycle.crash().await;
        }
    }

    /// Cuts the power: the gateway ends where it stands, and every connection with it.
    async fn crash(&mut self) {
        let Some(life) = self.life.take() else { return };
        self.world.note("power cut");
        life.journal.cut_power();
        life.line.cut.store(true, Ordering::Relaxed);
        life.lifecycle.crash().await;
        for asking in &mut self.asking {
            if let Some(asking) = asking.take() {
                asking.abort();
                let _ = asking.await;
            }
        }
    }

    /// One client asks for its wish, or asks again as an SDK does.
    fn ask(&mut self, wish: usize, patience: Duration) {
        let Some(life) = &self.life else { return };
        if self.asking[wish].is_some() || !matches!(self.wishes[wish].1, Got::Nothing) {
            return;
        }
        let engine = life.engine.clone();
        let (count, _) = &mut self.wishes[wish];
        let is_retry = *count > 0;
        *count += 1;
        let order = JobRequest {
            client: ClientId("alice".into()),
            request: PictureRequest {
                task: Task::Generate,
                model: "gpt-image-2-plus".into(),
                prompt: format!("wish {wish}"),
                inputs: Vec::new(),
                mask: None,
                n: 1,
                size: Size { width: 1254, height: 1254 },
                choices: BTreeMap::new(),
                api_kind: ApiKind::Prediction,
            },
            fresh: false,
            private: false,
            is_retry,
            key: None,
            until: Instant::now() + patience,
            presence: Presence::Connected,
            webhook: None,
        };
        self.world.note(&format!("wish {wish} is asked for, time {count}"));
        #[expect(clippy::disallowed_methods, reason = "a client is no task of the gateway")]
        let asking = tokio::spawn(async move {
            let mut ticket = match engine.submit(order).await {
                Ok(ticket) => ticket,
                Err(failure) => return Got::Failed(failure),
            };
            match ticket.wait(Instant::now() + patience).await {
                Ok(delivery) => {
                    let upstream = delivery.purchases.first().cloned().expect("this world names its predictions");
                    assert!(engine.open(&delivery.pictures).await.is_ok(), "a delivered picture is on disk");
                    ticket.delivered(async { true });
                    Got::Picture(upstream)
                }
                Err(WaitError::Failed(failure)) => Got::Failed(failure),
                Err(WaitError::OutOfPatience { .. } | WaitError::Closing { .. }) => Got::Nothing,
            }
        });
        self.asking[wish] = Some(asking);
    }

    fn hang_up(&mut self, wish: usize) {
        if let Some(asking) = self.asking[wish].take() {
            self.world.note(&format!("wish {wish} hangs up"));
            asking.abort();
        }
    }

    /// Lets time pass and takes note of who was answered.
    async fn pass(&mut self, time: Duration) {
        tokio::time::sleep(time).await;
        for wish in 0..WISHES {
            if self.asking[wish].as_ref().is_some_and(JoinHandle::is_finished) {
                let got = self.asking[wish].take().expect("just seen").await.expect("clients do not panic");
                self.world.note(&format!("wish {wish} got {got:?}"));
                // A failure that cost nothing is asked again; everything else is final for its client.
                let costs_nothing = matches!(&got, Got::Failed(failure) if !failure.may_have_been_bought());
                self.wishes[wish].1 = if costs_nothing { Got::Nothing } else { got };
            }
        }
    }

    async fn operate(&mut self) {
        for _ in 0..OPERATIONS {
            let wish = self.dice.random_range(0..WISHES);
            match self.dice.random_range(0..10) {
                0..=4 => {
                    let patience = Duration::from_millis(self.dice.random_range(100..60_000));
                    self.ask(wish, patience);
                }
                5 => self.hang_up(wish),
                6 | 7 => self.crash().await,
                _ => {}
            }
            if self.life.is_none() && self.dice.random_range(0..2) == 0 {
                self.start().await;
            }
            let time = Duration::from_millis(self.dice.random_range(1..4000));
            self.pass(time).await;
        }
        // To the end: every client repeats its wish until it has an answer that is final.
        for _ in 0..200 {
            while self.life.is_none() {
                self.start().await;
            }
            for wish in 0..WISHES {
                if self.wishes[wish].0 > 0 {
                    self.ask(wish, Duration::from_mins(10));
                }
            }
            self.pass(Duration::from_secs(10)).await;
            let open = self.wishes.iter().any(|(count, got)| *count > 0 && *got == Got::Nothing);
            if !open {
                break;
            }
        }
        // What nobody waits for any more is resolved all the same.
        self.pass(Duration::from_mins(5)).await;
    }

    /// Everything that went wrong, in words.
    fn verdict(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let bought = self.world.lock().bought.clone();
        let orders = self.disk.jobs();
        for wish in 0..WISHES {
            let name = format!("wish {wish}");
            let purchases = bought.iter().filter(|(of, _)| *of == name).count();
            if purchases > 1 {
                wrong.push(format!("double buy: {name} was bought {purchases} times"));
            }
            let (count, got) = &self.wishes[wish];
            if *count > 0 && *got == Got::Nothing {
                wrong.push(format!("silent: {name} was never answered"));
            }
            if purchases == 1
                && matches!(got, Got::Failed(failure) if !matches!(failure, Failure::OutcomeUnknown { .. }))
            {
                wrong.push(format!("lost: {name} was bought and its client got {got:?}"));
            }
        }
        let states = || orders.iter().flat_map(|job| &job.purchases).map(|purchase| &purchase.state);
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
                None => wrong.push(format!("lost: {name} was bought as {id}, and the journal does not know")),
            }
        }
        wrong
    }
}

/// Runs one life story. Returns its trace, and what went wrong.
fn run(seed: u64, plan: Plan) -> (String, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut simulation = Simulation::new(seed, plan);
        simulation.start().await;
        simulation.operate().await;
        let wrong = simulation.verdict();
        if let Some(life) = simulation.life.take() {
            life.lifecycle.crash().await;
        }
        let trace = simulation.world.lock().trace.clone();
        (trace, wrong)
    })
}

fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn no_life_story_buys_twice_or_loses_a_purchase() {
    let mut purchases = 0;
    let mut cuts = 0;
    for seed in 0..seeds() {
        let (trace, wrong) = run(seed, AS_BUILT);
        purchases += trace.matches(" bought ").count();
        cuts += trace.matches("power cut").count();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}\n{trace}");
    }
    println!("{} seeds, {purchases} purchases, {cuts} power cuts: 0 double buys, 0 lost, 0 silent", seeds());
    // A world in which nothing happens would prove nothing.
    let enough = usize::try_from(seeds()).unwrap();
    assert!(purchases > enough && cuts > enough);
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..12 {
        assert_eq!(run(seed, AS_BUILT).0, run(seed, AS_BUILT).0, "seed {seed}");
    }
}

/// How many of the seeds a deliberately broken build fails.
fn failures(plan: Plan) -> usize {
    (0..40).filter(|&seed| !run(seed, plan).1.is_empty()).count()
}

#[test]
fn control_without_the_committing_record_it_fails() {
    assert!(failures(Plan { commits: false, ..AS_BUILT }) > 0);
}

#[test]
fn control_with_a_journal_that_promises_too_early_it_fails() {
    assert!(failures(Plan { promise: SyncMode::Off, ..AS_BUILT }) > 0);
}
