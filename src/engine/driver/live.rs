//! What the driver holds for each live job: the channel to its waiters, its part of the quota, its slots in the queue
//! and in flight. Each is released when it is dropped.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, MutexGuard};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::report::{log_end, log_format, log_id_conflict, log_refetch, log_surplus};
use super::{Driver, State};
use crate::budget::{InFlightPermit, QueueSlot, Reservation, Submit};
use crate::engine::cache::waiters::RefetchMark;
use crate::engine::jobs::event::{EndedPurchase, Event, ProgressChange, RefetchResult};
use crate::engine::jobs::{JobStage, Jobs, ListOutcome, LiveView, NewJob, RecoveredJob, refetched};
use crate::engine::reuse::ReusePolicy;
use crate::input_urls::InputUrlGuards;
use crate::model::{
    ClientId, Credential, Failure, JobId, JobResult, PictureRequest, PurchaseId, PurchaseResult, QuotaHold, UpstreamId,
};
use crate::storage::journal::{JobRecord, StoredJob};
use crate::upstream::formats::FormatChange;

/// The state under its lock. What it lets go of is dropped and logged after the lock is released, since that may block.
pub(super) struct StateGuard<'a> {
    /// `None` once the lock is released.
    state: Option<MutexGuard<'a, State>>,
    deferred: Vec<Deferred>,
}

/// What is done after the lock is released.
pub(super) enum Deferred {
    /// The inputs of a submit are released.
    Release(Submission),
    /// What was held for a job is released.
    ReleaseJob(LiveJob),
    /// The end of a purchase is logged.
    Log(Box<EndedPurchase>),
    /// That the upstream gave a purchase the id of another one is logged.
    LogIdConflict { purchase: PurchaseId, upstream: UpstreamId, other: PurchaseId },
    /// That the upstream made more outputs than were asked of a purchase is logged.
    LogSurplus { purchase: PurchaseId, asked: u8, surplus: usize },
    /// The result of fetching stored pictures again is logged.
    LogRefetch { purchase: PurchaseId, upstream: Option<UpstreamId>, result: RefetchResult },
    /// A change of what is known of request formats is logged.
    LogFormat(FormatChange),
}

/// What the driver holds for the live jobs.
#[derive(Debug, Default)]
pub(super) struct LiveJobs {
    jobs: HashMap<JobId, LiveJob>,
}

/// What the driver holds for a live job.
#[derive(Debug)]
pub(super) struct LiveJob {
    progress: watch::Sender<Progress>,
    shown: ReportedPercent,
    /// The part of its client's quota that is reserved for it; `None` for a job that buys nothing.
    quota: Option<Box<dyn QuotaHold>>,
    purchases: Vec<LivePurchase>,
    /// Keeps the pictures of a job that are fetched again.
    refetched: Option<RefetchMark>,
}

/// What the driver holds for a purchase.
#[derive(Debug, Default)]
pub(super) struct LivePurchase {
    /// Until it is submitted no more.
    pub(super) submission: Option<Submission>,
    /// Keep its input pictures published until its job has ended, where they were sent as URLs.
    pub(super) input_urls: InputUrlGuards,
    /// From the grant until the upstream is done with it.
    pub(super) in_flight: Option<InFlightPermit>,
    /// Lets the last byte of its submit leave, or breaks the submit off.
    pub(super) last_byte: Option<oneshot::Sender<bool>>,
}

/// What a purchase is submitted with.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) request: Arc<PictureRequest>,
    credential: Option<Arc<dyn Credential>>,
    pub(super) slot: QueueSlot,
    /// From the grant until the submit.
    pub(super) reservation: Option<Reservation<Submit>>,
}

/// A new job, with its slots in the queue.
#[derive(Debug)]
pub(in crate::engine) struct QueuedJob {
    pub(in crate::engine) job: NewJob,
    pub(in crate::engine) request: PictureRequest,
    pub(in crate::engine) credential: Option<Arc<dyn Credential>>,
    pub(in crate::engine) slots: Vec<QueueSlot>,
    pub(in crate::engine) quota: Box<dyn QuotaHold>,
}

/// What waiters see of a job.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Progress {
    pub(in crate::engine) stage: JobStage,
    /// The job is in the journal.
    pub(in crate::engine) recorded: bool,
    /// The upstream's ids of its purchases, as they become known.
    pub(in crate::engine) upstream: Vec<UpstreamId>,
    /// The results of its purchases, in the order in which they arrived.
    pub(in crate::engine) results: Vec<PurchaseResult>,
    pub(in crate::engine) outcome: Option<Result<Arc<JobResult>, Failure>>,
}

/// The highest percentage of a job that was shown: estimates change, and what is shown never goes back.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct ReportedPercent(Arc<AtomicU8>);

/// A live job as its client sees it.
#[derive(Debug)]
pub(in crate::engine) struct ObservedJob {
    pub(in crate::engine) view: LiveView,
    pub(in crate::engine) progress: watch::Receiver<Progress>,
    pub(in crate::engine) shown: ReportedPercent,
    /// The place in the queue of its first purchase that waits there: 1 for the next.
    pub(in crate::engine) queue_position: Option<usize>,
}

