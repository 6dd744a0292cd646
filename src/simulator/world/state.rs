//! The state of the simulated service and the rules by which it changes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::clock::Now;
use super::counters::Counters;
use super::prediction::{FetchedInputs, Phase, Prediction, Submission};
use crate::simulator::faults::{InjectedFault, ScheduledFault, next_fault};
use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::limits::RateLimiter;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::{Api, LimitKind};
use crate::simulator::scenario::{
    Charge, ChargeFailed, FaultTarget, Limits, Outcome, OverConcurrent, Scaled, Scenario,
};

/// Input bytes kept in memory. Beyond it the oldest inputs are dropped and drawn as grey.
const INPUT_BYTES_KEPT: usize = 512 * 1024 * 1024;

/// The state of the simulated service.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Arc<Scenario>,
    initial_scenario: Arc<Scenario>,
    pub(crate) counters: Counters,
    pub(crate) balance_usd: f64,
    pub(crate) predictions: Vec<Prediction>,
    by_id: HashMap<String, usize>,
    /// Predictions that have not ended, or not been settled.
    unfinished: Vec<usize>,
    fingerprints: HashSet<blake3::Hash>,
    pub(crate) faults: Vec<ScheduledFault>,
    /// Start of the first fixed window.
    epoch: Instant,
    limiters: HashMap<String, RateLimiter>,
    random: StdRng,
    /// Prediction and index of each picture in memory, oldest first.
    drawn: VecDeque<(usize, usize)>,
    /// Predictions whose input bytes are in memory, oldest first, with the number of bytes.
    with_inputs: VecDeque<(usize, usize)>,
    input_bytes: usize,
}

