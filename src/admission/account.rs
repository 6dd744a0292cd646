//! What one client has used up: predictions at once, pictures a day, money a day and a month.
//!
//! Wanted: what is reserved and what is spent never come to more than a limit, but for what an order turns out to cost
//! above its estimate; a restart forgets nothing; "try again at midnight" is true.
//!
//! - An order counts for the day and month it was made in, whenever it ends: at midnight everybody starts with nothing
//!   used. An order taken up after a restart counts for the day of the restart; nobody says here when it was made.
//! - A clock that is set back grants nothing: the latest day seen goes on. Set back by more than a day it must have been
//!   wrong before, so the day it shows is believed, and what was used is carried over into it. A clock that is set
//!   forward is believed.
//! - Money is counted in whole billionths of a dollar, so that a hundred orders of a cent are a dollar exactly.
//! - One lock a client, for a few steps: whoever asks at the same time is decided one after the other.
//!
//! Known limit: a decision about an unknown purchase (`ledger resolve … lost`) counts from the next start.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::civil::Date;

use super::period;
use crate::config::ClientLimits;
use crate::model::{Clock, CostEstimate, Limit, LimitExceeded, QuotaHold, Timestamp, Usd};

/// How long a prediction is thought to take before one has ended: an edit of low quality.
const TYPICAL: Duration = Duration::from_secs(30);
/// The guess when a place is free is never shorter, nor longer: SDKs do not wait for more than a minute by themselves.
const GUESS_MIN: Duration = Duration::from_secs(1);
const GUESS_MAX: Duration = Duration::from_mins(1);

const NANOS_PER_USD: f64 = 1e9;

/// One client's account.
#[derive(Debug)]
pub(super) struct Account {
    limits: ClientLimits,
    clock: Arc<dyn Clock>,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    /// The latest day seen.
    today: Date,
    day: Sum,
    month: Sum,
    /// Predictions queued or under way.
    purchases: u64,
    /// How long a prediction takes, from its order to its pictures.
    typical: Duration,
}

/// What the orders of a period have used, the running ones by estimate.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    /// Which period it is, counted from the start: what belongs to an earlier one is not put right any more.
    period: u64,
    pictures: u64,
    nanos: u64,
}

impl Sum {
    fn next(self) -> Self {
        Self { period: self.period + 1, ..Self::default() }
    }

    fn add(&mut self, pictures: u64, nanos: u64) {
        self.pictures = self.pictures.saturating_add(pictures);
        self.nanos = self.nanos.saturating_add(nanos);
    }

    fn replace(&mut self, period: u64, part: Part, pictures: u64, nanos: u64) {
        if self.period == period {
            self.pictures = self.pictures.saturating_sub(part.pictures);
            self.nanos = self.nanos.saturating_sub(part.nanos);
            self.add(pictures, nanos);
        }
    }
}

/// What a client has used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Used {
    pub(super) purchases: u64,
    pub(super) pictures_today: u64,
    pub(super) pictures_this_month: u64,
    pub(super) usd_today: f64,
    pub(super) usd_this_month: f64,
}

/// What was used before the gateway started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Earlier {
    pub(super) ordered: Timestamp,
    pub(super) pictures: usize,
    pub(super) usd: Usd,
}

impl Account {
    pub(super) fn new(limits: ClientLimits, clock: Arc<dyn Clock>) -> Self {
        let today = period::day(clock.now());
        let books = Books { today, day: Sum::default(), month: Sum::default(), purchases: 0, typical: TYPICAL };
        Self { limits, clock, books: Mutex::new(books) }
    }

    pub(super) fn limits(&self) -> &ClientLimits {
        &self.limits
    }

    /// Counts what was used before the start. What is dated later than today counts as today's: the clock was ahead
    /// then, or is behind now, and neither is a reason for a fresh quota.
    pub(super) fn recall(&self, earlier: &[Earlier]) {
        let mut books = self.open();
        if let Some(latest) = earlier.iter().map(|earlier| period::day(earlier.ordered)).max()
            && Some(latest) == books.today.tomorrow().ok()
        {
            books.today = latest;
        }
        let today = books.today;
        for earlier in earlier {
            let day = period::day(earlier.ordered);
            let (pictures, nanos) = (earlier.pictures as u64, nanos(earlier.usd));
            if day >= today {
                books.day.add(pictures, nanos);
            }
            if day >= today || period::same_month(day, today) {
                books.month.add(pictures, nanos);
            }
        }
    }

    /// Reserves what an order is expected to come to.
    ///
    /// # Errors
    ///
    /// The first limit it would break. An order that breaks it all by itself never fits, whatever `retry_after` says.
    pub(super) fn reserve(self: &Arc<Self>, expense: CostEstimate) -> Result<Hold, LimitExceeded> {
        let mut books = self.open();
        match self.broken(&books, expense) {
            Some(over) => Err(over),
            None => Ok(self.hold(&mut books, expense)),
        }
    }

    /// Reserves whatever the limits say.
    pub(super) fn adopt(self: &Arc<Self>, expense: CostEstimate) -> Hold {
        self.hold(&mut self.open(), expense)
    }

    pub(super) fn used(&self) -> Used {
        let books = self.open();
        Used {
            purchases: books.purchases,
            pictures_today: books.day.pictures,
            pictures_this_month: books.month.pictures,
            usd_today: usd(books.day.nanos),
            usd_this_month: usd(books.month.nanos),
        }
    }

