//! One account with the upstream: what it may be sent now, and what it has answered.
//!
//! A submit is sent when all of these agree, asked in this order: the operator has not paused it; the account is in no cooldown; fewer predictions are in
//! flight than configured; the learned limits allow it ([`super::limit`]); the model is in no cooldown; and the configured
//! rates have a call left. Polls need only their own spacing and the rate of all calls together, of which submits never use
//! the share of the polls.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::cooldown::Cooldowns;
use super::limit::{Bounds, LearnedPolls, LearnedSubmits, PollSpacing, SendToken, Wait};
use crate::config::{Account as AccountConfig, Switch, UpstreamConfig};
use crate::model::{AccountId, Failure};
use in_flight::InFlight;
use rate::CallRates;
pub(super) use readiness::KnownReadiness;
pub(crate) use readiness::{Obstacle, Readiness};
use submit_limit::SubmitLimit;

mod in_flight;
mod rate;
mod readiness;
mod submit_limit;

/// What is known of an account that survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct LearnedAccount {
    submits: LearnedSubmits,
    polls: LearnedPolls,
    /// Mean time that a prediction is in flight, in seconds.
    in_flight_mean_s: Option<f64>,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: AccountId,
    /// The operator has paused it: no submit is sent. Polls are.
    pub(super) paused: bool,
    /// Predictions in flight, as configured.
    pub(super) concurrency_max: usize,
    pub(super) submits_per_minute_max: NonZeroU32,
    rates: CallRates,
    pub(super) submit_limit: SubmitLimit,
    pub(super) poll_spacing: PollSpacing,
    pub(super) in_flight: InFlight,
    pub(super) cooldowns: Cooldowns,
    pub(super) known: KnownReadiness,
}

/// Returns the submits per minute that leave the polls their share of all calls.
fn submits_per_minute_max(config: &AccountConfig, upstream: &UpstreamConfig) -> NonZeroU32 {
    let share = NonZeroU32::new(config.requests_per_minute.get() * (100 - upstream.poll_share_percent) / 100);
    config.submits_per_minute.min(share.unwrap_or(NonZeroU32::MIN))
}

impl Account {
    pub(super) fn new(
        config: &AccountConfig,
        upstream: &UpstreamConfig,
        learned: LearnedAccount,
        now: Instant,
    ) -> Self {
        let requests = config.requests_per_minute;
        let submits_per_minute_max = submits_per_minute_max(config, upstream);
        let concurrency_max = config.concurrent_predictions.get();
        let bounds = Bounds {
            submits_per_minute: f64::from(submits_per_minute_max.get()),
            concurrency: concurrency_max,
            window: upstream.rate_window,
            pushback: upstream.pushback,
            pushback_max: upstream.pushback_max,
        };
        let learned = if upstream.learning == Switch::On {
            learned
        } else {
            LearnedAccount { in_flight_mean_s: learned.in_flight_mean_s, ..LearnedAccount::default() }
        };
        Self {
            id: config.id.clone(),
            paused: false,
            concurrency_max,
            submits_per_minute_max,
            rates: CallRates::new(submits_per_minute_max, requests, upstream.burst),
            submit_limit: SubmitLimit::new(bounds, upstream.learning, learned.submits, now),
            poll_spacing: PollSpacing::new(bounds, learned.polls),
            in_flight: InFlight::new(learned.in_flight_mean_s),
            cooldowns: Cooldowns::new(upstream.account_cooldown_max, upstream.pushback, upstream.pushback_max),
            known: KnownReadiness::default(),
        }
    }

    /// Changes the configured upper bounds, of which a lower one ends nothing that is in flight. Rates that change begin with a
    /// full burst.
    pub(super) fn set_bounds(&mut self, config: &AccountConfig, upstream: &UpstreamConfig) {
        let (submits, requests) = (submits_per_minute_max(config, upstream), config.requests_per_minute);
        self.rates.change(submits, requests, upstream.burst);
        self.submits_per_minute_max = submits;
        self.concurrency_max = config.concurrent_predictions.get();
        self.submit_limit.set_bounds(f64::from(submits.get()), self.concurrency_max);
    }

    /// Forgets what the account has taught: limits, cooldowns, the mean time in flight. A pause that the upstream has asked for
    /// goes on.
    pub(super) fn forget(&mut self, now: Instant) {
        self.submit_limit.forget(now);
        self.poll_spacing.forget();
        self.in_flight.forget();
        self.cooldowns.forget();
    }

    pub(super) fn learned(&self) -> LearnedAccount {
        LearnedAccount {
            submits: self.submit_limit.learned(),
            polls: self.poll_spacing.learned(),
            in_flight_mean_s: self.in_flight.mean_s(),
        }
    }

