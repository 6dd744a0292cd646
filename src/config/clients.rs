//! Who may use the gateway: names, and digests of keys. A key in clear is turned into its digest as soon as it is read.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::{Deserialize, Deserializer};

use super::{Environment, Error, SANDBOX_KEY, Secret, secret};
use crate::model::Digest;

/// Shortest client key that is accepted, in characters: 128 bits as hex are 32, as base64 22.
const KEY_CHARS_MIN: usize = 16;

/// `[[clients]]`: one client.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientConfig {
    pub(crate) name: String,
    #[serde(deserialize_with = "digest")]
    pub(crate) key_digest: Digest,
}

impl ClientConfig {
    pub(super) fn of_key(name: &str, key: &str) -> Self {
        Self { name: name.to_owned(), key_digest: digest_of_key(key) }
    }
}

/// The digest by which a client key is known. Keys are long and random, so a slow hash would add nothing.
pub(crate) fn digest_of_key(key: &str) -> Digest {
    Digest::of(key.as_bytes())
}

/// A new client key, and the digest by which it will be known.
#[derive(Debug)]
pub struct Minted {
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
pub fn mint_key(name: &str, random: [u8; 24]) -> Result<Minted, Error> {
    check_name(name, "clients")?;
    let mut key = String::from("sk-gw-");
    for byte in random {
        let _ = write!(key, "{byte:02x}");
    }
    let checksum = Digest::of(key.as_bytes()).to_string();
    key.push_str(&checksum[..8]);
    Ok(Minted { digest: digest_of_key(&key).to_string(), key: Secret::new(key) })
}

/// Reads `GATEWAY_CLIENT_KEYS`: `name:key,name:key`; a key alone is the client `default`.
pub(super) fn from_environment(environment: &Environment) -> Result<Vec<ClientConfig>, Error> {
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
        clients.push(ClientConfig::of_key(name, key));
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
