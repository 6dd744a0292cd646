//! What is written to the journal.

use std::sync::Arc;
use std::time::Duration;

use super::content::PictureBytes;
use crate::model::{
    AccountId, ApiKind, Choices, ClientId, EventId, Failure, Fingerprint, IdempotencyKey, JobId, ModelId, PictureTerms,
    PurchaseId, Size, StoredPicture, Task, Timestamp, UpstreamId, Usage, Webhook,
};

/// One step in the life of a job. Its times are those of the wall clock, which people read; the journal adds its own running
/// time where ages depend on it.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// A request has created the job. Written before anything is sent upstream, with the upstream API to be used.
    Intent { job: JobRecord, api_kind: ApiKind, purchases: Vec<(PurchaseId, u8)> },
    /// All but the last byte of the submit has been sent. Written before the last byte is. The last one of a purchase says
    /// where, and in which request format, it was bought.
    Committing { purchase: PurchaseId, account: AccountId, api_kind: ApiKind, format: String, at: Timestamp },
    /// The submit certainly had no effect; the purchase is an intent again.
    Withdrawn { purchase: PurchaseId },
    /// The outcome of the submit is unknown, and the operator prefers to pay twice over getting no picture: the purchase
    /// is an intent again, and the lost answer is counted.
    Resubmitted { purchase: PurchaseId },
    /// The upstream has accepted the purchase under an id.
    Accepted { purchase: PurchaseId, upstream: UpstreamId, poll_url: Option<String>, at: Timestamp },
    /// The pictures of the purchase are on disk, or are stored with this record: `contents` has the bytes of those. `upstream` is `None` for an immediate answer without an id. An id and an
    /// address that the journal has already stay as they are: these are for an acceptance that was not written.
    Resolved {
        purchase: PurchaseId,
        upstream: Option<UpstreamId>,
        poll_url: Option<String>,
        pictures: Vec<StoredPicture>,
        contents: Vec<PictureBytes>,
        usage: Option<Usage>,
        at: Timestamp,
    },
    /// The pictures of a resolved purchase were fetched again, with other bytes than before: these take their place.
    Restored { purchase: PurchaseId, pictures: Vec<StoredPicture> },
    /// The purchase ended without pictures. [`Failure::OutcomeUnknown`] is one of these.
    Failed { purchase: PurchaseId, failure: Failure, at: Timestamp },
    /// The pictures of a job were written to a connection that was still open.
    Delivered { job: JobId, at: Timestamp },
    /// The pictures of a job are being removed from disk, and its prompt is not kept any more.
    Evicted { job: JobId },
    /// The client of a job has deleted it: as `Evicted`, and its client is not shown it any more.
    Deleted { job: JobId },
    /// The prompt of a job is not kept any more.
    PromptExpired { job: JobId },
    /// A webhook is to be sent when the job ends. A pending webhook of the same job and address stands for both.
    Subscribed { job: JobId, webhook: Webhook, at: Timestamp },
    /// A webhook was tried; `tries` counts all tries, and the next one follows after `delay`.
    WebhookTried { webhook: EventId, tries: u32, delay: Duration },
    /// A webhook is not tried any more.
    WebhookEnded { webhook: EventId, end: WebhookEnd, at: Timestamp },
}

/// How a webhook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebhookEnd {
    /// The receiver answered 2xx.
    Delivered,
    /// The receiver answered 410.
    Gone,
    /// The receiver gave any other answer, or none, at every try.
    GivenUp,
    /// The operator no longer allows the address.
    Forbidden,
}

impl WebhookEnd {
    pub(crate) const ALL: [Self; 4] = [Self::Delivered, Self::Gone, Self::GivenUp, Self::Forbidden];

    /// Returns the name in the tables, which is also the label of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::GivenUp => "given_up",
            Self::Forbidden => "forbidden",
        }
    }
}

/// What the journal stores of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobRecord {
    pub(crate) id: JobId,
    pub(crate) client: ClientId,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) task: Task,
    pub(crate) model: ModelId,
    pub(crate) size: Size,
    /// Model parameters with a closed list of values, by name.
    pub(crate) choices: Choices,
    /// Number of pictures requested.
    pub(crate) n: u8,
    /// Number of input pictures, without the mask.
    pub(crate) inputs: u8,
    /// Whether the result may answer later requests (`Cache-Control: no-store` forbids it).
    pub(crate) shareable: bool,
    pub(crate) idempotency_key: Option<IdempotencyKey>,
    /// The client does not stay connected and fetches the result later, from the address of the job.
    pub(crate) respond_async: bool,
    pub(crate) created: Timestamp,
    /// `None` unless prompts are kept (`storage.keep_prompts`).
    pub(crate) prompt: Option<Arc<str>>,
}

impl JobRecord {
    /// Returns what the price of its pictures depends on, before their tokens are reported.
    pub(crate) fn terms(&self) -> PictureTerms<'_> {
        PictureTerms { quality: self.choices.quality(), pixels: self.size.pixels(), inputs: self.inputs }
    }
}

/// The operator's decision about a purchase of unknown outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// It was not bought.
    Lost,
    /// It was bought; the picture cannot be had.
    Bought,
    /// The same request may buy again, whether or not it was bought.
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
