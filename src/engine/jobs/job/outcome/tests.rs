use proptest::prelude::*;

use super::*;
use crate::model::{ApiKind, Choices, ClientId, Digest, Fingerprint, Format, PictureRequest, PurchaseId, Size, Task};
use crate::storage::journal::{JobRecord, Resolution, StoredPurchase};

const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// A stored job whose purchases failed, in the order of their slots.
fn failed(failures: &[Failure]) -> StoredJob {
    let client = ClientId("alice".into());
    let request = PictureRequest {
        task: Task::Generate,
        model: "gpt-image-2".into(),
        prompt: "a fox".to_owned(),
        inputs: Vec::new(),
        mask: None,
        n: 4,
        size: Size { width: 1024, height: 1024 },
        choices: Choices::default(),
        explicit: std::collections::BTreeSet::new(),
        api_kind: ApiKind::Prediction,
    };
    let record = JobRecord {
        id: JobId::new(START, 1),
        fingerprint: Fingerprint::of(&client, &request),
        client,
        task: request.task,
        model: request.model,
        size: request.size,
        choices: request.choices,
        n: request.n,
        inputs: 0,
        shareable: true,
        idempotency_key: None,
        respond_async: false,
        created: START,
        prompt: None,
    };
    let purchases = (0..).zip(failures).map(|(slot, failure)| StoredPurchase {
        id: PurchaseId { job: record.id, slot },
        pictures: 1,
        state: StoredState::Failed { upstream: None, failure: failure.clone(), at: at(slot) },
        api_kind: ApiKind::Prediction,
        format: None,
        account: None,
        lost_answers: 0,
        resolution: None,
        accepted: None,
        ended: None,
    });
    StoredJob { purchases: purchases.collect(), record, delivered: None, evicted: false, deleted: false }
}

fn at(slot: u8) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + i64::from(slot))
}

fn bought(message: &str) -> Failure {
    Failure::TaskFailed { message: message.to_owned() }
}

fn unknown(message: &str) -> Failure {
    Failure::OutcomeUnknown { message: message.to_owned() }
}

#[test]
fn the_most_severe_failure_is_named_and_the_first_of_equals() {
    let named = |failures: &[Failure]| stored_failure(&failed(failures), FailureScope::All);
    assert_eq!(named(&[Failure::Stopping, bought("a"), bought("b")]), Some((bought("a"), at(1))));
    assert_eq!(named(&[bought("a"), unknown("b"), unknown("c")]), Some((unknown("b"), at(1))));
    assert_eq!(named(&[Failure::Stopping, Failure::Abandoned]), Some((Failure::Stopping, at(0))));
    assert_eq!(named(&[]), None);
}

#[test]
fn a_failure_that_an_operator_has_resolved_counts_for_the_owner_only() {
    let mut stored = failed(&[unknown("a"), bought("b")]);
    stored.purchases[0].resolution = Some(Resolution::Lost);
    assert_eq!(stored_failure(&stored, FailureScope::All), Some((unknown("a"), at(0))));
    assert_eq!(stored_failure(&stored, FailureScope::Unresolved), Some((bought("b"), at(1))));
    stored.purchases[1].resolution = Some(Resolution::Bought);
    assert_eq!(stored_failure(&stored, FailureScope::Unresolved), None);
}

#[test]
fn a_job_that_is_under_way_or_brought_pictures_has_no_failure() {
    let (pictures, usage) = (Vec::new(), None);
    for state in
        [StoredState::Intent, StoredState::Resolved { upstream: None, poll_url: None, pictures, usage, at: START }]
    {
        let mut stored = failed(&[unknown("a"), bought("b")]);
        stored.purchases[1].state = state;
        assert_eq!(stored_failure(&stored, FailureScope::All), None);
    }
}

/// A stored job of four pictures, whose purchases brought this number of pictures each, with this usage.
fn resolved(purchases: &[(u8, Option<Usage>)]) -> StoredJob {
    let mut stored = failed(&vec![Failure::Stopping; purchases.len()]);
    for (slot, (purchase, (pictures, usage))) in (0..).zip(stored.purchases.iter_mut().zip(purchases)) {
        purchase.state = StoredState::Resolved {
            upstream: UpstreamId::new(&format!("up{slot}")),
            poll_url: None,
            pictures: (0..*pictures).map(|picture| picture_of(slot, picture)).collect(),
            usage: *usage,
            at: at(3 - slot),
        };
    }
    stored
}

