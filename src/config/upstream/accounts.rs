//! The upstream accounts: one key and one budget each. Most deployments have one, `default`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use serde::Deserialize;

use super::UpstreamConfig;
use crate::config::{Environment, Error, Secret, clients, secret};
use crate::model::AccountId;

/// The name of the account of `GPTPROTO_API_KEY`.
pub(in crate::config) const DEFAULT_ACCOUNT: &str = "default";

/// An entry of `[[upstream.accounts]]`. Absent keys have the values of `[upstream]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountSection {
    name: String,
    /// Absent when `GPTPROTO_API_KEYS` has the key.
    api_key_file: Option<PathBuf>,
    submits_per_minute: Option<NonZeroU32>,
    requests_per_minute: Option<NonZeroU32>,
    concurrent_predictions: Option<NonZeroUsize>,
}

/// An upstream account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) key: Secret,
    pub(crate) submits_per_minute: NonZeroU32,
    pub(crate) requests_per_minute: NonZeroU32,
    pub(crate) concurrent_predictions: NonZeroUsize,
}

impl Account {
    /// An account with the limits of `[upstream]`.
    pub(in crate::config) fn new(name: &str, key: Secret, upstream: &UpstreamConfig) -> Self {
        Self {
            id: AccountId(name.into()),
            key,
            submits_per_minute: upstream.submits_per_minute,
            requests_per_minute: upstream.requests_per_minute,
            concurrent_predictions: upstream.concurrent_predictions,
        }
    }

    fn with_limits(self, config: &AccountSection) -> Self {
        Self {
            submits_per_minute: config.submits_per_minute.unwrap_or(self.submits_per_minute),
            requests_per_minute: config.requests_per_minute.unwrap_or(self.requests_per_minute),
            concurrent_predictions: config.concurrent_predictions.unwrap_or(self.concurrent_predictions),
            ..self
        }
    }
}

/// Returns every account that has a key: `GPTPROTO_API_KEY`, then `GPTPROTO_API_KEYS`, then `[[upstream.accounts]]`.
///
/// # Errors
///
/// [`Error`], naming the account that has no key or two keys.
pub(in crate::config) fn load(upstream: &UpstreamConfig, environment: &Environment) -> Result<Vec<Account>, Error> {
    let mut keys = Vec::new();
    if let Some(key) = secret::from_environment(environment, "GPTPROTO_API_KEY", upstream.api_key_file.as_deref())? {
        keys.push((DEFAULT_ACCOUNT.to_owned(), key));
    }
    keys.extend(from_environment(environment)?);
    for config in &upstream.accounts {
        if let Some(path) = &config.api_key_file {
            let name = format!("upstream.accounts.{}.api_key_file", config.name);
            keys.push((config.name.clone(), secret::from_file(path, &name)?));
        }
    }
    let mut accounts: Vec<Account> = Vec::with_capacity(keys.len());
    for (name, key) in keys {
        let origin = format!("upstream.accounts {name}");
        clients::check_name(&name)
            .map_err(|problem| Error::invalid(format!("upstream.accounts, entry {}", accounts.len() + 1), problem))?;
        if accounts.iter().any(|account| *account.id.0 == *name) {
            return Err(Error::invalid(origin, "has two keys; give each account one key"));
        }
        let account = Account::new(&name, clean(&key, &origin)?, upstream);
        if let Some(other) = accounts.iter().find(|other| other.key.expose() == account.key.expose()) {
            return Err(Error::invalid(
                origin,
                format!("has the key of {}; give each account a key of its own", other.id),
            ));
        }
        let config = upstream.accounts.iter().find(|config| config.name == name);
        accounts.push(match config {
            Some(config) => account.with_limits(config),
            None => account,
        });
    }
    let without = upstream.accounts.iter().find(|config| accounts.iter().all(|one| *one.id.0 != *config.name));
    match without {
        Some(config) => Err(Error::invalid(
            format!("upstream.accounts {}", config.name),
            "has no key; set its api_key_file, or name it in GPTPROTO_API_KEYS",
        )),
        None => Ok(accounts),
    }
}

/// Reads `GPTPROTO_API_KEYS`: `name:key,name:key`.
fn from_environment(environment: &Environment) -> Result<Vec<(String, Secret)>, Error> {
    const VARIABLE: &str = "GPTPROTO_API_KEYS";
    let Some(secret) = secret::from_environment(environment, VARIABLE, None)? else {
        return Ok(Vec::new());
    };
    let entries = secret.expose().split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    let named = entries.map(|entry| match entry.split_once(':') {
        Some((name, key)) => Ok((name.trim().to_owned(), Secret::new(key.trim().to_owned()))),
        None => Err(Error::invalid(VARIABLE, "must have the form name:key,name:key")),
    });
    named.collect()
}

/// Removes a pasted `Bearer ` from a key.
fn clean(key: &Secret, origin: &str) -> Result<Secret, Error> {
    let text = key.expose().trim();
    let text = text.strip_prefix("Bearer ").unwrap_or(text).trim();
    secret::check_key(text).map_err(|problem| Error::invalid(format!("the key of {origin}"), problem))?;
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::tests::refusal;

    #[test]
    fn accounts_come_from_variables_and_the_file_and_keep_their_own_limits() {
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "Bearer sk-third\n").unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "[[upstream.accounts]]\nname = \"third\"\napi_key_file = {:?}\n[[upstream.accounts]]\nname = \"second\"\n\
             concurrent_predictions = 3",
            key.path()
        );
        std::fs::write(file.path(), text).unwrap();
        let environment = [("GPTPROTO_API_KEY", "sk-first"), ("GPTPROTO_API_KEYS", "second:sk-second")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = Config::load(Some(file.path()), &environment).unwrap();
        let of: Vec<(&str, &str, usize)> = config
            .accounts
            .iter()
            .map(|one| (&*one.id.0, one.key.expose(), one.concurrent_predictions.get()))
            .collect();
        assert_eq!(of, [("default", "sk-first", 50), ("second", "sk-second", 3), ("third", "sk-third", 50)]);
    }

    #[test]
    fn an_account_needs_exactly_one_key() {
        let error = refusal("[[upstream.accounts]]\nname = \"one\"", &[]);
        assert!(error.starts_with("upstream.accounts one: has no key"), "{error}");
        let error = refusal("", &[("GPTPROTO_API_KEYS", "one:sk-1,two:sk-1")]);
        assert!(error.starts_with("upstream.accounts two: has the key of one"), "{error}");
        let error = refusal("", &[("GPTPROTO_API_KEYS", "one:sk-1,one:sk-2")]);
        assert!(error.starts_with("upstream.accounts one: has two keys"), "{error}");
    }
}
