//! What callers hold: a slot in the queue, permission for one call, and a slot among the predictions in flight. Each is
//! returned when it is dropped.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::limit::SendToken;
use super::queue::{Position, QueuedSubmit, place};
use super::state::{State, Step};
use super::status::BudgetMetrics;
use crate::model::{AccountId, Failure};

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
    pub(super) fn new(account: AccountId) -> Self {
        Self { account, kind: PhantomData }
    }

    /// Returns the account whose key to send.
    pub(crate) fn account(&self) -> &AccountId {
        &self.account
    }
}

/// Permission to send one submit, with its slot among the predictions in flight.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) reservation: Reservation<Submit>,
    pub(crate) in_flight: InFlightPermit,
}

/// Why the upstream refused a submit, by what the refusal concerns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Pushback {
    /// 429: too many, or too fast.
    Account { retry_after: Option<Duration> },
    /// 429: no channel for this model.
    Model { retry_after: Option<Duration>, reason: Failure },
    /// The account may not use this model.
    Permission { reason: Failure },
    /// The key, or the balance behind it.
    Key { reason: Failure },
}

/// What a queued submit is answered through.
pub(super) type Grant = oneshot::Sender<Result<Granted, Failure>>;

/// The state that the budget and its permits share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State<Grant>>,
    /// A permit was returned, or a submit was queued.
    pub(super) changed: Notify,
    /// Whether an account can buy is to be asked again.
    pub(super) doubted: Notify,
    pub(super) metrics: BudgetMetrics,
}

impl Shared {
    pub(super) fn new(state: State<Grant>, metrics: BudgetMetrics) -> Self {
        Self { state: Mutex::new(state), changed: Notify::new(), doubted: Notify::new(), metrics }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<Grant>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants what can be granted now. Returns when to try again, should nothing change before.
    pub(super) fn grant(self: &Arc<Self>) -> Option<Instant> {
        let now = Instant::now();
        let mut granted = Vec::new();
        let (failed, next) = {
            let mut state = self.lock();
            let failed = state.drain_unavailable(now);
            loop {
                match state.grant_one(now) {
                    Step::Granted { account, item, model, token } => granted.push((account, item, model, token)),
                    Step::Wait(next) => break (failed, next),
                }
            }
        };
        // Outside the lock: a permit whose receiver is gone returns itself, which takes the lock.
        for (account, grant, model, token) in granted {
            self.metrics.called(&account, "submit");
            let in_flight = InFlightPermit {
                shared: Arc::clone(self),
                account: account.clone(),
                since: Some(now),
                submit: Some(UnacknowledgedSubmit { token, model }),
            };
            let _ = grant.send(Ok(Granted { reservation: Reservation::new(account), in_flight }));
        }
        for (grant, reason) in failed {
            let _ = grant.send(Err(reason));
        }
        next
    }

    /// Takes a slot for a prediction that was in flight before the gateway started. It exists, so it counts, also above
    /// the limit.
    pub(super) fn adopt(self: &Arc<Self>, account: Option<&AccountId>) -> InFlightPermit {
        let mut state = self.lock();
        let account = match account {
            Some(account) => state.account_or_first(account),
            None => &mut state.accounts[0],
        };
        account.in_flight.on_started();
        let account = account.id.clone();
        InFlightPermit { shared: Arc::clone(self), account, since: None, submit: None }
    }
}

/// A slot in the queue for submits; dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct QueueSlot {
    shared: Arc<Shared>,
    position: Position,
    submit: QueuedSubmit,
    /// Until it is waited for.
    pub(super) granted: Option<oneshot::Receiver<Result<Granted, Failure>>>,
}

impl QueueSlot {
    pub(super) fn new(
        shared: &Arc<Shared>,
        mut state: MutexGuard<'_, State<Grant>>,
        position: Position,
        submit: QueuedSubmit,
    ) -> Self {
        state.since.insert(position, Instant::now());
        let granted = Some(enter(shared, &mut state, position, &submit));
        drop(state);
        Self { shared: Arc::clone(shared), position, submit, granted }
    }

