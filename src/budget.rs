//! The accounts with the upstream: how often each may be called, how many predictions may be in flight, what its 429s have
//! taught, and which client's submit is next. This module sends nothing.
//!
//! Wanted properties:
//! - No call is made without a [`Reservation`] of its kind: the methods that send take one, and only this module makes them.
//! - Within the limits of an account, as many submits are sent as possible; between clients in turns ([`queue`]), within a
//!   client in order of arrival. A client that disconnects leaves the queue.
//! - Purchases are followed: submits never use the polls' share of the calls, and a 429 on a poll delays polls only.
//! - A 429 never reaches a client while waiting can help: a refused submit keeps its position and is sent again.
//! - An account whose key is refused goes into a cooldown, and its work to the other accounts. When there is no other, each
//!   job fails by itself.
//!
//! One lock guards the state, held for a few steps and never across an await. One task, [`Budget::run`], grants
//! reservations: when something changes, and when the next rate, pause or cooldown is due.
//!
//! `permit` holds what callers own, `state` decides without I/O; the others each answer one question of `state`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::{self, UpstreamConfig};
use crate::model::{AccountId, ClientId};
use crate::telemetry::Metrics;

mod account;
mod cooldown;
mod forecast;
mod limit;
mod permit;
mod queue;
mod state;
mod status;

use account::{Account, KnownReadiness, LearnedAccount};
pub(crate) use account::{Obstacle, Readiness};
pub(crate) use forecast::Forecast;
use permit::{Grant, Shared};
pub(crate) use permit::{Granted, InFlightPermit, Poll, Pushback, QueueSlot, Reservation, Submit};
pub(crate) use queue::QueuedSubmit;
use queue::set_weights;
use state::State;
use status::BudgetMetrics;
pub(crate) use status::Status;

/// What each account has taught, by its name. It survives a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Learned {
    accounts: BTreeMap<String, LearnedAccount>,
}

/// Handle to the budget. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    shared: Arc<Shared>,
    queue_max: usize,
    queue_bytes_max: u64,
}

/// Whether accounts can buy, as free questions and purchases show it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct AccountReadiness {
    shared: Arc<Shared>,
}

impl AccountReadiness {
    pub(crate) fn of(budget: &Budget) -> Self {
        Self { shared: Arc::clone(&budget.shared) }
    }

    /// Records the answer to a free question about an account. Returns what was known before.
    pub(crate) fn answered(&self, account: &AccountId, readiness: Readiness) -> Readiness {
        let mut state = self.shared.lock();
        let known = &mut state.account_or_first(account).known;
        std::mem::replace(known, KnownReadiness { readiness, in_doubt: false }).readiness
    }

    /// Returns what is known of an account.
    pub(crate) fn known(&self, account: &AccountId) -> Readiness {
        self.shared.lock().account_or_first(account).known.readiness
    }

    /// Returns whether an account can buy by all that is known, and nothing has put that in doubt.
    pub(crate) fn is_ready(&self, account: &AccountId) -> bool {
        let KnownReadiness { readiness, in_doubt } = self.shared.lock().account_or_first(account).known;
        readiness == Readiness::Ready && !in_doubt
    }

    /// Waits until a purchase has shown that an account is to be asked about again.
    pub(crate) async fn in_doubt(&self, account: &AccountId) {
        loop {
            let doubted = self.shared.doubted.notified();
            if self.shared.lock().account_or_first(account).known.in_doubt {
                return;
            }
            doubted.await;
        }
    }
}

/// The decisions of the operator about accounts and clients, while the gateway runs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BudgetControl {
    shared: Arc<Shared>,
}

impl BudgetControl {
    pub(crate) fn of(budget: &Budget) -> Self {
        Self { shared: Arc::clone(&budget.shared) }
    }

    /// Changes the weights of clients. Clients without one have 1.
    pub(crate) fn set_weights(&self, weights: HashMap<ClientId, f64>) {
        set_weights(&mut self.shared.lock().queue, weights);
    }

    /// Pauses exactly these accounts: they get no submit. What they have bought is polled.
    pub(crate) fn set_paused(&self, paused: &BTreeSet<AccountId>) {
        for account in &mut self.shared.lock().accounts {
            account.paused = paused.contains(&account.id);
        }
        self.shared.changed.notify_one();
    }

