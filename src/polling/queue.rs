//! Which purchase is polled next: purchases wait for their time, then for the poll rate of their account.
//!
//! Wanted:
//! - O(log n) a step, for 100,000 purchases and one task.
//! - When polls are limited, they go where waiting costs most; yet a purchase that has been ready for longer than
//!   `max_interval` goes first, so that none starves.
//!
//! Where waiting costs most: a purchase that is done with probability `p` adds `p` seconds of lateness a second. The
//! planner makes purchases ready when a poll has just become worth its price, so at that moment all of them are worth
//! the same; from then on the likelier ones gain faster, and `p` times the wait is their lead. Taking the likeliest
//! alone would let others wait too long. (Measured, the gain over the order of arrival is a few percent at most: plans
//! made at the right price leave little to order. `benches/polling.rs` prints it.) That order changes as time passes
//! and no heap can hold it. But among equal chances it is the order of arrival; so there are a few queues by level of
//! chance, and only their heads are compared.
//!
//! Nothing here sleeps or spawns. The caller sleeps until [`PollQueue::next_due`] or until an account may poll again.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Levels of chance, a factor of the root of 2 apart: down to half a hundredth.
const LEVELS: usize = 16;

/// A wait as short as this counts for nothing: then the likeliest goes first.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The planned polls of all purchases. `T` names a purchase, `account` the account that polls it (small, dense
/// numbers).
#[derive(Debug)]
pub struct PollQueue<T> {
    max_interval: Duration,
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    accounts: Vec<Ready<T>>,
    pushed: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    at: Instant,
    number: u64,
    account: usize,
    chance: f64,
    purchase: T,
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The ready purchases of one account: by level of chance, each level in the order they became ready.
#[derive(Debug)]
struct Ready<T> {
    levels: [VecDeque<ReadyPurchase<T>>; LEVELS],
    number: usize,
}

#[derive(Debug)]
struct ReadyPurchase<T> {
    since: Instant,
    chance: f64,
    purchase: T,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self { levels: std::array::from_fn(|_| VecDeque::new()), number: 0 }
    }
}

impl<T> Ready<T> {
    fn add(&mut self, one: ReadyPurchase<T>) {
        self.levels[level(one.chance)].push_back(one);
        self.number += 1;
    }

    /// Since when the oldest has been ready, and its level.
    fn oldest(&self) -> Option<(Instant, usize)> {
        let heads = self.levels.iter().enumerate();
        heads.filter_map(|(level, ones)| ones.front().map(|one| (one.since, level))).min()
    }

    /// The level whose head has cost most by waiting.
    fn costliest(&self, now: Instant) -> Option<usize> {
        let cost =
            |one: &ReadyPurchase<T>| one.chance * (now.saturating_duration_since(one.since) + AT_ONCE).as_secs_f64();
        let heads = self.levels.iter().enumerate();
        let costs = heads.filter_map(|(level, ones)| ones.front().map(|one| (cost(one), level)));
        costs.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, level)| level)
    }

    fn pop(&mut self, now: Instant, longest: Duration) -> Option<T> {
        let (since, oldest) = self.oldest()?;
        let starving = now.saturating_duration_since(since) > longest;
        let level = if starving { oldest } else { self.costliest(now)? };
        let one = self.levels[level].pop_front()?;
        self.number -= 1;
        Some(one.purchase)
    }
}

/// Half-octaves of chance, the last for all that are less likely.
fn level(chance: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating")]
    let level = (-2.0 * chance.log2()).max(0.0) as usize;
    level.min(LEVELS - 1)
}

impl<T> PollQueue<T> {
    /// Makes an empty queue. A purchase that has been ready for `max_interval` goes before the likeliest.
    #[must_use]
    pub fn new(max_interval: Duration) -> Self {
        Self { max_interval, waiting: BinaryHeap::new(), accounts: Vec::new(), pushed: 0 }
    }

    /// Plans a poll. `chance` is the probability that the purchase is done at `at`.
    pub fn push(&mut self, at: Instant, purchase: T, account: usize, chance: f64) {
        let chance = if chance.is_nan() { 0.0 } else { chance };
        let number = self.pushed;
        self.pushed += 1;
        self.waiting.push(Reverse(Waiting { at, number, account, chance, purchase }));
    }

    /// Takes the purchase of an account that is to be polled now.
    pub fn pop_ready(&mut self, account: usize, now: Instant) -> Option<T> {
        self.advance(now);
        let longest = self.max_interval;
        self.accounts.get_mut(account)?.pop(now, longest)
    }

    /// Makes all purchases ready whose time has come.
    pub fn advance(&mut self, now: Instant) {
        self.advance_if(now, |_| true);
    }

    /// Makes those purchases ready whose time has come and whose plan is still `current`; drops the others, so that
    /// they never wait for a poll.
    pub fn advance_if(&mut self, now: Instant, mut current: impl FnMut(&T) -> bool) {
        while let Some(Reverse(first)) = self.waiting.peek()
            && first.at <= now
            && let Some(Reverse(waiting)) = self.waiting.pop()
        {
            if self.accounts.len() <= waiting.account {
                self.accounts.resize_with(waiting.account + 1, Ready::default);
            }
            if !current(&waiting.purchase) {
                continue;
            }
            // Not `at`: a purchase that was pushed late has not waited here.
            let Waiting { account, chance, purchase, .. } = waiting;
            self.accounts[account].add(ReadyPurchase { since: now, chance, purchase });
        }
    }

    /// Returns when the next purchase becomes ready.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.at)
    }

    /// Returns the number of purchases of an account that are ready.
    #[must_use]
    pub fn ready(&self, account: usize) -> usize {
        self.accounts.get(account).map_or(0, |ready| ready.number)
    }

    /// All purchases, ready or not.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting.len() + self.accounts.iter().map(|ready| ready.number).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
