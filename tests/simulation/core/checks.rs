//! What must hold, besides what the driver checks before each step.

use std::sync::Arc;

use super::live::{FollowUp, LiveJob};
use super::upstream::id_of;
use super::world::{History, World};
use crate::config::OnUnknown;
use crate::engine::jobs::Counts;
use crate::engine::jobs::event::{EndedPurchase, ProgressChange};
use crate::engine::jobs::job::outcome::{FailureScope, stored_failure, stored_result, unresolved_unknown};
use crate::engine::reuse::ReusePolicy;
use crate::model::{Failure, JobId, JobResult};
use crate::storage::journal::memory::has_ended;
use crate::storage::journal::{StoredJob, StoredPurchase, StoredState};

impl World {
    /// Nothing waits for its turn for a job without waiters, unless another purchase of it is bought.
    pub(super) fn check_needed(&mut self, job: JobId) {
        if let Some(live) = self.job(job)
            && !live.is_needed()
            && !live.may_be_bought()
            && live.has_waiting()
        {
            self.violate(format!("{job} has no waiter, and may still be bought"));
        }
    }

    /// Notes that a job is dropped: from now on nothing of it is bought, and no request joins it.
    pub(super) fn drop_job(&mut self, job: JobId) {
        let Some(live) = self.job(job) else { return };
        live.dropped = true;
        let (number, is_right) = (live.number, !live.is_needed() && !live.may_be_bought());
        self.histories[number].dropped = true;
        self.note("dropped", [number, 0], format_args!(""));
        self.check(is_right, || format!("{job} is dropped, although it is needed or bought"));
    }

    /// A careful client's request lists a new job only if nothing earlier answers it; but a first request that its own
    /// retry has overtaken buys again where the cache is off, since it looks like a deliberate second one.
    pub(super) fn check_new(&mut self, prompt: usize, policy: ReusePolicy) {
        if !self.prompts[prompt].is_careful || !(policy.cache_allowed || policy.is_retry) {
            return;
        }
        for number in 0..self.histories.len() {
            let History { id: job, prompt: of, dropped, .. } = self.histories[number];
            if of != prompt || dropped {
                continue;
            }
            let is_live = self.live.iter().any(|live| live.record.id == job && !live.refetched);
            let stored = self.journal.stored.get(&job);
            // A result with missing pictures answers retries only.
            let result = stored.and_then(stored_result);
            let has_pictures = result.is_some_and(|result| policy.is_retry || result.is_as_requested());
            let holds = self.rules.on_unknown == OnUnknown::Hold;
            // Also where other purchases of the job brought pictures.
            let is_unknown = stored.and_then(unresolved_unknown).is_some();
            self.check(!is_live, || format!("prompt {prompt} is bought again while {job} is under way"));
            self.check(!has_pictures, || format!("prompt {prompt} is bought again although {job} has pictures"));
            self.check(!(holds && is_unknown), || format!("prompt {prompt} is bought again after an unknown outcome"));
        }
    }

    /// Nothing is shown before it is in the journal.
    pub(super) fn publish(&mut self, job: JobId, news: &ProgressChange) {
        self.note("publish", [self.number(job), 0], format_args!("{news:?}"));
        let unlogged = self.is_unlogged(job);
        let stored = self.journal.stored.get(&job);
        let holds = match news {
            ProgressChange::Stage(_) => true,
            ProgressChange::Recorded => stored.is_some(),
            ProgressChange::Upstream(id) => {
                unlogged || stored.is_some_and(|stored| stored.purchases.iter().any(|one| knows(one, id)))
            }
            ProgressChange::Result(result) => {
                unlogged
                    || stored.is_some_and(|stored| {
                        stored.purchases.iter().any(|one| {
                matches!(&one.state, StoredState::Resolved { pictures, .. } if *pictures == result.pictures)
            })
                    })
            }
        };
        let Some(live) = self.job(job) else {
            return self.violate(format!("{news:?} of {job}, which is not live"));
        };
        live.recorded |= matches!(news, ProgressChange::Recorded);
        self.check(holds, || format!("{news:?} of {job} is shown before it is in the journal"));
        if matches!(news, ProgressChange::Recorded) {
            self.wake_recorded(job);
        }
    }

