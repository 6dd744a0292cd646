//! Who is asked for next: predictions wait for their time, then for the poll budget of their account.
//!
//! Wanted:
//! - O(log n) a step, for 100,000 predictions and one task.
//! - When the budget is scarce, it goes where waiting costs most; yet whoever has been ready for longer than
//!   `longest_interval` goes first, so nobody starves.
//! - [`PollPrice`] makes polls dearer while ready predictions wait, so that fewer are planned.
//!
//! Where waiting costs most: a prediction that is done with probability `p` adds `p` seconds of lateness a second. The
//! planner makes predictions ready when a poll has just become worth its price, so at that moment all of them are worth
//! the same; from then on the likelier ones gain faster, and `p` times the wait is what they are ahead by. The likeliest
//! alone would let others wait too long. (Measured, the gain over the order of arrival is a few percent at most: plans
//! made at the right price leave little to order. `benches/polling.rs` prints it.) That order changes as
//! time passes and no heap can hold it. But among equal chances it is the order of arrival; so there are a few queues
//! by level of chance, and only their heads are compared.
//!
//! Nothing here sleeps or spawns. The caller sleeps until [`PollQueue::next_due`] or until an account has budget.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Levels of chance, a factor of the root of 2 apart: down to half a hundredth.
const LEVELS: usize = 16;

/// A wait so brief counts for nothing: then the likeliest goes first.
const AT_ONCE: Duration = Duration::from_millis(50);

/// The polls of all predictions. `T` names a prediction, `account` is whose budget pays (small, dense numbers).
#[derive(Debug)]
pub(crate) struct PollQueue<T> {
    longest_interval: Duration,
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    accounts: Vec<Ready<T>>,
    pushed: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    at: Instant,
    number: u64,
    account: usize,
    rng: f64,
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

/// The ready predictions of one account: by level of chance, each level in the order they became ready.
#[derive(Debug)]
struct Ready<T> {
    levels: [VecDeque<One<T>>; LEVELS],
    number: usize,
}

#[derive(Debug)]
struct One<T> {
    since: Instant,
    rng: f64,
    purchase: T,
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self { levels: std::array::from_fn(|_| VecDeque::new()), number: 0 }
    }
}

impl<T> Ready<T> {
    fn add(&mut self, one: One<T>) {
        self.levels[level(one.rng)].push_back(one);
        self.number += 1;
    }

    /// Since when the eldest has been ready, and its level.
    fn eldest(&self) -> Option<(Instant, usize)> {
        let heads = self.levels.iter().enumerate();
        heads.filter_map(|(level, ones)| ones.front().map(|one| (one.since, level))).min()
    }

    /// The level whose head has cost most by waiting.
    fn costliest(&self, now: Instant) -> Option<usize> {
        let cost = |one: &One<T>| one.rng * (now.saturating_duration_since(one.since) + AT_ONCE).as_secs_f64();
        let heads = self.levels.iter().enumerate();
        let costs = heads.filter_map(|(level, ones)| ones.front().map(|one| (cost(one), level)));
        costs.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, level)| level)
    }

    fn pop(&mut self, now: Instant, longest: Duration) -> Option<T> {
        let (since, eldest) = self.eldest()?;
        let starving = now.saturating_duration_since(since) > longest;
        let level = if starving { eldest } else { self.costliest(now)? };
        let one = self.levels[level].pop_front()?;
        self.number -= 1;
        Some(one.purchase)
    }
}

/// Half-octaves of chance, the last for all that are less likely.
fn level(rng: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturating")]
    let level = (-2.0 * rng.log2()).max(0.0) as usize;
    level.min(LEVELS - 1)
}

impl<T> PollQueue<T> {
    /// Whoever has been ready for `longest_interval` goes before the likeliest.
    pub(crate) fn new(longest_interval: Duration) -> Self {
        Self { longest_interval, waiting: BinaryHeap::new(), accounts: Vec::new(), pushed: 0 }
    }

    /// Plans a poll. `chance` is the probability that the prediction is done at `at`.
    pub(crate) fn push(&mut self, at: Instant, purchase: T, account: usize, rng: f64) {
        let rng = if rng.is_nan() { 0.0 } else { rng };
        let number = self.pushed;
        self.pushed += 1;
        self.waiting.push(Reverse(Waiting { at, number, account, rng, purchase }));
    }

    /// Takes the prediction of an account that is to be asked for now.
    pub(crate) fn pop_ready(&mut self, account: usize, now: Instant) -> Option<T> {
        self.advance(now);
        let longest = self.longest_interval;
        self.accounts.get_mut(account)?.pop(now, longest)
    }

