//! A key of an hour for the gateway of the configuration, made in its storage, which only the operator can write.

use std::time::Duration;

use crate::admin::{KeyRules, KeyTerms};
use crate::cli::store::{CommandError, StoredGateway};
use crate::config::{Config, Secret};
use crate::model::{Clock, SystemClock};
use crate::storage::clients::{Change, KeyState};

/// The client of the terminal. Its jobs stay its own, whichever key asks for them.
const NAME: &str = "terminal";
const LIFETIME: Duration = Duration::from_hours(1);

/// Makes a key. A gateway that runs accepts it within a second.
///
/// # Errors
///
/// When there is no storage, it cannot be written, or no gateway runs on it.
pub(super) fn make(config: &Config) -> Result<Secret, CommandError> {
    let gateway = StoredGateway::open(config, false)?;
    if !gateway.has_gateway() {
        return Err(CommandError::new("no gateway runs on its storage"));
    }
    let now = SystemClock.now();
    let expires = now.plus(LIFETIME);
    let rules = KeyRules { configured: &config.clients, catalogue: &config.catalogue, now };
    let stored = gateway.store.state(now)?;
    let active = stored.keys.iter().find(|key| &*key.client.0 == NAME && key.state(now) == KeyState::Active);
    let (mut change, secret) = match active {
        Some(key) => rules.rotate(key, LIFETIME)?,
        None => rules.create(NAME, &KeyTerms { expires: Some(Some(expires)), ..KeyTerms::default() })?,
    };
    if let Change::RotateKey { new, .. } = &mut change {
        new.expires = Some(expires);
    }
    gateway.change(&change)?;
    Ok(secret)
}
