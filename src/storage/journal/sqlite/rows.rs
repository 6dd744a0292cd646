//! Records into rows, rows into the state they add up to.

use std::collections::BTreeMap;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::{
    AccountId, ApiKind, ClientId, Digest, Failure, Fingerprint, Format, IdempotencyKey, JobId, PurchaseId,
    StoredPicture, Task, Timestamp, UpstreamId, Usage, Webhook,
};
use crate::storage::journal::{
    JobRecord, PendingWebhook, Record, Resolution, StoredJob, StoredPurchase, StoredState, UsedQuota,
};

pub(super) const SCHEMA: &str = "
CREATE TABLE orders (
    id           TEXT PRIMARY KEY,
    client       TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    task         TEXT NOT NULL,
    model        TEXT NOT NULL,
    size         TEXT NOT NULL,
    choices      TEXT NOT NULL,     -- JSON object
    n            INTEGER NOT NULL,
    shareable    INTEGER NOT NULL,
    idempotency_key TEXT,
    created_ms   INTEGER NOT NULL,
    delivered_ms INTEGER,
    forgotten    INTEGER NOT NULL DEFAULT 0,
    kept         INTEGER NOT NULL DEFAULT 0 -- its client comes back for the result
) STRICT;
CREATE INDEX orders_by_fingerprint ON orders (fingerprint, created_ms);
CREATE INDEX orders_by_key ON orders (client, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX orders_by_time ON orders (created_ms);

CREATE TABLE predictions (
    id           TEXT PRIMARY KEY,
    order_id     TEXT NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    slot         INTEGER NOT NULL,
    pictures     INTEGER NOT NULL,  -- how many it was to make
    state        TEXT NOT NULL CHECK (state IN ('intent', 'committing', 'accepted', 'resolved', 'failed', 'unknown')),
    upstream_id  TEXT,
    poll_url     TEXT,
    committed_ms INTEGER,
    accepted_ms  INTEGER,
    ended_ms     INTEGER,
    failure      TEXT,              -- JSON object
    usage        TEXT,              -- JSON object
    lost_answers INTEGER NOT NULL DEFAULT 0, -- submits of unknown outcome that the operator's policy had resent
    resolution   TEXT CHECK (resolution IN ('lost', 'bought', 'resubmit')),
    resolved_ms  INTEGER,           -- when somebody decided what became of an unknown one
    account      TEXT,              -- whose key it was bought with
    route        TEXT NOT NULL DEFAULT 'prediction' -- the face of the upstream it was bought at
) STRICT;
CREATE INDEX predictions_by_order ON predictions (order_id, slot);
CREATE INDEX predictions_unsettled ON predictions (state) WHERE state IN ('intent', 'committing', 'accepted');

CREATE TABLE pictures (
    prediction_id TEXT NOT NULL REFERENCES predictions (id) ON DELETE CASCADE,
    position      INTEGER NOT NULL,
    digest        TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    format        TEXT NOT NULL,
    width         INTEGER NOT NULL,
    height        INTEGER NOT NULL,
    PRIMARY KEY (prediction_id, position)
) STRICT, WITHOUT ROWID;
";

/// What each version lacks of the next, from version 1 on.
pub(super) const STEPS: [&[&str]; 3] = [
    &["ALTER TABLE predictions ADD COLUMN account TEXT;"],
    // There was one face only.
    &["ALTER TABLE predictions ADD COLUMN route TEXT NOT NULL DEFAULT 'prediction';"],
    &["ALTER TABLE orders ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;", WEBHOOKS],
];

/// Who is to be told of the ends of orders: new in version 4.
pub(super) const WEBHOOKS: &str = "
CREATE TABLE webhooks (
    id         TEXT PRIMARY KEY,
    order_id   TEXT NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    url        TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0,
    due_ms     INTEGER,             -- the next try is not before
    ended_ms   INTEGER,
    ended      TEXT CHECK (ended IN ('delivered', 'gone', 'given_up', 'forbidden'))
) STRICT;
CREATE UNIQUE INDEX webhooks_untold ON webhooks (order_id, url) WHERE ended_ms IS NULL;
";

pub(super) fn write(to: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Intent { job, api_kind, purchases } => {
            to.prepare_cached(
                "INSERT INTO orders (id, client, fingerprint, task, model, size, choices, n, shareable, created_ms,
                                     idempotency_key, kept)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                job.id.to_string(),
                &*job.client.0,
                job.fingerprint.to_string(),
                job.task.name(),
                job.model,
                job.size.to_string(),
                json(&job.choices),
                job.n,
                job.shareable,
                job.created.millis(),
                job.idempotency_key.as_ref().map(IdempotencyKey::as_str),
                job.kept,
            ])?;
            for (purchase, pictures) in purchases {
                to.prepare_cached(
                    "INSERT INTO predictions (id, order_id, slot, pictures, state, route)
                     VALUES (?1, ?2, ?3, ?4, 'intent', ?5)",
                )?
                .execute(params![
                    purchase.to_string(),
                    job.id.to_string(),
                    purchase.slot,
                    pictures,
                    api_kind.name()
                ])?;
            }
            Ok(())
        }
        Record::Committing { purchase, account, at } => change(
            to,
            "UPDATE predictions SET state = 'committing', account = ?2, committed_ms = ?3 WHERE id = ?1",
            params![purchase.to_string(), &*account.0, at.millis()],
        ),
        Record::Withdrawn { purchase } => change(
            to,
            "UPDATE predictions SET state = 'intent', committed_ms = NULL WHERE id = ?1",
            params![purchase.to_string()],
        ),
        Record::Resubmitted { purchase } => change(
            to,
            "UPDATE predictions SET state = 'intent', committed_ms = NULL, lost_answers = lost_answers + 1
             WHERE id = ?1",
            params![purchase.to_string()],
        ),
        Record::Accepted { purchase, upstream, poll_url, at } => change(
            to,
            "UPDATE predictions SET state = 'accepted', upstream_id = ?2, poll_url = ?3, accepted_ms = ?4 WHERE id = ?1",
            params![purchase.to_string(), upstream.as_str(), poll_url, at.millis()],
        ),
        Record::Resolved { purchase, pictures, usage, at } => resolve(to, *purchase, pictures, *usage, *at),
        Record::Failed { purchase, failure, at } => {
            let state = if matches!(failure, Failure::OutcomeUnknown { .. }) { "unknown" } else { "failed" };
            change(
                to,
                "UPDATE predictions SET state = ?2, failure = ?3, ended_ms = ?4 WHERE id = ?1",
                params![purchase.to_string(), state, json(failure), at.millis()],
            )
        }
        Record::Delivered { job, at } => change(
            to,
            "UPDATE orders SET delivered_ms = ifnull(delivered_ms, ?2) WHERE id = ?1",
            params![job.to_string(), at.millis()],
        ),
        Record::Forgotten { job } => {
            change(to, "UPDATE orders SET forgotten = 1 WHERE id = ?1", params![job.to_string()])
        }
        Record::Subscribed { job, webhook, at } => subscribe(to, *job, webhook, *at),
        Record::WebhookTried { webhook, tries, due } => change(
            to,
            "UPDATE webhooks SET tries = ?2, due_ms = ?3 WHERE id = ?1",
            params![webhook.to_string(), tries, due.millis()],
        ),
        Record::WebhookEnded { webhook, end, at } => change(
            to,
            "UPDATE webhooks SET ended = ?2, ended_ms = ?3 WHERE id = ?1",
            params![webhook.to_string(), end.name(), at.millis()],
        ),
    }
}

