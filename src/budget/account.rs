//! One account with the upstream: what it may be sent now, and what it has answered.
//!
//! A submit is sent when all of these agree, asked in this order: the account is in no cooldown; fewer predictions are in
//! flight than configured; the learned limits allow it ([`super::limit`]); the model is in no cooldown; and the configured
//! rates have a call left. Polls need only their own spacing and the rate of all calls together, of which submits never use
//! the share of the polls.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::cooldown::Cooldown;
use super::limit::{AdaptiveLimit, Bounds, LearnedPolls, LearnedSubmits, PollSpacing, SendToken, Wait};
use super::rate::Rate;
use crate::config::{Account as AccountConfig, Switch, UpstreamConfig};
use crate::model::{AccountId, Failure};

/// The cooldown of an account after its key was refused for the first time; it doubles with every further refusal.
const FIRST_COOLDOWN: Duration = Duration::from_secs(5);
/// After this many refusals in a row, submits of a model fail instead of waiting for its cooldown.
const MODEL_REFUSALS: u32 = 3;
/// Weight of the newest prediction in the mean time in flight.
const IN_FLIGHT_WEIGHT: f64 = 0.1;

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
    /// Predictions in flight, as configured.
    pub(super) concurrency_max: usize,
    pub(super) submits_per_minute_max: NonZeroU32,
    submits: Rate,
    /// Submits and polls together.
    requests: Rate,
    learning: Switch,
    limit: AdaptiveLimit,
    poll_spacing: PollSpacing,
    /// The pause after a 429, where learning is off.
    paused_until: Option<Instant>,
    pub(super) in_flight: usize,
    model_cooldowns: HashMap<Arc<str>, Cooldown>,
    pub(super) cooldown: Option<Cooldown>,
    cooldown_max: Duration,
    pushback: Duration,
    pushback_max: Duration,
    in_flight_mean_s: Option<f64>,
}

/// Whether a submit may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Now,
    /// Not before this time.
    At(Instant),
    /// After a prediction has ended, or an unacknowledged submit was answered.
    AfterChange,
}

