//! From the queue to the answer of the upstream.

use std::time::Duration;

use super::append::append_again;
use super::decisions::{AfterSubmit, after_submit};
use super::{Accepted, Attempts, Context, Immediate, LastByte, Purchase, SentFormat, State, Submit};
use crate::budget::Pushback;
use crate::config::OnUnknown;
use crate::engine::jobs::event::{Completion, Effect, SubmitResult};
use crate::engine::jobs::rules::class_of;
use crate::model::{AccountId, ApiKind, Failure};
use crate::upstream::Submitted;
use crate::upstream::formats::{FormatChoice, FormatRefusal, FormatVerdict};

/// A submit that has no answer this long after its last byte was not refused: a refusal comes at once. With the API kind
/// `openai` the answer comes only when the picture is made, and a submit that waits for the outcome of this one (after
/// a pause, above all) must not wait for a picture.
pub(super) const ACCEPTED_AFTER: Duration = Duration::from_secs(5);

impl Purchase {
    /// Submits, if it is still wanted, not too late, and a commit record can be written.
    pub(in crate::engine::jobs) fn granted(&mut self, account: AccountId, cx: &mut Context<'_>) {
        if matches!(self.state, State::Queued) {
            use_grant(self, account, cx);
        } else {
            cx.push(Effect::ReleaseInFlight { purchase: cx.purchase });
        }
    }

    /// Asks again for a format: once another purchase is answered through the account, or for `None` when what it waited
    /// for has ended, and after a time. `usable`: the grant is still of use; otherwise it is returned, and the budget is
    /// asked again.
    pub(in crate::engine::jobs) fn ask_for_format(
        &mut self,
        answered: Option<&AccountId>,
        usable: bool,
        cx: &mut Context<'_>,
    ) {
        let State::AwaitingFormat { account, .. } = &self.state else { return };
        if answered.is_some_and(|answered| answered != account) {
            return;
        }
        if usable {
            use_grant(self, account.clone(), cx);
        } else {
            cx.push(Effect::ReleaseInFlight { purchase: cx.purchase });
            self.requeue(Duration::ZERO, cx);
        }
    }

    /// Decides what follows the answer to a submit, or its failure.
    pub(in crate::engine::jobs) fn submitted(&mut self, submitted: SubmitResult, cx: &mut Context<'_>) {
        let State::Submitting(submit @ Submit { sent, since, last_byte }) = &self.state else {
            return cx.push(Effect::ReleaseInFlight { purchase: cx.purchase });
        };
        let (sent, since, committed) = (sent.clone(), *since, *last_byte != LastByte::Held);
        let (made_since, late) = (submit.held_since(), self.state.is_processing());
        let purchase = cx.purchase;
        let SubmitResult { mut result, usable_accounts } = submitted;
        if let Ok(Submitted::Finished { finished, .. }) = &mut result {
            cx.keep_asked(finished, self.pictures, true);
        }
        // A purchase that has changed its format is not bought again for an unknown outcome too.
        let on_unknown = if self.attempts.format_changed { OnUnknown::Hold } else { cx.rules.on_unknown };
        let after = after_submit(result, self.attempts.counted, cx.rules.submit_attempts_max, on_unknown);
        if let AfterSubmit::Accept { .. } | AfterSubmit::Fetch(_) = after {
            let tries = &self.attempts.formats;
            cx.formats.accepted(&sent.subject, &sent.format, tries, purchase, cx.now.timestamp);
        } else if !matches!(after, AfterSubmit::ChangeFormat { .. }) {
            cx.formats.no_verdict(purchase);
        }
        let (pause, lost) = match after {
            AfterSubmit::Accept { handle, finished } => {
                if finished.is_some() {
                    cx.push(Effect::ReleaseInFlight { purchase });
                }
                let class = class_of(cx.job.record, self.pictures);
                let account = sent.subject.account.clone();
                let mut accepted = Box::new(Accepted::new(handle, account, class, cx.now.instant));
                (accepted.found_done, accepted.sent) = (finished.is_some(), Some(sent));
                // The record first: until it is durable, a crash makes an unknown outcome of the purchase.
                self.enter_recorded(State::Accepting { accepted, finished }, cx);
                return cx.push(Effect::EndSubmits { purchase });
            }
            AfterSubmit::Fetch(finished) => {
                cx.push(Effect::ReleaseInFlight { purchase });
                cx.push(Effect::EndSubmits { purchase });
                if let Some(made_since) = made_since {
                    let took = cx.now.instant.saturating_duration_since(made_since);
                    let class = class_of(cx.job.record, self.pictures);
                    cx.push(Effect::Learn(Completion { class, working_at: took, took, polls: 0 }));
                }
                cx.fetch(finished.clone(), Duration::ZERO, false);
                let immediate = Immediate { finished, sent, since, answered: cx.now.instant, rounds: 0 };
                self.state = State::Collecting(Box::new(immediate));
                return;
            }
            AfterSubmit::Retry { pause } => (pause, false),
            AfterSubmit::Resubmit { pause } => (pause, true),
            AfterSubmit::PushedBack(pushback) => {
                let api_kind = sent.format.method.api_kind();
                if let Some(failure) = self.attempts.refuse(&pushback, sent.subject.account, &usable_accounts) {
                    return self.fail(failure, cx);
                }
                // A refusal after the budget has counted the submit as accepted changes nothing in the budget, so it
                // delays no later submit: this pause does.
                let waited = cx.now.instant.saturating_duration_since(since);
                let counted = api_kind == ApiKind::OpenAi && waited >= ACCEPTED_AFTER;
                (if counted { ACCEPTED_AFTER } else { Duration::ZERO }, false)
            }
            // A refusal for the format comes at once. One without a reason that comes so late is no such refusal.
            AfterSubmit::ChangeFormat { refusal: FormatRefusal::Unclear, failure } if late => {
                return self.fail(failure, cx);
            }
            AfterSubmit::ChangeFormat { refusal, failure } => {
                let SentFormat { subject, format } = &sent;
                let (tries, at) = (&mut self.attempts.formats, cx.now.timestamp);
                let verdict = match cx.job.formats {
                    Some(options) => {
                        cx.formats.refused(subject, options, format, refusal, failure, tries, purchase, at)
                    }
                    None => FormatVerdict::End(failure),
                };
                match verdict {
                    // A refusal of the format is no attempt, as a 429 is none.
                    FormatVerdict::TryAnother => {
                        self.attempts.counted -= 1;
                        self.attempts.format_changed = true;
                    }
                    FormatVerdict::End(failure) => return self.fail(failure, cx),
                }
                (Duration::ZERO, false)
            }
            AfterSubmit::End(failure) => return self.fail(sent.explain(failure), cx),
        };
        if committed {
            self.enter_recorded(State::Withdrawing { pause, lost }, cx);
        } else {
            self.requeue(pause, cx);
        }
    }