fn resolve(
    to: &Connection,
    purchase: PurchaseId,
    pictures: &[StoredPicture],
    usage: Option<Usage>,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let id = purchase.to_string();
    for (position, picture) in pictures.iter().enumerate() {
        to.prepare_cached(
            "INSERT INTO pictures (prediction_id, position, digest, bytes, format, width, height)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            id,
            position,
            picture.digest.to_string(),
            picture.bytes,
            picture.format.name(),
            picture.width,
            picture.height
        ])?;
    }
    change(
        to,
        "UPDATE predictions SET state = 'resolved', usage = ?2, ended_ms = ?3 WHERE id = ?1",
        params![id, usage.as_ref().map(json), at.millis()],
    )
}

fn subscribe(to: &Connection, job: JobId, webhook: &Webhook, at: Timestamp) -> rusqlite::Result<()> {
    to.prepare_cached(
        "INSERT INTO webhooks (id, order_id, url, created_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )?
    .execute(params![webhook.id.to_string(), job.to_string(), webhook.url.as_str(), at.millis()])?;
    Ok(())
}

/// An update that must hit exactly one row: a record for something the journal does not know is a bug.
fn change(to: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
    match to.prepare_cached(sql)?.execute(values)? {
        1 => Ok(()),
        _ => Err(rusqlite::Error::QueryReturnedNoRows),
    }
}

pub(super) fn jobs(
    connection: &Connection,
    ids: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<StoredJob>> {
    let mut statement = connection.prepare_cached(ids)?;
    let ids: Vec<String> = statement.query_map(values, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    ids.iter().filter_map(|id| job(connection, id).transpose()).collect()
}

pub(super) fn job(connection: &Connection, id: &str) -> rusqlite::Result<Option<StoredJob>> {
    let header = connection
        .prepare_cached(
            "SELECT id, client, fingerprint, task, model, size, choices, n, shareable, created_ms, delivered_ms,
                    forgotten, idempotency_key, kept
             FROM orders WHERE id = ?1",
        )?
        .query_row([id], |row| {
            let record = JobRecord {
                id: parsed(row, 0, |text| text.parse().ok())?,
                client: ClientId(row.get::<_, String>(1)?.into()),
                fingerprint: parsed(row, 2, |text| Digest::from_hex(text).map(Fingerprint::from))?,
                task: parsed(row, 3, Task::from_name)?,
                model: row.get(4)?,
                size: parsed(row, 5, |text| text.parse().ok())?,
                choices: from_json::<BTreeMap<String, String>>(row, 6)?,
                n: row.get(7)?,
                shareable: row.get(8)?,
                created: Timestamp::from_millis(row.get(9)?),
                idempotency_key: row.get::<_, Option<String>>(12)?.as_deref().and_then(IdempotencyKey::new),
                kept: row.get(13)?,
            };
            Ok((record, row.get::<_, Option<i64>>(10)?.map(Timestamp::from_millis), row.get(11)?))
        })
        .optional()?;
    let Some((record, delivered, forgotten)) = header else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(
        "SELECT id, pictures, state, upstream_id, poll_url, committed_ms, accepted_ms, ended_ms, failure, usage,
                lost_answers, resolution, account, route
         FROM predictions WHERE order_id = ?1 ORDER BY slot",
    )?;
    let purchases =
        statement.query_map([id], |row| purchase(connection, row))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Some(StoredJob { record, purchases, delivered, forgotten }))
}

fn purchase(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<StoredPurchase> {
    let id: PurchaseId = parsed(row, 0, |text| text.parse().ok())?;
    let upstream = || -> rusqlite::Result<Option<UpstreamId>> {
        Ok(row.get::<_, Option<String>>(3)?.as_deref().and_then(UpstreamId::new))
    };
    let time = |column: usize| -> rusqlite::Result<Timestamp> { Ok(Timestamp::from_millis(row.get(column)?)) };
    let state = match row.get::<_, String>(2)?.as_str() {
        "intent" => StoredState::Intent,
        "committing" => StoredState::Committing { since: time(5)? },
        "accepted" => StoredState::Accepted {
            upstream: upstream()?.ok_or_else(|| unreadable(3, "accepted without an id"))?,
            poll_url: row.get(4)?,
            since: time(6)?,
        },
        "resolved" => StoredState::Resolved {
            upstream: upstream()?,
            pictures: pictures(connection, id)?,
            usage: row.get::<_, Option<String>>(9)?.map(|_| from_json::<Usage>(row, 9)).transpose()?,
            at: time(7)?,
        },
        "failed" | "unknown" => {
            StoredState::Failed { upstream: upstream()?, failure: from_json(row, 8)?, at: time(7)? }
        }
        other => return Err(unreadable(2, other)),
    };
    let resolution = row.get::<_, Option<String>>(11)?.as_deref().and_then(Resolution::from_name);
    let account = row.get::<_, Option<String>>(12)?.map(|name| AccountId(name.into()));
    let api_kind = parsed(row, 13, ApiKind::from_name)?;
    Ok(StoredPurchase { id, pictures: row.get(1)?, state, api_kind, account, lost_answers: row.get(10)?, resolution })
}

fn pictures(connection: &Connection, purchase: PurchaseId) -> rusqlite::Result<Vec<StoredPicture>> {
    connection
        .prepare_cached(
            "SELECT digest, bytes, format, width, height FROM pictures WHERE prediction_id = ?1 ORDER BY position",
        )?
        .query_map([purchase.to_string()], |row| {
            Ok(StoredPicture {
                digest: parsed(row, 0, Digest::from_hex)?,
                bytes: row.get(1)?,
                format: parsed(row, 2, Format::from_name)?,
                width: row.get(3)?,
                height: row.get(4)?,
            })
        })?
        .collect()
}

/// Webhooks of ended orders that are still to be told, see [`crate::storage::Journal::untold`].
pub(super) fn untold(connection: &Connection, of: Option<JobId>) -> rusqlite::Result<Vec<PendingWebhook>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, order_id, url, tries, due_ms FROM webhooks
         WHERE ended_ms IS NULL AND (?1 IS NULL OR order_id = ?1) ORDER BY created_ms, id",
    )?;
    let rows = statement.query_map([of.map(|job| job.to_string())], |row| {
        let webhook =
            Webhook { id: parsed(row, 0, |text| text.parse().ok())?, url: parsed(row, 2, |text| text.parse().ok())? };
        let due = row.get::<_, Option<i64>>(4)?.map(Timestamp::from_millis);
        Ok((webhook, parsed(row, 1, |text| text.parse::<JobId>().ok())?, row.get(3)?, due))
    })?;
    let mut untold = Vec::new();
    for row in rows {
        let (webhook, id, tries, due) = row?;
        if let Some(end) = job(connection, &id.to_string())?.and_then(|stored| stored.end()) {
            untold.push(PendingWebhook { webhook, job: id, tries, due, end });
        }
    }
    Ok(untold)
}

/// What the orders made at `since` or later have used up, see [`crate::storage::Journal::spent_since`].
pub(super) fn spent_since(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<UsedQuota>> {
    // CROSS JOIN: orders by their time first, then their predictions, however large the rest of the journal is.
    let mut statement = connection.prepare(
        "SELECT client, model, created_ms, usage, failure,
                CASE state WHEN 'resolved'
                     THEN (SELECT count(*) FROM pictures WHERE prediction_id = predictions.id)
                     ELSE pictures END
         FROM orders CROSS JOIN predictions ON order_id = orders.id
         WHERE created_ms >= ?1 AND state IN ('committing', 'resolved', 'failed', 'unknown')
               AND ifnull(resolution, '') <> 'lost'",
    )?;
    let spent = statement.query_map([since.millis()], |row| {
        let failure = row.get::<_, Option<String>>(4)?.map(|_| from_json::<Failure>(row, 4)).transpose()?;
        if failure.is_some_and(|failure| !failure.may_have_been_bought()) {
            return Ok(None);
        }
        Ok(Some(UsedQuota {
            client: ClientId(row.get::<_, String>(0)?.into()),
            model: row.get(1)?,
            ordered: Timestamp::from_millis(row.get(2)?),
            pictures: row.get(5)?,
            usage: row.get::<_, Option<String>>(3)?.map(|_| from_json::<Usage>(row, 3)).transpose()?,
        }))
    })?;
    spent.filter_map(Result::transpose).collect()
}

fn parsed<T>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| unreadable(column, &text))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own records are JSON")
}

fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

fn unreadable(column: usize, text: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("unexpected {text:?}").into())
}
