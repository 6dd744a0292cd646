//! Administration while the gateway runs: client keys, purchases of unknown outcome, accounts, the configuration. Changes come
//! from the operator over HTTP (`admin/routes.rs`), from the command line beside the gateway, and as signals; they are stored
//! (`storage/clients.rs`) and then applied.
//!
//! What another program has stored is noticed within [`WATCH_INTERVAL`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::map_response;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use crate::admission::{Admission, Spent, spent_by_client, start_of_month};
use crate::budget::BudgetControl;
use crate::config::{ClientsConfig, Secret};
use crate::model::{AccountId, Catalogue, ClientId, Clock, PurchaseId};
use crate::storage::Journal;
use crate::storage::clients::{
    ACTIONS, Actor, AuditLine, Change, ClientStore, ClientStoreError, Command, ConfigNames, StoredClients,
    StoredCommand, kept_since,
};
use crate::storage::journal::{JobFilter, LedgerError, Resolution, open_ledger};
use crate::telemetry::Metrics;

mod access;
mod error;
mod forms;
mod keys;
mod login_limiter;
mod page;
mod routes;
mod sessions;
mod state;

use access::Gate;
pub(crate) use keys::{KeyProblem, KeyRules, KeyTerms, KeyView, list_keys, parse_expiry, parse_grace};
pub(crate) use state::AdminState;

/// How often changes of other programs are looked for: they apply within a second.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// The largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Jobs of unknown outcome that are listed, the newest.
const UNKNOWN_JOBS_MAX: usize = 200;
/// Lines of the audit that are logged at a time.
const LOGGED_AT_ONCE: usize = 1000;
/// How often it is stored which keys were used.
const USED_INTERVAL: Duration = Duration::from_mins(1);

/// What a reload of the configuration did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Reloaded {
    /// Sections and keys that are in force from now on.
    pub(crate) changed: Vec<String>,
    /// Sections and keys that changed in the file and are not in force before a restart.
    pub(crate) needs_restart: Vec<String>,
}

impl Reloaded {
    /// Returns one sentence or two.
    pub(crate) fn text(&self) -> String {
        let changed = if self.changed.is_empty() {
            "nothing changed that is in force now".to_owned()
        } else {
            format!("in force now: {}", self.changed.join(", "))
        };
        if self.needs_restart.is_empty() {
            return changed;
        }
        format!("{changed}; needs a restart: {}", self.needs_restart.join(", "))
    }
}

/// A purchase of unknown outcome that is not decided.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct UnknownPurchase {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) client: String,
    pub(crate) model: String,
    /// In seconds since the Unix epoch.
    pub(crate) created: i64,
    pub(crate) pictures: u8,
}

/// What was read again, and is applied here.
#[derive(Clone, Debug)]
pub(crate) struct ConfigRead {
    pub(crate) clients: ClientsConfig,
    pub(crate) admin_token: Option<Secret>,
    pub(crate) reloaded: Reloaded,
}

/// Reads the configuration again, and applies what it can. Blocks. The error says why nothing was changed.
pub(crate) type Reload = Arc<dyn Fn() -> Result<ConfigRead, String> + Send + Sync>;

/// What the administration is built from.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn ClientStore>,
    pub(crate) journal: Arc<dyn Journal>,
    /// The file of the journal, for decisions about purchases.
    pub(crate) journal_file: PathBuf,
    pub(crate) admission: Admission,
    pub(crate) budget: BudgetControl,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) configured: ClientsConfig,
    /// `None`: the administration over HTTP is off.
    pub(crate) admin_token: Option<Secret>,
    pub(crate) metrics: Metrics,
    pub(crate) reload: Reload,
}

/// Returns the routes of the administration: the API, and the page with its forms.
pub(crate) fn router(state: AdminState) -> Router {
    routes::router(&state)
        .merge(forms::router())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(map_response(no_store))
        .with_state(state)
}

/// Keeps answers out of every cache.
async fn no_store(mut response: Response) -> Response {
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Handle to the administration. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Administration {
    parts: Arc<Parts>,
    configured: Arc<RwLock<ClientsConfig>>,
    gate: Gate,
    changes: Family<ActionLabel, Counter>,
    /// Held while a change is applied, so that the newest one is applied last.
    applied: Arc<tokio::sync::Mutex<Applied>>,
    /// Held while the configuration is read and applied, so that the file that was read last is applied last.
    reloading: Arc<tokio::sync::Mutex<()>>,
}

/// An action of the audit, as `key.created`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabel {
    action: String,
}

/// What was applied last.
#[derive(Debug, Default)]
struct Applied {
    revision: Option<i64>,
    /// The last line of the audit that is in the log.
    logged: Option<i64>,
}

