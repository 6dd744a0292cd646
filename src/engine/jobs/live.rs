//! One job that is under way.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::outcome::{JobResultBuilder, job_failure};
use super::progress::{JobStage, Progress};
use super::purchase_state::{PurchaseEnd, PurchaseState};
use crate::model::{Failure, JobResult, QuotaHold};
use crate::storage::journal::JobRecord;

/// A job that is under way.
#[derive(Debug)]
pub(super) struct LiveJob {
    pub(super) record: Arc<JobRecord>,
    /// One state a purchase.
    pub(super) purchases: Vec<PurchaseState>,
    /// The number of pictures each purchase was to make.
    pub(super) pictures: Vec<u8>,
    /// The part of its client's quota that is reserved for it.
    pub(super) quota: Box<dyn QuotaHold>,
    pub(super) progress: Arc<watch::Sender<Progress>>,
    /// Each request that needs the job, connected or not, holds a receiver of this; an observer does not.
    pub(super) needed: Arc<watch::Sender<()>>,
    /// Its client fetches the result later: needed until it ends, or until its client cancels it.
    pub(super) kept: Option<KeepAlive>,
    /// Until when a submit of it is of use to a waiter.
    pub(super) start_by: Instant,
    /// When its first submit is expected to leave.
    pub(super) expected_start: Instant,
    /// No waiter was left and nothing was bought: it is being dropped, and cannot be joined any more.
    pub(super) abandoned: bool,
}

/// Keeps a job needed for as long as this exists.
#[derive(Debug)]
pub(in crate::engine) struct KeepAlive {
    _needed: watch::Receiver<()>,
}

impl KeepAlive {
    pub(super) fn new(needed: watch::Receiver<()>) -> Self {
        Self { _needed: needed }
    }
}

/// What a waiter holds of a live job.
#[derive(Debug)]
pub(in crate::engine) struct WaiterSlot {
    pub(in crate::engine) progress: watch::Receiver<Progress>,
    pub(in crate::engine) keep_alive: KeepAlive,
}

/// When the first submit of a job is expected to leave, and until when one is of use to a waiter.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct StartTimes {
    pub(in crate::engine) start_by: Instant,
    pub(in crate::engine) expected_start: Instant,
}

/// A live job that a request has joined.
pub(in crate::engine) struct Joined {
    pub(in crate::engine) record: Arc<JobRecord>,
    pub(in crate::engine) slot: WaiterSlot,
}

impl LiveJob {
    /// Adds a waiter to whom a submit is of use until `start_by`.
    pub(super) fn join(&mut self, start_by: Instant) -> Joined {
        self.start_by = self.start_by.max(start_by);
        let keep_alive = KeepAlive::new(self.needed.subscribe());
        Joined {
            record: Arc::clone(&self.record),
            slot: WaiterSlot { progress: self.progress.subscribe(), keep_alive },
        }
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.needed.receiver_count() > 0
    }

    /// Publishes the stage to the waiters if it has changed.
    pub(super) fn publish_stage(&self) {
        let stage = self.stage();
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.stage, stage) != stage);
    }

    fn stage(&self) -> JobStage {
        let processing = |state: &PurchaseState| {
            matches!(state, PurchaseState::Polling(_) | PurchaseState::Ended(PurchaseEnd::Pictures { .. }))
        };
        if self.purchases.iter().any(processing) {
            JobStage::Processing
        } else if self.is_submitting() {
            JobStage::Submitting
        } else {
            JobStage::Queued
        }
    }

    pub(super) fn is_submitting(&self) -> bool {
        self.purchases.iter().any(|state| matches!(state, PurchaseState::Submitting))
    }

    /// Whether any purchase is, or may be, bought.
    pub(super) fn is_bought(&self) -> bool {
        self.purchases.iter().any(PurchaseState::is_bought)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.purchases.iter().all(|state| matches!(state, PurchaseState::Ended(_)))
    }

    /// Returns the result or the failure of the job, once all its purchases have ended.
    pub(super) fn outcome(&self) -> Result<Arc<JobResult>, Failure> {
        let mut result = JobResultBuilder::new(self.record.id, self.record.n);
        let mut failures = Vec::new();
        for state in &self.purchases {
            match state {
                PurchaseState::Ended(PurchaseEnd::Pictures { upstream, pictures, usage, at }) => {
                    result.add(upstream.as_ref(), pictures, *usage, *at);
                }
                PurchaseState::Ended(PurchaseEnd::Failure(failure)) => failures.push(failure),
                PurchaseState::Queued | PurchaseState::Submitting | PurchaseState::Polling(_) => {}
            }
        }
        result.finish().map(Arc::new).ok_or_else(|| job_failure(failures))
    }
}
