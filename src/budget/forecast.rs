//! When a purchase that is queued now would be sent: the submits before it, divided by what the accounts allow.
//!
//! Submits are sent as fast as the rates allow, and as slots become free: by Little's law, the number of slots divided by
//! the mean time a prediction is in flight. The slower of the two decides. The estimate is right on average only, because
//! later arrivals are unknown.

use std::time::Duration;

use tokio::time::Instant;

use super::account::Account;
use super::queue::QueuedSubmit;
use super::state::State;

/// When a purchase would be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forecast {
    /// The time until then.
    pub(crate) start: Duration,
    /// The same if no other submit of this client were queued.
    pub(crate) start_alone: Duration,
    /// The upstream has refused a submit, and none is sent at the moment.
    pub(crate) paused: bool,
}

/// The most refused clients whose return is remembered.
const EXPECTED_MAX: usize = 100_000;
/// A later start counts as this one, so that no time overflows.
const START_MAX: Duration = Duration::from_hours(24 * 30);
/// The shortest `Retry-After` for a refused client.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

impl<T> State<T> {
    /// Refuses a client that can wait for `spare`. Returns the time after which it would be accepted if no other client
    /// arrives. Clients that were refused before come first: with the same time, all would return at once and be refused
    /// again.
    pub(super) fn turn_away(&mut self, submit: &QueuedSubmit, spare: Duration, now: Instant) -> Duration {
        while self.expected.front().is_some_and(|&at| at <= now) {
            self.expected.pop_front();
        }
        let start = self.starts(submit, count(self.expected.len()), now).start;
        let retry_after = start.saturating_sub(spare).max(RETRY_AFTER_MIN);
        if self.expected.len() < EXPECTED_MAX {
            let at = now + retry_after;
            let position = self.expected.partition_point(|&other| other <= at);
            self.expected.insert(position, at);
        }
        retry_after
    }

    pub(super) fn forecast(&self, submit: &QueuedSubmit, now: Instant) -> Forecast {
        self.starts(submit, 0.0, now)
    }

    /// The forecast for a submit that the queue and `others` precede.
    fn starts(&self, submit: &QueuedSubmit, others: f64, now: Instant) -> Forecast {
        // With every account paused no submit is queued for long. With every one in cooldown, all are counted as if they were not.
        let all_paused = self.accounts.iter().all(|account| account.paused);
        let used = || self.accounts.iter().filter(|account| all_paused || !account.paused);
        let all = used().all(|account| account.cooldowns.account().is_some());
        let (mut per_second, mut ends_per_second, mut free) = (0.0, 0.0, 0.0);
        let mut pause: Option<Duration> = None;
        for account in used().filter(|account| all || account.cooldowns.account().is_none()) {
            let slots = account.submit_limit.concurrency();
            per_second += account.submit_limit.submits_per_minute() / 60.0;
            free += count(slots.saturating_sub(account.in_flight.count()));
            // Before the first prediction has ended its duration is unknown, and no client is refused for a guess.
            ends_per_second += account.in_flight.mean_s().map_or(f64::INFINITY, |mean_s| count(slots) / mean_s);
            let until = account.submit_limit.paused_until(now).map_or(Duration::ZERO, |until| until - now);
            pause = Some(pause.map_or(until, |pause| pause.min(until)));
        }
        let model_until = |account: &Account| {
            account
                .cooldowns
                .check_model(&submit.model, now)
                .err()
                .flatten()
                .map_or(Duration::ZERO, |until| until - now)
        };
        let model_pause = used().map(model_until).min().unwrap_or_default();
        let pause = pause.unwrap_or_default().max(model_pause);
        let start = |ahead: f64| {
            let by_rate = ahead / per_second.max(f64::MIN_POSITIVE);
            let by_slots = (ahead + 1.0 - free).max(0.0) / ends_per_second.max(f64::MIN_POSITIVE);
            let start = Duration::try_from_secs_f64(by_rate.max(by_slots)).unwrap_or(START_MAX);
            pause.saturating_add(start).min(START_MAX)
        };
        let (ahead, ahead_alone) = self.queue.ahead_of(&submit.client, submit.usd);
        Forecast { start: start(ahead + others), start_alone: start(ahead_alone), paused: !pause.is_zero() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of predictions are far below 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}
