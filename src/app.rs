//! Wiring: every module is built once, top to bottom, and handed on. The only module that names the concrete types of all
//! others.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{self, AdminState, Administration};
use crate::api::{self, OriginPolicy};
use crate::budget::BudgetControl;
use crate::config::{self, Config, ServerConfig, WebPages};
use crate::ledger;
use crate::lifecycle::{Grace, InheritedListeners, Lifecycle, StopSignals, Supervisor};
use crate::model::{Clock as _, Current, SystemClock};
use crate::operator;
use crate::simulator::{Options, Profile};
use crate::storage;
use crate::storage::clients::Actor;
use crate::telemetry::Metrics;
use crate::telemetry::recent::RecentRequests;

mod backend;
mod banner;
mod check;
mod key_query;
mod listeners;
mod reload;
mod repair;
mod simulator;
mod sources;
mod supervision;

use backend::readiness::{self, KnownAccounts};
use backend::{Backend, OpenStorage};
use listeners::{BoundListeners, Listeners};
use simulator::{RunningSimulator, SAMPLE};
use sources::Modules;

pub(crate) use backend::learned::forget_account;
pub use check::{CheckArguments, CheckError, Report, check};
pub(crate) use check::{KeyVerdict, check_key, live_check_price};
pub use listeners::inherited_listeners;
pub use reload::ConfigSource;
use reload::Reloadable;
pub use repair::repair;
pub use simulator::SIMULATOR_KEY;

/// The exit code after a second signal: the process did not stop in order.
const EXIT_ABORTED: i32 = 1;
/// How long the text at the start waits for what is known of the accounts.
const FIRST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the simulator may finish its requests when it runs by itself.
const SIMULATOR_GRACE: Duration = Duration::from_millis(200);

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    administration: Administration,
    client_address: SocketAddr,
    operator_address: SocketAddr,
    lifecycle: Lifecycle,
    supervisor: Supervisor,
    grace: Grace,
    accounts: KnownAccounts,
    storage: OpenStorage,
}

/// What a process is started with.
#[derive(Debug, Default)]
pub struct Launch {
    /// `None`: the configuration cannot be read again, and nothing is reported to a supervisor.
    pub source: Option<ConfigSource>,
    pub inherited: InheritedListeners,
}

impl Launch {
    fn file(&self) -> Option<PathBuf> {
        self.source.as_ref().and_then(|source| source.file.clone())
    }
}

impl Gateway {
    /// Builds all modules and starts to listen.
    ///
    /// # Errors
    ///
    /// When the journal is in use by another gateway or damaged, or an address is taken.
    pub async fn start(config: Config, sandbox: bool) -> anyhow::Result<Self> {
        Self::launch(config, Launch::default(), sandbox).await
    }

