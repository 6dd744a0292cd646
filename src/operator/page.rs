//! The status page: one table for each subject, refreshed by the browser. It contains numbers, texts of ours, and names from
//! the configuration and the catalogue, which consist of letters, digits and - _ . @ / alone. Texts of the upstream are
//! escaped.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::http::HeaderValue;
use base64_simd::STANDARD;

use super::Snapshot;
use crate::engine;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=3>\
<title>gptproto-gateway</title>";

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:46rem;\
padding:0 1rem;color:#222;background:#fff}h1{font-size:1.3rem}h2{font-size:1rem;margin:1.5rem 0 .3rem}\
table{border-collapse:collapse;width:100%}td{padding:.2rem .5rem;border-bottom:1px solid #ddd}\
td+td{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#b00}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td{border-color:#333}.bad{color:#f77}}";

/// The content security policy of every page: the style above, and nothing else.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = STANDARD.encode_to_string(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("base64 makes a header value")
});

pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut page = format!("{HEAD}<style>{STYLE}</style>");
    let engine = &snapshot.engine;
    let upstream = &snapshot.upstream;
    let sandbox = if snapshot.sandbox { " · sandbox" } else { "" };
    let ready = if snapshot.ready {
        "ready".to_owned()
    } else {
        format!("<span class=bad>not ready: {}</span>", snapshot.not_ready.join(", "))
    };
    let _ = write!(page, "<h1>gptproto-gateway {}{sandbox} · {ready}</h1>", snapshot.version);
    let of = |value: usize, max: usize| format!("{value} of {max}");
    let usd = |value: f64| format!("${value:.4}");
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    table(
        &mut page,
        "Now",
        &[
            ("client connections", of(snapshot.connections.clients, snapshot.connections.clients_max)),
            ("requests that wait for a job", engine.waiters.to_string()),
            ("purchases queued", of(upstream.queued_submits, upstream.queued_submits_max)),
            ("purchases being submitted", engine.submitting.to_string()),
            ("purchases accepted by the upstream", engine.polling.to_string()),
            ("purchases in flight", of(upstream.predictions_in_flight, upstream.predictions_in_flight_max)),
            (
                "uploads in the spool",
                format!("{} of {}", mib(engine.spool_reserved_bytes), mib(engine.spool_bytes_max)),
            ),
            ("pictures cached in memory", mib(engine.memory_cache_bytes)),
            ("orphans (stored pictures that no job has)", format!("{}, {}", engine.orphans, mib(engine.orphan_bytes))),
            ("storage", engine.storage.to_owned()),
        ],
    );
    for account in &upstream.accounts {
        let in_flight = if account.in_flight_learned < account.in_flight_max {
            format!(
                "{} of {} learned ({} configured)",
                account.in_flight, account.in_flight_learned, account.in_flight_max
            )
        } else {
            of(account.in_flight, account.in_flight_max)
        };
        let rate = if account.submits_per_minute_learned < f64::from(account.submits_per_minute_max) {
            format!("{:.1} learned ({} configured)", account.submits_per_minute_learned, account.submits_per_minute_max)
        } else {
            account.submits_per_minute_max.to_string()
        };
        let mut rows = vec![("purchases in flight", in_flight), ("submits per minute", rate)];
        for pause in &account.pauses {
            let what = pause.model.as_deref().unwrap_or(pause.what);
            let cooldown = format!("<span class=bad>{what}: {:.0} s left</span>", pause.seconds.ceil());
            rows.push(("cooldown", cooldown));
        }
        table(&mut page, &format!("Account {}", account.name), &rows);
    }
    if !upstream.queued_submits_by_client.is_empty() {
        let _ = write!(page, "<h2>Queued purchases by client</h2><table>");
        for (client, count) in &upstream.queued_submits_by_client {
            let _ = write!(page, "<tr><td>{client}<td>{count}");
        }
        page.push_str("</table>");
    }
    formats(&mut page, engine);
    table(
        &mut page,
        "Since start",
        &[
            ("jobs", engine.jobs.to_string()),
            ("pictures bought", engine.pictures.to_string()),
            ("spent, by catalogue prices", usd(engine.spent_usd)),
            ("polls (saved by planning)", format!("{} ({})", engine.polls, engine.polls_saved)),
            ("purchases with unknown outcome", format!("{} ({})", engine.unknown, usd(engine.unknown_usd))),
            ("purchases avoided by joining a job", format!("{} ({})", engine.joined, usd(engine.joined_usd))),
            ("responses from the cache", engine.cache_hits.to_string()),
            ("uptime", format!("{} s", snapshot.uptime_s)),
        ],
    );
    let limits = snapshot.clients.iter().flat_map(|client| {
        client.levels().into_iter().map(move |(limit, used, most)| {
            let amount = |amount: f64| if limit.is_money() { usd(amount) } else { amount.to_string() };
            (format!("{}: {}", client.name, limit.name()), format!("{} of {}", amount(used), amount(most)))
        })
    });
    let limits: Vec<(String, String)> = limits.collect();
    if !limits.is_empty() {
        let rows: Vec<(&str, String)> = limits.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        table(&mut page, "Clients", &rows);
    }
    page.push_str("<p><a href=metrics>metrics</a> · <a href=status.json>status.json</a></p></html>\n");
    page
}

/// Shows how the upstream is sent input pictures, and what it has refused.
fn formats(page: &mut String, engine: &engine::Status) {
    if engine.formats.is_empty() {
        return;
    }
    page.push_str("<h2>Request formats</h2><table>");
    for row in &engine.formats {
        let mask = if row.masked { " with a mask" } else { "" };
        let class = if row.state == "proven" { "" } else { " class=bad" };
        let reason = if row.reason.is_empty() { String::new() } else { format!(": {}", escaped(&row.reason)) };
        let _ = write!(
            page,
            "<tr><td>{}: {} {}, {}{mask}<td><span{class}>{} {}</span> since {}{reason}",
            row.account,
            row.model,
            row.task,
            row.inputs.name(),
            escaped(&row.method),
            row.state,
            row.since
        );
    }
    page.push_str("</table>");
}

/// Escapes a text for HTML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn table(page: &mut String, title: &str, rows: &[(&str, String)]) {
    let _ = write!(page, "<h2>{title}</h2><table>");
    for (name, value) in rows {
        let _ = write!(page, "<tr><td>{name}<td>{value}");
    }
    page.push_str("</table>");
}