    /// Takes the steps whose time has come.
    pub(in crate::engine::jobs) fn time_passed(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.instant;
        if self.append.again_at.take_if(|at| *at <= now).is_some() {
            append_again(self, cx);
        }
        if let State::Submitting(Submit { last_byte: LastByte::Released { at, assume_at }, .. }) = &mut self.state {
            if assume_at.take_if(|at| *at <= now).is_some() {
                cx.formats.presumed(cx.purchase);
                let age = now.saturating_duration_since(*at);
                let class = class_of(cx.job.record, self.pictures);
                cx.push(Effect::AssumeAccepted { purchase: cx.purchase, class, age });
            }
        } else if let State::Polling(accepted) = &self.state {
            if accepted.refetch.as_ref().is_some_and(|refetch| refetch.until <= now) {
                let message = "the image service did not return it in time".to_owned();
                self.fail(Failure::ResultLost { message }, cx);
            }
        } else if let State::Pausing { until } = self.state
            && until <= now
        {
            self.requeue(Duration::ZERO, cx);
        } else if matches!(self.state, State::Queued) && cx.is_late() {
            self.state = explain_delay(cx);
        }
    }

    /// Submits it again after a pause, or ends it if nothing can be journalled or submitted any more.
    pub(super) fn requeue(&mut self, pause: Duration, cx: &mut Context<'_>) {
        if let Some(failure) = cx.closed {
            return self.fail(failure.clone(), cx);
        }
        self.state = if !pause.is_zero() {
            let until = cx.now.instant + pause;
            cx.timers.set(until, cx.purchase.job);
            State::Pausing { until }
        } else if cx.is_late() {
            explain_delay(cx)
        } else {
            cx.push(Effect::Enqueue { purchase: cx.purchase });
            State::Queued
        };
    }
}

/// Submits in the format that is known to be accepted, or next to be tried; keeps the grant while another purchase
/// tries that out.
fn use_grant(one: &mut Purchase, account: AccountId, cx: &mut Context<'_>) {
    let purchase = cx.purchase;
    if let Some(failure) = cx.closed {
        return one.fail(failure.clone(), cx);
    }
    let Some(formats) = cx.job.formats.filter(|_| !cx.is_late()) else {
        cx.push(Effect::ReleaseInFlight { purchase });
        one.state = explain_delay(cx);
        return;
    };
    let subject = formats.subject(&account);
    let now = cx.now;
    match cx.formats.choose(&subject, formats, &one.attempts.formats, purchase, now.instant, now.timestamp) {
        FormatChoice::Submit(format) => {
            one.attempts.submits += 1;
            one.attempts.counted += 1;
            let sent = SentFormat { subject, format: format.format.clone() };
            let attempt = one.attempts.counted;
            cx.push(Effect::Submit { purchase, pictures: one.pictures, attempt, format: Box::new(format) });
            one.state = State::Submitting(Submit { sent, since: now.instant, last_byte: LastByte::Held });
        }
        FormatChoice::Wait { until } => {
            cx.timers.set(until, purchase.job);
            one.state = State::AwaitingFormat { account };
        }
        FormatChoice::Exhausted(failure) => one.fail(failure, cx),
    }
}

impl Attempts {
    /// Notes that the upstream refused a submit, which is then no attempt: the budget decides when the next one leaves,
    /// and with which account. Returns the failure to end with when the key, or the model, was refused and no other account is left.
    fn refuse(&mut self, pushback: &Pushback, account: AccountId, usable: &[AccountId]) -> Option<Failure> {
        self.counted -= 1;
        let reason = match pushback {
            Pushback::Key { reason } | Pushback::Permission { reason } => reason,
            Pushback::Account { .. } | Pushback::Model { .. } => return None,
        };
        if !self.refused_accounts.contains(&account) {
            self.refused_accounts.push(account);
        }
        let another = usable.iter().any(|usable| !self.refused_accounts.contains(usable));
        (!another).then(|| reason.clone())
    }
}

fn explain_delay(cx: &mut Context<'_>) -> State {
    cx.push(Effect::ExplainDelay { purchase: cx.purchase });
    State::Late
}
