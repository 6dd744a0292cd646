//! The accounts with the upstream: how often each may be asked, how much may be in flight, what its 429s have taught, and
//! whose turn it is. Nothing here sends anything.
//!
//! Wanted:
//! - No call leaves without a [`Reservation`] of its kind: the methods that send take one, and only this module makes them.
//! - Within an account's limits as many submits leave as can; between clients by turns ([`queue`]), within a client in
//!   the order they came. Who hangs up leaves the queue.
//! - What is paid for is asked for: submits never use the polls' share of the calls, and a 429 on a poll holds up polls
//!   alone.
//! - A 429 never reaches a client while waiting can help: whoever was refused keeps its place and goes again.
//! - A key that is refused is set aside, and its work goes to the other accounts; when there is none, each order finds out
//!   for itself.
//!
//! One lock guards the state, held for a few steps and never over an await. One task, [`Budget::run`], grants
//! reservations: whenever something changes, and when the next rate, pause or try is due.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::config::{self, UpstreamConfig};
use crate::model::{AccountId, ClientId, Failure};
use crate::telemetry::Metrics;

mod account;
mod forecast;
mod learning;
mod queue;
mod rate;
mod status;

use account::{Account, Opening};
pub(crate) use forecast::Forecast;
use learning::Departure;
pub(crate) use queue::QueuedSubmit;
use queue::{FairQueue, Place};
use status::BudgetMetrics;
pub(crate) use status::Status;

/// The kind of a reservation for a submit.
#[derive(Debug)]
pub(crate) enum Submit {}

/// The kind of a reservation for a poll.
#[derive(Debug)]
pub(crate) enum Poll {}

/// Permission for one call of one kind with one account's key. The methods of `Upstream` take it, so a call without
/// one does not compile.
#[derive(Debug)]
pub(crate) struct Reservation<Kind> {
    account: AccountId,
    kind: PhantomData<fn() -> Kind>,
}

impl<Kind> Reservation<Kind> {
    fn new(account: AccountId) -> Self {
        Self { account, kind: PhantomData }
    }

    /// Whose key to send.
    pub(crate) fn account(&self) -> &AccountId {
        &self.account
    }
}

/// What survives a restart: what each account has taught, by its name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Learned {
    accounts: BTreeMap<String, account::Learned>,
}

/// Handle to the budget. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something came back, or something was queued.
    changed: Notify,
    queue_max: usize,
    queue_bytes_max: u64,
    metrics: BudgetMetrics,
}

#[derive(Debug)]
struct State {
    accounts: Vec<Account>,
    queue: FairQueue<oneshot::Sender<Result<Granted, Failure>>>,
    /// When those who were sent away come back, soonest first.
    promised: VecDeque<Instant>,
}

/// The queue for the budget is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull {
    /// When a place is likely.
    pub(crate) retry_after: Duration,
}

/// A submit may leave.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) reservation: Reservation<Submit>,
    pub(crate) in_flight: InFlightPermit,
}

/// Why the upstream refused a submit, by what it concerns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pushback {
    /// 429: too much, or too fast.
    Account { retry_after: Option<Duration> },
    /// 429: no channel for this model.
    Model { retry_after: Option<Duration>, reason: Failure },
    /// The key, or the balance behind it.
    Key { reason: Failure },
}

