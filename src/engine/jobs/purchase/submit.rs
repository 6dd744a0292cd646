//! From the queue to the answer of the upstream.

use std::time::Duration;

use super::decisions::{AfterSubmit, after_submit};
use super::poll::accept;
use super::{Accepted, Attempts, Commit, Context, Immediate, Intent, Purchase, State, Submit};
use crate::budget::Pushback;
use crate::engine::jobs::event::{Effect, Step, SubmitResult};
use crate::engine::jobs::rules::class_of;
use crate::model::{AccountId, ApiKind, Failure};
use crate::storage::journal::Record;

/// A submit that has no answer this long after its last byte was not refused: a refusal comes at once. With the API kind
/// `openai` the answer comes only when the picture is made, and a submit that waits for the outcome of this one (after
/// a pause, above all) must not wait for a picture.
const ACCEPTED_AFTER: Duration = Duration::from_secs(5);

impl Purchase {
    /// Submits, if it is still wanted, not too late, and a commit record can be written.
    pub(in crate::engine::jobs) fn granted(&mut self, account: AccountId, cx: &mut Context<'_>) {
        let wanted = matches!(self.state, State::Queued);
        if wanted && let Some(failure) = cx.closed {
            return self.fail(failure.clone(), cx);
        }
        if !wanted || cx.is_late() {
            cx.push(Effect::ReleaseInFlight { purchase: cx.purchase });
        }
        if wanted {
            self.state = if cx.is_late() {
                explain_delay(cx)
            } else {
                self.attempts.submits += 1;
                self.attempts.counted += 1;
                let attempt = self.attempts.counted;
                cx.push(Effect::Submit { purchase: cx.purchase, pictures: self.pictures, attempt });
                State::Submitting(Submit { account, since: cx.now.instant, commit: Commit::Pending })
            };
        }
    }

    /// Journals that the last byte is about to leave.
    pub(in crate::engine::jobs) fn uploaded(&mut self, cx: &mut Context<'_>) {
        let (purchase, submit) = (cx.purchase, self.attempts.submits);
        if let State::Submitting(Submit { account, commit: commit @ Commit::Pending, .. }) = &mut self.state {
            *commit = Commit::Appended;
            let record = Record::Committing { purchase, account: account.clone(), at: cx.now.timestamp };
            cx.append(record, Step::Commit { purchase, submit });
        } else {
            cx.push(Effect::SendLastByte { purchase, send: false });
        }
    }

    /// Lets the last byte of a submit leave once its commit record is durable, and the intent too: a journal that is
    /// locked for a moment refuses one record and writes the next. If that submit has ended, there is no byte to let.
    pub(in crate::engine::jobs) fn commit_journalled(&mut self, submit: u32, durable: bool, cx: &mut Context<'_>) {
        if let State::Submitting(Submit { commit: commit @ Commit::Appended, .. }) = &mut self.state
            && submit == self.attempts.submits
        {
            *commit = match (durable, cx.intent) {
                (true, Intent::Durable) => cx.send_last_byte(),
                (true, Intent::Appended) => Commit::AwaitsIntent,
                (true, Intent::Refused) | (false, _) => {
                    cx.push(Effect::SendLastByte { purchase: cx.purchase, send: false });
                    Commit::Pending
                }
            };
        }
    }

