//! The wiring: every part is built once, top to bottom, and handed on. The only file that names the concrete types of
//! every layer.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::api;
use crate::budget::Budget;
use crate::config::{Config, InputTransport};
use crate::engine::{self, Engine};
use crate::input_urls::InputUrls;
use crate::lifecycle::{Grace, Lifecycle, stop_signal};
use crate::model::{ClientId, HostRule, Rng, SystemClock};
use crate::operator::{self, Snapshot, Sources};
use crate::simulator::{self, Scenario};
use crate::storage::journal::SqliteJournal;
use crate::storage::spool::{Spool, SpoolLimits};
use crate::storage::{DataDirectory, DiskSpace, Results, StateFiles};
use crate::telemetry::Metrics;
use crate::upstream::GptProto;
use crate::webhooks::{self, Webhooks};

mod banner;
mod check;
mod listeners;

use listeners::{Bound, Listeners, Serving};

pub use check::check;

/// The upstream key of the simulator.
pub const SIMULATOR_KEY: &str = "sk-simulator";
/// A picture to edit, for somebody who has none at hand.
const SAMPLE: &str = "sample.png";
/// What is noted of the upstream's limits, and of generation times; and how often.
const BUDGET_NOTES: &str = "budget";
const LATENCY_NOTES: &str = "latencies";
const NOTE_INTERVAL: Duration = Duration::from_mins(1);
/// How much faster than the real service the sandbox's simulator is: a medium edit takes 2 to 5 seconds.
const SANDBOX_SPEED: f64 = 20.0;

/// A gateway that is running.
#[derive(Debug)]
pub struct Gateway {
    client_address: SocketAddr,
    operator_address: SocketAddr,
    lifecycle: Lifecycle,
    grace: Grace,
    journal: Arc<SqliteJournal>,
    learned: Learned,
    /// Locked for as long as anything can be written into it.
    _directory: DataDirectory,
}