impl Account {
    pub(super) fn new(
        config: &AccountConfig,
        upstream: &UpstreamConfig,
        learned: LearnedAccount,
        now: Instant,
    ) -> Self {
        let requests = config.requests_per_minute;
        let share = NonZeroU32::new(requests.get() * (100 - upstream.poll_share_percent) / 100);
        let submits_per_minute_max = config.submits_per_minute.min(share.unwrap_or(NonZeroU32::MIN));
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
            concurrency_max,
            submits_per_minute_max,
            submits: Rate::new(submits_per_minute_max, upstream.burst),
            requests: Rate::new(requests, upstream.burst),
            learning: upstream.learning,
            limit: AdaptiveLimit::new(bounds, Some(learned.submits), now),
            poll_spacing: PollSpacing::new(bounds, learned.polls),
            paused_until: None,
            in_flight: 0,
            model_cooldowns: HashMap::new(),
            cooldown: None,
            cooldown_max: upstream.account_cooldown_max,
            pushback: upstream.pushback,
            pushback_max: upstream.pushback_max,
            in_flight_mean_s: learned.in_flight_mean_s.filter(|mean| mean.is_finite() && *mean > 0.0),
        }
    }

    pub(super) fn learned(&self) -> LearnedAccount {
        LearnedAccount {
            submits: self.limit.learned(),
            polls: self.poll_spacing.learned(),
            in_flight_mean_s: self.in_flight_mean_s,
        }
    }

    /// Whether a submit of some model may be sent, without regard to the configured rates.
    pub(super) fn readiness(&self, now: Instant, despite_cooldown: bool) -> Readiness {
        if let Some(cooldown) = self.cooldown.as_ref().filter(|_| !despite_cooldown) {
            match cooldown.check(now) {
                Ok(()) => {}
                Err(Some(at)) => return Readiness::At(at),
                Err(None) => return Readiness::AfterChange,
            }
        }
        if self.in_flight >= self.concurrency_max {
            return Readiness::AfterChange;
        }
        if let Some(until) = self.paused_until.filter(|&until| until > now) {
            return Readiness::At(until);
        }
        match self.learning {
            Switch::Off => Readiness::Now,
            Switch::On => match self.limit.permission(self.in_flight, now) {
                Ok(()) => Readiness::Now,
                Err(Wait::Until(at)) => Readiness::At(at),
                Err(Wait::ForCompletion | Wait::ForAnswer) => Readiness::AfterChange,
            },
        }
    }

    /// Whether a submit of this model may be sent.
    ///
    /// # Errors
    ///
    /// The time when it may, where that is known.
    pub(super) fn check_model(&self, model: &str, now: Instant) -> Result<(), Option<Instant>> {
        self.model_cooldowns.get(model).map_or(Ok(()), |cooldown| cooldown.check(now))
    }

    /// Why a model is unavailable here: after [`MODEL_REFUSALS`] refusals submits fail instead of waiting. A submit after
    /// each cooldown tests whether it is available again.
    pub(super) fn unavailable(&self, model: &str, now: Instant) -> Option<&Failure> {
        let cooldown = self.model_cooldowns.get(model)?;
        (cooldown.refusals >= MODEL_REFUSALS && cooldown.is_active(now)).then_some(&cooldown.reason)
    }

    /// Takes a call of both configured rates for a submit.
    ///
    /// # Errors
    ///
    /// The time when both have one.
    pub(super) fn take_submit(&mut self, now: Instant) -> Result<(), Instant> {
        // Both or neither: a call that was taken cannot be returned.
        self.submits.ready(now)?;
        self.requests.ready(now)?;
        self.submits.take()?;
        self.requests.take()
    }

    /// Records that a submit is sent.
    pub(super) fn on_sent(&mut self, model: &str, now: Instant) -> SendToken {
        let token = self.limit.on_sent(self.in_flight, now);
        self.in_flight += 1;
        self.set_testing(model, true);
        token
    }

    /// Records that the upstream accepted a submit.
    pub(super) fn on_accepted(&mut self, token: SendToken, model: &str, now: Instant) {
        self.limit.on_accepted(token, self.in_flight, now);
        self.model_cooldowns.remove(model);
        if self.cooldown.take().is_some() {
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
        // The key was good enough for an answer. Whether a model's cooldown is over is still to be tested.
        self.cooldown = None;
        self.set_testing(model, false);
        let pause = self.limit.on_refused(token, self.in_flight, retry_after, now);
        match self.learning {
            Switch::On => pause,
            Switch::Off => {
                let pause = retry_after.unwrap_or(self.pushback).min(self.pushback_max);
                self.paused_until = self.paused_until.max(Some(now + pause));
                pause
            }
        }
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
        self.limit.on_no_evidence(token, now);
        self.cooldown = None;
        let new = || Cooldown::new(reason.clone(), now);
        let cooldown = self.model_cooldowns.entry(Arc::clone(model)).or_insert_with(new);
        let pause = retry_after.unwrap_or(cooldown.doubled(self.pushback)).min(self.pushback_max);
        cooldown.extend(reason, pause, now);
        pause
    }

    /// Records that the upstream refused the key. Returns the account's cooldown.
    pub(super) fn on_key_refused(&mut self, token: SendToken, model: &str, reason: Failure, now: Instant) -> Duration {
        self.limit.on_no_evidence(token, now);
        self.set_testing(model, false);
        let cooldown = self.cooldown.get_or_insert_with(|| Cooldown::new(reason.clone(), now));
        let pause = cooldown.doubled(FIRST_COOLDOWN).min(self.cooldown_max);
        let (account, name) = (&self.id, reason.name());
        tracing::warn!(%account, reason = name, pause_s = pause.as_secs(), "key refused; the account is not used for a while");
        cooldown.until = now;
        cooldown.extend(reason, pause, now);
        pause
    }

    /// Records that a submit ended in a way that says nothing about the limits.
    pub(super) fn on_no_evidence(&mut self, token: SendToken, model: &str, now: Instant) {
        self.limit.on_no_evidence(token, now);
        // Whether a cooldown is over is still to be tested.
        self.set_testing(model, false);
    }

    /// Sets whether a submit of `model` tests the cooldowns that exist.
    fn set_testing(&mut self, model: &str, testing: bool) {
        for cooldown in self.cooldown.iter_mut().chain(self.model_cooldowns.get_mut(model)) {
            cooldown.testing = testing;
        }
    }

    /// Records that a prediction is no longer in flight, and for how long it was, where that is known.
    pub(super) fn on_ended(&mut self, in_flight: Option<Duration>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(newest) = in_flight.map(|time| time.as_secs_f64()) {
            let mean = self.in_flight_mean_s.map_or(newest, |mean| mean + IN_FLIGHT_WEIGHT * (newest - mean));
            self.in_flight_mean_s = Some(mean);
        }
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
        self.requests.take()?;
        self.poll_spacing.on_sent(now);
        Ok(())
    }

    pub(super) fn on_poll_answered(&mut self) {
        self.poll_spacing.on_answered();
    }

    /// Records that the upstream refused a poll with 429. Returns the pause before the next poll.
    pub(super) fn on_poll_refused(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        self.poll_spacing.on_refused(retry_after, now)
    }

    /// Predictions that may be in flight, as far as is known.
    pub(super) fn concurrency(&self) -> usize {
        match self.learning {
            Switch::On => self.limit.concurrency().min(self.concurrency_max),
            Switch::Off => self.concurrency_max,
        }
    }

    /// Submits per minute, as far as is known.
    pub(super) fn submits_per_minute(&self) -> f64 {
        let configured = f64::from(self.submits_per_minute_max.get());
        match self.learning {
            Switch::On => self.limit.submits_per_minute().min(configured),
            Switch::Off => configured,
        }
    }

    /// Mean time that a prediction is in flight, in seconds.
    pub(super) fn in_flight_mean_s(&self) -> Option<f64> {
        self.in_flight_mean_s
    }

    /// The time until which no submit is sent, after a 429.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        let learned = self.limit.paused_until().filter(|_| self.learning == Switch::On);
        learned.max(self.paused_until).filter(|&until| until > now)
    }

    /// The time until which no poll is sent, after a 429.
    pub(super) fn polls_paused_until(&self, now: Instant) -> Option<Instant> {
        self.poll_spacing.next(now).filter(|&until| until > now)
    }

    /// The models in cooldown, and until when.
    pub(super) fn model_cooldowns(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, Instant)> {
        let cooldowns = self.model_cooldowns.iter().map(|(model, cooldown)| (model, cooldown.until));
        cooldowns.filter(move |&(_, until)| until > now)
    }
}
