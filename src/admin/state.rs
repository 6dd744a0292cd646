//! What the handlers share, and what the API and the forms of the page do.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Administration;
use super::access::Gate;
use super::error::AdminError;
use super::keys::{KeyRules, KeyTerms, list_keys};
use crate::config::{ClientsConfig, Secret};
use crate::model::{AccountId, Catalogue, Clock, PurchaseId};
use crate::storage::clients::{Actor, Change};
use crate::storage::journal::Resolution;

/// What the handlers share.
#[derive(Clone, Debug)]
pub(crate) struct AdminState {
    pub(super) administration: Administration,
    pub(super) gate: Gate,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) clock: Arc<dyn Clock>,
}

impl AdminState {
    /// `token` is the admin token; without one every route answers how to switch the administration on.
    pub(crate) fn new(
        administration: Administration,
        token: Option<&Secret>,
        catalogue: Arc<Catalogue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { administration, gate: Gate::new(token), catalogue, clock }
    }

    pub(super) async fn create(&self, name: &str, terms: &KeyTerms) -> Result<(String, Secret), AdminError> {
        let configured = self.administration.configured();
        let (change, secret) = self.rules(&configured).create(name, terms)?;
        Ok((self.make(change).await?, secret))
    }

    pub(super) async fn update(&self, id: &str, terms: &KeyTerms) -> Result<String, AdminError> {
        let configured = self.administration.configured();
        let (stored, _) = self.administration.list().await?;
        let rules = self.rules(&configured);
        self.make(rules.update(rules.find(&stored, id)?, terms)?).await
    }

    pub(super) async fn rotate(&self, id: &str, grace: Duration) -> Result<(String, Secret), AdminError> {
        let configured = self.administration.configured();
        let (stored, _) = self.administration.list().await?;
        let rules = self.rules(&configured);
        let (change, secret) = rules.rotate(rules.find(&stored, id)?, grace)?;
        Ok((self.make(change).await?, secret))
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
        .map_err(AdminError::from)
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
        self.administration.change(change, Actor::Admin).await?;
        Ok(id)
    }

    /// Returns one key as it is listed, with its text where it was just made.
    pub(super) async fn view(&self, id: &str, secret: Option<&Secret>) -> Result<Value, AdminError> {
        let (stored, spent) = self.administration.list().await?;
        let configured = self.administration.configured();
        let views = list_keys(self.rules(&configured), &stored, &spent);
        let found = views.iter().find(|view| view.id == *id).ok_or_else(AdminError::unknown_route)?;
        let mut view = json!(found);
        if let Some(secret) = secret {
            view["key"] = json!(secret.expose());
        }
        Ok(view)
    }
}
