//! All of a gateway but its listeners: storage, the upstream, clients and the engine, built once, top to bottom.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::simulator;
use crate::admission::Admission;
use crate::api;
use crate::budget::{Budget, BudgetControl};
use crate::config::{Config, StorageConfig};
use crate::engine::{self, Engine};
use crate::input_urls::InputUrls;
use crate::lifecycle::{Lifecycle, Supervisor};
use crate::model::{Catalogue, Clock as _, CompletionListener, JobId, Rng, SystemClock, UnattendedFailure};
use crate::storage::clients::ClientStore;
use crate::storage::journal::Standing;
use crate::storage::{self, Journal, SigningKey, Storage, StorageError, StorageLock};
use crate::telemetry::Metrics;
use crate::telemetry::recent::RecentRequests;
use crate::upstream::{GptProto, Upstream};
use crate::webhooks::{self, Webhooks};
use learned::{BUDGET_STATE, FORMAT_STATE, FormatState, LATENCY_STATE, Learned};

pub(super) mod learned;
pub(super) mod readiness;

/// How often the standing of the storage is looked at.
const STORAGE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a data directory that another gateway uses is looked at.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// The modules below the listeners. They run until `lifecycle` has drained.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) engine: Engine,
    pub(super) admission: Admission,
    pub(super) webhooks: Webhooks,
    pub(super) budget: Budget,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) input_urls: Option<InputUrls>,
    pub(super) signing_key: SigningKey,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) clients: Arc<dyn ClientStore>,
    pub(super) storage: OpenStorage,
    /// For questions that the engine never asks.
    pub(super) gptproto: GptProto,
}

/// What is open until the process ends.
#[derive(Debug)]
pub(super) struct OpenStorage {
    learned: Learned,
    lock: StorageLock,
}

