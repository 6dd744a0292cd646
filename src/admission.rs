//! The limits of clients: whose key is valid, how many requests may wait at once, and how much each client may use.
//!
//! | limit                   | counted                                         | where             |
//! |-------------------------|-------------------------------------------------|-------------------|
//! | requests per minute     | when a request arrives, before its body is read | `rate_limiter.rs` |
//! | requests at once        | from its arrival to its response                | here              |
//! | predictions at once     | when a job is to be bought; a cache hit or a    | `quota.rs`        |
//! | pictures per day        | joined job is not counted                       |                   |
//! | money per day and month |                                                 |                   |
//! | models                  | when the request has been read                  | here              |
//!
//! What was spent before the start is summed from the journal, which is the only source of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ClientConfig, ResponseConfig, digest_of_key};
use crate::model::{Catalogue, ClientId, Clock, CostEstimate, Digest, Limit, LimitExceeded, QuotaHold, Quotas, Usd};
use crate::storage::{Journal, JournalError};
use crate::telemetry::Metrics;

mod metrics;
mod period;
mod quota;
mod rate_limiter;
mod status;

use metrics::AdmissionMetrics;
use quota::{ClientQuota, PastPurchase};
use rate_limiter::RateLimiter;
pub(crate) use rate_limiter::RequestRate;
use status::ClientState;
pub(crate) use status::ClientStatus;

/// `Retry-After` when too many requests of all clients wait.
const WAITERS_RETRY: Duration = Duration::from_secs(5);
/// `Retry-After` when too many of the client's own wait: one of them may end at any moment.
const AT_ONCE_RETRY: Duration = Duration::from_secs(1);

/// Handle to the limits of all clients. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    keys: Arc<KeyRing>,
    waiters: Arc<Semaphore>,
    clients: Arc<HashMap<ClientId, ClientState>>,
    clock: Arc<dyn Clock>,
    metrics: AdmissionMetrics,
}

/// Permission for one request to wait for its response. It is held while the request waits, not while its job runs.
#[derive(Debug)]
pub(crate) struct Permit {
    _waiter: OwnedSemaphorePermit,
    /// Among the client's requests at once, where they are limited.
    _request: Option<OwnedSemaphorePermit>,
}

/// Why a request of a known client is refused now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Too many requests of all clients wait.
    TooManyWaiters {
        retry_after: Duration,
    },
    LimitExceeded(LimitExceeded),
}

impl Admission {
    pub(crate) fn new(
        clients: &[ClientConfig],
        responses: &ResponseConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        let waiters = responses.waiters_max.min(Semaphore::MAX_PERMITS);
        let state_of = |client: &ClientConfig| {
            let state = ClientState {
                weight: client.weight,
                models: client.models.clone(),
                rate_limiter: client.limits.requests_per_minute.map(RateLimiter::new),
                requests_at_once: client
                    .limits
                    .requests_at_once
                    .map(|max| Arc::new(Semaphore::new(max.get() as usize))),
                quota: Arc::new(ClientQuota::new(client.limits, Arc::clone(&clock))),
            };
            (ClientId(client.name.as_str().into()), state)
        };
        let admission = Self {
            keys: Arc::new(KeyRing::new(clients)),
            waiters: Arc::new(Semaphore::new(waiters)),
            clients: Arc::new(clients.iter().map(state_of).collect()),
            metrics: AdmissionMetrics::new(metrics),
            clock,
        };
        admission.refresh_metrics();
        admission
    }

    /// Counts what was bought this month before the gateway started. Call it once, before the engine resumes unfinished
    /// jobs.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be read.
    pub(crate) async fn count_past_purchases(
        &self,
        journal: &dyn Journal,
        catalogue: &Catalogue,
    ) -> Result<(), JournalError> {
        let since = period::start_of_month(period::day(self.clock.now()));
        let mut past: HashMap<ClientId, Vec<PastPurchase>> = HashMap::new();
        for spent in journal.quota_used_since(since).await? {
            // Priced as in the engine, also for a model that the catalogue no longer has.
            let model = catalogue.find(&spent.model);
            let usd = model.map_or(Usd::default(), |model| model.price.of(spent.pictures, spent.usage.as_ref()));
            let purchase = PastPurchase { requested: spent.created, pictures: spent.pictures, usd };
            past.entry(spent.client).or_default().push(purchase);
        }
        for (client, purchases) in past {
            if let Some(client) = self.clients.get(&client) {
                client.quota.count_past(&purchases);
            }
        }
        Ok(())
    }

    /// Returns the client that holds this key.
    pub(crate) fn client(&self, key: &str) -> Option<ClientId> {
        self.keys.find(key)
    }

    /// Permits a request of a client to wait for its response.
    ///
    /// # Errors
    ///
    /// [`Rejection::LimitExceeded`] when the client has reached its limit of requests at once,
    /// [`Rejection::TooManyWaiters`] when the gateway has reached its limit of all waiting requests.
    pub(crate) fn admit(&self, client: &ClientId) -> Result<Permit, Rejection> {
        let request = match self.clients.get(client).and_then(|client| client.requests_at_once.as_ref()) {
            Some(requests) => Some(Arc::clone(requests).try_acquire_owned().map_err(|_| {
                self.metrics.refused(Limit::RequestsAtOnce);
                Rejection::LimitExceeded(LimitExceeded { limit: Limit::RequestsAtOnce, retry_after: AT_ONCE_RETRY })
            })?),
            None => None,
        };
        match Arc::clone(&self.waiters).try_acquire_owned() {
            Ok(waiter) => Ok(Permit { _waiter: waiter, _request: request }),
            Err(_) => Err(Rejection::TooManyWaiters { retry_after: WAITERS_RETRY }),
        }
    }

