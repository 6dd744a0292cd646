//! Wiring: every module is built once, top to bottom, and handed on. The only module that names the concrete types of all
//! others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::admission::Admission;
use crate::api;
use crate::budget::Budget;
use crate::config::Config;
use crate::engine::{self, Engine};
use crate::input_urls::InputUrls;
use crate::lifecycle::{Grace, Lifecycle, StopSignals};
use crate::model::{ClientId, HostRule, Rng, SystemClock};
use crate::operator;
use crate::simulator::{Options, Profile};
use crate::storage::journal::SqliteJournal;
use crate::storage::spool::{Spool, SpoolLimits};
use crate::storage::{DataDirectory, DiskSpace, Results, StateFiles};
use crate::telemetry::Metrics;
use crate::upstream::GptProto;
use crate::webhooks::{self, Webhooks};

mod banner;
mod check;
mod learned;
mod listeners;
mod simulator;
mod sources;

use learned::{BUDGET_STATE, FORMAT_STATE, FormatFile, LATENCY_STATE, Learned};
use listeners::{BoundListeners, Listeners};
use simulator::{RunningSimulator, SAMPLE};
use sources::Modules;

pub use check::check;
pub use simulator::SIMULATOR_KEY;

/// The exit code after a second signal: the process did not stop in order.
const EXIT_ABORTED: i32 = 1;
/// How long the simulator may finish its requests when it runs by itself.
const SIMULATOR_GRACE: Duration = Duration::from_millis(200);

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    client_address: SocketAddr,
    operator_address: SocketAddr,
    lifecycle: Lifecycle,
    grace: Grace,
    journal: Arc<SqliteJournal>,
    learned: Learned,
    /// Locked while any module can write into it.
    _directory: DataDirectory,
}

impl Gateway {
    /// Builds all modules and starts to listen.
    ///
    /// # Errors
    ///
    /// When the directory is in use, the journal is damaged, or an address is taken.
    pub async fn start(config: Config, sandbox: bool) -> anyhow::Result<Self> {
        let (lifecycle, metrics) = (Lifecycle::default(), Metrics::default());
        let clock = Arc::new(SystemClock);
        let descriptors = listeners::descriptor_demand(&config, sandbox);

        // 1. Addresses and certificates: a mistake there is reported before any file is touched.
        let bound = BoundListeners::bind(&config).await?;
        let (client_address, operator_address) = bound.addresses()?;
        let Config { server, operator, storage, cache, upstream, webhooks, clients, catalogue, accounts, .. } = config;
        let catalogue = Arc::new(catalogue);

        // 2. Storage.
        let directory = DataDirectory::open(&storage.directory)?;
        let signing_key = directory.signing_key(rand::random())?;
        if sandbox {
            simulator::write_sample(directory.path())?;
        }
        let journal = Arc::new(SqliteJournal::open(&directory.path().join("journal.sqlite"))?);
        let results =
            Results::open(&directory.below("results")?, cache.memory_bytes_max, cache.memory_picture_bytes_max)?;
        let spool = Spool::new(directory.below("spool")?, SpoolLimits::from(&storage));
        let state_files = StateFiles::new(directory.below("learned")?);

        // 3. Upstream: what may be sent, and how.
        if let Some(variable) = upstream.unused_proxy_variable() {
            tracing::warn!(
                "{variable} is set and not used: calls to the upstream go out directly; set upstream.proxy to use a proxy"
            );
        }
        let weights: HashMap<ClientId, f64> =
            clients.entries.iter().map(|client| (ClientId(client.name.as_str().into()), client.weight)).collect();
        let learned_limits = state_files.read(BUDGET_STATE).unwrap_or_default();
        let budget = Budget::new(&upstream, &accounts, weights, learned_limits, &metrics);
        let published_below = upstream.inputs.published_below(&server.addresses, upstream.api, upstream.is_loopback());
        let input_urls = published_below.map(|base| InputUrls::new(base.clone(), upstream.input_url_ttl));
        let gptproto = GptProto::new(&upstream, &accounts, Arc::clone(&catalogue), input_urls.clone())
            .map_err(|error| anyhow::anyhow!("cannot build the upstream client: {error}"))?;

        // 4. Clients: what they may ask for, and how they are notified.
        let admission = Admission::new(&clients.entries, &server.responses, Arc::clone(&clock) as Arc<_>, &metrics);
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

        // 5. Engine. It resumes the jobs that the journal lists as unfinished.
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
            upstream: Arc::new(gptproto),
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
            learned: state_files.read(LATENCY_STATE),
            publishes_inputs: input_urls.is_some(),
            picture_limits: server.requests.picture_limits(),
            formats: (
                state_files.read(FORMAT_STATE).unwrap_or_default(),
                Arc::new(FormatFile(state_files.clone())) as Arc<_>,
            ),
        };
        let engine = Engine::start(parts, &upstream, &cache, &storage).await?;
        let learned = Learned { files: state_files, budget: budget.clone(), engine: engine.clone() };
        lifecycle.spawn_service("budget", budget.clone().run());
        // After the engine: jobs that ended while the gateway was down are in the journal by now.
        lifecycle.spawn_service("webhooks", webhooks.clone().run(announced));
        lifecycle.spawn_service("learned", learned.clone().save_regularly());