/// Opens the storage. While another gateway uses it, waits until that one has ended, for `storage.lock_wait_s` at most.
///
/// # Errors
///
/// When the journal is still in use then, or damaged.
pub(super) async fn open_storage(
    config: &Config,
    supervisor: &Supervisor,
    metrics: &Metrics,
) -> Result<Storage, StorageError> {
    let StorageConfig { lock_wait, directory, .. } = &config.storage;
    let waited_seconds = Gauge::<f64, AtomicU64>::default();
    metrics.register("storage", |registry| {
        let help = "Time that the start waited for another gateway to end that used the data directory";
        registry.register("lock_wait_seconds", help, waited_seconds.clone());
    });
    let begun = Instant::now();
    let mut waits = false;
    loop {
        let error = match storage::open(&config.storage, &config.cache, rand::random(), metrics).await {
            Err(error) if error.is_in_use() && begun.elapsed() < *lock_wait => error,
            opened => {
                if waits && opened.is_ok() {
                    waited_seconds.set(begun.elapsed().as_secs_f64());
                    tracing::info!(seconds = begun.elapsed().as_secs_f64(), "the other gateway has ended; starting");
                    supervisor.status("Starting");
                }
                return opened;
            }
        };
        if !waits {
            waits = true;
            let seconds = lock_wait.as_secs();
            tracing::warn!(%error, "waiting for the other gateway to end, for {seconds} s at most (storage.lock_wait_s)");
            let directory = directory.display();
            supervisor
                .status(&format!("Waiting until another gateway has ended that uses {directory}, {seconds} s at most"));
        }
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

impl Backend {
    /// Starts the modules above a storage. `upstream` completes the upstream's client.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read or written.
    pub(super) async fn start(
        config: &Config,
        opened: Storage,
        sandbox: bool,
        lifecycle: &Lifecycle,
        metrics: &Metrics,
        recent: &RecentRequests,
        upstream: impl FnOnce(GptProto) -> Arc<dyn Upstream>,
    ) -> anyhow::Result<Self> {
        let clock = Arc::new(SystemClock);
        let catalogue = Arc::new(config.catalogue.clone());

        // 1. Storage.
        let cache = &config.cache;
        let Storage { journal, clients, results, spool, state, room, signing_key, lock } = opened;
        if sandbox {
            simulator::write_sample(&config.storage.directory)?;
        }

        // 2. Clients: what they may ask for. Those of run time are in the journal's database.
        let now = clock.now();
        let store = Arc::clone(&clients);
        let stored = tokio::task::spawn_blocking(move || store.state(now)).await??;
        let admission =
            Admission::new(&config.clients, &stored, &config.server.responses, Arc::clone(&clock) as Arc<_>, metrics);
        admission.count_past_purchases(&*journal, &catalogue).await?;

        // 3. Upstream: what may be sent, and how.
        if let Some(variable) = config.upstream.unused_proxy_variable() {
            tracing::warn!(
                "{variable} is set and not used: calls to the upstream go out directly; set upstream.proxy to use a proxy"
            );
        }
        let weights = admission.outlook().weights;
        let learned_limits = state.read(BUDGET_STATE).unwrap_or_default();
        let budget = Budget::new(&config.upstream, &config.accounts, weights, learned_limits, metrics);
        let (inputs, addresses) = (&config.upstream.inputs, &config.server.addresses);
        let input_urls = inputs
            .published_below(addresses, config.upstream.api, config.upstream.is_loopback())
            .map(|base| InputUrls::new(base.clone(), config.upstream.input_url_ttl));
        let gptproto = GptProto::new(&config.upstream, &config.accounts, Arc::clone(&catalogue), input_urls.clone())
            .map_err(|error| anyhow::anyhow!("cannot build the upstream client: {error}"))?
            .measured_by(metrics);

        BudgetControl::of(&budget).set_paused(&stored.paused_accounts);

        // 4. How clients are notified.
        let rng = Rng::from_entropy();
        let parts = webhooks::Parts {
            journal: Arc::clone(&journal),
            clock: Arc::clone(&clock) as Arc<_>,
            rng: rng.clone(),
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
        };
        let (webhooks, announced) =
            Webhooks::new(&config.webhooks, parts).context("cannot build the client that sends webhooks")?;

        // 5. Engine. It resumes the jobs that the journal lists as unfinished.
        let undecided = engine::Undecided::default();
        let parts = engine::Parts {
            clock: Arc::clone(&clock) as Arc<_>,
            rng,
            catalogue: Arc::clone(&catalogue),
            journal: Arc::clone(&journal),
            results,
            room,
            spool,
            budget: budget.clone(),
            quotas: Arc::new(admission.clone()),
            completion_listener: Arc::new(EndedJobs { webhooks: webhooks.clone(), recent: recent.clone() }),
            upstream: upstream(gptproto.clone()),
            lifecycle: lifecycle.clone(),
            metrics: metrics.clone(),
            undecided: undecided.clone(),
            state: state.clone(),
            learned: state.read(LATENCY_STATE),
            publishes_inputs: input_urls.is_some(),
            picture_limits: config.server.requests.picture_limits(),
            formats: (state.read(FORMAT_STATE).unwrap_or_default(), Arc::new(FormatState(state.clone())) as Arc<_>),
        };
        let engine = Engine::start(parts, &config.upstream, cache, &config.storage).await?;
        undecided.read(&*journal, &catalogue).await?;
        let learned = Learned { state, budget: budget.clone(), engine: engine.clone() };
        lifecycle.spawn_service("budget", budget.clone().run());
        // After the engine: jobs that ended while the gateway was down are in the journal by now.
        lifecycle.spawn_service("webhooks", webhooks.clone().run(announced));
        lifecycle.spawn_service("undecided", undecided.follow(Arc::clone(&journal), Arc::clone(&catalogue)));
        lifecycle.spawn_service("learned", learned.clone().save_regularly());
        lifecycle.spawn_service("storage", stop_when_failed(engine.clone(), lifecycle.clone()));
        let storage = OpenStorage { learned, lock };
        Ok(Self {
            engine,
            admission,
            webhooks,
            budget,
            catalogue,
            input_urls,
            signing_key,
            journal,
            clients,
            storage,
            gptproto,
        })
    }
}

/// Passes on what the engine says of jobs that have ended.
#[derive(Debug)]
struct EndedJobs {
    webhooks: Webhooks,
    recent: RecentRequests,
}

impl CompletionListener for EndedJobs {
    fn ended(&self, job: JobId) {
        self.webhooks.ended(job);
    }

    fn failed_unattended(&self, failed: UnattendedFailure) {
        api::record_unattended(&self.recent, failed, SystemClock.now());
    }
}

impl OpenStorage {
    /// Saves what was learned and closes the journal, after everything else has stopped.
    pub(super) async fn close(self) {
        // Before the journal, whose lock keeps the next gateway from reading these files.
        self.learned.save();
        self.lock.close().await;
    }
}

/// Stops the gateway when its storage has failed: only the next start reads back what is on the disk.
async fn stop_when_failed(engine: Engine, lifecycle: Lifecycle) {
    while engine.storage_standing() != Standing::Failed {
        tokio::time::sleep(STORAGE_INTERVAL).await;
    }
    tracing::error!(
        "the storage has failed; the gateway finishes what is under way and exits with an error, and its next start resumes the rest"
    );
    lifecycle.fail();
}
