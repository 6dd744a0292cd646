//! A prediction: its times, its outcome and its cost, all fixed when it is accepted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::{OnceCell, SetOnce};
use tokio::time::Instant;

use super::clock::Now;
use super::cost::Cost;
use super::schedule::{Phase, Schedule};
use crate::simulator::rules::inputs::Input;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::scenario::{Links as LinkRule, Outcome, Scenario};

/// A validated submit.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) sender: Sender,
    pub(crate) request: PictureRequest,
    /// Whether the prediction fails by content policy.
    pub(crate) violates_policy: bool,
}

/// The key and the HTTP context of a submit.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    pub(crate) key: String,
    pub(crate) headers: Arc<BTreeMap<String, String>>,
    pub(crate) query: Option<String>,
}

/// The inputs of a request, with pictures in place of the links that were fetched.
#[derive(Debug)]
pub(crate) struct FetchedInputs {
    pub(crate) inputs: Vec<Input>,
    pub(crate) mask: Option<Input>,
}

/// An accepted prediction.
#[derive(Clone, Debug)]
pub(crate) struct Prediction {
    pub(crate) id: String,
    /// Index in the order of acceptance, from 0.
    pub(crate) number: usize,
    pub(crate) sender: Sender,
    pub(crate) request: Arc<PictureRequest>,
    pub(crate) schedule: Schedule,
    pub(crate) outcome: Outcome,
    pub(crate) links: Links,
    pub(crate) cost: Cost,
    pub(crate) polls: Polls,
    pub(crate) pictures: Vec<Picture>,
}

/// The fetching of the links of a request, before which the prediction does not run.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// Set when the links are fetched; none without links to fetch.
    pub(crate) fetched: Option<Arc<SetOnce<()>>>,
    /// Why a link could not be fetched.
    pub(crate) error: Option<String>,
}

/// The answered polls of a prediction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Polls {
    pub(crate) count: u64,
    pub(crate) last: Option<Instant>,
    /// Those that were answered with the completed prediction.
    pub(crate) completed: u32,
}

/// A picture of a prediction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    pub(crate) downloads: u32,
    /// The drawn picture, empty until its first use.
    pub(crate) bytes: Arc<OnceCell<Bytes>>,
}

impl Prediction {
    /// Creates a prediction that runs from `starts`, with outcome and latency drawn from `random`.
    pub(crate) fn new(
        submission: Submission,
        (number, id): (usize, String),
        starts: Instant,
        scenario: &Scenario,
        random: &mut StdRng,
        now: Now,
    ) -> Self {
        let Submission { sender, request, violates_policy } = submission;
        let outcome = match () {
            () if violates_policy => Outcome::FailedPolicy,
            () if scenario.inputs.links == LinkRule::FailTask && request.inputs.iter().any(is_link) => {
                Outcome::FailedImageUrl
            }
            () => draw_outcome(&request.prompt, scenario, random),
        };
        let schedule = Schedule::draw(&request, outcome, starts, scenario, random, now);
        Self {
            id,
            number,
            sender,
            schedule,
            outcome,
            links: Links { fetched: request.has_links_to_fetch(scenario).then(Arc::default), error: None },
            cost: Cost::of(&request, scenario),
            polls: Polls::default(),
            pictures: (0..request.n).map(|_| Picture::default()).collect(),
            request: Arc::new(request),
        }
    }

    pub(crate) fn phase(&self, now: Instant) -> Phase {
        if self.links.fetched.as_ref().is_some_and(|links| !links.initialized()) {
            return Phase::Created;
        }
        self.schedule.phase(now)
    }

    pub(crate) fn has_completed(&self, now: Instant) -> bool {
        self.outcome == Outcome::Completed && self.phase(now) == Phase::Ended
    }

    /// Returns a digest that is equal for two requests with the same parameters.
    pub(crate) fn fingerprint(&self) -> blake3::Hash {
        let request = &self.request;
        let capability = request.capability.name();
        let text = format!("{:?} {} {capability} {}", request.api, request.model.name, request.parameters);
        blake3::hash(text.as_bytes())
    }

    /// Counts a poll that is answered with the state at `now`.
    pub(crate) fn count_poll(&mut self, now: Instant) {
        let completed = u32::from(self.has_completed(now));
        let Polls { count, completed: before, .. } = self.polls;
        self.polls = Polls { count: count + 1, last: Some(now), completed: before.saturating_add(completed) };
    }

    /// Starts the prediction now, with fetched inputs, or fails it. Returns the number of input bytes gained.
    pub(crate) fn finish_links(
        &mut self,
        fetched: Result<FetchedInputs, String>,
        scenario: &Scenario,
        now: Instant,
    ) -> usize {
        let mut gained = 0;
        match fetched {
            Ok(FetchedInputs { inputs, mask }) => {
                let request = PictureRequest { inputs, mask, ..PictureRequest::clone(&self.request) };
                self.schedule.start_at_least_at(now);
                if !self.cost.charged {
                    self.cost = Cost::of(&request, scenario);
                }
                gained = request.input_bytes() - self.request.input_bytes();
                self.request = Arc::new(request);
            }
            Err(error) => {
                self.outcome = Outcome::FailedLink;
                self.links.error = Some(error);
                self.schedule.end_unstarted(now);
            }
        }
        if let Some(links) = &self.links.fetched {
            // A second set cannot happen: each prediction has one fetching task.
            let _ = links.set(());
        }
        gained
    }
}

fn is_link(input: &Input) -> bool {
    matches!(input, Input::Url(_))
}

fn draw_outcome(prompt: &str, scenario: &Scenario, random: &mut StdRng) -> Outcome {
    let life = &scenario.life;
    if let Some((_, outcome)) = life.outcome_by_word.iter().find(|(word, _)| prompt.contains(*word)) {
        return *outcome;
    }
    if random.random::<f64>() < life.outcome_share { life.outcome } else { Outcome::Completed }
}
