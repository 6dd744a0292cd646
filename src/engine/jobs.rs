//! The orders that are under way, in memory: one lock, held for a few steps and never over an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::life::Following;
use super::reuse::{LiveCandidate, ReusePolicy};
use super::{JobStage, Progress, Status, add_to, finish_delivery};
use crate::budget::InFlightPermit;
use crate::model::{
    AccountId, ClientId, Failure, Fingerprint, IdempotencyKey, JobId, JobResult, PurchaseId, PurchaseResult, QuotaHold,
    StoredPicture, Timestamp, UpstreamId, Usage, Usd,
};
use crate::polling::latency::LatencyClass;
use crate::storage::journal::JobRecord;

mod owner;

pub(super) use owner::{Forgotten, LiveView, OpenPart};

#[derive(Debug, Default)]
pub(super) struct Jobs {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    live: HashMap<JobId, Live>,
    by_fingerprint: HashMap<Fingerprint, Vec<JobId>>,
    by_key: HashMap<(ClientId, IdempotencyKey), JobId>,
    /// How many tickets there are for an order, also after it has ended.
    waiters: HashMap<JobId, usize>,
}

/// An order that is under way.
#[derive(Debug)]
struct Live {
    record: Arc<JobRecord>,
    slots: Vec<Slot>,
    /// What each of its predictions was to make.
    parts: Vec<u8>,
    /// What of its client's quota is reserved for it.
    quota: Box<dyn QuotaHold>,
    progress: Arc<watch::Sender<Progress>>,
    /// Whoever wants the order, connected or not, holds a receiver of this; whoever only looks at it does not.
    wanted: Arc<watch::Sender<()>>,
    /// Its client comes back for it: wanted until it ends, or until its client says otherwise.
    kept: Option<KeepAlive>,
    /// Until when a submit of it is of use to somebody who waits.
    start_by: Instant,
    /// When the first submit of it is expected to leave.
    expected_start: Instant,
    /// Nobody waited and nothing was bought: it is being dropped, and nobody joins it any more.
    abandoned: bool,
}

/// One prediction of a live order.
#[derive(Debug)]
pub(super) enum Slot {
    /// Waits for the budget.
    QueueSlot,
    /// A submit is under way.
    Submitting,
    /// The upstream works on it.
    Following(Box<Followed>),
    Ended(End),
}

/// An accepted prediction.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) following: Following,
    /// With whose key it was bought.
    pub(super) account: AccountId,
    /// When the upstream took it, on the monotonic clock.
    pub(super) accepted: Instant,
    /// Its place among the predictions in flight, until the upstream is done with it.
    pub(super) in_flight: Option<InFlightPermit>,
    /// What is known of how long such a prediction takes.
    pub(super) class: LatencyClass,
    /// The age at which it was last found working; zero when it never was.
    pub(super) working_at: Duration,
    /// It was accepted before the gateway started.
    pub(super) resumed: bool,
    /// A poll has found it done; its pictures are being fetched.
    pub(super) found_done: bool,
    /// Polls and fetches in a row that brought trouble.
    pub(super) troubles: u32,
    /// Which of its plans for the next poll is the last; earlier ones are void.
    pub(super) plan: u32,
    /// When the next poll is planned, as long as it waits for that; none while it is asked for or fetched.
    pub(super) planned: Option<Instant>,
}

impl Followed {
    /// Makes a plan that voids those before; returns its number.
    pub(super) fn plan(&mut self, at: Option<Instant>) -> u32 {
        self.plan = self.plan.wrapping_add(1);
        self.planned = at;
        self.plan
    }

    /// Whether its next poll is planned for later than `now`, so that another time may be planned. One in trouble keeps
    /// its pause.
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.troubles == 0 && self.planned.is_some_and(|at| at > now)
    }
}

/// How a prediction ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Pictures { upstream: Option<UpstreamId>, pictures: Vec<StoredPicture>, usage: Option<Usage>, at: Timestamp },
    Failure(Failure),
}

/// What keeps an order wanted, as long as it is there.
#[derive(Debug)]
pub(super) struct KeepAlive {
    _wanted: watch::Receiver<()>,
}

