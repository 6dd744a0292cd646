//! Input pictures lent to the upstream by address (`upstream.inputs = "link"`): `upstream` lends them, `api` serves them.
//!
//! Wanted:
//! - Whoever has the address may see the picture, and nobody guesses it: 256 random bits, kept as their digest only, so a
//!   look-up compares nothing that an attacker could learn from its timing.
//! - An address dies with its [`InputUrlGuard`], which the prediction holds until it ends, or after its time, whichever is first.
//! - Nothing is copied: the picture stays in the spool, and counts there, for as long as it is lent.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::model::{ByteSource, Digest, Picture};

/// Below the public address; the token follows.
const PATH: &str = "/v1/inputs/";
/// Bytes of a token.
const TOKEN_BYTES: usize = 32;

/// What is lent at the moment. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct InputUrls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What addresses begin with.
    base: Url,
    ttl: Duration,
    published: Mutex<HashMap<Digest, PublishedInput>>,
}

/// A picture that is lent.
#[derive(Clone, Debug)]
pub(crate) struct PublishedInput {
    pub(crate) picture: Picture,
    pub(crate) source: Arc<dyn ByteSource>,
    until: Instant,
}

impl InputUrls {
    /// Lends below `base`, for `ttl` at most.
    pub(crate) fn new(base: Url, ttl: Duration) -> Self {
        Self { shared: Arc::new(Shared { base, ttl, published: Mutex::default() }) }
    }

    /// Lends a picture until the loan is dropped.
    pub(crate) fn publish(&self, picture: Picture, source: Arc<dyn ByteSource>) -> InputUrlGuard {
        let now = Instant::now();
        let token: [u8; TOKEN_BYTES] = rand::random();
        let token = token.iter().fold(String::with_capacity(2 * TOKEN_BYTES), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let digest = Digest::of(token.as_bytes());
        let mut address = self.shared.base.clone();
        address.set_path(&format!("{}{PATH}{token}", address.path().trim_end_matches('/')));
        let mut published = self.shared.lock();
        // What is past its time holds a picture for nobody.
        published.retain(|_, published| published.until > now);
        published.insert(digest, PublishedInput { picture, source, until: now + self.shared.ttl });
        drop(published);
        InputUrlGuard { address, digest, shared: Arc::clone(&self.shared) }
    }

    /// The picture behind a token, for as long as it is lent.
    pub(crate) fn find(&self, token: &str) -> Option<PublishedInput> {
        let published = self.shared.lock().get(&Digest::of(token.as_bytes())).cloned();
        published.filter(|published| published.until > Instant::now())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, PublishedInput>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One picture lent; dropping it ends the address.
pub(crate) struct InputUrlGuard {
    address: Url,
    digest: Digest,
    shared: Arc<Shared>,
}

impl InputUrlGuard {
    /// Where the picture is.
    pub(crate) fn address(&self) -> &str {
        self.address.as_str()
    }
}

impl fmt::Debug for InputUrlGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address is as good as a key.
        f.write_str("Loan")
    }
}

impl Drop for InputUrlGuard {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.digest);
    }
}

/// The loans of one prediction, kept until it has ended. Equal when they are the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputUrlGuards(Vec<Arc<InputUrlGuard>>);

impl InputUrlGuards {
    /// Adds a loan.
    pub(crate) fn keep(&mut self, input_url_guard: InputUrlGuard) {
        self.0.push(Arc::new(input_url_guard));
    }
}

impl PartialEq for InputUrlGuards {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, two)| one.digest == two.digest)
    }
}

impl Eq for InputUrlGuards {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Input;

    const TTL: Duration = Duration::from_mins(1);

    fn publish(input_urls: &InputUrls, bytes: &'static [u8]) -> InputUrlGuard {
        let Input::Bytes { picture, source } = Input::for_test(bytes) else { unreachable!("it is made of bytes") };
        input_urls.publish(picture, source)
    }

    fn token(input_url_guard: &InputUrlGuard) -> String {
        input_url_guard.address().rsplit('/').next().unwrap().to_owned()
    }

    fn input_urls() -> InputUrls {
        InputUrls::new("https://gateway.example/base/".parse().unwrap(), TTL)
    }

    #[tokio::test]
    async fn an_address_is_long_random_and_dies_with_its_loan() {
        let input_urls = input_urls();
        let (one, two) = (publish(&input_urls, b"one"), publish(&input_urls, b"two"));
        assert!(one.address().starts_with("https://gateway.example/base/v1/inputs/"), "{}", one.address());
        let (first, second) = (token(&one), token(&two));
        assert_eq!(first.len(), 2 * TOKEN_BYTES);
        assert_ne!(first, second);
        let bytes = |token: &str| input_urls.find(token).map(|published| published.source.in_memory().unwrap());
        assert_eq!(bytes(&first).unwrap(), "one");
        assert_eq!(bytes(&second).unwrap(), "two");
        for wrong in ["", "0", &first[1..], &format!("{first}0"), &first.to_uppercase().replace('A', "b")] {
            assert!(input_urls.find(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{one:?} {input_urls:?}").contains(&first), "it does not print");
        let mut input_url_guards = InputUrlGuards::default();
        input_url_guards.keep(one);
        let copy = input_url_guards.clone();
        drop(input_url_guards);
        assert!(input_urls.find(&first).is_some(), "a prediction's copy keeps it");
        drop(copy);
        assert!(input_urls.find(&first).is_none());
        assert!(input_urls.find(&second).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_dies_after_its_time_and_lets_the_picture_go() {
        let input_urls = input_urls();
        let source: Arc<dyn ByteSource> = Arc::new(bytes::Bytes::from_static(b"one"));
        let Input::Bytes { picture, .. } = Input::for_test(b"one") else { unreachable!("it is made of bytes") };
        let input_url_guard = input_urls.publish(picture, Arc::clone(&source));
        let last = Duration::from_millis(1);
        tokio::time::advance(TTL.saturating_sub(last)).await;
        assert!(input_urls.find(&token(&input_url_guard)).is_some());
        tokio::time::advance(last).await;
        assert!(input_urls.find(&token(&input_url_guard)).is_none());
        let _next = publish(&input_urls, b"two");
        assert_eq!(Arc::strong_count(&source), 1, "the next loan sweeps");
    }
}
