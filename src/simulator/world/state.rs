//! The state of the simulated service and the rules by which it changes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::clock::Now;
use super::counters::{Counters, RefusedSubmit};
use super::prediction::{FetchedInputs, Prediction, Submission};
use super::predictions::Predictions;
use super::schedule::Phase;
use crate::simulator::faults::{InjectedFault, ScheduledFault, next_fault};
use crate::simulator::rules::errors::{NO_BALANCE, Refusal};
use crate::simulator::rules::limits::RateLimiter;
use crate::simulator::rules::values::{Api, LimitKind};
use crate::simulator::scenario::{Charge, ChargeFailed, FaultTarget, Outcome, Scaled, Scenario};

/// Number of refused submits that are kept.
const REFUSALS_KEPT: usize = 10_000;

/// The state of the simulated service.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Arc<Scenario>,
    initial_scenario: Arc<Scenario>,
    pub(crate) counters: Counters,
    pub(crate) balance_usd: f64,
    pub(crate) predictions: Predictions,
    pub(crate) faults: Vec<ScheduledFault>,
    /// The last refused submits, oldest first.
    pub(crate) refusals: VecDeque<RefusedSubmit>,
    /// Start of the first fixed window.
    epoch: Instant,
    limiters: HashMap<String, RateLimiter>,
    random: StdRng,
}

impl World {
    pub(crate) fn new(scenario: Arc<Scenario>, now: Now) -> Self {
        Self {
            initial_scenario: Arc::clone(&scenario),
            counters: Counters::default(),
            balance_usd: scenario.balance.usd,
            predictions: Predictions::default(),
            faults: Vec::new(),
            refusals: VecDeque::new(),
            epoch: now.at,
            limiters: HashMap::new(),
            random: StdRng::seed_from_u64(scenario.seed),
            scenario,
        }
    }

    /// Returns to the initial state and scenario.
    pub(crate) fn reset(&mut self, now: Now) {
        *self = Self::new(Arc::clone(&self.initial_scenario), now);
    }

    /// Replaces the scenario. Running predictions keep their end.
    pub(crate) fn set_scenario(&mut self, scenario: Scenario) {
        if scenario.seed != self.scenario.seed {
            self.random = StdRng::seed_from_u64(scenario.seed);
        }
        if (scenario.balance.usd - self.scenario.balance.usd).abs() > f64::EPSILON {
            self.balance_usd = scenario.balance.usd;
        }
        self.scenario = Arc::new(scenario);
    }

    /// Charges the predictions that have ended.
    pub(crate) fn settle(&mut self, now: Instant) {
        for number in self.predictions.take_ended(now) {
            let rules = &self.scenario.balance;
            let has_completed = self.predictions.by_number(number).outcome == Outcome::Completed;
            let is_charged = has_completed || rules.charge_failed == ChargeFailed::Yes;
            if is_charged && rules.charge == Charge::Completion {
                self.charge(number);
            }
        }
    }

    fn charge(&mut self, number: usize) {
        let usd = self.predictions.by_number(number).cost.charge();
        self.balance_usd -= usd;
        self.counters.charged_usd += usd;
    }

    /// Returns the fault of the next call, if any.
    pub(crate) fn next_fault(&mut self, target: FaultTarget) -> InjectedFault {
        let injected = next_fault(&mut self.faults, target, &self.scenario.faults, &mut self.random);
        self.counters.faults_fired += u64::from(injected.is_some());
        injected
    }

