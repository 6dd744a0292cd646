//! What one client has used: predictions at once, pictures per day, money per day and month.
//!
//! Wanted properties:
//! - Reserved and spent amounts never exceed a limit together, except for what a job costs above its estimate.
//! - A restart loses no usage.
//! - A `Retry-After` until midnight is correct.
//!
//! How:
//! - A job counts for the day and month of its request, whenever it ends: at midnight each client starts with nothing used.
//!   A job that is resumed after a restart counts for the day of the restart, because its time is not known here.
//! - A clock that is set back frees nothing: the latest day seen continues. A clock that is set back by more than a day was
//!   wrong before, so its new day is used, with the usage so far. A clock that is set forward is trusted.
//! - Money is counted in whole billionths of a dollar, so a hundred jobs of one cent are exactly one dollar.
//! - One lock per client, held for a few steps: simultaneous requests are decided one after the other.
//!
//! Known limitation: a decision about an unknown purchase (`ledger resolve … lost`) counts from the next start.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::civil::Date;

use super::period;
use crate::config::ClientLimits;
use crate::model::{Clock, CostEstimate, Limit, LimitExceeded, QuotaHold, Timestamp, Usd};

/// The assumed duration of a purchase before one has ended: an edit of low quality.
const DURATION_FIRST: Duration = Duration::from_secs(30);
/// Bounds of the estimated wait for a free slot: SDKs do not wait for more than a minute by themselves.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_mins(1);

const NANOS_PER_USD: f64 = 1e9;

/// The limits of one client and what is used of them.
#[derive(Debug)]
pub(super) struct ClientQuota {
    limits: RwLock<ClientLimits>,
    clock: Arc<dyn Clock>,
    usage: Mutex<QuotaUsage>,
}

#[derive(Debug)]
struct QuotaUsage {
    /// The latest day seen.
    today: Date,
    day: PeriodUsage,
    month: PeriodUsage,
    /// Purchases queued or in flight.
    purchases: u64,
    /// Mean time from a request to its pictures.
    mean_duration: Duration,
}

/// What the jobs of a period have used; unfinished ones count with their estimate.
#[derive(Clone, Copy, Debug, Default)]
struct PeriodUsage {
    /// The number of the period since the start: holds of an earlier one no longer change the usage.
    period: u64,
    pictures: u64,
    nanos: u64,
}

impl PeriodUsage {
    fn next(self) -> Self {
        Self { period: self.period + 1, ..Self::default() }
    }

    fn add(&mut self, pictures: u64, nanos: u64) {
        self.pictures = self.pictures.saturating_add(pictures);
        self.nanos = self.nanos.saturating_add(nanos);
    }

