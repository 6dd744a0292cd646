//! The life of one prediction, decided.
//!
//! ```text
//!            ┌──────────── not sent, refused: again ────────────┐
//!            ▼                                                  │
//!  INTENT ──────▶ uploads all but the last byte ──▶ COMMITTING ─┤
//!    │  │                     │                         │       │
//!    │  └─ nobody waits       └─ rejected ─▶ FAILED ◀───┤       └── last byte ──▶ ACCEPTED ◀─┐ still working,
//!    ▼                                                  │                          │  │  └───┘ trouble, pushback
//!  FAILED (nothing bought)                 answer lost ─┴─▶ UNKNOWN (never resent) │  │
//!                                                                                  │  └── failed, deadline ─▶ FAILED
//!                                                                finished, fetched ▼
//!                                                                              RESOLVED
//! ```
//!
//! On the route `openai` the submit is the whole life: there is no id and no poll, and the answer to the last byte brings the
//! pictures. The states are the same, ACCEPTED left out; COMMITTING, which otherwise lasts for a moment, lasts for as long as
//! the picture takes. A connection that breaks in it, a stop whose grace ends in it and a crash in it are UNKNOWN.
//!
//! Each state has its own function, which takes only what can happen to it. Nothing in this file sleeps, spawns, logs
//! or performs I/O; `launch.rs` and `follow.rs` do that.

use std::time::Duration;

use crate::budget::Pushback;
use crate::config::OnUnknown;
use crate::model::Failure;
use crate::upstream::{Finished, PollError, Polled, PurchaseHandle, SubmitError, Submitted};

/// Answers "done" without pictures that are believed to be a moment of the upstream's, before they are a loss.
const EMPTY_ANSWERS_MAX: u32 = 3;
/// Polls that bring trouble and nothing else, after the deadline, before an upstream that does not answer is given up: a
/// restart after a long pause may well come before the network does.
const LATE_TROUBLES_MAX: u32 = 30;
/// Pause after the first submit that did not arrive; doubles with every further one.
const RESEND_PAUSE: Duration = Duration::from_millis(500);

/// What to do after a submit.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AfterSubmit {
    /// It has an id: journal it, then poll.
    Follow(PurchaseHandle),
    /// Its pictures are there already.
    Collect {
        handle: Option<PurchaseHandle>,
        finished: Finished,
    },
    /// Nothing was bought: back to being an intent, and again after the pause.
    Again {
        pause: Duration,
    },
    /// Refused, and nothing was bought: the budget decides when, and with whose key.
    PushedBack(Pushback),
    /// The outcome is unknown, and the operator would rather pay twice than have no picture.
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
    let pause = RESEND_PAUSE * 2_u32.saturating_pow((attempt - 1).min(6));
    match result {
        Ok(Submitted::Accepted(handle)) => AfterSubmit::Follow(handle),
        Ok(Submitted::Finished { handle, finished }) => AfterSubmit::Collect { handle, finished },
        Err(SubmitError::NotSent { message }) if attempt >= attempts_max => {
            AfterSubmit::End(Failure::Unreachable { message })
        }
        Err(SubmitError::NotSent { .. }) => AfterSubmit::Again { pause },
        Err(SubmitError::Refused { pushback, .. }) => AfterSubmit::PushedBack(pushback),
        Err(SubmitError::Rejected(failure)) => AfterSubmit::End(failure),
        Err(SubmitError::Unknown { .. }) if on_unknown == OnUnknown::Resubmit && attempt < attempts_max => {
            AfterSubmit::Resubmit { pause }
        }
        Err(SubmitError::Unknown { message }) => AfterSubmit::End(Failure::OutcomeUnknown { message }),
    }
}

/// What is remembered of an accepted prediction between polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Following {
    pub(super) handle: PurchaseHandle,
    pub(super) polls: u32,
    empty_answers: u32,
    late_troubles: u32,
}

/// What to do after a poll.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AfterPoll {
    PollAgain,
    /// 429: the budget slows polls down; this one comes again.
    PushedBack {
        retry_after: Option<Duration>,
    },
    Collect(Finished),
    End(Failure),
}

/// Why an output could not be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FetchTrouble {
    /// Its address, its transfer, or its bytes.
    Upstream(String),
    /// The disk.
    Storage(String),
}

/// What to do after the outputs were fetched, or not.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AfterFetch {
    /// Good enough: store what came.
    Resolve,
    /// Ask for fresh addresses and try again.
    PollAgain,
    End(Failure),
}

impl Following {
    pub(super) fn new(handle: PurchaseHandle) -> Self {
        Self { handle, polls: 0, empty_answers: 0, late_troubles: 0 }
    }

    /// Decides after a poll. `expired`: the deadline of the prediction has passed.
    pub(super) fn after_poll(&mut self, result: Result<Polled, PollError>, expired: bool) -> AfterPoll {
        self.polls += 1;
        match result {
            Ok(Polled::Finished(finished)) => AfterPoll::Collect(finished),
            Ok(Polled::Failed(failure)) => AfterPoll::End(failure),
            Ok(Polled::Empty) => {
                self.empty_answers += 1;
                if self.empty_answers >= EMPTY_ANSWERS_MAX {
                    AfterPoll::End(Failure::ResultLost {
                        message: "the upstream says that it is done and shows no picture".to_owned(),
                    })
                } else {
                    AfterPoll::PollAgain
                }
            }
            Ok(Polled::Working) if expired => AfterPoll::End(Failure::DeadlineExceeded),
            // Trouble of a poll says nothing about the prediction, which is paid for. Only the deadline ends it, and
            // only when the upstream had its chance to answer.
            Err(_) if expired && self.late_troubles >= LATE_TROUBLES_MAX => AfterPoll::End(Failure::DeadlineExceeded),
            Err(PollError::Trouble { .. }) if expired => {
                self.late_troubles += 1;
                AfterPoll::PollAgain
            }
            Ok(Polled::Working) | Err(PollError::Trouble { .. }) => AfterPoll::PollAgain,
            Err(PollError::Refused { retry_after }) => AfterPoll::PushedBack { retry_after },
        }
    }
}

