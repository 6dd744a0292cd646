//! Input pictures published for the upstream under a URL (`"links"` in `upstream.inputs`): `upstream` publishes them, `api`
//! serves them.
//!
//! Wanted properties:
//! - A URL is a capability that cannot be guessed: 256 random bits, of which only the digest is kept, so the timing of a
//!   look-up reveals nothing.
//! - A URL expires with its [`InputUrlGuard`], which the purchase holds until it ends, or after its time to live.
//! - Nothing is copied: the picture stays in the spool, and counts there, while it is published.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::model::{ByteSource, Digest, Picture};

/// The path below the public URL; the token follows.
const PATH: &str = "/v1/inputs/";
/// The length of a token in bytes.
const TOKEN_BYTES: usize = 32;

/// The published input pictures. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct InputUrls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The prefix of all URLs.
    base: Url,
    ttl: Duration,
    published: Mutex<HashMap<Digest, PublishedInput>>,
}

/// A published input picture.
#[derive(Clone, Debug)]
pub(crate) struct PublishedInput {
    pub(crate) picture: Picture,
    pub(crate) source: Arc<dyn ByteSource>,
    expires: Instant,
}

impl InputUrls {
    /// Publishes below `base`, for `ttl` at most.
    pub(crate) fn new(base: Url, ttl: Duration) -> Self {
        Self { shared: Arc::new(Shared { base, ttl, published: Mutex::default() }) }
    }

    /// Publishes a picture until the guard is dropped.
    pub(crate) fn publish(&self, picture: Picture, source: Arc<dyn ByteSource>) -> InputUrlGuard {
        let now = Instant::now();
        let token: [u8; TOKEN_BYTES] = rand::random();
        let token = token.iter().fold(String::with_capacity(2 * TOKEN_BYTES), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let digest = Digest::of(token.as_bytes());
        let mut url = self.shared.base.clone();
        url.set_path(&format!("{}{PATH}{token}", url.path().trim_end_matches('/')));
        let mut published = self.shared.lock();
        // Expired entries must not hold their pictures.
        published.retain(|_, published| published.expires > now);
        published.insert(digest, PublishedInput { picture, source, expires: now + self.shared.ttl });
        drop(published);
        InputUrlGuard { url, digest, shared: Arc::clone(&self.shared) }
    }

    /// Returns the picture of a token, while it is published.
    pub(crate) fn find(&self, token: &str) -> Option<PublishedInput> {
        let published = self.shared.lock().get(&Digest::of(token.as_bytes())).cloned();
        published.filter(|published| published.expires > Instant::now())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, PublishedInput>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One published picture; dropping it removes the URL.
pub(crate) struct InputUrlGuard {
    url: Url,
    digest: Digest,
    shared: Arc<Shared>,
}

impl InputUrlGuard {
    /// Returns the URL of the picture.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }
}

impl fmt::Debug for InputUrlGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is as good as a key.
        f.write_str("InputUrlGuard")
    }
}

impl Drop for InputUrlGuard {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.digest);
    }
}

/// The guards of one purchase, kept until it has ended. Equal when they are of the same URLs.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputUrlGuards(Vec<Arc<InputUrlGuard>>);

impl InputUrlGuards {
    /// Adds a guard.
    pub(crate) fn push(&mut self, input_url_guard: InputUrlGuard) {
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
        let Input::Bytes { picture, source } = Input::for_test(bytes) else { unreachable!("built from bytes") };
        input_urls.publish(picture, source)
    }

    fn token(input_url_guard: &InputUrlGuard) -> String {
        input_url_guard.url().rsplit('/').next().unwrap().to_owned()
    }

    fn input_urls() -> InputUrls {
        InputUrls::new("https://gateway.example/base/".parse().unwrap(), TTL)
    }

    #[tokio::test]
    async fn a_url_is_random_and_expires_with_its_guard() {
        let input_urls = input_urls();
        let (one, two) = (publish(&input_urls, b"one"), publish(&input_urls, b"two"));
        assert!(one.url().starts_with("https://gateway.example/base/v1/inputs/"), "{}", one.url());
        let (first, second) = (token(&one), token(&two));
        assert_eq!(first.len(), 2 * TOKEN_BYTES);
        assert_ne!(first, second);
        let bytes = |token: &str| input_urls.find(token).map(|published| published.source.in_memory().unwrap());
        assert_eq!(bytes(&first).unwrap(), "one");
        assert_eq!(bytes(&second).unwrap(), "two");
        for wrong in ["", "0", &first[1..], &format!("{first}0"), &first.to_uppercase().replace('A', "b")] {
            assert!(input_urls.find(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{one:?} {input_urls:?}").contains(&first), "`Debug` shows no token");
        let mut input_url_guards = InputUrlGuards::default();
        input_url_guards.push(one);
        let copy = input_url_guards.clone();
        drop(input_url_guards);
        assert!(input_urls.find(&first).is_some(), "a copy of the guards keeps the URL");
        drop(copy);
        assert!(input_urls.find(&first).is_none());
        assert!(input_urls.find(&second).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_url_expires_after_its_time_to_live_and_releases_the_picture() {
        let input_urls = input_urls();
        let source: Arc<dyn ByteSource> = Arc::new(bytes::Bytes::from_static(b"one"));
        let Input::Bytes { picture, .. } = Input::for_test(b"one") else { unreachable!("built from bytes") };
        let input_url_guard = input_urls.publish(picture, Arc::clone(&source));
        let last = Duration::from_millis(1);
        tokio::time::advance(TTL.saturating_sub(last)).await;
        assert!(input_urls.find(&token(&input_url_guard)).is_some());
        tokio::time::advance(last).await;
        assert!(input_urls.find(&token(&input_url_guard)).is_none());
        let _next = publish(&input_urls, b"two");
        assert_eq!(Arc::strong_count(&source), 1, "the next publication removes expired ones");
    }
}
