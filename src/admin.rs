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
use tokio::time::Instant;

use crate::admission::{Admission, Spent, spent_by_client, start_of_month};
use crate::budget::BudgetControl;
use crate::config::ClientsConfig;
use crate::model::{AccountId, Catalogue, Clock, PurchaseId};
use crate::storage::Journal;
use crate::storage::clients::{
    Actor, AuditLine, Change, ClientStore, ClientStoreError, Command, StoredClients, StoredCommand,
};
use crate::storage::journal::{JobFilter, LedgerError, Resolution, open_ledger};

mod access;
mod error;
mod forms;
mod keys;
mod login_limiter;
mod page;
mod routes;
mod sessions;
mod state;

pub(crate) use keys::{ENDED_LISTED, KeyProblem, KeyRules, KeyTerms, KeyView, list_keys, parse_expiry, parse_grace};
pub(crate) use state::AdminState;

/// How often changes of other programs are looked for: they apply within a second.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// The largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Jobs of unknown outcome that are listed, the newest.
const UNKNOWN_JOBS_MAX: usize = 200;
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

/// Reads the configuration again, applies what it can, and returns the clients to apply. Blocks. The error says why nothing was
/// changed.
pub(crate) type Reload = Arc<dyn Fn() -> Result<(ClientsConfig, Reloaded), String> + Send + Sync>;

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
    /// The revision that was applied. Held while a change is applied, so that the newest one is applied last.
    applied: Arc<tokio::sync::Mutex<i64>>,
}

impl std::fmt::Debug for Administration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Administration")
    }
}

impl Administration {
    pub(crate) fn new(parts: Parts) -> Self {
        let configured = Arc::new(RwLock::new(parts.configured.clone()));
        Self { parts: Arc::new(parts), configured, applied: Arc::new(tokio::sync::Mutex::new(-1)) }
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
        if !expired && *self.applied.lock().await == revision {
            return Ok(());
        }
        for StoredCommand { id, command } in self.apply().await?.commands {
            let outcome = execute(self, &command).await;
            let now = self.parts.clock.now();
            self.with_store(move |store| store.end_command(id, &outcome, now)).await?;
        }
        Ok(())
    }

    /// Applies what is stored.
    async fn apply(&self) -> Result<StoredClients, ClientStoreError> {
        let mut applied = self.applied.lock().await;
        let now = self.parts.clock.now();
        let stored = self.with_store(move |store| store.state(now)).await?;
        let configured = self.configured();
        let new = self.parts.admission.update(&configured, &stored);
        if !new.is_empty() {
            let Parts { admission, journal, catalogue, .. } = &*self.parts;
            let counted = admission.count_past_purchases(&**journal, catalogue, |client| new.contains(client)).await;
            if let Err(error) = counted {
                tracing::error!(%error, "what new clients spent before is not known; their quotas begin with nothing used");
            }
        }
        self.parts.budget.set_weights(self.parts.admission.outlook().weights);
        self.parts.budget.set_paused(&stored.paused_accounts);
        *applied = stored.revision;
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
        let now = self.parts.clock.now();
        let line = self.with_store(move |store| store.change(&change, actor, now)).await?;
        // The change is durable; where it cannot be applied now, the task that watches tries again.
        if let Err(error) = self.apply().await {
            tracing::warn!(%error, "a change was stored and cannot be applied yet; it is tried again");
        }
        let written = self.with_store(move |store| store.audit(Some(line + 1), 1)).await;
        if let Ok([AuditLine { action, subject, change, .. }]) = written.as_deref() {
            tracing::info!(actor = actor.name(), action, subject, %change, "the operator made a change");
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
        let reload = Arc::clone(&self.parts.reload);
        let read = tokio::task::spawn_blocking(move || reload()).await.map_err(|error| error.to_string())?;
        let (action, change, result) = match read {
            Ok((configured, reloaded)) => {
                *self.configured.write().unwrap_or_else(PoisonError::into_inner) = configured;
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
    pub(crate) async fn list(
        &self,
    ) -> Result<(StoredClients, HashMap<crate::model::ClientId, Spent>), ClientStoreError> {
        self.store_used().await;
        let Parts { journal, catalogue, clock, .. } = &*self.parts;
        let since = crate::model::Timestamp::from_millis(
            clock.now().millis() - i64::try_from(ENDED_LISTED.as_millis()).unwrap_or(i64::MAX),
        );
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

/// Executes a command of another program. Returns how that ended.
async fn execute(administration: &Administration, command: &Command) -> String {
    match command {
        Command::Reload => match administration.reload(Actor::CommandLine).await {
            Ok(reloaded) => format!("ok: {}", reloaded.text()),
            Err(problem) => format!("failed: {problem}"),
        },
        Command::ForgetAccount(account) if administration.parts.budget.forget(account) => {
            tracing::info!(%account, "the operator had what was learned of the account forgotten; it is learned again");
            "ok: forgotten".to_owned()
        }
        Command::ForgetAccount(account) => format!("failed: {account} is no account of the configuration"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::Document;
    use crate::openapi::test_support::differences;

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
