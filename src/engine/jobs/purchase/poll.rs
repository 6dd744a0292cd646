//! From the acceptance of the upstream to the pictures.

use std::time::Duration;

use super::decisions::{AfterFetch, AfterPoll, after_fetch};
use super::refetch::refetch_end;
use super::{Accepted, Context, Purchase, State};
use crate::engine::jobs::event::{Completion, Effect, FetchFailure, Fetched};
use crate::upstream::formats::{FormatProblem, InputKind};
use crate::upstream::{PollError, Polled};

impl Purchase {
    /// Decides what follows a poll that started at the age `age`.
    pub(in crate::engine::jobs) fn polled(
        &mut self,
        age: Duration,
        mut result: Result<Polled, PollError>,
        cx: &mut Context<'_>,
    ) {
        let State::Polling(accepted) = &mut self.state else { return };
        let purchase = cx.purchase;
        if let Ok(Polled::Finished(finished)) = &mut result {
            cx.keep_asked(finished, self.pictures, !accepted.found_done);
        }
        match &result {
            Ok(Polled::Working) => (accepted.working_at, accepted.troubles) = (Some(age), 0),
            Ok(Polled::Finished(_)) => {
                cx.push(Effect::ReleaseInFlight { purchase });
                if let Some(completion) = completion(accepted, cx) {
                    cx.push(Effect::Learn(completion));
                }
                accepted.found_done = true;
            }
            // After a refusal the budget slows down all polls of the account.
            Ok(Polled::Failed(_)) | Err(PollError::Refused { .. }) => {}
            Ok(Polled::Empty) => {
                // It is done, and its pictures may be late for a long time.
                cx.push(Effect::ReleaseInFlight { purchase });
                accepted.troubles = accepted.troubles.saturating_add(1);
            }
            Err(PollError::Trouble { .. } | PollError::OtherPrediction { .. } | PollError::Moderated { .. }) => {
                accepted.troubles = accepted.troubles.saturating_add(1);
            }
        }
        if let (Ok(polled), Some(sent)) = (&result, &accepted.sent)
            && let Some(reason) = polled.blamed_inputs()
            // A client's own address may lead nowhere.
            && sent.subject.inputs == InputKind::Files
        {
            cx.formats.suspect(&sent.subject, &sent.format, FormatProblem::TaskFailed(reason), cx.now.timestamp);
        }
        // A refetch is given up by its own time.
        let expired = accepted.refetch.is_none() && cx.is_expired(accepted.at);
        match accepted.poll.after_poll(result, expired) {
            AfterPoll::PollAgain => cx.push(Effect::PlanPoll { purchase, poll: accepted.next_poll(false) }),
            AfterPoll::Fetch(finished) => cx.fetch(finished, Duration::ZERO, true),
            AfterPoll::End(failure) => {
                let failure = match &accepted.sent {
                    Some(sent) => sent.explain(failure),
                    None => failure,
                };
                self.fail(failure, cx);
            }
        }
    }

    /// Decides what follows a round of fetching.
    pub(in crate::engine::jobs) fn fetched(&mut self, fetched: Fetched, cx: &mut Context<'_>) {
        let purchase = cx.purchase;
        let (stored, failed) = (fetched.pictures.len(), fetched.trouble.is_some());
        if let State::Polling(accepted) = &mut self.state {
            if accepted.refetch.is_some() {
                if let Some(end) = refetch_end(accepted, &fetched) {
                    return self.enter_recorded(State::Ending(end), cx);
                }
                accepted.troubles = accepted.troubles.saturating_add(1);
                return cx.push(Effect::PlanPoll { purchase, poll: accepted.next_poll(false) });
            }
            if failed {
                accepted.troubles = accepted.troubles.saturating_add(1);
            }
            let (handle, since, sent) = (accepted.poll.handle.clone(), accepted.at, accepted.sent.clone());
            match after_fetch(stored, fetched.trouble.clone(), cx.is_expired(since)) {
                AfterFetch::Resolve => {
                    self.resolve(Some(handle), fetched, since, sent, cx);
                }
                AfterFetch::FetchAgain => cx.push(Effect::PlanPoll { purchase, poll: accepted.next_poll(false) }),
                AfterFetch::End(failure) => self.fail(failure, cx),
            }
        } else if let State::Collecting(immediate) = &mut self.state {
            immediate.rounds = immediate.rounds.saturating_add(1);
            let since = immediate.since;
            // Without an id the answer is all there is, and it keeps memory that other answers wait for.
            let invalid = matches!(fetched.trouble, Some(FetchFailure::Invalid(_)));
            let last = invalid || cx.is_expired(immediate.answered);
            match after_fetch(stored, fetched.trouble.clone(), last) {
                AfterFetch::Resolve => {
                    let sent = immediate.sent.clone();
                    self.resolve(None, fetched, since, Some(sent), cx);
                }
                // There is nothing to poll for fresh addresses.
                AfterFetch::FetchAgain => {
                    let pause = cx.rules.planner.backoff(immediate.rounds, cx.now.spread);
                    cx.fetch(immediate.finished.clone(), pause, false);
                }
                AfterFetch::End(failure) => self.fail(failure, cx),
            }
        }
    }
}

/// Returns `None` for a purchase that was found done before, and for one that was accepted before the start: the time without
/// the gateway is not part of its age.
fn completion(accepted: &Accepted, cx: &Context<'_>) -> Option<Completion> {
    (!accepted.resumed && !accepted.found_done).then(|| Completion {
        class: accepted.class.clone(),
        working_at: accepted.working_at.unwrap_or_default(),
        took: cx.now.instant.saturating_duration_since(accepted.at),
        polls: accepted.poll.polls + 1,
    })
}