/// What a request that waits for a live order has of it.
#[derive(Debug)]
pub(super) struct WaiterSlot {
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) interest: KeepAlive,
}

/// Until when an order is of use to whoever asks for it, and what is expected of its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) start_by: Instant,
    pub(super) expected_start: Instant,
}

/// What listing an order came to.
pub(super) enum Begun {
    Listed(WaiterSlot),
    /// A live order was there to be joined.
    Joined(JobId, WaiterSlot),
}

/// A live order that a request waits with.
pub(super) struct Joined {
    pub(super) record: Arc<JobRecord>,
    pub(super) seat: WaiterSlot,
}

/// Whether an order without a waiter is dropped.
enum Verdict {
    Abandoned,
    Bought,
    /// Somebody joined in the meantime.
    Wanted,
}

/// An order that has just ended, no longer in the table.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) record: Arc<JobRecord>,
    pub(super) outcome: Result<Arc<JobResult>, Failure>,
    progress: Arc<watch::Sender<Progress>>,
}

impl Ended {
    /// Wakes the waiters.
    pub(super) fn publish(self) {
        self.progress.send_modify(|progress| progress.outcome = Some(self.outcome));
    }
}

impl Jobs {
    /// Lists an order, all of whose predictions are queued, unless a live one is to be joined instead.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`].
    pub(super) fn begin(
        &self,
        record: Arc<JobRecord>,
        parts: Vec<u8>,
        quota: Box<dyn QuotaHold>,
        asker: ReusePolicy,
        times: Times,
    ) -> Result<Begun, Failure> {
        let mut table = self.lock();
        let by_key = match &record.idempotency_key {
            Some(key) => table.keyed(&record.client, key, record.fingerprint)?,
            None => None,
        };
        if let Some(job) = by_key.or_else(|| table.joinable(record.fingerprint, asker))
            && let Some(live) = table.live.get_mut(&job)
        {
            let Joined { record, seat } = live.joined(times.start_by);
            return Ok(Begun::Joined(record.id, seat));
        }
        let slots = std::iter::repeat_with(|| Slot::QueueSlot).take(parts.len()).collect();
        Ok(Begun::Listed(table.list(record, slots, parts, quota, times)))
    }

    /// Waits with the live order of a client's idempotency key.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`] when that order is for another request.
    pub(super) fn join_key(
        &self,
        client: &ClientId,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        start_by: Instant,
    ) -> Result<Option<Joined>, Failure> {
        let mut table = self.lock();
        let job = table.keyed(client, key, fingerprint)?;
        Ok(job.and_then(|job| table.live.get_mut(&job)).map(|live| live.joined(start_by)))
    }

    /// Lists an order that was under way before the gateway started.
    pub(super) fn adopt(&self, record: Arc<JobRecord>, slots: Vec<Slot>, parts: Vec<u8>, quota: Box<dyn QuotaHold>) {
        let upstream: Vec<UpstreamId> = slots.iter().filter_map(Slot::upstream).cloned().collect();
        let parts_so_far: Vec<PurchaseResult> = slots.iter().filter_map(Slot::part).collect();
        let mut table = self.lock();
        let job = record.id;
        let now = Instant::now();
        table.list(record, slots, parts, quota, Times { start_by: now, expected_start: now });
        if let Some(live) = table.live.get(&job) {
            live.progress.send_modify(|progress| {
                (progress.upstream, progress.parts, progress.recorded) = (upstream, parts_so_far, true);
            });
            live.show_stage();
        }
    }

    /// Waits with a live order where the rules say so.
    pub(super) fn join(&self, fingerprint: Fingerprint, asker: ReusePolicy, start_by: Instant) -> Option<Joined> {
        let mut table = self.lock();
        let job = table.joinable(fingerprint, asker)?;
        table.live.get_mut(&job).map(|live| live.joined(start_by))
    }