    /// Lets the last byte leave that waits for the intent alone.
    pub(in crate::engine::jobs) fn intent_journalled(&mut self, cx: &mut Context<'_>) {
        if let State::Submitting(Submit { commit: commit @ Commit::AwaitsIntent, .. }) = &mut self.state {
            *commit = cx.send_last_byte();
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
        let again = |record, pause| Again { record, committed, pause };
        let next = match after_submit(result, self.attempts.counted, cx.rules.submit_attempts_max, cx.rules.on_unknown)
        {
            AfterSubmit::Poll(handle) => {
                let class = class_of(cx.record, self.pictures);
                Ok(accept(Accepted::new(handle, account, class, cx.now.instant), None, cx))
            }
            AfterSubmit::Collect { handle: Some(handle), finished } => {
                cx.push(Effect::ReleaseInFlight { purchase });
                let class = class_of(cx.record, self.pictures);
                Ok(accept(Accepted::new(handle, account, class, cx.now.instant), Some(finished), cx))
            }
            AfterSubmit::Collect { handle: None, finished } => {
                cx.push(Effect::ReleaseInFlight { purchase });
                cx.push(Effect::EndSubmits { purchase });
                cx.fetch(finished.clone(), Duration::ZERO, false);
                let immediate = Immediate { finished, sent: since, answered: cx.now.instant, rounds: 0 };
                Ok(State::Collecting(Box::new(immediate)))
            }
            AfterSubmit::Retry { pause } => withdraw(again(Record::Withdrawn { purchase }, pause), cx),
            AfterSubmit::Resubmit { pause } => {
                let usd = cx.rules.price(cx.record, self.pictures).unwrap_or_default();
                cx.push(Effect::CountLostAnswer { usd });
                withdraw(again(Record::Resubmitted { purchase }, pause), cx)
            }
            AfterSubmit::PushedBack(pushback) => {
                if let Some(failure) = self.attempts.refuse(&pushback, account, &usable_accounts) {
                    Err(failure)
                } else {
                    // A refusal after the budget has counted the submit as accepted changes nothing in the budget, so it
                    // delays no later submit: this pause does.
                    let waited = cx.now.instant.saturating_duration_since(since);
                    let late = cx.api_kind == ApiKind::OpenAi && waited >= ACCEPTED_AFTER;
                    let pause = if late { ACCEPTED_AFTER } else { Duration::ZERO };
                    withdraw(again(Record::Withdrawn { purchase }, pause), cx)
                }
            }
            AfterSubmit::End(failure) => Err(failure),
        };
        self.enter(next, cx);
    }

    /// Queues it again after a submit that had no effect, once that is durable; or ends it if nothing can be journalled.
    pub(in crate::engine::jobs) fn withdrawal_journalled(&mut self, cx: &mut Context<'_>) {
        if let State::Withdrawing { pause } = self.state {
            self.enter(requeue(pause, cx), cx);
        }
    }

    /// Takes the steps whose time has come.
    pub(in crate::engine::jobs) fn time_passed(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.instant;
        if let State::Submitting(Submit { commit: Commit::Sent { assume_at }, .. }) = &mut self.state {
            if assume_at.take_if(|at| *at <= now).is_some() {
                cx.push(Effect::AssumeAccepted { purchase: cx.purchase });
            }
        } else if let State::Pausing { until } = self.state
            && until <= now
        {
            self.enter(requeue(Duration::ZERO, cx), cx);
        } else if matches!(self.state, State::Queued) && cx.is_late() {
            self.state = explain_delay(cx);
        }
    }

    fn enter(&mut self, next: Result<State, Failure>, cx: &mut Context<'_>) {
        match next {
            Ok(state) => self.state = state,
            Err(failure) => self.fail(failure, cx),
        }
    }
}

impl Attempts {
    /// Notes that the upstream refused a submit, which is then no attempt: the budget decides when the next one leaves,
    /// and with which account. Returns the failure to end with when the key was refused and no other account is left.
    fn refuse(&mut self, pushback: &Pushback, account: AccountId, usable: &[AccountId]) -> Option<Failure> {
        self.counted -= 1;
        let reason = match pushback {
            Pushback::Key { reason } => reason,
            Pushback::Account { .. } | Pushback::Model { .. } => return None,
        };
        if !self.refused_accounts.contains(&account) {
            self.refused_accounts.push(account);
        }
        let another = usable.iter().any(|usable| !self.refused_accounts.contains(usable));
        (!another).then(|| reason.clone())
    }
}

impl Context<'_> {
    fn send_last_byte(&mut self) -> Commit {
        self.push(Effect::SendLastByte { purchase: self.purchase, send: true });
        let assume_at = (self.api_kind == ApiKind::OpenAi).then(|| self.now.instant + ACCEPTED_AFTER);
        if let Some(at) = assume_at {
            self.timers.set(at, self.purchase.job);
        }
        Commit::Sent { assume_at }
    }
}

/// A purchase that is submitted again.
struct Again {
    /// Says so to the journal, if that knows of the submit.
    record: Record,
    committed: bool,
    pause: Duration,
}

/// Returns the state after a submit that had no effect.
fn withdraw(Again { record, committed, pause }: Again, cx: &mut Context<'_>) -> Result<State, Failure> {
    if committed {
        cx.append(record, Step::Withdrawal(cx.purchase));
        Ok(State::Withdrawing { pause })
    } else {
        requeue(pause, cx)
    }
}

/// Returns the state of a purchase that is submitted again after a pause, or why it is not.
fn requeue(pause: Duration, cx: &mut Context<'_>) -> Result<State, Failure> {
    if let Some(failure) = cx.closed {
        return Err(failure.clone());
    }
    if !pause.is_zero() {
        let until = cx.now.instant + pause;
        cx.timers.set(until, cx.purchase.job);
        return Ok(State::Pausing { until });
    }
    if cx.is_late() {
        return Ok(explain_delay(cx));
    }
    cx.push(Effect::Enqueue { purchase: cx.purchase });
    Ok(State::Queued)
}

fn explain_delay(cx: &mut Context<'_>) -> State {
    cx.push(Effect::ExplainDelay { purchase: cx.purchase });
    State::Late
}