    /// Whether a submit of some model may be sent, without regard to the configured rates.
    ///
    /// # Errors
    ///
    /// The time when it may; `None`: after a prediction has ended, or an unacknowledged submit was answered.
    pub(super) fn check(&self, now: Instant, despite_cooldown: bool) -> Result<(), Option<Instant>> {
        if self.paused {
            return Err(None);
        }
        if let Some(cooldown) = self.cooldowns.account().filter(|_| !despite_cooldown) {
            cooldown.check(now)?;
        }
        self.submit_limit.check(self.in_flight.count(), now).map_err(|wait| match wait {
            Wait::Until(at) => Some(at),
            Wait::ForCompletion | Wait::ForAnswer => None,
        })
    }

    /// Takes a call of both configured rates for a submit.
    ///
    /// # Errors
    ///
    /// The time when both have one.
    pub(super) fn take_submit(&mut self, now: Instant) -> Result<(), Instant> {
        self.rates.take_submit(now)
    }

    /// Takes a call for a poll.
    ///
    /// # Errors
    ///
    /// The time when there is one.
    pub(super) fn take_poll(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(at) = self.poll_spacing.next(now) {
            return Err(at);
        }
        self.rates.take_poll()?;
        self.poll_spacing.on_sent(now);
        Ok(())
    }

    /// Records that a submit is sent.
    pub(super) fn on_sent(&mut self, model: &str, now: Instant) -> SendToken {
        let token = self.submit_limit.on_sent(self.in_flight.count(), now);
        self.in_flight.on_started();
        self.cooldowns.on_sent(model);
        token
    }

    /// Records that the upstream accepted a submit.
    pub(super) fn on_accepted(&mut self, token: SendToken, model: &str, now: Instant) {
        self.submit_limit.on_accepted(token, self.in_flight.count(), now);
        self.known.on_accepted();
        if self.cooldowns.on_accepted(model) {
            tracing::info!(account = %self.id, "account accepted a submit; its cooldown is over");
        }
    }

    /// Records that the upstream refused a submit with 429. Returns the pause before the next submit.
    pub(super) fn on_refused(
        &mut self,
        token: SendToken,
        model: &str,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        self.cooldowns.on_refused(model);
        self.submit_limit.on_refused(token, self.in_flight.count(), retry_after, now)
    }

    /// Records that the upstream has no channel for a model. Returns the model's cooldown.
    pub(super) fn on_model_refused(
        &mut self,
        token: SendToken,
        model: &Arc<str>,
        reason: Failure,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        self.submit_limit.on_no_evidence(token, now);
        self.cooldowns.on_model_refused(model, reason, retry_after, now)
    }

    /// Records that the account may not use a model. Returns the model's cooldown.
    pub(super) fn on_permission_refused(
        &mut self,
        token: SendToken,
        model: &Arc<str>,
        reason: Failure,
        now: Instant,
    ) -> Duration {
        self.submit_limit.on_no_evidence(token, now);
        let pause = self.cooldowns.on_permission_refused(model, reason, now);
        let account = &self.id;
        tracing::warn!(%account, %model, pause_s = pause.as_secs(), "the account may not use this model; others are used");
        pause
    }

    /// Records that the upstream refused the key. Returns the account's cooldown.
    pub(super) fn on_key_refused(&mut self, token: SendToken, model: &str, reason: Failure, now: Instant) -> Duration {
        self.submit_limit.on_no_evidence(token, now);
        let name = reason.name();
        // An empty balance is no matter of the key, and no free question shows it.
        if let Failure::KeyRefused { .. } = reason {
            self.known.on_key_refused();
        }
        let pause = self.cooldowns.on_key_refused(model, reason, now);
        let account = &self.id;
        tracing::warn!(%account, reason = name, pause_s = pause.as_secs(), "key refused; the account is not used for a while");
        pause
    }

    /// Returns why the account cannot buy now.
    pub(super) fn obstacle(&self, now: Instant) -> Option<Obstacle> {
        if self.paused {
            return Some(Obstacle::Paused);
        }
        self.known.readiness.obstacle().or_else(|| {
            let cooldown = self.cooldowns.account().filter(|cooldown| cooldown.is_active(now))?;
            Some(if let Failure::BalanceExhausted { .. } = cooldown.reason {
                Obstacle::BalanceExhausted
            } else {
                Obstacle::KeyRefused
            })
        })
    }

    /// Records that a submit ended in a way that says nothing about the limits.
    pub(super) fn on_no_evidence(&mut self, token: SendToken, model: &str, now: Instant) {
        self.submit_limit.on_no_evidence(token, now);
        self.cooldowns.on_no_evidence(model);
    }
}