impl Gateway {
    /// Builds all parts and starts to listen.
    ///
    /// # Errors
    ///
    /// When the directory is in use, the journal is damaged, or an address is taken.
    pub async fn start(config: Config, sandbox: bool) -> anyhow::Result<Self> {
        let lifecycle = Lifecycle::default();
        let metrics = Metrics::default();
        let clock = Arc::new(SystemClock);
        let wanted = listeners::wanted(&config, sandbox);

        // Addresses first: whether they are free is known before anything is touched.
        let bound = Bound::new(&config).await?;
        let client_address = bound.client.local_addr()?;
        let operator_address = bound.operator.local_addr()?;

        let Config { server, operator, storage, cache, upstream, webhooks, clients, catalogue, accounts, .. } = config;
        let catalogue = Arc::new(catalogue);

        let directory = DataDirectory::open(&storage.directory)?;
        let signing_key = directory.signing_key(rand::random())?;
        if sandbox {
            let sample = directory.path().join(SAMPLE);
            std::fs::write(&sample, simulator::sample_picture())
                .with_context(|| format!("cannot write {}", sample.display()))?;
        }
        let journal = Arc::new(SqliteJournal::open(&directory.path().join("journal.sqlite"))?);
        let results =
            Results::open(&directory.below("results")?, cache.memory_bytes_max, cache.memory_picture_bytes_max)?;
        let spool = Spool::new(directory.below("spool")?, SpoolLimits::from(&storage));

        let notes = StateFiles::new(directory.below("learned")?);
        let weights: HashMap<ClientId, f64> =
            clients.iter().map(|client| (ClientId(client.name.as_str().into()), client.weight)).collect();
        let budget = Budget::new(&upstream, &accounts, weights, notes.read(BUDGET_NOTES).unwrap_or_default(), &metrics);
        let input_urls = match upstream.inputs {
            InputTransport::Link => server.public_url.clone().map(|base| InputUrls::new(base, upstream.input_url_ttl)),
            InputTransport::Inline => None,
        };
        let api = GptProto::new(&upstream, &accounts, Arc::clone(&catalogue), input_urls.clone())
            .map_err(|error| anyhow::anyhow!("cannot build the upstream client: {error}"))?;
        let admission = Admission::new(&clients, &server, Arc::clone(&clock) as Arc<_>, &metrics);
        admission.count_past_purchases(journal.as_ref(), &catalogue).await?;
        let rng = Rng::from_entropy();
        let parts = webhooks::Parts {
            journal: Arc::clone(&journal) as Arc<_>,
            clock: Arc::clone(&clock) as Arc<_>,
            rng: rng.clone(),
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
        };
        let (webhooks, announced) =
            Webhooks::new(&webhooks, parts).context("cannot build the client that sends webhooks")?;
        let parts = engine::Parts {
            clock: Arc::clone(&clock) as Arc<_>,
            rng,
            catalogue: Arc::clone(&catalogue),
            journal: Arc::clone(&journal) as Arc<_>,
            results,
            room: DiskSpace::new(directory.path(), storage.free_bytes_min),
            spool,
            budget: budget.clone(),
            quotas: Arc::new(admission.clone()),
            completion_listener: Arc::new(webhooks.clone()),
            upstream: Arc::new(api),
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
            learned: notes.read(LATENCY_NOTES),
        };
        let engine = Engine::start(parts, &upstream, &cache, &storage).await?;
        lifecycle.spawn_service("budget", budget.clone().run());
        // After the engine has ended what a crash left under way: what was left untold is looked for once.
        lifecycle.spawn_service("webhooks", webhooks.clone().run(announced));
        let learned = Learned { notes, budget: budget.clone(), engine: engine.clone() };
        lifecycle.spawn_service("notes", learned.clone().keep());
        let hosts = HostRule::new(operator.listen, &operator.hosts, None);
        let grace = Grace { delay: server.shutdown_delay, finish: server.shutdown_grace };

        // Everything that stays open is open by now.
        let doors = Listeners::new(&server, listeners::share(wanted)?);
        metrics.register("connections", |registry| doors.figures.register(registry));
        let serving = Serving::new(bound, &doors, &server, &lifecycle);

        let sources = sources(sandbox, &engine, &admission, &budget, &doors, &lifecycle, metrics.clone());
        let api = api::router(api::Parts {
            engine,
            admission,
            webhooks,
            catalogue,
            clock,
            server,
            route: upstream.api,
            input_urls,
            signing_key,
            sandbox,
            lifecycle: lifecycle.clone(),
            metrics,
        });
        let operator = operator::router(sources, hosts);
        serving.start(api, operator);
        Ok(Self { client_address, operator_address, lifecycle, grace, journal, learned, _directory: directory })
    }

    /// Where clients reach it.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Where the operator reaches it.
    #[must_use]
    pub fn operator_address(&self) -> SocketAddr {
        self.operator_address
    }

    /// Stops as on SIGTERM. Returns whether everything ended within the grace and nothing had panicked.
    pub async fn stop(self) -> bool {
        let in_time = self.lifecycle.drain(self.grace).await;
        // Before the process ends under its thread: what is stopped well is one file, not one to be recovered.
        self.journal.close().await;
        self.learned.note();
        tracing::info!(in_time, "stopped");
        !self.lifecycle.has_failed()
    }

    /// Resolves when the gateway begins to stop by itself, because a task panicked.
    pub async fn failing(&self) {
        self.lifecycle.draining().await;
    }
}

/// What is learned while the gateway runs, and where it is kept.
#[derive(Clone, Debug)]
struct Learned {
    notes: StateFiles,
    budget: Budget,
    engine: Engine,
}

impl Learned {
    /// Notes what was learned, again and again: a crash loses no more than the last minute.
    async fn keep(self) {
        loop {
            tokio::time::sleep(NOTE_INTERVAL).await;
            let learned = self.clone();
            // A panic or a stop in there loses nothing that matters.
            let _ = tokio::task::spawn_blocking(move || learned.note()).await;
        }
    }

    fn note(&self) {
        let noted = self.notes.write(BUDGET_NOTES, &self.budget.learned());
        let noted = noted.and_then(|()| self.notes.write(LATENCY_NOTES, &self.engine.learned()));
        if let Err(error) = noted {
            tracing::warn!(%error, "what was learned cannot be noted");
        }
    }
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address} ({key})"))
}