impl Budget {
    /// What was learned before the start counts for the accounts that still exist. Clients without a weight have 1.
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
        let state = State { accounts: accounts.collect(), queue: FairQueue::new(weights), promised: VecDeque::new() };
        let metrics = BudgetMetrics::new(metrics);
        let (queue_max, queue_bytes_max) = (upstream.queue_max, upstream.queue_bytes_max);
        let shared = Shared { state: Mutex::new(state), changed: Notify::new(), queue_max, queue_bytes_max, metrics };
        Self { shared: Arc::new(shared) }
    }

    /// Grants reservations, for as long as it is polled.
    pub(crate) async fn run(self) {
        loop {
            let changed = self.shared.changed.notified();
            let next = self.grant();
            match next {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// Takes a place in the queue for submits, or says that it is full. Held while waiting in [`QueueSlot::granted`].
    ///
    /// # Errors
    ///
    /// [`QueueFull`] with the time after which a place is likely.
    pub(crate) fn queue(&self, submit: QueuedSubmit) -> Result<QueueSlot, QueueFull> {
        let mut state = self.lock();
        let full = state.queue.len() >= self.shared.queue_max
            || state.queue.bytes().saturating_add(submit.bytes) > self.shared.queue_bytes_max;
        // One that is larger than all that may wait still gets in when nothing does.
        if full && !(state.queue.is_empty() && self.shared.queue_max > 0) {
            let retry_after = state.turn_away(&submit, Duration::ZERO, Instant::now());
            return Err(QueueFull { retry_after });
        }
        let place = state.queue.new_place();
        Ok(self.wait_in(state, place, submit))
    }

    fn wait_in(&self, mut state: MutexGuard<'_, State>, place: Place, submit: QueuedSubmit) -> QueueSlot {
        let (grant, granted) = oneshot::channel();
        state.queue.insert(place, &submit, grant);
        drop(state);
        self.shared.changed.notify_one();
        QueueSlot { budget: self.clone(), place, submit, granted }
    }

    /// When something that is queued now would leave, as far as can be told.
    pub(crate) fn forecast(&self, submit: &QueuedSubmit) -> Forecast {
        self.lock().forecast(submit, Instant::now())
    }

    /// Sends away somebody who has so much time to spare. Returns the time after which it is let in, if nobody else
    /// arrives than those who were sent away before.
    pub(crate) fn turn_away(&self, submit: &QueuedSubmit, spare: Duration) -> Duration {
        self.lock().turn_away(submit, spare, Instant::now())
    }

    /// Whether somebody else can do what so many accounts have refused to one order.
    pub(crate) fn has_another_key(&self, refused: usize) -> bool {
        let state = self.lock();
        refused < state.accounts.len() && !state.all_set_aside(Instant::now())
    }

    /// Takes permission for one poll with an account's key, or says when to come again. An account that is no longer
    /// configured is asked for by the first one.
    pub(crate) fn reserve_poll(&self, account: &AccountId) -> Result<Reservation<Poll>, Instant> {
        let mut state = self.lock();
        let account = state.account_or_first(account);
        account.take_poll(Instant::now())?;
        let id = account.id.clone();
        self.shared.metrics.called(&id, "poll");
        Ok(Reservation::new(id))
    }

    /// A poll was answered, whatever the answer was.
    pub(crate) fn poll_answered(&self, account: &AccountId) {
        self.lock().account_or_first(account).poll_answered();
    }

    /// The upstream answered a poll with 429: polls of this account slow down.
    pub(crate) fn poll_refused(&self, account: &AccountId, retry_after: Option<Duration>) -> Duration {
        self.shared.metrics.pushed_back(account, "poll");
        self.lock().account_or_first(account).poll_refused(retry_after, Instant::now())
    }

    /// A place for a prediction that was in flight before the gateway started: it exists, so it counts, also beyond
    /// what is allowed.
    pub(crate) fn adopt(&self, account: Option<&AccountId>) -> InFlightPermit {
        let mut state = self.lock();
        let account = match account {
            Some(account) => state.account_or_first(account),
            None => &mut state.accounts[0],
        };
        account.in_flight += 1;
        let id = account.id.clone();
        InFlightPermit { budget: self.clone(), account: id, model: Arc::from(""), since: None, departure: None }
    }

    /// What the accounts have taught.
    pub(crate) fn learned(&self) -> Learned {
        let state = self.lock();
        let learned = state.accounts.iter().map(|account| (account.id.to_string(), account.learned()));
        Learned { accounts: learned.collect() }
    }

    pub(crate) fn status(&self) -> Status {
        Status::of(&self.lock(), self.shared.queue_max, Instant::now())
    }

    /// Brings the gauges up to date before a scrape.
    pub(crate) fn refresh_metrics(&self) {
        self.shared.metrics.refresh(&self.status());
    }

    /// Grants what can be granted now; returns when to look again, should nothing change before.
    fn grant(&self) -> Option<Instant> {
        let now = Instant::now();
        let (mut granted, mut refused) = (Vec::new(), Vec::new());
        let next = {
            let mut state = self.lock();
            let models: Vec<Arc<str>> = state.queue.models().cloned().collect();
            for model in models {
                if let Some(reason) = state.nobody_has(&model, now) {
                    let drained = state.queue.drain_model(&model);
                    refused.extend(drained.into_iter().map(|waiting| (waiting, reason.clone())));
                }
            }
            loop {
                match state.grant_one(now) {
                    Step::Granted { account, waiting, model, departure } => {
                        let id = state.accounts[account].id.clone();
                        granted.push((waiting, id, model, departure));
                    }
                    Step::Wait(next) => break next,
                }
            }
        };
        // Outside the lock: what is not wanted any more gives itself back, and that takes the lock.
        for (waiting, account, model, departure) in granted {
            self.shared.metrics.called(&account, "submit");
            let (since, departure) = (Some(now), Some(departure));
            let in_flight = InFlightPermit { budget: self.clone(), account: account.clone(), model, since, departure };
            let _ = waiting.send(Ok(Granted { reservation: Reservation::new(account), in_flight }));
        }
        for (waiting, reason) in refused {
            let _ = waiting.send(Err(reason));
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one look at the queue came to.
enum Step {
    Granted {
        account: usize,
        waiting: oneshot::Sender<Result<Granted, Failure>>,
        model: Arc<str>,
        departure: Departure,
    },
    Wait(Option<Instant>),
}

impl State {
    /// Grants one submit, if an account has room for one that may go.
    fn grant_one(&mut self, now: Instant) -> Step {
        if self.queue.is_empty() {
            return Step::Wait(None);
        }
        let all_set_aside = self.all_set_aside(now);
        let mut next: Option<Instant> = None;
        let mut later = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        // The least loaded first.
        let mut job: Vec<usize> = (0..self.accounts.len()).collect();
        job.sort_by_key(|&index| {
            let account = &self.accounts[index];
            account.in_flight * 1_000_000 / account.places().max(1)
        });
        for index in job {
            let account = &self.accounts[index];
            match account.opening(now, all_set_aside) {
                Opening::Later => continue,
                Opening::At(at) => {
                    later(at);
                    continue;
                }
                Opening::Now => {}
            }
            for model in self.queue.models() {
                if let Err(Some(at)) = account.model_may_go(model, now) {
                    later(at);
                }
            }
            if !self.queue.has(|model| account.model_may_go(model, now).is_ok()) {
                continue;
            }
            let account = &mut self.accounts[index];
            if let Err(at) = account.take_submit(now) {
                later(at);
                continue;
            }
            if let Some((waiting, model)) = self.queue.next(|model| account.model_may_go(model, now).is_ok()) {
                let departure = account.left(&model, now);
                return Step::Granted { account: index, waiting, model, departure };
            }
        }
        Step::Wait(next)
    }

    /// Whether every account is set aside. Then each is tried all the same: there is nobody else, and the operator may
    /// just have put it right.
    fn all_set_aside(&self, now: Instant) -> bool {
        self.accounts.iter().all(|account| account.aside.as_ref().is_some_and(|aside| aside.is_on(now)))
    }

    /// Why no account can be used for a model, when each has been told so often enough.
    fn nobody_has(&self, model: &str, now: Instant) -> Option<Failure> {
        let gone: Option<Vec<&Failure>> = self.accounts.iter().map(|account| account.lacks(model, now)).collect();
        gone?.first().map(|&reason| reason.clone())
    }

    fn account_or_first(&mut self, id: &AccountId) -> &mut Account {
        let index = self.accounts.iter().position(|account| account.id == *id).unwrap_or_default();
        &mut self.accounts[index]
    }
}

/// A place in the queue for submits; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct QueueSlot {
    budget: Budget,
    place: Place,
    submit: QueuedSubmit,
    granted: oneshot::Receiver<Result<Granted, Failure>>,
}

impl QueueSlot {
    /// Waits for permission for one submit.
    ///
    /// # Errors
    ///
    /// Why the model is not to be had, when no account has it.
    pub(crate) async fn granted(&mut self) -> Result<Granted, Failure> {
        let answer = (&mut self.granted).await;
        answer.unwrap_or(Err(Failure::Stopping))
    }

    /// Waits once more, in the same place, after a submit that did not take effect.
    pub(crate) fn again(self) -> Self {
        let (budget, place, submit) = (self.budget.clone(), self.place, self.submit.clone());
        drop(self);
        budget.wait_in(budget.lock(), place, submit)
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.budget.lock().queue.remove(self.place, &self.submit);
    }
}

/// A place among the predictions in flight, held from before the submit until the end; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct InFlightPermit {
    budget: Budget,
    account: AccountId,
    model: Arc<str>,
    /// When it was granted; `None` for one from before the start.
    since: Option<Instant>,
    /// Until the account knows what became of the submit.
    departure: Option<Departure>,
}

impl InFlightPermit {
    /// Whose key it was bought with.
    pub(crate) fn account(&self) -> &AccountId {
        &self.account
    }

    /// The upstream took the submit.
    pub(crate) fn accepted(&mut self) {
        let Some(departure) = self.departure.take() else { return };
        self.budget.lock().account_or_first(&self.account).accepted(departure, &self.model, Instant::now());
        self.budget.shared.changed.notify_one();
    }

    /// The upstream refused the submit. Returns how long what refused it is left alone.
    pub(crate) fn refused(mut self, pushback: Pushback) -> Duration {
        let Some(departure) = self.departure.take() else { return Duration::ZERO };
        let now = Instant::now();
        let mut state = self.budget.lock();
        let account = state.account_or_first(&self.account);
        let (pause, concerns) = match pushback {
            Pushback::Account { retry_after } => (account.refused(departure, retry_after, now), "submit"),
            Pushback::Model { retry_after, reason } => {
                (account.no_channel(departure, &self.model, reason, retry_after, now), "model")
            }
            Pushback::Key { reason } => (account.key_refused(departure, reason, now), "key"),
        };
        drop(state);
        self.budget.shared.metrics.pushed_back(&self.account, concerns);
        self.since = None;
        pause
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.budget.lock();
        let account = state.account_or_first(&self.account);
        if let Some(departure) = self.departure.take() {
            account.unanswered(departure, &self.model, now);
            self.since = None;
        }
        account.ended(self.since.map(|since| now - since));
        drop(state);
        self.budget.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
