//! The tables of the page.

use super::text::{counted, dollars, duration, millis, time_lately};
use super::{Cell, Row, View};
use crate::admission::ClientStatus;
use crate::operator::Snapshot;
use crate::operator::failures::RecentFailure;
use crate::telemetry::RequestId;
use crate::telemetry::recent::{EndedRequest, Payment, RequestOutcome};

/// Clients that are listed: those that have used most today.
const CLIENTS_MAX: usize = 50;

pub(super) fn write(view: &mut View, snapshot: &Snapshot, now_ms: i64) {
    view.list("failures", snapshot.recent_failures.iter().map(|one| failure(one, now_ms)).collect());
    view.shown.insert("failures.none", snapshot.recent_failures.is_empty());
    view.list("requests", snapshot.recent_requests.iter().map(|one| request(one, now_ms)).collect());
    view.shown.insert("requests.none", snapshot.recent_requests.is_empty());
    view.list("accounts", accounts(snapshot));
    view.list("clients", clients(snapshot));
    let times = snapshot.engine.generation_times.iter().map(|time| {
        Row::of([
            Cell::name(time.model.as_str()),
            Cell::number(time.purchases.to_string()),
            Cell::number(duration(time.median_s)),
            Cell::number(duration(time.p90_s)),
        ])
    });
    view.list("times", times.collect());
    view.list("formats", formats(snapshot));
}

fn failure(failure: &RecentFailure, now_ms: i64) -> Row {
    let RecentFailure { ended, reason, money, help } = failure;
    let why = match &ended.cause {
        Some(cause) => format!("{reason} ({cause})"),
        None => reason.clone(),
    };
    let paid = match ended.payment {
        Payment::NotBought => "",
        Payment::Bought | Payment::UnderWay => "muted",
        Payment::Possible | Payment::Unknown => "warn-text",
    };
    let help = match help {
        Some(command) if command.starts_with("gptproto-gateway ") => Cell::code(command.as_str()),
        Some(advice) => Cell::text(advice.as_str()),
        None => Cell::text("–"),
    };
    Row::of([
        Cell::number(time_lately(ended.at_ms, now_ms)),
        Cell::name(&*ended.client),
        Cell::name(ended.model.as_deref().unwrap_or("–")),
        Cell { text: why, class: "wide" },
        Cell { text: (*money).to_owned(), class: paid },
        help,
        Cell::code(ended.request.as_ref().map_or("–", RequestId::as_str)),
    ])
}

fn request(ended: &EndedRequest, now_ms: i64) -> Row {
    let (word, class) = match ended.outcome {
        RequestOutcome::Made => ("made", "badge good"),
        RequestOutcome::Hit => ("from the cache", "badge accent"),
        RequestOutcome::Joined => ("joined", "badge accent"),
        RequestOutcome::UnderWay => ("goes on", "badge"),
        RequestOutcome::Left => ("client left", "badge"),
        RequestOutcome::Refused => ("refused", "badge warn"),
        RequestOutcome::Failed => ("failed", "badge bad"),
        RequestOutcome::Unknown => ("unknown", "badge bad"),
    };
    let price = match (ended.usd, ended.usd_estimated) {
        (Some(usd), true) => format!("~{}", dollars(usd)),
        (Some(usd), false) => dollars(usd),
        (None, _) => "–".to_owned(),
    };
    Row::of([
        Cell::number(time_lately(ended.at_ms, now_ms)),
        Cell::name(&*ended.client),
        Cell::name(ended.model.as_deref().unwrap_or("–")),
        Cell::badge(word, class),
        Cell::number(millis(ended.ms)),
        Cell::number(price),
        Cell::code(ended.code),
        Cell::code(ended.request.as_ref().map_or("–", RequestId::as_str)),
    ])
}

