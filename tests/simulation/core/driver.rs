//! The driver: carries out the effects as the real one does, except that it has no tasks of its own. What would run in a
//! task waits in a list until it is chosen.

use std::sync::Arc;
use std::time::Duration;

use super::Variant;
use super::budget::Permit;
use super::journal::Report;
use super::live::{FollowUp, LiveJob, LivePurchase, Submission, Submit, Task};
use super::world::World;
use crate::engine::jobs::event::{AppendOutcome, Effect, Event, Fetched, NextPoll, Step, SubmitResult};
use crate::model::{Digest, Failure, JobId, JobResult, PurchaseId};
use crate::storage::journal::{JobRecord, Record, StoredState};
use crate::upstream::formats::SubmitFormat;
use crate::upstream::{SubmitError, Submitted};

impl World {
    pub(super) fn job(&mut self, job: JobId) -> Option<&mut LiveJob> {
        self.live.iter_mut().find(|live| live.record.id == job)
    }

    pub(super) fn purchase(&mut self, purchase: PurchaseId) -> Option<&mut LivePurchase> {
        self.job(purchase.job)?.purchases.get_mut(usize::from(purchase.slot))
    }

    /// Whether a job goes on although not all of it can be in the journal.
    pub(super) fn is_unlogged(&self, job: JobId) -> bool {
        self.journal.failed || self.live.iter().any(|live| live.record.id == job && live.unlogged)
    }

    /// Reports what has happened to a job, and carries out what follows.
    pub(super) fn handle(&mut self, job: JobId, event: Event) {
        self.counts.events += 1;
        let is_live = self.live.iter().any(|live| live.record.id == job);
        let now = self.now();
        let effects = self.jobs.handle(event, now);
        self.check(is_live || effects.is_empty(), || format!("effects for a job that has ended: {effects:?}"));
        self.carry_out(effects);
        self.check_needed(job);
        self.check_kept();
    }

