//! From the queue to the answer of the upstream.

use std::time::Duration;

use super::{Accepted, Commit, Context, Immediate, Purchase, State, Submit};
use crate::budget::Pushback;
use crate::engine::jobs::decisions::{AfterSubmit, after_submit};
use crate::engine::jobs::event::{Effect, Step, SubmitResult, refused_key};
use crate::engine::jobs::rules::class_of;
use crate::model::{AccountId, ApiKind, Failure};
use crate::storage::journal::Record;

/// A submit that has no answer this long after its last byte was not refused: a refusal comes at once. With the API kind
/// `openai` the answer comes only when the picture is made, and a submit that waits for the outcome of this one (after
/// a pause, above all) must not wait for a picture.
pub(in crate::engine::jobs) const ACCEPTED_AFTER: Duration = Duration::from_secs(5);

impl Purchase {
    /// Submits, if its job still needs it, it is not too late, and a commit record can be written.
    pub(in crate::engine::jobs) fn granted(&mut self, account: AccountId, cx: &mut Context<'_>) {
        if !matches!(self.state, State::Queued) {
            return cx.push(Effect::ReleaseInFlight { purchase: cx.purchase });
        }
        if let Some(failure) = cx.closed.cloned() {
            return self.fail(failure, cx);
        }
        if cx.is_late() {
            cx.push(Effect::ReleaseInFlight { purchase: cx.purchase });
            return self.delayed(cx);
        }
        self.attempts += 1;
        self.state = State::Submitting(Submit { account, since: cx.now.instant, commit: Commit::Pending });
        cx.push(Effect::Submit { purchase: cx.purchase, pictures: self.pictures, attempt: self.attempts });
    }

    /// Ends with the reason why the budget does not permit a submit.
    pub(in crate::engine::jobs) fn not_granted(&mut self, failure: Failure, cx: &mut Context<'_>) {
        if matches!(self.state, State::Queued | State::Late) {
            self.fail(failure, cx);
        }
    }

    /// Journals that the last byte is about to leave.
    pub(in crate::engine::jobs) fn uploaded(&mut self, cx: &mut Context<'_>) {
        let (purchase, attempt) = (cx.purchase, self.attempts);
        match &mut self.state {
            State::Submitting(Submit { account, commit: commit @ Commit::Pending, .. }) => {
                *commit = Commit::Appended;
                let record = Record::Committing { purchase, account: account.clone(), at: cx.now.timestamp };
                cx.append(record, Step::Commit { purchase, attempt });
            }
            _ => cx.push(Effect::SendLastByte { purchase, send: false }),
        }
    }

    /// Lets the last byte of an attempt leave once the commit record is durable.
    pub(in crate::engine::jobs) fn commit_journalled(&mut self, attempt: u32, durable: bool, cx: &mut Context<'_>) {
        let purchase = cx.purchase;
        match &mut self.state {
            State::Submitting(Submit { commit: commit @ Commit::Appended, .. }) if attempt == self.attempts => {
                if durable {
                    let slow = cx.api_kind == ApiKind::OpenAi;
                    let assume_at = slow.then(|| cx.now.instant + ACCEPTED_AFTER);
                    if let Some(at) = assume_at {
                        cx.timers.set(at, purchase.job);
                    }
                    *commit = Commit::Durable { assume_at };
                }
                cx.push(Effect::SendLastByte { purchase, send: durable });
            }
            // The submit that asked for it has ended.
            _ => {}
        }
    }