    /// Resolves when nothing of an order that is submitted now would be of use to anybody who waits for it.
    pub(super) async fn too_late(&self, job: JobId) {
        loop {
            let Some(start_by) = self.lock().live.get(&job).map(|live| live.start_by) else {
                return std::future::pending().await;
            };
            if start_by <= Instant::now() {
                return;
            }
            // Looked at again after the wait: somebody with more patience may have joined.
            tokio::time::sleep_until(start_by).await;
        }
    }

    /// Resolves when nobody waits for an order of which nothing is bought; it is then off the list.
    pub(super) async fn abandoned(&self, job: JobId) {
        loop {
            let Some(wanted) = self.lock().live.get(&job).map(|live| Arc::clone(&live.wanted)) else {
                return std::future::pending().await;
            };
            wanted.closed().await;
            match self.abandon(job) {
                Verdict::Abandoned => return,
                // What is bought is followed to its end, and so is the rest of the same order.
                Verdict::Bought => return std::future::pending().await,
                Verdict::Wanted => {}
            }
        }
    }

    fn abandon(&self, job: JobId) -> Verdict {
        let mut table = self.lock();
        let Some(live) = table.live.get_mut(&job) else {
            return Verdict::Bought;
        };
        if live.abandoned {
            return Verdict::Abandoned;
        }
        if live.is_bought() {
            return Verdict::Bought;
        }
        if live.wanted.receiver_count() > 0 {
            return Verdict::Wanted;
        }
        live.abandoned = true;
        let record = Arc::clone(&live.record);
        table.unlist(&record);
        Verdict::Abandoned
    }

    /// Begins a submit, unless the order was abandoned meanwhile.
    pub(super) fn start_submit(&self, purchase: PurchaseId) -> bool {
        let mut table = self.lock();
        match table.live.get_mut(&purchase.job) {
            Some(live) if !live.abandoned => {
                live.slots[usize::from(purchase.slot)] = Slot::Submitting;
                live.show_stage();
                true
            }
            _ => false,
        }
    }

    /// The submit did not take effect; the prediction waits for the budget again.
    pub(super) fn requeue(&self, purchase: PurchaseId) {
        if let Some(live) = self.lock().live.get_mut(&purchase.job) {
            live.slots[usize::from(purchase.slot)] = Slot::QueueSlot;
            live.show_stage();
        }
    }

    /// The upstream took the prediction.
    pub(super) fn follow(&self, purchase: PurchaseId, followed: Followed) {
        if let Some(live) = self.lock().live.get_mut(&purchase.job) {
            let upstream = followed.following.handle.id.clone();
            live.slots[usize::from(purchase.slot)] = Slot::Following(Box::new(followed));
            live.progress.send_modify(|progress| progress.upstream.push(upstream));
            live.show_stage();
        }
    }

    /// Looks at, and may change, what is remembered of an accepted prediction.
    pub(super) fn followed<T>(&self, purchase: PurchaseId, look: impl FnOnce(&mut Followed) -> T) -> Option<T> {
        let mut table = self.lock();
        match table.live.get_mut(&purchase.job)?.slots.get_mut(usize::from(purchase.slot))? {
            Slot::Following(followed) => Some(look(followed)),
            Slot::QueueSlot | Slot::Submitting | Slot::Ended(_) => None,
        }
    }

    /// The live predictions of a class whose next poll is planned for later than `now`.
    pub(super) fn waiting(&self, class: &LatencyClass, now: Instant) -> Vec<PurchaseId> {
        let table = self.lock();
        let slots =
            table.live.iter().flat_map(|(&job, live)| (0..).zip(&live.slots).map(move |(n, slot)| (job, n, slot)));
        let waiting = slots.filter_map(|(job, slot, state)| match state {
            Slot::Following(followed) if followed.class == *class && followed.waits(now) => {
                Some(PurchaseId { job, slot })
            }
            Slot::Following(_) | Slot::QueueSlot | Slot::Submitting | Slot::Ended(_) => None,
        });
        waiting.collect()
    }

    /// The model of a live order.
    pub(super) fn record(&self, job: JobId) -> Option<Arc<JobRecord>> {
        self.lock().live.get(&job).map(|live| Arc::clone(&live.record))
    }

