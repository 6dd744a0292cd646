//! The first thing on the page: may the gateway take traffic, is money at risk, did something fail, does the upstream push back.

use std::collections::BTreeMap;

use super::text::{counted, dollars, duration};
use super::{Cell, Row, View};
use crate::operator::Snapshot;
use crate::operator::failures::reason;
use crate::operator::history::Point;
use crate::telemetry::recent::{RequestOutcome, RequestTotals};

/// Failures are in the headline for this long, in seconds.
const HEADLINE_S: i64 = 600;

pub(super) fn write(view: &mut View, snapshot: &Snapshot, points: &[Point], now_ms: i64) {
    let (failed, of) = failed_lately(points, now_ms / 1000);
    let mut notes = Vec::new();
    for reason in &snapshot.not_ready {
        notes.push(note("bad", format!("Not ready for traffic: {reason}."), None));
    }
    if failed > 0 {
        let causes = causes(snapshot, now_ms).unwrap_or_default();
        notes.push(note("bad", format!("{failed} of the last {of} requests for pictures failed{causes}."), None));
    }
    let engine = &snapshot.engine;
    if engine.unknown > 0 {
        let text = format!(
            "{} may have cost about {}: no answer came to a submit, and none is sent again. Compare with the vendor's usage, and decide.",
            counted(engine.unknown, "purchase"),
            dollars(engine.unknown_usd)
        );
        notes.push(note(
            "warn",
            text,
            Some(&format!("gptproto-gateway ledger list --state unknown{}", snapshot.command_arguments)),
        ));
    }
    for account in &snapshot.upstream.accounts {
        // When no account can buy, the first note has said it of each.
        if let Some(obstacle) = account.obstacle.filter(|_| snapshot.upstream.accounts.iter().any(|other| other.ready))
        {
            notes.push(note("warn", format!("The account {} cannot buy: {obstacle}.", account.name), None));
        }
        for pause in account.pauses.iter().filter(|pause| matches!(pause.what, "submits" | "polls" | "model")) {
            let what = match (&pause.model, pause.what) {
                (Some(model), _) => format!("{model} is not asked for"),
                (None, "polls") => "polls wait".to_owned(),
                (None, _) => "submits wait".to_owned(),
            };
            let text = format!(
                "The upstream pushes back on the account {}: {what} for {}.",
                account.name,
                duration(pause.seconds.ceil())
            );
            notes.push(note("warn", text, None));
        }
    }
    let suspect = engine.formats.iter().filter(|row| row.state == "suspect").count() as u64;
    if suspect > 0 {
        let text =
            format!("{} in doubt: the upstream may not look at input pictures.", counted(suspect, "request format"));
        notes.push(note("warn", text, None));
    }
    let (headline, level) = if !snapshot.ready {
        ("Not ready".to_owned(), "bad")
    } else if failed > 0 {
        (format!("Ready, and {failed} of {} failed", counted(of, "request")), "bad")
    } else if notes.is_empty() {
        ("Ready".to_owned(), "good")
    } else {
        ("Ready, with a warning".to_owned(), "warn")
    };
    view.text("title", format!("{headline} · gptproto-gateway"));
    view.text("verdict", headline);
    let detail =
        if notes.is_empty() { "It takes traffic, no money is at risk, and the upstream keeps up." } else { "" };
    view.text("verdict.detail", detail);
    view.shown.insert("verdict.detail", notes.is_empty());
    view.levels.insert("verdict", level);
    view.list("notes", notes);
}

/// Returns how many requests for pictures failed in the last minutes, and how many ended.
fn failed_lately(points: &[Point], now_s: i64) -> (u64, u64) {
    let lately = points.iter().filter(|point| now_s - point.at_s <= HEADLINE_S);
    let sum = |of: fn(&RequestTotals) -> u64| lately.clone().map(|point| of(&point.requests)).sum();
    // A job that is asked for later is counted when it fails, and then once.
    let under_way = sum(|requests| requests.of(RequestOutcome::UnderWay));
    (sum(RequestTotals::failures), sum(RequestTotals::sum) - under_way)
}

/// Names the most frequent causes of the failures of the last minutes.
fn causes(snapshot: &Snapshot, now_ms: i64) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let lately = snapshot.recent_failures.iter().filter(|failure| now_ms - failure.ended.at_ms <= HEADLINE_S * 1000);
    for failure in lately {
        *counts.entry(failure.ended.code).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut named: Vec<String> =
        counts.iter().take(2).map(|&(code, count)| format!("{} ({count})", reason(code))).collect();
    if counts.len() > 2 {
        named.push("others".to_owned());
    }
    (!named.is_empty()).then(|| format!(": {}", named.join(", ")))
}

fn note(level: &'static str, text: String, command: Option<&str>) -> Row {
    let command = command.map(Cell::code);
    Row { level: Some(level), cells: [Cell::text(text)].into_iter().chain(command).collect() }
}
