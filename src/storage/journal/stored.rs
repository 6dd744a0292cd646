//! The state that the records of a job add up to.

use super::record::{JobRecord, Resolution};
use crate::model::{
    AccountId, ApiKind, ClientId, Failure, JobId, ModelId, PurchaseId, StoredPicture, Timestamp, UpstreamId, Usage,
    Webhook,
};

/// A job as its records add up to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredJob {
    pub(crate) record: JobRecord,
    pub(crate) purchases: Vec<StoredPurchase>,
    pub(crate) delivered: Option<Timestamp>,
    /// Its pictures are no longer on disk.
    pub(crate) evicted: bool,
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

/// What one purchase that is no longer under way has used of its client's quota. Stays after its pictures are evicted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UsedQuota {
    pub(crate) client: ClientId,
    pub(crate) model: ModelId,
    /// When the job was created.
    pub(crate) created: Timestamp,
    /// Pictures made; for a purchase that may have been bought and brought none, the number requested.
    pub(crate) pictures: usize,
    /// Tokens the upstream reported.
    pub(crate) usage: Option<Usage>,
}

/// The pictures of an ended job that take disk space.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredResult {
    pub(crate) job: JobId,
    pub(crate) pictures: Vec<StoredPicture>,
    pub(crate) resolved: Timestamp,
    pub(crate) delivered: Option<Timestamp>,
    pub(crate) shareable: bool,
}

/// A webhook of an ended job that has not been delivered yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingWebhook {
    pub(crate) webhook: Webhook,
    pub(crate) job: JobId,
    pub(crate) tries: u32,
    /// Not to be tried before this time; `None` before the first try.
    pub(crate) due: Option<Timestamp>,
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

    /// Returns the pictures of the job; `None` when no purchase was resolved.
    pub(super) fn into_result(self) -> Option<StoredResult> {
        let mut pictures = Vec::new();
        let mut resolved = None;
        for purchase in self.purchases {
            if let StoredState::Resolved { pictures: more, at, .. } = purchase.state {
                pictures.extend(more);
                resolved = resolved.max(Some(at));
            }
        }
        Some(StoredResult {
            job: self.record.id,
            pictures,
            resolved: resolved?,
            delivered: self.delivered,
            shareable: self.record.shareable,
        })
    }
}
