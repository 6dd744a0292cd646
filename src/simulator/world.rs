//! Everything the simulated service remembers, and the rules by which it changes.
//!
//! Time drives it: a prediction knows from the start when and how it will end, and whoever looks at the world first
//! settles what has ended since. So a look is always up to date, and nothing runs in the background but the fetching of
//! links, before which a prediction has no end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::counters::Counters;
use super::errors::Refusal;
use super::faults::{Accident, Fault, FaultOrder, Place};
use super::limits::{Limit, Meter};
use super::prediction::{Phase, Prediction, cost_usd, fingerprint, forget_inputs, kept_bytes, megapixels, usage};
use super::rules::{Face, Order, Quality};
use super::scenario::{
    Charge, ChargeFailed, Limits, Outcome, OverConcurrent, Scaled, Scenario, SizeCounts, SubmitAnswer,
};

mod links;

pub(super) use links::Fetched;

/// Input bytes that are remembered; beyond it, the oldest inputs are forgotten and drawn as grey.
const INPUT_BYTES_KEPT: usize = 512 * 1024 * 1024;
/// Far enough for a prediction that never ends.
const NEVER: Duration = Duration::from_hours(10 * 365 * 24);

/// The time, taken once for each look at the world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) wall: jiff::Timestamp,
}

impl Now {
    /// The one place where the simulator looks at a clock.
    pub(super) fn read() -> Self {
        Self { at: Instant::now(), wall: jiff::Timestamp::now() }
    }
}

/// An accepted request, on its way to become a prediction.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) key: String,
    pub(super) order: Order,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) query: Option<String>,
    /// Content policy lets the task fail late.
    pub(super) doomed: bool,
}

/// The state of the simulated service.
#[derive(Debug)]
pub(super) struct World {
    pub(super) scenario: Arc<Scenario>,
    at_start: Arc<Scenario>,
    pub(super) counters: Counters,
    pub(super) balance_usd: f64,
    pub(super) predictions: Vec<Prediction>,
    by_id: HashMap<String, usize>,
    unsettled: Vec<usize>,
    fingerprints: std::collections::HashSet<blake3::Hash>,
    pub(super) faults: Vec<FaultOrder>,
    /// Where fixed windows are counted from.
    epoch: Instant,
    meters: HashMap<String, Meter>,
    random: StdRng,
    /// Pictures in memory, oldest first.
    drawn: VecDeque<(usize, usize)>,
    /// Predictions whose input bytes are remembered, oldest first, with their sum.
    with_inputs: VecDeque<(usize, usize)>,
    input_bytes: usize,
}

impl World {
    pub(super) fn new(scenario: Arc<Scenario>, now: Now) -> Self {
        Self {
            at_start: Arc::clone(&scenario),
            counters: Counters::default(),
            balance_usd: scenario.balance.usd,
            predictions: Vec::new(),
            by_id: HashMap::new(),
            unsettled: Vec::new(),
            fingerprints: std::collections::HashSet::new(),
            faults: Vec::new(),
            epoch: now.at,
            meters: HashMap::new(),
            random: StdRng::seed_from_u64(scenario.seed),
            drawn: VecDeque::new(),
            with_inputs: VecDeque::new(),
            input_bytes: 0,
            scenario,
        }
    }

    /// Forgets everything, and returns to the scenario of the start.
    pub(super) fn reset(&mut self, now: Now) {
        *self = Self::new(Arc::clone(&self.at_start), now);
    }

    /// Changes the rules for what happens from now on; running predictions keep their end.
    pub(super) fn set_scenario(&mut self, scenario: Scenario) {
        if scenario.seed != self.scenario.seed {
            self.random = StdRng::seed_from_u64(scenario.seed);
        }
        if (scenario.balance.usd - self.scenario.balance.usd).abs() > f64::EPSILON {
            self.balance_usd = scenario.balance.usd;
        }
        self.scenario = Arc::new(scenario);
    }