fn picture_of(slot: u8, picture: u8) -> StoredPicture {
    StoredPicture { digest: Digest::of(&[slot, picture]), bytes: 1, format: Format::Png, width: 1, height: 1 }
}

fn tokens(input_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens: 10 * input_tokens, input_image_tokens: None }
}

#[test]
fn a_result_has_the_pictures_of_all_purchases_by_slot() {
    let mut stored = resolved(&[(2, Some(tokens(1))), (0, None), (1, None)]);
    stored.purchases[1].state = StoredState::Failed { upstream: None, failure: unknown("b"), at: at(9) };
    let result = stored_result(&stored).unwrap();
    assert_eq!(result.job, stored.record.id);
    assert_eq!(result.pictures, [picture_of(0, 0), picture_of(0, 1), picture_of(2, 0)]);
    assert_eq!(result.purchases, [UpstreamId::new("up0").unwrap(), UpstreamId::new("up2").unwrap()]);
    assert_eq!(result.missing, [MissingPictures { pictures: 1, failure: unknown("b") }]);
    assert!(result.has_unknown() && !result.is_as_requested());
    assert_eq!(result.resolved, at(3), "when the last picture was stored");
}

#[test]
fn the_usage_of_a_result_is_complete_or_none() {
    let usage = |purchases: &[(u8, Option<Usage>)]| stored_result(&resolved(purchases)).unwrap().usage;
    let (one, two) = (Some(tokens(1)), Some(tokens(2)));
    assert_eq!(usage(&[(1, one)]), one);
    assert_eq!(usage(&[(1, one), (1, two), (1, two)]), Some(tokens(5)));
    assert_eq!(usage(&[(1, None), (1, two)]), None);
    assert_eq!(usage(&[(1, one), (1, None)]), None);
    assert_eq!(usage(&[(1, one), (1, None), (1, two)]), None);
}

#[test]
fn one_purchase_that_missed_the_inputs_marks_the_result() {
    let unseen = |inputs, purchases: &[(u8, Option<Usage>)]| {
        let mut stored = resolved(purchases);
        stored.record.inputs = inputs;
        stored_result(&stored).unwrap().inputs_unseen
    };
    let (seen, missed) = (Some(tokens(300)), Some(tokens(8)));
    assert!(!unseen(1, &[(1, seen), (1, seen)]));
    assert!(unseen(1, &[(1, seen), (1, missed)]));
    assert!(unseen(16, &[(1, missed), (1, None)]), "although the usage of the result is not known");
    assert!(unseen(1, &[(1, missed), (1, missed), (1, missed)]), "each for itself, not their sum");
    assert!(!unseen(1, &[(1, seen), (1, seen), (0, missed)]), "it brought no picture");
    assert!(!unseen(1, &[(1, None)]), "no usage, no conclusion");
    assert!(!unseen(0, &[(1, missed)]), "a generation");
    let mut stored = resolved(&[(4, missed)]);
    assert!(stored_result(&stored).unwrap().is_as_requested());
    stored.record.inputs = 1;
    assert!(!stored_result(&stored).unwrap().is_as_requested());
}

#[test]
fn a_job_without_pictures_or_under_way_has_no_result() {
    assert_eq!(stored_result(&resolved(&[])), None);
    assert_eq!(stored_result(&resolved(&[(0, Some(tokens(1)))])), None);
    assert_eq!(stored_result(&failed(&[unknown("a")])), None);
    for state in [StoredState::Intent, StoredState::Committing { since: START }] {
        let mut stored = resolved(&[(1, None), (1, None)]);
        stored.purchases[1].state = state;
        assert_eq!(stored_result(&stored), None);
    }
}

proptest! {
    /// Promise: the answer to a request, the answer to its retry and `GET /v1/predictions/{id}` name the same failure.
    #[test]
    fn all_answers_name_the_same_failure(kinds in proptest::collection::vec(0_u8..3, 1..5)) {
        let failures: Vec<Failure> = kinds.iter().enumerate().map(|(slot, kind)| match kind {
            0 => Failure::Unreachable { message: slot.to_string() },
            1 => bought(&slot.to_string()),
            _ => unknown(&slot.to_string()),
        }).collect();
        let to_the_request = job_failure(&failures);
        let stored = failed(&failures);
        for scope in [FailureScope::All, FailureScope::Unresolved] {
            prop_assert_eq!(stored_failure(&stored, scope).map(|(failure, _)| failure), Some(to_the_request.clone()));
        }
    }
}