fn sources(
    sandbox: bool,
    engine: &Engine,
    admission: &Admission,
    budget: &Budget,
    doors: &Listeners,
    lifecycle: &Lifecycle,
    metrics: Metrics,
) -> Sources {
    let started = Instant::now();
    let snapshot = {
        let (engine, budget, lifecycle) = (engine.clone(), budget.clone(), lifecycle.clone());
        let (admission, doors) = (admission.clone(), doors.clone());
        move || {
            let waiting_for: Vec<&'static str> = [
                (lifecycle.is_draining(), "the gateway is stopping"),
                (engine.storage_failed(), "a write to the disk failed; nothing is bought until a restart"),
                (!engine.has_room(), "the disk is full; nothing is bought until there is room"),
            ]
            .into_iter()
            .filter_map(|(waits, what)| waits.then_some(what))
            .collect();
            Snapshot {
                version: env!("CARGO_PKG_VERSION"),
                sandbox,
                uptime_s: started.elapsed().as_secs(),
                ready: waiting_for.is_empty(),
                waiting_for,
                connections: doors.status(),
                engine: engine.status(),
                upstream: budget.status(),
                clients: admission.status(),
            }
        }
    };
    let (engine, admission, budget) = (engine.clone(), admission.clone(), budget.clone());
    let doors = doors.clone();
    let metrics = move || {
        doors.refresh_metrics();
        admission.refresh_metrics();
        engine.refresh_metrics();
        budget.refresh_metrics();
        metrics.page()
    };
    Sources { snapshot: Arc::new(snapshot), metrics: Arc::new(metrics) }
}

/// Runs the gateway until it is told to stop. Returns whether it stopped well.
///
/// # Errors
///
/// As [`Gateway::start`].
pub async fn run(config: Config) -> anyhow::Result<bool> {
    let scheme = config.server.scheme();
    let gateway = Gateway::start(config, false).await?;
    banner::real(scheme, gateway.client_address(), gateway.operator_address());
    until_told(gateway).await
}

/// Runs the gateway against a simulator of its own until it is told to stop. Returns whether it stopped well.
///
/// # Errors
///
/// As [`Gateway::start`].
pub async fn run_sandbox(config: Config) -> anyhow::Result<bool> {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), "the simulator").await?;
    let address = listener.local_addr()?;
    // A life of its own: it must outlast the gateway, which drains while the simulator still works.
    let lifecycle = Lifecycle::default();
    let scenario = Scenario { speed: SANDBOX_SPEED, ..Scenario::default() };
    let options = simulator::Options { keys: vec![SIMULATOR_KEY.to_owned()], scenario, log: None };
    simulator(listener, options, &lifecycle);

    let config = config.sandboxed(address, SIMULATOR_KEY);
    let sample = config.storage.directory.join(SAMPLE);
    let scheme = config.server.scheme();
    let gateway = Gateway::start(config, true).await?;
    banner::sandbox(scheme, gateway.client_address(), gateway.operator_address(), address, &sample);
    let well = until_told(gateway).await?;
    lifecycle.drain(Grace { delay: Duration::ZERO, finish: Duration::ZERO }).await;
    Ok(well)
}

/// Runs the simulator by itself until it is told to stop.
///
/// # Errors
///
/// When the address is taken.
pub async fn run_simulator(listen: SocketAddr, options: simulator::Options) -> anyhow::Result<bool> {
    let listener = bind(listen, "--listen").await?;
    banner::simulator(listener.local_addr()?, &options);
    let lifecycle = Lifecycle::default();
    simulator(listener, options, &lifecycle);
    tokio::select! {
        () = stop_signal() => {}
        () = lifecycle.draining() => {}
    }
    lifecycle.drain(Grace { delay: Duration::ZERO, finish: Duration::from_millis(200) }).await;
    Ok(!lifecycle.has_failed())
}

fn simulator(listener: TcpListener, options: simulator::Options, lifecycle: &Lifecycle) {
    let serving = simulator::serve(listener, options, lifecycle.clone(), lifecycle.stop_token());
    let inner = lifecycle.clone();
    lifecycle.spawn("simulator", async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the simulator failed");
            inner.start_draining();
        }
    });
}

async fn until_told(gateway: Gateway) -> anyhow::Result<bool> {
    tokio::select! {
        () = stop_signal() => {}
        () = gateway.failing() => {}
    }
    Ok(gateway.stop().await)
}