    /// A purchase ends once, holds nothing, and is in the journal.
    pub(super) fn end_purchase(&mut self, ended: &EndedPurchase) {
        let purchase = ended.purchase;
        let [job, slot] = self.about(purchase);
        self.note("end purchase", [job, slot], format_args!("{:?}", ended.result));
        let is_queued = self.budget.queue.contains(&purchase);
        let (now, deadline) = (self.instant(), self.rules.deadline);
        let is_stored = self.journal.state(purchase).is_some_and(has_ended);
        let unlogged = self.is_unlogged(purchase.job);
        if ended.result == Err(Failure::Abandoned) {
            self.drop_job(purchase.job);
        }
        let Some(live) = self.purchase(purchase) else {
            return self.violate(format!("{purchase} ends, and is not live"));
        };
        let is_given_up = live.lacks_pictures && ended.result.is_ok();
        let is_early = is_given_up && live.taken.is_some_and(|taken| now - taken < deadline);
        let holds_nothing = live.permit.is_none() && live.submission.is_none() && live.follow_up == FollowUp::Nothing;
        let is_first = !std::mem::replace(&mut live.has_ended, true);
        live.bought |= ended.result.as_ref().err().is_some_and(Failure::may_have_been_bought);
        self.check(is_first, || format!("{purchase} ends twice"));
        self.check(!is_early, || format!("{purchase} ends without a picture that could still be fetched"));
        self.check(holds_nothing && !is_queued, || format!("{purchase} has ended, and holds what others wait for"));
        self.check(is_stored || unlogged, || format!("{purchase} ends before its end is in the journal"));
        let history = self.histories[job].purchases[slot];
        let denied = ended.result.as_ref().is_err_and(|failure| !failure.may_have_been_bought());
        let is_lost = denied && (history.bought > 0 || history.resubmits > 0);
        self.check(!is_lost, || format!("{purchase} was bought, and ends with {:?}", ended.result));
    }

    /// Waiters get the outcome that is in the journal.
    pub(super) fn check_outcome(&mut self, live: &LiveJob, outcome: &Result<Arc<JobResult>, Failure>) {
        let job = live.record.id;
        let all_ended = live.purchases.iter().all(|one| one.has_ended);
        self.check(all_ended, || format!("{job} ends before its purchases"));
        if live.unlogged || self.journal.failed {
            return;
        }
        let stored = self.journal.stored.get(&job);
        let agrees = stored.is_some_and(|stored| match outcome {
            Ok(result) => stored_result(stored).as_ref() == Some(&**result),
            Err(failure) => {
                stored_result(stored).is_none()
                    && stored_failure(stored, FailureScope::All).is_none_or(|(stored, _)| stored == *failure)
            }
        });
        let hides = |stored: &StoredJob| {
            let unknown = stored.purchases.iter().any(|one| one.state.name() == "unknown");
            unknown && outcome.as_ref().is_ok_and(|result| !result.has_unknown())
        };
        let hidden = stored.is_some_and(hides);
        self.check(!hidden, || format!("{job} has an unknown outcome, and its waiters are not shown it"));
        self.check(agrees, || format!("waiters of {job} get {outcome:?}, and the journal has another outcome"));
        let shown = outcome.as_ref().map(|result| result.pictures.len()).map_err(Failure::name);
        self.histories[live.number].outcome = Some(shown);
    }

