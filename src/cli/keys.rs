//! `keys`: makes, lists, changes, rotates and revokes client keys, in the storage of a gateway that may be running.

use std::collections::HashMap;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::store::{CommandError, StoredGateway, notice};
use crate::admin::{KeyProblem, KeyRules, KeyTerms, KeyView, list_keys, parse_expiry, parse_grace};
use crate::admission::{Spent, spent_by_client, start_of_month};
use crate::config::{Config, LimitPatch, Secret, mint_key};
use crate::ledger::table::table;
use crate::model::{ClientId, Clock, SystemClock, Timestamp};
use crate::storage::clients::{self, Change, ClientPatch, ClientStoreError, StoredClients, kept_since};
use crate::storage::journal::open_ledger;

/// What to do with client keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Create a client with a key, and print the key once
    ///
    /// A gateway that runs accepts it within a second. Where there is no storage folder yet, the key is printed with the lines
    /// for the configuration instead, as with --print-only: then its limits are in these lines.
    New(NewKeyArguments),
    /// List keys with their limits, when they were used last and what their clients spent
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Change the limits, weight, models or expiry of a key
    ///
    /// Limits are those of the client, for all its keys. What was counted stays counted.
    Set {
        /// The key's id, or the name of its client
        key: String,
        #[command(flatten)]
        terms: TermArguments,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Create another key beside a key, which stays valid for a time of grace
    Rotate {
        /// The key's id, or the name of its client
        key: String,
        /// How long the old key stays valid, as 90m, 1h or 7d
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        grace: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key: it is refused within a second
    ///
    /// Jobs that are under way finish, are stored and stay in the ledger.
    Revoke {
        /// The key's id, or the name of its client
        key: String,
        /// Revoke all keys of the client, as there are several after a rotation
        #[arg(long)]
        all: bool,
        /// Print one JSON object; with --all, one for each key
        #[arg(long)]
        json: bool,
    },
}

/// A new key.
#[derive(Args, Debug)]
pub struct NewKeyArguments {
    /// Name of the client: letters, digits and - _ . @
    #[arg(long)]
    name: String,
    #[command(flatten)]
    terms: TermArguments,
    /// Store nothing; print the key with the lines for the configuration
    #[arg(long)]
    print_only: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Limits and other terms of a client. Absent ones are not changed, or have the value of `[limits]`.
#[derive(Args, Debug, Default)]
pub struct TermArguments {
    /// Requests per minute; 0: no limit; default: as [limits] says
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    requests_per_minute: Option<String>,
    /// Requests at once
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    requests_at_once: Option<String>,
    /// Predictions at once
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    predictions_at_once: Option<String>,
    /// Pictures per day (UTC)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pictures_per_day: Option<String>,
    /// US dollars per day (UTC)
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    usd_per_day: Option<String>,
    /// US dollars per month (UTC)
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    usd_per_month: Option<String>,
    /// Share of a contended queue, relative to other clients; default: 1
    #[arg(long, value_name = "WEIGHT", allow_negative_numbers = true)]
    weight: Option<String>,
    /// Models that it may use, with commas; all: every model
    #[arg(long, value_name = "MODELS")]
    models: Option<String>,
    /// When the key ends: a time, a date, or from now, as 30d; never: it does not end
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
}

impl TermArguments {
    /// Reads the terms.
    ///
    /// # Errors
    ///
    /// [`CommandError`], naming the argument.
    fn terms(&self, now: Timestamp) -> Result<KeyTerms, CommandError> {
        let expires = self.expires.as_deref().map(|text| match text {
            "never" => Ok(None),
            text => {
                parse_expiry(text, now).map(Some).map_err(|problem| CommandError::usage(format!("--expires {problem}")))
            }
        });
        let models = self.models.as_deref().map(|text| match text {
            "all" => None,
            text => Some(text.split(',').map(|name| name.trim().to_owned()).collect()),
        });
        let limits = LimitPatch {
            requests_per_minute: limit("--requests-per-minute", self.requests_per_minute.as_deref())?,
            requests_at_once: limit("--requests-at-once", self.requests_at_once.as_deref())?,
            predictions_at_once: limit("--predictions-at-once", self.predictions_at_once.as_deref())?,
            pictures_per_day: limit("--pictures-per-day", self.pictures_per_day.as_deref())?,
            usd_per_day: limit("--usd-per-day", self.usd_per_day.as_deref())?,
            usd_per_month: limit("--usd-per-month", self.usd_per_month.as_deref())?,
        };
        let weight = limit("--weight", self.weight.as_deref())?;
        Ok(KeyTerms { limits, weight, models, expires: expires.transpose()? })
    }
}

/// Reads a limit or a weight, of which `default` is that of the configuration.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
fn limit<T: std::str::FromStr>(name: &str, text: Option<&str>) -> Result<Option<Option<T>>, CommandError> {
    match text {
        None => Ok(None),
        Some("default") => Ok(Some(None)),
        Some(text) => {
            let number = text
                .parse()
                .map_err(|_| CommandError::usage(format!("{name} must be a number, or the word default")))?;
            Ok(Some(Some(number)))
        }
    }
}

impl From<KeyProblem> for CommandError {
    fn from(problem: KeyProblem) -> Self {
        match problem {
            KeyProblem::Invalid { .. } | KeyProblem::NoChange => Self::usage(problem),
            KeyProblem::SeveralKeys(..) => Self::new(format!("{problem}; `keys revoke --all` revokes all of them")),
            KeyProblem::OfConfiguration(_) | KeyProblem::Store(_) => Self::new(problem),
        }
    }
}

/// Executes a command. Returns the text for standard output.
///
/// # Errors
///
/// [`CommandError`].
pub fn keys(config: &Config, sandbox: bool, command: &KeysCommand) -> Result<String, CommandError> {
    let now = SystemClock.now();
    let rules = KeyRules { configured: &config.clients, catalogue: &config.catalogue, now };
    if let KeysCommand::New(new) = command {
        let missing = match clients::open(&StoredGateway::journal(config, sandbox)) {
            Err(ClientStoreError::Missing(path)) => Some(path),
            Ok(_) | Err(_) => None,
        };
        if new.print_only || missing.is_some() {
            return print_only(new, rules, missing.as_deref().filter(|_| !new.print_only));
        }
    }
    let gateway = StoredGateway::open(config, sandbox)?;
    let stored = gateway.store.state(kept_since(now))?;
    match command {
        KeysCommand::New(new) => {
            let (change, secret) = rules.create(&new.name, &new.terms.terms(now)?)?;
            gateway.change(&change)?;
            new_key_text(config, &gateway, &change, &secret, new.json)
        }
        KeysCommand::List { json } => {
            let views = list_keys(rules, &stored, &spent(config, &gateway)?);
            Ok(if *json {
                json_text(&serde_json::json!({ "object": "list", "data": views }))
            } else {
                list_text(&views)
            })
        }
        KeysCommand::Set { key, terms, json } => {
            let terms = terms.terms(now)?;
            // Limits are those of the client, whichever of its keys is named.
            let key = match rules.find_all(&stored, key)?[..] {
                [.., last] if terms.expires.is_none() => last,
                _ => rules.find(&stored, key)?,
            };
            gateway.change(&rules.update(key, &terms)?)?;
            changed_text(config, &gateway, key.id.to_string().as_str(), "changed", *json)
        }
        KeysCommand::Rotate { key, grace, json } => {
            let grace = parse_grace(grace).map_err(|problem| CommandError::usage(format!("--grace {problem}")))?;
            let (change, secret) = rules.rotate(rules.find(&stored, key)?, grace)?;
            gateway.change(&change)?;
            new_key_text(config, &gateway, &change, &secret, *json)
        }
        KeysCommand::Revoke { key, all, json } => {
            let keys = if *all { rules.find_all(&stored, key)? } else { vec![rules.find(&stored, key)?] };
            let mut text = String::new();
            for key in keys {
                gateway.change(&Change::RevokeKey { key: key.id })?;
                text += &changed_text(config, &gateway, key.id.to_string().as_str(), "revoked", *json)?;
            }
            Ok(text)
        }
    }
}

/// Prints a key with the lines for the configuration. `missing`: where no storage was found.
fn print_only(new: &NewKeyArguments, rules: KeyRules<'_>, missing: Option<&str>) -> Result<String, CommandError> {
    let name = &new.name;
    let terms = new.terms.terms(rules.now)?;
    let terms = rules.check(&terms)?;
    if new.terms.expires.as_deref().is_some_and(|expires| expires != "never") {
        let problem = "--expires needs the storage of a gateway: keys of the configuration do not end by themselves";
        return Err(CommandError::usage(problem));
    }
    let minted = mint_key(name, rand::random()).map_err(CommandError::usage)?;
    let (key, digest) = (minted.key.expose(), &minted.digest);
    if new.json {
        let mut made = serde_json::json!({ "name": name, "key": key, "key_digest": digest });
        if !terms.is_empty() {
            made["limits"] = serde_json::json!(terms.limits);
            made["weight"] = serde_json::json!(terms.weight.flatten());
            made["models"] = serde_json::json!(terms.models.flatten());
        }
        return Ok(json_text(&made));
    }
    let missing = missing.map_or_else(String::new, |path| {
        format!(
            "Nothing was stored: no gateway has run with this storage.directory, there is no journal at {path}.\n\n"
        )
    });
    let lines = term_lines(&terms).iter().fold(String::new(), |lines, line| lines + "  " + line + "\n");
    let environment = if lines.is_empty() {
        format!("\nOr, with the key itself, in the environment:\n\n  GATEWAY_CLIENT_KEYS={name}:{key}\n")
    } else {
        String::new()
    };
    Ok(format!(
        "{missing}The key of {name}, shown only once:\n\n  {key}\n\nFor the configuration file:\n\n  [[clients]]\n  name = \"{name}\"\n  \
         key_digest = \"{digest}\"\n{lines}{environment}"
    ))
}

/// Returns the lines of `[[clients]]` for the terms that are not the defaults.
fn term_lines(terms: &ClientPatch) -> Vec<String> {
    let limits = serde_json::to_value(terms.limits).unwrap_or_default();
    let limits = limits.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let limits = limits.map(|(name, value)| format!("{name} = {value}"));
    let weight = terms.weight.flatten().map(|weight| format!("weight = {weight:?}"));
    let models = terms.models.clone().flatten().map(|models| format!("models = {:?}", Vec::from_iter(models)));
    weight.into_iter().chain(models).chain(limits).collect()
}

fn new_key_text(
    config: &Config,
    gateway: &StoredGateway,
    change: &Change,
    secret: &Secret,
    json: bool,
) -> Result<String, CommandError> {
    let (key, old) = match change {
        Change::CreateKey { key, .. } => (key, None),
        Change::RotateKey { new, key, grace_ends } => (new, Some((key, grace_ends))),
        Change::UpdateKey { .. }
        | Change::RevokeKey { .. }
        | Change::PauseAccount(_)
        | Change::ResumeAccount(_)
        | Change::Request(_)
        | Change::Note { .. } => return Err(CommandError::new("no key was made")),
    };
    if json {
        let mut view = view(config, gateway, &key.id.to_string())?;
        view["key"] = Value::from(secret.expose());
        return Ok(json_text(&view));
    }
    let old = old.map_or_else(String::new, |(old, until)| format!("The old key {old} is valid until {until}.\n"));
    Ok(format!(
        "The key of {}, shown only once:\n\n  {}\n\nIts id is {}. {}\n{old}",
        key.client,
        secret.expose(),
        key.id,
        notice(gateway)
    ))
}

fn changed_text(
    config: &Config,
    gateway: &StoredGateway,
    id: &str,
    what: &str,
    json: bool,
) -> Result<String, CommandError> {
    if json {
        return Ok(json_text(&view(config, gateway, id)?));
    }
    Ok(format!("{id} is {what}. {}\n", notice(gateway)))
}

/// Returns one key as it is listed.
fn view(config: &Config, gateway: &StoredGateway, id: &str) -> Result<Value, CommandError> {
    let now = SystemClock.now();
    let rules = KeyRules { configured: &config.clients, catalogue: &config.catalogue, now };
    let since = Timestamp::from_millis(now.millis() - 60_000);
    let stored: StoredClients = gateway.store.state(since)?;
    let views = list_keys(rules, &stored, &spent(config, gateway)?);
    let found = views.iter().find(|view| view.id == id);
    found.map(|view| serde_json::json!(view)).ok_or_else(|| CommandError::new(format!("there is no key {id}")))
}

/// Returns what clients have spent, by the journal.
fn spent(config: &Config, gateway: &StoredGateway) -> Result<HashMap<ClientId, Spent>, CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ledger = open_ledger(&gateway.journal).map_err(CommandError::new)?;
    let used = ledger.quota_used_since(start_of_month(&*clock)).map_err(CommandError::new)?;
    Ok(spent_by_client(used, &config.catalogue, &clock))
}

fn list_text(views: &[KeyView]) -> String {
    if views.is_empty() {
        return "no keys; `gptproto-gateway keys new --name alice` makes one\n".to_owned();
    }
    let time = |seconds: Option<i64>, none: &str| {
        let text = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000)).to_string();
        seconds.map_or_else(|| none.to_owned(), |seconds| text(seconds).trim_end_matches(".000Z").replace('T', " "))
    };
    let heads = ["ID", "NAME", "KEY", "STATUS", "LAST USED", "ENDS", "TODAY", "MONTH", "LIMITS"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for view in views {
        let ends = [view.expires, view.grace_ends].into_iter().flatten().min();
        rows.push(vec![
            view.id.clone(),
            view.name.clone(),
            view.prefix.as_ref().map_or_else(|| "configuration".to_owned(), |prefix| format!("{prefix}…")),
            view.status.to_owned(),
            time(view.last_used, "-"),
            time(view.revoked.or(ends), "-"),
            format!("${:.4}", view.spent.usd_today),
            format!("${:.4}", view.spent.usd_this_month),
            view.limits.text(view.models.as_deref()),
        ]);
    }
    table(&rows, &[6, 7])
}

fn json_text(value: &Value) -> String {
    format!("{value}\n")
}
