//! The records that the states of a purchase wait for, and what follows once they are durable.

use std::time::Duration;

use super::end::show_end;
use super::{Accounting, Append, Context, Intent, PendingEnd, Purchase, PurchaseEnd, State};
use crate::engine::jobs::event::{AppendOutcome, Effect, ProgressChange, Step};
use crate::model::Failure;
use crate::storage::journal::Record;

/// How often a record that was not written is appended again, and the pause before that. Without the record, a restart
/// or an equal request would not know what was paid for.
const FAILURES_MAX: u32 = 5;
const APPEND_PAUSE: Duration = Duration::from_secs(1);

impl Purchase {
    /// Enters a state that waits for a record, and appends the record; goes on at once where it would not be written.
    pub(super) fn enter_recorded(&mut self, state: State, cx: &mut Context<'_>) {
        self.state = state;
        self.append = Append::default();
        match record(self, cx).filter(|_| may_record(cx)) {
            Some((record, step)) => cx.append(record, step),
            None => go_on(self, false, cx),
        }
    }

    /// Goes on once the record of the present state is durable. A record that was not written is appended again: some times,
    /// but an end for as long as the journal is away. Without it, the journal would have an accepted purchase that is in no
    /// job, and the same request would buy again. An acceptance is appended for as long, too, while the purchase is polled:
    /// without it, a restart would make an unknown outcome of a purchase whose id is known.
    pub(in crate::engine::jobs) fn journalled(&mut self, step: Step, outcome: AppendOutcome, cx: &mut Context<'_>) {
        if record(self, cx).is_none_or(|(_, awaited)| awaited != step) {
            return;
        }
        let again = match (outcome, step) {
            (AppendOutcome::Durable | AppendOutcome::Failed, _) => false,
            (AppendOutcome::Away, Step::End(_)) => true,
            (AppendOutcome::Away, _) if self.append.acceptance_due => true,
            (AppendOutcome::Away | AppendOutcome::NotWritten, _) => self.append.failures < FAILURES_MAX,
        };
        if again && may_record(cx) {
            if outcome == AppendOutcome::NotWritten || !self.append.acceptance_due {
                self.append.failures = self.append.failures.saturating_add(1);
            }
            append_later(&mut self.append, cx);
        } else if self.append.acceptance_due {
            self.append = Append::default();
        } else {
            go_on(self, outcome == AppendOutcome::Durable, cx);
            if outcome == AppendOutcome::Away && matches!(self.state, State::Polling(_)) && may_record(cx) {
                self.append = Append { acceptance_due: true, ..Append::default() };
                append_later(&mut self.append, cx);
            }
        }
    }
}

fn append_later(append: &mut Append, cx: &mut Context<'_>) {
    let at = cx.now.instant + APPEND_PAUSE;
    append.again_at = Some(at);
    cx.timers.set(at, cx.purchase.job);
}

/// Appends the record that a purchase waits for again.
pub(super) fn append_again(one: &Purchase, cx: &mut Context<'_>) {
    if let Some((record, step)) = record(one, cx) {
        cx.append(record, step);
    }
}

/// Takes the step that the present state waits for. A purchase that is bought goes on although its record is not
/// `durable`: polling it from memory, or showing how it ended, is all that is left.
fn go_on(one: &mut Purchase, durable: bool, cx: &mut Context<'_>) {
    if let State::Withdrawing { pause, lost } = one.state {
        if lost && !durable {
            // It would be bought again, and nothing would say so.
            let message = "the answer was lost, and the journal cannot record that it is submitted again".to_owned();
            one.fail(Failure::OutcomeUnknown { message }, cx);
        } else {
            if lost {
                let usd = cx.rules.price(cx.job.record, one.pictures).unwrap_or_default();
                cx.push(Effect::CountLostAnswer { usd });
                one.answer_lost = true;
            }
            one.requeue(pause, cx);
        }
    } else if let State::Accepting { accepted, finished } = &mut one.state {
        let (accepted, finished) = (accepted.clone(), finished.take());
        let purchase = cx.purchase;
        let change = ProgressChange::Upstream(accepted.poll.handle.id.clone());
        cx.push(Effect::Publish { job: purchase.job, change });
        match finished {
            Some(finished) => cx.fetch(finished, Duration::ZERO, true),
            None => cx.push(Effect::PlanPoll { purchase, poll: accepted.next_poll(false) }),
        }
        one.state = State::Polling(accepted);
    } else if let State::Ending(end) = &one.state {
        let end = end.clone();
        show_end(one, end, cx);
    }
}

/// Returns the record that a purchase waits for, or that is still to be written while it is polled.
fn record(one: &Purchase, cx: &Context<'_>) -> Option<(Record, Step)> {
    let (purchase, now, state) = (cx.purchase, cx.now.timestamp, &one.state);
    let accepted = if let State::Accepting { accepted, .. } = state {
        Some(accepted)
    } else if let State::Polling(accepted) = state {
        one.append.acceptance_due.then_some(accepted)
    } else {
        None
    };
    if let State::Withdrawing { lost, .. } = state {
        let record = if *lost { Record::Resubmitted { purchase } } else { Record::Withdrawn { purchase } };
        Some((record, Step::Withdrawal(purchase)))
    } else if let Some(accepted) = accepted {
        let handle = &accepted.poll.handle;
        let (upstream, poll_url) = (handle.id.clone(), handle.poll_url.clone());
        Some((Record::Accepted { purchase, upstream, poll_url, at: now }, Step::Acceptance(purchase)))
    } else if let State::Ending(PendingEnd { end, contents, poll_url, recordable: true, accounting, .. }) = state {
        let record = match end {
            PurchaseEnd::Pictures { pictures, .. } if matches!(accounting, Accounting::Refetched(_)) => {
                Record::Restored { purchase, pictures: pictures.clone() }
            }
            PurchaseEnd::Pictures { upstream, pictures, usage, at } => {
                let (upstream, poll_url) = (upstream.clone(), poll_url.clone());
                let (pictures, contents) = (pictures.clone(), contents.clone());
                Record::Resolved { purchase, upstream, poll_url, pictures, contents, usage: *usage, at: *at }
            }
            PurchaseEnd::Failure(failure) | PurchaseEnd::NotRestored(failure) => {
                Record::Failed { purchase, failure: failure.clone(), at: now }
            }
        };
        Some((record, Step::End(purchase)))
    } else {
        None
    }
}

/// Whether a record of the job would be written.
fn may_record(cx: &Context<'_>) -> bool {
    cx.job.intent != Intent::NotWritten && cx.closed != Some(&Failure::JournalUnavailable)
}
