//! Faults that are injected into calls.

use serde::{Deserialize, Serialize};

/// `[faults]`: standing faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The fault of submits.
    pub submit: Fault,
    /// Share of submits with that fault, from 0 to 1.
    pub submit_share: f64,
    /// The fault of polls.
    pub poll: Fault,
    /// Share of polls with that fault, from 0 to 1.
    pub poll_share: f64,
    /// The fault of downloads.
    pub download: Fault,
    /// Share of downloads with that fault, from 0 to 1.
    pub download_share: f64,
    /// The pause of the faults `delay` and `slow_body`, in milliseconds, not scaled by `speed`.
    pub delay_ms: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            submit: Fault::None,
            submit_share: 1.0,
            poll: Fault::None,
            poll_share: 1.0,
            download: Fault::None,
            download_share: 1.0,
            delay_ms: 30_000,
        }
    }
}

/// The calls that a fault can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultTarget {
    /// A submit.
    Submit,
    /// A poll.
    Poll,
    /// The download of a picture.
    Download,
}

/// A fault of one call.
///
/// Faults whose names end in `_after`, and those of the body, let the request take effect and damage the answer. All
/// others prevent the effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// No fault.
    #[default]
    None,
    /// The connection closes without a byte; the request has no effect.
    DropBefore,
    /// The connection closes without a byte; the request took effect.
    DropAfter,
    /// The connection breaks in the middle of the answer's body.
    CutAnswer,
    /// The answer is late.
    Delay,
    /// The answer's body is sent in small pieces; together they take the delay.
    SlowBody,
    /// The right status with an empty body.
    EmptyBody,
    /// A well-formed answer with half of its body.
    TruncatedJson,
    /// An HTML page with status 200.
    #[serde(rename = "html_200")]
    Html200,
    /// 429 without `Retry-After`.
    #[serde(rename = "status_429")]
    Status429,
    /// 429 with `Retry-After: 1`.
    #[serde(rename = "status_429_retry_after")]
    Status429RetryAfter,
    /// 500, shape A.
    #[serde(rename = "status_500")]
    Status500,
    /// 500, shape A, after the effect.
    #[serde(rename = "status_500_after")]
    Status500After,
    /// 502 page.
    #[serde(rename = "html_502")]
    Html502,
    /// 502 page, after the effect.
    #[serde(rename = "html_502_after")]
    Html502After,
    /// 504 page.
    #[serde(rename = "html_504")]
    Html504,
    /// 504 page, after the effect.
    #[serde(rename = "html_504_after")]
    Html504After,
    /// 524 page.
    #[serde(rename = "html_524")]
    Html524,
    /// 524 page, after the effect.
    #[serde(rename = "html_524_after")]
    Html524After,
}

impl Fault {
    /// Returns whether the fault refuses with 429.
    pub(crate) fn is_429(self) -> bool {
        matches!(self, Self::Status429 | Self::Status429RetryAfter)
    }

    /// Returns whether the fault discards the whole answer, so that the answer need not be awaited.
    pub(crate) fn discards_answer(self) -> bool {
        match self {
            Self::DropAfter | Self::Status500After | Self::Html502After | Self::Html504After | Self::Html524After => {
                true
            }
            Self::None
            | Self::DropBefore
            | Self::CutAnswer
            | Self::Delay
            | Self::SlowBody
            | Self::EmptyBody
            | Self::TruncatedJson
            | Self::Html200
            | Self::Status429
            | Self::Status429RetryAfter
            | Self::Status500
            | Self::Html502
            | Self::Html504
            | Self::Html524 => false,
        }
    }
}
