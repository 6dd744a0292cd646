//! `accounts` and `reload`: decisions about a gateway that may be running.

use std::collections::BTreeSet;

use clap::Subcommand;

use super::store::{CommandError, StoredGateway, notice};
use crate::app;
use crate::config::Config;
use crate::ledger::table::table;
use crate::model::{AccountId, Clock, SystemClock};
use crate::storage::clients::{Change, Command, StoredClients};

/// What to do with the accounts at the upstream.
#[derive(Debug, Subcommand)]
pub enum AccountsCommand {
    /// List the accounts of the configuration, and which are paused
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Buy nothing with an account until it is resumed; what it has bought is followed
    Pause {
        /// The account's name
        account: String,
    },
    /// Use a paused account again
    Resume {
        /// The account's name
        account: String,
    },
    /// Forget what the account's 429s and refusals have taught: limits and cooldowns
    Forget {
        /// The account's name
        account: String,
    },
}

/// Executes a command. Returns the text for standard output.
///
/// # Errors
///
/// [`CommandError`].
pub fn accounts(config: &Config, sandbox: bool, command: &AccountsCommand) -> Result<String, CommandError> {
    let gateway = StoredGateway::open(config, sandbox)?;
    match command {
        AccountsCommand::List { json } => {
            let stored = gateway.store.state(SystemClock.now())?;
            let accounts = names(config, &stored).into_iter().map(|account| {
                let paused = stored.paused_accounts.contains(&account);
                (account.to_string(), paused)
            });
            if *json {
                let data: Vec<_> = accounts
                    .map(|(name, paused)| serde_json::json!({ "object": "account", "name": name, "paused": paused }))
                    .collect();
                return Ok(format!("{}\n", serde_json::json!({ "object": "list", "data": data })));
            }
            let mut rows = vec![vec!["ACCOUNT".to_owned(), "STATE".to_owned()]];
            rows.extend(accounts.map(|(name, paused)| vec![name, if paused { "paused" } else { "in use" }.to_owned()]));
            Ok(table(&rows, &[]))
        }
        AccountsCommand::Pause { account } => {
            let account = known(config, &gateway, account)?;
            gateway.change(&Change::PauseAccount(account.clone()))?;
            Ok(format!("{account} is paused: nothing is bought with it. {}\n", notice(&gateway)))
        }
        AccountsCommand::Resume { account } => {
            let account = known(config, &gateway, account)?;
            gateway.change(&Change::ResumeAccount(account.clone()))?;
            Ok(format!("{account} is in use. {}\n", notice(&gateway)))
        }
        AccountsCommand::Forget { account } => {
            let account = known(config, &gateway, account)?;
            if gateway.has_gateway() {
                gateway.execute(Command::ForgetAccount(account.clone()))?;
            } else {
                let note = Change::Note {
                    action: "account.forgotten",
                    subject: account.to_string(),
                    change: serde_json::json!({}),
                };
                gateway.change(&note)?;
                app::forget_account(config, sandbox, &account)
                    .map_err(|error| CommandError::new(format!("{error:#}")))?;
            }
            Ok(format!("What was learned of {account} is forgotten; it is learned again.\n"))
        }
    }
}

/// Returns the accounts of this configuration, and of the gateway's: its keys may be in an environment of its own.
fn names(config: &Config, stored: &StoredClients) -> BTreeSet<AccountId> {
    config.accounts.iter().map(|account| account.id.clone()).chain(stored.configured.accounts.iter().cloned()).collect()
}

/// Returns the account of this name.
fn known(config: &Config, gateway: &StoredGateway, name: &str) -> Result<AccountId, CommandError> {
    let names = names(config, &gateway.store.state(SystemClock.now())?);
    let account = AccountId(name.into());
    if names.contains(&account) {
        return Ok(account);
    }
    // A key in the place of its name is not repeated.
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    Err(CommandError::new(format!("the configuration has no account of this name; it has: {}", names.join(", "))))
}

/// Has a gateway that runs read its configuration again. Returns the text for standard output.
///
/// # Errors
///
/// [`CommandError`] when none runs, or the configuration cannot be used.
pub fn reload(config: &Config, sandbox: bool) -> Result<String, CommandError> {
    let gateway = StoredGateway::open(config, sandbox)?;
    if !gateway.has_gateway() {
        return Err(CommandError::new("no gateway runs on this storage.directory; its start reads the configuration"));
    }
    let outcome = gateway.execute(Command::Reload);
    outcome.map(|text| format!("{text}\n")).map_err(|error| CommandError::new(format!("nothing changed: {error}")))
}
