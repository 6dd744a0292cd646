//! How long predictions run, how they end, and what they cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `[life]`: how long predictions run and how they end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outcomes {
    /// Shortest and longest latency at quality low, for one megapixel, in milliseconds.
    pub low_ms: [u64; 2],
    /// The same at quality medium, which is also `auto`.
    pub medium_ms: [u64; 2],
    /// The same at quality high.
    pub high_ms: [u64; 2],
    /// Percentage of the latency spent as created, before processing.
    pub created_percent: u64,
    /// Whether the latency grows with the square root of the pixels.
    pub size_counts: SizeCounts,
    /// Status word for created.
    pub created: String,
    /// Status word for processing.
    pub processing: String,
    /// Status word for completed.
    pub completed: String,
    /// Status word for failed.
    pub failed: String,
    /// How predictions end.
    pub outcome: Outcome,
    /// Share of the predictions that end so, from 0 to 1; the others complete.
    pub outcome_share: f64,
    /// Outcomes of prompts that contain a word, in place of `outcome`.
    pub outcome_by_word: BTreeMap<String, Outcome>,
}

impl Default for Outcomes {
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

/// `[balance]`: money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Balance {
    /// Balance of the account at the start, in USD; submits are refused at zero or below.
    pub usd: f64,
    /// Keys whose balance is empty, regardless of the account's.
    pub empty_keys: Vec<String>,
    /// The status of a submit without balance.
    pub empty_status: u16,
    /// When a prediction is charged.
    pub charge: Charge,
    /// Whether failed predictions are charged.
    pub charge_failed: ChargeFailed,
    /// Price in USD of one picture of a model without token prices.
    pub plus_picture_usd: f64,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            usd: 100_000.0,
            empty_keys: Vec::new(),
            empty_status: 403,
            charge: Charge::Completion,
            charge_failed: ChargeFailed::No,
            plus_picture_usd: 0.03,
        }
    }
}

choices! {
    /// How a prediction ends.
    Outcome {
        /// With pictures.
        #[default]
        Completed,
        /// `failed`, with the guideline text.
        FailedPolicy,
        /// `failed`, with a provider's text.
        FailedProvider,
        /// `failed`, with the text about an input that cannot be fetched.
        FailedLink,
        /// `failed`, with `wrong image url`.
        FailedImageUrl,
        /// `failed`, with an empty error.
        FailedEmpty,
        /// `cancelled`.
        Cancelled,
        /// `timeout`.
        Timeout,
        /// `expired`.
        Expired,
        /// The prediction never ends.
        Stuck,
    }
}

choices! {
    /// Whether the size of a picture changes its latency.
    SizeCounts {
        /// The latency grows with the square root of the pixels.
        #[default]
        Yes,
        /// The latency is the same for all sizes.
        No,
    }
}

choices! {
    /// When a prediction is charged.
    Charge {
        /// When it completes.
        #[default]
        Completion,
        /// When it is accepted.
        Submit,
    }
}

choices! {
    /// Whether failed predictions are charged, with `charge = "completion"`.
    ChargeFailed {
        /// They are free.
        #[default]
        No,
        /// They are charged.
        Yes,
    }
}