fn accounts(snapshot: &Snapshot) -> Vec<Row> {
    let rows = snapshot.upstream.accounts.iter().map(|account| {
        let pauses: Vec<String> = account
            .pauses
            .iter()
            .map(|pause| {
                let what = match pause.what {
                    "key_refused" => "key refused",
                    "balance_exhausted" => "no credit left",
                    other => other,
                };
                format!("{}: {}", pause.model.as_deref().unwrap_or(what), duration(pause.seconds.ceil()))
            })
            .collect();
        let state = match (account.obstacle, pauses.is_empty()) {
            (Some(_), _) => Cell::badge("cannot buy", "badge bad"),
            (None, false) => Cell::badge("paused", "badge warn"),
            (None, true) => Cell::badge("ready", "badge good"),
        };
        let in_flight = if account.in_flight_learned < account.in_flight_max {
            format!(
                "{} of {}, learned; {} configured",
                account.in_flight, account.in_flight_learned, account.in_flight_max
            )
        } else {
            format!("{} of {}", account.in_flight, account.in_flight_max)
        };
        let rate = if account.submits_per_minute_learned < f64::from(account.submits_per_minute_max) {
            format!("{:.1}, learned; {} configured", account.submits_per_minute_learned, account.submits_per_minute_max)
        } else {
            account.submits_per_minute_max.to_string()
        };
        let refused: u64 = account.pushbacks.values().sum();
        let refused = if refused == 0 {
            "0".to_owned()
        } else {
            let parts: Vec<String> = account.pushbacks.iter().map(|(what, count)| format!("{what} {count}")).collect();
            format!("{refused} ({})", parts.join(", "))
        };
        let notes = account.obstacle.map(str::to_owned).into_iter().chain(pauses).collect::<Vec<_>>().join("; ");
        Row::of([
            Cell::text(account.name.as_str()),
            state,
            Cell::number(in_flight),
            Cell::number(rate),
            Cell::number(refused),
            Cell { text: if notes.is_empty() { "–".to_owned() } else { notes }, class: "wide" },
        ])
    });
    rows.collect()
}

fn clients(snapshot: &Snapshot) -> Vec<Row> {
    let mut clients: Vec<&ClientStatus> = snapshot.clients.iter().collect();
    clients.sort_by(|a, b| b.usd_per_day.used.total_cmp(&a.usd_per_day.used).then_with(|| a.name.cmp(&b.name)));
    let left_out = clients.len().saturating_sub(CLIENTS_MAX);
    let upstream = &snapshot.upstream;
    let rows = clients.iter().take(CLIENTS_MAX).map(|client| {
        let queued = upstream.queued_submits_by_client.get(&client.name).copied().unwrap_or_default();
        let waits = match upstream.longest_wait_s_by_client.get(&client.name) {
            Some(&longest) if queued > 0 => format!("{queued}, the first for {}", duration(longest)),
            _ => queued.to_string(),
        };
        let limits: Vec<String> = client
            .levels()
            .into_iter()
            .map(|(limit, used, most)| {
                let amount = |amount: f64| if limit.is_money() { dollars(amount) } else { amount.to_string() };
                format!("{}: {} of {}", limit.name().replace('_', " "), amount(used), amount(most))
            })
            .collect();
        Row::of([
            Cell::text(if client.has_key { client.name.clone() } else { format!("{} (no valid key)", client.name) }),
            Cell::number(dollars(client.usd_per_day.used)),
            Cell::number(client.pictures_per_day.used.to_string()),
            Cell::number(dollars(client.usd_per_month.used)),
            Cell::number(waits),
            Cell { text: if limits.is_empty() { "none".to_owned() } else { limits.join("; ") }, class: "wide" },
        ])
    });
    let mut rows: Vec<Row> = rows.collect();
    if left_out > 0 {
        rows.push(Row::of([Cell::text(format!("and {}", counted(left_out as u64, "other client")))]));
    }
    rows
}

/// Shows how the upstream is sent input pictures, and what it has refused.
fn formats(snapshot: &Snapshot) -> Vec<Row> {
    let rows = snapshot.engine.formats.iter().map(|row| {
        let mask = if row.masked { ", with a mask" } else { "" };
        let class = if row.state == "proven" { "badge good" } else { "badge warn" };
        Row::of([
            Cell::text(row.account.as_str()),
            Cell::text(format!("{} {}, {}{mask}", row.model, row.task, row.inputs.name())),
            Cell::text(row.method.as_str()),
            Cell::badge(row.state, class),
            Cell::text(row.since.as_str()),
            Cell { text: row.reason.clone(), class: "wide" },
        ])
    });
    rows.collect()
}
