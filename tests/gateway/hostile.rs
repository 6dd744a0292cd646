//! A hostile upstream: named answers of any shape to submits, polls and downloads, and what the gateway makes of them.
//!
//! A row of the tables is one answer, written byte for byte to a raw socket. `oracle` asks for it through the program and
//! compares the client's answer, the ledger and what the upstream accepted; its list of properties holds for every row.
//!
//! - `answer`: a row; status, body, shape and what is demanded.
//! - `submits`, `polls`, `downloads`: the named rows, a line each.
//! - `other_apis`: the OpenAI-format and the unified API, and jobs of several purchases.
//! - `grid`: a row for each pair of a status class with a kind of body and with a shape, in each phase.
//! - `upstream`: the sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use futures_util::StreamExt;

mod answer;
mod downloads;
mod grid;
mod images;
mod oracle;
mod other_apis;
mod polls;
mod submits;
mod upstream;

use answer::{Class, Kind, Phase, Row, Sharing};
use oracle::{Case, Group};

/// Rows that are not served as they must be yet. One that is served right makes the test fail, until it is removed here.
const EXPECTED_LATER: &[&str] = &[];

/// Named rows at least.
const ROWS_MIN: usize = 120;

/// Gateways at the same time.
const GROUPS_AT_ONCE: usize = 6;

fn named() -> Vec<Row> {
    [submits::rows(), polls::rows(), downloads::rows(), other_apis::rows()].concat()
}

#[test]
fn the_rows_have_names_of_their_own_and_cover_what_they_declare() {
    let (by_name, grid) = (named(), grid::rows());
    assert!(by_name.len() >= ROWS_MIN, "{} rows", by_name.len());
    let all: Vec<&Row> = by_name.iter().chain(&grid).collect();
    let names: BTreeSet<&str> = all.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a name is used twice");
    assert!(EXPECTED_LATER.iter().all(|later| names.contains(later)), "EXPECTED_LATER names a row that does not exist");

    let kinds: BTreeSet<(Phase, Class, Kind)> = all.iter().map(|row| (row.phase, row.class(), row.kind())).collect();
    let shapes: BTreeSet<_> = all.iter().map(|row| (row.phase, row.class(), row.shape)).collect();
    for phase in grid::PHASES {
        for (class, status) in grid::STATUSES {
            for kind in grid::KINDS {
                assert!(kinds.contains(&(phase, class, kind)), "no row for {phase:?}, {status}, {kind:?}");
            }
            for shape in grid::SHAPES {
                assert!(shapes.contains(&(phase, class, shape)), "no row for {phase:?}, {status}, {shape:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named_answers_buy_nothing_twice_and_are_reported_as_they_are() {
    judge(named()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_class_of_status_with_every_body_and_shape() {
    judge(grid::rows()).await;
}

/// Runs rows in as few gateways as they allow, prints a table, and fails where a row found a fault.
async fn judge(rows: Vec<Row>) {
    let (alone, shared): (Vec<Row>, Vec<Row>) =
        chosen(rows).into_iter().partition(|row| row.gateway != Sharing::Shared);
    let mut groups: BTreeMap<(&str, bool), Vec<Row>> = BTreeMap::new();
    for row in shared {
        groups.entry((row.api, !row.ends_late())).or_default().push(row);
    }
    let shared = groups.into_iter().map(|((_, patient), rows)| Group { rows, patient, at_once: 32 });
    let alone = alone.into_iter().map(|row| Group { patient: !row.ends_late(), rows: vec![row], at_once: 1 });
    let groups = futures_util::stream::iter(shared.chain(alone)).map(Group::run);
    let cases: Vec<Vec<Case>> = groups.buffer_unordered(GROUPS_AT_ONCE).collect().await;
    let mut cases: Vec<Case> = cases.into_iter().flatten().collect();
    cases.sort_by(|one, other| one.row.name.cmp(&other.row.name));

    let mut wrong = Vec::new();
    let mut table = String::new();
    for Case { row, outcome, faults, .. } in &cases {
        let is_later = EXPECTED_LATER.contains(&row.name.as_str());
        let verdict = match (faults.is_empty(), is_later) {
            (true, false) => "as demanded",
            (false, true) => "wrong, as expected",
            (true, true) => "RIGHT, remove it from EXPECTED_LATER",
            (false, false) => "WRONG",
        };
        let answer = format!("{}, {:?}, {:?}", row.status, row.kind(), row.shape);
        let _ = writeln!(
            table,
            "{:<44} {:<9} {answer:<60} {:<10} {verdict}",
            row.name,
            format!("{:?}", row.phase),
            format!("{outcome:?}")
        );
        if faults.is_empty() == is_later {
            wrong.push(format!("{}: {verdict}\n    {}", row.name, faults.join("\n    ")));
        }
    }
    println!("{table}{} rows, {} of them wrong", cases.len(), wrong.len());
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The rows that `HOSTILE_ROWS` names by a part of their name, or all.
fn chosen(rows: Vec<Row>) -> Vec<Row> {
    let part = std::env::var("HOSTILE_ROWS").unwrap_or_default();
    rows.into_iter().filter(|row| row.name.contains(&part)).collect()
}