        // 6. Listeners. All files that stay open are open by now, so the remaining descriptors can be divided.
        let hosts = HostRule::new(operator.listen, &operator.hosts, None);
        let grace = Grace { delay: server.shutdown.delay, finish: server.shutdown.grace };
        let listeners = Listeners::new(&server, listeners::divide_descriptors(descriptors)?, &metrics);
        let serving = bound.with_limits(&listeners, &server, &lifecycle);
        let modules = Modules {
            engine: engine.clone(),
            admission: admission.clone(),
            budget,
            listeners,
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
            sandbox,
        };
        let api = api::router(api::ApiServices {
            engine,
            admission,
            webhooks,
            catalogue,
            clock,
            server,
            api_policy: upstream.api,
            input_urls,
            signing_key,
            sandbox,
            lifecycle: lifecycle.clone(),
            metrics,
        });
        serving.start(api, operator::router(modules.sources(), hosts));
        Ok(Self { client_address, operator_address, lifecycle, grace, journal, learned, _directory: directory })
    }

    /// Returns the address for clients.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        self.client_address
    }

    /// Returns the address of the operator's pages.
    #[must_use]
    pub fn operator_address(&self) -> SocketAddr {
        self.operator_address
    }

    /// Stops as SIGTERM does. Returns whether no task had panicked.
    pub async fn stop(self) -> bool {
        let in_time = self.lifecycle.drain(self.grace).await;
        // The journal is closed before the process ends, so that it is one file which needs no recovery.
        self.journal.close().await;
        self.learned.save();
        tracing::info!(in_time, "stopped");
        !self.lifecycle.has_failed()
    }

    /// Resolves when the gateway begins to stop by itself, because a task panicked.
    pub async fn failing(&self) {
        self.lifecycle.draining().await;
    }
}

/// Runs the gateway until a signal stops it. Returns whether it stopped in order.
///
/// # Errors
///
/// As [`Gateway::start`].
pub async fn run(config: Config) -> anyhow::Result<bool> {
    let scheme = config.server.tls.scheme();
    let gateway = Gateway::start(config, false).await?;
    banner::gateway(scheme, gateway.client_address(), gateway.operator_address());
    run_until_stopped(gateway).await
}

/// Runs the gateway against a simulator of its own, with the behaviour of a profile, until a signal stops it. Returns whether it stopped in order.
///
/// # Errors
///
/// As [`Gateway::start`].
pub async fn run_sandbox(config: Config, profile: Profile) -> anyhow::Result<bool> {
    let simulator = RunningSimulator::for_sandbox(profile).await?;
    let config = config.sandboxed(simulator.address, SIMULATOR_KEY);
    let sample = config.storage.directory.join(SAMPLE);
    let scheme = config.server.tls.scheme();
    let gateway = Gateway::start(config, true).await?;
    banner::sandbox(scheme, gateway.client_address(), gateway.operator_address(), simulator.address, &sample);
    let stopped_well = run_until_stopped(gateway).await?;
    simulator.stop(Duration::ZERO).await;
    Ok(stopped_well)
}

/// Waits for a signal or a failure, then stops the gateway. Returns whether the gateway stopped in order.
///
/// A second signal ends the process at once with exit code 1. Nothing is lost, as in a crash: the journal has everything.
async fn run_until_stopped(gateway: Gateway) -> anyhow::Result<bool> {
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        () = signals.received(1) => tracing::info!("stopping; a second signal aborts"),
        () = gateway.failing() => {}
    }
    let mut stopping = std::pin::pin!(gateway.stop());
    tokio::select! {
        biased;
        stopped_well = stopping.as_mut() => return Ok(stopped_well),
        () = signals.received(2) => {}
    }
    tracing::warn!("second signal: aborting; unfinished jobs resume at the next start");
    // Not by returning: `stopping` keeps the data directory locked until the process is gone, so that no other gateway opens
    // it while a thread of this one may still write.
    std::process::exit(EXIT_ABORTED)
}

/// Runs the simulator by itself until a signal stops it. Returns whether no task of it panicked.
///
/// # Errors
///
/// When the address is taken.
pub async fn run_simulator(listen: SocketAddr, options: Options) -> anyhow::Result<bool> {
    let keys = options.keys.clone();
    let simulator = RunningSimulator::start(listen, "--listen", options).await?;
    banner::simulator(simulator.address, &keys);
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        () = signals.received(1) => tracing::info!("stopping"),
        () = simulator.failing() => {}
    }
    Ok(simulator.stop(SIMULATOR_GRACE).await)
}
