//! The clients and keys that were made at run time, and what the operator has decided: paused accounts, commands to a running
//! gateway, and the audit. They are in the journal's database, so a backup of one is a backup of both.
//!
//! The command line changes them beside a running gateway, which compares [`ClientStore::revision`] from time to time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{LimitOverrides, LimitPatch};
use crate::model::{AccountId, ClientId, Digest, KeyId, Timestamp};

mod sqlite;

/// The most keys that may be valid at a time.
pub(crate) const KEYS_MAX: usize = 10_000;

/// How long a key that has ended is kept, and listed.
const ENDED_KEPT: Duration = Duration::from_hours(24 * 30);

/// Returns the time since which keys that have ended are kept.
pub(crate) fn kept_since(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.millis() - i64::try_from(ENDED_KEPT.as_millis()).unwrap_or(i64::MAX))
}

/// Opens the clients in the journal's database at `path`, which must exist. A gateway may have it open.
///
/// # Errors
///
/// [`ClientStoreError`].
pub(crate) fn open(path: &Path) -> Result<Arc<dyn ClientStore>, ClientStoreError> {
    Ok(Arc::new(sqlite::SqliteClients::open(path)?))
}

/// Opens the same in the process that has the journal open, which is closed after it.
///
/// # Errors
///
/// [`ClientStoreError`].
pub(super) fn open_beside_journal(path: &Path) -> Result<Arc<dyn ClientStore>, ClientStoreError> {
    Ok(Arc::new(sqlite::SqliteClients::open_beside_journal(path)?))
}

/// A store of clients, keys and decisions. Object-safe, so that they may be kept elsewhere than in SQLite. Every method
/// blocks.
pub(crate) trait ClientStore: Send + Sync + std::fmt::Debug {
    /// Returns a number that grows with every change, whichever program makes it.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError::Storage`].
    fn revision(&self) -> Result<i64, ClientStoreError>;

    /// Reads all of it at one moment. Keys that ended before `since` are left out.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError::Storage`].
    fn state(&self, since: Timestamp) -> Result<StoredClients, ClientStoreError>;

    /// Makes a change and writes it into the audit, durably, or neither. Returns the number of its line, or of a command. `now` is
    /// asked when no other change can come in between.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError`], also when the change contradicts what is stored.
    fn change(&self, change: &Change, actor: Actor, now: &dyn Fn() -> Timestamp) -> Result<i64, ClientStoreError>;

    /// Replaces the names of the configuration. It is no change: the revision and the audit stay as they are.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError::Storage`].
    fn set_configured(&self, names: &ConfigNames) -> Result<(), ClientStoreError>;

    /// Records when keys were used last. A power cut may lose it.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError::Storage`].
    fn record_used(&self, keys: &[KeyId], at: Timestamp) -> Result<(), ClientStoreError>;

    /// Records that a command was carried out, and how that ended. Nothing happens when it was recorded before.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError::Storage`].
    fn end_command(&self, id: i64, outcome: &str, at: Timestamp) -> Result<(), ClientStoreError>;

    /// Returns how a command ended; `None` while it is pending.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError::Storage`].
    fn command_outcome(&self, id: i64) -> Result<Option<String>, ClientStoreError>;

    /// Returns lines of the audit, the newest first: at most `limit`, older than the line `before` if that is given.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError::Storage`].
    fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditLine>, ClientStoreError>;

    /// Returns lines of the audit, the oldest first: at most `limit` after the line `after`.
    ///
    /// # Errors
    ///
    /// [`ClientStoreError::Storage`].
    fn audit_after(&self, after: i64, limit: usize) -> Result<Vec<AuditLine>, ClientStoreError>;

    /// Closes the store. Every later call fails.
    fn close(&self);
}

/// All that is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct StoredClients {
    pub(crate) revision: i64,
    /// By name.
    pub(crate) clients: Vec<StoredClient>,
    /// The oldest first.
    pub(crate) keys: Vec<StoredKey>,
    pub(crate) paused_accounts: BTreeSet<AccountId>,
    pub(crate) configured: ConfigNames,
    /// Those that are pending, the oldest first.
    pub(crate) commands: Vec<StoredCommand>,
}

/// The names in the configuration of the gateway that runs, or ran last. The command line may see another configuration: what
/// its environment lacks of that of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConfigNames {
    pub(crate) clients: BTreeSet<ClientId>,
    pub(crate) accounts: BTreeSet<AccountId>,
}

/// A client of run time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredClient {
    pub(crate) name: ClientId,
    /// `None`: the default.
    pub(crate) weight: Option<f64>,
    pub(crate) limits: LimitOverrides,
    /// Ids of the models that it may use; `None`: all of them.
    pub(crate) models: Option<BTreeSet<String>>,
}

