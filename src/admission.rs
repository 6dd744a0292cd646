//! Who may come in, and how many may wait at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ClientConfig, ServerConfig, digest_of_key};
use crate::model::{ClientId, Digest, Expense, OverLimit, QuotaHold, Quotas, Usd};

/// How long a client is asked to stay away when too many wait.
const CROWDED_RETRY: Duration = Duration::from_secs(5);

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    keys: Arc<KeyRing>,
    waiting: Arc<Semaphore>,
}

/// Held while a client waits, not while its order runs.
#[derive(Debug)]
pub(crate) struct Permit {
    _place: OwnedSemaphorePermit,
}

/// Why a known client is not let in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    Crowded { retry_after: Duration },
}

impl Admission {
    pub(crate) fn new(clients: &[ClientConfig], server: &ServerConfig) -> Self {
        let waiting = server.waiting_clients_max.min(Semaphore::MAX_PERMITS);
        Self { keys: Arc::new(KeyRing::new(clients)), waiting: Arc::new(Semaphore::new(waiting)) }
    }

    /// The client that holds this key.
    pub(crate) fn client(&self, key: &str) -> Option<ClientId> {
        self.keys.find(key)
    }

    /// Lets a client wait for its answer.
    ///
    /// # Errors
    ///
    /// [`Rejection::Crowded`] when as many as the gateway holds are waiting already.
    pub(crate) fn admit(&self) -> Result<Permit, Rejection> {
        match Arc::clone(&self.waiting).try_acquire_owned() {
            Ok(place) => Ok(Permit { _place: place }),
            Err(_) => Err(Rejection::Crowded { retry_after: CROWDED_RETRY }),
        }
    }
}

impl Quotas for Admission {
    fn reserve(&self, client: &ClientId, expense: Expense) -> Result<Box<dyn QuotaHold>, OverLimit> {
        Ok(self.adopt(client, expense))
    }

    fn adopt(&self, _client: &ClientId, _expense: Expense) -> Box<dyn QuotaHold> {
        Box::new(Unlimited)
    }
}

/// The hold of a client without limits.
#[derive(Debug)]
struct Unlimited;

impl QuotaHold for Unlimited {
    fn settle(&self, _pictures: usize, _usd: Usd) {}
}

/// The digests of all client keys.
#[derive(Debug)]
struct KeyRing {
    keys: Vec<(Digest, ClientId)>,
}

impl KeyRing {
    fn new(clients: &[ClientConfig]) -> Self {
        let keys = clients.iter().map(|client| (client.key_digest, ClientId(client.name.as_str().into()))).collect();
        Self { keys }
    }

    /// Compares the digest of the presented key with every digest there is, each in constant time, so that neither
    /// the position nor the nearness of a match can be measured.
    fn find(&self, key: &str) -> Option<ClientId> {
        let presented = digest_of_key(key);
        self.keys
            .iter()
            .fold(None, |found, (digest, client)| if *digest == presented { Some(client) } else { found })
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    #[test]
    fn only_the_whole_key_opens() {
        let keys = "alice:0123456789abcdef,bob:fedcba9876543210";
        let environment = Environment::from([("GATEWAY_CLIENT_KEYS".to_owned(), keys.to_owned())]);
        let config = Config::load(None, &environment).unwrap();
        let admission = Admission::new(&config.clients, &config.server);
        let name = |key: &str| admission.client(key).map(|client| client.to_string());
        assert_eq!(name("0123456789abcdef").as_deref(), Some("alice"));
        assert_eq!(name("fedcba9876543210").as_deref(), Some("bob"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "alice:0123456789abcdef"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let mut config = Config::load(None, &Environment::new()).unwrap();
        config.server.waiting_clients_max = 1;
        let admission = Admission::new(&[], &config.server);
        let permit = admission.admit().unwrap();
        assert!(matches!(admission.admit(), Err(Rejection::Crowded { .. })));
        drop(permit);
        admission.admit().unwrap();
    }
}
