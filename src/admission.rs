//! Who may come in, how many may wait at once, and how much each client may use.
//!
//! | limit                         | counted                                   | where        |
//! |-------------------------------|-------------------------------------------|--------------|
//! | requests a minute             | at the door, before the body is read      | `door.rs`    |
//! | requests at once              | from the door to the answer               | here         |
//! | predictions at once           | when an order is to be bought; a hit or a | `account.rs` |
//! | pictures a day                | join never comes so far                   |              |
//! | money a day and a month       |                                           |              |
//! | models                        | when the request has been read            | here         |
//!
//! What was spent before the start is summed from the journal, the only owner of that fact.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ClientConfig, ServerConfig, digest_of_key};
use crate::model::{Catalogue, ClientId, Clock, CostEstimate, Digest, Limit, LimitExceeded, QuotaHold, Quotas, Usd};
use crate::storage::{Journal, JournalError};
use crate::telemetry::Metrics;

mod account;
mod metrics;
mod period;
mod rate_limiter;
mod status;

use account::{Account, Earlier};
use metrics::AdmissionMetrics;
use rate_limiter::Door;
pub(crate) use rate_limiter::RequestRate;
pub(crate) use status::ClientStatus;

/// How long a client is asked to stay away when too many wait.
const CROWDED_RETRY: Duration = Duration::from_secs(5);
/// The same when too many of its own do: one of them may end at any moment.
const AT_ONCE_RETRY: Duration = Duration::from_secs(1);

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    keys: Arc<KeyRing>,
    waiting: Arc<Semaphore>,
    guests: Arc<HashMap<ClientId, ClientState>>,
    clock: Arc<dyn Clock>,
    metrics: AdmissionMetrics,
}

/// What is known of a client.
#[derive(Debug)]
struct ClientState {
    weight: f64,
    /// `None`: all of them.
    models: Option<BTreeSet<String>>,
    /// Where its requests a minute are limited.
    door: Option<Door>,
    /// Where its requests at once are limited: how many more there may be.
    places: Option<Arc<Semaphore>>,
    account: Arc<Account>,
}

/// Held while a client waits, not while its order runs.
#[derive(Debug)]
pub(crate) struct Permit {
    _place: OwnedSemaphorePermit,
    /// Among the client's own.
    _own: Option<OwnedSemaphorePermit>,
}

/// Why a known client is not let in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    Crowded { retry_after: Duration },
    Over(LimitExceeded),
}

impl Admission {
    pub(crate) fn new(
        clients: &[ClientConfig],
        server: &ServerConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        let waiting = server.waiters_max.min(Semaphore::MAX_PERMITS);
        let guest = |client: &ClientConfig| {
            let guest = ClientState {
                weight: client.weight,
                models: client.models.clone(),
                door: client.limits.requests_per_minute.map(Door::new),
                places: client.limits.requests_at_once.map(|most| Arc::new(Semaphore::new(most.get() as usize))),
                account: Arc::new(Account::new(client.limits, Arc::clone(&clock))),
            };
            (ClientId(client.name.as_str().into()), guest)
        };
        let admission = Self {
            keys: Arc::new(KeyRing::new(clients)),
            waiting: Arc::new(Semaphore::new(waiting)),
            guests: Arc::new(clients.iter().map(guest).collect()),
            metrics: AdmissionMetrics::new(metrics),
            clock,
        };
        admission.refresh_metrics();
        admission
    }

    /// Counts what was bought this month before the gateway started. To be called once, before the engine takes up what
    /// is under way.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be read.
    pub(crate) async fn recall(&self, journal: &dyn Journal, catalogue: &Catalogue) -> Result<(), JournalError> {
        let since = period::start_of_month(period::day(self.clock.now()));
        let mut earlier: HashMap<ClientId, Vec<Earlier>> = HashMap::new();
        for spent in journal.quota_used_since(since).await? {
            // As the engine prices it, also a model that the catalogue has no more.
            let model = catalogue.find(&spent.model);
            let usd = model.map_or(Usd::default(), |model| model.price.of(spent.pictures, spent.usage.as_ref()));
            let one = Earlier { ordered: spent.created, pictures: spent.pictures, usd };
            earlier.entry(spent.client).or_default().push(one);
        }
        for (client, earlier) in earlier {
            if let Some(guest) = self.guests.get(&client) {
                guest.account.recall(&earlier);
            }
        }
        Ok(())
    }

    /// The client that holds this key.
    pub(crate) fn client(&self, key: &str) -> Option<ClientId> {
        self.keys.find(key)
    }