    /// The same with what the process was started with.
    ///
    /// # Errors
    ///
    /// As [`Gateway::start`].
    pub async fn launch(config: Config, launch: Launch, sandbox: bool) -> anyhow::Result<Self> {
        let Launch { source, inherited } = launch;
        let supervisor = source.as_ref().map(|source| Supervisor::of(&source.environment)).unwrap_or_default();
        let lifecycle = Lifecycle::default();
        let file = source.as_ref().and_then(|source| source.file.clone());
        let metrics = Metrics::new(config.operator.metric_clients_max);
        let recent = RecentRequests::new(&metrics);
        let descriptors = listeners::descriptor_demand(&config, sandbox);

        // 1. Addresses and certificates: a mistake there is reported before any file is touched.
        let bound = BoundListeners::bind(&config, inherited).await?;
        let (clients, operators) = bound.addresses()?;
        let (client_address, operator_address) = (clients[0], operators[0]);

        // 2. Everything below them.
        let upstream = |gptproto| Arc::new(gptproto) as Arc<_>;
        let opened = backend::open_storage(&config, &supervisor, &metrics).await?;
        let backend = Backend::start(&config, opened, sandbox, &lifecycle, &metrics, &recent, upstream).await?;
        let Backend {
            engine,
            admission,
            webhooks,
            budget,
            catalogue,
            input_urls,
            signing_key,
            journal,
            clients: store,
            storage,
            gptproto,
        } = backend;
        let accounts = readiness::follow(&gptproto, &budget, &config.accounts, &lifecycle);

        // 3. What the operator can change.
        let mut server = config.server.clone();
        let mut operator = config.operator.clone();
        // Names are resolved by now, and ports chosen.
        (server.addresses.listen, operator.listen) = (clients.into(), operators.into());
        let origins = Current::new(OriginPolicy::new(&server.addresses));
        let hosts = Current::new(reload::operator_hosts(&operator, &operator));
        let logged_requests = Current::new(config.log.requests);
        let reloadable = Reloadable {
            logged_requests: logged_requests.clone(),
            addresses: server.addresses.clone(),
            origins: origins.clone(),
            operator: operator.clone(),
            operator_hosts: hosts.clone(),
            upstream: config.upstream.clone(),
            budget: BudgetControl::of(&budget),
            catalogue: Arc::clone(&catalogue),
            webhooks: webhooks.clone(),
        };
        let administration = Administration::new(admin::Parts {
            store,
            journal,
            journal_file: storage::journal_file(&config.storage),
            admission: admission.clone(),
            budget: BudgetControl::of(&budget),
            catalogue: Arc::clone(&catalogue),
            clock: Arc::new(SystemClock),
            configured: config.clients.clone(),
            admin_token: config.operator.admin_token.clone(),
            metrics: metrics.clone(),
            reload: reload::reload(&config, source, sandbox, reloadable),
        });
        lifecycle.spawn_service("administration", administration.clone().run());

        // 4. Listeners. All files that stay open are open by now, so the remaining descriptors can be divided.
        let Config { upstream, cache, .. } = config;
        let grace = Grace { delay: server.shutdown.delay, finish: server.shutdown.grace };
        let listeners = Listeners::new(&server, listeners::divide_descriptors(descriptors)?, &metrics);
        bound.register(&metrics);
        let serving = bound.with_limits(&listeners, &server, &lifecycle);
        let modules = Modules {
            engine: engine.clone(),
            admission: admission.clone(),
            budget,
            listeners,
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
            recent: recent.clone(),
            sandbox,
            api: api_address(&server, client_address),
            administration: operator.admin_token.is_some(),
            command_arguments: ledger::location_arguments(file.as_deref(), sandbox),
        };
        let api = api::service(api::ApiServices {
            engine,
            admission,
            webhooks,
            catalogue: Arc::clone(&catalogue),
            clock: Arc::new(SystemClock),
            server,
            origins,
            api_policy: upstream.api,
            input_urls,
            signing_key,
            thumbnail_bytes_max: cache.thumbnail_bytes_max,
            sandbox,
            logged_requests,
            recent,
            lifecycle: lifecycle.clone(),
            metrics,
        });
        let state = AdminState::new(administration.clone(), Arc::clone(&catalogue), Arc::new(SystemClock));
        supervision::follow(&supervisor, modules.clone(), &lifecycle);
        serving.start(api, Arc::new(operator::router(modules.sources(), hosts, admin::router(state))));
        Ok(Self { administration, client_address, operator_address, lifecycle, supervisor, grace, accounts, storage })
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

    /// Stops as SIGTERM does. Returns whether nothing had failed.
    pub async fn stop(self) -> bool {
        let in_time = self.lifecycle.drain(self.grace).await;
        self.administration.store_used().await;
        self.storage.close().await;
        tracing::info!(in_time, "stopped");
        !self.lifecycle.has_failed()
    }

    /// Resolves when the gateway begins to stop by itself, because a task panicked or the storage has failed.
    pub async fn failing(&self) {
        self.lifecycle.draining().await;
    }
}

/// Logs which files the configuration was read from.
fn log_sources(launch: &Launch) {
    let Some(ConfigSource { file, environment }) = &launch.source else { return };
    if let Some(file) = file {
        tracing::info!(file = %file.display(), "configuration read");
    }
    for file in config::found_credentials(environment) {
        tracing::info!(file = %file.display(), "credential found; it stands in for a secret that is not set otherwise");
    }
}

/// Returns the base URL of the client API: the public one where it is configured, or where this machine reaches it.
fn api_address(server: &ServerConfig, listen: SocketAddr) -> String {
    let origin = match &server.addresses.public_url {
        Some(url) => url.as_str().trim_end_matches('/').to_owned(),
        None => format!("{}://{}", server.tls.scheme(), operator::reachable_address(listen)),
    };
    format!("{origin}/v1")
}

/// Runs the gateway until a signal stops it. Returns whether it stopped in order.
///
/// # Errors
///
/// As [`Gateway::start`].
pub async fn run(config: Config, launch: Launch) -> anyhow::Result<bool> {
    let (scheme, has_pages) = (config.server.tls.scheme(), config.server.addresses.web == WebPages::On);
    let file = launch.file();
    let mut signals = StopSignals::listen()?;
    log_sources(&launch);
    let hangups = hangups()?;
    let gateway = started(Box::pin(Gateway::launch(config, launch, false)), &mut signals).await?;
    let (client, operator) = (gateway.client_address(), gateway.operator_address());
    let addresses = banner::Addresses { scheme, client, operator, has_pages };
    // Clients are served meanwhile.
    let accounts = gateway.accounts.first_answers(FIRST_ANSWERS_TIMEOUT).await;
    banner::gateway(addresses, file.as_deref(), &accounts);
    run_until_stopped(gateway, signals, hangups).await
}

/// Runs the gateway against a simulator of its own, with the behaviour of a profile, until a signal stops it. Returns
/// whether it stopped in order.
///
/// # Errors
///
/// As [`Gateway::start`].
pub async fn run_sandbox(config: Config, launch: Launch, profile: Profile) -> anyhow::Result<bool> {
    let mut signals = StopSignals::listen()?;
    log_sources(&launch);
    let hangups = hangups()?;
    let simulator = RunningSimulator::for_sandbox(profile).await?;
    let config = config.sandboxed(simulator.address, SIMULATOR_KEY);
    let sample = config.storage.directory.join(SAMPLE);
    let (scheme, has_pages) = (config.server.tls.scheme(), config.server.addresses.web == WebPages::On);
    let gateway = started(Box::pin(Gateway::launch(config, launch, true)), &mut signals).await?;
    let (client, operator) = (gateway.client_address(), gateway.operator_address());
    let addresses = banner::Addresses { scheme, client, operator, has_pages };
    banner::sandbox(addresses, simulator.address, profile, &sample);
    let stopped_well = run_until_stopped(gateway, signals, hangups).await?;
    simulator.stop(Duration::ZERO).await;
    Ok(stopped_well)
}

/// Waits until the gateway has started, and tells the supervisor so. A signal that comes first ends the process: nothing is served yet.
///
/// Signals are received from before the start, so that one that comes as the first client is served stops the gateway in order, and
/// so that they have an effect on the first process of a container.
///
/// # Errors
///
/// As [`Gateway::start`].
async fn started(
    starting: impl Future<Output = anyhow::Result<Gateway>>,
    signals: &mut StopSignals,
) -> anyhow::Result<Gateway> {
    let mut starting = std::pin::pin!(starting);
    tokio::select! {
        biased;
        gateway = starting.as_mut() => {
            return gateway.inspect(|gateway| gateway.supervisor.ready("Ready"));
        }
        () = signals.received(1) => tracing::info!("stopped before the gateway was ready"),
    }
    // Not by returning: see `run_until_stopped`.
    std::process::exit(0)
}

/// Waits for a signal or a failure, then stops the gateway. Returns whether the gateway stopped in order.
///
/// A second signal ends the process at once with exit code 1. Nothing is lost, as in a crash: the journal has everything.
async fn run_until_stopped(gateway: Gateway, mut signals: StopSignals, hangups: Signal) -> anyhow::Result<bool> {
    let supervisor = gateway.supervisor.clone();
    reload_on_signal(&gateway, hangups);
    tokio::select! {
        () = signals.received(1) => tracing::info!("stopping; a second signal aborts"),
        () = gateway.failing() => {}
    }
    supervisor.stopping();
    let mut stopping = std::pin::pin!(gateway.stop());
    tokio::select! {
        biased;
        stopped_well = stopping.as_mut() => return Ok(stopped_well),
        () = signals.received(2) => {}
    }
    tracing::warn!("second signal: aborting; unfinished jobs resume at the next start");
    // Not by returning: `stopping` keeps the journal locked until the process is gone, so that no other gateway opens the
    // data directory while a thread of this one may still write.
    std::process::exit(EXIT_ABORTED)
}

/// Returns the SIGHUPs from now on. Before this, one ends the process; one that comes during the start is a reload after it.
fn hangups() -> anyhow::Result<Signal> {
    Ok(signal(SignalKind::hangup())?)
}

/// Reads the configuration again with every SIGHUP.
fn reload_on_signal(gateway: &Gateway, mut hangups: Signal) {
    let (administration, supervisor) = (gateway.administration.clone(), gateway.supervisor.clone());
    gateway.lifecycle.spawn_service("reload", async move {
        while hangups.recv().await.is_some() {
            supervisor.reloading();
            // The outcome is in the log, too.
            match administration.reload(Actor::Signal).await {
                Ok(reloaded) => supervisor.ready(&format!("Reloaded: {}", reloaded.text())),
                Err(problem) => supervisor.ready(&format!("Not reloaded, nothing changed: {problem}")),
            }
        }
    });
}

/// Fails when a key is missing without which `serve` is of no use. A client key may be in the configuration or in the database.
///
/// # Errors
///
/// As [`Config::require_keys`].
pub fn require_keys(config: &Config) -> Result<(), config::Error> {
    match config.require_keys() {
        Err(config::Error::NoClientKeys) if has_stored_key(config) => Ok(()),
        checked => checked,
    }
}

fn has_stored_key(config: &Config) -> bool {
    let now = SystemClock.now();
    let stored = storage::clients::open(&storage::journal_file(&config.storage)).and_then(|store| store.state(now));
    stored.is_ok_and(|stored| stored.keys.iter().any(|key| key.state(now).is_valid()))
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
