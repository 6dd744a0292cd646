//! One account with the upstream: what it may be asked now, and what it has said.
//!
//! A submit goes out when all of these agree, asked in this order: the key is not set aside; fewer predictions are in
//! flight than allowed; what was learned from 429s has room ([`super::learning`]); the model is not held back; and the
//! configured rates have a call left. Polls need only their own pace and the rate of all calls together, of which
//! submits never use the polls' share.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::learning::{Bounds, Departure, Learned as LearnedSubmits, LearnedPolls, Learner, Permission, PollPace};
use super::rate::Rate;
use crate::config::{Account as AccountConfig, Switch, UpstreamConfig};
use crate::model::{AccountId, Failure};

/// How long a key is left alone after its first refusal; it doubles with every further one.
const FIRST_ASIDE: Duration = Duration::from_secs(5);
/// After so many refusals in a row a model is not waited for any more.
const MODEL_REFUSALS: u32 = 3;
/// How much the newest prediction counts in the mean time that a place is held.
const HELD_WEIGHT: f64 = 0.1;

/// What is known of an account that survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Learned {
    submits: LearnedSubmits,
    polls: LearnedPolls,
    /// Mean time that a prediction is in flight, in seconds.
    held_s: Option<f64>,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: AccountId,
    pub(super) places_max: usize,
    pub(super) submits_per_minute: NonZeroU32,
    submits: Rate,
    /// Submits and polls together.
    requests: Rate,
    learning: Switch,
    learner: Learner,
    poll_pace: PollPace,
    /// The pause after a 429 where nothing is learned.
    paused_until: Option<Instant>,
    pub(super) in_flight: usize,
    held_back: HashMap<Arc<str>, HeldBack>,
    pub(super) aside: Option<Aside>,
    aside_max: Duration,
    pushback: Duration,
    pushback_max: Duration,
    held: Option<f64>,
}

/// A model that the upstream has no channel for at the moment.
#[derive(Debug)]
pub(super) struct HeldBack {
    pub(super) until: Instant,
    refusals: u32,
    /// The one submit that finds out whether it is over.
    trying: bool,
    reason: Failure,
}

/// Why an account is left alone.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    pub(super) reason: Failure,
    pub(super) until: Instant,
    refusals: u32,
    /// The one submit that finds out whether it is over.
    trying: bool,
}

impl Aside {
    /// Whether nothing may be tried at the moment.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.trying || self.until > now
    }
}

/// Whether a submit may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Now,
    /// Not before then.
    At(Instant),
    /// When something comes back: a prediction ends, or a try has its answer.
    Later,
}

impl Account {
    pub(super) fn new(config: &AccountConfig, upstream: &UpstreamConfig, learned: Learned, now: Instant) -> Self {
        let requests = config.requests_per_minute;
        let share = NonZeroU32::new(requests.get() * (100 - upstream.poll_share_percent) / 100);
        let submits_per_minute = config.submits_per_minute.min(share.unwrap_or(NonZeroU32::MIN));
        let places_max = config.concurrent_predictions.get();
        let bounds = Bounds {
            submits_per_minute: f64::from(submits_per_minute.get()),
            concurrent: places_max,
            window: upstream.rate_window,
            pushback: upstream.pushback,
            pushback_max: upstream.pushback_max,
        };
        let learned = if upstream.learning == Switch::On {
            learned
        } else {
            Learned { held_s: learned.held_s, ..Learned::default() }
        };
        Self {
            id: config.id.clone(),
            places_max,
            submits_per_minute,
            submits: Rate::new(submits_per_minute, upstream.burst),
            requests: Rate::new(requests, upstream.burst),
            learning: upstream.learning,
            learner: Learner::new(bounds, Some(learned.submits), now),
            poll_pace: PollPace::new(bounds, learned.polls),
            paused_until: None,
            in_flight: 0,
            held_back: HashMap::new(),
            aside: None,
            aside_max: upstream.account_cooldown_max,
            pushback: upstream.pushback,
            pushback_max: upstream.pushback_max,
            held: learned.held_s.filter(|held| held.is_finite() && *held > 0.0),
        }
    }