    /// How many pictures a prediction of a live order was to make.
    pub(super) fn wanted(&self, purchase: PurchaseId) -> u8 {
        let table = self.lock();
        let parts = table.live.get(&purchase.job).map(|live| &live.parts);
        parts.and_then(|parts| parts.get(usize::from(purchase.slot))).copied().unwrap_or_default()
    }

    /// Replaces what was reserved for a prediction by what it came to.
    pub(super) fn settle_quota(&self, purchase: PurchaseId, pictures: usize, usd: Usd) {
        if let Some(live) = self.lock().live.get(&purchase.job) {
            live.quota.settle(pictures, usd);
        }
    }

    /// Ends a prediction; returns its order where that has ended with it, taken off the table.
    pub(super) fn end(&self, purchase: PurchaseId, end: End) -> Option<Ended> {
        let mut table = self.lock();
        let live = table.live.get_mut(&purchase.job)?;
        let slot = &mut live.slots[usize::from(purchase.slot)];
        *slot = Slot::Ended(end);
        if let Some(part) = slot.part() {
            live.progress.send_modify(|progress| progress.parts.push(part));
        }
        if !live.slots.iter().all(|slot| matches!(slot, Slot::Ended(_))) {
            live.show_stage();
            return None;
        }
        let live = table.live.remove(&purchase.job)?;
        table.unlist(&live.record);
        Some(Ended { outcome: live.outcome(), record: live.record, progress: live.progress })
    }

    /// Whether anything of an order is, or may be, bought. An order that has ended counts as bought.
    pub(super) fn is_bought(&self, job: JobId) -> bool {
        self.lock().live.get(&job).is_none_or(Live::is_bought)
    }

    /// Whether the answer to a submit of an order is still to come.
    pub(super) fn is_submitting(&self, job: JobId) -> bool {
        let table = self.lock();
        table.live.get(&job).is_some_and(|live| live.slots.iter().any(|slot| matches!(slot, Slot::Submitting)))
    }

    pub(super) fn hold(&self, job: JobId) {
        *self.lock().waiters.entry(job).or_default() += 1;
    }

    pub(super) fn release(&self, job: JobId) {
        let mut table = self.lock();
        if let Some(count) = table.waiters.get_mut(&job) {
            *count -= 1;
            if *count == 0 {
                table.waiters.remove(&job);
            }
        }
    }

    /// Takes hold of an order only if nobody else has.
    pub(super) fn hold_alone(&self, job: JobId) -> bool {
        let mut table = self.lock();
        let count = table.waiters.entry(job).or_default();
        let alone = *count == 0;
        if alone {
            *count = 1;
        }
        alone
    }

    pub(super) fn has_waiters(&self, job: JobId) -> bool {
        self.lock().waiters.contains_key(&job)
    }

