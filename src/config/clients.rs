//! Who may use the gateway: names, and digests of keys. A key in clear is turned into its digest as soon as it is read.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::{Deserialize, Deserializer};

use super::limits::LimitsConfig;
use super::{ClientLimits, Environment, Error, SANDBOX_KEY, Secret, secret};
use crate::model::{Catalogue, Digest};

/// Shortest client key that is accepted, in characters: 128 bits as hex are 32, as base64 22.
const KEY_CHARS_MIN: usize = 16;

/// The share of a client that names none, when the queue is contended.
const WEIGHT: f64 = 1.0;
/// The smallest and the largest share: a thousand times less or more than usual is nearly nothing, or everything.
const WEIGHT_MIN: f64 = 0.001;
const WEIGHT_MAX: f64 = 1000.0;

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    pub(crate) name: String,
    pub(crate) key_digest: Digest,
    /// Its share when the queue is contended, in relation to the others'.
    pub(crate) weight: f64,
    pub(crate) limits: ClientLimits,
    /// Ids of the models it may use; `None` is all of them.
    pub(crate) models: Option<BTreeSet<String>>,
}

/// `[[clients]]`, as it is written. What is absent is as for everybody.
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
    /// Checks what is written of a client.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], naming the client and the key.
    pub(super) fn check(self, everybody: LimitsConfig, catalogue: &Catalogue) -> Result<ClientConfig, Error> {
        let Self { name, key_digest, weight, models, .. } = self;
        check_name(&name, "clients")?;
        let section = format!("clients.{name}");
        let limits = LimitsConfig {
            requests_per_minute: self.requests_per_minute.unwrap_or(everybody.requests_per_minute),
            requests_at_once: self.requests_at_once.unwrap_or(everybody.requests_at_once),
            predictions_at_once: self.predictions_at_once.unwrap_or(everybody.predictions_at_once),
            pictures_per_day: self.pictures_per_day.unwrap_or(everybody.pictures_per_day),
            usd_per_day: self.usd_per_day.unwrap_or(everybody.usd_per_day),
            usd_per_month: self.usd_per_month.unwrap_or(everybody.usd_per_month),
        };
        let limits = limits.check(&section)?;
        let weight = weight.unwrap_or(WEIGHT);
        // NaN is in no range.
        if !(WEIGHT_MIN..=WEIGHT_MAX).contains(&weight) {
            let problem = format!("must be a number from {WEIGHT_MIN} to {WEIGHT_MAX}, not {weight}");
            return Err(Error::invalid(format!("{section}.weight"), problem));
        }
        let models = models.map(|names| ids(&section, &names, catalogue)).transpose()?;
        Ok(ClientConfig { name, key_digest, weight, limits, models })
    }
}

/// The ids of models that are listed by any of their names.
fn ids(section: &str, names: &[String], catalogue: &Catalogue) -> Result<BTreeSet<String>, Error> {
    let complain = |problem| Error::invalid(format!("{section}.models"), problem);
    if names.is_empty() {
        return Err(complain("is empty; leave it out to allow every model".to_owned()));
    }
    let id = |name: &String| {
        let model = catalogue.find(name).ok_or_else(|| complain(format!("no model is called {name:?}")))?;
        Ok(model.id.to_string())
    };
    names.iter().map(id).collect()
}

impl ClientConfig {
    /// A client of which nothing is said but its key.
    pub(super) fn of_key(name: &str, key: &str, limits: ClientLimits) -> Self {
        Self { name: name.to_owned(), key_digest: digest_of_key(key), weight: WEIGHT, limits, models: None }
    }
}

/// The digest by which a client key is known. Keys are long and random, so a slow hash would add nothing.
pub(crate) fn digest_of_key(key: &str) -> Digest {
    Digest::of(key.as_bytes())
}

/// A new client key, and the digest by which it will be known.
#[derive(Debug)]
pub struct NewKey {
    pub key: Secret,
    /// 64 hex digits, for `key_digest`.
    pub digest: String,
}

/// Makes a client key of 192 random bits: a prefix that says what it is, the bits, and eight digits that tell a typo
/// from a wrong key.
///
/// # Errors
///
/// When `name` could not be a client's name.
pub fn mint_key(name: &str, random: [u8; 24]) -> Result<NewKey, Error> {
    check_name(name, "clients")?;
    let mut key = String::from("sk-gw-");
    for byte in random {
        let _ = write!(key, "{byte:02x}");
    }
    let checksum = Digest::of(key.as_bytes()).to_string();
    key.push_str(&checksum[..8]);
    Ok(NewKey { digest: digest_of_key(&key).to_string(), key: Secret::new(key) })
}

/// Reads `GATEWAY_CLIENT_KEYS`: `name:key,name:key`; a key alone is the client `default`.
pub(super) fn from_environment(environment: &Environment, limits: ClientLimits) -> Result<Vec<ClientConfig>, Error> {
    const VARIABLE: &str = "GATEWAY_CLIENT_KEYS";
    let Some(secret) = secret::from_environment(environment, VARIABLE, None)? else {
        return Ok(Vec::new());
    };
    let mut clients = Vec::new();
    for entry in secret.expose().split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, key) = entry.split_once(':').unwrap_or(("default", entry));
        let (name, key) = (name.trim(), key.trim());
        if key == SANDBOX_KEY {
            return Err(Error::invalid(VARIABLE, format!("the key of {name} is the sandbox's, which everybody knows")));
        }
        if key.chars().count() < KEY_CHARS_MIN || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid(
                VARIABLE,
                format!(
                    "the key of {name} must be at least {KEY_CHARS_MIN} printable characters; \
                     `gptproto-gateway keys new --name {name}` makes a good one"
                ),
            ));
        }
        clients.push(ClientConfig::of_key(name, key, limits));
    }
    Ok(clients)
}

pub(super) fn check(clients: &[ClientConfig]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for client in clients {
        check_name(&client.name, "clients")?;
        if !names.insert(&client.name) {
            return Err(Error::invalid("clients", format!("the name {} is used twice", client.name)));
        }
    }
    Ok(())
}

pub(super) fn check_name(name: &str, origin: &str) -> Result<(), Error> {
    let sane = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(sane) {
        let problem = format!("the name {name:?} must be 1 to 64 letters, digits, or - _ . @");
        return Err(Error::invalid(origin, problem));
    }
    Ok(())
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    Digest::from_hex(&text)
        .ok_or_else(|| serde::de::Error::custom("key_digest must be the 64 hex digits that `keys new` prints"))
}