    pub(super) fn learned(&self) -> Learned {
        Learned { submits: self.learner.learned(), polls: self.poll_pace.learned(), held_s: self.held }
    }

    /// Whether a submit of some model may leave, the configured rates aside.
    pub(super) fn opening(&self, now: Instant, though_set_aside: bool) -> Opening {
        if let Some(aside) = self.aside.as_ref().filter(|_| !though_set_aside) {
            if aside.trying {
                return Opening::Later;
            }
            if aside.until > now {
                return Opening::At(aside.until);
            }
        }
        if self.in_flight >= self.places_max {
            return Opening::Later;
        }
        if let Some(until) = self.paused_until.filter(|&until| until > now) {
            return Opening::At(until);
        }
        match self.learning {
            Switch::Off => Opening::Now,
            Switch::On => match self.learner.next(self.in_flight, now) {
                Permission::Now => Opening::Now,
                Permission::At(at) => Opening::At(at),
                Permission::WhenOneEnds | Permission::WhenAnswered => Opening::Later,
            },
        }
    }

    /// Whether a submit of this model may leave; `Err` with the moment when it may, where that is known.
    pub(super) fn model_may_go(&self, model: &str, now: Instant) -> Result<(), Option<Instant>> {
        match self.held_back.get(model) {
            Some(held) if held.trying => Err(None),
            Some(held) if held.until > now => Err(Some(held.until)),
            _ => Ok(()),
        }
    }

    /// Why a model is not to be had here, once that has been said so often that waiting helps nobody; a try now and then
    /// finds out whether it is over.
    pub(super) fn lacks(&self, model: &str, now: Instant) -> Option<&Failure> {
        let held = self.held_back.get(model)?;
        let lacks = held.refusals >= MODEL_REFUSALS && (held.trying || held.until > now);
        lacks.then_some(&held.reason)
    }

    /// Takes a call of both configured rates for a submit, or says when there is one.
    pub(super) fn take_submit(&mut self, now: Instant) -> Result<(), Instant> {
        // Both or neither: what was taken cannot be given back.
        self.submits.ready(now)?;
        self.requests.ready(now)?;
        self.submits.take()?;
        self.requests.take()
    }

    /// A submit leaves.
    pub(super) fn left(&mut self, model: &str, now: Instant) -> Departure {
        let departure = self.learner.left(self.in_flight, now);
        self.in_flight += 1;
        if let Some(aside) = &mut self.aside {
            aside.trying = true;
        }
        if let Some(held) = self.held_back.get_mut(model) {
            held.trying = true;
        }
        departure
    }

    /// The upstream took a submit.
    pub(super) fn accepted(&mut self, departure: Departure, model: &str, now: Instant) {
        self.learner.accepted(departure, self.in_flight, now);
        self.held_back.remove(model);
        if self.aside.take().is_some() {
            tracing::info!(account = %self.id, "the account is used again");
        }
    }

    /// The upstream refused a submit with 429. Returns how long it is left alone.
    pub(super) fn refused(&mut self, departure: Departure, retry_after: Option<Duration>, now: Instant) -> Duration {
        self.heard();
        let pause = self.learner.refused(departure, self.in_flight, retry_after, now);
        match self.learning {
            Switch::On => pause,
            Switch::Off => {
                let pause = retry_after.unwrap_or(self.pushback).min(self.pushback_max);
                self.paused_until = self.paused_until.max(Some(now + pause));
                pause
            }
        }
    }

