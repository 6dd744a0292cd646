//! How a job ends, and what is notified of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::environment::Timestamp;
use super::ids::{ClientId, Digest, EventId, JobId, ModelId, UpstreamId};
use super::money::Usage;
use super::picture::Format;
use super::quota::Limit;
use super::request::Task;

/// A picture that was bought, complete and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredPicture {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) format: Format,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// The result of a job: at least one picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobResult {
    pub(crate) job: JobId,
    pub(crate) model: ModelId,
    /// The upstream ids of the purchases that made the pictures.
    pub(crate) purchases: Vec<UpstreamId>,
    pub(crate) pictures: Vec<StoredPicture>,
    /// Pictures that were requested and are not there, by the reason.
    pub(crate) missing: Vec<MissingPictures>,
    pub(crate) usage: Option<Usage>,
    /// At least one of its purchases was made without looking at the input pictures ([`Usage::missed_inputs`]).
    pub(crate) inputs_unseen: bool,
    /// When the last picture was stored.
    pub(crate) resolved: Timestamp,
}

impl JobResult {
    /// Whether it is what was asked for, and so may answer other requests than the one that bought it.
    pub(crate) fn is_as_requested(&self) -> bool {
        self.missing.is_empty() && !self.inputs_unseen
    }

    /// Returns the number of pictures that were requested and are not there.
    pub(crate) fn missing_pictures(&self) -> u8 {
        self.missing.iter().fold(0, |sum, missing| sum.saturating_add(missing.pictures))
    }

    /// Whether some of the missing pictures may have been bought without an answer.
    pub(crate) fn has_unknown(&self) -> bool {
        self.missing.iter().any(|missing| matches!(missing.failure, Failure::OutcomeUnknown { .. }))
    }
}

/// Pictures of a job that are not there, although others of it are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingPictures {
    /// Their number, not 0.
    pub(crate) pictures: u8,
    /// Why they are missing, and whether they may have been bought.
    pub(crate) failure: Failure,
}

/// The result of one purchase of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PurchaseResult {
    pub(crate) pictures: Vec<StoredPicture>,
    /// For all of its pictures together.
    pub(crate) usage: Option<Usage>,
    /// They were made without looking at the input pictures.
    pub(crate) inputs_unseen: bool,
    /// When they were stored.
    pub(crate) resolved: Timestamp,
}

/// Why there is no picture. Serialized into the journal: the name of a variant is part of the stored format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Failure {
    /// The upstream refused the content, at the submit or in the task; `bought` in the latter case.
    Moderated { message: String, bought: bool },
    /// The upstream refused a parameter.
    InvalidRequest { message: String },
    /// The upstream refused the gateway's key, which only the operator can change.
    KeyRefused { message: String },
    /// The gateway's account at the upstream is empty.
    BalanceExhausted { message: String },
    /// The upstream cannot serve this model at the moment.
    ModelUnavailable { message: String },
    /// The account may not use this model; others may.
    ModelNotPermitted { message: String },
    /// The network edge in front of the upstream refused the call, with this error number; nothing was bought.
    EdgeRefused { message: String, code: Option<u16> },
    /// A picture that the client gave as an address could not be fetched, before the submit or in the task; `bought` in the
    /// latter case.
    LinkNotFetched {
        message: String,
        #[serde(default)]
        bought: bool,
    },
    /// The task failed at the upstream, after it was accepted.
    TaskFailed { message: String },
    /// The upstream reported success, and its pictures cannot be had: none, incomplete, or gone.
    ResultLost { message: String },
    /// The last byte of the submit was sent and no usable answer came: maybe bought, never repeated.
    OutcomeUnknown { message: String },
    /// The purchase was accepted and did not end within `upstream.deadline_s`.
    DeadlineExceeded,
    /// The upstream could not be reached; nothing was bought.
    Unreachable { message: String },
    /// The upstream refused submits with 429 for longer than the job could wait; nothing was bought.
    Throttled { retry_after: Duration },
    /// The gateway's queue is full; nothing was bought.
    QueueFull { retry_after: Duration },
    /// The queue would delay the picture past the time limit of its client; nothing was bought.
    Overloaded { retry_after: Duration },
    /// The client's own queued requests would delay the picture past its time limit; nothing was bought.
    Outpaced { retry_after: Duration },
    /// A limit of the client is reached; nothing was bought.
    #[serde(rename = "over_limit")]
    LimitExceeded { limit: Limit, retry_after: Duration },
    /// The journal cannot be written; nothing was bought.
    JournalUnavailable,
    /// The disk has no space for another picture; nothing was bought.
    DiskFull,
    /// The idempotency key belongs to another request; nothing was bought.
    KeyReused,
    /// The gateway is stopping; nothing was bought.
    Stopping,
    /// The job had no waiter left while it was queued; nothing was bought.
    Abandoned,
}

