//! One job that is under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::JobStage;
use super::purchase::{Intent, Purchase, PurchaseEnd};
use crate::model::{Failure, JobResult, UpstreamId};
use crate::storage::journal::JobRecord;
use crate::upstream::formats::FormatOptions;

pub(in crate::engine) mod outcome;
pub(super) mod recovered;
pub(super) mod refetched;

use outcome::{JobResultBuilder, job_failure};

/// How far a start may be behind the time that was expected before nothing is expected of it any more. The forecast of the queue
/// knows no pause that comes later.
const START_TOLERANCE: Duration = Duration::from_secs(3);

/// A job that is under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) record: Arc<JobRecord>,
    /// The formats that its submits can be written in; `None` once there is no other submit.
    pub(super) formats: Option<Arc<FormatOptions>>,
    pub(super) intent: Intent,
    pub(super) purchases: Vec<Purchase>,
    /// The upstream's ids of its purchases.
    pub(super) upstream: Vec<UpstreamId>,
    /// Requests that wait for it and keep it needed; an observer does not.
    pub(super) needed: usize,
    /// Its client fetches the result later: needed until it ends, or until its client cancels it.
    pub(super) kept: bool,
    /// When its first submit is expected to leave, and until when one is of use to a waiter.
    pub(super) times: StartTimes,
    pub(super) listing: Listing,
    /// The stage that waiters were shown.
    pub(super) stage: JobStage,
}

/// Which requests find a live job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::jobs) enum Listing {
    /// Those that ask for the same, and those with its idempotency key.
    Joinable,
    /// No waiter was left and nothing was bought: it is being dropped, and cannot be joined any more.
    Abandoned,
    /// It has ended before, and its stored pictures are fetched again: it is found by its id alone.
    Refetched,
}

/// When the first submit of a job is expected to leave, and until when one is of use to a waiter.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct StartTimes {
    pub(in crate::engine) start_by: Instant,
    pub(in crate::engine) expected_start: Instant,
}

/// A purchase that has not ended, with what its expected end is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct OpenPurchase {
    /// The number of pictures it makes.
    pub(in crate::engine) pictures: u8,
    /// Time until the upstream is expected to accept it; `None` where it has waited for longer than was expected.
    pub(in crate::engine) starts_in: Option<Duration>,
    /// Time since the upstream works on it; zero before.
    pub(in crate::engine) age: Duration,
}

impl Job {
    /// Adds a waiter to whom a submit is of use until `start_by`. Returns that time if it is later than for all others.
    pub(super) fn join(&mut self, start_by: Instant) -> Option<Instant> {
        self.needed += 1;
        self.extend(start_by)
    }

    /// Keeps it needed without a waiter. Returns as [`Job::join`].
    pub(super) fn keep(&mut self, start_by: Instant) -> Option<Instant> {
        self.kept = true;
        self.extend(start_by)
    }

    fn extend(&mut self, start_by: Instant) -> Option<Instant> {
        let later = start_by > self.times.start_by;
        self.times.start_by = self.times.start_by.max(start_by);
        later.then_some(start_by)
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.needed > 0 || self.kept
    }

    pub(super) fn is_submitting(&self) -> bool {
        self.purchases.iter().any(|purchase| purchase.state.is_submitting())
    }

    /// Whether any purchase is, or may be, bought.
    pub(super) fn is_bought(&self) -> bool {
        self.purchases.iter().any(|purchase| purchase.state.is_bought() || purchase.answer_lost)
    }

    /// Whether no request needs it, nothing of it is bought, and something of it still could be.
    pub(super) fn is_dispensable(&self) -> bool {
        let waits = self.purchases.iter().any(|purchase| purchase.state.is_waiting());
        waits && !self.has_waiters() && !self.is_bought()
    }

    /// Whether the upstream has taken all its purchases, as far as they have not ended.
    pub(super) fn is_submitted(&self) -> bool {
        let taken = |Purchase { state, .. }: &Purchase| state.polled().is_some() || state.end().is_some();
        self.purchases.iter().all(taken)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.purchases.iter().all(|purchase| purchase.state.has_ended())
    }

    /// Returns the stage if it differs from what waiters were shown.
    pub(super) fn new_stage(&mut self) -> Option<JobStage> {
        let stage = self.current_stage()?;
        (std::mem::replace(&mut self.stage, stage) != stage).then_some(stage)
    }

    /// `None` when all that is left is to journal how it ended.
    fn current_stage(&self) -> Option<JobStage> {
        if self.purchases.iter().any(|purchase| purchase.state.is_processing()) {
            Some(JobStage::Processing)
        } else if self.purchases.iter().any(|Purchase { state, .. }| state.is_submitting() && state.end().is_none()) {
            Some(JobStage::Submitting)
        } else {
            self.purchases.iter().any(|purchase| purchase.state.is_waiting()).then_some(JobStage::Queued)
        }
    }

    /// Returns the result or the failure of the job, once all its purchases have ended.
    pub(super) fn outcome(&self) -> Result<Arc<JobResult>, Failure> {
        let mut result = JobResultBuilder::of(&self.record);
        let mut failures = Vec::new();
        for purchase in &self.purchases {
            match purchase.state.end() {
                Some(PurchaseEnd::Pictures { upstream, pictures, usage, at }) => {
                    result.add(purchase.pictures, upstream.as_ref(), pictures, *usage, *at);
                }
                Some(PurchaseEnd::Failure(failure)) => {
                    result.fail(purchase.pictures, failure);
                    failures.push(failure);
                }
                // The result was complete before; a part of it is no answer.
                Some(PurchaseEnd::NotRestored(failure)) => return Err(failure.clone()),
                None => {}
            }
        }
        result.finish().map(Arc::new).ok_or_else(|| job_failure(failures))
    }

    /// Returns the purchases that have not ended, and are not about to.
    pub(super) fn open(&self, now: Instant) -> Vec<OpenPurchase> {
        let open = |purchase: &Purchase| {
            let mut starts_in = Some(Duration::ZERO);
            if purchase.state.is_waiting() {
                let expected = self.times.expected_start;
                let is_overdue = now > expected + START_TOLERANCE;
                starts_in = (!is_overdue).then(|| expected.saturating_duration_since(now));
            }
            let made_since = purchase.state.made_since();
            let age = made_since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
            OpenPurchase { pictures: purchase.pictures, starts_in, age }
        };
        self.purchases.iter().filter(|purchase| purchase.state.end().is_none()).map(open).collect()
    }
}
