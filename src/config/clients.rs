//! `[[clients]]` and `GATEWAY_CLIENT_KEYS`: which clients may use the gateway, and their limits. A key in plain text is
//! replaced by its digest as soon as it has been read.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};

use super::{Environment, Error, SANDBOX_KEY, secret};
use crate::model::{Catalogue, Digest};

mod key;
mod limits;

pub(crate) use key::{KEY_START, digest_of_key};
pub use key::{NewKey, mint_key};
pub(super) use limits::LimitsSection;
pub(crate) use limits::{ClientLimits, LimitOverrides, LimitPatch, check_weight};

/// The shortest accepted client key, in characters: 128 bits are 32 as hex, 22 as base64.
const KEY_CHARS_MIN: usize = 16;

/// The placeholder of `config/sidecar.env.example`. `serve` refuses it.
const EXAMPLE_KEY: &str = "put-a-key-of-your-own-here";

/// The name of the client of `serve --sandbox`.
const SANDBOX: &str = "sandbox";

/// The weight of a client that names none.
pub(crate) const WEIGHT_DEFAULT: f64 = 1.0;

/// A client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientConfig {
    pub(crate) name: String,
    pub(crate) key_digest: Digest,
    /// Its share of a contended queue, relative to the weights of the other clients.
    pub(crate) weight: f64,
    pub(crate) limits: ClientLimits,
    /// Ids of the models that it may use; `None`: all of them.
    pub(crate) models: Option<BTreeSet<String>>,
}

/// An entry of `[[clients]]`, as written. Absent limits have the values of `[limits]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientSection {
    name: String,
    #[serde(deserialize_with = "digest")]
    key_digest: Digest,
    weight: Option<f64>,
    models: Option<Vec<String>>,
    requests_per_minute: Option<u32>,
    requests_at_once: Option<u32>,
    predictions_at_once: Option<u32>,
    pictures_per_day: Option<u32>,
    usd_per_day: Option<f64>,
    usd_per_month: Option<f64>,
}

impl ClientSection {
    /// Checks the entry and fills in the limits that it does not name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the client, the key and its range.
    pub(super) fn check(
        self,
        position: usize,
        defaults: LimitsSection,
        catalogue: &Catalogue,
    ) -> Result<ClientConfig, Error> {
        let Self { name, key_digest, weight, models, .. } = self;
        check_name(&name).map_err(|problem| Error::invalid(format!("clients, entry {}", position + 1), problem))?;
        let section = format!("clients.{name}");
        let limits = LimitsSection {
            requests_per_minute: self.requests_per_minute.unwrap_or(defaults.requests_per_minute),
            requests_at_once: self.requests_at_once.unwrap_or(defaults.requests_at_once),
            predictions_at_once: self.predictions_at_once.unwrap_or(defaults.predictions_at_once),
            pictures_per_day: self.pictures_per_day.unwrap_or(defaults.pictures_per_day),
            usd_per_day: self.usd_per_day.unwrap_or(defaults.usd_per_day),
            usd_per_month: self.usd_per_month.unwrap_or(defaults.usd_per_month),
        };
        let weight = weight.unwrap_or(WEIGHT_DEFAULT);
        let listed = models.map(|names| model_ids(&names, catalogue)).transpose();
        let models = listed.map_err(|problem| Error::invalid(format!("{section}.models"), problem))?;
        Ok(ClientConfig { name, key_digest, weight, limits: limits.limits(), models })
    }
}

/// Returns the ids of models that are listed by any of their names.
///
/// # Errors
///
/// The end of a sentence that begins with the name of the list.
pub(crate) fn model_ids(names: &[String], catalogue: &Catalogue) -> Result<BTreeSet<String>, String> {
    if names.is_empty() {
        return Err("is empty; remove it to allow every model".to_owned());
    }
    let id = |name: &String| {
        let model = catalogue.find(name).ok_or_else(|| format!("{name:?} is not a model of the catalogue"))?;
        Ok(model.id.to_string())
    };
    names.iter().map(id).collect()
}

/// `[limits]`, `[[clients]]` and the clients of the environment, checked.
#[derive(Clone, Debug)]
pub(crate) struct ClientsConfig {
    /// The limits of a client that names none.
    pub(crate) limits: ClientLimits,
    pub(crate) entries: Vec<ClientConfig>,
}

