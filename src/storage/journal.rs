//! The journal: every purchase, before the step it guards.
//!
//! A record is durable when `append` returns. What is read back is the state that the records add up to.

use futures_util::future::BoxFuture;

use crate::model::{
    AccountId, ApiKind, ClientId, EventId, Failure, Fingerprint, IdempotencyKey, JobId, PurchaseId, Size,
    StoredPicture, Task, Timestamp, UpstreamId, Usage, Webhook,
};

#[cfg(test)]
pub(crate) mod memory;
mod sqlite;

pub(crate) use sqlite::{JobFilter, Ledger, LedgerError, PurchaseTimes, SqliteJournal};

/// Where records go. Object-safe, so that the engine does not care which adapter it writes to.
pub(crate) trait Journal: Send + Sync + std::fmt::Debug {
    /// Writes a record; durable when it returns.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: the record is not known to be durable, and the step it guards must not be taken.
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), JournalError>>;

    /// Orders with at least one prediction that has not ended, oldest first.
    fn unsettled(&self) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>>;

    /// The newest orders of a fingerprint that have pictures or an unknown outcome, at most `limit`, newest first.
    fn newest(
        &self,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>>;

    /// The newest order of a client under an idempotency key.
    fn by_key(
        &self,
        client: ClientId,
        key: IdempotencyKey,
    ) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>>;

    /// One order.
    fn job(&self, id: JobId) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>>;

    /// Orders whose pictures are still on disk and that have ended, oldest first, with the bytes of their pictures.
    fn with_pictures(&self) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>>;

    /// What has been bought, or may have been, by orders made at `since` or later, in no particular order. For the
    /// start, before anything is recovered: what was being committed will come out as unknown, and is in it; what was
    /// accepted is not, for it is still under way.
    fn spent_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>>;

    /// Webhooks of ended orders that are still to be told, oldest first; of one order, or of all.
    fn untold(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>>;

    /// Whether the journal has failed and takes nothing more.
    fn failed(&self) -> bool;
}

/// Why the journal cannot be written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// A commit failed earlier. Nothing is written until the next start, because what is on disk is uncertain.
    #[error("the journal failed earlier and takes nothing more")]
    Failed,
    #[error("the journal cannot be written: {0}")]
    Storage(String),
    #[error("the journal holds something this version cannot read: {0}")]
    Unreadable(String),
}

/// One step in the life of an order.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// Somebody wants pictures. Written before anything leaves for the upstream, with the face it is to leave for.
    Intent { job: JobRecord, api_kind: ApiKind, purchases: Vec<(PurchaseId, u8)> },
    /// All but the last byte of the submit has left. Written before the last byte does.
    Committing { purchase: PurchaseId, account: AccountId, at: Timestamp },
    /// The submit certainly did not take effect; the prediction is an intent again.
    Withdrawn { purchase: PurchaseId },
    /// The outcome of the submit is unknown, and the operator would rather pay twice than not at all: it is an intent
    /// again, and the ledger remembers.
    Resubmitted { purchase: PurchaseId },
    /// The upstream has taken the prediction and named it.
    Accepted { purchase: PurchaseId, upstream: UpstreamId, poll_url: Option<String>, at: Timestamp },
    /// Its pictures are on disk. `upstream` is `None` for an answer that came at once and without an id.
    Resolved { purchase: PurchaseId, pictures: Vec<StoredPicture>, usage: Option<Usage>, at: Timestamp },
    /// It ended without pictures. [`Failure::OutcomeUnknown`] is one of these.
    Failed { purchase: PurchaseId, failure: Failure, at: Timestamp },
    /// The pictures of an order were written to a connection that was still there.
    Delivered { job: JobId, at: Timestamp },
    /// The pictures of an order are no longer kept.
    Forgotten { job: JobId },
    /// Somebody wants to be told of an order's end. One that waits to be told the same at the same address stands for
    /// both.
    Subscribed { job: JobId, webhook: Webhook, at: Timestamp },
    /// It was tried to tell a webhook, so often by now; the next try is not before `due`.
    WebhookTried { webhook: EventId, tries: u32, due: Timestamp },
    /// A webhook is not tried any more.
    WebhookEnded { webhook: EventId, end: WebhookEnd, at: Timestamp },
}

/// How telling a webhook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebhookEnd {
    /// It answered 2xx.
    Delivered,
    /// It answered 410: it wants nothing more.
    Gone,
    /// It answered anything else, or nothing, too often.
    GivenUp,
    /// Its address is not one that the operator allows any more.
    Forbidden,
}

impl WebhookEnd {
    /// The name in the tables, also the label of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::GivenUp => "given_up",
            Self::Forbidden => "forbidden",
        }
    }
}

