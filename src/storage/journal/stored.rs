//! The state that the records of a job add up to.

use super::record::{JobRecord, Resolution};
use crate::model::{
    AccountId, ApiKind, Choices, ClientId, Failure, JobId, ModelId, PictureTerms, PurchaseId, RunningTime, Size,
    StoredPicture, Timestamp, UpstreamId, Usage, Webhook,
};

/// When a step was journalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// By the wall clock.
    pub(crate) at: Timestamp,
    /// By the journal's running time.
    pub(crate) running: RunningTime,
}

/// A job as its records add up to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredJob {
    pub(crate) record: JobRecord,
    pub(crate) purchases: Vec<StoredPurchase>,
    pub(crate) delivered: Option<Stamp>,
    /// Its pictures are no longer on disk.
    pub(crate) evicted: bool,
    /// Its client has deleted it, and is not shown it any more.
    pub(crate) deleted: bool,
}

/// A purchase as its records add up to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredPurchase {
    pub(crate) id: PurchaseId,
    /// Number of pictures that were requested of it.
    pub(crate) pictures: u8,
    pub(crate) state: StoredState,
    /// The upstream API that it is bought at: that of its last committed submit, and before one the preferred API.
    pub(crate) api_kind: ApiKind,
    /// The request format of the last committed submit, as `RequestFormat::describe` gives it; `None` before one, and in
    /// records of schema versions below 6.
    pub(crate) format: Option<String>,
    /// The account that bought it; `None` before the first submit, and in records of schema version 1.
    pub(crate) account: Option<AccountId>,
    /// Submits of unknown outcome that were repeated because the operator chose so.
    pub(crate) lost_answers: u32,
    /// The operator's decision about an unknown outcome.
    pub(crate) resolution: Option<Resolution>,
    /// When it was accepted, by the journal's running time.
    pub(crate) accepted: Option<RunningTime>,
    /// When it ended, by the journal's running time.
    pub(crate) ended: Option<RunningTime>,
}

/// The state of a purchase.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StoredState {
    Intent,
    Committing {
        since: Timestamp,
    },
    Accepted {
        upstream: UpstreamId,
        poll_url: Option<String>,
        since: Timestamp,
    },
    Resolved {
        upstream: Option<UpstreamId>,
        poll_url: Option<String>,
        pictures: Vec<StoredPicture>,
        usage: Option<Usage>,
        at: Timestamp,
    },
    Failed {
        upstream: Option<UpstreamId>,
        failure: Failure,
        at: Timestamp,
    },
}

impl StoredState {
    /// Returns the name of the state, as in the tables.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Committing { .. } => "committing",
            Self::Accepted { .. } => "accepted",
            Self::Resolved { .. } => "resolved",
            Self::Failed { failure: Failure::OutcomeUnknown { .. }, .. } => "unknown",
            Self::Failed { .. } => "failed",
        }
    }

    /// Returns the upstream's id of the purchase.
    pub(crate) fn upstream(&self) -> Option<&UpstreamId> {
        match self {
            Self::Intent | Self::Committing { .. } => None,
            Self::Accepted { upstream, .. } => Some(upstream),
            Self::Resolved { upstream, .. } | Self::Failed { upstream, .. } => upstream.as_ref(),
        }
    }
}

/// What one or more purchases of a day that are no longer under way have used of their client's quota. Stays after their
/// pictures are evicted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UsedQuota {
    pub(crate) client: ClientId,
    pub(crate) model: ModelId,
    /// When a job of them was created, or the day of all began, in UTC.
    pub(crate) created: Timestamp,
    /// Pictures made; for a purchase that may have been bought and brought none, the number requested.
    pub(crate) pictures: usize,
    /// Tokens the upstream reported, added up; `None` for purchases of which it reported none.
    pub(crate) usage: Option<Usage>,
}

/// Purchases of one price whose outcome is unknown and about which the operator has not decided.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UndecidedPurchases {
    pub(crate) purchases: u64,
    pub(crate) model: ModelId,
    /// Pictures that were requested of each.
    pub(crate) pictures: u8,
    pub(crate) size: Size,
    pub(crate) choices: Choices,
    /// Input pictures of each.
    pub(crate) inputs: u8,
}

impl UndecidedPurchases {
    /// Returns what the price of a picture depends on.
    pub(crate) fn terms(&self) -> PictureTerms<'_> {
        PictureTerms { quality: self.choices.quality(), pixels: self.size.pixels(), inputs: self.inputs }
    }
}

/// The pictures of an ended job that take disk space.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredResult {
    pub(crate) job: JobId,
    pub(crate) pictures: Vec<StoredPicture>,
    /// When the last picture was stored, by the journal's running time.
    pub(crate) stored: RunningTime,
}

/// Selects stored results of one kind, oldest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResultPage {
    /// Whether they were delivered.
    pub(crate) delivered: bool,
    /// Whether they may answer later requests.
    pub(crate) shareable: bool,
    /// Only those that were stored before this time.
    pub(crate) stored_before: RunningTime,
    /// Only those behind the result of this time and job, which an earlier page ended with.
    pub(crate) after: Option<(RunningTime, JobId)>,
    pub(crate) limit: usize,
}

impl StoredResult {
    /// Returns how many bytes its pictures have.
    pub(crate) fn bytes(&self) -> u64 {
        self.pictures.iter().map(|picture| picture.bytes).sum()
    }
}

/// A webhook of an ended job that has not been delivered yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingWebhook {
    pub(crate) webhook: Webhook,
    pub(crate) job: JobId,
    pub(crate) tries: u32,
    /// Not to be tried before this time; `None` before the first try.
    pub(crate) due: Option<RunningTime>,
    pub(crate) end: JobEnd,
}

/// How a job ended, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobEnd {
    /// At least one picture was made.
    pub(crate) completed: bool,
    pub(crate) at: Timestamp,
}

impl StoredJob {
    /// Returns how the job ended; `None` while any of its purchases is under way.
    pub(crate) fn end(&self) -> Option<JobEnd> {
        let mut end: Option<JobEnd> = None;
        for purchase in &self.purchases {
            let (completed, at) = match &purchase.state {
                StoredState::Resolved { pictures, at, .. } => (!pictures.is_empty(), *at),
                StoredState::Failed { at, .. } => (false, *at),
                StoredState::Intent | StoredState::Committing { .. } | StoredState::Accepted { .. } => return None,
            };
            let before = end.unwrap_or(JobEnd { completed: false, at });
            end = Some(JobEnd { completed: before.completed || completed, at: before.at.max(at) });
        }
        end
    }

    /// Returns when its last purchase ended, by the journal's running time; `None` while all are under way.
    pub(crate) fn ended(&self) -> Option<RunningTime> {
        self.purchases.iter().filter_map(|purchase| purchase.ended).max()
    }

    /// Returns the pictures of all its purchases.
    pub(super) fn into_pictures(self) -> Vec<StoredPicture> {
        let pictures = self.purchases.into_iter().filter_map(|purchase| match purchase.state {
            StoredState::Resolved { pictures, .. } => Some(pictures),
            StoredState::Intent
            | StoredState::Committing { .. }
            | StoredState::Accepted { .. }
            | StoredState::Failed { .. } => None,
        });
        pictures.flatten().collect()
    }
}
