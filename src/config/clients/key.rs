//! Client keys: their digests, and how a new one is made.

use std::fmt::Write;

use super::check_name;
use crate::config::{Error, Secret};
use crate::model::Digest;

/// The start of every key that a gateway makes.
pub(crate) const KEY_START: &str = "sk-gw-";

/// Returns the digest under which a client key is stored. Keys are long and random, so a slow hash would add nothing.
pub(crate) fn digest_of_key(key: &str) -> Digest {
    Digest::of(key.as_bytes())
}

/// A new client key and its digest.
#[derive(Debug)]
pub struct NewKey {
    pub key: Secret,
    /// 64 hex digits, for `key_digest`.
    pub digest: String,
}

/// Makes a client key of 192 random bits: the prefix `sk-gw-`, the bits as hex, and eight hex digits of a checksum that
/// distinguish a typing error from an unknown key.
///
/// # Errors
///
/// When `name` is not valid as a client's name.
pub fn mint_key(name: &str, random: [u8; 24]) -> Result<NewKey, Error> {
    // A name that begins as keys do is not repeated.
    let shown = if name.starts_with("sk-") { String::new() } else { format!(" {name:?}") };
    check_name(name).map_err(|problem| Error::invalid(format!("--name{shown}"), problem))?;
    let mut key = String::from(KEY_START);
    for byte in random {
        let _ = write!(key, "{byte:02x}");
    }
    let checksum = Digest::of(key.as_bytes()).to_string();
    key.push_str(&checksum[..8]);
    Ok(NewKey { digest: digest_of_key(&key).to_string(), key: Secret::new(key) })
}