    /// Charges what has ended.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut unsettled = std::mem::take(&mut self.unsettled);
        unsettled.retain(|&number| {
            let prediction = &self.predictions[number];
            if prediction.phase(now) != Phase::Ended {
                return true;
            }
            let rules = &self.scenario.balance;
            let paid = prediction.outcome == Outcome::Completed || rules.charge_failed == ChargeFailed::Yes;
            if paid && rules.charge == Charge::Completion {
                self.charge(number);
            }
            false
        });
        self.unsettled = unsettled;
    }

    fn charge(&mut self, number: usize) {
        let prediction = &mut self.predictions[number];
        if !prediction.charged {
            prediction.charged = true;
            self.balance_usd -= prediction.cost_usd;
            self.counters.charged_usd += prediction.cost_usd;
        }
    }

    /// The accident that happens to this call, if any.
    pub(super) fn accident(&mut self, place: Place) -> Accident {
        let rules = Arc::clone(&self.scenario);
        let (standing, share) = match place {
            Place::Submit => (rules.faults.submit, rules.faults.submit_share),
            Place::Poll => (rules.faults.poll, rules.faults.poll_share),
            Place::Download => (rules.faults.download, rules.faults.download_share),
        };
        let mut accident = Accident { fault: Fault::None, delay: Duration::from_millis(rules.faults.delay_ms) };
        if let Some(index) = self.faults.iter().position(|order| order.on == place) {
            let order = &mut self.faults[index];
            if order.skip > 0 {
                order.skip -= 1;
            } else {
                accident.fault = order.fault;
                if let Some(delay_ms) = order.delay_ms {
                    accident.delay = Duration::from_millis(delay_ms);
                }
                order.times = order.times.saturating_sub(1);
                if order.times == 0 {
                    self.faults.remove(index);
                }
            }
        } else if standing != Fault::None && self.random.random::<f64>() < share {
            accident.fault = standing;
        }
        self.counters.faults_fired += u64::from(accident.fault != Fault::None);
        accident
    }

    /// Accepts a submission, or says why not. From here on it is paid.
    pub(super) fn accept(&mut self, submission: Submission, now: Now) -> Result<Prediction, Refusal> {
        let rules = Arc::clone(&self.scenario);
        let key = &submission.key;
        if self.balance_usd <= 0.0 || rules.balance.empty_keys.contains(key) {
            self.counters.key(key).calls_403 += 1;
            return Err(Refusal::new(403, "Insufficient balance"));
        }
        let limits = rules.limits.of(key);
        self.meters.entry(key.clone()).or_default().may_submit(&limits, self.epoch, now.at)?;
        let starts = self.start(key, &limits, now.at)?;
        self.meters.entry(key.clone()).or_default().submitted(&limits, now.at);

        let prediction = self.predict(submission, starts, &rules, now);
        let number = prediction.number;
        self.remember(prediction);
        if rules.balance.charge == Charge::Submit {
            self.charge(number);
        }
        Ok(self.predictions[number].clone())
    }

    /// When a new prediction of this key may run.
    fn start(&self, key: &str, limits: &Limits, now: Instant) -> Result<Instant, Refusal> {
        let mut ends: Vec<Instant> = self
            .unsettled
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
                Limit::Concurrent,
                "Too many concurrent tasks, please try again later",
                ends[ends.len() - limit].saturating_duration_since(now),
            )),
            // A place is free when all but `limit - 1` of those before have ended.
            OverConcurrent::Queue => Ok(ends[ends.len() - limit]),
        }
    }

    fn predict(&mut self, submission: Submission, starts: Instant, rules: &Scenario, now: Now) -> Prediction {
        let order = submission.order;
        let usage = usage(&order);
        let outcome = if submission.doomed { Outcome::FailedPolicy } else { self.outcome(&order.prompt, rules) };
        let latency_ms = self.latency_ms(&order, rules);
        let latency = Duration::from_millis(latency_ms).div_f64(rules.speed);
        let created_for =
            latency * u32::try_from(rules.life.created_percent.min(100)).expect("it is at most 100") / 100;
        let ends = match (outcome, order.face, rules.submit.answer) {
            (Outcome::Stuck, _, _) => now.at + NEVER,
            (
                _,
                Face::Prediction,
                SubmitAnswer::ImmediateUrl | SubmitAnswer::ImmediateB64 | SubmitAnswer::Completed,
            ) => now.at,
            _ => starts + latency,
        };
        let hex = format!("{:032x}", rand::random::<u128>());
        let id =
            if rules.submit.answer == SubmitAnswer::ColonId { format!("{}:task_{hex}", order.model.name) } else { hex };
        let pictures = order.n as usize;
        Prediction {
            id,
            number: self.predictions.len(),
            key: submission.key,
            headers: Arc::new(submission.headers),
            query: submission.query,
            created: now,
            starts,
            ends,
            latency_ms,
            created_for,
            outcome,
            links: super::links::is_fetched(&order, rules).then(Arc::default),
            link_error: None,
            usage,
            cost_usd: cost_usd(&order, usage, rules),
            charged: false,
            polls: 0,
            last_poll: None,
            completed_polls: 0,
            downloads: vec![0; pictures],
            pictures: (0..pictures).map(|_| Arc::default()).collect(),
            order: Arc::new(order),
        }
    }

    fn outcome(&mut self, prompt: &str, rules: &Scenario) -> Outcome {
        if let Some((_, outcome)) = rules.life.outcome_by_word.iter().find(|(word, _)| prompt.contains(*word)) {
            return *outcome;
        }
        if self.random.random::<f64>() < rules.life.outcome_share { rules.life.outcome } else { Outcome::Completed }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "latencies are small and positive, and need no precision"
    )]
    fn latency_ms(&mut self, order: &Order, rules: &Scenario) -> u64 {
        let [from, to] = match order.quality {
            Quality::Low => rules.life.low_ms,
            Quality::Medium => rules.life.medium_ms,
            Quality::High => rules.life.high_ms,
        };
        let drawn = self.random.random_range(from..=to) as f64;
        let factor = match rules.life.size_counts {
            SizeCounts::Yes => (megapixels(order.size)).sqrt().clamp(0.5, 3.0),
            SizeCounts::No => 1.0,
        };
        (drawn * factor) as u64
    }

    fn remember(&mut self, prediction: Prediction) {
        let number = prediction.number;
        self.counters.submits_accepted += 1;
        self.counters.key(&prediction.key).submits_accepted += 1;
        *self.counters.accepted_by_face.entry(prediction.order.face).or_default() += 1;
        if !self.fingerprints.insert(fingerprint(&prediction)) {
            self.counters.submits_repeated += 1;
        }
        let bytes = kept_bytes(&prediction.order);
        self.by_id.insert(prediction.id.clone(), number);
        self.unsettled.push(number);
        self.counters.unfinished_peak = self.counters.unfinished_peak.max(self.unsettled.len());
        self.predictions.push(prediction);
        self.keep_inputs(number, bytes);
    }

    /// Counts what is kept for drawing, and forgets the oldest inputs when it is too much.
    fn keep_inputs(&mut self, number: usize, bytes: usize) {
        self.with_inputs.push_back((number, bytes));
        self.input_bytes += bytes;
        while self.input_bytes > INPUT_BYTES_KEPT && self.with_inputs.len() > 1 {
            let Some((oldest, bytes)) = self.with_inputs.pop_front() else {
                break;
            };
            self.input_bytes -= bytes;
            forget_inputs(&mut self.predictions[oldest]);
        }
    }

    /// Counts a submit or a poll at the door, or refuses it.
    pub(super) fn enter(&mut self, key: &str, now: Instant) -> Result<(), Refusal> {
        let limits = self.scenario.limits.of(key);
        self.meters.entry(key.to_owned()).or_default().enter(&limits, now)
    }

    /// The counters, with how long the predictions have run until now.
    pub(super) fn counters(&self, now: Instant) -> Counters {
        let mut counters = self.counters.clone();
        for prediction in &self.predictions {
            let ran = prediction.ends.min(now).saturating_duration_since(prediction.starts);
            counters.key(&prediction.key).running_seconds += ran.as_secs_f64();
        }
        counters
    }

    /// How long this world has stood.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// Answers a poll at the face where the prediction was bought, or refuses it.
    pub(super) fn poll(&mut self, face: Face, id: &str, key: &str, now: Instant) -> Result<Prediction, Refusal> {
        let rules = Arc::clone(&self.scenario);
        let limits = rules.limits.of(key);
        self.counters.key(key).polls += 1;
        self.enter(key, now)?;
        self.meters.entry(key.to_owned()).or_default().poll(&limits, now)?;

        let found = self.by_id.get(id).map(|&number| &mut self.predictions[number]);
        let Some(prediction) = found.filter(|prediction| prediction.key == key && prediction.order.face == face) else {
            self.counters.polls_unknown += 1;
            self.counters.key(key).polls_unknown += 1;
            return Err(Refusal::new(rules.result.unknown_id_status, "Prediction not found"));
        };
        let mut interval = Duration::from_millis(limits.poll_interval_min_ms);
        if limits.min_poll_interval == Scaled::Scaled {
            interval = interval.div_f64(rules.speed);
        }
        if let Some(last) = prediction.last_poll
            && now < last + interval
        {
            return Err(Refusal::too_many(
                Limit::Interval,
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

    pub(super) fn by_id(&mut self, id: &str) -> Option<&mut Prediction> {
        self.by_id.get(id).map(|&number| &mut self.predictions[number])
    }

    /// The place of a picture, in which it is drawn once. The oldest picture beyond the limit is forgotten.
    pub(super) fn picture(&mut self, number: usize, index: usize) -> Option<(Arc<Order>, Arc<OnceCell<Bytes>>)> {
        let prediction = self.predictions.get(number)?;
        let cell = Arc::clone(prediction.pictures.get(index)?);
        let order = Arc::clone(&prediction.order);
        if !self.drawn.contains(&(number, index)) {
            self.drawn.push_back((number, index));
            while self.drawn.len() > self.scenario.pictures.kept.max(1) {
                if let Some((number, index)) = self.drawn.pop_front() {
                    self.predictions[number].pictures[index] = Arc::default();
                }
            }
        }
        Some((order, cell))
    }
}

#[cfg(test)]
mod tests;