    /// Reports what concerns all jobs.
    pub(super) fn handle_all(&mut self, event: Event) {
        self.counts.events += 1;
        let now = self.now();
        let effects = self.jobs.handle(event, now);
        self.carry_out(effects);
        self.check_kept();
    }

    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut follow = Vec::new();
        for effect in effects {
            if let Some(answer) = self.carry_out_one(effect) {
                self.counts.events += 1;
                let now = self.now();
                follow.extend(self.jobs.handle(answer, now));
            }
        }
        if !follow.is_empty() {
            self.carry_out(follow);
        }
    }

    /// Carries out one effect. Returns the event that answers it, where the answer is known at once.
    fn carry_out_one(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Append { records, step } => self.append(records, step),
            Effect::Enqueue { purchase } => self.enqueue(purchase),
            Effect::ExplainDelay { purchase } => {
                self.note("explain delay", self.about(purchase), format_args!(""));
                let now = self.instant();
                let is_early = self.job(purchase.job).is_some_and(|live| live.start_by > now);
                self.check(!is_early, || format!("{purchase} is late, and a submit is still of use to a waiter"));
                self.jobs.expected_cost(purchase.job)?;
                let failure = Failure::Overloaded { retry_after: Duration::from_secs(1) };
                return Some(Event::NotGranted { purchase, failure });
            }
            Effect::Submit { purchase, attempt, format, .. } => self.submit(purchase, attempt, &format),
            Effect::SendLastByte { purchase, send } => {
                self.note("send last byte", self.about(purchase), format_args!("{send}"));
                let now = self.instant();
                if let Some(live) = self.purchase(purchase)
                    && let Some(submit) = live.gated.take()
                {
                    live.sent = send.then_some(now);
                    self.ready.push(Task::Release { submit, send });
                }
            }
            Effect::AssumeAccepted { purchase, .. } => {
                self.note("assume accepted", self.about(purchase), format_args!(""));
                let permit = self.purchase(purchase).and_then(|live| live.permit.as_mut());
                if let Some(permit) = permit {
                    permit.acknowledged = true;
                }
            }
            Effect::EndSubmits { purchase } => {
                self.note("end submits", self.about(purchase), format_args!(""));
                self.end_submits(purchase);
            }
            Effect::ReleaseInFlight { purchase } => {
                self.note("release", self.about(purchase), format_args!(""));
                let is_kept = self.purchase(purchase).is_some_and(|live| live.kept_since.take().is_some());
                if is_kept && self.variant == Variant::KeptGrantNotReturned {
                    return None;
                }
                if let Some(permit) = self.purchase(purchase).and_then(|live| live.permit.take()) {
                    self.budget.release(&permit);
                }
            }
            Effect::PlanPoll { purchase, poll } => self.plan_poll(purchase, poll),
            Effect::Learn(completion) => {
                // Without a poll it is known when it ended.
                let (took, working_at) = (completion.took, completion.working_at);
                let is_possible = if completion.polls > 0 { took >= working_at } else { took == working_at };
                self.check(is_possible, || format!("it learns what is impossible: {completion:?}"));
            }
            Effect::Fetch { purchase, finished, pause, resumable } => {
                self.note("fetch", self.about(purchase), format_args!("after {pause:?}, resumable: {resumable}"));
                let can_resume = self.is_followed(purchase);
                let holds = !resumable || can_resume || self.is_unlogged(purchase.job);
                self.check(holds, || format!("{purchase} counts on a restart, and its id is not in the journal"));
                self.follow_up(purchase, FollowUp::Fetch);
                self.after(pause, Task::Fetch { purchase, finished });
            }
            Effect::Publish { job, change } => self.publish(job, &change),
            Effect::FormatsChanged(_) => self.formats_changed(),
            Effect::ReportIdConflict { .. } | Effect::ReportSurplus { .. } => {}
            Effect::CountLostAnswer { .. } => self.counts.lost_answers += 1,
            Effect::EndPurchase(ended) => self.end_purchase(&ended),
            Effect::EndRefetch { purchase, result, .. } => self.end_refetch(purchase, result),
            Effect::EndJob { record, outcome, .. } => self.end_job(&record, &outcome),
        }
        None
    }

    fn append(&mut self, records: Vec<Record>, step: Step) {
        let purchase = purchase_of(step);
        self.note("append", self.about(purchase), format_args!("{}", name_of(step)));
        let (mut position, count) = (0, records.len());
        let formats = self.formats.changes();
        // A small upload, where it is sent in one piece.
        let waits = self.random.one_in(2);
        let is_restored = matches!(records.first(), Some(Record::Restored { .. }));
        let is_dropped = (self.variant == Variant::WithdrawalNotAppended && matches!(step, Step::Withdrawal(_)))
            || (self.variant == Variant::RestorationNotAppended && is_restored);
        for mut record in records.into_iter().filter(|_| !is_dropped) {
            if let Record::Resolved { contents, .. } = &mut record
                && self.variant == Variant::ContentsNotAppended
            {
                contents.clear();
            }
            match &record {
                Record::Resubmitted { purchase } => {
                    self.check_resubmit(*purchase);
                    if let Some(live) = self.purchase(*purchase) {
                        live.resubmitting = true;
                    }
                }
                Record::Failed { failure, .. } if failure.may_have_been_bought() => {
                    if let Some(live) = self.purchase(purchase) {
                        live.bought = true;
                    }
                }
                Record::Failed { failure: Failure::Abandoned, .. } => self.drop_job(purchase.job),
                Record::Resolved { .. } | Record::Restored { .. } => {
                    let is_unsafe = self.purchase(purchase).is_some_and(|live| live.unsafe_pictures);
                    self.check(!is_unsafe, || {
                        format!("{purchase} is journalled with pictures that may not be on disk")
                    });
                    let is_stored = |digest: &Digest| matches!(&record, Record::Resolved { contents, .. } if contents.iter().any(|content| content.digest() == *digest));
                    let misses = self.purchase(purchase).is_some_and(|live| !live.without_file.iter().all(is_stored));
                    self.check(!misses, || format!("{purchase} is journalled without the bytes of its pictures"));
                }
                Record::Subscribed { job, .. } => self.subscribe(*job, None),
                Record::Intent { .. }
                | Record::Committing { .. }
                | Record::Withdrawn { .. }
                | Record::Accepted { .. }
                | Record::Failed { .. }
                | Record::Delivered { .. }
                | Record::Evicted { .. }
                | Record::Deleted { .. }
                | Record::PromptExpired { .. }
                | Record::WebhookTried { .. }
                | Record::WebhookEnded { .. } => {}
            }
            let is_alone = matches!(&record, Record::Intent { job, .. } if count == 1 && !job.respond_async);
            position =
                if is_alone && waits { self.journal.append_waiting(record) } else { self.journal.append(record) };
        }
        let mut live = self.purchase(purchase);
        if let Some(live) = live.as_mut().filter(|live| live.append.0 != Some(step)) {
            live.append = (Some(step), 0);
        }
        match step {
            Step::Commit { .. } => {
                if let Some(gated) = live.and_then(|live| live.gated.as_mut()) {
                    gated.commit = position;
                }
            }
            Step::Withdrawal(_) => {
                if let Some(live) = live {
                    live.withdrawing = true;
                }
            }
            Step::End(_) => {
                if let Some(live) = live {
                    (live.withdrawing, live.ending) = (false, true);
                }
            }
            Step::Intent(_) | Step::Acceptance(_) => {}
        }
        let report = Report::Step { step, formats };
        let outcome = if is_dropped || self.variant == Variant::DurableTooEarly {
            Some(AppendOutcome::Durable)
        } else {
            self.journal.notify(report, count)
        };
        self.ready.extend(outcome.map(|outcome| Task::Journalled { report, outcome }));
    }

    fn enqueue(&mut self, purchase: PurchaseId) {
        self.note("enqueue", self.about(purchase), format_args!(""));
        let state = self.journal.state(purchase);
        let is_intent = matches!(state, None | Some(StoredState::Intent)) || self.is_unlogged(purchase.job);
        let has_slot = self.purchase(purchase).is_some_and(|live| live.submission.is_some());
        let is_queued = self.budget.queue.contains(&purchase);
        self.check(is_intent, || format!("{purchase} is queued, and a restart would not find it unbought"));
        self.check(has_slot && !is_queued, || format!("{purchase} is queued without a slot, or twice"));
        self.budget.queue.push(purchase);
    }

    fn submit(&mut self, purchase: PurchaseId, attempt: u32, format: &SubmitFormat) {
        let text = format.format.describe();
        self.note("submit", self.about(purchase), format_args!("attempt {attempt}: {text}"));
        let (attempts_max, now) = (self.rules.submit_attempts_max, self.instant());
        let Some(live) = self.job(purchase.job) else {
            return self.violate(format!("{purchase} is submitted, and is not live"));
        };
        let (is_wanted, is_late) = (live.is_needed() || live.may_be_bought(), live.start_by <= now);
        let one = &mut live.purchases[usize::from(purchase.slot)];
        let reservation = one.submission.as_mut().and_then(|submission| submission.reservation.take());
        let is_first = !std::mem::replace(&mut one.submitting, true);
        (one.submits_with, one.kept_since) = (reservation, None);
        let Some(account) = reservation else {
            return self.violate(format!("{purchase} is submitted without a reservation"));
        };
        self.check(is_wanted, || format!("{purchase} is submitted for no client"));
        self.check(!is_late, || format!("{purchase} is submitted too late"));
        self.check(is_first, || format!("{purchase} is submitted while it is being submitted"));
        self.check(attempt <= attempts_max, || format!("{purchase} has attempt {attempt} of {attempts_max}"));
        self.check_format(purchase, account, format);
        self.counts.submits += 1;
        let (number, method, refusal) = (self.counts.submits, format.format.method, self.formats.refusal(format));
        self.ready.push(Task::Upload(Submit { purchase, number, account, method, refusal, commit: u64::MAX }));
    }

    pub(super) fn end_submits(&mut self, purchase: PurchaseId) {
        let Some(live) = self.purchase(purchase) else { return };
        live.submission = None;
        // The slot ends the wait for the budget.
        if self.budget.leave(purchase) {
            self.ready.push(Task::NotGranted { purchase, failure: Failure::Stopping });
        }
    }

    fn plan_poll(&mut self, purchase: PurchaseId, poll: NextPoll) {
        self.note("plan poll", self.about(purchase), format_args!("troubles {}", poll.troubles));
        let holds = self.is_followed(purchase) || self.is_unlogged(purchase.job);
        self.check(holds, || format!("{purchase} is polled, and its id is not in the journal"));
        let account = self.upstream.find(&poll.handle.id).map(|(_, bought)| bought.account);
        let is_same = account.is_some_and(|account| {
            let bought_with = &self.budget.accounts[account].id;
            // An answer before the commit leaves no account in the journal.
            *bought_with == poll.account || self.upstream.find(&poll.handle.id).is_some_and(|(_, bought)| bought.early)
        });
        self.check(is_same, || format!("{purchase} is polled with the account {}", poll.account));
        self.follow_up(purchase, FollowUp::Poll);
        let pause = if poll.soon { Duration::ZERO } else { self.random.time(5000) };
        let pause = match poll.troubles {
            0 => pause,
            troubles => pause + self.rules.planner.backoff(troubles, 0.5),
        };
        let NextPoll { handle, accepted, .. } = poll;
        self.after(pause, Task::StartPoll { purchase, accepted, id: handle.id });
    }

    /// Whether the journal has the id under which a purchase is polled, before its end or for its damaged pictures.
    fn is_followed(&self, purchase: PurchaseId) -> bool {
        let is_refetched = self.live.iter().any(|live| live.record.id == purchase.job && live.refetched);
        match self.journal.state(purchase) {
            Some(StoredState::Accepted { .. }) => !is_refetched,
            Some(StoredState::Resolved { .. }) => is_refetched,
            _ => false,
        }
    }

    /// Notes what is under way for an accepted purchase: one thing at a time.
    fn follow_up(&mut self, purchase: PurchaseId, follow_up: FollowUp) {
        let before = self.purchase(purchase).map(|live| std::mem::replace(&mut live.follow_up, follow_up));
        let is_alone = before == Some(FollowUp::Nothing);
        self.check(is_alone, || format!("{purchase}: {follow_up:?} while there is {before:?}"));
    }

    fn end_job(&mut self, record: &JobRecord, outcome: &Result<Arc<JobResult>, Failure>) {
        let job = record.id;
        let details = outcome.as_ref().map(|result| result.pictures.len()).map_err(Failure::name);
        self.note("end job", [self.number(job), 0], format_args!("{details:?}"));
        let Some(place) = self.live.iter().position(|live| live.record.id == job) else {
            return self.violate(format!("{job} ends twice"));
        };
        let live = self.live.swap_remove(place);
        if live.refetched {
            self.check_refetched(&live, outcome);
        } else {
            self.check_outcome(&live, outcome);
        }
        for one in live.purchases {
            // Dropping what is held for the job ends the waits for it.
            if let Some(submit) = one.gated {
                self.ready.push(Task::Release { submit, send: false });
            }
        }
        for index in 0..self.clients.len() {
            if self.clients[index].job == Some(job) {
                self.wake_with(index, outcome.clone());
            }
        }
        self.notify_webhooks(job);
    }

    /// Reports the end of a submit to the budget, whose permit it concerns, and then to the jobs.
    pub(super) fn on_submitted(&mut self, submit: Submit, result: Result<Submitted, SubmitError>) {
        let purchase = submit.purchase;
        self.note("submitted", self.about(purchase), format_args!("{result:?}"));
        let mut usable_accounts = Vec::new();
        let now = self.instant();
        if self.purchase(purchase).is_some_and(|live| !live.ending && !live.has_ended) {
            self.format_answered(submit, result.as_ref().err());
        }
        if let Some(live) = self.purchase(purchase) {
            live.submitting = false;
            live.taken = result.is_ok().then_some(now);
            // What an upstream accepts before the last byte costs nothing, so a purchase that has ended stays unbought.
            live.bought |= result.is_ok() && !live.has_ended;
            live.sent = None;
            let permit = live.permit.take();
            match (&result, permit) {
                (_, None) => {}
                (Ok(_), Some(permit)) => {
                    let permit = Some(Permit { acknowledged: true, ..permit });
                    if let Some(live) = self.purchase(purchase) {
                        live.permit = permit;
                    }
                }
                (Err(error), Some(permit)) => {
                    self.budget.release(&permit);
                    if matches!(error, SubmitError::Refused { .. }) && !self.random.one_in(3) {
                        usable_accounts = self.budget.accounts.iter().map(|account| account.id.clone()).collect();
                    }
                }
            }
        }
        let result = SubmitResult { result, usable_accounts };
        self.handle(purchase.job, Event::Submitted { purchase, result });
    }

    /// Takes the permission of the budget to the jobs.
    pub(super) fn on_granted(&mut self, purchase: PurchaseId, permit: Permit) {
        let account = permit.account;
        self.note("granted", self.about(purchase), format_args!("account {account}"));
        let live = self.purchase(purchase);
        let Some(live) = live.filter(|live| live.submission.is_some()) else {
            return self.budget.release(&permit);
        };
        live.submission = Some(Submission { reservation: Some(account) });
        if let Some(before) = live.permit.replace(permit) {
            self.budget.release(&before);
            self.violate(format!("{purchase} has two permits"));
        }
        let account = self.budget.accounts[account].id.clone();
        self.handle(purchase.job, Event::Granted { purchase, account });
        self.note_kept(purchase);
    }

    pub(super) fn on_fetched(&mut self, purchase: PurchaseId, fetched: Fetched) {
        self.note("fetched", self.about(purchase), format_args!("{fetched:?}"));
        if let Some(live) = self.job(purchase.job) {
            live.unlogged |= !fetched.durable;
            let one = &mut live.purchases[usize::from(purchase.slot)];
            (one.follow_up, one.lacks_pictures) = (FollowUp::Nothing, fetched.trouble.is_some());
            one.unsafe_pictures = !fetched.durable;
        }
        self.handle(purchase.job, Event::Fetched { purchase, fetched });
    }
}

/// Returns the purchase of a step; the first one of a job for its intent.
pub(super) fn purchase_of(step: Step) -> PurchaseId {
    match step {
        Step::Intent(job) => PurchaseId { job, slot: 0 },
        Step::Commit { purchase, .. }
        | Step::Withdrawal(purchase)
        | Step::Acceptance(purchase)
        | Step::End(purchase) => purchase,
    }
}

pub(super) fn name_of(step: Step) -> &'static str {
    match step {
        Step::Intent(_) => "Intent",
        Step::Commit { .. } => "Commit",
        Step::Withdrawal(_) => "Withdrawal",
        Step::Acceptance(_) => "Acceptance",
        Step::End(_) => "End",
    }
}
