//! Counters that tests and load programs assert on, per key where a budget is per key.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::simulator::rules::values::{Api, LimitKind};

/// `GET /_simulator/counters`, without the numbers that are computed from the predictions.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counters {
    /// All submits, also those that were lost or refused.
    pub(crate) submits: u64,
    pub(crate) submits_accepted: u64,
    pub(crate) submits_rejected: u64,
    /// Submits whose effect was prevented by a fault.
    pub(crate) submits_lost: u64,
    /// Accepted submits with exactly the parameters of an earlier one: bought twice.
    pub(crate) submits_repeated: u64,
    pub(crate) submits_429: u64,
    pub(crate) polls: u64,
    pub(crate) polls_429: u64,
    /// Polls for an unknown id, or an id bought with another key.
    pub(crate) polls_unknown: u64,
    pub(crate) downloads: u64,
    pub(crate) downloads_failed: u64,
    pub(crate) faults_fired: u64,
    /// Highest number of unfinished predictions at one time.
    pub(crate) unfinished_peak: usize,
    pub(crate) charged_usd: f64,
    /// Accepted submits by API; an API without submits is absent.
    pub(crate) accepted_by_api: BTreeMap<Api, u64>,
    /// Submits by path; a path without submits is absent.
    pub(crate) paths: SubmitsByPath,
    /// Links that were fetched.
    pub(crate) links_fetched: u64,
    /// Links that could not be fetched.
    pub(crate) links_failed: u64,
    /// Counters of each valid key that was used.
    pub(crate) keys: BTreeMap<String, KeyCounters>,
}

/// The submits to each path.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct SubmitsByPath(BTreeMap<String, PathCounters>);

/// The submits to one path.
#[derive(Clone, Debug, Default, Serialize)]
struct PathCounters {
    accepted: u64,
    /// By the service or by the edge.
    refused: u64,
}

impl SubmitsByPath {
    pub(crate) fn accepted(&mut self, path: &str) {
        self.0.entry(path.to_owned()).or_default().accepted += 1;
    }

    pub(crate) fn refused(&mut self, path: &str) {
        self.0.entry(path.to_owned()).or_default().refused += 1;
    }
}

/// A refused submit, as it was sent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RefusedSubmit {
    pub(crate) path: String,
    /// The status of the answer.
    pub(crate) status: u16,
    /// `bearer` or `raw`; none without a key.
    pub(crate) key_form: Option<String>,
    #[serde(flatten)]
    pub(crate) body: SentBody,
}

/// What a body holds, as far as it can be read.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct SentBody {
    /// The names of the fields.
    pub(crate) fields: Vec<String>,
    pub(crate) prompt: Option<String>,
}

/// The counters of one key.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct KeyCounters {
    pub(crate) submits_accepted: u64,
    /// By the limit that refused; a limit that refused none is absent.
    pub(crate) submits_429: BTreeMap<LimitKind, u64>,
    pub(crate) polls: u64,
    /// By the limit that refused.
    pub(crate) polls_429: BTreeMap<LimitKind, u64>,
    /// Answered polls of an unfinished prediction.
    pub(crate) polls_of_unfinished: u64,
    pub(crate) polls_unknown: u64,
    /// Calls refused because the key was revoked, or its balance empty.
    pub(crate) calls_403: u64,
    /// Total running time of this key's predictions in seconds, without the time in the queue.
    pub(crate) running_seconds: f64,
}

impl Counters {
    pub(crate) fn key(&mut self, key: &str) -> &mut KeyCounters {
        self.keys.entry(key.to_owned()).or_default()
    }

    /// Counts a submit that was refused with 429; `key` is none if the key was invalid.
    pub(crate) fn submit_refused(&mut self, key: Option<&str>, limit: LimitKind) {
        self.submits_429 += 1;
        if let Some(key) = key {
            *self.key(key).submits_429.entry(limit).or_default() += 1;
        }
    }

    /// Counts a poll that was refused with 429.
    pub(crate) fn poll_refused(&mut self, key: Option<&str>, limit: LimitKind) {
        self.polls_429 += 1;
        if let Some(key) = key {
            *self.key(key).polls_429.entry(limit).or_default() += 1;
        }
    }
}
