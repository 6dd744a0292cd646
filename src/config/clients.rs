//! `[[clients]]` and `GATEWAY_CLIENT_KEYS`: which clients may use the gateway, and their limits. A key in plain text is
//! replaced by its digest as soon as it has been read.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};

use super::{Environment, Error, SANDBOX_KEY, secret};
use crate::model::{Catalogue, Digest};

mod key;
mod limits;

pub(crate) use key::digest_of_key;
pub use key::{NewKey, mint_key};
pub(crate) use limits::ClientLimits;
pub(super) use limits::LimitsSection;

/// The shortest accepted client key, in characters: 128 bits are 32 as hex, 22 as base64.
const KEY_CHARS_MIN: usize = 16;

/// The placeholder of `config/sidecar.env.example`. `serve` refuses it.
const EXAMPLE_KEY: &str = "put-a-key-of-your-own-here";

/// The name of the client of `serve --sandbox`.
const SANDBOX: &str = "sandbox";

/// The weight of a client that names none.
const WEIGHT_DEFAULT: f64 = 1.0;
const WEIGHT_MIN: f64 = 0.001;
const WEIGHT_MAX: f64 = 1000.0;

/// A client.
#[derive(Clone, Debug)]
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
    requests_per_minute: Option<i64>,
    requests_at_once: Option<i64>,
    predictions_at_once: Option<i64>,
    pictures_per_day: Option<i64>,
    usd_per_day: Option<f64>,
    usd_per_month: Option<f64>,
}

impl ClientSection {
    /// Checks the entry and fills in the limits that it does not name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the client, the key and its range.
    pub(super) fn check(self, defaults: LimitsSection, catalogue: &Catalogue) -> Result<ClientConfig, Error> {
        let Self { name, key_digest, weight, models, .. } = self;
        check_name(&name, "clients")?;
        let section = format!("clients.{name}");
        let limits = LimitsSection {
            requests_per_minute: self.requests_per_minute.unwrap_or(defaults.requests_per_minute),
            requests_at_once: self.requests_at_once.unwrap_or(defaults.requests_at_once),
            predictions_at_once: self.predictions_at_once.unwrap_or(defaults.predictions_at_once),
            pictures_per_day: self.pictures_per_day.unwrap_or(defaults.pictures_per_day),
            usd_per_day: self.usd_per_day.unwrap_or(defaults.usd_per_day),
            usd_per_month: self.usd_per_month.unwrap_or(defaults.usd_per_month),
        };
        let limits = limits.check(&section)?;
        let weight = weight.unwrap_or(WEIGHT_DEFAULT);
        // `contains` refuses NaN, too.
        if !(WEIGHT_MIN..=WEIGHT_MAX).contains(&weight) {
            let problem = format!("must be a number from {WEIGHT_MIN} to {WEIGHT_MAX}, not {weight}");
            return Err(Error::invalid(format!("{section}.weight"), problem));
        }
        let models = models.map(|names| ids(&section, &names, catalogue)).transpose()?;
        Ok(ClientConfig { name, key_digest, weight, limits, models })
    }
}

/// Returns the ids of models that are listed by any of their names.
fn ids(section: &str, names: &[String], catalogue: &Catalogue) -> Result<BTreeSet<String>, Error> {
    let invalid = |problem| Error::invalid(format!("{section}.models"), problem);
    if names.is_empty() {
        return Err(invalid("is empty; remove it to allow every model".to_owned()));
    }
    let id = |name: &String| {
        let model = catalogue.find(name).ok_or_else(|| invalid(format!("{name:?} is not a model of the catalogue")))?;
        Ok(model.id.to_string())
    };
    names.iter().map(id).collect()
}

/// `[limits]`, `[[clients]]` and the clients of the environment, checked.
#[derive(Clone, Debug)]
pub(crate) struct ClientsConfig {
    /// The limits of a client that names none.
    pub(super) limits: ClientLimits,
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
        let limits = defaults.check("limits")?;
        let entries = sections.into_iter().map(|client| client.check(defaults, catalogue));
        let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
        entries.extend(from_environment(environment, limits)?);
        check(&entries)?;
        Ok(Self { limits, entries })
    }

    /// Fails when no client has a key, or one has the public key of the example.
    pub(super) fn require_key(&self) -> Result<(), Error> {
        let example = digest_of_key(EXAMPLE_KEY);
        if let Some(client) = self.entries.iter().find(|client| client.key_digest == example) {
            let problem =
                format!("the key of {} is the placeholder of the example; set a key of your own", client.name);
            return Err(Error::invalid("GATEWAY_CLIENT_KEYS", problem));
        }
        if self.entries.is_empty() { Err(Error::NoClientKeys) } else { Ok(()) }
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
    for entry in secret.expose().split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, key) = entry.split_once(':').unwrap_or(("default", entry));
        let (name, key) = (name.trim(), key.trim());
        if key == SANDBOX_KEY {
            return Err(Error::invalid(
                VARIABLE,
                format!("the key of {name} is the sandbox's, which is public; use another one"),
            ));
        }
        if key.chars().count() < KEY_CHARS_MIN || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid(
                VARIABLE,
                format!(
                    "the key of {name} must have at least {KEY_CHARS_MIN} printable characters; \
                     `gptproto-gateway keys new --name {name}` makes one"
                ),
            ));
        }
        clients.push(ClientConfig::with_key(name, key, limits));
    }
    Ok(clients)
}

/// Fails when a name is not valid or is used twice.
fn check(clients: &[ClientConfig]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for client in clients {
        check_name(&client.name, "clients")?;
        if !names.insert(&client.name) {
            return Err(Error::invalid("clients", format!("the name {} is used twice", client.name)));
        }
    }
    Ok(())
}

/// Fails when a name of a client or an account is not valid.
pub(super) fn check_name(name: &str, origin: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        let problem = format!("the name {name:?} must have 1 to 64 letters, digits, or - _ . @");
        return Err(Error::invalid(origin, problem));
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
