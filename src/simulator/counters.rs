//! What tests and load programs assert on: everything that was asked, by key where a budget is a key's.

use std::collections::BTreeMap;

use serde::Serialize;

use super::limits::Limit;
use super::rules::Face;

/// `GET /_simulator/counters`, without what follows from the predictions.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counters {
    /// Submits that arrived, whatever became of them.
    pub(super) submits: u64,
    pub(super) submits_accepted: u64,
    pub(super) submits_rejected: u64,
    /// Submits that a fault kept from having any effect.
    pub(super) submits_lost: u64,
    /// Accepted submits that asked, byte for byte, for what was accepted before: paid twice.
    pub(super) submits_repeated: u64,
    pub(super) submits_429: u64,
    pub(super) polls: u64,
    pub(super) polls_429: u64,
    /// Polls for what does not exist, or was bought with another key.
    pub(super) polls_unknown: u64,
    pub(super) downloads: u64,
    pub(super) downloads_failed: u64,
    pub(super) faults_fired: u64,
    /// Most predictions that had not ended at one time.
    pub(super) unfinished_peak: usize,
    pub(super) charged_usd: f64,
    /// Accepted submits by the face that they came in at; a face that sold nothing is left out.
    pub(super) accepted_by_face: BTreeMap<Face, u64>,
    /// Input pictures that were fetched from their addresses.
    pub(super) links_fetched: u64,
    /// Those that could not be.
    pub(super) links_failed: u64,
    /// The same by key, for keys that are valid.
    pub(super) keys: BTreeMap<String, KeyCounters>,
}

/// What one key was used for.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct KeyCounters {
    pub(super) submits_accepted: u64,
    /// By what refused them; what never did is left out.
    pub(super) submits_429: BTreeMap<Limit, u64>,
    pub(super) polls: u64,
    /// By what refused them.
    pub(super) polls_429: BTreeMap<Limit, u64>,
    /// Answered polls that found the prediction unfinished.
    pub(super) polls_of_unfinished: u64,
    pub(super) polls_unknown: u64,
    /// Calls that were refused because the key was revoked, or its balance empty.
    pub(super) calls_403: u64,
    /// How long the predictions of this key have run, together, in seconds. Waiting for a place is not running.
    pub(super) running_seconds: f64,
}

impl Counters {
    pub(super) fn key(&mut self, key: &str) -> &mut KeyCounters {
        self.keys.entry(key.to_owned()).or_default()
    }

    /// A submit that was refused with 429; without a key when nobody knows whose it was.
    pub(super) fn submit_refused(&mut self, key: Option<&str>, limit: Limit) {
        self.submits_429 += 1;
        if let Some(key) = key {
            *self.key(key).submits_429.entry(limit).or_default() += 1;
        }
    }

    /// A poll that was refused with 429.
    pub(super) fn poll_refused(&mut self, key: Option<&str>, limit: Limit) {
        self.polls_429 += 1;
        if let Some(key) = key {
            *self.key(key).polls_429.entry(limit).or_default() += 1;
        }
    }
}