    /// Changes the upper bounds of the accounts that are configured.
    pub(crate) fn set_bounds(&self, upstream: &UpstreamConfig, accounts: &[config::Account]) {
        let mut state = self.shared.lock();
        for account in &mut state.accounts {
            if let Some(config) = accounts.iter().find(|config| config.id == account.id) {
                account.set_bounds(config, upstream);
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Forgets what an account has taught; returns whether it is configured.
    pub(crate) fn forget(&self, account: &AccountId) -> bool {
        let mut state = self.shared.lock();
        let Some(found) = state.accounts.iter_mut().find(|known| known.id == *account) else { return false };
        found.forget(Instant::now());
        drop(state);
        self.shared.changed.notify_one();
        true
    }

    /// Returns the names of the accounts, and whether each is paused.
    pub(crate) fn accounts(&self) -> Vec<(AccountId, bool)> {
        self.shared.lock().accounts.iter().map(|account| (account.id.clone(), account.paused)).collect()
    }
}

/// The queue for submits is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull {
    /// The time after which a slot is likely to be free.
    pub(crate) retry_after: Duration,
}

impl Budget {
    /// Builds the budget. What was learned before the start applies to the accounts that still exist. Clients without a
    /// weight have 1.
    pub(crate) fn new(
        upstream: &UpstreamConfig,
        accounts: &[config::Account],
        weights: HashMap<ClientId, f64>,
        mut learned: Learned,
        metrics: &Metrics,
    ) -> Self {
        let now = Instant::now();
        let accounts = accounts.iter().map(|account| {
            let learned = learned.accounts.remove(&*account.id.0).unwrap_or_default();
            Account::new(account, upstream, learned, now)
        });
        let state = State::new(accounts.collect(), weights);
        let metrics = BudgetMetrics::new(metrics, state.accounts.iter().map(|account| &account.id));
        let shared = Arc::new(Shared::new(state, metrics));
        Self { shared, queue_max: upstream.queue_max, queue_bytes_max: upstream.queue_bytes_max }
    }

    /// Grants reservations for as long as it is polled.
    pub(crate) async fn run(self) {
        loop {
            let changed = self.shared.changed.notified();
            let next = self.shared.grant();
            match next {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// Takes a slot in the queue for submits, held while waiting in [`QueueSlot::granted`].
    ///
    /// # Errors
    ///
    /// [`QueueFull`], with the time after which a slot is likely to be free.
    pub(crate) fn queue(&self, submit: QueuedSubmit) -> Result<QueueSlot, QueueFull> {
        let mut state = self.lock();
        let full = state.queue.len() >= self.queue_max
            || state.queue.bytes().saturating_add(submit.bytes) > self.queue_bytes_max;
        // A submit larger than the byte limit is still accepted by an empty queue.
        if full && !(state.queue.len() == 0 && self.queue_max > 0) {
            let retry_after = state.turn_away(&submit, Duration::ZERO, Instant::now());
            return Err(QueueFull { retry_after });
        }
        let position = state.queue.next_position();
        Ok(QueueSlot::new(&self.shared, state, position, submit))
    }

    /// Estimates when a submit that is queued now would be sent.
    pub(crate) fn forecast(&self, submit: &QueuedSubmit) -> Forecast {
        self.lock().forecast(submit, Instant::now())
    }

    /// Refuses a client that can wait for `spare`. Returns the time after which it would be accepted, if no client arrives
    /// but those that were refused before.
    pub(crate) fn turn_away(&self, submit: &QueuedSubmit, spare: Duration) -> Duration {
        self.lock().turn_away(submit, spare, Instant::now())
    }

    /// Returns the accounts that may be used, which paused ones may not; none when the upstream refuses all of them.
    pub(crate) fn usable_accounts(&self) -> Vec<AccountId> {
        let state = self.lock();
        if state.all_in_cooldown(Instant::now()) {
            return Vec::new();
        }
        state.accounts.iter().filter(|account| !account.paused).map(|account| account.id.clone()).collect()
    }

    /// Takes permission for one poll with an account's key. An account that is no longer configured is replaced by the
    /// first one.
    ///
    /// # Errors
    ///
    /// The time when there is one.
    pub(crate) fn reserve_poll(&self, account: &AccountId) -> Result<Reservation<Poll>, Instant> {
        let mut state = self.lock();
        let account = state.account_or_first(account);
        account.take_poll(Instant::now())?;
        let id = account.id.clone();
        self.shared.metrics.called(&id, "poll");
        Ok(Reservation::new(id))
    }

    /// Records that a poll was answered normally.
    pub(crate) fn poll_answered(&self, account: &AccountId) {
        self.lock().account_or_first(account).poll_spacing.on_answered();
    }

    /// Records that the upstream answered a poll with 429. Returns the pause before the account's next poll.
    pub(crate) fn poll_refused(&self, account: &AccountId, retry_after: Option<Duration>) -> Duration {
        self.shared.metrics.pushed_back(account, "poll");
        self.lock().account_or_first(account).poll_spacing.on_refused(retry_after, Instant::now())
    }

    /// Takes a slot for a prediction that was in flight before the gateway started. It exists, so it counts, also above
    /// the limit.
    pub(crate) fn adopt(&self, account: Option<&AccountId>) -> InFlightPermit {
        self.shared.adopt(account)
    }

    /// Returns what the accounts have taught.
    pub(crate) fn learned(&self) -> Learned {
        let state = self.lock();
        let learned = state.accounts.iter().map(|account| (account.id.to_string(), account.learned()));
        Learned { accounts: learned.collect() }
    }

    pub(crate) fn status(&self) -> Status {
        let mut status = Status::of(&self.lock(), self.queue_max, Instant::now());
        for account in &mut status.accounts {
            account.pushbacks = self.shared.metrics.pushbacks_of(&account.name);
        }
        status
    }

    /// Updates the gauges before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        self.shared.metrics.refresh(&self.status());
    }

    fn lock(&self) -> MutexGuard<'_, State<Grant>> {
        self.shared.lock()
    }
}

#[cfg(test)]
mod tests;