    /// A gateway at rest has ended every job and holds nothing.
    pub(super) fn check_rest(&mut self) {
        let counts = self.jobs.table.counts();
        self.check(counts == Counts::default(), || format!("at rest there is {counts:?}"));
        let left = self.live.len();
        self.check(left == 0, || format!("at rest {left} jobs have not ended"));
        let (granted, released) = (self.budget.granted, self.budget.released);
        let in_flight: usize = self.budget.accounts.iter().map(|account| account.in_flight).sum();
        self.check(granted == released && in_flight == 0, || format!("{granted} permits, {released} came back"));
        let queued = self.budget.queue.len();
        self.check(queued == 0, || format!("at rest {queued} purchases wait for the budget"));
        let waiting = self.waiting_clients();
        self.check(waiting == 0, || format!("at rest {waiting} requests have no answer"));
        if self.trace.text.is_some() {
            // Too slow for each life: the rules have all models.
            let jobs = format!("{:?}", self.jobs);
            let is_empty = ["live: {}", "by_fingerprint: {}", "by_key: {}", "due: {}"].map(|map| jobs.contains(map));
            self.check(is_empty == [true; 4], || format!("at rest something is listed: {is_empty:?}"));
        }
    }

    /// Each careful client has its answer.
    pub(super) fn check_answered(&mut self) {
        for (number, prompt) in self.prompts.iter().enumerate() {
            if prompt.is_careful && prompt.requests > 0 && !prompt.is_answered {
                return self.violate(format!("prompt {number} never has an answer"));
            }
        }
    }

    /// At the end the journal knows everything.
    pub(super) fn check_end(&mut self) {
        for number in 0..self.upstream.bought.len() {
            let bought = &self.upstream.bought[number];
            if bought.early {
                continue;
            }
            let job = self.histories[bought.job].id;
            let stored = self.journal.stored.get(&job).and_then(|stored| stored.purchases.get(bought.slot));
            let is_known = stored.is_some_and(|stored| {
                let id = id_of(number);
                (bought.has_id && knows(stored, &id)) || stored.lost_answers > 0 || may_be_bought(stored)
            });
            if !is_known {
                let state = stored.map(|stored| &stored.state);
                return self.violate(format!("{job}.{} was bought, and is {state:?} in the journal", bought.slot));
            }
        }
        for stored in self.journal.stored.values() {
            let ended = stored.purchases.iter().all(|one| has_ended(&one.state));
            let number = self.number(stored.record.id);
            let shown = self.histories[number].outcome;
            let pictures = stored_result(stored).map(|result| result.pictures.len());
            let failure = stored_failure(stored, FailureScope::All).map(|(failure, _)| failure.name());
            let agrees = match shown {
                None => true,
                Some(Ok(shown)) => pictures == Some(shown),
                Some(Err(shown)) => pictures.is_none() && failure.is_none_or(|failure| failure == shown),
            };
            if !ended || !agrees {
                return self.violate(format!("{} ended as {shown:?}, and is {stored:?}", stored.record.id));
            }
        }
        if let Some(broken) = self.subscriptions.iter().find(|subscription| subscription.is_broken()) {
            self.violate(format!("a webhook was never notified: {broken:?}"));
        }
    }
}

/// Whether the journal knows a purchase under its id.
fn knows(stored: &StoredPurchase, id: &crate::model::UpstreamId) -> bool {
    match &stored.state {
        StoredState::Accepted { upstream, .. } => upstream == id,
        StoredState::Resolved { upstream, .. } | StoredState::Failed { upstream, .. } => upstream.as_ref() == Some(id),
        StoredState::Intent | StoredState::Committing { .. } => false,
    }
}

/// Whether the journal shows a purchase without an id as bought: by its pictures, or by a failure that says so.
fn may_be_bought(stored: &StoredPurchase) -> bool {
    match &stored.state {
        StoredState::Resolved { upstream, .. } => upstream.is_none(),
        StoredState::Failed { failure, upstream, .. } => upstream.is_none() && failure.may_have_been_bought(),
        StoredState::Intent | StoredState::Committing { .. } | StoredState::Accepted { .. } => false,
    }
}