    fn replace(&mut self, period: u64, amounts: Amounts, pictures: u64, nanos: u64) {
        if self.period == period {
            self.pictures = self.pictures.saturating_sub(amounts.pictures);
            self.nanos = self.nanos.saturating_sub(amounts.nanos);
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

/// A purchase from before the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastPurchase {
    pub(super) requested: Timestamp,
    pub(super) pictures: usize,
    pub(super) usd: Usd,
}

impl ClientQuota {
    pub(super) fn new(limits: ClientLimits, clock: Arc<dyn Clock>) -> Self {
        let today = period::day(clock.now());
        let usage = QuotaUsage {
            today,
            day: PeriodUsage::default(),
            month: PeriodUsage::default(),
            purchases: 0,
            mean_duration: DURATION_FIRST,
        };
        Self { limits: RwLock::new(limits), clock, usage: Mutex::new(usage) }
    }

    pub(super) fn limits(&self) -> ClientLimits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the limits. What was used goes on to count.
    pub(super) fn set_limits(&self, limits: ClientLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Counts purchases from before the start. Those with a later date than today count for today: the clock was ahead
    /// then, or is behind now, and neither restores a quota.
    pub(super) fn count_past(&self, purchases: &[PastPurchase]) {
        let mut usage = self.lock();
        if let Some(latest) = purchases.iter().map(|purchase| period::day(purchase.requested)).max()
            && Some(latest) == usage.today.tomorrow().ok()
        {
            usage.today = latest;
        }
        let today = usage.today;
        for purchase in purchases {
            let day = period::day(purchase.requested);
            let (pictures, nanos) = (purchase.pictures as u64, nanos(purchase.usd));
            if day >= today {
                usage.day.add(pictures, nanos);
            }
            if day >= today || period::same_month(day, today) {
                usage.month.add(pictures, nanos);
            }
        }
    }

    /// Reserves the estimated cost of a job.
    ///
    /// # Errors
    ///
    /// The first limit that the job would exceed. A job that exceeds it alone never fits, whatever `retry_after` says.
    pub(super) fn reserve(self: &Arc<Self>, estimate: CostEstimate) -> Result<Hold, LimitExceeded> {
        let mut usage = self.lock();
        match self.exceeded(&usage, estimate) {
            Some(exceeded) => Err(exceeded),
            None => Ok(self.hold(&mut usage, estimate)),
        }
    }

    /// Reserves without regard to the limits.
    pub(super) fn adopt(self: &Arc<Self>, estimate: CostEstimate) -> Hold {
        self.hold(&mut self.lock(), estimate)
    }

    pub(super) fn used(&self) -> Used {
        let usage = self.lock();
        Used {
            purchases: usage.purchases,
            pictures_today: usage.day.pictures,
            pictures_this_month: usage.month.pictures,
            usd_today: usd(usage.day.nanos),
            usd_this_month: usd(usage.month.nanos),
        }
    }

    fn exceeded(&self, usage: &QuotaUsage, estimate: CostEstimate) -> Option<LimitExceeded> {
        let ClientLimits { predictions_at_once, pictures_per_day, usd_per_day, usd_per_month, .. } = self.limits();
        let over = |used: u64, more: u64, max: Option<u64>| max.is_some_and(|max| used.saturating_add(more) > max);
        let count = |limit: Option<std::num::NonZeroU32>| limit.map(|limit| u64::from(limit.get()));
        let (more_pictures, more_nanos) = (estimate.pictures as u64, nanos(estimate.usd));
        let now = self.clock.now();
        let end_of_day = || period::until_end_of_day(usage.today, now);
        let (limit, retry_after) = if over(usage.purchases, estimate.purchases as u64, count(predictions_at_once)) {
            (Limit::PredictionsAtOnce, usage.estimated_wait())
        } else if over(usage.day.pictures, more_pictures, count(pictures_per_day)) {
            (Limit::PicturesPerDay, end_of_day())
        } else if over(usage.day.nanos, more_nanos, usd_per_day.map(nanos)) {
            (Limit::UsdPerDay, end_of_day())
        } else if over(usage.month.nanos, more_nanos, usd_per_month.map(nanos)) {
            (Limit::UsdPerMonth, period::until_end_of_month(usage.today, now))
        } else {
            return None;
        };
        Some(LimitExceeded { limit, retry_after })
    }

    fn hold(self: &Arc<Self>, usage: &mut QuotaUsage, estimate: CostEstimate) -> Hold {
        let rest = Amounts {
            purchases: estimate.purchases as u64,
            pictures: estimate.pictures as u64,
            nanos: nanos(estimate.usd),
        };
        usage.purchases += rest.purchases;
        usage.day.add(rest.pictures, rest.nanos);
        usage.month.add(rest.pictures, rest.nanos);
        Hold {
            quota: Arc::clone(self),
            requested: self.clock.now(),
            day: usage.day.period,
            month: usage.month.period,
            even: rest.purchases > 0 && rest.pictures.is_multiple_of(rest.purchases),
            rest: Mutex::new(rest),
        }
    }

    /// Locks the usage, and starts a new period where a new day has begun.
    fn lock(&self) -> MutexGuard<'_, QuotaUsage> {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.advance(period::day(self.clock.now()));
        usage
    }
}

impl QuotaUsage {
    fn advance(&mut self, day: Date) {
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

    /// Estimates when one of the purchases in flight ends, if they began at random times: the more there are, the
    /// sooner.
    fn estimated_wait(&self) -> Duration {
        let more = u32::try_from(self.purchases).unwrap_or(u32::MAX).saturating_add(1);
        (self.mean_duration / more).clamp(WAIT_MIN, WAIT_MAX)
    }

    fn record_duration(&mut self, took: Duration) {
        self.mean_duration = (self.mean_duration * 7 + took.min(Duration::from_hours(1))) / 8;
    }
}

/// Amounts of a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amounts {
    purchases: u64,
    pictures: u64,
    nanos: u64,
}

/// A reservation of one job.
#[derive(Debug)]
pub(super) struct Hold {
    quota: Arc<ClientQuota>,
    requested: Timestamp,
    /// The periods it counts for.
    day: u64,
    month: u64,
    /// All of its purchases make the same number of pictures.
    even: bool,
    /// What is not settled.
    rest: Mutex<Amounts>,
}

impl Hold {
    /// Takes one purchase out of the rest. Where the purchases are uneven it is unknown which one ended: it then takes
    /// only what it made, and the last one takes all, so that never too little is reserved meanwhile.
    fn take(&self, made: u64) -> Amounts {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if rest.purchases <= 1 {
            return std::mem::take(&mut *rest);
        }
        let pictures = if self.even { rest.pictures / rest.purchases } else { made.min(rest.pictures) };
        let share = u128::from(rest.nanos) * u128::from(pictures) / u128::from(rest.pictures.max(1));
        let amounts = Amounts { purchases: 1, pictures, nanos: u64::try_from(share).unwrap_or(rest.nanos) };
        rest.purchases -= amounts.purchases;
        rest.pictures -= amounts.pictures;
        rest.nanos -= amounts.nanos;
        amounts
    }

    fn replace(&self, usage: &mut QuotaUsage, amounts: Amounts, pictures: u64, nanos: u64) {
        usage.purchases = usage.purchases.saturating_sub(amounts.purchases);
        usage.day.replace(self.day, amounts, pictures, nanos);
        usage.month.replace(self.month, amounts, pictures, nanos);
    }
}

impl QuotaHold for Hold {
    fn settle(&self, pictures: usize, usd: Usd) {
        let pictures = pictures as u64;
        let amounts = self.take(pictures);
        let mut usage = self.quota.lock();
        self.replace(&mut usage, amounts, pictures, nanos(usd));
        if pictures > 0 {
            usage.record_duration(self.quota.clock.now().since(self.requested));
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let rest = std::mem::take(self.rest.get_mut().unwrap_or_else(PoisonError::into_inner));
        if rest != Amounts::default() {
            self.replace(&mut self.quota.lock(), rest, 0, 0);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "amounts are positive; the cast saturates")]
fn nanos(Usd(usd): Usd) -> u64 {
    (usd * NANOS_PER_USD).round() as u64
}

#[expect(clippy::cast_precision_loss, reason = "shown only; amounts are far below 2^52")]
fn usd(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_USD
}

#[cfg(test)]
mod tests;
