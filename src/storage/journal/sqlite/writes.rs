//! Records into rows.

use rusqlite::{Connection, params};
use serde::Serialize;

use super::usage;
use crate::model::{
    Failure, IdempotencyKey, JobId, PurchaseId, RunningTime, StoredPicture, Timestamp, UpstreamId, Usage, Webhook,
};
use crate::storage::journal::content::PictureBytes;
use crate::storage::journal::record::Record;

/// Writes one record, at this running time. The bytes of pictures that are evicted or replaced are deleted with it unless `keep_bytes`.
///
/// # Errors
///
/// When the record violates a constraint or names something the journal does not know, and when the database fails.
pub(super) fn write(to: &Connection, record: &Record, now: RunningTime, keep_bytes: bool) -> rusqlite::Result<()> {
    if let Record::Resolved { purchase, .. } | Record::Restored { purchase, .. } | Record::Failed { purchase, .. } =
        record
    {
        usage::changing(to, *purchase, || write_rows(to, record, now, keep_bytes))
    } else {
        write_rows(to, record, now, keep_bytes)
    }
}

fn write_rows(to: &Connection, record: &Record, now: RunningTime, keep_bytes: bool) -> rusqlite::Result<()> {
    match record {
        Record::Intent { job, api_kind, purchases } => {
            to.prepare_cached(
                "INSERT INTO jobs (id, client, fingerprint, task, model, size, choices, n, shareable, created_ms,
                                     idempotency_key, respond_async, inputs)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute(params![
                job.id.to_string(),
                &*job.client.0,
                job.fingerprint.to_string(),
                job.task.name(),
                job.model.as_str(),
                job.size.to_string(),
                json(&job.choices),
                job.n,
                job.shareable,
                job.created.millis(),
                job.idempotency_key.as_ref().map(IdempotencyKey::as_str),
                job.respond_async,
                job.inputs,
            ])?;
            if let Some(prompt) = &job.prompt {
                to.prepare_cached("INSERT INTO prompts (job_id, prompt, kept_running_ms) VALUES (?1, ?2, ?3)")?
                    .execute(params![job.id.to_string(), &**prompt, sql_millis(now)])?;
            }
            for (purchase, pictures) in purchases {
                to.prepare_cached(
                    "INSERT INTO purchases (id, job_id, slot, pictures, state, api)
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
        Record::Committing { purchase, account, api_kind, format, at } => change(
            to,
            "UPDATE purchases SET state = 'committing', account = ?2, api = ?3, format = ?4, committed_ms = ?5
             WHERE id = ?1",
            params![purchase.to_string(), &*account.0, api_kind.name(), format, at.millis()],
        ),
        Record::Withdrawn { purchase } => change(
            to,
            "UPDATE purchases SET state = 'intent', committed_ms = NULL WHERE id = ?1",
            params![purchase.to_string()],
        ),
        Record::Resubmitted { purchase } => change(
            to,
            "UPDATE purchases SET state = 'intent', committed_ms = NULL, lost_answers = lost_answers + 1
             WHERE id = ?1",
            params![purchase.to_string()],
        ),
        Record::Accepted { purchase, upstream, poll_url, at } => change(
            to,
            "UPDATE purchases SET state = 'accepted', upstream_id = ?2, poll_url = ?3, accepted_ms = ?4,
                                  accepted_running_ms = ?5
             WHERE id = ?1",
            params![purchase.to_string(), upstream.as_str(), poll_url, at.millis(), sql_millis(now)],
        ),
        Record::Resolved { purchase, upstream, poll_url, pictures, contents, usage, at } => {
            if let Some(upstream) = upstream {
                complete_acceptance(to, *purchase, upstream, poll_url.as_deref())?;
            }
            resolve(to, *purchase, pictures, *usage, *at, now)?;
            insert_contents(to, *purchase, pictures, contents)
        }
        Record::Restored { purchase, pictures } => restore(to, *purchase, pictures, keep_bytes),
        Record::Failed { purchase, failure, at } => {
            let state = if matches!(failure, Failure::OutcomeUnknown { .. }) { "unknown" } else { "failed" };
            change(
                to,
                "UPDATE purchases SET state = ?2, failure = ?3, ended_ms = ?4, ended_running_ms = ?5 WHERE id = ?1",
                params![purchase.to_string(), state, json(failure), at.millis(), sql_millis(now)],
            )
        }
        Record::Delivered { job, at } => deliver(to, *job, *at, now),
        Record::Evicted { job } => evict(to, *job, keep_bytes, Deletion::Quick),
        Record::Deleted { job } => {
            evict(to, *job, keep_bytes, Deletion::Overwritten)?;
            change(to, "UPDATE jobs SET deleted = 1 WHERE id = ?1", params![job.to_string()])
        }
        Record::PromptExpired { job } => forget_prompt(to, *job),
        Record::Subscribed { job, webhook, at } => subscribe(to, *job, webhook, *at),
        Record::WebhookTried { webhook, tries, delay } => change(
            to,
            "UPDATE webhooks SET tries = ?2, due_running_ms = ?3 WHERE id = ?1",
            params![webhook.to_string(), tries, sql_millis(now.plus(*delay))],
        ),
        Record::WebhookEnded { webhook, end, at } => change(
            to,
            "UPDATE webhooks SET ended = ?2, ended_ms = ?3 WHERE id = ?1",
            params![webhook.to_string(), end.name(), at.millis()],
        ),
    }
}

fn deliver(to: &Connection, job: JobId, at: Timestamp, now: RunningTime) -> rusqlite::Result<()> {
    change(
        to,
        "UPDATE jobs SET delivered_ms = ifnull(delivered_ms, ?2),
                         delivered_running_ms = ifnull(delivered_running_ms, ?3)
         WHERE id = ?1",
        params![job.to_string(), at.millis(), sql_millis(now)],
    )
}

/// Writes the upstream's id of a purchase whose acceptance was not written, unless another purchase has that id.
fn complete_acceptance(
    to: &Connection,
    purchase: PurchaseId,
    upstream: &UpstreamId,
    poll_url: Option<&str>,
) -> rusqlite::Result<()> {
    to.prepare_cached(
        "UPDATE purchases SET upstream_id = ?2, poll_url = ?3
         WHERE id = ?1 AND upstream_id IS NULL AND NOT EXISTS (SELECT 1 FROM purchases WHERE upstream_id = ?2)",
    )?
    .execute(params![purchase.to_string(), upstream.as_str(), poll_url])?;
    Ok(())
}

fn resolve(
    to: &Connection,
    purchase: PurchaseId,
    pictures: &[StoredPicture],
    usage: Option<Usage>,
    at: Timestamp,
    now: RunningTime,
) -> rusqlite::Result<()> {
    insert_pictures(to, purchase, pictures)?;
    let bytes: u64 = pictures.iter().map(|picture| picture.bytes).sum();
    change(
        to,
        "UPDATE jobs SET stored_running_ms = ?2, stored_bytes = stored_bytes + ?3 WHERE id = ?1",
        params![purchase.job.to_string(), sql_millis(now), bytes],
    )?;
    add_stored_bytes(to, i64::try_from(bytes).unwrap_or(i64::MAX))?;
    change(
        to,
        "UPDATE purchases SET state = 'resolved', usage = ?2, ended_ms = ?3, ended_running_ms = ?4 WHERE id = ?1",
        params![purchase.to_string(), usage.as_ref().map(json), at.millis(), sql_millis(now)],
    )
}

/// Replaces the pictures of a resolved purchase, and changes nothing else of it.
fn restore(
    to: &Connection,
    purchase: PurchaseId,
    pictures: &[StoredPicture],
    keep_bytes: bool,
) -> rusqlite::Result<()> {
    let (id, job) = (purchase.to_string(), purchase.job.to_string());
    to.prepare_cached("SELECT 1 FROM purchases WHERE id = ?1 AND state = 'resolved'")?.query_row([&id], |_| Ok(()))?;
    let before: i64 = to
        .prepare_cached("SELECT ifnull(sum(bytes), 0) FROM pictures WHERE purchase_id = ?1")?
        .query_row([&id], |row| row.get(0))?;
    if !keep_bytes {
        to.prepare_cached("DELETE FROM contents WHERE purchase_id = ?1")?.execute([&id])?;
    }
    to.prepare_cached("DELETE FROM pictures WHERE purchase_id = ?1")?.execute([&id])?;
    insert_pictures(to, purchase, pictures)?;
    let bytes: u64 = pictures.iter().map(|picture| picture.bytes).sum();
    let more = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_sub(before);
    // The pictures of an evicted job take no space.
    let is_stored = to
        .prepare_cached("UPDATE jobs SET stored_bytes = stored_bytes + ?2 WHERE id = ?1 AND evicted = 0")?
        .execute(params![job, more])?;
    if is_stored == 0 { Ok(()) } else { add_stored_bytes(to, more) }
}

fn insert_pictures(to: &Connection, purchase: PurchaseId, pictures: &[StoredPicture]) -> rusqlite::Result<()> {
    let id = purchase.to_string();
    for (position, picture) in pictures.iter().enumerate() {
        to.prepare_cached(
            "INSERT INTO pictures (purchase_id, position, digest, bytes, format, width, height)
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
    Ok(())
}

/// Stores the bytes of those pictures that have no file.
fn insert_contents(
    to: &Connection,
    purchase: PurchaseId,
    pictures: &[StoredPicture],
    contents: &[PictureBytes],
) -> rusqlite::Result<()> {
    for (position, picture) in pictures.iter().enumerate() {
        if let Some(content) = contents.iter().find(|content| content.digest == picture.digest) {
            to.prepare_cached("INSERT INTO contents (purchase_id, position, bytes) VALUES (?1, ?2, ?3)")?
                .execute(params![purchase.to_string(), position, &content.bytes[..]])?;
        }
    }
    Ok(())
}

/// How bytes of pictures are deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletion {
    /// Their client has asked for it: nothing of them is left in the file.
    Overwritten,
    /// No page of theirs is written once more.
    Quick,
}

/// Deletes the pictures of a job, and its prompt.
fn evict(to: &Connection, job: JobId, keep_bytes: bool, deletion: Deletion) -> rusqlite::Result<()> {
    let id = job.to_string();
    if !keep_bytes {
        to.pragma_update(None, "secure_delete", deletion == Deletion::Overwritten)?;
        let sql = "DELETE FROM contents WHERE purchase_id IN (SELECT id FROM purchases WHERE job_id = ?1)";
        let deleted = to.prepare_cached(sql).and_then(|mut statement| statement.execute([&id]));
        to.pragma_update(None, "secure_delete", true)?;
        deleted?;
    }
    change(
        to,
        "UPDATE meta SET value = value - ifnull((SELECT stored_bytes FROM jobs WHERE id = ?1), 0)
         WHERE key = 'stored_bytes'",
        params![id],
    )?;
    change(to, "UPDATE jobs SET evicted = 1, stored_bytes = 0 WHERE id = ?1", params![id])?;
    forget_prompt(to, job)
}

/// Removes the prompt of a job, if it is kept.
fn forget_prompt(to: &Connection, job: JobId) -> rusqlite::Result<()> {
    to.prepare_cached("DELETE FROM prompts WHERE job_id = ?1")?.execute([job.to_string()])?;
    Ok(())
}

/// Adds to the number of bytes of all pictures that are stored.
fn add_stored_bytes(to: &Connection, bytes: i64) -> rusqlite::Result<()> {
    change(to, "UPDATE meta SET value = value + ?1 WHERE key = 'stored_bytes'", params![bytes])
}

/// Stores the running time, so that it goes on from here after a restart. Part of every commit: no stamp in the tables is
/// newer than the running time beside them.
pub(super) fn store_running_time(to: &Connection, now: RunningTime) -> rusqlite::Result<()> {
    change(to, "UPDATE meta SET value = max(value, ?1) WHERE key = 'running_ms'", params![sql_millis(now)])
}

/// Returns the milliseconds of a running time as SQLite stores numbers.
pub(super) fn sql_millis(time: RunningTime) -> i64 {
    i64::try_from(time.millis()).unwrap_or(i64::MAX)
}

fn subscribe(to: &Connection, job: JobId, webhook: &Webhook, at: Timestamp) -> rusqlite::Result<()> {
    to.prepare_cached(
        "INSERT INTO webhooks (id, job_id, url, created_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )?
    .execute(params![webhook.id.to_string(), job.to_string(), webhook.url.as_str(), at.millis()])?;
    Ok(())
}

/// Updates exactly one row and fails otherwise: the journal does not know what the record is for.
fn change(to: &Connection, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
    match to.prepare_cached(sql)?.execute(values)? {
        1 => Ok(()),
        _ => Err(rusqlite::Error::QueryReturnedNoRows),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the gateway's own records are JSON")
}
