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
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ClientsConfig, ResponseConfig};
use crate::model::{
    Catalogue, ClientId, Clock, CostEstimate, Credential as _, KeyId, Limit, LimitExceeded, PictureTerms, QuotaHold,
    Quotas, Timestamp, Usd,
};
use crate::storage::clients::StoredClients;
use crate::storage::journal::UsedQuota;
use crate::storage::{Journal, JournalError};
use crate::telemetry::Metrics;

mod concurrency;
mod credential;
mod directory;
mod metrics;
mod period;
mod quota;
mod rate_limiter;
mod spent;
mod status;

use concurrency::InProgress;
pub(crate) use credential::KeyCredential;
use directory::Directory;
use metrics::AdmissionMetrics;
use quota::PastPurchase;
use rate_limiter::RateLimiter;
pub(crate) use rate_limiter::RequestRate;
pub(crate) use spent::{Spent, spent_by_client, start_of_month};
use status::ClientState;
pub(crate) use status::ClientStatus;

/// `Retry-After` when too many requests of all clients wait.
const WAITERS_RETRY: Duration = Duration::from_secs(5);
/// `Retry-After` when too many of the client's own wait: one of them may end at any moment.
const AT_ONCE_RETRY: Duration = Duration::from_secs(1);

/// Handle to the limits of all clients. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// Replaced as a whole by a change; the lock is held to copy or to replace the pointer.
    directory: Arc<RwLock<Arc<Directory>>>,
    waiters: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    metrics: AdmissionMetrics,
}

/// Permission for one request to wait for its response. It is held while the request waits, not while its job runs.
#[derive(Debug)]
pub(crate) struct Permit {
    _waiter: OwnedSemaphorePermit,
    /// Among the client's requests at once.
    _request: Option<InProgress>,
    /// The key that the request came with: once it has ended, its holder does not get what it waits for.
    credential: Arc<KeyCredential>,
}

impl Permit {
    /// Whether the key of the request is still valid.
    pub(crate) fn is_valid(&self) -> bool {
        self.credential.is_valid()
    }

    /// Waits until the key of the request is revoked or expires.
    pub(crate) async fn ended(&self) {
        self.credential.ended().await;
    }

    /// Returns the key of the request, for what outlives it.
    pub(crate) fn credential(&self) -> Arc<KeyCredential> {
        Arc::clone(&self.credential)
    }
}