impl World {
    pub(crate) fn new(scenario: Arc<Scenario>, now: Now) -> Self {
        Self {
            initial_scenario: Arc::clone(&scenario),
            counters: Counters::default(),
            balance_usd: scenario.balance.usd,
            predictions: Vec::new(),
            by_id: HashMap::new(),
            unfinished: Vec::new(),
            fingerprints: HashSet::new(),
            faults: Vec::new(),
            epoch: now.at,
            limiters: HashMap::new(),
            random: StdRng::seed_from_u64(scenario.seed),
            drawn: VecDeque::new(),
            with_inputs: VecDeque::new(),
            input_bytes: 0,
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
        let mut unfinished = std::mem::take(&mut self.unfinished);
        unfinished.retain(|&number| {
            let prediction = &self.predictions[number];
            if prediction.phase(now) != Phase::Ended {
                return true;
            }
            let rules = &self.scenario.balance;
            let is_charged = prediction.outcome == Outcome::Completed || rules.charge_failed == ChargeFailed::Yes;
            if is_charged && rules.charge == Charge::Completion {
                self.charge(number);
            }
            false
        });
        self.unfinished = unfinished;
    }

    fn charge(&mut self, number: usize) {
        let prediction = &mut self.predictions[number];
        if !prediction.charged {
            prediction.charged = true;
            self.balance_usd -= prediction.cost_usd;
            self.counters.charged_usd += prediction.cost_usd;
        }
    }

    /// Returns the fault of the next call, if any.
    pub(crate) fn next_fault(&mut self, target: FaultTarget) -> InjectedFault {
        let injected = next_fault(&mut self.faults, target, &self.scenario.faults, &mut self.random);
        self.counters.faults_fired += u64::from(injected.is_some());
        injected
    }

    /// Accepts a submission, which commits the account to pay for it.
    pub(crate) fn accept(&mut self, submission: Submission, now: Now) -> Result<Prediction, Refusal> {
        let rules = Arc::clone(&self.scenario);
        let key = &submission.key;
        if self.balance_usd <= 0.0 || rules.balance.empty_keys.contains(key) {
            self.counters.key(key).calls_403 += 1;
            return Err(Refusal::new(403, "Insufficient balance"));
        }
        let limits = rules.limits.of(key);
        self.limiters.entry(key.clone()).or_default().check_submit(&limits, self.epoch, now.at)?;
        let starts = self.start_time(key, &limits, now.at)?;
        self.limiters.entry(key.clone()).or_default().count_submit(&limits, now.at);

        let number = self.predictions.len();
        let prediction = Prediction::new(submission, number, starts, &rules, &mut self.random, now);
        self.insert(prediction);
        if rules.balance.charge == Charge::Submit {
            self.charge(number);
        }
        Ok(self.predictions[number].clone())
    }

    /// Returns when a new prediction of a key may run.
    fn start_time(&self, key: &str, limits: &Limits, now: Instant) -> Result<Instant, Refusal> {
        let mut ends: Vec<Instant> = self
            .unfinished
            .iter()
            .map(|&number| &self.predictions[number])
            .filter(|prediction| prediction.key == key)
            .map(|prediction| prediction.ends)
            .collect();
        let limit = limits.concurrent;
        if limit == 0 || ends.len() < limit {
            return Ok(now);
        }
        ends.sort_unstable();
        match limits.over_concurrent {
            OverConcurrent::Reject => Err(Refusal::too_many(
                LimitKind::Concurrent,
                "Too many concurrent tasks, please try again later",
                ends[ends.len() - limit].saturating_duration_since(now),
            )),
            // The prediction may run when all but `limit - 1` of the earlier ones have ended.
            OverConcurrent::Queue => Ok(ends[ends.len() - limit]),
        }
    }

    fn insert(&mut self, prediction: Prediction) {
        let number = prediction.number;
        self.counters.submits_accepted += 1;
        self.counters.key(&prediction.key).submits_accepted += 1;
        *self.counters.accepted_by_api.entry(prediction.request.api).or_default() += 1;
        if !self.fingerprints.insert(prediction.fingerprint()) {
            self.counters.submits_repeated += 1;
        }
        let bytes = prediction.request.input_bytes();
        self.by_id.insert(prediction.id.clone(), number);
        self.unfinished.push(number);
        self.counters.unfinished_peak = self.counters.unfinished_peak.max(self.unfinished.len());
        self.predictions.push(prediction);
        self.keep_inputs(number, bytes);
    }

    /// Counts the input bytes of a prediction, and drops the oldest ones beyond the limit.
    fn keep_inputs(&mut self, number: usize, bytes: usize) {
        self.with_inputs.push_back((number, bytes));
        self.input_bytes += bytes;
        while self.input_bytes > INPUT_BYTES_KEPT && self.with_inputs.len() > 1 {
            let Some((oldest, bytes)) = self.with_inputs.pop_front() else {
                break;
            };
            self.input_bytes -= bytes;
            Arc::make_mut(&mut self.predictions[oldest].request).drop_input_bytes();
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
        for prediction in &self.predictions {
            let ran = prediction.ends.min(now).saturating_duration_since(prediction.starts);
            counters.key(&prediction.key).running_seconds += ran.as_secs_f64();
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

        let found = self.by_id.get(id).map(|&number| &mut self.predictions[number]);
        let Some(prediction) = found.filter(|prediction| prediction.key == key && prediction.request.api == api) else {
            self.counters.polls_unknown += 1;
            self.counters.key(key).polls_unknown += 1;
            return Err(Refusal::new(rules.result.unknown_id_status, "Prediction not found"));
        };
        let mut interval = Duration::from_millis(limits.poll_interval_min_ms);
        if limits.poll_interval_scaling == Scaled::Scaled {
            interval = interval.div_f64(rules.speed);
        }
        if let Some(last) = prediction.last_poll
            && now < last + interval
        {
            return Err(Refusal::too_many(
                LimitKind::Interval,
                "Polling too fast, please slow down",
                last + interval - now,
            ));
        }
        prediction.last_poll = Some(now);
        prediction.polls += 1;
        if prediction.has_completed(now) {
            prediction.completed_polls = prediction.completed_polls.saturating_add(1);
        }
        self.counters.key(key).polls_of_unfinished += u64::from(prediction.phase(now) != Phase::Ended);
        Ok(prediction.clone())
    }

    /// Starts a prediction whose links are fetched, or fails it. Does nothing after a reset.
    pub(crate) fn finish_links(&mut self, id: &str, fetched: Result<FetchedInputs, String>, now: Now) {
        let scenario = Arc::clone(&self.scenario);
        let Some(prediction) = self.by_id(id) else {
            return;
        };
        let number = prediction.number;
        let gained = prediction.finish_links(fetched, &scenario, now.at);
        if gained > 0 {
            self.keep_inputs(number, gained);
        }
    }

    pub(crate) fn by_id(&mut self, id: &str) -> Option<&mut Prediction> {
        self.by_id.get(id).map(|&number| &mut self.predictions[number])
    }

    /// Returns the cell of a picture, which holds the drawn bytes. The oldest picture beyond the limit is dropped.
    pub(crate) fn picture(
        &mut self,
        number: usize,
        index: usize,
    ) -> Option<(Arc<PictureRequest>, Arc<OnceCell<Bytes>>)> {
        let prediction = self.predictions.get(number)?;
        let cell = Arc::clone(prediction.pictures.get(index)?);
        let request = Arc::clone(&prediction.request);
        if !self.drawn.contains(&(number, index)) {
            self.drawn.push_back((number, index));
            while self.drawn.len() > self.scenario.pictures.kept.max(1) {
                if let Some((number, index)) = self.drawn.pop_front() {
                    self.predictions[number].pictures[index] = Arc::default();
                }
            }
        }
        Some((request, cell))
    }
}

#[cfg(test)]
mod tests;