/// A key of a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredKey {
    pub(crate) id: KeyId,
    pub(crate) client: ClientId,
    /// The first characters, by which a person recognizes it.
    pub(crate) prefix: String,
    pub(crate) digest: Digest,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    /// Another key has taken its place, beside which it is valid until then.
    pub(crate) grace_ends: Option<Timestamp>,
    pub(crate) revoked: Option<Timestamp>,
    /// To a minute.
    pub(crate) last_used: Option<Timestamp>,
}

/// What a key is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    Active,
    /// Rotated, in the time of grace.
    Rotated,
    Expired,
    Revoked,
}

impl KeyState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotated => "rotated",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    pub(crate) fn is_valid(self) -> bool {
        matches!(self, Self::Active | Self::Rotated)
    }
}

impl StoredKey {
    /// Returns when the key ends by itself.
    pub(crate) fn valid_until(&self) -> Option<Timestamp> {
        match (self.expires, self.grace_ends) {
            (Some(expires), Some(grace_ends)) => Some(expires.min(grace_ends)),
            (one, other) => one.or(other),
        }
    }

    pub(crate) fn state(&self, now: Timestamp) -> KeyState {
        if self.revoked.is_some() {
            KeyState::Revoked
        } else if self.valid_until().is_some_and(|until| until <= now) {
            KeyState::Expired
        } else if self.grace_ends.is_some() {
            KeyState::Rotated
        } else {
            KeyState::Active
        }
    }
}

/// A change.
#[derive(Clone, Debug)]
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) enum Change {
    /// Makes a client with its first key. A client of this name that has no valid key is replaced.
    CreateKey {
        client: StoredClient,
        key: StoredKey,
    },
    UpdateKey {
        key: KeyId,
        client: ClientPatch,
        expires: Option<Option<Timestamp>>,
    },
    /// Adds a key to the client of another one, which ends with the grace.
    RotateKey {
        key: KeyId,
        grace_ends: Timestamp,
        new: StoredKey,
    },
    RevokeKey {
        key: KeyId,
    },
    PauseAccount(AccountId),
    ResumeAccount(AccountId),
    /// Asks a running gateway to do something.
    Request(Command),
    /// Changes nothing here: something that was done elsewhere, for the audit.
    Note {
        action: &'static str,
        subject: String,
        change: serde_json::Value,
    },
}

/// What a running gateway is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Read the configuration again.
    Reload,
    /// Forget what an account has taught.
    ForgetAccount(AccountId),
}

/// A command that is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredCommand {
    pub(crate) id: i64,
    pub(crate) command: Command,
}

/// A change of a client: only what is `Some`.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
pub(crate) struct ClientPatch {
    pub(crate) limits: LimitPatch,
    pub(crate) weight: Option<Option<f64>>,
    pub(crate) models: Option<Option<BTreeSet<String>>>,
}

impl ClientPatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.weight.is_none() && self.models.is_none()
    }

    fn apply(&self, client: &mut StoredClient) {
        self.limits.apply(&mut client.limits);
        if let Some(weight) = self.weight {
            client.weight = weight;
        }
        if let Some(models) = &self.models {
            client.models.clone_from(models);
        }
    }
}

/// Where a change comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// The holder of the admin token.
    Admin,
    CommandLine,
    /// The process itself: a signal.
    Signal,
}

impl Actor {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::CommandLine => "command line",
            Self::Signal => "signal",
        }
    }
}

/// The actions of the audit.
pub(crate) const ACTIONS: [&str; 11] = [
    "key.created",
    "key.changed",
    "key.rotated",
    "key.revoked",
    "account.paused",
    "account.resumed",
    "account.forgotten",
    "purchase.resolved",
    "configuration.reload_requested",
    "configuration.reloaded",
    "configuration.reload_failed",
];

/// One line of the audit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuditLine {
    pub(crate) id: i64,
    pub(crate) at: Timestamp,
    pub(crate) actor: String,
    /// As `key.created`.
    pub(crate) action: String,
    /// The id of the key, the name of the account, or the id of the purchase.
    pub(crate) subject: String,
    /// A JSON object, without secrets.
    pub(crate) change: serde_json::Value,
}

/// Why a store cannot be used, or a change cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientStoreError {
    #[error("there is no journal at {0}")]
    Missing(String),
    #[error("{0} is a client of the gateway's configuration, which is changed there: edit it, then reload")]
    Configured(ClientId),
    #[error("the keys in the journal cannot be used: {0}")]
    Storage(String),
    #[error(
        "{path} has version {found}, this program supports version {supported}; an older journal is migrated when the gateway starts"
    )]
    Version { path: String, found: i64, supported: i64 },
    #[error("there is no key {0}")]
    NoSuchKey(String),
    #[error("{0} has a valid key already; rotate that key to replace it, or choose another name")]
    NameTaken(ClientId),
    #[error("the key {id} is {state}; create a new key instead")]
    KeyEnded { id: KeyId, state: &'static str },
    #[error("{KEYS_MAX} keys are valid, which is the most; revoke one that is not used any more")]
    TooManyKeys,
}

#[cfg(test)]
mod tests;
