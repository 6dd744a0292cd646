//! From an accepted prediction to its pictures: one scheduler for all polls, then fetch, check, store, journal.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::Core;
use super::jobs::{End, Followed};
use super::life::{AfterFetch, AfterPoll, FetchTrouble, after_fetch};
use crate::budget::{Poll, Reservation};
use crate::model::{AccountId, Failure, PurchaseId, StoredPicture, UpstreamId, Usage, Usd};
use crate::polling::latency::LatencyClass;
use crate::polling::planner::PollPlanner;
use crate::polling::queue::PollQueue;
use crate::storage::journal::Record;
use crate::storage::results::ResultsError;
use crate::upstream::{FetchError, Finished, Output, PollError, Polled};

/// When a prediction is to be asked for, with whose key, and how likely it is done then.
#[derive(Debug)]
pub(super) struct Due {
    at: Instant,
    purchase: PurchaseId,
    /// Of the plans for this prediction; only the last counts.
    plan: u32,
    account: AccountId,
    rng: f64,
}

/// What a plan stands beside.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// Nothing is planned.
    First,
    /// It replaces a later one.
    Sooner,
}

/// A prediction that was found done for the first time: it ended after it was last found working, and by now.
#[derive(Debug)]
struct Completed {
    class: LatencyClass,
    working_at: Duration,
    took: Duration,
    polls: u32,
}

impl Completed {
    /// `None` for one found done before, and for one that ended while the gateway was away: nobody knows when.
    fn of(followed: &Followed) -> Option<Self> {
        let seen = !followed.resumed || !followed.working_at.is_zero();
        (seen && !followed.found_done).then(|| Self {
            class: followed.class.clone(),
            working_at: followed.working_at,
            took: followed.accepted.elapsed(),
            polls: followed.following.polls + 1,
        })
    }
}

/// Growth of the pause from one trouble to the next.
const BACKOFF: f64 = 1.5;
/// What other clients poll by, to tell how many polls were saved (`wire/gptproto.md` §7).
const FIXED_INTERVAL_S: f64 = 2.5;

/// Outputs of one prediction that are looked at; more than any model makes.
const OUTPUTS_MAX: usize = 16;

/// The one scheduler: polls by their time, then by what the budget of their account lets through, the likeliest first;
/// and a bound on polls under way.
pub(super) async fn schedule(core: Arc<Core>, mut announced: mpsc::UnboundedReceiver<Due>) {
    let polls = Arc::new(Semaphore::new(core.settings.polls_max));
    let mut schedule = PollQueue::new(core.planner.longest_interval);
    // Names of the configuration, and so a short list.
    let mut accounts: Vec<AccountId> = Vec::new();
    let mut permit: Option<OwnedSemaphorePermit> = None;
    loop {
        let now = Instant::now();
        // What was planned anew, or has ended, must not take up budget.
        schedule.advance_if(now, |&(purchase, plan)| core.is_planned(purchase, plan));
        let mut next = schedule.next_due();
        let mut waits_for_permit = false;
        let (mut ready, mut polled) = (0, 0);
        for (index, account) in accounts.iter().enumerate() {
            while schedule.ready(index) > 0 {
                let Some(held) = permit.take().or_else(|| Arc::clone(&polls).try_acquire_owned().ok()) else {
                    waits_for_permit = true;
                    break;
                };
                match core.budget.reserve_poll(account) {
                    Ok(reservation) => {
                        // A plan may have been made void since; the next one then takes the reservation.
                        let mut popped = std::iter::from_fn(|| schedule.pop_ready(index, now));
                        let begun = popped.find(|&(purchase, plan)| core.begin_poll(purchase, plan));
                        let Some((purchase, _)) = begun else { break };
                        polled += 1;
                        let core = Arc::clone(&core);
                        core.lifecycle.clone().spawn_service("poll", async move {
                            core.poll(purchase, reservation).await;
                            drop(held);
                        });
                    }
                    Err(at) => {
                        permit = Some(held);
                        next = Some(next.map_or(at, |next| next.min(at)));
                        break;
                    }
                }
            }
            ready += schedule.ready(index);
        }
        core.scarcity.lock().unwrap_or_else(PoisonError::into_inner).tell(now, ready, polled);
        if !waits_for_permit {
            permit = None;
        }
        tokio::select! {
            biased;
            due = announced.recv() => match due {
                Some(Due { at, purchase, plan, account, rng }) => {
                    let index = accounts.iter().position(|known| *known == account).unwrap_or_else(|| {
                        accounts.push(account);
                        accounts.len() - 1
                    });
                    schedule.push(at, (purchase, plan), index, rng);
                }
                None => return,
            },
            acquired = Arc::clone(&polls).acquire_owned(), if waits_for_permit => permit = acquired.ok(),
            () = sleep_until(next) => {}
        }
    }
}

