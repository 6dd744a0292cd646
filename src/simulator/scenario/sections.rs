//! The tables of a scenario, in the order of the example.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::words::{
    Charge, ChargeFailed, ContentType, Cut, ErrorShape, FailureError, Format, KeyStyle, LimitShape, NoError, Nsfw,
    Outcome, Outputs, OutputsPlace, OverConcurrent, PolicyAnswer, RetryAfter, Scaled, SizeCounts, SubmitAnswer,
    SubmitCounting, SyncMode, Timestamps, Unknown, UsagePlace,
};
use crate::simulator::faults::Fault;

/// `[errors]`: how refusals look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Errors {
    /// The shape of every refusal but 429.
    pub shape: ErrorShape,
}

/// `[auth]`: who may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Keys that were valid once: 403 `Invalid Token`.
    pub revoked: Vec<String>,
}

/// `[models]`: what is sold, and how strictly a request is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// Models that this account has no channel for.
    pub no_channel: Vec<String>,
    /// The status of that refusal.
    pub no_channel_status: u16,
    /// Unknown fields.
    pub unknown_fields: Unknown,
    /// `n` and `quality` on gpt-image-2-plus.
    pub plus_extras: Unknown,
    /// `mask` on a model that has none.
    pub foreign_mask: Unknown,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            no_channel: Vec::new(),
            no_channel_status: 429,
            unknown_fields: Unknown::Ignore,
            plus_extras: Unknown::Reject,
            foreign_mask: Unknown::Ignore,
        }
    }
}

/// `[policy]`: content policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// A prompt that contains one of these (in any case) is refused.
    pub words: Vec<String>,
    /// How.
    pub answer: PolicyAnswer,
}

impl Default for Policy {
    fn default() -> Self {
        Self { words: vec!["forbidden-picture".to_owned()], answer: PolicyAnswer::Submit400 }
    }
}

/// `[submit]`: the answer to a submit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Submit {
    /// The form.
    pub answer: SubmitAnswer,
    /// The first status word.
    pub status: String,
    /// Pause between creating the job and answering, not scaled by `speed`.
    pub delay_ms: u64,
}

impl Default for Submit {
    fn default() -> Self {
        Self { answer: SubmitAnswer::Documented, status: "created".to_owned(), delay_ms: 0 }
    }
}

/// `[life]`: the life of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Life {
    /// Shortest and longest latency at quality low, one megapixel.
    pub low_ms: [u64; 2],
    /// The same at quality medium, which is also `auto`.
    pub medium_ms: [u64; 2],
    /// The same at quality high.
    pub high_ms: [u64; 2],
    /// Share of the latency that a job spends as created, before it is processing.
    pub created_percent: u64,
    /// How size counts: the latency grows with the square root of the pixels.
    pub size_counts: SizeCounts,
    /// Word for created.
    pub created: String,
    /// Word for processing.
    pub processing: String,
    /// Word for completed.
    pub completed: String,
    /// Word for failed.
    pub failed: String,
    /// How predictions end.
    pub outcome: Outcome,
    /// Share of the predictions that end so; the others complete.
    pub outcome_share: f64,
    /// Prompts that contain a word end as it says, before `outcome` is asked.
    pub outcome_by_word: BTreeMap<String, Outcome>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            low_ms: [21_000, 25_000],
            medium_ms: [49_000, 107_000],
            high_ms: [134_000, 147_000],
            created_percent: 5,
            size_counts: SizeCounts::Yes,
            created: "created".to_owned(),
            processing: "processing".to_owned(),
            completed: "completed".to_owned(),
            failed: "failed".to_owned(),
            outcome: Outcome::Completed,
            outcome_share: 1.0,
            outcome_by_word: BTreeMap::new(),
        }
    }
}

/// `[result]`: the answer to a poll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Results {
    /// The form of the entries.
    pub outputs: Outputs,
    /// Their place.
    pub outputs_place: OutputsPlace,
    /// So many pictures fewer than asked.
    pub missing_outputs: u32,
    /// So many completed answers come with empty outputs first.
    pub empty_polls: u32,
    /// Usage.
    pub usage: UsagePlace,
    /// No error.
    pub no_error: NoError,
    /// An error.
    pub failure_error: FailureError,
    /// NSFW.
    pub nsfw: Nsfw,
    /// Times.
    pub timestamps: Timestamps,
    /// Keys.
    pub keys: KeyStyle,
    /// The status for an unknown id, or for somebody else's.
    pub unknown_id_status: u16,
}

impl Default for Results {
    fn default() -> Self {
        Self {
            outputs: Outputs::AsAsked,
            outputs_place: OutputsPlace::Outputs,
            missing_outputs: 0,
            empty_polls: 0,
            usage: UsagePlace::Data,
            no_error: NoError::Empty,
            failure_error: FailureError::String,
            nsfw: Nsfw::Empty,
            timestamps: Timestamps::Rfc3339,
            keys: KeyStyle::Snake,
            unknown_id_status: 404,
        }
    }
}

/// `[pictures]`: pictures as they are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pictures {
    /// The encoding.
    pub format: Format,
    /// How many are kept in memory; older ones are drawn again when asked for.
    pub kept: usize,
    /// Bytes that every picture is made larger by, to test limits: inside of a PNG, as zeros after the end of others.
    pub padding_bytes: usize,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { format: Format::Png, kept: 64, padding_bytes: 0 }
    }
}