    /// The upstream has no channel for a model. Returns how long the model is held back.
    pub(super) fn no_channel(
        &mut self,
        departure: Departure,
        model: &Arc<str>,
        reason: Failure,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Duration {
        self.learner.unanswered(departure, now);
        self.heard();
        let fresh = || HeldBack { until: now, refusals: 0, trying: false, reason: reason.clone() };
        let held = self.held_back.entry(Arc::clone(model)).or_insert_with(fresh);
        let doubled = self.pushback.saturating_mul(2_u32.saturating_pow(held.refusals.min(16)));
        let pause = retry_after.unwrap_or(doubled).min(self.pushback_max);
        held.refusals += 1;
        held.trying = false;
        held.reason = reason;
        held.until = held.until.max(now + pause);
        pause
    }

    /// The upstream refused the key. Returns how long it is left alone.
    pub(super) fn key_refused(&mut self, departure: Departure, reason: Failure, now: Instant) -> Duration {
        self.learner.unanswered(departure, now);
        let refusals = self.aside.as_ref().map_or(0, |aside| aside.refusals);
        let pause = FIRST_ASIDE.saturating_mul(2_u32.saturating_pow(refusals.min(16))).min(self.aside_max);
        tracing::warn!(account = %self.id, reason = reason.name(), pause_s = pause.as_secs(), "the account is set aside");
        self.aside = Some(Aside { reason, until: now + pause, refusals: refusals + 1, trying: false });
        pause
    }

    /// A submit ended in a way that says nothing about the budget.
    pub(super) fn unanswered(&mut self, departure: Departure, model: &str, now: Instant) {
        self.learner.unanswered(departure, now);
        // Whether it is over is still to be found out.
        if let Some(aside) = &mut self.aside {
            aside.trying = false;
        }
        if let Some(held) = self.held_back.get_mut(model) {
            held.trying = false;
        }
    }

    /// The key was good enough to be answered.
    fn heard(&mut self) {
        self.aside = None;
    }

    /// A prediction is no longer in flight, after so long where that is known.
    pub(super) fn ended(&mut self, held: Option<Duration>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(held) = held {
            let held = held.as_secs_f64();
            self.held = Some(self.held.map_or(held, |mean| mean + HELD_WEIGHT * (held - mean)));
        }
    }

    /// Takes a call for a poll, or says when to come again.
    pub(super) fn take_poll(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(at) = self.poll_pace.next(now) {
            return Err(at);
        }
        self.requests.take()?;
        self.poll_pace.asked(now);
        Ok(())
    }

    pub(super) fn poll_answered(&mut self) {
        self.poll_pace.answered();
    }

    /// The upstream refused a poll with 429. Returns how long polls are left alone.
    pub(super) fn poll_refused(&mut self, retry_after: Option<Duration>, now: Instant) -> Duration {
        self.poll_pace.refused(retry_after, now)
    }

    /// Predictions that may be in flight by what is known.
    pub(super) fn places(&self) -> usize {
        match self.learning {
            Switch::On => self.learner.cap().min(self.places_max),
            Switch::Off => self.places_max,
        }
    }

    /// Submits a minute by what is known.
    pub(super) fn rate(&self) -> f64 {
        let configured = f64::from(self.submits_per_minute.get());
        match self.learning {
            Switch::On => self.learner.submits_per_minute().min(configured),
            Switch::Off => configured,
        }
    }

    /// Mean time that a prediction is in flight, in seconds.
    pub(super) fn held_s(&self) -> Option<f64> {
        self.held
    }

    /// Until when no submit leaves, after a 429.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        let learned = self.learner.paused_until().filter(|_| self.learning == Switch::On);
        learned.max(self.paused_until).filter(|&until| until > now)
    }

    /// Until when no poll leaves, after a 429.
    pub(super) fn polls_paused_until(&self, now: Instant) -> Option<Instant> {
        self.poll_pace.next(now).filter(|&until| until > now)
    }

    /// Models that are held back, and until when.
    pub(super) fn held_back(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, Instant)> {
        self.held_back.iter().map(|(model, held)| (model, held.until)).filter(move |&(_, until)| until > now)
    }
}
