//! The state behind the lock: the accounts and the queue, and which submit is granted next. Pure but for the log.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::account::Account;
use super::limit::SendToken;
use super::queue::{FairQueue, Position};
use crate::model::{AccountId, ClientId, Failure};

/// Why no purchase is made while the operator has paused every account.
const ALL_PAUSED: &str = "the operator of this gateway has paused every account";

/// The accounts and the queue. `T` is what a queued submit is answered through.
#[derive(Debug)]
pub(super) struct State<T> {
    /// Never empty.
    pub(super) accounts: Vec<Account>,
    pub(super) queue: FairQueue<T>,
    /// When refused clients were asked to come back, soonest first.
    pub(super) expected: VecDeque<Instant>,
    /// When each position was taken, until its slot is dropped.
    pub(super) since: HashMap<Position, Instant>,
}

/// The result of one attempt to grant a submit.
pub(super) enum Step<T> {
    Granted {
        account: AccountId,
        item: T,
        model: Arc<str>,
        token: SendToken,
    },
    /// Nothing can be granted before this time, unless something changes.
    Wait(Option<Instant>),
}

impl<T> State<T> {
    pub(super) fn new(accounts: Vec<Account>, weights: HashMap<ClientId, f64>) -> Self {
        Self { accounts, queue: FairQueue::new(weights), expected: VecDeque::new(), since: HashMap::new() }
    }

    /// Takes the submits out of the queue whose model no account can serve, with the reason.
    pub(super) fn drain_unavailable(&mut self, now: Instant) -> Vec<(T, Failure)> {
        let mut drained = Vec::new();
        let models: Vec<Arc<str>> = self.queue.models().cloned().collect();
        for model in models {
            if let Some(reason) = self.unavailable_everywhere(&model, now) {
                drained.extend(self.queue.drain_model(&model).into_iter().map(|item| (item, reason.clone())));
            }
        }
        drained
    }

    /// Grants one submit, if an account is ready for one that may be sent.
    pub(super) fn grant_one(&mut self, now: Instant) -> Step<T> {
        if self.queue.len() == 0 {
            return Step::Wait(None);
        }
        let despite_cooldown = self.all_in_cooldown(now);
        let mut next: Option<Instant> = None;
        let mut later = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        let mut least_loaded_first: Vec<usize> = (0..self.accounts.len()).collect();
        least_loaded_first.sort_by_key(|&index| {
            let account = &self.accounts[index];
            account.in_flight.count() * 1_000_000 / account.submit_limit.concurrency().max(1)
        });
        for index in least_loaded_first {
            let account = &self.accounts[index];
            if let Err(at) = account.check(now, despite_cooldown) {
                at.into_iter().for_each(&mut later);
                continue;
            }
            for model in self.queue.models() {
                if let Err(Some(at)) = account.cooldowns.check_model(model, now) {
                    later(at);
                }
            }
            if !self.queue.has(|model| account.cooldowns.check_model(model, now).is_ok()) {
                continue;
            }
            let account = &mut self.accounts[index];
            if let Err(at) = account.take_submit(now) {
                later(at);
                continue;
            }
            if let Some((item, model)) = self.queue.next(|model| account.cooldowns.check_model(model, now).is_ok()) {
                let token = account.on_sent(&model, now);
                return Step::Granted { account: account.id.clone(), item, model, token };
            }
        }
        Step::Wait(next)
    }

    /// Whether every account that is not paused is in cooldown. Then each is used all the same: there is no other, and the operator may just
    /// have corrected the cause.
    pub(super) fn all_in_cooldown(&self, now: Instant) -> bool {
        let in_cooldown =
            |account: &Account| account.cooldowns.account().is_some_and(|cooldown| cooldown.is_active(now));
        self.accounts.iter().filter(|account| !account.paused).all(in_cooldown)
    }

    /// Why no account can serve a model, when each has refused it often enough.
    fn unavailable_everywhere(&self, model: &str, now: Instant) -> Option<Failure> {
        let used = self.accounts.iter().filter(|account| !account.paused);
        let reasons: Option<Vec<&Failure>> = used.map(|account| account.cooldowns.unavailable(model, now)).collect();
        let reasons = reasons?;
        if reasons.is_empty() {
            return Some(Failure::ModelUnavailable { message: ALL_PAUSED.to_owned() });
        }
        // A lack that may soon end is the better reason: the client may try again.
        let may_end = reasons.iter().find(|reason| matches!(reason, Failure::ModelUnavailable { .. }));
        may_end.or(reasons.first()).map(|&reason| reason.clone())
    }

    /// The account of this id; the first one where it is no longer configured.
    pub(super) fn account_or_first(&mut self, id: &AccountId) -> &mut Account {
        let index = self.accounts.iter().position(|account| account.id == *id).unwrap_or_default();
        &mut self.accounts[index]
    }
}
