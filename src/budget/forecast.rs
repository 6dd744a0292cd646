//! When a purchase that is queued now would leave: what goes before it, through what the accounts let through.
//!
//! Submits leave as fast as the rates allow, and as places come free: by Little's law, places divided by the mean time
//! one is held. The slower of the two counts. An estimate, honest on average and no more: nobody knows what arrives next.

use std::time::Duration;

use tokio::time::Instant;

use super::State;
use super::queue::QueuedSubmit;

/// When a purchase would leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forecast {
    pub(crate) start: Duration,
    /// The same if nothing of the same client were queued.
    pub(crate) start_alone: Duration,
    /// The upstream has pushed back, and nothing leaves at the moment.
    pub(crate) paused: bool,
}

/// Clients that were sent away and told when to come back, most of all that are remembered.
const PROMISES_MAX: usize = 100_000;
/// The shortest time a client is sent away for.
const AWAY_LEAST: Duration = Duration::from_secs(1);

impl State {
    /// Sends a client away that has so much time to spare, and tells when it is let in if nobody else arrives. Everybody
    /// who was sent away before comes first: who is told the same time would meet the same crowd again.
    pub(super) fn turn_away(&mut self, submit: &QueuedSubmit, spare: Duration, now: Instant) -> Duration {
        while self.promised.front().is_some_and(|&at| at <= now) {
            self.promised.pop_front();
        }
        let start = self.starts(submit, count(self.promised.len()), now).start;
        let away = start.saturating_sub(spare).max(AWAY_LEAST);
        if self.promised.len() < PROMISES_MAX {
            let at = now + away;
            let position = self.promised.partition_point(|&other| other <= at);
            self.promised.insert(position, at);
        }
        away
    }

    pub(super) fn forecast(&self, submit: &QueuedSubmit, now: Instant) -> Forecast {
        self.starts(submit, 0.0, now)
    }

    /// The forecast for something that so many others besides the queue go before.
    fn starts(&self, submit: &QueuedSubmit, others: f64, now: Instant) -> Forecast {
        let mut usable = self.accounts.iter().filter(|account| account.aside.is_none()).peekable();
        // With every key set aside there is nothing to go by; they are then taken as they would be.
        let all = usable.peek().is_none();
        let (mut per_second, mut ends_per_second, mut free) = (0.0, 0.0, 0.0);
        let mut pause: Option<Duration> = None;
        for account in self.accounts.iter().filter(|account| all || account.aside.is_none()) {
            let places = account.places();
            per_second += account.rate() / 60.0;
            free += count(places.saturating_sub(account.in_flight));
            // Before anything has ended nobody knows how long a place is held, and nobody is sent away for a guess.
            ends_per_second += account.held_s().map_or(f64::INFINITY, |held| count(places) / held);
            let until = account.paused_until(now).map_or(Duration::ZERO, |until| until - now);
            pause = Some(pause.map_or(until, |pause| pause.min(until)));
        }
        let model_until = |account: &super::Account| {
            account.model_may_go(&submit.model, now).err().flatten().map_or(Duration::ZERO, |until| until - now)
        };
        let model_pause = self.accounts.iter().map(model_until).min().unwrap_or_default();
        let pause = pause.unwrap_or_default().max(model_pause);
        let start = |ahead: f64| {
            let by_rate = ahead / per_second.max(f64::MIN_POSITIVE);
            let by_places = (ahead + 1.0 - free).max(0.0) / ends_per_second.max(f64::MIN_POSITIVE);
            pause.saturating_add(Duration::try_from_secs_f64(by_rate.max(by_places)).unwrap_or(Duration::MAX))
        };
        let (ahead, ahead_alone) = self.queue.ahead_of(&submit.client, submit.usd);
        Forecast { start: start(ahead + others), start_alone: start(ahead_alone), paused: !pause.is_zero() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "places are far fewer than 2^52")]
fn count(places: usize) -> f64 {
    places as f64
}