    pub(super) fn count(&self) -> Status {
        let table = self.lock();
        let kept = table.live.values().filter(|live| live.kept.is_some()).count();
        let mut status = Status { waiters: table.waiters.values().sum::<usize>() + kept, ..Status::default() };
        for slot in table.live.values().flat_map(|live| &live.slots) {
            match slot {
                Slot::QueueSlot => status.queued += 1,
                Slot::Submitting => status.submitting += 1,
                Slot::Following(_) => status.following += 1,
                Slot::Ended(_) => {}
            }
        }
        status
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn list(
        &mut self,
        record: Arc<JobRecord>,
        slots: Vec<Slot>,
        parts: Vec<u8>,
        quota: Box<dyn QuotaHold>,
        Times { start_by, expected_start }: Times,
    ) -> WaiterSlot {
        let (progress, receiver) = watch::channel(Progress::default());
        let (wanted, interest) = watch::channel(());
        self.by_fingerprint.entry(record.fingerprint).or_default().push(record.id);
        if let Some(key) = &record.idempotency_key {
            self.by_key.insert((record.client.clone(), key.clone()), record.id);
        }
        let kept = record.respond_async.then(|| KeepAlive { _wanted: wanted.subscribe() });
        let (progress, wanted) = (Arc::new(progress), Arc::new(wanted));
        let live =
            Live { slots, parts, quota, progress, wanted, kept, start_by, expected_start, abandoned: false, record };
        self.live.insert(live.record.id, live);
        WaiterSlot { progress: receiver, interest: KeepAlive { _wanted: interest } }
    }

    fn unlist(&mut self, record: &JobRecord) {
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

    /// The live order of a client's key, which must be for the same request.
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

    /// The newest live order of the fingerprint that the asker may wait with.
    fn joinable(&self, fingerprint: Fingerprint, asker: ReusePolicy) -> Option<JobId> {
        let jobs = self.by_fingerprint.get(&fingerprint)?;
        jobs.iter()
            .rev()
            .filter_map(|job| self.live.get(job))
            .find(|live| asker.joins(LiveCandidate { has_waiters: live.wanted.receiver_count() > 0 }))
            .map(|live| live.record.id)
    }
}

impl Live {
    /// Somebody waits with it, for whom a submit is of use until `start_by`.
    fn joined(&mut self, start_by: Instant) -> Joined {
        self.start_by = self.start_by.max(start_by);
        let interest = KeepAlive { _wanted: self.wanted.subscribe() };
        Joined { record: Arc::clone(&self.record), seat: WaiterSlot { progress: self.progress.subscribe(), interest } }
    }

    /// Lets whoever looks on know where it stands.
    fn show_stage(&self) {
        let stage = self.stage();
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.stage, stage) != stage);
    }

    fn stage(&self) -> JobStage {
        let worked_on = |slot: &Slot| matches!(slot, Slot::Following(_) | Slot::Ended(End::Pictures { .. }));
        if self.slots.iter().any(worked_on) {
            JobStage::Processing
        } else if self.slots.iter().any(|slot| matches!(slot, Slot::Submitting)) {
            JobStage::Submitting
        } else {
            JobStage::QueueSlot
        }
    }

    fn is_bought(&self) -> bool {
        self.slots.iter().any(Slot::is_bought)
    }

    fn outcome(&self) -> Result<Arc<JobResult>, Failure> {
        let mut delivery = JobResult {
            job: self.record.id,
            purchases: Vec::new(),
            pictures: Vec::new(),
            missing: 0,
            usage: None,
            resolved: Timestamp::from_millis(0),
        };
        let mut failures = Vec::new();
        for slot in &self.slots {
            match slot {
                Slot::Ended(End::Pictures { upstream, pictures, usage, at }) => {
                    add_to(&mut delivery, upstream.as_ref(), pictures, *usage, *at);
                }
                Slot::Ended(End::Failure(failure)) => failures.push(failure),
                Slot::QueueSlot | Slot::Submitting | Slot::Following(_) => {}
            }
        }
        if let Some(delivery) = finish_delivery(delivery, self.record.n) {
            return Ok(Arc::new(delivery));
        }
        // What may have cost money is told first.
        failures.sort_by_key(|failure| std::cmp::Reverse(failure.severity()));
        Err(failures.first().map_or(Failure::Abandoned, |&failure| failure.clone()))
    }
}

impl Slot {
    fn is_bought(&self) -> bool {
        match self {
            Self::QueueSlot => false,
            Self::Submitting | Self::Following(_) | Self::Ended(End::Pictures { .. }) => true,
            Self::Ended(End::Failure(failure)) => failure.may_have_been_bought(),
        }
    }

    fn part(&self) -> Option<PurchaseResult> {
        match self {
            Self::Ended(End::Pictures { pictures, usage, at, .. }) => {
                Some(PurchaseResult { pictures: pictures.clone(), usage: *usage, resolved: *at })
            }
            Self::QueueSlot | Self::Submitting | Self::Following(_) | Self::Ended(End::Failure(_)) => None,
        }
    }

    fn upstream(&self) -> Option<&UpstreamId> {
        match self {
            Self::Following(followed) => Some(&followed.following.handle.id),
            Self::Ended(End::Pictures { upstream, .. }) => upstream.as_ref(),
            Self::QueueSlot | Self::Submitting | Self::Ended(End::Failure(_)) => None,
        }
    }
}