impl ClientsConfig {
    /// Checks both sections and adds the clients of the environment.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the section or the variable, and the client.
    pub(super) fn load(
        defaults: LimitsSection,
        sections: Vec<ClientSection>,
        environment: &Environment,
        catalogue: &Catalogue,
    ) -> Result<Self, Error> {
        let limits = defaults.limits();
        let entries = sections.into_iter().enumerate();
        let entries = entries.map(|(position, client)| client.check(position, defaults, catalogue));
        let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
        entries.extend(from_environment(environment, limits)?);
        check(&entries)?;
        Ok(Self { limits, entries })
    }

    /// Fails when a client has the public key of the example.
    pub(crate) fn refuse_example_key(&self) -> Result<(), Error> {
        let example = digest_of_key(EXAMPLE_KEY);
        if let Some(client) = self.entries.iter().find(|client| client.key_digest == example) {
            let problem =
                format!("the key of {} is the placeholder of the example; set a key of your own", client.name);
            return Err(Error::invalid("GATEWAY_CLIENT_KEYS", problem));
        }
        Ok(())
    }

    /// Adds the client of `serve --sandbox`, in place of another one of its name.
    pub(super) fn add_sandbox(&mut self) {
        self.entries.retain(|client| client.name != SANDBOX);
        self.entries.push(ClientConfig::with_key(SANDBOX, SANDBOX_KEY, self.limits));
    }
}

impl ClientConfig {
    /// A client with default weight that may use every model.
    fn with_key(name: &str, key: &str, limits: ClientLimits) -> Self {
        Self { name: name.to_owned(), key_digest: digest_of_key(key), weight: WEIGHT_DEFAULT, limits, models: None }
    }
}

/// Reads `GATEWAY_CLIENT_KEYS`: `name:key,name:key`. A key without a name belongs to the client `default`.
///
/// # Errors
///
/// [`Error::Invalid`], naming the variable and the client, never the key.
fn from_environment(environment: &Environment, limits: ClientLimits) -> Result<Vec<ClientConfig>, Error> {
    const VARIABLE: &str = "GATEWAY_CLIENT_KEYS";
    let Some(secret) = secret::from_environment(environment, VARIABLE, None)? else {
        return Ok(Vec::new());
    };
    let mut clients = Vec::new();
    let entries = secret.expose().split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    for (position, entry) in entries.enumerate() {
        let (name, key) = entry.split_once(':').unwrap_or(("default", entry));
        let (name, key) = (name.trim(), key.trim());
        let problem = if name.len() >= KEY_CHARS_MIN && key.len() < KEY_CHARS_MIN {
            // The name may be a key, so it is not repeated.
            Err("must have the form name:key".to_owned())
        } else if let Err(problem) = secret::check_key(key) {
            Err(format!("the key of {name} {problem}"))
        } else if key.len() < KEY_CHARS_MIN {
            Err(format!(
                "the key of {name} must have at least {KEY_CHARS_MIN} characters; `gptproto-gateway keys new --name {name}` \
                 makes one"
            ))
        } else {
            check_name(name)
        };
        problem.map_err(|problem| Error::invalid(format!("{VARIABLE}, entry {}", position + 1), problem))?;
        clients.push(ClientConfig::with_key(name, key, limits));
    }
    Ok(clients)
}

/// Fails when two clients have the same name or the same key, or one has the key of the sandbox.
fn check(clients: &[ClientConfig]) -> Result<(), Error> {
    let sandbox = digest_of_key(SANDBOX_KEY);
    for (position, client) in clients.iter().enumerate() {
        let ClientConfig { name, key_digest, .. } = client;
        if *key_digest == sandbox {
            let problem = format!("the key of {name} is the sandbox's, which is public; use another one");
            return Err(Error::invalid("clients", problem));
        }
        for other in &clients[..position] {
            if other.name == *name {
                return Err(Error::invalid("clients", format!("the name {name} is used twice")));
            }
            if other.key_digest == *key_digest {
                let problem = format!("{} and {name} have the same key; give each client a key of its own", other.name);
                return Err(Error::invalid("clients", problem));
            }
        }
    }
    Ok(())
}

/// Fails when a name of a client or an account is not valid.
///
/// # Errors
///
/// The end of a sentence. It does not repeat the name, which may be a key in the wrong place.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) || name.starts_with("sk-") {
        return Err("the name is not valid: 1 to 64 letters, digits, or - _ . @, and no sk- at its start, as keys \
                    have"
            .to_owned());
    }
    Ok(())
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    Digest::from_hex(&text)
        .ok_or_else(|| serde::de::Error::custom("key_digest must be the 64 hex digits that `keys new` prints"))
}

#[cfg(test)]
mod tests;
