//! The table of live jobs: listing, joining, dropping, and the count of waiters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::live::{Joined, KeepAlive, LiveJob, StartTimes, WaiterSlot};
use super::progress::Progress;
use super::purchase_state::PurchaseState;
use crate::engine::metrics::Status;
use crate::engine::reuse::{LiveCandidate, ReusePolicy};
use crate::model::{ClientId, Failure, Fingerprint, IdempotencyKey, JobId, PurchaseResult, QuotaHold, UpstreamId};
use crate::storage::journal::JobRecord;

/// The jobs that are under way.
#[derive(Debug, Default)]
pub(in crate::engine) struct Jobs {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) live: HashMap<JobId, LiveJob>,
    by_fingerprint: HashMap<Fingerprint, Vec<JobId>>,
    by_key: HashMap<(ClientId, IdempotencyKey), JobId>,
    /// The number of waiters of a job, also after it has ended.
    waiters: HashMap<JobId, usize>,
}

/// The result of listing a job.
pub(in crate::engine) enum ListOutcome {
    New(WaiterSlot),
    /// A live job was joined instead.
    Joined(JobId, WaiterSlot),
}

/// The result of dropping a job without waiters.
enum DropOutcome {
    Abandoned,
    Bought,
    /// A request has joined in the meantime.
    Needed,
}

impl Jobs {
    /// Lists a job, all of whose purchases are queued, or joins a live one that serves the request.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`].
    pub(in crate::engine) fn list_or_join(
        &self,
        record: Arc<JobRecord>,
        pictures: Vec<u8>,
        quota: Box<dyn QuotaHold>,
        policy: ReusePolicy,
        times: StartTimes,
    ) -> Result<ListOutcome, Failure> {
        let mut table = self.lock();
        let by_key = match &record.idempotency_key {
            Some(key) => table.keyed(&record.client, key, record.fingerprint)?,
            None => None,
        };
        if let Some(job) = by_key.or_else(|| table.joinable(record.fingerprint, policy))
            && let Some(live) = table.live.get_mut(&job)
        {
            let Joined { record, slot } = live.join(times.start_by);
            return Ok(ListOutcome::Joined(record.id, slot));
        }
        let purchases = std::iter::repeat_with(|| PurchaseState::Queued).take(pictures.len()).collect();
        Ok(ListOutcome::New(table.list(record, purchases, pictures, quota, times)))
    }

    /// Joins the live job of a client's idempotency key.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`] when that job is for another request.
    pub(in crate::engine) fn join_by_key(
        &self,
        client: &ClientId,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        start_by: Instant,
    ) -> Result<Option<Joined>, Failure> {
        let mut table = self.lock();
        let job = table.keyed(client, key, fingerprint)?;
        Ok(job.and_then(|job| table.live.get_mut(&job)).map(|live| live.join(start_by)))
    }

    /// Joins a live job that serves the request, where the policy allows it.
    pub(in crate::engine) fn join(
        &self,
        fingerprint: Fingerprint,
        policy: ReusePolicy,
        start_by: Instant,
    ) -> Option<Joined> {
        let mut table = self.lock();
        let job = table.joinable(fingerprint, policy)?;
        table.live.get_mut(&job).map(|live| live.join(start_by))
    }

    /// Lists a job that was under way before the gateway started.
    pub(in crate::engine) fn restore(
        &self,
        record: Arc<JobRecord>,
        purchases: Vec<PurchaseState>,
        pictures: Vec<u8>,
        quota: Box<dyn QuotaHold>,
    ) {
        let upstream: Vec<UpstreamId> = purchases.iter().filter_map(PurchaseState::upstream).cloned().collect();
        let results: Vec<PurchaseResult> = purchases.iter().filter_map(PurchaseState::result).collect();
        let mut table = self.lock();
        let job = record.id;
        let now = Instant::now();
        table.list(record, purchases, pictures, quota, StartTimes { start_by: now, expected_start: now });
        if let Some(live) = table.live.get(&job) {
            live.progress.send_modify(|progress| {
                (progress.upstream, progress.results, progress.recorded) = (upstream, results, true);
            });
            live.publish_stage();
        }
    }

    /// Waits until a submit of the job would no longer be of use to any waiter.
    pub(in crate::engine) async fn start_deadline(&self, job: JobId) {
        loop {
            let Some(start_by) = self.lock().live.get(&job).map(|live| live.start_by) else {
                return std::future::pending().await;
            };
            if start_by <= Instant::now() {
                return;
            }
            // Checked again after the wait: a request with a later response deadline may have joined.
            tokio::time::sleep_until(start_by).await;
        }
    }

