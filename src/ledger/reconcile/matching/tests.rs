use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::JobId;

const SLACK: Duration = Duration::from_mins(2);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn purchase(number: u128, started: i64) -> Purchase {
    Purchase {
        id: PurchaseId { job: JobId::new(at(0), number), slot: 0 },
        upstream_id: None,
        model: "gpt-image-2".to_owned(),
        started: at(started),
        ended: at(started),
        certain: true,
    }
}

fn line(number: u64, time: i64) -> ExportLine {
    ExportLine { number, time: Some(at(time)), model: Some("gpt-image-2".to_owned()), usd: Some(0.03), id: None }
}

/// The indices of each pair, sorted.
fn paired(purchases: &[Purchase], lines: &[ExportLine]) -> Vec<(usize, usize)> {
    let mut found: Vec<_> = pair(purchases, lines, SLACK).into_iter().map(|pair| (pair.purchase, pair.line)).collect();
    found.sort_unstable();
    found
}

#[test]
fn the_nearest_line_within_the_slack_is_matched() {
    let purchases = [purchase(1, 1000), purchase(2, 1050)];
    assert_eq!(paired(&purchases, &[line(2, 1049), line(3, 1001)]), [(0, 1), (1, 0)]);
    assert_eq!(paired(&purchases[..1], &[line(2, 1120)]), [(0, 0)]);
    assert_eq!(paired(&purchases[..1], &[line(2, 1121)]), []);
    assert_eq!(paired(&purchases[..1], &[line(2, 880)]), [(0, 0)]);
    assert_eq!(paired(&purchases[..1], &[line(2, 879)]), []);
    let long = Purchase { ended: at(2000), ..purchase(1, 1000) };
    assert_eq!(paired(&[long], &[line(2, 2100)]), [(0, 0)], "the line has the time of the end");
}

#[test]
fn a_pair_changes_when_that_matches_one_more() {
    let purchases = [purchase(1, 1060), purchase(2, 1210)];
    assert_eq!(paired(&purchases, &[line(2, 1000), line(3, 1100)]), [(0, 0), (1, 1)]);
}

#[test]
fn only_the_same_model_or_no_model_matches() {
    let other = ExportLine { model: Some("gpt-image-1".to_owned()), ..line(2, 1000) };
    let silent = ExportLine { model: None, ..line(3, 1100) };
    assert_eq!(paired(&[purchase(1, 1000)], &[other, silent]), [(0, 1)]);
}

#[test]
fn an_equal_id_overrides_the_time_and_then_other_ids_do_not_match() {
    let named = |number, started, id: &str| Purchase { upstream_id: Some(id.to_owned()), ..purchase(number, started) };
    let with_id = |number, time, id: &str| ExportLine { id: Some(id.to_owned()), ..line(number, time) };
    let purchases = [named(1, 1000, "a"), named(2, 1000, "b"), purchase(3, 1000)];
    let lines = [with_id(2, 9000, "a"), with_id(3, 1000, "x")];
    assert_eq!(paired(&purchases, &lines), [(0, 0), (2, 1)], "x is not b, but may be the purchase without an id");
    assert_eq!(paired(&purchases[1..2], &lines[1..]), [(0, 0)], "no equal id: ids of another kind");
}

#[test]
fn certain_purchases_are_matched_before_possible_ones() {
    let possible = Purchase { certain: false, ..purchase(1, 1000) };
    let purchases = [possible.clone(), purchase(2, 1090)];
    assert_eq!(paired(&purchases, &[line(2, 1000)]), [(1, 0)]);
    assert_eq!(paired(&purchases, &[line(2, 1000), line(3, 1095)]), [(0, 0), (1, 1)]);
    let free = ExportLine { usd: Some(0.0), ..line(2, 1000) };
    assert_eq!(paired(&[possible], std::slice::from_ref(&free)), []);
    assert_eq!(paired(&[purchase(2, 1000)], &[free]), [(0, 0)]);
    let refund = ExportLine { usd: Some(-0.03), ..line(2, 1000) };
    assert_eq!(paired(&[purchase(2, 1000)], &[refund]), []);
}

prop_compose! {
    fn arbitrary_purchase()(
        started in 0_i64..600, took in 0_i64..200, model in 0_u8..2, id in proptest::option::of(0_u8..6), certain: bool
    ) -> Purchase {
        Purchase {
            upstream_id: id.map(|id| id.to_string()),
            model: model.to_string(),
            ended: at(started + took),
            certain,
            ..purchase(0, started)
        }
    }
}

prop_compose! {
    fn arbitrary_line()(
        time in proptest::option::of(0_i64..800), model in proptest::option::of(0_u8..2),
        id in proptest::option::of(0_u8..9), cents in proptest::option::of(-1_i8..4)
    ) -> ExportLine {
        ExportLine {
            number: 0,
            time: time.map(at),
            model: model.map(|model| model.to_string()),
            usd: cents.map(|cents| f64::from(cents) / 100.0),
            id: id.map(|id| id.to_string()),
        }
    }
}

fn ids(purchases: &[Purchase], lines: &[ExportLine]) -> BTreeSet<(PurchaseId, u64)> {
    pair(purchases, lines, SLACK)
        .into_iter()
        .map(|pair| (purchases[pair.purchase].id, lines[pair.line].number))
        .collect()
}

proptest! {
    #[test]
    fn matching_is_one_to_one_complete_and_independent_of_the_order(
        (purchases, shuffled_purchases) in proptest::collection::vec(arbitrary_purchase(), 0..14)
            .prop_map(|mut purchases| {
                for (number, purchase) in purchases.iter_mut().enumerate() {
                    purchase.id.job = JobId::new(at(0), number as u128);
                }
                purchases
            })
            .prop_flat_map(|purchases| (Just(purchases.clone()), Just(purchases).prop_shuffle())),
        (lines, shuffled_lines) in proptest::collection::vec(arbitrary_line(), 0..14)
            .prop_map(|mut lines| {
                for (number, line) in lines.iter_mut().enumerate() {
                    line.number = number as u64;
                }
                lines
            })
            .prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
    ) {
        let found = ids(&purchases, &lines);
        prop_assert_eq!(found.len(), found.iter().map(|pair| pair.0).collect::<BTreeSet<_>>().len());
        prop_assert_eq!(found.len(), found.iter().map(|pair| pair.1).collect::<BTreeSet<_>>().len());
        prop_assert_eq!(&found, &ids(&shuffled_purchases, &shuffled_lines));

        // No purchase and line that fit are both unmatched.
        let pairs = pair(&purchases, &lines, SLACK);
        let ids_known = pairs.iter().any(|pair| pair.by == MatchedBy::Id);
        for (index, purchase) in purchases.iter().enumerate() {
            for (place, line) in lines.iter().enumerate() {
                let Some(time) = line.time else { continue };
                let near = purchase.started.since(time).max(time.since(purchase.ended)) <= SLACK;
                let apart = pairs.iter().all(|pair| pair.purchase != index && pair.line != place);
                let fitting = near && fits(purchase, line, ids_known) && line.usd.is_none_or(|usd| usd >= 0.0);
                prop_assert!(!(apart && fitting), "{purchase:?} and {line:?}");
            }
        }
    }
}