    /// Waits for permission for one submit; after a submit that had no effect, once more in the same position. The slot
    /// is kept for as long as this waits: dropping it ends the wait.
    ///
    /// # Errors
    ///
    /// Why the model is unavailable, when no account can serve it; [`Failure::Stopping`] when the budget has stopped, or
    /// when the slot is dropped.
    pub(crate) fn granted(&mut self) -> impl Future<Output = Result<Granted, Failure>> + use<> {
        if self.granted.is_none() {
            self.requeue();
        }
        let granted = self.granted.take();
        async move {
            match granted {
                Some(granted) => granted.await.unwrap_or(Err(Failure::Stopping)),
                None => Err(Failure::Stopping),
            }
        }
    }

    /// Estimates its place in the queue, 1 for the next; `None` when it is not queued at the moment.
    pub(crate) fn place(&self) -> Option<usize> {
        place(&self.shared.lock().queue, self.position, &self.submit)
    }

    /// Enters the queue once more in the same position.
    pub(super) fn requeue(&mut self) {
        let mut state = self.shared.lock();
        state.queue.remove(self.position, &self.submit);
        self.granted = Some(enter(&self.shared, &mut state, self.position, &self.submit));
    }
}

/// Enters the queue.
fn enter(
    shared: &Shared,
    state: &mut State<Grant>,
    position: Position,
    submit: &QueuedSubmit,
) -> oneshot::Receiver<Result<Granted, Failure>> {
    let (grant, granted) = oneshot::channel();
    state.queue.insert(position, submit, grant);
    shared.changed.notify_one();
    granted
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.queue.remove(self.position, &self.submit);
        state.since.remove(&self.position);
    }
}

/// A slot among the predictions in flight, held from before the submit until the end; dropping it releases the slot.
#[derive(Debug)]
pub(crate) struct InFlightPermit {
    shared: Arc<Shared>,
    account: AccountId,
    /// When it was granted; `None` for a prediction from before the start.
    since: Option<Instant>,
    /// Held until the account knows the outcome of the submit.
    submit: Option<UnacknowledgedSubmit>,
}

/// A submit whose outcome is not known.
#[derive(Debug)]
struct UnacknowledgedSubmit {
    token: SendToken,
    model: Arc<str>,
}

impl InFlightPermit {
    /// Returns the account that it was bought with.
    pub(crate) fn account(&self) -> &AccountId {
        &self.account
    }

    /// Reports that the upstream accepted the submit.
    pub(crate) fn accepted(&mut self) {
        let Some(UnacknowledgedSubmit { token, model }) = self.submit.take() else { return };
        self.shared.lock().account_or_first(&self.account).on_accepted(token, &model, Instant::now());
        self.shared.changed.notify_one();
    }

    /// Reports that the submit did not reach the upstream: whether the account can buy is asked again.
    pub(crate) fn not_sent(self) {
        self.shared.lock().account_or_first(&self.account).known.on_not_sent();
        self.shared.doubted.notify_waiters();
    }

    /// Reports that the upstream refused the submit. Returns the pause or cooldown that follows.
    pub(crate) fn refused(mut self, pushback: Pushback) -> Duration {
        let Some(UnacknowledgedSubmit { token, model }) = self.submit.take() else { return Duration::ZERO };
        let now = Instant::now();
        let mut state = self.shared.lock();
        let account = state.account_or_first(&self.account);
        let (pause, concerns) = match pushback {
            Pushback::Account { retry_after } => (account.on_refused(token, &model, retry_after, now), "submit"),
            Pushback::Model { retry_after, reason } => {
                (account.on_model_refused(token, &model, reason, retry_after, now), "model")
            }
            Pushback::Permission { reason } => {
                (account.on_permission_refused(token, &model, reason, now), "permission")
            }
            Pushback::Key { reason } => (account.on_key_refused(token, &model, reason, now), "key"),
        };
        drop(state);
        self.shared.metrics.pushed_back(&self.account, concerns);
        if concerns == "key" {
            self.shared.doubted.notify_waiters();
        }
        self.since = None;
        pause
    }
}

impl Drop for InFlightPermit {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let account = state.account_or_first(&self.account);
        if let Some(UnacknowledgedSubmit { token, model }) = self.submit.take() {
            account.on_no_evidence(token, &model, now);
            self.since = None;
        }
        account.in_flight.on_ended(self.since.map(|since| now - since));
        drop(state);
        self.shared.changed.notify_one();
    }
}
