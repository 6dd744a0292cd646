//! One purchase of a live job.

use std::time::Duration;

use tokio::time::Instant;

use super::transitions::PollState;
use crate::budget::InFlightPermit;
use crate::model::{AccountId, Failure, PurchaseResult, StoredPicture, Timestamp, UpstreamId, Usage};
use crate::polling::latency::LatencyClass;
use crate::upstream::PurchaseHandle;

/// The state of one purchase of a live job.
#[derive(Debug)]
pub(in crate::engine) enum PurchaseState {
    /// Waits for the budget.
    Queued,
    /// A submit is under way.
    Submitting,
    /// The upstream works on it.
    Polling(Box<AcceptedPurchase>),
    Ended(PurchaseEnd),
}

/// How a purchase ended.
#[derive(Clone, Debug)]
pub(in crate::engine) enum PurchaseEnd {
    Pictures { upstream: Option<UpstreamId>, pictures: Vec<StoredPicture>, usage: Option<Usage>, at: Timestamp },
    Failure(Failure),
}

/// An accepted purchase.
#[derive(Debug)]
pub(in crate::engine) struct AcceptedPurchase {
    pub(in crate::engine) poll: PollState,
    /// The account that bought it.
    pub(in crate::engine) account: AccountId,
    /// When the upstream accepted it, on the monotonic clock.
    pub(in crate::engine) accepted: Instant,
    /// Counts it as in flight, until the upstream is done with it.
    pub(in crate::engine) in_flight: Option<InFlightPermit>,
    /// The class of purchases that take about as long.
    pub(in crate::engine) class: LatencyClass,
    /// The age at which a poll last found it working; `None` before.
    pub(in crate::engine) working_at: Option<Duration>,
    /// It was accepted before the gateway started.
    pub(in crate::engine) resumed: bool,
    /// A poll has found it done; its pictures are being fetched.
    pub(in crate::engine) found_done: bool,
    /// Polls and fetches in a row that failed.
    pub(in crate::engine) troubles: u32,
    /// The number of its current plan for the next poll; earlier plans are void.
    pub(in crate::engine) plan: u32,
    /// The time of the next poll while the purchase waits for it; `None` while it is polled or fetched.
    pub(in crate::engine) planned: Option<Instant>,
}

impl AcceptedPurchase {
    /// Makes a purchase that has just been accepted.
    pub(in crate::engine) fn new(handle: PurchaseHandle, in_flight: InFlightPermit, class: LatencyClass) -> Self {
        Self {
            poll: PollState::new(handle),
            account: in_flight.account().clone(),
            accepted: Instant::now(),
            in_flight: Some(in_flight),
            class,
            working_at: None,
            resumed: false,
            found_done: false,
            troubles: 0,
            plan: 0,
            planned: None,
        }
    }

    /// Replaces the plan for the next poll; returns the number of the new plan.
    pub(in crate::engine) fn replan(&mut self, at: Option<Instant>) -> u32 {
        self.plan = self.plan.wrapping_add(1);
        self.planned = at;
        self.plan
    }

    /// Whether its next poll is planned for later than `now`, so that it may be planned again. A purchase whose last
    /// poll failed keeps its pause.
    pub(in crate::engine) fn may_replan(&self, now: Instant) -> bool {
        self.troubles == 0 && self.planned.is_some_and(|at| at > now)
    }
}

impl PurchaseState {
    pub(super) fn is_bought(&self) -> bool {
        match self {
            Self::Queued => false,
            Self::Submitting | Self::Polling(_) | Self::Ended(PurchaseEnd::Pictures { .. }) => true,
            Self::Ended(PurchaseEnd::Failure(failure)) => failure.may_have_been_bought(),
        }
    }

    pub(super) fn result(&self) -> Option<PurchaseResult> {
        match self {
            Self::Ended(PurchaseEnd::Pictures { pictures, usage, at, .. }) => {
                Some(PurchaseResult { pictures: pictures.clone(), usage: *usage, resolved: *at })
            }
            Self::Queued | Self::Submitting | Self::Polling(_) | Self::Ended(PurchaseEnd::Failure(_)) => None,
        }
    }

    pub(super) fn upstream(&self) -> Option<&UpstreamId> {
        match self {
            Self::Polling(accepted) => Some(&accepted.poll.handle.id),
            Self::Ended(PurchaseEnd::Pictures { upstream, .. }) => upstream.as_ref(),
            Self::Queued | Self::Submitting | Self::Ended(PurchaseEnd::Failure(_)) => None,
        }
    }
}