    /// Makes ready whoever's time has come.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.advance_if(now, |_| true);
    }

    /// Makes ready whoever's time has come and who is still `wanted`; the others are dropped, and never wait for budget.
    pub(crate) fn advance_if(&mut self, now: Instant, mut wanted: impl FnMut(&T) -> bool) {
        while let Some(Reverse(first)) = self.waiting.peek()
            && first.at <= now
            && let Some(Reverse(waiting)) = self.waiting.pop()
        {
            if self.accounts.len() <= waiting.account {
                self.accounts.resize_with(waiting.account + 1, Ready::default);
            }
            if !wanted(&waiting.purchase) {
                continue;
            }
            // Not `at`: whoever is pushed late has not waited here.
            let Waiting { account, rng, purchase, .. } = waiting;
            self.accounts[account].add(One { since: now, rng, purchase });
        }
    }

    /// When the next prediction becomes ready.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.at)
    }

    /// Predictions of an account that are ready and wait for budget.
    pub(crate) fn ready(&self, account: usize) -> usize {
        self.accounts.get(account).map_or(0, |ready| ready.number)
    }

    /// All predictions, ready or not.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting.len() + self.accounts.iter().map(|ready| ready.number).sum::<usize>()
    }
}

/// How much dearer a poll is than usual: rises while ready predictions wait for budget, and falls back when they do not.
///
/// Plans answer only with the next poll of each prediction, so a quick controller would swing between too many plans and
/// too few. This one has a slow part, which finds where plans and budget agree, and a quick one, which follows the
/// backlog: the time that the ready predictions would take at the present rate of polls. (The longest wait would not do:
/// whoever is unlikely is left waiting on purpose.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollPrice {
    /// The natural logarithm of the slow part.
    slow: f64,
    /// Polls a second, lately.
    rate: f64,
    /// Seconds of polls that are ready.
    backlog: f64,
    told: Option<Instant>,
}

/// A backlog that is just right: there is always somebody to ask for, and nobody waits long.
const BACKLOG_AIM: Duration = Duration::from_millis(500);

/// Time in which the slow part grows or falls by a factor of e.
const SLOWNESS: Duration = Duration::from_mins(1);

/// Time over which the rate of polls is averaged.
const RATE_OVER: Duration = Duration::from_secs(10);

/// The backlog at which the quick part multiplies by four.
const QUICKNESS: Duration = Duration::from_secs(2);

/// A poll is never dearer than this; then starvation rules anyway.
const DEAREST: f64 = 1000.0;

impl PollPrice {
    pub(crate) const fn new() -> Self {
        Self { slow: 0.0, rate: 0.0, backlog: 0.0, told: None }
    }

    /// Tells how many predictions are `ready` and wait for budget, and how many were `polled` since it was told last.
    pub(crate) fn tell(&mut self, now: Instant, ready: usize, polled: usize) {
        let passed = self.told.map_or(0.0, |told| now.saturating_duration_since(told).as_secs_f64());
        self.told = Some(now);
        let number = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let over = RATE_OVER.as_secs_f64();
        self.rate = self.rate * (-passed / over).exp() + number(polled) / over;
        self.backlog = if ready == 0 { 0.0 } else { number(ready) / self.rate.max(1.0 / over) };
        let off = self.backlog / BACKLOG_AIM.as_secs_f64() - 1.0;
        self.slow = (self.slow + off.min(1.0) * passed / SLOWNESS.as_secs_f64()).clamp(0.0, DEAREST.ln());
    }