async fn sleep_until(next: Option<Instant>) {
    match next {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Core {
    /// Asks for a prediction as soon as the budget lets through: while the gateway was away it may well have ended.
    pub(super) fn poll_soon(&self, purchase: PurchaseId) {
        if let Some((plan, account)) =
            self.jobs.followed(purchase, |followed| (followed.plan(None), followed.account.clone()))
        {
            let _ = self.due.send(Due { at: Instant::now(), purchase, plan, account, rng: 1.0 });
        }
    }

    /// Plans the next poll of an accepted prediction.
    pub(super) fn poll_later(&self, purchase: PurchaseId) {
        self.plan(purchase, Plan::First);
    }

    /// Plans the next polls of all predictions of a class anew that wait for theirs: sooner, or not at all. A poll that
    /// has become too early costs little, and nobody may be put off time after time.
    async fn plan_anew(&self, class: &LatencyClass) {
        for purchase in self.jobs.waiting(class, Instant::now()) {
            self.plan(purchase, Plan::Sooner);
            // There may be very many.
            tokio::task::consume_budget().await;
        }
    }

    /// Whether that plan is the last one for a prediction that is still followed.
    fn is_planned(&self, purchase: PurchaseId, plan: u32) -> bool {
        self.jobs.followed(purchase, |followed| followed.plan == plan).unwrap_or_default()
    }

    /// Whether a prediction is to be asked for by that plan. From then on it is not planned anew until it has been.
    fn begin_poll(&self, purchase: PurchaseId, plan: u32) -> bool {
        let begun = self.jobs.followed(purchase, |followed| {
            let begun = followed.plan == plan;
            if begun {
                followed.planned = None;
            }
            begun
        });
        begun.unwrap_or_default()
    }

    fn plan(&self, purchase: PurchaseId, kind: Plan) {
        let facts = self.jobs.followed(purchase, |followed| {
            let Followed { class, account, accepted, working_at, troubles, plan, .. } = followed;
            (class.clone(), account.clone(), *accepted, *working_at, *troubles, *plan)
        });
        let Some((class, account, accepted, working_at, troubles, before)) = facts else { return };
        let now = Instant::now();
        let age = now.saturating_duration_since(accepted);
        let scarcity = self.scarcity.lock().unwrap_or_else(PoisonError::into_inner).multiplier();
        let mut latencies = self.latencies();
        let known = latencies.known(&class);
        let planned = self.planner.next(known, working_at, age, scarcity);
        // Whatever it is that is in trouble, it is left alone for longer each time.
        let next = if troubles > 0 { planned.max(age + self.backoff(troubles)) } else { planned };
        let rng = self.planner.chance_done(known, working_at, next);
        drop(latencies);
        let at = accepted.checked_add(next).unwrap_or(now + self.planner.longest_interval);
        let number = self.jobs.followed(purchase, |followed| {
            let wanted = match kind {
                Plan::First => true,
                // Meanwhile it may have been asked for.
                Plan::Sooner => {
                    let still_waits = followed.plan == before && followed.waits(now);
                    still_waits && followed.planned.is_some_and(|planned| at < planned)
                }
            };
            wanted.then(|| followed.plan(Some(at)))
        });
        let Some(plan) = number.flatten() else { return };
        // The scheduler is gone only when the process ends, and then the journal remembers.
        let _ = self.due.send(Due { at, purchase, plan, account, rng });
    }

    /// The pause after so many troubles in a row.
    pub(super) fn backoff(&self, troubles: u32) -> Duration {
        let PollPlanner { min_interval, longest_interval, .. } = self.planner;
        let grown = min_interval.as_secs_f64() * BACKOFF.powi(i32::try_from(troubles - 1).unwrap_or(i32::MAX));
        // Spread, so that those that met the same trouble do not come back together.
        let spread = 1.0 + 0.1 * self.rng.fraction();
        Duration::try_from_secs_f64(grown * spread).unwrap_or(longest_interval).min(longest_interval)
    }

    async fn poll(self: &Arc<Self>, purchase: PurchaseId, reservation: Reservation<Poll>) {
        let asked = self.jobs.followed(purchase, |followed| {
            (followed.following.handle.clone(), followed.account.clone(), followed.accepted.elapsed())
        });
        let Some((handle, account, asked_at)) = asked else { return };
        let result = self.upstream.poll(reservation, &handle).await;
        self.metrics.polled(result.as_ref().err());
        match &result {
            Ok(_) => self.budget.poll_answered(&account),
            Err(error) => tracing::debug!(%purchase, %account, ?error, "poll"),
        }
        let deadline = self.settings.deadline;
        let mut completed = None;
        let decided = self.jobs.followed(purchase, |followed| {
            match &result {
                Ok(Polled::Working) => (followed.working_at, followed.troubles) = (asked_at, 0),
                Ok(Polled::Finished(_)) => {
                    followed.in_flight = None;
                    completed = Completed::of(followed);
                    followed.found_done = true;
                }
                // Those that are refused are slowed down by the budget, all of them.
                Ok(Polled::Failed(_)) | Err(PollError::Refused { .. }) => {}
                Ok(Polled::Empty) | Err(PollError::Trouble { .. }) => {
                    followed.troubles = followed.troubles.saturating_add(1);
                }
            }
            followed.following.after_poll(result, followed.accepted.elapsed() >= deadline)
        });
        if let Some(completed) = completed
            && self.learn(&completed)
        {
            // In a task of its own: it may concern many predictions.
            let core = Arc::clone(self);
            self.lifecycle.spawn_service("plan anew", async move { core.plan_anew(&completed.class).await });
        }
        match decided {
            None => {}
            Some(AfterPoll::PollAgain) => self.poll_later(purchase),
            Some(AfterPoll::PushedBack { retry_after }) => {
                self.budget.poll_refused(&account, retry_after);
                self.poll_later(purchase);
            }
            Some(AfterPoll::Collect(finished)) => {
                // In a task of its own: a slow download must not hold up polls.
                let core = Arc::clone(self);
                self.lifecycle.spawn_service("collect", async move { core.collect(purchase, finished).await });
            }
            Some(AfterPoll::End(failure)) => self.end(purchase, failure).await,
        }
    }

    /// Learns from a completion. Returns whether that shifted what is known of its class. Not for the lock of the
    /// orders: it takes a while.
    fn learn(&self, Completed { class, working_at, took, polls }: &Completed) -> bool {
        self.metrics.planned(*polls, took.as_secs_f64() / FIXED_INTERVAL_S);
        self.latencies().observe(class, *working_at, *took)
    }

    /// Fetches the outputs of a finished prediction and settles it, or asks again for fresh addresses.
    pub(super) async fn collect(self: &Arc<Self>, purchase: PurchaseId, finished: Finished) {
        let (stored, trouble) = self.fetch_all(finished.outputs).await;
        let deadline = self.settings.deadline;
        let decided = self.jobs.followed(purchase, |followed| {
            let expired = followed.accepted.elapsed() >= deadline;
            if trouble.is_some() {
                followed.troubles = followed.troubles.saturating_add(1);
            }
            let next = after_fetch(stored.len(), trouble, expired);
            (next, followed.following.handle.id.clone(), followed.accepted)
        });
        let Some((next, upstream, accepted)) = decided else {
            return;
        };
        match next {
            AfterFetch::Resolve => self.resolve(purchase, Some(upstream), stored, finished.usage, accepted).await,
            AfterFetch::PollAgain => self.poll_later(purchase),
            AfterFetch::End(failure) => self.end(purchase, failure).await,
        }
    }

    /// Fetches, checks and stores outputs, in their order; with the trouble of one that failed.
    pub(super) async fn fetch_all(&self, outputs: Vec<Output>) -> (Vec<StoredPicture>, Option<FetchTrouble>) {
        let fetched = join_all(outputs.into_iter().take(OUTPUTS_MAX).map(|output| self.fetch(output))).await;
        let mut stored = Vec::new();
        let mut trouble = None;
        for result in fetched {
            match result {
                Ok(picture) => stored.push(picture),
                Err(problem) => {
                    tracing::warn!(?problem, "an output could not be stored");
                    trouble = Some(problem);
                }
            }
        }
        (stored, trouble)
    }

    async fn fetch(&self, output: Output) -> Result<StoredPicture, FetchTrouble> {
        let timeout = self.settings.download_timeout;
        let late = |_| Err(FetchTrouble::Upstream("the download took too long".to_owned()));
        tokio::time::timeout(timeout, self.fetch_once(output)).await.unwrap_or_else(late)
    }

    async fn fetch_once(&self, output: Output) -> Result<StoredPicture, FetchTrouble> {
        let upstream = |error: FetchError| FetchTrouble::Upstream(error.to_string());
        let mut bytes = self.upstream.fetch(output).await.map_err(upstream)?;
        let bytes_max = self.settings.picture_bytes_max;
        let mut writer = self.results.write(bytes_max);
        while let Some(chunk) = bytes.next().await {
            writer.push(chunk.map_err(upstream)?).await?;
        }
        Ok(writer.finish().await?)
    }

    /// Journals pictures that are on disk, and hands them to the waiters.
    pub(super) async fn resolve(
        &self,
        purchase: PurchaseId,
        upstream: Option<UpstreamId>,
        pictures: Vec<StoredPicture>,
        usage: Option<Usage>,
        accepted: Instant,
    ) {
        let at = self.clock.now();
        let record = Record::Resolved { purchase, pictures: pictures.clone(), usage, at };
        if self.results.failed() {
            // Left as accepted: a restart fetches the pictures anew, should these not have survived.
            tracing::warn!(%purchase, "a result may not survive; it is delivered all the same");
        } else if let Err(error) = self.journal.append(record).await {
            tracing::error!(%purchase, %error, "a result could not be journalled; it is delivered all the same");
        }
        if let Some(record) = self.jobs.record(purchase.job) {
            let price = self.catalogue.find(&record.model).map(|model| model.price.of(pictures.len(), usage.as_ref()));
            self.jobs.settle_quota(purchase, pictures.len(), price.unwrap_or_default());
            self.metrics.resolved(&record.model, pictures.len(), price, accepted.elapsed());
            tracing::info!(
                %purchase,
                client = %record.client,
                model = record.model.as_str(),
                pictures = pictures.len(),
                seconds = rounded(accepted.elapsed().as_secs_f64(), 1000.0),
                usd = price.map(|price| rounded(price.0, 1e6)),
                "resolved"
            );
        }
        self.settle(purchase, End::Pictures { upstream, pictures, usage, at });
    }

    /// Journals that a prediction ended without pictures, and tells the waiters.
    pub(super) async fn end(&self, purchase: PurchaseId, failure: Failure) {
        let record = Record::Failed { purchase, failure: failure.clone(), at: self.clock.now() };
        if let Err(error) = self.journal.append(record).await {
            tracing::error!(%purchase, ?failure, %error, "an end could not be journalled");
        }
        if let Some(record) = self.jobs.record(purchase.job) {
            let wanted = self.jobs.wanted(purchase);
            let usd = self.estimate(&record.model, wanted);
            // What may have been paid counts as paid.
            let (spent, made) = if failure.may_have_been_bought() { (usd, wanted) } else { (Usd::default(), 0) };
            self.jobs.settle_quota(purchase, usize::from(made), spent);
            self.metrics.ended(&failure, usd);
            let Usd(usd) = usd;
            let (client, failure_name) = (&record.client, failure.name());
            if failure.may_have_been_bought() {
                let upstream = self.jobs.followed(purchase, |followed| followed.following.handle.id.to_string());
                tracing::warn!(%purchase, upstream, %client, failure = failure_name, usd, "ended without a picture");
            } else {
                tracing::info!(%purchase, %client, failure = failure_name, "ended without a picture");
            }
        }
        self.settle(purchase, End::Failure(failure));
    }

    /// Ends a prediction in memory; with the last of an order, the order.
    pub(super) fn settle(&self, purchase: PurchaseId, end: End) {
        let Some(ended) = self.jobs.end(purchase, end) else {
            return;
        };
        if let Ok(delivery) = &ended.outcome
            && ended.record.shareable
            && delivery.missing == 0
            && self.settings.cache == crate::config::CacheMode::On
        {
            self.remember(ended.record.fingerprint, delivery, Duration::ZERO, false);
        }
        let job = ended.record.id;
        ended.publish();
        // After the outcome is there for all to see: whoever subscribes from now on sees it.
        self.completion_listener.ended(job);
    }
}

impl From<ResultsError> for FetchTrouble {
    fn from(error: ResultsError) -> Self {
        match error {
            ResultsError::InvalidPicture(_) | ResultsError::TooLarge { .. } => Self::Upstream(error.to_string()),
            ResultsError::Io(_) => Self::Storage(error.to_string()),
        }
    }
}

/// A figure for people: so many parts of one are enough.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