    /// Waits until a job of which nothing is bought has no waiter; it is then off the list.
    pub(in crate::engine) async fn abandoned(&self, job: JobId) {
        loop {
            let Some(needed) = self.lock().live.get(&job).map(|live| Arc::clone(&live.needed)) else {
                return std::future::pending().await;
            };
            needed.closed().await;
            match self.drop_unneeded(job) {
                DropOutcome::Abandoned => return,
                // A purchase that is bought is followed to its end, and so is the rest of the same job.
                DropOutcome::Bought => return std::future::pending().await,
                DropOutcome::Needed => {}
            }
        }
    }

    fn drop_unneeded(&self, job: JobId) -> DropOutcome {
        let mut table = self.lock();
        let Some(live) = table.live.get_mut(&job) else {
            return DropOutcome::Bought;
        };
        if live.abandoned {
            return DropOutcome::Abandoned;
        }
        if live.is_bought() {
            return DropOutcome::Bought;
        }
        if live.has_waiters() {
            return DropOutcome::Needed;
        }
        live.abandoned = true;
        let record = Arc::clone(&live.record);
        table.unlist(&record);
        DropOutcome::Abandoned
    }

    pub(in crate::engine) fn add_waiter(&self, job: JobId) {
        *self.lock().waiters.entry(job).or_default() += 1;
    }

    /// Adds a waiter only if the job has none; returns whether it did.
    pub(in crate::engine) fn add_first_waiter(&self, job: JobId) -> bool {
        let mut table = self.lock();
        let count = table.waiters.entry(job).or_default();
        let first = *count == 0;
        if first {
            *count = 1;
        }
        first
    }

    pub(in crate::engine) fn remove_waiter(&self, job: JobId) {
        let mut table = self.lock();
        if let Some(count) = table.waiters.get_mut(&job) {
            *count -= 1;
            if *count == 0 {
                table.waiters.remove(&job);
            }
        }
    }

    pub(in crate::engine) fn has_waiters(&self, job: JobId) -> bool {
        self.lock().waiters.contains_key(&job)
    }

    /// Counts waiters, and purchases by state.
    pub(in crate::engine) fn status(&self) -> Status {
        let table = self.lock();
        let kept = table.live.values().filter(|live| live.kept.is_some()).count();
        let mut status = Status { waiters: table.waiters.values().sum::<usize>() + kept, ..Status::default() };
        for state in table.live.values().flat_map(|live| &live.purchases) {
            match state {
                PurchaseState::Queued => status.queued += 1,
                PurchaseState::Submitting => status.submitting += 1,
                PurchaseState::Polling(_) => status.polling += 1,
                PurchaseState::Ended(_) => {}
            }
        }
        status
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn list(
        &mut self,
        record: Arc<JobRecord>,
        purchases: Vec<PurchaseState>,
        pictures: Vec<u8>,
        quota: Box<dyn QuotaHold>,
        StartTimes { start_by, expected_start }: StartTimes,
    ) -> WaiterSlot {
        let (progress, receiver) = watch::channel(Progress::default());
        let (needed, waits) = watch::channel(());
        self.by_fingerprint.entry(record.fingerprint).or_default().push(record.id);
        if let Some(key) = &record.idempotency_key {
            self.by_key.insert((record.client.clone(), key.clone()), record.id);
        }
        let kept = record.respond_async.then(|| KeepAlive::new(needed.subscribe()));
        let live = LiveJob {
            purchases,
            pictures,
            quota,
            progress: Arc::new(progress),
            needed: Arc::new(needed),
            kept,
            start_by,
            expected_start,
            abandoned: false,
            record,
        };
        self.live.insert(live.record.id, live);
        WaiterSlot { progress: receiver, keep_alive: KeepAlive::new(waits) }
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

    /// The live job of a client's key, which must be for the same request.
    fn keyed(
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

    /// The newest live job of the fingerprint that the request may join.
    fn joinable(&self, fingerprint: Fingerprint, policy: ReusePolicy) -> Option<JobId> {
        let jobs = self.by_fingerprint.get(&fingerprint)?;
        jobs.iter()
            .rev()
            .filter_map(|job| self.live.get(job))
            .find(|live| policy.may_join(LiveCandidate { has_waiters: live.has_waiters() }))
            .map(|live| live.record.id)
    }
}