/// `[files]`: pictures as they are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Origin of the URLs, such as `http://127.0.0.1:9000`; empty for the one that was called.
    pub origin: String,
    /// Life of a URL after completion, not scaled by `speed`; 0 for ever.
    pub expires_after_s: u64,
    /// The status after that.
    pub expired_status: u16,
    /// So many downloads of each picture fail with 500 first.
    pub fail_first: u32,
    /// The content type.
    pub content_type: ContentType,
    /// So many redirects come before the picture.
    pub redirects: u32,
    /// Pause between pieces of 16 KiB; 0 for none.
    pub piece_pause_ms: u64,
    /// Cut after so many bytes; 0 for not.
    pub cut_at_bytes: usize,
    /// Cut after so many hundredths; 0 for not.
    pub cut_at_percent: u8,
    /// How it is cut.
    pub cut: Cut,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            origin: String::new(),
            expires_after_s: 0,
            expired_status: 403,
            fail_first: 0,
            content_type: ContentType::Right,
            redirects: 0,
            piece_pause_ms: 0,
            cut_at_bytes: 0,
            cut_at_percent: 0,
            cut: Cut::Abort,
        }
    }
}

/// `[limits]`: rate limits, each for one key; 0 is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Accepted submits in a window.
    pub submits_per_minute: u32,
    /// How they are counted.
    pub submit_counting: SubmitCounting,
    /// The size of the bucket, with that counting; 0 for a whole window's submits.
    pub submit_burst: u32,
    /// Submits and polls in a window, whatever becomes of them.
    pub requests_per_minute: u32,
    /// The window, not scaled by `speed`.
    pub rate_window_ms: u64,
    /// Predictions that have not ended.
    pub concurrent: usize,
    /// What happens beyond.
    pub over_concurrent: OverConcurrent,
    /// Polls of all predictions in a second.
    pub polls_per_second: u32,
    /// Least time between two polls of one prediction.
    pub poll_interval_min_ms: u64,
    /// Whether `speed` divides that time too.
    pub min_poll_interval: Scaled,
    /// `Retry-After`.
    pub retry_after: RetryAfter,
    /// The shape.
    pub shape: LimitShape,
    /// Limits of single keys, in place of those above.
    pub keys: BTreeMap<String, KeyLimits>,
}

/// `[limits.keys.KEY]`: what is left out, or null, is as for all keys; 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimits {
    /// Accepted submits in a window.
    pub submits_per_minute: Option<u32>,
    /// Submits and polls in a window.
    pub requests_per_minute: Option<u32>,
    /// Predictions that have not ended.
    pub concurrent: Option<usize>,
    /// Polls in a second.
    pub polls_per_second: Option<u32>,
}

impl Limits {
    /// The limits of one key.
    #[must_use]
    pub fn of(&self, key: &str) -> Self {
        let mut limits = self.clone();
        if let Some(own) = self.keys.get(key) {
            limits.submits_per_minute = own.submits_per_minute.unwrap_or(self.submits_per_minute);
            limits.requests_per_minute = own.requests_per_minute.unwrap_or(self.requests_per_minute);
            limits.concurrent = own.concurrent.unwrap_or(self.concurrent);
            limits.polls_per_second = own.polls_per_second.unwrap_or(self.polls_per_second);
        }
        limits
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            submits_per_minute: 0,
            submit_counting: SubmitCounting::Sliding,
            submit_burst: 0,
            requests_per_minute: 0,
            rate_window_ms: 60_000,
            concurrent: 0,
            over_concurrent: OverConcurrent::Reject,
            polls_per_second: 0,
            poll_interval_min_ms: 900,
            min_poll_interval: Scaled::Unscaled,
            retry_after: RetryAfter::Absent,
            shape: LimitShape::A,
            keys: BTreeMap::new(),
        }
    }
}

/// `[balance]`: money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Balance {
    /// What the account holds at the start; at zero or below, submits are refused.
    pub usd: f64,
    /// Keys whose balance is empty, whatever the account holds.
    pub empty_keys: Vec<String>,
    /// When a prediction is paid.
    pub charge: Charge,
    /// Whether failures are.
    pub charge_failed: ChargeFailed,
    /// Price of one picture of a model without token prices.
    pub plus_picture_usd: f64,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            usd: 100_000.0,
            empty_keys: Vec::new(),
            charge: Charge::Completion,
            charge_failed: ChargeFailed::No,
            plus_picture_usd: 0.03,
        }
    }
}

/// `[sync]`: what `enable_sync_mode` does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// The behaviour.
    pub mode: SyncMode,
    /// Patience of `give_up`, divided by `speed`.
    pub give_up_s: u64,
    /// Patience of `edge_cut`, divided by `speed`.
    pub edge_cut_s: u64,
}

impl Default for Sync {
    fn default() -> Self {
        Self { mode: SyncMode::Hold, give_up_s: 90, edge_cut_s: 100 }
    }
}

/// `[faults]`: standing faults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// What happens to submits.
    pub submit: Fault,
    /// To this share of them.
    pub submit_share: f64,
    /// What happens to polls.
    pub poll: Fault,
    /// To this share of them.
    pub poll_share: f64,
    /// What happens to downloads.
    pub download: Fault,
    /// To this share of them.
    pub download_share: f64,
    /// The pause of the faults `delay` and `slow_body`, not scaled by `speed`.
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

/// `[extras]`: the small routes beside the predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extras {
    /// Status of `GET /v1/models` for a valid key.
    pub models_status: u16,
    /// Status of `GET /api/v3/user/me` for a valid key.
    pub user_me_status: u16,
}

impl Default for Extras {
    fn default() -> Self {
        Self { models_status: 200, user_me_status: 404 }
    }
}
