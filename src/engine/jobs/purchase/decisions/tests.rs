use proptest::prelude::*;

use super::*;
use crate::input_urls::InputUrlGuards;
use crate::model::{ApiKind, UpstreamId};

fn polling() -> PollState {
    PollState::new(PurchaseHandle {
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
fn a_submit_that_was_not_sent_is_retried_with_growing_pauses_up_to_a_limit() {
    let not_sent = || Err(SubmitError::NotSent { message: "no route".to_owned() });
    assert_eq!(after_submit(not_sent(), 1, 3, OnUnknown::Hold), AfterSubmit::Retry { pause: RESUBMIT_PAUSE });
    assert_eq!(after_submit(not_sent(), 2, 3, OnUnknown::Hold), AfterSubmit::Retry { pause: RESUBMIT_PAUSE * 2 });
    let end = after_submit(not_sent(), 3, 3, OnUnknown::Hold);
    assert!(matches!(end, AfterSubmit::End(Failure::Unreachable { .. })));
}

#[test]
fn an_empty_result_counts_as_lost_only_at_the_deadline() {
    let mut polling = polling();
    for _ in 0..100 {
        assert_eq!(polling.after_poll(Ok(Polled::Empty), false), AfterPoll::PollAgain);
    }
    let end = polling.after_poll(Ok(Polled::Empty), true);
    assert!(matches!(end, AfterPoll::End(Failure::ResultLost { .. })));
}

fn moderated(message: &str) -> Result<Polled, PollError> {
    Err(PollError::Moderated { message: message.to_owned() })
}

#[test]
fn the_same_policy_text_in_three_polls_running_is_the_end_and_counts_as_bought() {
    let mut polling = polling();
    for _ in 0..2 {
        assert_eq!(polling.after_poll(moderated("违规"), false), AfterPoll::PollAgain);
        // A 429 says nothing about the task.
        let refused = Err(PollError::Refused { retry_after: None });
        assert_eq!(polling.after_poll(refused, false), AfterPoll::PollAgain);
    }
    let end = Failure::Moderated { message: "违规".to_owned(), bought: true };
    assert_eq!(polling.after_poll(moderated("违规"), false), AfterPoll::End(end));
}

#[test]
fn another_text_or_another_answer_begins_the_count_of_policy_texts_again() {
    let others = || {
        [
            moderated("b"),
            Ok(Polled::Working),
            Err(PollError::Trouble { message: "a".to_owned() }),
            Err(PollError::OtherPrediction { id: "a".to_owned() }),
        ]
    };
    for position in 0..others().len() {
        let mut polling = polling();
        for _ in 0..5 {
            for _ in 0..2 {
                assert_eq!(polling.after_poll(moderated("a"), false), AfterPoll::PollAgain);
            }
            let other = others().into_iter().nth(position).unwrap();
            assert_eq!(polling.after_poll(other, false), AfterPoll::PollAgain);
        }
    }
}

#[test]
fn resubmit_after_an_unknown_outcome_happens_only_when_configured() {
    let lost = || Err(SubmitError::Unknown { message: "cut".to_owned() });
    let next = |attempt| after_submit(lost(), attempt, 3, OnUnknown::Resubmit);
    assert!(matches!(next(1), AfterSubmit::Resubmit { .. }));
    assert!(matches!(next(3), AfterSubmit::End(Failure::OutcomeUnknown { .. })));
}

#[test]
fn a_full_disk_loses_nothing_before_the_deadline() {
    let full = || Some(FetchFailure::Storage("no space left".to_owned()));
    for _ in 0..100 {
        assert_eq!(after_fetch(0, full(), false), AfterFetch::FetchAgain);
    }
    assert!(matches!(after_fetch(0, full(), true), AfterFetch::End(Failure::ResultLost { .. })));
}

#[test]
fn pictures_that_could_be_fetched_are_delivered_at_the_deadline() {
    let gone = || Some(FetchFailure::Upstream("gone".to_owned()));
    for _ in 0..100 {
        assert_eq!(after_fetch(1, gone(), false), AfterFetch::FetchAgain);
    }
    assert_eq!(after_fetch(1, gone(), true), AfterFetch::Resolve);
}

proptest! {
    /// Promise: polling errors never end a purchase.
    #[test]
    fn no_failed_poll_ends_a_purchase_before_its_deadline(troubles in proptest::collection::vec(0_u8..5, 0..200)) {
        let mut polling = polling();
        for trouble in troubles {
            let result = match trouble {
                0 => Err(PollError::Trouble { message: "HTML".to_owned() }),
                1 => Err(PollError::Refused { retry_after: None }),
                2 => Err(PollError::OtherPrediction { id: "other".to_owned() }),
                3 => Ok(Polled::Empty),
                _ => Ok(Polled::Working),
            };
            prop_assert!(!matches!(polling.after_poll(result, false), AfterPoll::End(_)));
        }
        let trouble = || Err(PollError::Trouble { message: String::new() });
        prop_assert_eq!(polling.after_poll(trouble(), true), AfterPoll::PollAgain, "the upstream had no chance to answer");
        prop_assert_eq!(polling.after_poll(Ok(Polled::Working), true), AfterPoll::End(Failure::DeadlineExceeded));
        let ends = (0..=LATE_TROUBLES_MAX).any(|_| polling.after_poll(trouble(), true) == AfterPoll::End(Failure::DeadlineExceeded));
        prop_assert!(ends, "an upstream that is gone is given up");
    }
}