/// What others have to know of the clients.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    /// The weight of every client.
    pub(crate) weights: HashMap<ClientId, f64>,
    /// When the next key ends by itself, where there is one that does.
    pub(crate) next_expiry: Option<Timestamp>,
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
        configured: &ClientsConfig,
        stored: &StoredClients,
        responses: &ResponseConfig,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        let waiters = responses.waiters_max.min(Semaphore::MAX_PERMITS);
        let directory = Directory::new(configured, stored, &Directory::default(), &clock, |_| true);
        let admission = Self {
            directory: Arc::new(RwLock::new(Arc::new(directory))),
            waiters: Arc::new(Semaphore::new(waiters)),
            metrics: AdmissionMetrics::new(metrics),
            clock,
        };
        admission.refresh_metrics();
        admission
    }

    fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn client_state(&self, client: &ClientId) -> Option<Arc<ClientState>> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).clients.get(client).cloned()
    }

    /// Replaces clients, keys and limits. What was counted goes on to count. Clients that were not known before are admitted once
    /// it is counted what they have bought this month; the rest is in force before that.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be read: no new client is admitted.
    pub(crate) async fn update(
        &self,
        configured: &ClientsConfig,
        stored: &StoredClients,
        journal: &dyn Journal,
        catalogue: &Catalogue,
    ) -> Result<(), JournalError> {
        // Updates are made one after the other, so none is lost between reading and writing.
        let before = self.directory();
        let is_known = |name: &ClientId| before.clients.contains_key(name);
        let known = Arc::new(Directory::new(configured, stored, &before, &self.clock, is_known));
        replace(&self.directory, &before, &known);
        let names = configured.entries.iter().map(|client| ClientId(client.name.as_str().into()));
        if names.chain(stored.clients.iter().map(|client| client.name.clone())).all(|name| is_known(&name)) {
            return Ok(());
        }
        let all = Arc::new(Directory::new(configured, stored, &known, &self.clock, |_| true));
        count_past(&all, journal, catalogue, &*self.clock, |name| !is_known(name)).await?;
        replace(&self.directory, &known, &all);
        Ok(())
    }

    /// Returns what others have to know of the clients.
    pub(crate) fn outlook(&self) -> Outlook {
        let directory = self.directory();
        Outlook { weights: directory.weights(), next_expiry: directory.next_expiry() }
    }

    /// Returns the stored keys that were used since this was last asked.
    pub(crate) fn take_used_keys(&self) -> Vec<KeyId> {
        self.directory().take_used()
    }

    /// Counts what was bought this month before the gateway started: once, before the engine resumes unfinished jobs.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be read.
    pub(crate) async fn count_past_purchases(
        &self,
        journal: &dyn Journal,
        catalogue: &Catalogue,
    ) -> Result<(), JournalError> {
        count_past(&self.directory(), journal, catalogue, &*self.clock, |_| true).await
    }

    /// Returns the client that holds this key, and what says how long it is valid.
    pub(crate) fn client(&self, key: &str) -> Option<(ClientId, Arc<KeyCredential>)> {
        let directory = self.directory();
        let (client, credential) = directory.find(key, &*self.clock)?;
        Some((client.clone(), Arc::clone(credential)))
    }

    /// Whether a client has a key, by what was known at the last change or expiry.
    pub(crate) fn has_key(&self, client: &ClientId) -> bool {
        self.client_state(client).is_some_and(|client| client.requests.is_listed())
    }

    /// Permits a request of a client to wait for its response.
    ///
    /// # Errors
    ///
    /// [`Rejection::LimitExceeded`] when the client has reached its limit of requests at once,
    /// [`Rejection::TooManyWaiters`] when the gateway has reached its limit of all waiting requests.
    pub(crate) fn admit(&self, client: &ClientId, credential: Arc<KeyCredential>) -> Result<Permit, Rejection> {
        let request = match self.client_state(client) {
            Some(client) => {
                let limit = client.quota.limits().requests_at_once;
                Some(client.requests.begin(limit).ok_or_else(|| {
                    self.metrics.refused(Limit::RequestsAtOnce);
                    Rejection::LimitExceeded(LimitExceeded { limit: Limit::RequestsAtOnce, retry_after: AT_ONCE_RETRY })
                })?)
            }
            None => None,
        };
        match Arc::clone(&self.waiters).try_acquire_owned() {
            Ok(waiter) => Ok(Permit { _waiter: waiter, _request: request, credential }),
            Err(_) => Err(Rejection::TooManyWaiters { retry_after: WAITERS_RETRY }),
        }
    }

    /// Counts a request for pictures against the client's requests per minute.
    ///
    /// # Errors
    ///
    /// [`LimitExceeded`] when they are used up.
    pub(crate) fn check_rate(&self, client: &ClientId) -> Result<(), LimitExceeded> {
        let limiter = self.client_state(client).and_then(|client| client.rate_limiter.clone());
        let Some(limiter) = limiter else { return Ok(()) };
        limiter.check().map_err(|retry_after| {
            self.metrics.refused(Limit::RequestsPerMinute);
            LimitExceeded { limit: Limit::RequestsPerMinute, retry_after }
        })
    }

    /// Returns the state of a client's requests per minute; `None` where they are not limited.
    pub(crate) fn request_rate(&self, client: &ClientId) -> Option<RequestRate> {
        self.client_state(client)?.rate_limiter.as_deref().map(RateLimiter::rate)
    }

    /// Returns the ids of the models that a client may use; `None` for all of them.
    pub(crate) fn models(&self, client: &ClientId) -> Option<Arc<BTreeSet<String>>> {
        self.client_state(client)?.models.clone()
    }

    /// Returns every client that has a key, or has spent something this month, by name.
    pub(crate) fn status(&self) -> Vec<ClientStatus> {
        let directory = self.directory();
        let all = directory.clients.iter().map(|(name, client)| ClientStatus::of(name, client));
        let mut clients: Vec<ClientStatus> =
            all.filter(|client| client.has_key || client.usd_per_month.used > 0.0).collect();
        clients.sort_by(|one, two| one.name.cmp(&two.name));
        clients
    }

    /// Updates the gauges before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        let mut clients = self.status();
        clients.retain(|client| client.has_key);
        self.metrics.refresh(&clients);
    }
}

/// Replaces a directory, and ends what was begun with keys that the next one does not have.
fn replace(shared: &RwLock<Arc<Directory>>, before: &Directory, next: &Arc<Directory>) {
    *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(next);
    before.end_others(next);
}

/// Counts what some clients have bought this month.
async fn count_past(
    directory: &Directory,
    journal: &dyn Journal,
    catalogue: &Catalogue,
    clock: &dyn Clock,
    of: impl Fn(&ClientId) -> bool,
) -> Result<(), JournalError> {
    let used = journal.quota_used_since(start_of_month(clock)).await?;
    for (client, purchases) in past_purchases(used, catalogue) {
        if of(&client)
            && let Some(client) = directory.clients.get(&client)
        {
            client.quota.count_past(&purchases);
        }
    }
    Ok(())
}

/// Returns what each client has bought, also of a model that the catalogue no longer has. What has no tokens is counted by the
/// estimate of a picture, because the sums of the journal have neither size nor quality.
fn past_purchases(used: Vec<UsedQuota>, catalogue: &Catalogue) -> HashMap<ClientId, Vec<PastPurchase>> {
    let mut past: HashMap<ClientId, Vec<PastPurchase>> = HashMap::new();
    for spent in used {
        let model = catalogue.find(&spent.model);
        let price = model.map_or(Usd::default(), |model| {
            model.price.cost(spent.pictures, spent.usage.as_ref(), PictureTerms::default()).usd
        });
        let purchase = PastPurchase { requested: spent.created, pictures: spent.pictures, usd: price };
        past.entry(spent.client).or_default().push(purchase);
    }
    past
}

impl Quotas for Admission {
    fn reserve(&self, client: &ClientId, estimate: CostEstimate) -> Result<Box<dyn QuotaHold>, LimitExceeded> {
        let Some(client) = self.client_state(client) else { return Ok(Box::new(Unlimited)) };
        match client.quota.reserve(estimate) {
            Ok(hold) => Ok(Box::new(hold)),
            Err(exceeded) => {
                self.metrics.refused(exceeded.limit);
                Err(exceeded)
            }
        }
    }

    fn adopt(&self, client: &ClientId, estimate: CostEstimate) -> Box<dyn QuotaHold> {
        match self.client_state(client) {
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

#[cfg(test)]
mod tests;
