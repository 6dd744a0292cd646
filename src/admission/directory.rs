//! The clients and their keys at one moment. A change makes a new directory, which takes over what was counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::concurrency::Concurrency;
use super::credential::KeyCredential;
use super::quota::ClientQuota;
use super::rate_limiter::RateLimiter;
use super::status::ClientState;
use crate::config::{ClientConfig, ClientLimits, ClientsConfig, WEIGHT_DEFAULT, digest_of_key};
use crate::model::{ClientId, Clock, Digest, KeyId, Timestamp};
use crate::storage::clients::{StoredClient, StoredClients};

/// Clients by name and by key.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// By digest. Where it is in the table depends on a secret of the table, and digests compare in constant time, so a look-up
    /// says nothing of the keys that are there.
    keys: HashMap<Digest, Key>,
    /// Those that were removed are kept: their jobs may be under way, and what they used counts when they come back.
    pub(super) clients: HashMap<ClientId, Arc<ClientState>>,
}

#[derive(Debug)]
struct Key {
    client: ClientId,
    valid_until: Option<Timestamp>,
    /// `None` for a key of the configuration.
    id: Option<KeyId>,
    /// Since it was last asked.
    used: AtomicBool,
    credential: Arc<KeyCredential>,
}

impl Directory {
    /// Returns those clients of the configuration, and of those that are stored, that `is_admitted` names. A name that is in both
    /// has the limits of the configuration.
    pub(super) fn new(
        configured: &ClientsConfig,
        stored: &StoredClients,
        before: &Self,
        clock: &Arc<dyn Clock>,
        is_admitted: impl Fn(&ClientId) -> bool,
    ) -> Self {
        let now = clock.now();
        let mut directory = Self::default();
        for key in stored.keys.iter().filter(|key| key.state(now).is_valid() && is_admitted(&key.client)) {
            let taken_over = before.taken_over(&key.digest, &key.client, key.valid_until(), Some(key.id));
            directory.keys.insert(key.digest, taken_over);
        }
        let configured_clients = || configured.entries.iter().filter(|client| is_admitted(&id(&client.name)));
        for client in configured_clients() {
            let digest = client.key_digest;
            directory.keys.insert(digest, before.taken_over(&digest, &id(&client.name), None, None));
        }
        let with_key: std::collections::HashSet<&ClientId> = directory.keys.values().map(|key| &key.client).collect();
        let own = configured_clients().map(|client| (id(&client.name), Terms::of_config(client)));
        let others = stored.clients.iter().filter(|client| is_admitted(&client.name));
        let others = others.map(|client| (client.name.clone(), Terms::of_stored(client, configured.limits)));
        let mut clients = HashMap::new();
        // Those of the configuration come last and replace others.
        for (name, terms) in others.chain(own) {
            let is_listed = with_key.contains(&name);
            let state = terms.state(before.clients.get(&name), clock);
            state.requests.set_listed(is_listed);
            clients.insert(name, Arc::new(state));
        }
        for (name, state) in &before.clients {
            clients.entry(name.clone()).or_insert_with(|| {
                state.requests.set_listed(false);
                Arc::clone(state)
            });
        }
        directory.clients = clients;
        directory
    }

    /// Returns a key of the next directory. What was begun with it goes on, and it is marked as used where the one before it was
    /// and that is not yet stored.
    fn taken_over(&self, digest: &Digest, client: &ClientId, valid_until: Option<Timestamp>, id: Option<KeyId>) -> Key {
        let before = self.keys.get(digest).filter(|before| before.client == *client);
        Key {
            client: client.clone(),
            valid_until,
            id,
            used: AtomicBool::new(before.is_some_and(|before| before.used.load(Ordering::Relaxed))),
            credential: before.map(|before| Arc::clone(&before.credential)).unwrap_or_default(),
        }
    }

    /// Ends the credentials of the keys that `next`, which takes the place of this directory, does not have.
    pub(super) fn end_others(&self, next: &Self) {
        for (digest, Key { credential, .. }) in &self.keys {
            if next.keys.get(digest).is_none_or(|key| !Arc::ptr_eq(&key.credential, credential)) {
                credential.end();
            }
        }
    }

    /// Finds the client of a key that is valid.
    pub(super) fn find(&self, key: &str, clock: &dyn Clock) -> Option<(&ClientId, &Arc<KeyCredential>)> {
        let found = self.keys.get(&digest_of_key(key))?;
        if found.valid_until.is_some_and(|until| until <= clock.now()) {
            return None;
        }
        // Read first: a write takes the line of memory from the other cores.
        if !found.used.load(Ordering::Relaxed) {
            found.used.store(true, Ordering::Relaxed);
        }
        Some((&found.client, &found.credential))
    }

    /// Returns the stored keys that were used since this was last asked.
    pub(super) fn take_used(&self) -> Vec<KeyId> {
        let used = self.keys.values().filter(|key| key.id.is_some() && key.used.swap(false, Ordering::Relaxed));
        used.filter_map(|key| key.id).collect()
    }

    /// Returns the weight of every client.
    pub(super) fn weights(&self) -> HashMap<ClientId, f64> {
        self.clients.iter().map(|(name, client)| (name.clone(), client.weight)).collect()
    }

    /// Returns the time when the next key ends by itself, where there is one.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        self.keys.values().filter_map(|key| key.valid_until).min()
    }
}

/// What a client may do.
struct Terms {
    weight: f64,
    limits: ClientLimits,
    models: Option<Arc<std::collections::BTreeSet<String>>>,
}

impl Terms {
    fn of_config(client: &ClientConfig) -> Self {
        Self { weight: client.weight, limits: client.limits, models: client.models.clone().map(Arc::new) }
    }

    fn of_stored(client: &StoredClient, defaults: ClientLimits) -> Self {
        Self {
            weight: client.weight.unwrap_or(WEIGHT_DEFAULT),
            limits: client.limits.over(defaults),
            models: client.models.clone().map(Arc::new),
        }
    }

    /// Returns the state of the client, with what was counted before.
    fn state(self, before: Option<&Arc<ClientState>>, clock: &Arc<dyn Clock>) -> ClientState {
        let Self { weight, limits, models } = self;
        let limiter = before.and_then(|before| before.rate_limiter.as_ref());
        let rate_limiter = limits.requests_per_minute.map(|per_minute| match limiter {
            Some(limiter) if limiter.per_minute() == per_minute => Arc::clone(limiter),
            Some(limiter) => Arc::new(RateLimiter::after(limiter, per_minute)),
            None => Arc::new(RateLimiter::new(per_minute)),
        });
        let quota = match before {
            Some(before) => {
                before.quota.set_limits(limits);
                Arc::clone(&before.quota)
            }
            None => Arc::new(ClientQuota::new(limits, Arc::clone(clock))),
        };
        let requests = before.map_or_else(Concurrency::default, |before| before.requests.clone());
        ClientState { weight, models, rate_limiter, requests, quota }
    }
}

fn id(name: &str) -> ClientId {
    ClientId(name.into())
}
