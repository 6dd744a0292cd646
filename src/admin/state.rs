//! What the handlers share, and what the API and the forms of the page do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Administration;
use super::access::Gate;
use super::error::{AdminError, not_changed, not_shown};
use super::keys::{KeyRules, KeyTerms, list_keys};
use crate::admission::Spent;
use crate::config::{ClientsConfig, Secret};
use crate::model::{AccountId, Catalogue, ClientId, Clock, PurchaseId};
use crate::storage::clients::{Actor, Change, StoredClient, StoredClients};
use crate::storage::journal::Resolution;

/// What the handlers share.
#[derive(Clone, Debug)]
pub(crate) struct AdminState {
    pub(super) administration: Administration,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) clock: Arc<dyn Clock>,
}

impl AdminState {
    pub(crate) fn new(administration: Administration, catalogue: Arc<Catalogue>, clock: Arc<dyn Clock>) -> Self {
        Self { administration, catalogue, clock }
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.administration.gate
    }

    pub(super) async fn create(&self, name: &str, terms: &KeyTerms) -> Result<CreatedKey, AdminError> {
        let configured = self.administration.configured();
        let (change, secret) = self.rules(&configured).create(name, terms)?;
        self.make_key(change, None, secret).await
    }

    pub(super) async fn update(&self, id: &str, terms: &KeyTerms) -> Result<String, AdminError> {
        let configured = self.administration.configured();
        let (stored, _) = self.administration.list().await?;
        let rules = self.rules(&configured);
        self.make(rules.update(rules.find(&stored, id)?, terms)?).await
    }

    /// As `update`, with the terms of a form, which shows all of them.
    pub(super) async fn update_shown(&self, id: &str, terms: KeyTerms) -> Result<String, AdminError> {
        let configured = self.administration.configured();
        let (stored, _) = self.administration.list().await?;
        let rules = self.rules(&configured);
        let key = rules.find(&stored, id)?;
        let client = stored.clients.iter().find(|client| client.name == key.client);
        let terms = client.map(|client| terms.clone().without_same(key, client)).unwrap_or(terms);
        self.make(rules.update(key, &terms)?).await
    }

    pub(super) async fn rotate(&self, id: &str, grace: Duration) -> Result<CreatedKey, AdminError> {
        let configured = self.administration.configured();
        let (mut stored, _) = self.administration.list().await?;
        let rules = self.rules(&configured);
        let key = rules.find(&stored, id)?;
        let (change, secret) = rules.rotate(key, grace)?;
        let client = stored.clients.iter().position(|client| client.name == key.client);
        let client = client.map(|at| stored.clients.swap_remove(at));
        self.make_key(change, client, secret).await
    }

    /// Makes a change that makes a key. `client`: whose key it is, where the change does not say so.
    async fn make_key(
        &self,
        change: Change,
        client: Option<StoredClient>,
        secret: Secret,
    ) -> Result<CreatedKey, AdminError> {
        let mut made = StoredClients { clients: client.into_iter().collect(), ..StoredClients::default() };
        match &change {
            Change::CreateKey { client, key } => {
                made.clients.push(client.clone());
                made.keys.push(key.clone());
            }
            Change::RotateKey { new, .. } => made.keys.push(new.clone()),
            Change::UpdateKey { .. }
            | Change::RevokeKey { .. }
            | Change::PauseAccount(_)
            | Change::ResumeAccount(_)
            | Change::Request(_)
            | Change::Note { .. } => {}
        }
        Ok(CreatedKey { id: self.make(change).await?, secret, made })
    }

    pub(super) async fn revoke(&self, id: &str) -> Result<String, AdminError> {
        let configured = self.administration.configured();
        let (stored, _) = self.administration.list().await?;
        let key = self.rules(&configured).find(&stored, id)?.id;
        self.make(Change::RevokeKey { key }).await
    }

    /// Records a decision about a purchase of unknown outcome.
    pub(super) async fn resolve(&self, id: &str, decision: &str) -> Result<PurchaseId, AdminError> {
        let purchase: PurchaseId = id.parse().map_err(|_| AdminError::unknown_purchase())?;
        let resolution = Resolution::from_name(decision)
            .ok_or_else(|| AdminError::invalid("decision", "must be lost, bought or resubmit"))?;
        self.administration.resolve(purchase, resolution, Actor::Admin).await?;
        Ok(purchase)
    }

    /// Pauses or resumes an account, or forgets what it has taught. Returns whether it is paused.
    pub(super) async fn decide_account(&self, name: &str, action: &str) -> Result<bool, AdminError> {
        let accounts = self.administration.accounts();
        let known = || accounts.iter().map(|(account, _)| account.to_string()).collect::<Vec<_>>();
        let account = AccountId(name.into());
        let found = accounts.iter().find(|(known, _)| *known == account);
        let (_, paused) = found.ok_or_else(|| AdminError::unknown_account(&known()))?;
        match action {
            "pause" => self.administration.change(Change::PauseAccount(account), Actor::Admin).await.map(|_| true),
            "resume" => self.administration.change(Change::ResumeAccount(account), Actor::Admin).await.map(|_| false),
            "forget" => self.administration.forget_account(&account, Actor::Admin).await.map(|_| *paused),
            _ => return Err(AdminError::unknown_route()),
        }
        .map_err(not_changed)
    }

    /// Returns what changes are prepared with.
    pub(super) fn rules<'a>(&'a self, configured: &'a ClientsConfig) -> KeyRules<'a> {
        KeyRules { configured, catalogue: &self.catalogue, now: self.clock.now() }
    }

    /// Makes a change of a key. Returns the id of the key that it is about.
    async fn make(&self, change: Change) -> Result<String, AdminError> {
        let id = match &change {
            Change::CreateKey { key, .. } | Change::RotateKey { new: key, .. } => key.id.to_string(),
            Change::UpdateKey { key, .. } | Change::RevokeKey { key } => key.to_string(),
            Change::PauseAccount(_) | Change::ResumeAccount(_) | Change::Request(_) | Change::Note { .. } => {
                String::new()
            }
        };
        self.administration.change(change, Actor::Admin).await.map_err(not_changed)?;
        Ok(id)
    }

    /// Returns a key that was changed, as it is listed.
    pub(super) async fn view(&self, id: &str) -> Result<Value, AdminError> {
        let listed = self.administration.list().await;
        let (stored, spent) = listed.map_err(not_shown)?;
        self.listed(id, &stored, &spent).ok_or_else(AdminError::unknown_route)
    }

    /// Returns a key that was made, as it is listed, with its text. It is there also when the storage cannot be read now: the text
    /// is nowhere else.
    pub(super) async fn view_made(&self, made: &CreatedKey) -> Value {
        let found = match self.administration.list().await {
            Ok((stored, spent)) => self.listed(&made.id, &stored, &spent),
            Err(error) => {
                tracing::error!(%error, "a key was made, and what its client has spent cannot be read");
                None
            }
        };
        let mut view = found.or_else(|| self.listed(&made.id, &made.made, &HashMap::new())).unwrap_or_default();
        view["key"] = json!(made.secret.expose());
        view
    }

    fn listed(&self, id: &str, stored: &StoredClients, spent: &HashMap<ClientId, Spent>) -> Option<Value> {
        let configured = self.administration.configured();
        let views = list_keys(self.rules(&configured), stored, spent);
        views.iter().find(|view| view.id == *id).map(|view| json!(view))
    }
}

/// A key that was made.
pub(super) struct CreatedKey {
    pub(super) id: String,
    pub(super) secret: Secret,
    /// The key with its client.
    made: StoredClients,
}
