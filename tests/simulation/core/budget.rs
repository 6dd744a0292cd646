//! The accounts, which grant submits in any order.

use super::random::Random;
use crate::model::{AccountId, JobId, PurchaseId};

/// The accounts, and the purchases that wait for them.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) accounts: Vec<Account>,
    pub(super) queue: Vec<PurchaseId>,
    /// Permits that were handed out, and those that came back.
    pub(super) granted: usize,
    pub(super) released: usize,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: AccountId,
    pub(super) in_flight: usize,
    in_flight_max: usize,
}

/// A place among the predictions in flight of an account.
#[derive(Debug)]
pub(super) struct Permit {
    pub(super) account: usize,
    /// The account knows the outcome of the submit.
    pub(super) acknowledged: bool,
}

impl Budget {
    pub(super) fn new(ids: &[AccountId], random: &mut Random) -> Self {
        let ids = &ids[..=random.below(ids.len())];
        let account = |id: &AccountId| Account { id: id.clone(), in_flight: 0, in_flight_max: 1 + random.below(4) };
        Self { accounts: ids.iter().map(account).collect(), queue: Vec::new(), granted: 0, released: 0 }
    }

    pub(super) fn can_grant(&self) -> bool {
        !self.queue.is_empty() && self.accounts.iter().any(Account::has_room)
    }

    /// Grants a submit to one of those that wait.
    pub(super) fn grant(&mut self, random: &mut Random) -> (PurchaseId, Permit) {
        let purchase = self.queue.swap_remove(random.below(self.queue.len()));
        let first = random.below(self.accounts.len());
        let order = (first..self.accounts.len()).chain(0..first);
        let account = order.into_iter().find(|&account| self.accounts[account].has_room()).expect("one has room");
        (purchase, self.take(account))
    }

    /// Takes a place for a purchase that is in flight already; of the first account if the journal names none.
    pub(super) fn adopt(&mut self, account: Option<&AccountId>) -> Permit {
        let named = account.and_then(|id| self.accounts.iter().position(|account| account.id == *id));
        Permit { acknowledged: true, ..self.take(named.unwrap_or(0)) }
    }

    /// Leaves the queue; returns whether the purchase was in it.
    pub(super) fn leave(&mut self, purchase: PurchaseId) -> bool {
        let place = self.queue.iter().position(|&queued| queued == purchase);
        place.map(|place| self.queue.swap_remove(place)).is_some()
    }

    pub(super) fn has_queued(&self, job: JobId) -> bool {
        self.queue.iter().any(|queued| queued.job == job)
    }

    pub(super) fn release(&mut self, permit: &Permit) {
        self.accounts[permit.account].in_flight -= 1;
        self.released += 1;
    }

    fn take(&mut self, account: usize) -> Permit {
        self.accounts[account].in_flight += 1;
        self.granted += 1;
        Permit { account, acknowledged: false }
    }
}

impl Account {
    fn has_room(&self) -> bool {
        self.in_flight < self.in_flight_max
    }
}
