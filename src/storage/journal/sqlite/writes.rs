//! Records into rows.

use rusqlite::{Connection, params};
use serde::Serialize;

use crate::model::{Failure, IdempotencyKey, JobId, PurchaseId, StoredPicture, Timestamp, Usage, Webhook};
use crate::storage::journal::record::Record;

/// Writes one record.
///
/// # Errors
///
/// When the record violates a constraint or names something the journal does not know, and when the database fails.
pub(super) fn write(to: &Connection, record: &Record) -> rusqlite::Result<()> {
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
            "UPDATE purchases SET state = 'accepted', upstream_id = ?2, poll_url = ?3, accepted_ms = ?4 WHERE id = ?1",
            params![purchase.to_string(), upstream.as_str(), poll_url, at.millis()],
        ),
        Record::Resolved { purchase, pictures, usage, at } => resolve(to, *purchase, pictures, *usage, *at),
        Record::Restored { purchase, pictures } => restore(to, *purchase, pictures),
        Record::Failed { purchase, failure, at } => {
            let state = if matches!(failure, Failure::OutcomeUnknown { .. }) { "unknown" } else { "failed" };
            change(
                to,
                "UPDATE purchases SET state = ?2, failure = ?3, ended_ms = ?4 WHERE id = ?1",
                params![purchase.to_string(), state, json(failure), at.millis()],
            )
        }
        Record::Delivered { job, at } => change(
            to,
            "UPDATE jobs SET delivered_ms = ifnull(delivered_ms, ?2) WHERE id = ?1",
            params![job.to_string(), at.millis()],
        ),
        Record::Evicted { job } => change(to, "UPDATE jobs SET evicted = 1 WHERE id = ?1", params![job.to_string()]),
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
    insert_pictures(to, purchase, pictures)?;
    change(
        to,
        "UPDATE purchases SET state = 'resolved', usage = ?2, ended_ms = ?3 WHERE id = ?1",
        params![purchase.to_string(), usage.as_ref().map(json), at.millis()],
    )
}

/// Replaces the pictures of a resolved purchase, and changes nothing else of it.
fn restore(to: &Connection, purchase: PurchaseId, pictures: &[StoredPicture]) -> rusqlite::Result<()> {
    let id = purchase.to_string();
    to.prepare_cached("SELECT 1 FROM purchases WHERE id = ?1 AND state = 'resolved'")?.query_row([&id], |_| Ok(()))?;
    to.prepare_cached("DELETE FROM pictures WHERE purchase_id = ?1")?.execute([&id])?;
    insert_pictures(to, purchase, pictures)
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
