//! Handles an event: passes it to its purchase, then ends or abandons the job (`settle`).

use super::Jobs;
use super::event::{AppendOutcome, Effect, Event, Now, ProgressChange, Step, SubmitResult};
use super::job::Listing;
use super::purchase::{Context, Intent, JobContext, Purchase, State};
use super::table::Table;
use crate::model::{Failure, JobId, PurchaseId};
use crate::upstream::{SubmitError, Submitted};

impl Jobs {
    /// Takes note of what has happened; returns what is to be done.
    pub(in crate::engine) fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let out = &mut effects;
        match event {
            Event::Journalled { step, outcome } => journalled(self, step, outcome, now, out),
            Event::Granted { purchase, account } => self.step(purchase, now, out, |one, cx| one.granted(account, cx)),
            Event::NotGranted { purchase, failure } => {
                self.step(purchase, now, out, |one, cx| give_up(one, failure, cx));
            }
            Event::Uploaded { purchase } => self.step(purchase, now, out, Purchase::uploaded),
            Event::Submitted { purchase, result } => submitted(self, purchase, result, now, out),
            Event::Polled { purchase, age, result } => {
                self.step(purchase, now, out, |one, cx| one.polled(age, result, cx));
            }
            Event::Fetched { purchase, fetched } => self.step(purchase, now, out, |one, cx| one.fetched(fetched, cx)),
            Event::WaiterLeft { job } => {
                if let Some(live) = self.table.live.get_mut(&job) {
                    live.needed = live.needed.saturating_sub(1);
                }
                self.settle(job, now, out);
            }
            Event::TimePassed => {
                while let Some(job) = self.timers.pop_due(now.instant) {
                    self.each(job, now, out, Purchase::time_passed);
                }
                // Their time to wait, or to start, may be over.
                for purchase in self.awaiting_format.clone() {
                    self.step(purchase, now, out, |one, cx| one.ask_for_format(None, true, cx));
                }
            }
            Event::Draining => {
                self.closed.get_or_insert(Failure::Stopping);
                let mut jobs: Vec<JobId> = self.table.live.keys().copied().collect();
                // Oldest first: the order of a hash map differs from run to run.
                jobs.sort_unstable();
                for job in jobs {
                    self.each(job, now, out, |one, cx| give_up(one, Failure::Stopping, cx));
                }
            }
        }
        // A submit that others waited for has ended, or counts as accepted by now.
        while self.formats.take_news() {
            for purchase in self.awaiting_format.clone() {
                self.step(purchase, now, out, |one, cx| one.ask_for_format(None, true, cx));
            }
        }
        let changes = self.formats.take_changes();
        if !changes.is_empty() {
            // Before the records that follow from them, which are reported once the changes are stored.
            effects.insert(0, Effect::FormatsChanged(changes));
        }
        effects
    }

    /// Takes a step of one purchase.
    fn step(
        &mut self,
        purchase: PurchaseId,
        now: Now,
        out: &mut Vec<Effect>,
        step: impl FnOnce(&mut Purchase, &mut Context<'_>),
    ) {
        let Some(live) = self.table.live.get_mut(&purchase.job) else { return };
        let Some(one) = live.purchases.get_mut(usize::from(purchase.slot)) else { return };
        let job = JobContext {
            record: &live.record,
            formats: live.formats.as_ref(),
            start_by: live.times.start_by,
            intent: live.intent,
        };
        let mut cx = Context {
            purchase,
            job,
            rules: &self.rules,
            closed: self.closed.as_ref(),
            now,
            timers: &mut self.timers,
            formats: &mut self.formats,
            effects: out,
        };
        step(one, &mut cx);
        if matches!(one.state, State::AwaitingFormat { .. }) {
            self.awaiting_format.insert(purchase);
        } else if !self.awaiting_format.is_empty() {
            self.awaiting_format.remove(&purchase);
        }
        self.settle(purchase.job, now, out);
    }

    /// Takes the same step of each purchase of a job.
    fn each(&mut self, job: JobId, now: Now, out: &mut Vec<Effect>, step: impl Fn(&mut Purchase, &mut Context<'_>)) {
        let purchases = self.table.live.get(&job).map_or(0, |live| live.purchases.len());
        for slot in (0..).take(purchases) {
            self.step(PurchaseId { job, slot }, now, out, &step);
        }
    }

    /// Ends a job whose purchases have ended, drops one that is not needed and not bought, and shows the stage of any
    /// other.
    pub(super) fn settle(&mut self, job: JobId, now: Now, out: &mut Vec<Effect>) {
        let Some(live) = self.table.live.get_mut(&job) else { return };
        if live.has_ended() {
            let Some(live) = self.table.remove(job) else { return };
            let (refetched, attended) = (live.listing == Listing::Refetched, live.needed > 0);
            out.push(Effect::EndJob { outcome: live.outcome(), record: live.record, refetched, attended });
        } else if live.listing == Listing::Joinable && live.is_dispensable() {
            live.listing = Listing::Abandoned;
            let record = live.record.clone();
            self.table.unlist(&record);
            self.each(job, now, out, |one, cx| one.fail(Failure::Abandoned, cx));
        } else if let Some(stage) = live.new_stage() {
            if live.is_submitted() {
                live.formats = None;
            }
            out.push(Effect::Publish { job, change: ProgressChange::Stage(stage) });
        }
    }
}

/// Passes the answer to a submit on, and then asks again for those that wait for what it says of a format.
fn submitted(jobs: &mut Jobs, purchase: PurchaseId, result: SubmitResult, now: Now, out: &mut Vec<Effect>) {
    let sent = jobs.table.sent(purchase).map(|sent| sent.subject.account.clone());
    let result = if sent.is_some() { with_own_id(&mut jobs.table, purchase, result, out) } else { result };
    // After a refusal for another reason, the budget decides when the next submit leaves.
    let usable = !matches!(result.result, Err(SubmitError::Refused { .. } | SubmitError::NotSent { .. }));
    jobs.step(purchase, now, out, |one, cx| one.submitted(result, cx));
    let Some(answered) = sent else { return };
    for purchase in jobs.awaiting_format.clone() {
        jobs.step(purchase, now, out, |one, cx| one.ask_for_format(Some(&answered), usable, cx));
    }
}

fn journalled(jobs: &mut Jobs, step: Step, outcome: AppendOutcome, now: Now, out: &mut Vec<Effect>) {
    if outcome == AppendOutcome::Failed {
        jobs.closed = Some(Failure::JournalUnavailable);
    }
    let durable = outcome == AppendOutcome::Durable;
    match step {
        Step::Intent(job) => {
            let Some(live) = jobs.table.live.get_mut(&job) else { return };
            if durable {
                live.intent = Intent::Durable;
                out.push(Effect::Publish { job, change: ProgressChange::Recorded });
                jobs.each(job, now, out, Purchase::intent_journalled);
            } else {
                live.intent = Intent::NotWritten;
                // What the upstream has taken all the same, before its last byte, is followed from memory.
                jobs.each(job, now, out, |one, cx| {
                    if !one.state.is_taken() {
                        one.fail(Failure::JournalUnavailable, cx);
                    }
                });
            }
        }
        Step::Commit { purchase, submit } => {
            jobs.step(purchase, now, out, |one, cx| one.commit_journalled(submit, durable, cx));
        }
        Step::Withdrawal(purchase) | Step::Acceptance(purchase) | Step::End(purchase) => {
            jobs.step(purchase, now, out, |one, cx| one.journalled(step, outcome, cx));
        }
    }
}

/// Takes the answer to a submit for an unknown outcome if its id is that of another live purchase.
fn with_own_id(table: &mut Table, purchase: PurchaseId, answer: SubmitResult, out: &mut Vec<Effect>) -> SubmitResult {
    let Ok(Submitted::Accepted(handle) | Submitted::Finished { handle: Some(handle), .. }) = &answer.result else {
        return answer;
    };
    let upstream = handle.id.clone();
    if let Err(other) = table.add_upstream(&upstream, purchase) {
        out.push(Effect::ReportIdConflict { purchase, upstream, other });
        let message = "the upstream answered with the id of another purchase".to_owned();
        // It was accepted, so it is not bought again, whatever is to be done about a lost answer.
        return SubmitResult { result: Err(SubmitError::Rejected(Failure::OutcomeUnknown { message })), ..answer };
    }
    if let Some(live) = table.live.get_mut(&purchase.job) {
        live.upstream.push(upstream);
    }
    answer
}

/// Ends a purchase that still waits for its turn: the budget does not permit a submit, or the gateway stops.
fn give_up(purchase: &mut Purchase, failure: Failure, cx: &mut Context<'_>) {
    if purchase.state.is_waiting() {
        purchase.fail(failure, cx);
    }
}
