//! How far a job is, by the generation times that were learned.

use std::time::Duration;

use super::waiter::Waiter;
use crate::engine::driver::{Driver, ObservedJob};
use crate::engine::jobs::rules::class_of;
use crate::engine::jobs::{JobStage, OpenPurchase};
use crate::model::{Cost, Timestamp};
use crate::storage::journal::JobRecord;

/// The highest percentage of a job that is not complete.
const PERCENT_MAX: u8 = 99;

/// How far a job is that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JobProgress {
    /// When it is expected to be done; `None` where nothing is known of that.
    pub(crate) expected: Option<Timestamp>,
    /// The share of the time since its submit, below 100; `None` while it waits for its turn. What a job has once shown does not
    /// become less.
    pub(crate) percent: Option<u8>,
    /// Its place among the purchases that wait for their turn, 1 for the next; `None` when it does not wait.
    pub(crate) queue_position: Option<usize>,
}

/// What is expected of a job that a request waits for; nothing once the job has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct JobForecast {
    /// The time until it is done; `None` where nothing is known of that.
    pub(crate) left: Option<Duration>,
    /// The estimate of the catalogue.
    pub(crate) cost: Option<Cost>,
}

impl JobForecast {
    pub(crate) fn of(waiter: &Waiter) -> Self {
        let driver = &waiter.driver;
        let now = driver.now().instant;
        let (live, cost) =
            driver.read(|jobs| (jobs.table.of_any_client(waiter.job(), now), jobs.expected_cost(waiter.job())));
        Self {
            left: live.and_then(|live| time_left(driver, &live.record, &live.open)),
            cost: cost.map(|(_, usd)| Cost { usd, estimated: true }),
        }
    }
}

/// Returns how far a live job is.
pub(super) fn progress(driver: &Driver, observed: &ObservedJob) -> JobProgress {
    let ObservedJob { view, shown, queue_position, .. } = observed;
    let left = time_left(driver, &view.record, &view.open);
    let now = driver.services.clock.now();
    let made_for = view.open.iter().map(|open| open.age).max().unwrap_or_default();
    let percent = left.filter(|_| view.stage != JobStage::Queued).map(|left| shown.show(percent(made_for, left)));
    JobProgress { expected: left.map(|left| now.plus(left)), percent, queue_position: *queue_position }
}

/// Returns the time until the last purchase is expected to be done; `None` when nothing is known of one, also of its start.
fn time_left(driver: &Driver, record: &JobRecord, open: &[OpenPurchase]) -> Option<Duration> {
    let mut latencies = driver.latencies();
    let left = |open: &OpenPurchase| {
        let done_at = latencies.expected(&class_of(record, open.pictures), open.age)?;
        Some(open.starts_in? + done_at.saturating_sub(open.age))
    };
    open.iter().map(left).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Returns the share of the whole time that has passed.
fn percent(passed: Duration, left: Duration) -> u8 {
    let (passed, whole) = (passed.as_millis(), passed.saturating_add(left).as_millis());
    let percent = passed.saturating_mul(100).checked_div(whole).unwrap_or(0);
    u8::try_from(percent).unwrap_or(PERCENT_MAX).min(PERCENT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_is_the_share_of_the_time_and_never_complete() {
        let percent = |passed, left| percent(Duration::from_secs(passed), Duration::from_secs(left));
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(0, 24), 0);
        assert_eq!(percent(6, 18), 25);
        assert_eq!(percent(24, 0), 99);
        assert_eq!(percent(999, 1), 99);
        assert_eq!(percent(u64::MAX, 1), 99);
    }
}