    /// Counts a request for pictures against the client's requests per minute.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`] when they are used up.
    pub(crate) fn check_rate(&self, client: &ClientId) -> Result<(), LimitExceeded> {
        let limiter = self.clients.get(client).and_then(|client| client.rate_limiter.as_ref());
        let Some(limiter) = limiter else { return Ok(()) };
        limiter.check().map_err(|retry_after| {
            self.metrics.refused(Limit::RequestsPerMinute);
            LimitExceeded { limit: Limit::RequestsPerMinute, retry_after }
        })
    }

    /// Returns the state of a client's requests per minute; `None` where they are not limited.
    pub(crate) fn request_rate(&self, client: &ClientId) -> Option<RequestRate> {
        self.clients.get(client)?.rate_limiter.as_ref().map(RateLimiter::rate)
    }

    /// Returns the ids of the models that a client may use; `None` for all of them.
    pub(crate) fn models(&self, client: &ClientId) -> Option<&BTreeSet<String>> {
        self.clients.get(client)?.models.as_ref()
    }
}

impl Admission {
    /// Returns every client, by name.
    pub(crate) fn status(&self) -> Vec<ClientStatus> {
        let mut clients: Vec<ClientStatus> =
            self.clients.iter().map(|(name, client)| ClientStatus::of(name, client)).collect();
        clients.sort_by(|one, two| one.name.cmp(&two.name));
        clients
    }

    /// Updates the gauges before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        self.metrics.refresh(&self.status());
    }
}

impl Quotas for Admission {
    fn reserve(&self, client: &ClientId, estimate: CostEstimate) -> Result<Box<dyn QuotaHold>, LimitExceeded> {
        let Some(client) = self.clients.get(client) else { return Ok(Box::new(Unlimited)) };
        match client.quota.reserve(estimate) {
            Ok(hold) => Ok(Box::new(hold)),
            Err(exceeded) => {
                self.metrics.refused(exceeded.limit);
                Err(exceeded)
            }
        }
    }

    fn adopt(&self, client: &ClientId, estimate: CostEstimate) -> Box<dyn QuotaHold> {
        match self.clients.get(client) {
            Some(client) => Box::new(client.quota.adopt(estimate)),
            None => Box::new(Unlimited),
        }
    }
}

/// The hold of a client that is no longer configured and has unfinished jobs.
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

    /// Finds the client of a key. Compares the digest of the presented key with every digest in constant time, so that
    /// neither the position nor the similarity of a match can be measured.
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
    fn only_the_complete_key_is_accepted() {
        let keys = "alice:0123456789abcdef,bob:fedcba9876543210";
        let environment = Environment::from([("GATEWAY_CLIENT_KEYS".to_owned(), keys.to_owned())]);
        let config = Config::load(None, &environment).unwrap();
        let admission = Admission::new(
            &config.clients.entries,
            &config.server.responses,
            Arc::new(SystemClock),
            &Metrics::default(),
        );
        let name = |key: &str| admission.client(key).map(|client| client.to_string());
        assert_eq!(name("0123456789abcdef").as_deref(), Some("alice"));
        assert_eq!(name("fedcba9876543210").as_deref(), Some("bob"));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "alice:0123456789abcdef"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn waiters_are_bounded_and_their_permits_returned() {
        let mut config = Config::load(None, &Environment::new()).unwrap();
        config.server.responses.waiters_max = 1;
        let admission = Admission::new(&[], &config.server.responses, Arc::new(SystemClock), &Metrics::default());
        let client = ClientId("unlimited".into());
        let permit = admission.admit(&client).unwrap();
        assert!(matches!(admission.admit(&client), Err(Rejection::TooManyWaiters { .. })));
        drop(permit);
        admission.admit(&client).unwrap();
    }

    #[test]
    fn the_requests_at_once_of_one_client_are_bounded_without_affecting_others() {
        let variables = [
            ("GATEWAY_CLIENT_KEYS", "alice:0123456789abcdef,bob:fedcba9876543210"),
            ("GATEWAY_LIMITS__REQUESTS_AT_ONCE", "2"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(None, &Environment::from(variables)).unwrap();
        let admission = Admission::new(
            &config.clients.entries,
            &config.server.responses,
            Arc::new(SystemClock),
            &Metrics::default(),
        );
        let (alice, bob) = (ClientId("alice".into()), ClientId("bob".into()));
        let permits = [admission.admit(&alice).unwrap(), admission.admit(&alice).unwrap()];
        let Err(Rejection::LimitExceeded(exceeded)) = admission.admit(&alice) else { panic!("a third") };
        assert_eq!(exceeded.limit, Limit::RequestsAtOnce);
        assert_eq!(admission.status()[0].requests_at_once, LimitUsage { used: 2, limit: Some(2) });
        admission.admit(&bob).unwrap();
        drop(permits);
        admission.admit(&alice).unwrap();
        assert_eq!(admission.status()[0].requests_at_once.used, 0);
    }
}
