//! The single numbers of the page.

use super::View;
use super::text::{bytes, counted, dollars, duration};
use crate::operator::{Connections, Snapshot};

pub(super) fn write(view: &mut View, snapshot: &Snapshot) {
    let (engine, upstream) = (&snapshot.engine, &snapshot.upstream);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    view.text("uptime", duration(snapshot.uptime_s as f64));
    view.text("version", snapshot.version);
    view.shown.insert("sandbox", snapshot.sandbox);

    view.text("waiting", engine.waiters.to_string());
    let longest = engine.longest_wait.as_ref().map(|wait| format!("{} for {}; ", wait.client, duration(wait.seconds)));
    let queue = match upstream.queued_submits {
        0 => "none in the queue".to_owned(),
        queued => format!("{} in the queue", counted(queued as u64, "purchase")),
    };
    view.text("waiting.detail", longest.unwrap_or_default() + &queue);
    view.text("in_flight", upstream.predictions_in_flight.to_string());
    view.text(
        "in_flight.detail",
        format!("of {} at once; {} being submitted", upstream.predictions_in_flight_max, engine.submitting),
    );
    let (today, pictures) = snapshot.clients.iter().fold((0.0, 0), |(usd, pictures), client| {
        (usd + client.usd_per_day.used, pictures + client.pictures_per_day.used)
    });
    view.text("spent", dollars(today));
    view.text(
        "spent.detail",
        format!("{}, with those under way and those that may be charged", counted(pictures, "picture")),
    );
    view.text("saved", dollars(engine.joined_usd + engine.hits_usd));
    view.text(
        "saved.detail",
        format!("since the start: {} from the cache, {} joined", engine.cache_hits, engine.joined),
    );
    view.text("unknown", engine.unknown.to_string());
    view.text(
        "unknown.detail",
        if engine.unknown == 0 {
            "none to decide about".to_owned()
        } else {
            format!("to decide about; may have cost {}", dollars(engine.unknown_usd))
        },
    );
    view.levels.insert("unknown", if engine.unknown > 0 { "warn" } else { "none" });
    let typical = engine.generation_times.first();
    view.text("typical", typical.map_or_else(|| "–".to_owned(), |time| duration(time.median_s)));
    view.text(
        "typical.detail",
        typical.map_or_else(
            || "none in the last 15 minutes".to_owned(),
            |time| format!("{}; 9 of 10 within {}", time.model, duration(time.p90_s)),
        ),
    );

    let Connections { clients, clients_max, operator, operator_max, descriptors_open, descriptors } =
        snapshot.connections;
    view.text("connections", format!("{clients} of {clients_max}"));
    view.text("connections.operator", format!("{operator} of {operator_max}"));
    let open = descriptors_open.map_or_else(|| "–".to_owned(), |open| open.to_string());
    view.text("descriptors", format!("{open} of {}", descriptors.limit));
    view.text("spool", format!("{} of {}", bytes(engine.spool_reserved_bytes), bytes(engine.spool_bytes_max)));
    view.text(
        "disk",
        format!(
            "{} free; below {} nothing is bought",
            bytes(engine.disk_free_bytes),
            bytes(engine.disk_free_bytes_min)
        ),
    );
    let is_low = engine.disk_free_bytes < engine.disk_free_bytes_min.saturating_mul(2);
    view.levels.insert("disk", if is_low { "warn" } else { "none" });
    view.text("memory_cache", bytes(engine.memory_cache_bytes));
    view.text("orphans", format!("{}, {}", engine.orphans, bytes(engine.orphan_bytes)));
    view.text(
        "storage",
        match engine.storage {
            "ok" => "works",
            "away" => "the journal cannot be written",
            _ => "has failed; restart the gateway",
        },
    );
    view.levels.insert("storage", if engine.storage == "ok" { "none" } else { "bad" });
    view.text("jobs", engine.jobs.to_string());
    view.text("pictures", engine.pictures.to_string());
    view.text("spent_ever", dollars(engine.spent_usd));
    view.text("polls", format!("{}, {} saved by planning", engine.polls, engine.polls_saved));
}
