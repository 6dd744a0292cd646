//! Input pictures lent to the upstream by address (`upstream.inputs = "link"`): `upstream` lends them, `api` serves them.
//!
//! Wanted:
//! - Whoever has the address may see the picture, and nobody guesses it: 256 random bits, kept as their digest only, so a
//!   look-up compares nothing that an attacker could learn from its timing.
//! - An address dies with its [`Loan`], which the prediction holds until it ends, or after its time, whichever is first.
//! - Nothing is copied: the picture stays in the spool, and counts there, for as long as it is lent.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

use crate::model::{Digest, Picture, Source};

/// Below the public address; the token follows.
const PATH: &str = "/v1/inputs/";
/// Bytes of a token.
const TOKEN_BYTES: usize = 32;

/// What is lent at the moment. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lending {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// What addresses begin with.
    base: Url,
    ttl: Duration,
    lent: Mutex<HashMap<Digest, Lent>>,
}

/// A picture that is lent.
#[derive(Clone, Debug)]
pub(crate) struct Lent {
    pub(crate) picture: Picture,
    pub(crate) source: Arc<dyn Source>,
    until: Instant,
}

impl Lending {
    /// Lends below `base`, for `ttl` at most.
    pub(crate) fn new(base: Url, ttl: Duration) -> Self {
        Self { shared: Arc::new(Shared { base, ttl, lent: Mutex::default() }) }
    }

    /// Lends a picture until the loan is dropped.
    pub(crate) fn lend(&self, picture: Picture, source: Arc<dyn Source>) -> Loan {
        let now = Instant::now();
        let token: [u8; TOKEN_BYTES] = rand::random();
        let token = token.iter().fold(String::with_capacity(2 * TOKEN_BYTES), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let digest = Digest::of(token.as_bytes());
        let mut address = self.shared.base.clone();
        address.set_path(&format!("{}{PATH}{token}", address.path().trim_end_matches('/')));
        let mut lent = self.shared.lock();
        // What is past its time holds a picture for nobody.
        lent.retain(|_, lent| lent.until > now);
        lent.insert(digest, Lent { picture, source, until: now + self.shared.ttl });
        drop(lent);
        Loan { address, digest, shared: Arc::clone(&self.shared) }
    }

    /// The picture behind a token, for as long as it is lent.
    pub(crate) fn find(&self, token: &str) -> Option<Lent> {
        let lent = self.shared.lock().get(&Digest::of(token.as_bytes())).cloned();
        lent.filter(|lent| lent.until > Instant::now())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Lent>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One picture lent; dropping it ends the address.
pub(crate) struct Loan {
    address: Url,
    digest: Digest,
    shared: Arc<Shared>,
}

impl Loan {
    /// Where the picture is.
    pub(crate) fn address(&self) -> &str {
        self.address.as_str()
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address is as good as a key.
        f.write_str("Loan")
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.digest);
    }
}

/// The loans of one prediction, kept until it has ended. Equal when they are the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loans(Vec<Arc<Loan>>);

impl Loans {
    /// Adds a loan.
    pub(crate) fn keep(&mut self, loan: Loan) {
        self.0.push(Arc::new(loan));
    }
}

impl PartialEq for Loans {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, two)| one.digest == two.digest)
    }
}

impl Eq for Loans {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Input;

    const TTL: Duration = Duration::from_mins(1);

    fn lend(lending: &Lending, bytes: &'static [u8]) -> Loan {
        let Input::Bytes { picture, source } = Input::for_test(bytes) else { unreachable!("it is made of bytes") };
        lending.lend(picture, source)
    }

    fn token(loan: &Loan) -> String {
        loan.address().rsplit('/').next().unwrap().to_owned()
    }

    fn lending() -> Lending {
        Lending::new("https://gateway.example/base/".parse().unwrap(), TTL)
    }

    #[tokio::test]
    async fn an_address_is_long_random_and_dies_with_its_loan() {
        let lending = lending();
        let (one, two) = (lend(&lending, b"one"), lend(&lending, b"two"));
        assert!(one.address().starts_with("https://gateway.example/base/v1/inputs/"), "{}", one.address());
        let (first, second) = (token(&one), token(&two));
        assert_eq!(first.len(), 2 * TOKEN_BYTES);
        assert_ne!(first, second);
        let bytes = |token: &str| lending.find(token).map(|lent| lent.source.in_memory().unwrap());
        assert_eq!(bytes(&first).unwrap(), "one");
        assert_eq!(bytes(&second).unwrap(), "two");
        for wrong in ["", "0", &first[1..], &format!("{first}0"), &first.to_uppercase().replace('A', "b")] {
            assert!(lending.find(wrong).is_none(), "{wrong}");
        }
        assert!(!format!("{one:?} {lending:?}").contains(&first), "it does not print");
        let mut loans = Loans::default();
        loans.keep(one);
        let copy = loans.clone();
        drop(loans);
        assert!(lending.find(&first).is_some(), "a prediction's copy keeps it");
        drop(copy);
        assert!(lending.find(&first).is_none());
        assert!(lending.find(&second).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_dies_after_its_time_and_lets_the_picture_go() {
        let lending = lending();
        let source: Arc<dyn Source> = Arc::new(bytes::Bytes::from_static(b"one"));
        let Input::Bytes { picture, .. } = Input::for_test(b"one") else { unreachable!("it is made of bytes") };
        let loan = lending.lend(picture, Arc::clone(&source));
        let last = Duration::from_millis(1);
        tokio::time::advance(TTL.saturating_sub(last)).await;
        assert!(lending.find(&token(&loan)).is_some());
        tokio::time::advance(last).await;
        assert!(lending.find(&token(&loan)).is_none());
        let _next = lend(&lending, b"two");
        assert_eq!(Arc::strong_count(&source), 1, "the next loan sweeps");
    }
}
