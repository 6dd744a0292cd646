//! What follows a submit, a poll and a round of fetching: decisions without state, besides the counts of failed polls.

use std::time::Duration;

use crate::budget::Pushback;
use crate::config::OnUnknown;
use crate::engine::jobs::event::FetchFailure;
use crate::model::Failure;
use crate::upstream::formats::FormatRefusal;
use crate::upstream::{Finished, PollError, Polled, PurchaseHandle, SubmitError, Submitted};

/// Polls running that are refused with the same text about content policy before that counts as the end of the task.
const MODERATIONS_MAX: u32 = 3;
/// Polls that fail after the deadline before an upstream that does not answer is given up: after a long pause the
/// gateway may be back before the network is.
const LATE_TROUBLES_MAX: u32 = 30;
/// Pause after the first submit that did not arrive; doubles with each further one.
const RESUBMIT_PAUSE: Duration = Duration::from_millis(500);

/// What to do after a submit.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AfterSubmit {
    /// It has an id: journal that, then poll, or fetch the pictures that came with the answer.
    Accept {
        handle: PurchaseHandle,
        finished: Option<Finished>,
    },
    /// Its pictures came with the answer, without an id.
    Fetch(Finished),
    /// Nothing was bought: the purchase is an intent again, and is submitted again after the pause.
    Retry {
        pause: Duration,
    },
    /// Refused, and nothing was bought: the budget decides when, and with which account, it is submitted again.
    PushedBack(Pushback),
    /// The format was refused, and nothing was bought.
    ChangeFormat {
        refusal: FormatRefusal,
        failure: Failure,
    },
    /// The outcome is unknown, and the configuration prefers to pay twice over having no picture.
    Resubmit {
        pause: Duration,
    },
    End(Failure),
}

/// Decides after try number `attempt` (from 1) of at most `attempts_max`.
pub(super) fn after_submit(
    result: Result<Submitted, SubmitError>,
    attempt: u32,
    attempts_max: u32,
    on_unknown: OnUnknown,
) -> AfterSubmit {
    let pause = RESUBMIT_PAUSE * 2_u32.saturating_pow((attempt - 1).min(6));
    match result {
        Ok(Submitted::Accepted(handle)) => AfterSubmit::Accept { handle, finished: None },
        Ok(Submitted::Finished { handle: Some(handle), finished }) => {
            AfterSubmit::Accept { handle, finished: Some(finished) }
        }
        Ok(Submitted::Finished { handle: None, finished }) => AfterSubmit::Fetch(finished),
        Err(SubmitError::NotSent { message }) if attempt >= attempts_max => {
            AfterSubmit::End(Failure::Unreachable { message })
        }
        Err(SubmitError::NotSent { .. }) => AfterSubmit::Retry { pause },
        Err(SubmitError::Refused { pushback, .. }) => AfterSubmit::PushedBack(pushback),
        Err(SubmitError::Rejected(failure)) => AfterSubmit::End(failure),
        Err(SubmitError::FormatRefused { refusal, failure }) => AfterSubmit::ChangeFormat { refusal, failure },
        Err(SubmitError::Unknown { .. }) if on_unknown == OnUnknown::Resubmit && attempt < attempts_max => {
            AfterSubmit::Resubmit { pause }
        }
        Err(SubmitError::Unknown { message }) => AfterSubmit::End(Failure::OutcomeUnknown { message }),
    }
}

/// What is remembered of an accepted purchase between polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine::jobs) struct PollState {
    pub(in crate::engine::jobs) handle: PurchaseHandle,
    pub(super) polls: u32,
    late_troubles: u32,
    /// The text of the last poll that was refused for content policy, and how often running it was the same.
    moderated: Option<(String, u32)>,
}

/// What to do after a poll.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AfterPoll {
    PollAgain,
    Fetch(Finished),
    End(Failure),
}

/// What to do after a round of fetching.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AfterFetch {
    /// Store the pictures that came.
    Resolve,
    /// Fetch again, with fresh addresses where there is an id to poll for them.
    FetchAgain,
    End(Failure),
}

impl PollState {
    pub(super) fn new(handle: PurchaseHandle) -> Self {
        Self { handle, polls: 0, late_troubles: 0, moderated: None }
    }

    /// Decides after a poll. `expired`: the deadline of the purchase has passed.
    pub(super) fn after_poll(&mut self, result: Result<Polled, PollError>, expired: bool) -> AfterPoll {
        self.polls += 1;
        if let Some(failure) = self.moderation(&result) {
            return AfterPoll::End(failure);
        }
        match result {
            Ok(Polled::Finished(finished)) => AfterPoll::Fetch(finished),
            Ok(Polled::Failed(failure)) => AfterPoll::End(failure),
            // It is paid for, and the pictures may follow: only the deadline ends it.
            Ok(Polled::Empty) if expired => AfterPoll::End(Failure::ResultLost {
                message: "the upstream reports that it is done and shows no picture".to_owned(),
            }),
            Ok(Polled::Working) if expired => AfterPoll::End(Failure::DeadlineExceeded),
            // A failed poll proves nothing about the purchase, which is paid for. Only the deadline ends it, and only
            // after the upstream had its chance to answer.
            Err(_) if expired && self.late_troubles >= LATE_TROUBLES_MAX => AfterPoll::End(Failure::DeadlineExceeded),
            Err(PollError::Refused { .. }) | Ok(Polled::Working | Polled::Empty) => AfterPoll::PollAgain,
            Err(PollError::Trouble { .. } | PollError::OtherPrediction { .. } | PollError::Moderated { .. }) => {
                self.late_troubles += u32::from(expired);
                AfterPoll::PollAgain
            }
        }
    }

    /// Counts polls that are refused for content policy, which is how some relays answer for a task that failed. Returns
    /// the failure to end with: it may have been bought.
    fn moderation(&mut self, result: &Result<Polled, PollError>) -> Option<Failure> {
        let message = match result {
            Err(PollError::Moderated { message }) => message,
            // It says nothing about the task.
            Err(PollError::Refused { .. }) => return None,
            Ok(_) | Err(PollError::Trouble { .. } | PollError::OtherPrediction { .. }) => {
                self.moderated = None;
                return None;
            }
        };
        let before = self.moderated.take().filter(|(text, _)| text == message).map_or(0, |(_, times)| times);
        self.moderated = Some((message.clone(), before + 1));
        (before + 1 >= MODERATIONS_MAX).then(|| Failure::Moderated { message: message.clone(), bought: true })
    }
}

/// Decides after a round of fetching, from the number of pictures that came and the trouble of the last that did not. A
/// result that is paid for is fetched until the deadline, whether a host is down or the disk is full. `last`: no other round
/// can bring more.
pub(super) fn after_fetch(stored: usize, trouble: Option<FetchFailure>, last: bool) -> AfterFetch {
    match trouble {
        None => AfterFetch::Resolve,
        Some(_) if !last => AfterFetch::FetchAgain,
        Some(_) if stored > 0 => AfterFetch::Resolve,
        Some(FetchFailure::Storage(message) | FetchFailure::Upstream(message) | FetchFailure::Invalid(message)) => {
            AfterFetch::End(Failure::ResultLost { message })
        }
    }
}

#[cfg(test)]
mod tests;
