//! The live jobs, by their id, by what they make, and by their client's own name for them.

use std::collections::{HashMap, VecDeque};

use super::job::{Job, Listing};
use super::purchase::{SentFormat, State, Submit};
use crate::engine::reuse::{LiveCandidate, ReusePolicy};
use crate::model::{ClientId, Failure, Fingerprint, IdempotencyKey, JobId, PurchaseId, UpstreamId};
use crate::storage::journal::JobRecord;

/// Ends of jobs that are remembered. A request that looked before more ends than these looks again.
const ENDS_MAX: usize = 1024;

/// The live jobs and their indexes. A job that cannot be joined any more is in `live` alone.
#[derive(Debug, Default)]
pub(in crate::engine) struct Table {
    pub(super) live: HashMap<JobId, Job>,
    by_fingerprint: HashMap<Fingerprint, Vec<JobId>>,
    by_key: HashMap<(ClientId, IdempotencyKey), JobId>,
    /// The purchases that the upstream has taken under an id.
    by_upstream: HashMap<UpstreamId, PurchaseId>,
    /// The number of jobs that have ended.
    ends: u64,
    /// What the last of them made, the latest first.
    last_ends: VecDeque<Fingerprint>,
}

impl Table {
    pub(super) fn list(&mut self, job: Job) {
        let record = &job.record;
        if job.listing == Listing::Refetched {
            self.live.insert(record.id, job);
            return;
        }
        self.by_fingerprint.entry(record.fingerprint).or_default().push(record.id);
        if let Some(key) = &record.idempotency_key {
            self.by_key.insert((record.client.clone(), key.clone()), record.id);
        }
        self.live.insert(record.id, job);
    }

    /// Removes a job from the indexes, so that it cannot be joined any more.
    pub(super) fn unlist(&mut self, record: &JobRecord) {
        if let Some(jobs) = self.by_fingerprint.get_mut(&record.fingerprint) {
            jobs.retain(|&listed| listed != record.id);
            if jobs.is_empty() {
                self.by_fingerprint.remove(&record.fingerprint);
            }
        }
        if let Some(key) = &record.idempotency_key {
            let key = (record.client.clone(), key.clone());
            if self.by_key.get(&key) == Some(&record.id) {
                self.by_key.remove(&key);
            }
        }
    }

    /// Notes the id under which the upstream has taken a purchase.
    ///
    /// # Errors
    ///
    /// The other live purchase that it gave the same id to. Following it would show one client the pictures of another.
    pub(super) fn add_upstream(&mut self, upstream: &UpstreamId, purchase: PurchaseId) -> Result<(), PurchaseId> {
        match self.by_upstream.get(upstream) {
            Some(&other) if other != purchase => Err(other),
            _ => {
                self.by_upstream.insert(upstream.clone(), purchase);
                Ok(())
            }
        }
    }

    /// Removes a job that has ended.
    pub(super) fn remove(&mut self, job: JobId) -> Option<Job> {
        let removed = self.live.remove(&job)?;
        self.unlist(&removed.record);
        self.ends += 1;
        self.last_ends.truncate(ENDS_MAX - 1);
        self.last_ends.push_front(removed.record.fingerprint);
        for upstream in &removed.upstream {
            self.by_upstream.remove(upstream);
        }
        Some(removed)
    }

    /// Returns the number of jobs that have ended.
    pub(in crate::engine) fn ends(&self) -> u64 {
        self.ends
    }

    /// Whether a job of the fingerprint may have ended after there were `seen` ends.
    pub(super) fn has_ended_since(&self, fingerprint: Fingerprint, seen: u64) -> bool {
        let since = usize::try_from(self.ends.saturating_sub(seen)).unwrap_or(usize::MAX);
        since > self.last_ends.len() || self.last_ends.iter().take(since).any(|ended| *ended == fingerprint)
    }

    /// Returns the format of the submit of a purchase that is under way.
    pub(super) fn sent(&self, purchase: PurchaseId) -> Option<&SentFormat> {
        let one = self.live.get(&purchase.job)?.purchases.get(usize::from(purchase.slot))?;
        if let State::Submitting(Submit { sent, .. }) = &one.state { Some(sent) } else { None }
    }

    /// Returns the live job of a client's key.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`] when that job is for another request.
    pub(super) fn keyed(
        &self,
        client: &ClientId,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
    ) -> Result<Option<JobId>, Failure> {
        let job = self.by_key.get(&(client.clone(), key.clone()));
        match job.and_then(|job| self.live.get(job)) {
            Some(live) if live.record.fingerprint != fingerprint => Err(Failure::KeyReused),
            found => Ok(found.map(|live| live.record.id)),
        }
    }

    /// Returns the newest live job of the fingerprint that a request may join.
    pub(in crate::engine) fn joinable(&self, fingerprint: Fingerprint, policy: ReusePolicy) -> Option<JobId> {
        let jobs = self.by_fingerprint.get(&fingerprint)?;
        jobs.iter()
            .rev()
            .filter_map(|job| self.live.get(job))
            .find(|live| policy.may_join(LiveCandidate { has_waiters: live.has_waiters() }))
            .map(|live| live.record.id)
    }
}