    /// At least 1.
    pub(crate) fn multiplier(&self) -> f64 {
        let quick = (1.0 + self.backlog / QUICKNESS.as_secs_f64()).powi(2);
        (self.slow.exp() * quick).min(DEAREST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(10);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nobody_is_ready_before_their_time() {
        let start = Instant::now();
        let mut schedule = PollQueue::new(LONGEST);
        schedule.push(start + seconds(2), "late", 0, 0.9);
        schedule.push(start + seconds(1), "early", 0, 0.1);
        assert_eq!(schedule.next_due(), Some(start + seconds(1)));
        assert_eq!(schedule.pop_ready(0, start), None);
        assert_eq!(schedule.pop_ready(0, start + seconds(1)), Some("early"));
        assert_eq!(schedule.pop_ready(0, start + seconds(1)), None);
        assert_eq!(schedule.pop_ready(0, start + seconds(2)), Some("late"));
        assert_eq!(schedule.next_due(), None);
        assert_eq!(schedule.len(), 0);
    }

    #[test]
    fn whoever_is_not_wanted_any_more_does_not_wait_for_budget() {
        let start = Instant::now();
        let mut schedule = PollQueue::new(LONGEST);
        schedule.push(start, ("a", 1), 0, 0.9);
        schedule.push(start + seconds(1), ("a", 2), 0, 0.9);
        schedule.advance_if(start, |&(_, plan)| plan == 2);
        assert_eq!((schedule.ready(0), schedule.len()), (0, 1));
        schedule.advance_if(start + seconds(1), |&(_, plan)| plan == 2);
        assert_eq!(schedule.pop_ready(0, start + seconds(1)), Some(("a", 2)));
    }

    #[test]
    fn of_those_ready_at_once_the_likeliest_goes_first() {
        let start = Instant::now();
        let mut schedule = PollQueue::new(LONGEST);
        for (purchase, rng) in [("a", 0.0), ("b", 0.7), ("c", 0.7), ("d", 0.2), ("e", f64::NAN)] {
            schedule.push(start, purchase, 0, rng);
        }
        let job: Vec<_> = std::iter::from_fn(|| schedule.pop_ready(0, start)).collect();
        assert_eq!(job, ["b", "c", "d", "a", "e"]);
    }

    #[test]
    fn waiting_counts_as_much_as_chance() {
        let start = Instant::now();
        let mut schedule = PollQueue::new(LONGEST);
        schedule.push(start, "waited", 0, 0.2);
        schedule.push(start + seconds(4), "likelier", 0, 0.5);
        schedule.advance(start);
        schedule.advance(start + seconds(4));
        // 0.2 x 5 s against 0.5 x 1 s.
        assert_eq!(schedule.pop_ready(0, start + seconds(5)), Some("waited"));
        schedule.push(start, "waited again", 0, 0.2);
        schedule.advance(start + seconds(5));
        assert_eq!(schedule.pop_ready(0, start + seconds(6)), Some("likelier"));
    }

    #[test]
    fn accounts_do_not_take_each_others_predictions() {
        let start = Instant::now();
        let mut schedule = PollQueue::new(LONGEST);
        schedule.push(start, "theirs", 1, 0.9);
        assert_eq!(schedule.pop_ready(0, start), None);
        assert_eq!((schedule.ready(0), schedule.ready(1)), (0, 1));
        assert_eq!(schedule.pop_ready(1, start), Some("theirs"));
    }

    #[test]
    fn nobody_starves() {
        let start = Instant::now();
        let mut schedule = PollQueue::new(LONGEST);
        schedule.push(start, 0, 0, 0.0);
        schedule.advance(start);
        // One poll a second, and always somebody likelier.
        let asked = (1..100).find(|&second| {
            let now = start + seconds(second);
            schedule.push(now, second, 0, 0.9);
            schedule.pop_ready(0, now) == Some(0)
        });
        assert_eq!(asked, Some(11));
        assert_eq!(schedule.ready(0), 1);
    }

    #[test]
    fn a_hundred_thousand_predictions_are_all_asked_for() {
        let start = Instant::now();
        let mut schedule = PollQueue::new(LONGEST);
        for purchase in 0..100_000_u32 {
            let at = start + Duration::from_millis(u64::from(purchase % 9973));
            schedule.push(at, purchase, 0, 1.0 / (1.0 + f64::from(purchase % 97)));
        }
        // Half of them are pushed once more.
        let mut asked = vec![0_u8; 100_000];
        for turn in 0..150_000_u64 {
            let now = start + seconds(10) + Duration::from_micros(turn * 200);
            let Some(purchase) = schedule.pop_ready(0, now) else { continue };
            let times = &mut asked[usize::try_from(purchase).unwrap()];
            *times += 1;
            if *times == 1 && purchase % 2 == 0 {
                schedule.push(now + seconds(1), purchase, 0, 0.5);
            }
        }
        assert_eq!(schedule.len(), 0);
        assert!(asked.iter().enumerate().all(|(purchase, &times)| times == if purchase % 2 == 0 { 2 } else { 1 }));
    }

    #[test]
    fn scarcity_rises_with_the_backlog_and_falls_after() {
        let start = Instant::now();
        let mut scarcity = PollPrice::new();
        let mut told = start;
        let mut tell = |minutes: u64, ready| {
            for _ in 0..minutes * 60 {
                told += seconds(1);
                scarcity.tell(told, ready, 10);
            }
            scarcity.multiplier()
        };
        assert_eq!(tell(5, 0).to_bits(), 1.0_f64.to_bits());
        // Two seconds of polls are ready: four times as dear at once, and more if that does not help.
        let risen = tell(1, 20);
        assert!((8.0..14.0).contains(&risen), "{risen}");
        let settled = tell(5, 5);
        assert!((2.0..8.0).contains(&settled), "{settled}");
        assert_eq!(tell(10, 0).to_bits(), 1.0_f64.to_bits());
        assert!(tell(100, 10_000) <= DEAREST);
    }
}