impl std::fmt::Debug for Administration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Administration")
    }
}

impl Administration {
    pub(crate) fn new(parts: Parts) -> Self {
        let configured = Arc::new(RwLock::new(parts.configured.clone()));
        let gate = Gate::new(parts.admin_token.as_ref(), &parts.metrics);
        let changes = Family::<ActionLabel, Counter>::default();
        for action in ACTIONS {
            changes.get_or_create_owned(&ActionLabel { action: action.to_owned() });
        }
        parts.metrics.register("admin", |registry| {
            registry.register("changes", "Changes by the operator, by action, however they are made", changes.clone());
        });
        let (applied, reloading) = (Arc::default(), Arc::default());
        Self { parts: Arc::new(parts), configured, gate, changes, applied, reloading }
    }

    /// Applies what other programs store, and stores which keys are used. Runs forever.
    pub(crate) async fn run(self) {
        let mut stored = Instant::now();
        let mut is_readable = true;
        loop {
            let readable = self.watch().await;
            if let Err(error) = &readable
                && is_readable
            {
                tracing::error!(%error, "the keys of clients cannot be read; changes of them are not applied until they can");
            }
            is_readable = readable.is_ok();
            if stored.elapsed() >= USED_INTERVAL {
                stored = Instant::now();
                self.store_used().await;
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }

    async fn watch(&self) -> Result<(), ClientStoreError> {
        let now = self.parts.clock.now();
        let expired = self.parts.admission.outlook().next_expiry.is_some_and(|expiry| expiry <= now);
        let revision = self.with_store(|store| store.revision()).await?;
        if !expired && self.applied.lock().await.revision == Some(revision) {
            return Ok(());
        }
        for StoredCommand { id, command } in self.apply().await?.commands {
            let outcome = execute(self, &command).await;
            let now = self.parts.clock.now();
            self.with_store(move |store| store.end_command(id, &outcome, now)).await?;
        }
        Ok(())
    }

    /// Applies what is stored, and logs every change, also those of other processes.
    async fn apply(&self) -> Result<StoredClients, ClientStoreError> {
        let mut applied = self.applied.lock().await;
        let now = self.parts.clock.now();
        let stored = self.with_store(move |store| store.state(now)).await?;
        let configured = self.configured();
        let Parts { admission, journal, catalogue, budget, .. } = &*self.parts;
        let updated = admission.update(&configured, &stored, &**journal, catalogue).await;
        budget.set_weights(admission.outlook().weights);
        budget.set_paused(&stored.paused_accounts);
        log_changes(self, &mut applied).await?;
        let names = ConfigNames {
            clients: configured.entries.iter().map(|client| ClientId(client.name.as_str().into())).collect(),
            accounts: self.accounts().into_iter().map(|(account, _)| account).collect(),
        };
        if names != stored.configured {
            self.with_store(move |store| store.set_configured(&names)).await?;
        }
        // They are tried again: without it, their quotas would begin with nothing used.
        updated.map_err(|error| ClientStoreError::Storage(format!("what new clients spent before: {error}")))?;
        applied.revision = Some(stored.revision);
        Ok(stored)
    }

    /// Stores which keys were used, as far as that is possible at present.
    pub(crate) async fn store_used(&self) {
        let (keys, now) = (self.parts.admission.take_used_keys(), self.parts.clock.now());
        if !keys.is_empty()
            && let Err(error) = self.with_store(move |store| store.record_used(&keys, now)).await
        {
            tracing::warn!(%error, "when keys were used last could not be stored; the list of keys shows older times");
        }
    }

    /// Makes a change, and applies it before it returns. Returns the number of its line in the audit.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError`]: nothing was changed.
    pub(crate) async fn change(&self, change: Change, actor: Actor) -> Result<i64, ClientStoreError> {
        let clock = Arc::clone(&self.parts.clock);
        let line = self.with_store(move |store| store.change(&change, actor, &|| clock.now())).await?;
        // The change is durable; where it cannot be applied now, the task that watches tries again.
        if let Err(error) = self.apply().await {
            tracing::warn!(%error, "a change was stored and cannot be applied yet; it is tried again");
        }
        Ok(line)
    }

    /// Records an operator's decision about a purchase of unknown outcome.
    ///
    /// # Errors
    ///
    /// [`LedgerError`], also when the outcome is not unknown.
    pub(crate) async fn resolve(
        &self,
        purchase: PurchaseId,
        resolution: Resolution,
        actor: Actor,
    ) -> Result<(), LedgerError> {
        let (file, now) = (self.parts.journal_file.clone(), self.parts.clock.now());
        let resolved =
            tokio::task::spawn_blocking(move || open_ledger(&file)?.resolve(purchase, resolution, now)).await;
        resolved.map_err(|error| LedgerError::Storage(error.to_string()))??;
        let change = serde_json::json!({ "decision": resolution.name() });
        let note = Change::Note { action: "purchase.resolved", subject: purchase.to_string(), change };
        if let Err(error) = self.change(note, actor).await {
            tracing::warn!(%error, %purchase, "a decision about a purchase is stored, but not in the audit");
        }
        Ok(())
    }

    /// Forgets what an account has taught; returns whether it is configured.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError`] when the audit cannot be written: nothing was forgotten.
    pub(crate) async fn forget_account(&self, account: &AccountId, actor: Actor) -> Result<bool, ClientStoreError> {
        if !self.accounts().iter().any(|(known, _)| known == account) {
            return Ok(false);
        }
        let note =
            Change::Note { action: "account.forgotten", subject: account.to_string(), change: serde_json::json!({}) };
        self.change(note, actor).await?;
        Ok(self.parts.budget.forget(account))
    }

    /// Returns the accounts of the configuration, and whether each is paused.
    pub(crate) fn accounts(&self) -> Vec<(AccountId, bool)> {
        self.parts.budget.accounts()
    }

    /// Reads the configuration again and applies it.
    ///
    /// # Errors
    ///
    /// Why nothing was changed: one line.
    pub(crate) async fn reload(&self, actor: Actor) -> Result<Reloaded, String> {
        let _reloading = self.reloading.lock().await;
        let reload = Arc::clone(&self.parts.reload);
        let read = tokio::task::spawn_blocking(move || reload()).await.map_err(|error| error.to_string())?;
        let (action, change, result) = match read {
            Ok(ConfigRead { clients, admin_token, reloaded }) => {
                *self.configured.write().unwrap_or_else(PoisonError::into_inner) = clients;
                self.gate.set_token(admin_token.as_ref());
                tracing::info!(actor = actor.name(), "configuration reloaded; {}", reloaded.text());
                ("configuration.reloaded", serde_json::json!(reloaded), Ok(reloaded))
            }
            Err(problem) => {
                tracing::error!(actor = actor.name(), %problem, "the configuration was not reloaded; nothing changed");
                ("configuration.reload_failed", serde_json::json!({ "problem": problem }), Err(problem))
            }
        };
        // Its application is that of the clients, too.
        let note = Change::Note { action, subject: String::new(), change };
        if let Err(error) = self.change(note, actor).await {
            tracing::warn!(%error, "a reload is not in the audit");
            let _ = self.apply().await;
        }
        result
    }

    /// Returns what is stored, with keys that have ended lately, and what clients have spent.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError`].
    pub(crate) async fn list(&self) -> Result<(StoredClients, HashMap<ClientId, Spent>), ClientStoreError> {
        self.store_used().await;
        let Parts { journal, catalogue, clock, .. } = &*self.parts;
        let since = kept_since(clock.now());
        let stored = self.with_store(move |store| store.state(since)).await?;
        let used = journal.quota_used_since(start_of_month(&**clock)).await;
        let used = used.map_err(|error| ClientStoreError::Storage(error.to_string()))?;
        Ok((stored, spent_by_client(used, catalogue, clock)))
    }

    /// Returns the purchases of unknown outcome that are not decided.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub(crate) async fn unknown_purchases(&self) -> Result<Vec<UnknownPurchase>, LedgerError> {
        let file = self.parts.journal_file.clone();
        let filter =
            JobFilter { states: vec!["unknown".to_owned()], limit: Some(UNKNOWN_JOBS_MAX), ..JobFilter::default() };
        let list = move || open_ledger(&file)?.list(&filter);
        let jobs =
            tokio::task::spawn_blocking(list).await.map_err(|error| LedgerError::Storage(error.to_string()))??;
        let purchases = jobs.iter().flat_map(|job| {
            let unknown = job
                .purchases
                .iter()
                .filter(|purchase| purchase.state.name() == "unknown" && purchase.resolution.is_none());
            unknown.map(|purchase| UnknownPurchase {
                id: purchase.id.to_string(),
                object: "purchase",
                client: job.record.client.to_string(),
                model: job.record.model.to_string(),
                created: job.record.created.seconds(),
                pictures: purchase.pictures,
            })
        });
        Ok(purchases.collect())
    }

    /// Returns lines of the audit, the newest first.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError`].
    pub(crate) async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditLine>, ClientStoreError> {
        self.with_store(move |store| store.audit(before, limit)).await
    }

    /// Returns the clients of the configuration, and the limits of those that name none.
    pub(crate) fn configured(&self) -> ClientsConfig {
        self.configured.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn with_store<T: Send + 'static>(
        &self,
        run: impl FnOnce(&dyn ClientStore) -> Result<T, ClientStoreError> + Send + 'static,
    ) -> Result<T, ClientStoreError> {
        let store = Arc::clone(&self.parts.store);
        let run = tokio::task::spawn_blocking(move || run(&*store));
        run.await.map_err(|error| ClientStoreError::Storage(error.to_string()))?
    }
}

/// Writes the lines of the audit that are new since the start into the log, and counts them.
async fn log_changes(administration: &Administration, applied: &mut Applied) -> Result<(), ClientStoreError> {
    let Some(logged) = applied.logged else {
        let newest = administration.with_store(|store| store.audit(None, 1)).await?;
        applied.logged = Some(newest.first().map_or(0, |line| line.id));
        return Ok(());
    };
    let lines = administration.with_store(move |store| store.audit_after(logged, LOGGED_AT_ONCE)).await?;
    for AuditLine { id, actor, action, subject, change, .. } in lines {
        tracing::info!(actor, action, subject, %change, "the operator made a change");
        administration.changes.get_or_create(&ActionLabel { action }).inc();
        applied.logged = Some(id);
    }
    Ok(())
}

/// Executes a command of another program. Returns how that ended.
async fn execute(administration: &Administration, command: &Command) -> String {
    match command {
        Command::Reload => match administration.reload(Actor::CommandLine).await {
            Ok(reloaded) => format!("ok: {}", reloaded.text()),
            Err(problem) => format!("failed: {problem}"),
        },
        Command::ForgetAccount(account) if administration.parts.budget.forget(account) => "ok: forgotten".to_owned(),
        Command::ForgetAccount(account) => format!("failed: {account} is no account of the configuration"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::budget::{Budget, Learned};
    use crate::config::{Config, Environment};
    use crate::model::SystemClock;
    use crate::openapi::Document;
    use crate::openapi::test_support::differences;
    use crate::storage::{clients, journal};

    fn config(keys: &str) -> Config {
        let keys = Environment::from([("GATEWAY_CLIENT_KEYS".to_owned(), keys.to_owned())]);
        Config::load(None, &keys).unwrap()
    }

    fn administration(directory: &std::path::Path, config: Config, reload: Reload) -> Administration {
        let (journal_file, metrics) = (directory.join("journal.sqlite"), Metrics::default());
        let journal = journal::open(&journal_file).unwrap();
        let store = clients::open(&journal_file).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stored = store.state(clock.now()).unwrap();
        let responses = &config.server.responses;
        let admission = Admission::new(&config.clients, &stored, responses, Arc::clone(&clock), &metrics);
        let budget = Budget::new(&config.upstream, &config.accounts, HashMap::new(), Learned::default(), &metrics);
        Administration::new(Parts {
            store,
            journal,
            journal_file,
            admission,
            budget: BudgetControl::of(&budget),
            catalogue: Arc::new(config.catalogue),
            clock,
            configured: config.clients,
            admin_token: None,
            metrics,
            reload,
        })
    }

    #[tokio::test]
    async fn of_two_reloads_at_once_the_file_that_was_read_last_is_in_force() {
        let directory = tempfile::tempdir().unwrap();
        let reads = AtomicUsize::new(0);
        // The first one reads the file as it was, and takes longer.
        let reload: Reload = Arc::new(move || {
            let is_first = reads.fetch_add(1, Ordering::Relaxed) == 0;
            let keys = if is_first { "alice:0123456789abcdef" } else { "bob:fedcba9876543210" };
            if is_first {
                std::thread::sleep(Duration::from_millis(300));
            }
            Ok(ConfigRead { clients: config(keys).clients, admin_token: None, reloaded: Reloaded::default() })
        });
        let administration = administration(directory.path(), config("alice:0123456789abcdef"), reload);
        let (first, second) =
            tokio::join!(administration.reload(Actor::Signal), administration.reload(Actor::CommandLine));
        first.and(second).unwrap();
        let names: Vec<String> = administration.configured().entries.into_iter().map(|client| client.name).collect();
        assert_eq!(names, ["bob"]);
        assert!(administration.parts.admission.client("0123456789abcdef").is_none(), "alice was removed");
        let known = administration.with_store(|store| store.state(SystemClock.now())).await.unwrap().configured;
        assert_eq!(known.clients, [ClientId("bob".into())].into(), "for the command line");
    }

    #[test]
    fn the_document_has_these_routes_and_no_others() {
        let document = Document::of_operator();
        let mut routes = routes::table();
        routes.extend(forms::table());
        let is_own = |path: &str| path.starts_with("/admin");
        assert_eq!(differences(&document, &routes, is_own), Vec::<String>::new());
        routes.remove(0);
        assert_eq!(differences(&document, &routes, is_own), ["get /admin/keys"]);
    }
}