    /// Decides what follows the answer to a submit, or its failure.
    pub(in crate::engine::jobs) fn submitted(&mut self, submitted: SubmitResult, cx: &mut Context<'_>) {
        let State::Submitting(Submit { account, since, commit }) = &self.state else {
            return cx.push(Effect::ReleaseInFlight { purchase: cx.purchase });
        };
        let (account, since, committed) = (account.clone(), *since, *commit != Commit::Pending);
        let purchase = cx.purchase;
        let SubmitResult { result, usable_accounts } = submitted;
        let counted = self.attempts - self.pushbacks;
        match after_submit(result, counted, cx.rules.submit_attempts_max, cx.rules.on_unknown) {
            AfterSubmit::Poll(handle) => {
                let class = class_of(cx.record, self.pictures);
                self.accept(Accepted::new(handle, account, class, cx.now.instant), None, cx);
            }
            AfterSubmit::Collect { handle: Some(handle), finished } => {
                cx.push(Effect::ReleaseInFlight { purchase });
                let class = class_of(cx.record, self.pictures);
                self.accept(Accepted::new(handle, account, class, cx.now.instant), Some(finished), cx);
            }
            AfterSubmit::Collect { handle: None, finished } => {
                cx.push(Effect::ReleaseInFlight { purchase });
                cx.push(Effect::EndSubmits { purchase });
                let answered = cx.now.instant;
                cx.fetch(finished.clone(), Duration::ZERO, false);
                self.state = State::Collecting(Box::new(Immediate { finished, sent: since, answered, rounds: 0 }));
            }
            AfterSubmit::Retry { pause } => self.withdraw(Record::Withdrawn { purchase }, pause, committed, cx),
            AfterSubmit::Resubmit { pause } => {
                let usd = cx.rules.price(cx.record, self.pictures).unwrap_or_default();
                cx.push(Effect::CountLostAnswer { usd });
                self.withdraw(Record::Resubmitted { purchase }, pause, committed, cx);
            }
            AfterSubmit::PushedBack(pushback) => {
                if let Some(failure) = self.key_refused(&pushback, account, &usable_accounts) {
                    return self.fail(failure, cx);
                }
                // The budget decides when the next submit leaves, and with which account.
                self.pushbacks += 1;
                // A refusal after the budget has counted the submit as accepted changes nothing in the budget, so it
                // delays no later submit: this pause does.
                let waited = cx.now.instant.saturating_duration_since(since);
                let late = cx.api_kind == ApiKind::OpenAi && waited >= ACCEPTED_AFTER;
                let pause = if late { ACCEPTED_AFTER } else { Duration::ZERO };
                self.withdraw(Record::Withdrawn { purchase }, pause, committed, cx);
            }
            AfterSubmit::End(failure) => self.fail(failure, cx),
        }
    }

    /// Queues it again after a submit that had no effect, once that is durable; or ends it if nothing can be journalled.
    pub(in crate::engine::jobs) fn withdrawal_journalled(&mut self, cx: &mut Context<'_>) {
        if let State::Withdrawing { pause } = self.state {
            self.requeue(pause, cx);
        }
    }

    /// Takes the steps whose time has come.
    pub(in crate::engine::jobs) fn time_passed(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.instant;
        match &mut self.state {
            State::Queued if cx.is_late() => self.delayed(cx),
            State::Pausing { until } if *until <= now => self.requeue(Duration::ZERO, cx),
            State::Submitting(Submit { commit: Commit::Durable { assume_at }, .. }) => {
                if assume_at.take_if(|at| *at <= now).is_some() {
                    cx.push(Effect::AssumeAccepted { purchase: cx.purchase });
                }
            }
            _ => {}
        }
    }

    /// Ends it if it still waits for its turn: the gateway stops.
    pub(in crate::engine::jobs) fn drain(&mut self, cx: &mut Context<'_>) {
        if self.state.is_waiting() {
            self.fail(Failure::Stopping, cx);
        }
    }

    /// Notes an account whose key was refused. Returns the failure to end with when no other account is left.
    fn key_refused(&mut self, pushback: &Pushback, account: AccountId, usable: &[AccountId]) -> Option<Failure> {
        let reason = refused_key(pushback)?;
        if !self.refused_accounts.contains(&account) {
            self.refused_accounts.push(account);
        }
        let another = usable.iter().any(|usable| !self.refused_accounts.contains(usable));
        (!another).then(|| reason.clone())
    }

    fn withdraw(&mut self, record: Record, pause: Duration, committed: bool, cx: &mut Context<'_>) {
        if committed {
            self.state = State::Withdrawing { pause };
            cx.append(record, Step::Withdrawal(cx.purchase));
        } else {
            self.requeue(pause, cx);
        }
    }

    fn requeue(&mut self, pause: Duration, cx: &mut Context<'_>) {
        if let Some(failure) = cx.closed.cloned() {
            self.fail(failure, cx);
        } else if !pause.is_zero() {
            let until = cx.now.instant + pause;
            self.state = State::Pausing { until };
            cx.timers.set(until, cx.purchase.job);
        } else if cx.is_late() {
            self.delayed(cx);
        } else {
            self.state = State::Queued;
            cx.push(Effect::Enqueue { purchase: cx.purchase });
        }
    }

    fn delayed(&mut self, cx: &mut Context<'_>) {
        self.state = State::Late;
        cx.push(Effect::ExplainDelay { purchase: cx.purchase });
    }
}