    /// Lets a client wait for its answer.
    ///
    /// # Errors
    ///
    /// [`Rejection::Over`] when as many of its requests as it may have are waiting already; [`Rejection::Crowded`] when as
    /// many as the gateway holds are.
    pub(crate) fn admit(&self, client: &ClientId) -> Result<Permit, Rejection> {
        let own = match self.guests.get(client).and_then(|guest| guest.places.as_ref()) {
            Some(places) => Some(Arc::clone(places).try_acquire_owned().map_err(|_| {
                self.metrics.refused(Limit::RequestsAtOnce);
                Rejection::Over(LimitExceeded { limit: Limit::RequestsAtOnce, retry_after: AT_ONCE_RETRY })
            })?),
            None => None,
        };
        match Arc::clone(&self.waiting).try_acquire_owned() {
            Ok(place) => Ok(Permit { _place: place, _own: own }),
            Err(_) => Err(Rejection::Crowded { retry_after: CROWDED_RETRY }),
        }
    }

    /// Counts a request for pictures.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`] when the client's requests a minute are used up.
    pub(crate) fn knock(&self, client: &ClientId) -> Result<(), LimitExceeded> {
        let Some(door) = self.guests.get(client).and_then(|guest| guest.door.as_ref()) else { return Ok(()) };
        door.knock().map_err(|retry_after| {
            self.metrics.refused(Limit::RequestsPerMinute);
            LimitExceeded { limit: Limit::RequestsPerMinute, retry_after }
        })
    }

    /// Where a client stands with its requests a minute; `None` where they are not limited.
    pub(crate) fn request_rate(&self, client: &ClientId) -> Option<RequestRate> {
        self.guests.get(client)?.door.as_ref().map(Door::rate)
    }

    /// The ids of the models a client may use; `None` for all of them.
    pub(crate) fn models(&self, client: &ClientId) -> Option<&BTreeSet<String>> {
        self.guests.get(client)?.models.as_ref()
    }
}

impl Quotas for Admission {
    fn reserve(&self, client: &ClientId, expense: CostEstimate) -> Result<Box<dyn QuotaHold>, LimitExceeded> {
        let Some(guest) = self.guests.get(client) else { return Ok(Box::new(Unlimited)) };
        match guest.account.reserve(expense) {
            Ok(hold) => Ok(Box::new(hold)),
            Err(over) => {
                self.metrics.refused(over.limit);
                Err(over)
            }
        }
    }

    fn adopt(&self, client: &ClientId, expense: CostEstimate) -> Box<dyn QuotaHold> {
        match self.guests.get(client) {
            Some(guest) => Box::new(guest.account.adopt(expense)),
            None => Box::new(Unlimited),
        }
    }
}

/// The hold of a client that the configuration has no more, whose orders are still under way.
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
    use super::status::LimitUsage;
    use super::*;
    use crate::config::{Config, Environment};
    use crate::model::SystemClock;

    #[test]
    fn only_the_whole_key_opens() {
        let keys = "alice:0123456789abcdef,bob:fedcba9876543210";
        let environment = Environment::from([("GATEWAY_CLIENT_KEYS".to_owned(), keys.to_owned())]);
        let config = Config::load(None, &environment).unwrap();
        let admission = Admission::new(&config.clients, &config.server, Arc::new(SystemClock), &Metrics::default());
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
        config.server.waiters_max = 1;
        let admission = Admission::new(&[], &config.server, Arc::new(SystemClock), &Metrics::default());
        let anybody = ClientId("anybody".into());
        let permit = admission.admit(&anybody).unwrap();
        assert!(matches!(admission.admit(&anybody), Err(Rejection::Crowded { .. })));
        drop(permit);
        admission.admit(&anybody).unwrap();
    }

    #[test]
    fn one_clients_requests_at_once_are_bounded_and_no_others() {
        let variables = [
            ("GATEWAY_CLIENT_KEYS", "alice:0123456789abcdef,bob:fedcba9876543210"),
            ("GATEWAY_LIMITS__REQUESTS_AT_ONCE", "2"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(None, &Environment::from(variables)).unwrap();
        let admission = Admission::new(&config.clients, &config.server, Arc::new(SystemClock), &Metrics::default());
        let (alice, bob) = (ClientId("alice".into()), ClientId("bob".into()));
        let permits = [admission.admit(&alice).unwrap(), admission.admit(&alice).unwrap()];
        let Err(Rejection::Over(over)) = admission.admit(&alice) else { panic!("a third") };
        assert_eq!(over.limit, Limit::RequestsAtOnce);
        assert_eq!(admission.status()[0].requests_at_once, LimitUsage { used: 2, limit: Some(2) });
        admission.admit(&bob).unwrap();
        drop(permits);
        admission.admit(&alice).unwrap();
        assert_eq!(admission.status()[0].requests_at_once.used, 0);
    }
}
