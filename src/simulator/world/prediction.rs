//! A prediction: its timetable, its outcome and its cost, all fixed when it is accepted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::{OnceCell, SetOnce};
use tokio::time::Instant;

use super::clock::Now;
use super::cost::{Usage, megapixels};
use crate::simulator::rules::inputs::Input;
use crate::simulator::rules::request::PictureRequest;
use crate::simulator::rules::values::{Api, Quality};
use crate::simulator::scenario::{Outcome, Scenario, SizeCounts, SubmitAnswer};

/// Longer than any test, for a prediction that never ends.
const NEVER: Duration = Duration::from_hours(10 * 365 * 24);

/// A validated submit with its HTTP context.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) key: String,
    pub(crate) request: PictureRequest,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) query: Option<String>,
    /// Whether the prediction fails by content policy.
    pub(crate) violates_policy: bool,
}

/// The inputs of a request, with pictures in place of the links that were fetched.
#[derive(Debug)]
pub(crate) struct FetchedInputs {
    pub(crate) inputs: Vec<Input>,
    pub(crate) mask: Option<Input>,
}

/// The phase of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Processing,
    Ended,
}

/// An accepted prediction.
#[derive(Clone, Debug)]
pub(crate) struct Prediction {
    pub(crate) id: String,
    /// Index in the order of acceptance, from 0.
    pub(crate) number: usize,
    pub(crate) key: String,
    pub(crate) request: Arc<PictureRequest>,
    pub(crate) headers: Arc<BTreeMap<String, String>>,
    pub(crate) query: Option<String>,
    pub(crate) created: Now,
    /// When the prediction begins to run.
    pub(crate) starts: Instant,
    pub(crate) ends: Instant,
    /// The reported latency, before `speed`.
    pub(crate) latency_ms: u64,
    /// Time between `starts` and processing.
    created_for: Duration,
    pub(crate) outcome: Outcome,
    /// Set when the links are fetched, before which the prediction does not run; none without links to fetch.
    pub(crate) links: Option<Arc<SetOnce<()>>>,
    /// Why a link could not be fetched.
    pub(crate) link_error: Option<String>,
    pub(crate) usage: Usage,
    pub(crate) cost_usd: f64,
    pub(crate) charged: bool,
    pub(crate) polls: u64,
    pub(crate) last_poll: Option<Instant>,
    /// Number of completed answers.
    pub(crate) completed_polls: u32,
    /// Number of downloads of each picture.
    pub(crate) downloads: Vec<u32>,
    /// Drawn pictures, each empty until its first use.
    pub(crate) pictures: Vec<Arc<OnceCell<Bytes>>>,
}

impl Prediction {
    /// Creates a prediction that runs from `starts`, with outcome and latency drawn from `random`.
    pub(crate) fn new(
        submission: Submission,
        number: usize,
        starts: Instant,
        scenario: &Scenario,
        random: &mut StdRng,
        now: Now,
    ) -> Self {
        let request = submission.request;
        let usage = Usage::of(&request);
        let outcome = if submission.violates_policy {
            Outcome::FailedPolicy
        } else {
            draw_outcome(&request.prompt, scenario, random)
        };
        let latency_ms = draw_latency_ms(&request, scenario, random);
        let latency = Duration::from_millis(latency_ms).div_f64(scenario.speed);
        let created_for =
            latency * u32::try_from(scenario.life.created_percent.min(100)).expect("it is at most 100") / 100;
        let ends = match (outcome, request.api, scenario.submit.answer) {
            (Outcome::Stuck, _, _) => now.at + NEVER,
            (_, Api::Prediction, SubmitAnswer::ImmediateUrl | SubmitAnswer::ImmediateB64 | SubmitAnswer::Completed) => {
                now.at
            }
            _ => starts + latency,
        };
        let hex = format!("{:032x}", rand::random::<u128>());
        let id = if scenario.submit.answer == SubmitAnswer::ColonId {
            format!("{}:task_{hex}", request.model.name)
        } else {
            hex
        };
        let pictures = request.n as usize;
        Self {
            id,
            number,
            key: submission.key,
            headers: Arc::new(submission.headers),
            query: submission.query,
            created: now,
            starts,
            ends,
            latency_ms,
            created_for,
            outcome,
            links: request.has_links_to_fetch(scenario).then(Arc::default),
            link_error: None,
            usage,
            cost_usd: usage.cost_usd(&request, scenario),
            charged: false,
            polls: 0,
            last_poll: None,
            completed_polls: 0,
            downloads: vec![0; pictures],
            pictures: (0..pictures).map(|_| Arc::default()).collect(),
            request: Arc::new(request),
        }
    }

    pub(crate) fn phase(&self, now: Instant) -> Phase {
        match () {
            () if self.links.as_ref().is_some_and(|links| !links.initialized()) => Phase::Created,
            () if now >= self.ends => Phase::Ended,
            () if now >= self.starts + self.created_for => Phase::Processing,
            () => Phase::Created,
        }
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

    /// Starts the prediction now, with fetched inputs, or fails it. Returns the number of input bytes gained.
    pub(crate) fn finish_links(
        &mut self,
        fetched: Result<FetchedInputs, String>,
        scenario: &Scenario,
        now: Instant,
    ) -> usize {
        let runs_for = self.ends.saturating_duration_since(self.starts);
        self.starts = self.starts.max(now);
        let mut gained = 0;
        match fetched {
            Ok(FetchedInputs { inputs, mask }) => {
                let request = PictureRequest { inputs, mask, ..PictureRequest::clone(&self.request) };
                self.ends = self.starts + runs_for;
                if !self.charged {
                    self.usage = Usage::of(&request);
                    self.cost_usd = self.usage.cost_usd(&request, scenario);
                }
                gained = request.input_bytes() - self.request.input_bytes();
                self.request = Arc::new(request);
            }
            Err(error) => {
                self.outcome = Outcome::FailedLink;
                self.link_error = Some(error);
                self.ends = now;
                self.starts = now;
            }
        }
        if let Some(links) = &self.links {
            // A second set cannot happen: each prediction has one fetching task.
            let _ = links.set(());
        }
        gained
    }
}

fn draw_outcome(prompt: &str, scenario: &Scenario, random: &mut StdRng) -> Outcome {
    let life = &scenario.life;
    if let Some((_, outcome)) = life.outcome_by_word.iter().find(|(word, _)| prompt.contains(*word)) {
        return *outcome;
    }
    if random.random::<f64>() < life.outcome_share { life.outcome } else { Outcome::Completed }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "latencies are small and positive, and need no precision"
)]
fn draw_latency_ms(request: &PictureRequest, scenario: &Scenario, random: &mut StdRng) -> u64 {
    let life = &scenario.life;
    let [from, to] = match request.quality {
        Quality::Low => life.low_ms,
        Quality::Medium => life.medium_ms,
        Quality::High => life.high_ms,
    };
    let drawn = random.random_range(from..=to) as f64;
    let factor = match life.size_counts {
        SizeCounts::Yes => megapixels(request.size).sqrt().clamp(0.5, 3.0),
        SizeCounts::No => 1.0,
    };
    (drawn * factor) as u64
}
