//! Reads of stored results, each of them short: they run between the commits of purchases.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::queries::job;
use super::rows::parsed;
use super::writes::sql_millis;
use crate::model::{Digest, JobId, RunningTime};
use crate::storage::journal::stored::{ResultPage, StoredJob, StoredResult};

/// The query for a page of the results that fulfil a condition, by the index that has them.
macro_rules! page_of {
    ($index:literal, $condition:literal) => {
        concat!(
            "SELECT id, stored_running_ms FROM jobs INDEXED BY ",
            $index,
            " WHERE stored_bytes > 0 AND ",
            $condition,
            " AND shareable = ?1 AND stored_running_ms < ?2 AND (stored_running_ms, id) > (?3, ?4)
              AND NOT EXISTS (SELECT 1 FROM purchases WHERE job_id = jobs.id AND ended_ms IS NULL)
              ORDER BY stored_running_ms, id LIMIT ?5"
        )
    };
}

/// Returns a page of stored results, as `Journal::stored_results`.
pub(super) fn stored_results(connection: &Connection, page: ResultPage) -> rusqlite::Result<Vec<StoredResult>> {
    // Each names its index: a plan that walks the table would hold up commits for seconds.
    let sql = if page.delivered {
        page_of!("jobs_delivered", "delivered_ms IS NOT NULL")
    } else {
        page_of!("jobs_unclaimed", "delivered_ms IS NULL")
    };
    let (after, after_id) = match page.after {
        Some((time, job)) => (sql_millis(time), job.to_string()),
        None => (-1, String::new()),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![page.shareable, sql_millis(page.stored_before), after, after_id, page.limit];
    let rows = statement.query_map(values, |row| {
        Ok((row.get::<_, String>(0)?, parsed(row, 0, |text| text.parse::<JobId>().ok())?, row.get::<_, u64>(1)?))
    })?;
    let mut results = Vec::new();
    for row in rows {
        let (id, job_id, stored) = row?;
        let pictures = job(connection, &id)?.map(StoredJob::into_pictures).unwrap_or_default();
        results.push(StoredResult { job: job_id, pictures, stored: RunningTime::from_millis(stored) });
    }
    Ok(results)
}

/// Returns the number of bytes of all pictures that have not been evicted.
pub(super) fn stored_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT max(value, 0) FROM meta WHERE key = 'stored_bytes'")?
        .query_row((), |row| row.get(0))
}

/// Returns which of these pictures belong to a job and have not been evicted.
pub(super) fn stored_digests(connection: &Connection, of: &[Digest]) -> rusqlite::Result<HashSet<Digest>> {
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM pictures CROSS JOIN purchases ON purchases.id = purchase_id CROSS JOIN jobs ON jobs.id = job_id
         WHERE digest = ?1 AND evicted = 0 LIMIT 1",
    )?;
    let mut stored = HashSet::new();
    for digest in of {
        if statement.query_row([digest.to_string()], |_| Ok(())).optional()?.is_some() {
            stored.insert(*digest);
        }
    }
    Ok(stored)
}

/// Copies of one picture that are returned at most: with the first that is intact, the others are not needed.
const COPIES_MAX: usize = 8;

/// Returns the bytes of a picture that are stored with records, as `Journal::picture_copies`.
pub(super) fn picture_copies(connection: &Connection, of: &Digest) -> rusqlite::Result<Vec<Bytes>> {
    // CROSS JOIN fixes the order of the loops.
    let mut statement = connection.prepare_cached(
        "SELECT contents.bytes FROM pictures INDEXED BY pictures_by_digest
         CROSS JOIN contents USING (purchase_id, position) WHERE digest = ?1 LIMIT ?2",
    )?;
    let rows = statement.query_map(params![of.to_string(), COPIES_MAX], |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|bytes| bytes.map(Bytes::from)).collect()
}