    /// Accepts a submission, which commits the account to pay for it.
    pub(crate) fn accept(&mut self, submission: Submission, now: Now) -> Result<Prediction, Refusal> {
        let rules = self.scenario.for_model(submission.request.model.name);
        let key = &submission.sender.key;
        if self.balance_usd <= 0.0 || rules.balance.empty_keys.contains(key) {
            self.counters.key(key).calls_403 += 1;
            return Err(Refusal::new(rules.balance.empty_status, NO_BALANCE));
        }
        let limits = rules.limits.of(key);
        self.limiters.entry(key.clone()).or_default().check_submit(&limits, self.epoch, now.at)?;
        let starts = self.predictions.start_time(key, &limits, now.at)?;
        self.limiters.entry(key.clone()).or_default().count_submit(&limits, now.at);

        let id = self.predictions.new_id(&submission.request, &rules);
        let number = self.predictions.next_number();
        let prediction = Prediction::new(submission, (number, id), starts, &rules, &mut self.random, now);
        self.insert(prediction);
        if rules.balance.charge == Charge::Submit {
            self.charge(number);
        }
        Ok(self.predictions.by_number(number).clone())
    }

    fn insert(&mut self, prediction: Prediction) {
        self.counters.submits_accepted += 1;
        self.counters.key(&prediction.sender.key).submits_accepted += 1;
        *self.counters.accepted_by_api.entry(prediction.request.api).or_default() += 1;
        let is_first = self.predictions.insert(prediction);
        self.counters.submits_repeated += u64::from(!is_first);
        self.counters.unfinished_peak = self.counters.unfinished_peak.max(self.predictions.unfinished().len());
    }

    /// Counts a refused submit and keeps it.
    pub(crate) fn refuse(&mut self, submit: RefusedSubmit) {
        self.counters.submits_rejected += 1;
        self.counters.paths.refused(&submit.path);
        self.refusals.push_back(submit);
        if self.refusals.len() > REFUSALS_KEPT {
            self.refusals.pop_front();
        }
    }

    /// Counts a submit or a poll of a key, or refuses it.
    pub(crate) fn count_request(&mut self, key: &str, now: Instant) -> Result<(), Refusal> {
        let limits = self.scenario.limits.of(key);
        self.limiters.entry(key.to_owned()).or_default().count_request(&limits, now)
    }

    /// Returns the counters, with the running time of the predictions until now.
    pub(crate) fn counters(&self, now: Instant) -> Counters {
        let mut counters = self.counters.clone();
        for prediction in self.predictions.iter() {
            let ran = prediction.schedule.ran_for(now);
            counters.key(&prediction.sender.key).running_seconds += ran.as_secs_f64();
        }
        counters
    }

    /// Returns the time since the start or the last reset.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// Counts a poll and returns the prediction, if it was bought through this API with this key.
    pub(crate) fn poll(&mut self, api: Api, id: &str, key: &str, now: Instant) -> Result<Prediction, Refusal> {
        let rules = Arc::clone(&self.scenario);
        let limits = rules.limits.of(key);
        self.counters.key(key).polls += 1;
        self.count_request(key, now)?;
        self.limiters.entry(key.to_owned()).or_default().count_poll(&limits, now)?;

        let found = self.predictions.by_id(id);
        let is_its_own = |found: &&mut Prediction| found.sender.key == key && found.request.api == api;
        let Some(prediction) = found.filter(is_its_own) else {
            self.counters.polls_unknown += 1;
            self.counters.key(key).polls_unknown += 1;
            return Err(Refusal::new(rules.result.unknown_id_status, "Prediction not found"));
        };
        let mut interval = Duration::from_millis(limits.poll_interval_min_ms);
        if limits.poll_interval_scaling == Scaled::Scaled {
            interval = interval.div_f64(rules.speed);
        }
        if let Some(last) = prediction.polls.last
            && now < last + interval
        {
            return Err(Refusal::too_many(
                LimitKind::Interval,
                "Polling too fast, please slow down",
                last + interval - now,
            ));
        }
        prediction.count_poll(now);
        self.counters.key(key).polls_of_unfinished += u64::from(prediction.phase(now) != Phase::Ended);
        Ok(prediction.clone())
    }

    /// Starts a prediction whose links are fetched, or fails it. Does nothing after a reset.
    pub(crate) fn finish_links(&mut self, of: &Prediction, fetched: Result<FetchedInputs, String>, now: Now) {
        self.predictions.finish_links(of, fetched, &self.scenario, now.at);
    }
}

#[cfg(test)]
mod tests;
