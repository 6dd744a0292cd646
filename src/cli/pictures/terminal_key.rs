//! The key of one command for the gateway of the configuration, made in its storage, which only the operator can write.

use std::time::Duration;

use crate::admin::{KeyRules, KeyTerms};
use crate::cli::store::{CommandError, StoredGateway};
use crate::config::{Config, Secret};
use crate::model::{Clock, KeyId, SystemClock};
use crate::storage::clients::{Actor, Change, ClientStoreError};

/// The client of the terminal. Its jobs stay its own, whichever key asks for them.
const NAME: &str = "terminal";
/// For a command that is killed, and for jobs that go on without their command.
const LIFETIME: Duration = Duration::from_hours(1);
/// How often a key is prepared again because other commands have made or ended one meanwhile.
const ATTEMPTS_MAX: u32 = 20;

/// A key that was made for this command.
#[derive(Debug)]
pub(super) struct TerminalKey {
    gateway: StoredGateway,
    id: KeyId,
}

impl TerminalKey {
    /// Makes a key. A gateway that runs accepts it within a second.
    ///
    /// # Errors
    ///
    /// When there is no storage, it cannot be written, or no gateway runs on it.
    pub(super) fn make(config: &Config) -> Result<(Secret, Self), CommandError> {
        let gateway = StoredGateway::open(config, false)?;
        if !gateway.has_gateway() {
            return Err(CommandError::new("no gateway runs on its storage"));
        }
        for _ in 0..ATTEMPTS_MAX {
            let (change, id, secret) = prepare(config, &gateway)?;
            match gateway.store.change(&change, Actor::CommandLine, SystemClock.now()) {
                Ok(_) => return Ok((secret, Self { gateway, id })),
                Err(ClientStoreError::NameTaken(_) | ClientStoreError::KeyEnded { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CommandError::new("other commands make keys at the same time"))
    }

    /// Revokes the key. One that cannot be revoked expires.
    pub(super) fn end(&self) {
        let _ = self.gateway.change(&Change::RevokeKey { key: self.id });
    }
}

/// Prepares another key beside those of the client, or the client with its first one. Its limits stay as they are.
fn prepare(config: &Config, gateway: &StoredGateway) -> Result<(Change, KeyId, Secret), CommandError> {
    let now = SystemClock.now();
    let rules = KeyRules { configured: &config.clients, catalogue: &config.catalogue, now };
    let stored = gateway.store.state(now)?;
    let valid = stored.keys.iter().rfind(|key| &*key.client.0 == NAME && key.state(now).is_valid());
    let (mut change, secret) = match valid {
        Some(key) => rules.rotate(key, LIFETIME)?,
        None => rules.create(NAME, &KeyTerms::default())?,
    };
    if let Change::CreateKey { client, .. } = &mut change
        && let Some(known) = stored.clients.iter().find(|known| known.name == client.name)
    {
        client.clone_from(known);
    }
    let (Change::CreateKey { key, .. } | Change::RotateKey { new: key, .. }) = &mut change else {
        return Err(CommandError::new("no key was made"));
    };
    key.expires = Some(now.plus(LIFETIME));
    let id = key.id;
    Ok((change, id, secret))
}