    fn broken(&self, books: &Books, expense: CostEstimate) -> Option<LimitExceeded> {
        let ClientLimits { predictions_at_once, pictures_per_day, usd_per_day, usd_per_month, .. } = self.limits;
        let over = |used: u64, more: u64, most: Option<u64>| most.is_some_and(|most| used.saturating_add(more) > most);
        let count = |limit: Option<std::num::NonZeroU32>| limit.map(|limit| u64::from(limit.get()));
        let (more_pictures, more_nanos) = (expense.pictures as u64, nanos(expense.usd));
        let now = self.clock.now();
        let day = || period::rest_of_day(books.today, now);
        let (limit, retry_after) = if over(books.purchases, expense.purchases as u64, count(predictions_at_once)) {
            (Limit::PredictionsAtOnce, books.guess())
        } else if over(books.day.pictures, more_pictures, count(pictures_per_day)) {
            (Limit::PicturesPerDay, day())
        } else if over(books.day.nanos, more_nanos, usd_per_day.map(nanos)) {
            (Limit::UsdPerDay, day())
        } else if over(books.month.nanos, more_nanos, usd_per_month.map(nanos)) {
            (Limit::UsdPerMonth, period::rest_of_month(books.today, now))
        } else {
            return None;
        };
        Some(LimitExceeded { limit, retry_after })
    }

    fn hold(self: &Arc<Self>, books: &mut Books, expense: CostEstimate) -> Hold {
        let rest =
            Part { purchases: expense.purchases as u64, pictures: expense.pictures as u64, nanos: nanos(expense.usd) };
        books.purchases += rest.purchases;
        books.day.add(rest.pictures, rest.nanos);
        books.month.add(rest.pictures, rest.nanos);
        Hold {
            account: Arc::clone(self),
            ordered: self.clock.now(),
            day: books.day.period,
            month: books.month.period,
            even: rest.purchases > 0 && rest.pictures.is_multiple_of(rest.purchases),
            rest: Mutex::new(rest),
        }
    }

    /// Locks the books and turns the page where a new day has begun.
    fn open(&self) -> MutexGuard<'_, Books> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.turn(period::day(self.clock.now()));
        books
    }
}

impl Books {
    fn turn(&mut self, day: Date) {
        if day > self.today {
            self.day = self.day.next();
            if !period::same_month(day, self.today) {
                self.month = self.month.next();
            }
            self.today = day;
        } else if self.today.yesterday().is_ok_and(|yesterday| day < yesterday) {
            self.today = day;
        }
    }

    /// When one of the predictions under way is likely to end, if they began at any time: the more there are, the
    /// sooner.
    fn guess(&self) -> Duration {
        let more = u32::try_from(self.purchases).unwrap_or(u32::MAX).saturating_add(1);
        (self.typical / more).clamp(GUESS_MIN, GUESS_MAX)
    }

    fn learn(&mut self, took: Duration) {
        self.typical = (self.typical * 7 + took.min(Duration::from_hours(1))) / 8;
    }
}

/// Of a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    purchases: u64,
    pictures: u64,
    nanos: u64,
}

/// A reservation of one order.
#[derive(Debug)]
pub(super) struct Hold {
    account: Arc<Account>,
    ordered: Timestamp,
    /// The periods it counts for.
    day: u64,
    month: u64,
    /// Each of its predictions makes as many pictures as the others.
    even: bool,
    /// What is not settled.
    rest: Mutex<Part>,
}

impl Hold {
    /// Takes one prediction out of the rest. Where the predictions are uneven nobody says which one it was: it then
    /// takes only what it made, and the last one takes all, so that never too little is reserved meanwhile.
    fn take(&self, made: u64) -> Part {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if rest.purchases <= 1 {
            return std::mem::take(&mut *rest);
        }
        let pictures = if self.even { rest.pictures / rest.purchases } else { made.min(rest.pictures) };
        let share = u128::from(rest.nanos) * u128::from(pictures) / u128::from(rest.pictures.max(1));
        let part = Part { purchases: 1, pictures, nanos: u64::try_from(share).unwrap_or(rest.nanos) };
        rest.purchases -= part.purchases;
        rest.pictures -= part.pictures;
        rest.nanos -= part.nanos;
        part
    }

    fn replace(&self, books: &mut Books, part: Part, pictures: u64, nanos: u64) {
        books.purchases = books.purchases.saturating_sub(part.purchases);
        books.day.replace(self.day, part, pictures, nanos);
        books.month.replace(self.month, part, pictures, nanos);
    }
}

impl QuotaHold for Hold {
    fn settle(&self, pictures: usize, usd: Usd) {
        let pictures = pictures as u64;
        let part = self.take(pictures);
        let mut books = self.account.open();
        self.replace(&mut books, part, pictures, nanos(usd));
        if pictures > 0 {
            books.learn(self.account.clock.now().since(self.ordered));
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let rest = std::mem::take(self.rest.get_mut().unwrap_or_else(PoisonError::into_inner));
        if rest != Part::default() {
            self.replace(&mut self.account.open(), rest, 0, 0);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an amount is positive; the cast stops at the largest number"
)]
fn nanos(Usd(usd): Usd) -> u64 {
    (usd * NANOS_PER_USD).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn usd(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_USD
}

#[cfg(test)]
mod tests;
