//! Where the commands find what is stored, with or without a gateway that runs on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::model::{Clock, SystemClock};
use crate::storage::clients::{self, Actor, Change, ClientStore, ClientStoreError, Command};
use crate::storage::{journal, journal_file};

/// How long a command waits for the gateway to carry it out.
const OUTCOME_WAIT: Duration = Duration::from_secs(10);
const OUTCOME_INTERVAL: Duration = Duration::from_millis(50);

/// Why a command failed: one line.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct CommandError {
    problem: String,
    /// The arguments are wrong.
    pub is_usage: bool,
}

impl CommandError {
    pub(super) fn new(problem: impl std::fmt::Display) -> Self {
        Self { problem: problem.to_string(), is_usage: false }
    }

    pub(super) fn usage(problem: impl std::fmt::Display) -> Self {
        Self { problem: problem.to_string(), is_usage: true }
    }
}

impl From<ClientStoreError> for CommandError {
    fn from(error: ClientStoreError) -> Self {
        Self::new(error)
    }
}

/// The storage of a gateway, as the commands see it.
#[derive(Debug)]
pub(super) struct StoredGateway {
    pub(super) store: Arc<dyn ClientStore>,
    pub(super) journal: PathBuf,
}

impl StoredGateway {
    /// Returns the file of the journal, whether it exists or not.
    pub(super) fn journal(config: &Config, sandbox: bool) -> PathBuf {
        let mut storage = config.storage.clone();
        if sandbox {
            storage.directory = storage.sandbox();
        }
        journal_file(&storage)
    }

    /// Opens the storage that the configuration names.
    ///
    /// # Errors
    ///
    /// [`CommandError`] when no gateway has run there, or one of another version.
    pub(super) fn open(config: &Config, sandbox: bool) -> Result<Self, CommandError> {
        let journal = Self::journal(config, sandbox);
        match clients::open(&journal) {
            Ok(store) => Ok(Self { store, journal }),
            Err(ClientStoreError::Missing(path)) => {
                let in_sandbox = !sandbox && Self::journal(config, true).exists();
                let hint = if in_sandbox {
                    "its sandbox has one: add --sandbox"
                } else {
                    "no gateway has run with this storage.directory"
                };
                Err(CommandError::new(format!("there is no journal at {path}; {hint}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a gateway runs on the storage.
    pub(super) fn has_gateway(&self) -> bool {
        journal::is_open(&self.journal)
    }

    /// Makes a change.
    ///
    /// # Errors
    ///
    /// [`CommandError`]: nothing was changed.
    pub(super) fn change(&self, change: &Change) -> Result<i64, CommandError> {
        Ok(self.store.change(change, Actor::CommandLine, &|| SystemClock.now())?)
    }

    /// Has the gateway that runs carry out a command, and returns how that ended.
    ///
    /// # Errors
    ///
    /// [`CommandError`] with what the gateway says, also when it does not answer.
    pub(super) fn execute(&self, command: Command) -> Result<String, CommandError> {
        let id = self.change(&Change::Request(command))?;
        let deadline = Instant::now() + OUTCOME_WAIT;
        while Instant::now() < deadline {
            if let Some(outcome) = self.store.command_outcome(id)? {
                return match outcome.split_once(": ") {
                    Some(("ok", text)) => Ok(text.to_owned()),
                    Some((_, problem)) => Err(CommandError::new(problem)),
                    None => Ok(outcome),
                };
            }
            std::thread::sleep(OUTCOME_INTERVAL);
        }
        Err(CommandError::new("the gateway has not answered within 10 s; its log says what it did"))
    }
}

/// What a gateway that runs does with a change, as the end of a text.
pub(super) fn notice(gateway: &StoredGateway) -> &'static str {
    if gateway.has_gateway() {
        "The running gateway applies it within a second."
    } else {
        "No gateway runs; the next start applies it."
    }
}