/// A live job that a request waits for.
#[derive(Debug)]
pub(in crate::engine) struct Joined {
    pub(in crate::engine) record: Arc<JobRecord>,
    /// It was listed for this request.
    pub(in crate::engine) is_new: bool,
    pub(in crate::engine) progress: watch::Receiver<Progress>,
    pub(in crate::engine) keep_alive: KeepAlive,
}

/// The result of listing a job.
#[derive(Debug)]
pub(in crate::engine) enum Listed {
    /// It is listed, or a live job is joined.
    Joined(Joined),
    /// An equal job has ended meanwhile: look for stored answers, then list it again.
    LookAgain(Box<QueuedJob>),
}

/// Keeps a job needed for as long as this exists.
#[derive(Debug)]
pub(in crate::engine) struct KeepAlive {
    driver: Arc<Driver>,
    job: JobId,
}

impl Submission {
    /// Whether the key of its client is still valid.
    pub(super) fn is_permitted(&self) -> bool {
        self.credential.as_ref().is_none_or(|credential| credential.is_valid())
    }
}

impl ReportedPercent {
    /// Returns this percentage, or the one that was shown before if that is higher.
    pub(in crate::engine) fn show(&self, percent: u8) -> u8 {
        self.0.fetch_max(percent, Ordering::Relaxed).max(percent)
    }
}

impl<'a> StateGuard<'a> {
    pub(super) fn new(state: MutexGuard<'a, State>) -> Self {
        Self { state: Some(state), deferred: Vec::new() }
    }

    pub(super) fn defer(&mut self, what: impl IntoIterator<Item = Deferred>) {
        self.deferred.extend(what);
    }
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.state.as_ref().expect("the lock is held until this is dropped")
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("the lock is held until this is dropped")
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        self.state = None;
        for what in self.deferred.drain(..) {
            match what {
                Deferred::Release(submission) => drop(submission),
                Deferred::ReleaseJob(live) => drop(live),
                Deferred::Log(ended) => log_end(&ended),
                Deferred::LogIdConflict { purchase, upstream, other } => log_id_conflict(purchase, &upstream, other),
                Deferred::LogSurplus { purchase, asked, surplus } => log_surplus(purchase, asked, surplus),
                Deferred::LogRefetch { purchase, upstream, result } => log_refetch(purchase, upstream.as_ref(), result),
                Deferred::LogFormat(change) => log_format(&change),
            }
        }
    }
}

impl LiveJobs {
    pub(super) fn purchase(&mut self, purchase: PurchaseId) -> Option<&mut LivePurchase> {
        self.jobs.get_mut(&purchase.job)?.purchases.get_mut(usize::from(purchase.slot))
    }

    /// Returns whether the stored pictures of a job are fetched again.
    pub(super) fn is_refetched(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|live| live.refetched.is_some())
    }

    pub(super) fn quota(&self, job: JobId) -> Option<&dyn QuotaHold> {
        self.jobs.get(&job)?.quota.as_deref()
    }

    /// Shows the waiters a change.
    pub(super) fn publish(&self, job: JobId, change: ProgressChange) {
        let Some(live) = self.jobs.get(&job) else { return };
        live.progress.send_modify(|progress| match change {
            ProgressChange::Stage(stage) => progress.stage = stage,
            ProgressChange::Recorded => progress.recorded = true,
            ProgressChange::Upstream(upstream) => progress.upstream.push(upstream),
            ProgressChange::Result(result) => progress.results.push(result),
        });
    }

    /// Answers the waiters of a job that has ended. Returns what was held for it.
    pub(super) fn end(&mut self, job: JobId, outcome: Result<Arc<JobResult>, Failure>) -> Option<LiveJob> {
        let live = self.jobs.remove(&job)?;
        live.progress.send_modify(|progress| progress.outcome = Some(outcome));
        Some(live)
    }

    fn insert(&mut self, job: JobId, quota: Box<dyn QuotaHold>, purchases: Vec<LivePurchase>) {
        let (progress, shown) = (watch::Sender::default(), ReportedPercent::default());
        self.jobs.insert(job, LiveJob { progress, shown, quota: Some(quota), purchases, refetched: None });
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.driver.handle(Event::WaiterLeft { job: self.job });
    }
}

/// What requests and clients ask of the live jobs.
impl Driver {
    /// Joins a live job, if `find` finds one.
    ///
    /// # Errors
    ///
    /// Those of `find`.
    pub(in crate::engine) fn join(
        self: &Arc<Self>,
        find: impl FnOnce(&mut Jobs) -> Result<Option<Arc<JobRecord>>, Failure>,
    ) -> Result<Option<Joined>, Failure> {
        let mut state = self.lock();
        let found = find(&mut state.jobs)?;
        self.carry_out(&mut state, Vec::new());
        Ok(found.and_then(|record| joined(self, &state, record, false)))
    }

