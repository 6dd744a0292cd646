//! Every accepted prediction, and which of their inputs and pictures are in memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::ids::new_id;
use super::prediction::{FetchedInputs, Prediction};
use super::schedule::Phase;
use crate::simulator::rules::errors::Refusal;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::LimitKind;
use crate::simulator::scenario::{Limits, OverConcurrent, Scenario};

/// Input bytes kept in memory. Beyond it the oldest inputs are dropped and drawn as grey.
const INPUT_BYTES_KEPT: usize = 512 * 1024 * 1024;

/// The predictions in the order of acceptance.
#[derive(Debug, Default)]
pub(crate) struct Predictions {
    all: Vec<Prediction>,
    by_id: HashMap<String, usize>,
    /// Predictions that have not ended, or not been settled.
    unfinished: Vec<usize>,
    fingerprints: HashSet<blake3::Hash>,
    /// Prediction and index of each picture in memory, oldest first.
    drawn: VecDeque<(usize, usize)>,
    /// Predictions whose input bytes are in memory, oldest first, with the number of bytes.
    with_inputs: VecDeque<(usize, usize)>,
    input_bytes: usize,
}

impl Predictions {
    /// Returns the number of the next prediction.
    pub(super) fn next_number(&self) -> usize {
        self.all.len()
    }

    /// Returns the id of the next prediction.
    pub(super) fn new_id(&self, request: &PictureRequest, scenario: &Scenario) -> String {
        // With repeated ids, predictions come in pairs.
        let last = self.all.last().filter(|last| last.number % 2 == 0);
        new_id(request, last.map(|last| last.id.as_str()), scenario)
    }

    /// Returns the present state of a prediction; none after a reset.
    pub(crate) fn current(&mut self, of: &Prediction) -> Option<&mut Prediction> {
        self.all.get_mut(of.number).filter(|prediction| prediction.id == of.id)
    }

    /// Adds a prediction. Returns whether it is the first one with these parameters.
    pub(super) fn insert(&mut self, prediction: Prediction) -> bool {
        let (number, bytes) = (prediction.number, prediction.request.input_bytes());
        let is_first = self.fingerprints.insert(prediction.fingerprint());
        self.by_id.insert(prediction.id.clone(), number);
        self.unfinished.push(number);
        self.all.push(prediction);
        self.keep_inputs(number, bytes);
        is_first
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Prediction> {
        self.all.iter()
    }

    pub(crate) fn by_id(&mut self, id: &str) -> Option<&mut Prediction> {
        self.by_id.get(id).map(|&number| &mut self.all[number])
    }

    /// Returns a prediction by its index.
    pub(super) fn by_number(&mut self, number: usize) -> &mut Prediction {
        &mut self.all[number]
    }

    pub(super) fn unfinished(&self) -> impl ExactSizeIterator<Item = &Prediction> {
        self.unfinished.iter().map(|&number| &self.all[number])
    }

    /// Returns the predictions that have ended since the last call.
    pub(super) fn take_ended(&mut self, now: Instant) -> Vec<usize> {
        let all = &self.all;
        self.unfinished.extract_if(.., |&mut number| all[number].phase(now) == Phase::Ended).collect()
    }

    /// Returns when a new prediction of a key may run.
    pub(super) fn start_time(&self, key: &str, limits: &Limits, now: Instant) -> Result<Instant, Refusal> {
        let of_key = self.unfinished().filter(|prediction| prediction.sender.key == key);
        let mut ends: Vec<Instant> = of_key.map(|prediction| prediction.schedule.ends).collect();
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

    /// Counts the input bytes of a prediction, and drops the oldest ones beyond the limit.
    fn keep_inputs(&mut self, number: usize, bytes: usize) {
        self.with_inputs.push_back((number, bytes));
        self.input_bytes += bytes;
        while self.input_bytes > INPUT_BYTES_KEPT && self.with_inputs.len() > 1 {
            let Some((oldest, bytes)) = self.with_inputs.pop_front() else {
                break;
            };
            self.input_bytes -= bytes;
            Arc::make_mut(&mut self.all[oldest].request).drop_input_bytes();
        }
    }

    /// Starts a prediction whose links are fetched, or fails it. Does nothing after a reset.
    pub(super) fn finish_links(
        &mut self,
        of: &Prediction,
        fetched: Result<FetchedInputs, String>,
        scenario: &Scenario,
        now: Instant,
    ) {
        let Some(prediction) = self.current(of) else {
            return;
        };
        let number = prediction.number;
        let gained = prediction.finish_links(fetched, scenario, now);
        if gained > 0 {
            self.keep_inputs(number, gained);
        }
    }

    /// Returns the cell of a picture, which holds the drawn bytes. The oldest picture beyond `kept` is dropped.
    pub(super) fn picture(
        &mut self,
        number: usize,
        index: usize,
        kept: usize,
    ) -> Option<(Arc<PictureRequest>, Arc<OnceCell<Bytes>>)> {
        let prediction = self.all.get(number)?;
        let cell = Arc::clone(&prediction.pictures.get(index)?.bytes);
        let request = Arc::clone(&prediction.request);
        if !self.drawn.contains(&(number, index)) {
            self.drawn.push_back((number, index));
            while self.drawn.len() > kept.max(1) {
                if let Some((number, index)) = self.drawn.pop_front() {
                    self.all[number].pictures[index].bytes = Arc::default();
                }
            }
        }
        Some((request, cell))
    }
}
