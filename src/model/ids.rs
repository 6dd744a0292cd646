//! Ids and digests, each a type of its own.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use ulid::Ulid;

use super::environment::Timestamp;

/// The name of a client of the gateway, as the operator chose it. Never the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) Arc<str>);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an account with the upstream, as the operator chose it. Never its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AccountId(pub(crate) Arc<str>);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The catalogue's id of a model, aliases resolved; also its name at the prediction API. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub(crate) struct ModelId(Arc<str>);

impl ModelId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ModelId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for ModelId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl Deref for ModelId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<&str> for ModelId {
    fn eq(&self, id: &&str) -> bool {
        *self.0 == **id
    }
}

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A job: `pred_` and a ULID, on the wire the id of a prediction resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JobId(Ulid);

impl JobId {
    pub(crate) fn new(now: Timestamp, random: u128) -> Self {
        Self(Ulid::from_parts(now.millis().unsigned_abs(), random))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; ulid::ULID_LEN];
        let text = self.0.array_to_str(&mut text);
        text.make_ascii_lowercase();
        f.write_str("pred_")?;
        f.write_str(text)
    }
}

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let ulid = text.strip_prefix("pred_").ok_or(InvalidId)?;
        Ulid::from_string(&ulid.to_uppercase()).map(Self).map_err(|_| InvalidId)
    }
}

/// A purchase: its job and its slot in it. A job has several when a purchase makes fewer pictures than requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PurchaseId {
    pub(crate) job: JobId,
    pub(crate) slot: u8,
}

impl fmt::Display for PurchaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.slot)
    }
}

impl FromStr for PurchaseId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (job, slot) = text.split_once('.').ok_or(InvalidId)?;
        Ok(Self { job: job.parse()?, slot: slot.parse().map_err(|_| InvalidId)? })
    }
}

/// An event that is sent to a webhook: `evt_` and a ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EventId(Ulid);

impl EventId {
    pub(crate) fn new(now: Timestamp, random: u128) -> Self {
        Self(Ulid::from_parts(now.millis().unsigned_abs(), random))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}", self.0.to_string().to_lowercase())
    }
}

impl FromStr for EventId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let ulid = text.strip_prefix("evt_").ok_or(InvalidId)?;
        Ulid::from_string(&ulid.to_uppercase()).map(Self).map_err(|_| InvalidId)
    }
}

/// A client key: `key_` and a ULID. It names the key, and says nothing of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyId(Ulid);

impl KeyId {
    pub(crate) fn new(now: Timestamp, random: u128) -> Self {
        Self(Ulid::from_parts(now.millis().unsigned_abs(), random))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key_{}", self.0.to_string().to_lowercase())
    }
}

impl FromStr for KeyId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let ulid = text.strip_prefix("key_").ok_or(InvalidId)?;
        Ulid::from_string(&ulid.to_uppercase()).map(Self).map_err(|_| InvalidId)
    }
}

/// The text is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub(crate) struct InvalidId;

/// The value of `Idempotency-Key`: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    pub(crate) const CHARS_MAX: usize = 255;

    pub(crate) fn new(text: &str) -> Option<Self> {
        let is_valid = !text.is_empty() && text.len() <= Self::CHARS_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        is_valid.then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The upstream's id of a purchase. Opaque: hex for most models, `model:task_…` for some.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamId(String);

impl UpstreamId {
    /// Longest id that is accepted, in bytes.
    pub(crate) const BYTES_MAX: usize = 256;

    /// Accepts a plain segment of a path: visible ASCII of limited length, without the characters that separate or escape
    /// segments, and not only of dots. The upstream's answers are untrusted input, and the key is sent to this path.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'\\' | b'?' | b'#' | b'%');
        let is_valid = text.len() <= Self::BYTES_MAX && text.bytes().all(is_plain) && text.bytes().any(|b| b != b'.');
        is_valid.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The BLAKE3 digest of some bytes. Equality takes constant time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(blake3::Hash);

impl Digest {
    /// Computes the digest of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes))
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.0.to_hex()[..12])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_from_their_text() {
        let job = JobId::new(Timestamp::from_millis(1_790_000_000_000), 42);
        let purchase = PurchaseId { job, slot: 3 };
        assert_eq!(job.to_string().parse(), Ok(job));
        assert_eq!(purchase.to_string().parse(), Ok(purchase));
        let event = EventId::new(Timestamp::from_millis(1_790_000_000_000), 42);
        assert_eq!(event.to_string().parse(), Ok(event));
        assert_eq!(job.to_string().parse::<EventId>(), Err(InvalidId));
        assert_eq!("pred_nonsense".parse::<JobId>(), Err(InvalidId));
    }

    #[test]
    fn upstream_ids_are_bounded_text() {
        assert!(UpstreamId::new("sora:task_1").is_some());
        assert!(UpstreamId::new("").is_none());
        assert!(UpstreamId::new("0b6c2f1e-7d1f-4d0a-9a53-3a7d2c1b0f4e").is_some());
        for unusable in
            ["a b", ".", "..", "...", "/", "a/b", "../x", "a\\b", "a?b", "a#b", "%2e%2e", "a\nb", "a\0", "é"]
        {
            assert!(UpstreamId::new(unusable).is_none(), "{unusable:?}");
        }
        assert!(UpstreamId::new(&"a".repeat(257)).is_none());
    }
}