    /// Lists a job, whose purchases then wait for the budget; or joins a live one that serves the request.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`], and the reason why nothing is bought any more.
    pub(in crate::engine) fn list_or_join(
        self: &Arc<Self>,
        queued: QueuedJob,
        policy: ReusePolicy,
        seen: u64,
    ) -> Result<Listed, Failure> {
        let QueuedJob { job, request, credential, slots, quota } = queued;
        let record = Arc::clone(&job.record);
        let mut state = self.lock();
        let (record, is_new, effects) = match state.jobs.list_or_join(job, policy, seen)? {
            ListOutcome::LookAgain(job) => {
                drop(state);
                return Ok(Listed::LookAgain(Box::new(QueuedJob { job: *job, request, credential, slots, quota })));
            }
            ListOutcome::Joined(other) => (other, false, Vec::new()),
            ListOutcome::New(effects) => {
                let request = Arc::new(request);
                let purchases = slots.into_iter().map(|slot| {
                    let (request, credential) = (Arc::clone(&request), credential.clone());
                    let submission = Some(Submission { request, credential, slot, reservation: None });
                    LivePurchase { submission, ..LivePurchase::default() }
                });
                state.live.insert(record.id, quota, purchases.collect());
                (record, true, effects)
            }
        };
        self.carry_out(&mut state, effects);
        // A listed job has its resources.
        joined(self, &state, record, is_new).map(Listed::Joined).ok_or(Failure::Stopping)
    }

    /// Lists a job that was under way before the gateway started, with the slots in flight of its purchases.
    pub(super) fn restore(
        self: &Arc<Self>,
        recovered: RecoveredJob,
        adopted: Vec<(PurchaseId, InFlightPermit)>,
        quota: Box<dyn QuotaHold>,
    ) {
        let mut purchases: Vec<LivePurchase> = Vec::new();
        purchases.resize_with(recovered.purchases(), LivePurchase::default);
        for (purchase, permit) in adopted {
            purchases[usize::from(purchase.slot)].in_flight = Some(permit);
        }
        let mut state = self.lock();
        state.live.insert(recovered.record.id, quota, purchases);
        let effects = state.jobs.restore(recovered, self.now());
        self.carry_out(&mut state, effects);
    }

    /// Begins to fetch the damaged pictures of a stored job again, or joins the refetch that is under way. Nothing is bought,
    /// so no quota and no slot is held.
    ///
    /// # Errors
    ///
    /// [`Failure::ResultLost`] when the pictures cannot be fetched again, by what is known already.
    pub(in crate::engine) fn refetch(
        self: &Arc<Self>,
        stored: StoredJob,
        damaged: &[PurchaseId],
    ) -> Result<Joined, Failure> {
        let job = stored.record.id;
        if let Some(failure) = self.cache.damaged.lost(job) {
            return Err(failure);
        }
        let listed = refetched(stored, damaged, &self.cache.rules, self.now()).inspect_err(|failure| {
            tracing::error!(%job, failure = failure.text(), "a stored picture is lost; the request fails, and nothing is bought");
        })?;
        let mut purchases: Vec<LivePurchase> = Vec::new();
        purchases.resize_with(listed.purchases(), LivePurchase::default);
        let mut state = self.lock();
        let (record, effects) = state.jobs.refetch(listed, self.now());
        let is_new = effects.is_some();
        if let Some(effects) = effects {
            let mark = Some(self.cache.waiters.mark_refetched(job));
            let (progress, shown) = (watch::Sender::default(), ReportedPercent::default());
            let live = LiveJob { progress, shown, quota: None, purchases, refetched: mark };
            state.live.jobs.insert(job, live);
            self.carry_out(&mut state, effects);
        }
        joined(self, &state, record, is_new).ok_or(Failure::Stopping)
    }

    /// Returns those of these jobs of a client that are live.
    pub(in crate::engine) fn views(
        &self,
        client: &ClientId,
        jobs: impl IntoIterator<Item = JobId>,
    ) -> HashMap<JobId, ObservedJob> {
        let state = self.lock();
        jobs.into_iter().filter_map(|job| Some((job, observed(&state, client, job)?))).collect()
    }
}

fn observed(state: &State, client: &ClientId, job: JobId) -> Option<ObservedJob> {
    let view = state.jobs.table.view(client, job, Instant::now().into_std())?;
    let live = state.live.jobs.get(&job)?;
    let queued = live.purchases.iter().filter_map(|purchase| purchase.submission.as_ref()?.slot.place());
    let queue_position = if view.stage == JobStage::Queued { queued.min() } else { None };
    Some(ObservedJob { view, progress: live.progress.subscribe(), shown: live.shown.clone(), queue_position })
}

fn joined(driver: &Arc<Driver>, state: &State, record: Arc<JobRecord>, is_new: bool) -> Option<Joined> {
    let progress = state.live.jobs.get(&record.id)?.progress.subscribe();
    let keep_alive = KeepAlive { driver: Arc::clone(driver), job: record.id };
    Some(Joined { record, is_new, progress, keep_alive })
}
