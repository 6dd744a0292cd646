//! How an order ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Digest, Format, JobId, Limit, Timestamp, UpstreamId, Usage};

/// A picture that was bought, whole and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredPicture {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) format: Format,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// What an order brought: at least one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobResult {
    pub(crate) job: JobId,
    /// The upstream's names for the predictions that made the pictures.
    pub(crate) purchases: Vec<UpstreamId>,
    pub(crate) pictures: Vec<StoredPicture>,
    /// Pictures that were asked for and did not come, because their prediction failed or came back short.
    pub(crate) missing: u8,
    pub(crate) usage: Option<Usage>,
    /// When the last picture was stored.
    pub(crate) resolved: Timestamp,
}

/// What one prediction of an order brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PurchaseResult {
    pub(crate) pictures: Vec<StoredPicture>,
    /// For all of its pictures together.
    pub(crate) usage: Option<Usage>,
    /// When they were stored.
    pub(crate) resolved: Timestamp,
}

/// Why there is no picture. `bought` says what matters most: whether trying again could pay twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Failure {
    /// The upstream refused the content, at the door or in the task.
    Moderated { message: String, bought: bool },
    /// The upstream refused a parameter.
    InvalidRequest { message: String },
    /// The upstream refused the gateway's key. The operator's matter, not the client's.
    KeyRefused { message: String },
    /// The gateway's account at the upstream is empty.
    BalanceExhausted { message: String },
    /// The upstream has no channel for this model at the moment.
    ModelUnavailable { message: String },
    /// The task failed at the upstream, after it was accepted.
    TaskFailed { message: String },
    /// The upstream said that it is done and its pictures cannot be had: empty, cut short, or gone.
    ResultLost { message: String },
    /// The last byte of the purchase left and no usable answer came: maybe bought, never resent.
    OutcomeUnknown { message: String },
    /// Accepted, and no end seen within `upstream.deadline_s`.
    DeadlineExceeded,
    /// The upstream could not be reached; nothing was bought.
    Unreachable { message: String },
    /// The upstream pushed back for longer than the order could wait; nothing was bought.
    Throttled { retry_after: Duration },
    /// The gateway's own queue is full; nothing was bought.
    QueueFull { retry_after: Duration },
    /// So much waits before it that the picture would come after its client has left; nothing was bought.
    Overloaded { retry_after: Duration },
    /// So much of the same client waits before it that the picture would come after its client has left; nothing was
    /// bought.
    Outpaced { retry_after: Duration },
    /// A limit of the client's own; nothing was bought.
    #[serde(rename = "over_limit")]
    LimitExceeded { limit: Limit, retry_after: Duration },
    /// The journal cannot be written; nothing was bought.
    JournalUnavailable,
    /// The disk has no room for what would be bought; nothing was.
    DiskFull,
    /// The idempotency key was used for another request; nothing was bought.
    KeyReused,
    /// The gateway is stopping; nothing was bought.
    Stopping,
    /// Nobody waited any more while the order was still queued; nothing was bought.
    Abandoned,
}

impl Failure {
    /// A closed set of names for metrics and the journal.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Moderated { .. } => "moderated",
            Self::InvalidRequest { .. } => "invalid_request",
            Self::KeyRefused { .. } => "key_refused",
            Self::BalanceExhausted { .. } => "balance_exhausted",
            Self::ModelUnavailable { .. } => "model_unavailable",
            Self::TaskFailed { .. } => "task_failed",
            Self::ResultLost { .. } => "result_lost",
            Self::OutcomeUnknown { .. } => "outcome_unknown",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Unreachable { .. } => "unreachable",
            Self::Throttled { .. } => "throttled",
            Self::QueueFull { .. } => "queue_full",
            Self::Overloaded { .. } => "overloaded",
            Self::Outpaced { .. } => "outpaced",
            Self::LimitExceeded { .. } => "over_limit",
            Self::JournalUnavailable => "journal_unavailable",
            Self::DiskFull => "disk_full",
            Self::KeyReused => "idempotency_key_reused",
            Self::Stopping => "stopping",
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether asking again could pay a second time for the same wish.
    pub(crate) fn may_have_been_bought(&self) -> bool {
        match self {
            Self::TaskFailed { .. }
            | Self::ResultLost { .. }
            | Self::OutcomeUnknown { .. }
            | Self::DeadlineExceeded => true,
            Self::Moderated { bought, .. } => *bought,
            Self::InvalidRequest { .. }
            | Self::KeyRefused { .. }
            | Self::BalanceExhausted { .. }
            | Self::ModelUnavailable { .. }
            | Self::Unreachable { .. }
            | Self::Throttled { .. }
            | Self::QueueFull { .. }
            | Self::Overloaded { .. }
            | Self::Outpaced { .. }
            | Self::LimitExceeded { .. }
            | Self::JournalUnavailable
            | Self::DiskFull
            | Self::KeyReused
            | Self::Stopping
            | Self::Abandoned => false,
        }
    }

    /// How much it matters among several: what nobody knows most, then what may have cost money.
    pub(crate) fn severity(&self) -> u8 {
        if matches!(self, Self::OutcomeUnknown { .. }) { 2 } else { u8::from(self.may_have_been_bought()) }
    }
}