/// A webhook of an ended order that is still to be told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingWebhook {
    pub(crate) webhook: Webhook,
    pub(crate) job: JobId,
    pub(crate) tries: u32,
    /// When it may be tried again; `None` before the first try.
    pub(crate) due: Option<Timestamp>,
    pub(crate) end: JobEnd,
}

/// How an order ended, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobEnd {
    /// It brought at least one picture.
    pub(crate) completed: bool,
    pub(crate) at: Timestamp,
}

/// What the journal keeps of a client's wish. The prompt is not part of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobRecord {
    pub(crate) id: JobId,
    pub(crate) client: ClientId,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) task: Task,
    pub(crate) model: String,
    pub(crate) size: Size,
    pub(crate) choices: std::collections::BTreeMap<String, String>,
    /// How many pictures were asked for.
    pub(crate) n: u8,
    /// Whether the result may answer later requests (`Cache-Control: no-store` says no).
    pub(crate) shareable: bool,
    pub(crate) idempotency_key: Option<IdempotencyKey>,
    /// Its client comes back for the result by the order's address, and is not connected meanwhile.
    pub(crate) kept: bool,
    pub(crate) created: Timestamp,
}

/// What somebody decided about a purchase of unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// It was never bought.
    Lost,
    /// It was bought; the picture stays out of reach.
    Bought,
    /// The same request may buy again, whatever became of it.
    Resubmit,
}

impl Resolution {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Bought => "bought",
            Self::Resubmit => "resubmit",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Lost, Self::Bought, Self::Resubmit].into_iter().find(|resolution| resolution.name() == name)
    }
}

/// An order as the records add up to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredJob {
    pub(crate) record: JobRecord,
    pub(crate) purchases: Vec<StoredPurchase>,
    pub(crate) delivered: Option<Timestamp>,
    /// Its pictures were swept away.
    pub(crate) forgotten: bool,
}

/// A prediction as the records add up to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredPurchase {
    pub(crate) id: PurchaseId,
    /// Pictures it was to make.
    pub(crate) pictures: u8,
    pub(crate) state: StoredState,
    /// The face of the upstream it is, or was to be, bought at.
    pub(crate) api_kind: ApiKind,
    /// With whose key it was bought; `None` before the first submit, and in records of version 1.
    pub(crate) account: Option<AccountId>,
    /// Submits of unknown outcome that were sent again, because the operator chose so.
    pub(crate) lost_answers: u32,
    /// What somebody decided about an unknown outcome.
    pub(crate) resolution: Option<Resolution>,
}

/// Where a prediction stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StoredState {
    Intent,
    Committing { since: Timestamp },
    Accepted { upstream: UpstreamId, poll_url: Option<String>, since: Timestamp },
    Resolved { upstream: Option<UpstreamId>, pictures: Vec<StoredPicture>, usage: Option<Usage>, at: Timestamp },
    Failed { upstream: Option<UpstreamId>, failure: Failure, at: Timestamp },
}

impl StoredState {
    /// The name of the state, also in the tables.
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
}

/// What one prediction that is no longer under way has used up of its client's quota. It stays after the pictures
/// themselves are swept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UsedQuota {
    pub(crate) client: ClientId,
    pub(crate) model: String,
    /// When its order was made.
    pub(crate) ordered: Timestamp,
    /// Pictures made; for one that brought none and may have been bought, those it was to make.
    pub(crate) pictures: usize,
    /// Tokens the upstream reported.
    pub(crate) usage: Option<Usage>,
}

/// An ended order whose pictures take room.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredResult {
    pub(crate) job: JobId,
    pub(crate) pictures: Vec<StoredPicture>,
    pub(crate) resolved: Timestamp,
    pub(crate) delivered: Option<Timestamp>,
    pub(crate) shareable: bool,
}

impl StoredJob {
    /// How it ended; `None` while anything of it is under way.
    pub(crate) fn end(&self) -> Option<JobEnd> {
        let mut end: Option<JobEnd> = None;
        for purchase in &self.purchases {
            let (brought, at) = match &purchase.state {
                StoredState::Resolved { pictures, at, .. } => (!pictures.is_empty(), *at),
                StoredState::Failed { at, .. } => (false, *at),
                StoredState::Intent | StoredState::Committing { .. } | StoredState::Accepted { .. } => return None,
            };
            let before = end.unwrap_or(JobEnd { completed: false, at });
            end = Some(JobEnd { completed: before.completed || brought, at: before.at.max(at) });
        }
        end
    }

    /// What of an ended order takes room; `None` where nothing does.
    fn shelved(self) -> Option<StoredResult> {
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
