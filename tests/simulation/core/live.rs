//! What the driver holds for the live jobs, and what may happen to them next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Permit;
use super::formats::SentRefusal;
use super::journal::Report;
use crate::engine::jobs::event::{AppendOutcome, Step};
use crate::model::{ApiKind, Digest, Failure, PurchaseId, UpstreamId};
use crate::storage::journal::JobRecord;
use crate::upstream::formats::InputMethod;
use crate::upstream::{Finished, SubmitError, Submitted};

/// What may happen next, where the real driver has a task that runs or waits.
#[derive(Debug)]
pub(super) enum Task {
    /// The journal has got to a position.
    Journalled {
        report: Report,
        outcome: AppendOutcome,
    },
    /// The budget has granted a submit.
    Granted {
        purchase: PurchaseId,
        permit: Permit,
    },
    NotGranted {
        purchase: PurchaseId,
        failure: Failure,
    },
    /// The upload of a submit ends.
    Upload(Submit),
    /// The connection of a submit breaks that waits for its last byte.
    Break(Submit),
    /// The jobs have answered whether the last byte may leave.
    Release {
        submit: Submit,
        send: bool,
    },
    /// The upstream answers a submit.
    Answer {
        submit: Submit,
        result: Result<Submitted, SubmitError>,
    },
    StartPoll {
        purchase: PurchaseId,
        accepted: Instant,
        id: UpstreamId,
    },
    /// The upstream answers a poll.
    Poll {
        purchase: PurchaseId,
        age: Duration,
        id: UpstreamId,
    },
    Fetch {
        purchase: PurchaseId,
        finished: Finished,
    },
    /// A client takes its next step.
    Client(usize),
}

/// A submit under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Submit {
    pub(super) purchase: PurchaseId,
    /// Its number among all submits.
    pub(super) number: usize,
    pub(super) account: usize,
    pub(super) method: InputMethod,
    /// Why its format is not accepted.
    pub(super) refusal: Option<SentRefusal>,
    /// The position of its commit record in the journal.
    pub(super) commit: u64,
}

/// What the driver holds for a live job.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that the jobs do not depend on")]
pub(super) struct LiveJob {
    pub(super) record: Arc<JobRecord>,
    /// Its number in the order of the jobs.
    pub(super) number: usize,
    pub(super) purchases: Vec<LivePurchase>,
    /// Requests that keep it needed.
    pub(super) needed: usize,
    pub(super) kept: bool,
    /// Until when a submit is of use to one of its waiters.
    pub(super) start_by: Instant,
    pub(super) recorded: bool,
    /// Nothing of it may be bought any more.
    pub(super) dropped: bool,
    /// Not all of it is in the journal: a record was not written, or a picture may not have reached the disk.
    pub(super) unlogged: bool,
    /// It has ended before, and its damaged pictures are fetched again.
    pub(super) refetched: bool,
}

/// What the driver holds for a purchase.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that the jobs do not depend on")]
pub(super) struct LivePurchase {
    pub(super) submission: Option<Submission>,
    pub(super) permit: Option<Permit>,
    /// The submit that waits for its last byte.
    pub(super) gated: Option<Submit>,
    /// When its last byte was allowed to leave.
    pub(super) sent: Option<Instant>,
    /// Since when it keeps a grant while another purchase tries out a format.
    pub(super) kept_since: Option<Instant>,
    /// The account of its last submit.
    pub(super) submits_with: Option<usize>,
    /// A submit is under way.
    pub(super) submitting: bool,
    /// A submit that had no effect is being journalled.
    pub(super) withdrawing: bool,
    /// It is being journalled that a submit is repeated whose answer was lost.
    pub(super) resubmitting: bool,
    /// Its end is being journalled.
    pub(super) ending: bool,
    /// It is bought for certain, or may be and has ended.
    pub(super) bought: bool,
    pub(super) follow_up: FollowUp,
    /// When the upstream took it, if this gateway was there.
    pub(super) taken: Option<Instant>,
    /// The last round of fetching brought fewer pictures than there are.
    pub(super) lacks_pictures: bool,
    /// The pictures of the last round may not be on disk.
    pub(super) unsafe_pictures: bool,
    /// The pictures of its last round that only its record can store.
    pub(super) without_file: Vec<Digest>,
    pub(super) has_ended: bool,
    /// The record that it waits for, and how often that was not written.
    pub(super) append: (Option<Step>, usize),
}

/// What a purchase is submitted with: the account of its reservation, from the grant until the submit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Submission {
    pub(super) reservation: Option<usize>,
}

/// What is under way for an accepted purchase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FollowUp {
    #[default]
    Nothing,
    Poll,
    Fetch,
}

impl Submit {
    pub(super) fn kind(self) -> ApiKind {
        self.method.api_kind()
    }
}

impl LivePurchase {
    pub(super) fn queued() -> Self {
        Self { submission: Some(Submission::default()), ..Self::default() }
    }

    fn may_be_bought(&self) -> bool {
        self.bought || (!self.has_ended && (self.submitting || self.withdrawing))
    }
}

impl LiveJob {
    pub(super) fn may_be_bought(&self) -> bool {
        self.purchases.iter().any(LivePurchase::may_be_bought)
    }

    pub(super) fn is_needed(&self) -> bool {
        self.needed > 0 || self.kept
    }

    /// Whether something of it waits for its turn.
    pub(super) fn has_waiting(&self) -> bool {
        self.purchases.iter().any(|one| !one.ending && !one.has_ended && !one.may_be_bought())
    }
}
