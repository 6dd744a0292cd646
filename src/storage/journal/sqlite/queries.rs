//! Rows into the state that they add up to.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{from_json, parsed, unreadable};
use super::writes::sql_millis;
use crate::model::{
    AccountId, ApiKind, Choices, ClientId, Digest, Fingerprint, Format, IdempotencyKey, JobId, ModelId, PurchaseId,
    RunningTime, StoredPicture, Task, Timestamp, UpstreamId, Usage, Webhook,
};
use crate::storage::journal::record::{JobRecord, Resolution};
use crate::storage::journal::stored::{
    PendingWebhook, Stamp, StoredJob, StoredPurchase, StoredState, UndecidedPurchases,
};

/// Returns the jobs whose ids the query `ids` selects, in its order.
pub(super) fn jobs(
    connection: &Connection,
    ids: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<StoredJob>> {
    let mut statement = connection.prepare_cached(ids)?;
    let ids: Vec<String> = statement.query_map(values, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    ids.iter().filter_map(|id| job(connection, id).transpose()).collect()
}

/// Returns jobs of a client, as `Journal::client_jobs`.
pub(super) fn client_jobs(
    connection: &Connection,
    client: &ClientId,
    after: Option<JobId>,
    limit: usize,
) -> rusqlite::Result<Option<Vec<StoredJob>>> {
    let before: Option<i64> = match after {
        Some(after) => connection
            .prepare_cached("SELECT rowid FROM jobs WHERE id = ?1 AND client = ?2")?
            .query_row(params![after.to_string(), &*client.0], |row| row.get(0))
            .optional()?,
        None => Some(i64::MAX),
    };
    let Some(before) = before else { return Ok(None) };
    let sql = "SELECT id FROM jobs INDEXED BY jobs_by_client WHERE client = ?1 AND deleted = 0 AND rowid < ?2
               ORDER BY rowid DESC LIMIT ?3";
    jobs(connection, sql, params![&*client.0, before, limit]).map(Some)
}

/// Returns jobs whose prompts have expired, as `Journal::expired_prompts`.
pub(super) fn expired_prompts(
    connection: &Connection,
    kept_before: RunningTime,
    limit: usize,
) -> rusqlite::Result<Vec<JobId>> {
    let mut statement = connection.prepare_cached(
        "SELECT job_id FROM prompts CROSS JOIN jobs ON jobs.id = job_id
         WHERE kept_running_ms < ?1 AND stored_bytes = 0
         AND NOT EXISTS (SELECT 1 FROM purchases WHERE purchases.job_id = jobs.id AND ended_ms IS NULL)
         ORDER BY kept_running_ms LIMIT ?2",
    )?;
    let ids = statement
        .query_map(params![sql_millis(kept_before), limit], |row| parsed(row, 0, |text| text.parse::<JobId>().ok()))?;
    ids.collect()
}

/// Returns one job with its purchases and their pictures.
pub(super) fn job(connection: &Connection, id: &str) -> rusqlite::Result<Option<StoredJob>> {
    let header = connection
        .prepare_cached(
            "SELECT id, client, fingerprint, task, model, size, choices, n, shareable, created_ms, delivered_ms,
                    evicted, idempotency_key, respond_async, inputs, delivered_running_ms, deleted,
                    (SELECT prompt FROM prompts WHERE job_id = jobs.id)
             FROM jobs WHERE id = ?1",
        )?
        .query_row([id], |row| {
            let record = JobRecord {
                id: parsed(row, 0, |text| text.parse().ok())?,
                client: ClientId(row.get::<_, String>(1)?.into()),
                fingerprint: parsed(row, 2, |text| Digest::from_hex(text).map(Fingerprint::from))?,
                task: parsed(row, 3, Task::from_name)?,
                model: ModelId::from(row.get::<_, String>(4)?),
                size: parsed(row, 5, |text| text.parse().ok())?,
                choices: from_json::<Choices>(row, 6)?,
                n: row.get(7)?,
                shareable: row.get(8)?,
                created: Timestamp::from_millis(row.get(9)?),
                idempotency_key: row.get::<_, Option<String>>(12)?.as_deref().and_then(IdempotencyKey::new),
                respond_async: row.get(13)?,
                inputs: row.get(14)?,
                prompt: row.get::<_, Option<String>>(17)?.map(Into::into),
            };
            let delivered = row.get::<_, Option<i64>>(10)?.map(Timestamp::from_millis);
            let running = running(row, 15)?.unwrap_or_default();
            Ok((record, delivered.map(|at| Stamp { at, running }), row.get(11)?, row.get(16)?))
        })
        .optional()?;
    let Some((record, delivered, evicted, deleted)) = header else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(
        "SELECT id, pictures, state, upstream_id, poll_url, committed_ms, accepted_ms, ended_ms, failure, usage,
                lost_answers, resolution, account, api, format, accepted_running_ms, ended_running_ms
         FROM purchases WHERE job_id = ?1 ORDER BY slot",
    )?;
    let purchases =
        statement.query_map([id], |row| purchase(connection, row))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Some(StoredJob { record, purchases, delivered, evicted, deleted }))
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
            poll_url: row.get(4)?,
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
    Ok(StoredPurchase {
        id,
        pictures: row.get(1)?,
        state,
        api_kind,
        format: row.get(14)?,
        account,
        lost_answers: row.get(10)?,
        resolution,
        accepted: running(row, 15)?,
        ended: running(row, 16)?,
    })
}

/// Reads a column of running time.
fn running(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<RunningTime>> {
    Ok(row.get::<_, Option<u64>>(column)?.map(RunningTime::from_millis))
}

fn pictures(connection: &Connection, purchase: PurchaseId) -> rusqlite::Result<Vec<StoredPicture>> {
    connection
        .prepare_cached(
            "SELECT digest, bytes, format, width, height FROM pictures WHERE purchase_id = ?1 ORDER BY position",
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

/// Returns what the operator has to decide about, as `Journal::undecided`. CROSS JOIN fixes the order of the loops.
pub(super) fn undecided(connection: &Connection) -> rusqlite::Result<Vec<UndecidedPurchases>> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*), model, pictures, size, choices, inputs FROM purchases INDEXED BY purchases_undecided
         CROSS JOIN jobs ON jobs.id = job_id WHERE state = 'unknown' AND resolution IS NULL
         GROUP BY model, pictures, size, choices, inputs",
    )?;
    let rows = statement.query_map((), |row| {
        Ok(UndecidedPurchases {
            purchases: row.get(0)?,
            model: ModelId::from(row.get::<_, String>(1)?),
            pictures: row.get(2)?,
            size: parsed(row, 3, |text| text.parse().ok())?,
            choices: from_json::<Choices>(row, 4)?,
            inputs: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Returns the undelivered webhooks of ended jobs, as `Journal::pending_webhooks`.
pub(super) fn pending_webhooks(connection: &Connection, of: Option<JobId>) -> rusqlite::Result<Vec<PendingWebhook>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, job_id, url, tries, due_running_ms FROM webhooks
         WHERE ended_ms IS NULL AND (?1 IS NULL OR job_id = ?1) ORDER BY rowid",
    )?;
    let rows = statement.query_map([of.map(|job| job.to_string())], |row| {
        let webhook =
            Webhook { id: parsed(row, 0, |text| text.parse().ok())?, url: parsed(row, 2, |text| text.parse().ok())? };
        Ok((webhook, parsed(row, 1, |text| text.parse::<JobId>().ok())?, row.get(3)?, running(row, 4)?))
    })?;
    let mut pending = Vec::new();
    for row in rows {
        let (webhook, id, tries, due) = row?;
        if let Some(end) = job(connection, &id.to_string())?.and_then(|stored| stored.end()) {
            pending.push(PendingWebhook { webhook, job: id, tries, due, end });
        }
    }
    Ok(pending)
}