/// Decides after a round of fetching: how many pictures came, and the trouble of the last that did not. What is paid for
/// is fetched until the deadline, whether a host is down or the disk is full.
pub(super) fn after_fetch(stored: usize, trouble: Option<FetchTrouble>, expired: bool) -> AfterFetch {
    match trouble {
        None => AfterFetch::Resolve,
        Some(_) if !expired => AfterFetch::PollAgain,
        Some(_) if stored > 0 => AfterFetch::Resolve,
        Some(FetchTrouble::Storage(message) | FetchTrouble::Upstream(message)) => {
            AfterFetch::End(Failure::ResultLost { message })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::input_urls::InputUrlGuards;
    use crate::model::{ApiKind, UpstreamId};

    fn following() -> Following {
        Following::new(PurchaseHandle {
            id: UpstreamId::new("abc").unwrap(),
            poll_url: None,
            api_kind: ApiKind::Prediction,
            input_url_guards: InputUrlGuards::default(),
        })
    }

    #[test]
    fn a_lost_submit_answer_is_never_resent() {
        let lost = || Err(SubmitError::Unknown { message: "cut".to_owned() });
        for attempt in 1..10 {
            assert!(matches!(
                after_submit(lost(), attempt, 100, OnUnknown::Hold),
                AfterSubmit::End(Failure::OutcomeUnknown { .. })
            ));
        }
    }

    #[test]
    fn what_was_not_sent_is_tried_again_with_growing_pauses_and_an_end() {
        let not_sent = || Err(SubmitError::NotSent { message: "no route".to_owned() });
        assert_eq!(after_submit(not_sent(), 1, 3, OnUnknown::Hold), AfterSubmit::Again { pause: RESEND_PAUSE });
        assert_eq!(after_submit(not_sent(), 2, 3, OnUnknown::Hold), AfterSubmit::Again { pause: RESEND_PAUSE * 2 });
        let end = after_submit(not_sent(), 3, 3, OnUnknown::Hold);
        assert!(matches!(end, AfterSubmit::End(Failure::Unreachable { .. })));
    }

    #[test]
    fn an_empty_done_is_a_loss_only_after_a_while() {
        let mut following = following();
        assert_eq!(following.after_poll(Ok(Polled::Empty), false), AfterPoll::PollAgain);
        assert_eq!(following.after_poll(Ok(Polled::Empty), false), AfterPoll::PollAgain);
        let end = following.after_poll(Ok(Polled::Empty), false);
        assert!(matches!(end, AfterPoll::End(Failure::ResultLost { .. })));
    }

    #[test]
    fn who_would_rather_pay_twice_gets_another_try() {
        let lost = || Err(SubmitError::Unknown { message: "cut".to_owned() });
        let next = |attempt| after_submit(lost(), attempt, 3, OnUnknown::Resubmit);
        assert!(matches!(next(1), AfterSubmit::Resubmit { .. }));
        assert!(matches!(next(3), AfterSubmit::End(Failure::OutcomeUnknown { .. })));
    }

    #[test]
    fn a_full_disk_loses_nothing_before_the_deadline() {
        let full = || Some(FetchTrouble::Storage("no space left".to_owned()));
        for _ in 0..100 {
            assert_eq!(after_fetch(0, full(), false), AfterFetch::PollAgain);
        }
        assert!(matches!(after_fetch(0, full(), true), AfterFetch::End(Failure::ResultLost { .. })));
    }

    #[test]
    fn what_could_be_fetched_is_delivered_in_the_end() {
        let gone = || Some(FetchTrouble::Upstream("gone".to_owned()));
        for _ in 0..100 {
            assert_eq!(after_fetch(1, gone(), false), AfterFetch::PollAgain);
        }
        assert_eq!(after_fetch(1, gone(), true), AfterFetch::Resolve);
    }

    proptest! {
        /// Promise: polling errors never abandon a prediction.
        #[test]
        fn no_trouble_ends_a_prediction_before_its_deadline(troubles in proptest::collection::vec(0_u8..3, 0..200)) {
            let mut following = following();
            for trouble in troubles {
                let result = match trouble {
                    0 => Err(PollError::Trouble { message: "HTML".to_owned() }),
                    1 => Err(PollError::Refused { retry_after: None }),
                    _ => Ok(Polled::Working),
                };
                prop_assert!(!matches!(following.after_poll(result, false), AfterPoll::End(_)));
            }
            let trouble = || Err(PollError::Trouble { message: String::new() });
            prop_assert_eq!(following.after_poll(trouble(), true), AfterPoll::PollAgain, "it had no chance to answer");
            prop_assert_eq!(following.after_poll(Ok(Polled::Working), true), AfterPoll::End(Failure::DeadlineExceeded));
            let ends = (0..=LATE_TROUBLES_MAX).any(|_| following.after_poll(trouble(), true) == AfterPoll::End(Failure::DeadlineExceeded));
            prop_assert!(ends, "and an upstream that is gone is not asked for ever");
        }
    }
}