impl Failure {
    /// The names of all failures, for counters that exist from the start.
    pub(crate) const NAMES: [&str; 23] = [
        "moderated",
        "invalid_request",
        "key_refused",
        "balance_exhausted",
        "model_unavailable",
        "model_not_permitted",
        "edge_refused",
        "link_not_fetched",
        "task_failed",
        "result_lost",
        "outcome_unknown",
        "deadline_exceeded",
        "unreachable",
        "throttled",
        "queue_full",
        "overloaded",
        "outpaced",
        "over_limit",
        "journal_unavailable",
        "disk_full",
        "idempotency_key_reused",
        "stopping",
        "abandoned",
    ];

    /// Returns the name in metrics and in the journal.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Moderated { .. } => "moderated",
            Self::InvalidRequest { .. } => "invalid_request",
            Self::KeyRefused { .. } => "key_refused",
            Self::BalanceExhausted { .. } => "balance_exhausted",
            Self::ModelUnavailable { .. } => "model_unavailable",
            Self::ModelNotPermitted { .. } => "model_not_permitted",
            Self::EdgeRefused { .. } => "edge_refused",
            Self::LinkNotFetched { .. } => "link_not_fetched",
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

    /// Returns what the upstream or the gateway said about it, or the name where there is no text.
    pub(crate) fn text(&self) -> &str {
        self.message().unwrap_or_else(|| self.name())
    }

    /// Returns what the upstream or the gateway said about it, where there is a text.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Moderated { message, .. }
            | Self::InvalidRequest { message }
            | Self::KeyRefused { message }
            | Self::BalanceExhausted { message }
            | Self::ModelUnavailable { message }
            | Self::ModelNotPermitted { message }
            | Self::EdgeRefused { message, .. }
            | Self::LinkNotFetched { message, .. }
            | Self::TaskFailed { message }
            | Self::ResultLost { message }
            | Self::OutcomeUnknown { message }
            | Self::Unreachable { message } => Some(message),
            Self::DeadlineExceeded
            | Self::Throttled { .. }
            | Self::QueueFull { .. }
            | Self::Overloaded { .. }
            | Self::Outpaced { .. }
            | Self::LimitExceeded { .. }
            | Self::JournalUnavailable
            | Self::DiskFull
            | Self::KeyReused
            | Self::Stopping
            | Self::Abandoned => None,
        }
    }

    /// Returns whether a repeated request could pay a second time.
    pub(crate) fn may_have_been_bought(&self) -> bool {
        match self {
            Self::TaskFailed { .. }
            | Self::ResultLost { .. }
            | Self::OutcomeUnknown { .. }
            | Self::DeadlineExceeded => true,
            Self::Moderated { bought, .. } | Self::LinkNotFetched { bought, .. } => *bought,
            Self::InvalidRequest { .. }
            | Self::KeyRefused { .. }
            | Self::BalanceExhausted { .. }
            | Self::ModelUnavailable { .. }
            | Self::ModelNotPermitted { .. }
            | Self::EdgeRefused { .. }
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

    /// Returns the most severe of the failures of one job, by slot: an unknown outcome first, then what may have cost money;
    /// among equals the first. `T` is what belongs to a failure.
    pub(crate) fn most_severe<'a, T>(failures: impl IntoIterator<Item = (&'a Self, T)>) -> Option<(&'a Self, T)> {
        let severity = |failure: &Self| {
            if matches!(failure, Self::OutcomeUnknown { .. }) { 2 } else { u8::from(failure.may_have_been_bought()) }
        };
        failures.into_iter().reduce(|worst, next| if severity(next.0) > severity(worst.0) { next } else { worst })
    }
}

/// An address to notify when a job ends.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Webhook {
    /// The id of the event, the same at every try.
    pub(crate) id: EventId,
    /// May contain secrets of its owner: only its origin is logged.
    pub(crate) url: Url,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.id, self.url.origin().ascii_serialization())
    }
}

/// A job that failed while no request waited for it, because its client had a 202 or had left.
#[derive(Clone, Debug)]
pub(crate) struct UnattendedFailure {
    pub(crate) job: JobId,
    pub(crate) client: ClientId,
    pub(crate) model: ModelId,
    pub(crate) task: Task,
    pub(crate) created: Timestamp,
    pub(crate) failure: Failure,
}

/// Is notified when jobs end.
pub(crate) trait CompletionListener: Send + Sync + fmt::Debug {
    /// A job has ended and the journal has recorded the end; or a webhook was recorded for a job that had ended.
    fn ended(&self, job: JobId);

    /// A job has failed, and no response reports it.
    fn failed_unattended(&self, failed: UnattendedFailure);
}
