//! The tables, their versions, and how a database of an older version becomes one of the current version.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::storage::journal::traits::JournalError;

/// Version of the tables below, in `PRAGMA user_version`.
pub(super) const SCHEMA_VERSION: i64 = 6;
/// Prepared statements that are cached: more than the adapter has.
const STATEMENTS_MAX: usize = 64;

const SCHEMA: &str = "
CREATE TABLE jobs (
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
    evicted      INTEGER NOT NULL DEFAULT 0, -- its pictures are no longer on disk
    respond_async INTEGER NOT NULL DEFAULT 0, -- the client fetches the result later
    inputs       INTEGER NOT NULL DEFAULT 0 -- number of input pictures, without the mask
) STRICT;

CREATE TABLE purchases (
    id           TEXT PRIMARY KEY,
    job_id       TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    slot         INTEGER NOT NULL,
    pictures     INTEGER NOT NULL,  -- number requested
    state        TEXT NOT NULL CHECK (state IN ('intent', 'committing', 'accepted', 'resolved', 'failed', 'unknown')),
    upstream_id  TEXT,
    poll_url     TEXT,
    committed_ms INTEGER,
    accepted_ms  INTEGER,
    ended_ms     INTEGER,
    failure      TEXT,              -- JSON object
    usage        TEXT,              -- JSON object
    lost_answers INTEGER NOT NULL DEFAULT 0, -- submits of unknown outcome that were repeated
    resolution   TEXT CHECK (resolution IN ('lost', 'bought', 'resubmit')), -- the operator's decision about an unknown outcome
    resolved_ms  INTEGER,           -- when the operator decided
    account      TEXT,              -- the account that bought it
    api          TEXT NOT NULL DEFAULT 'prediction', -- the upstream API that it was bought at
    format       TEXT,              -- the request format of the last committed submit
    repeated_upstream_id TEXT       -- an id that an older purchase has; from versions without the unique index only
) STRICT;

CREATE TABLE pictures (
    purchase_id   TEXT NOT NULL REFERENCES purchases (id) ON DELETE CASCADE,
    position      INTEGER NOT NULL,
    digest        TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    format        TEXT NOT NULL,
    width         INTEGER NOT NULL,
    height        INTEGER NOT NULL,
    PRIMARY KEY (purchase_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE webhooks (
    id         TEXT PRIMARY KEY,
    job_id     TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    url        TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0,
    due_ms     INTEGER,             -- the next try is not before
    ended_ms   INTEGER,
    ended      TEXT CHECK (ended IN ('delivered', 'gone', 'given_up', 'forbidden'))
) STRICT;
";

const INDEXES: &str = "
CREATE INDEX jobs_by_fingerprint ON jobs (fingerprint, created_ms);
CREATE INDEX jobs_by_key ON jobs (client, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_time ON jobs (created_ms);
CREATE INDEX purchases_by_job ON purchases (job_id, slot);
CREATE INDEX purchases_unfinished ON purchases (state) WHERE state IN ('intent', 'committing', 'accepted');
CREATE UNIQUE INDEX webhooks_pending ON webhooks (job_id, url) WHERE ended_ms IS NULL;
";

/// An id belongs to one purchase: what is polled under it is delivered to that purchase's client.
const UPSTREAM_IDS: &str =
    "CREATE UNIQUE INDEX purchases_by_upstream_id ON purchases (upstream_id) WHERE upstream_id IS NOT NULL;";

/// From version 1 to 2.
const ACCOUNTS: &str = "ALTER TABLE predictions ADD COLUMN account TEXT;";
/// From version 2 to 3: there was one upstream API only.
const UPSTREAM_APIS: &str = "ALTER TABLE predictions ADD COLUMN route TEXT NOT NULL DEFAULT 'prediction';";
/// From version 3 to 4.
const WEBHOOKS: &str = "
ALTER TABLE orders ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
CREATE TABLE webhooks (
    id         TEXT PRIMARY KEY,
    order_id   TEXT NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    url        TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0,
    due_ms     INTEGER,
    ended_ms   INTEGER,
    ended      TEXT CHECK (ended IN ('delivered', 'gone', 'given_up', 'forbidden'))
) STRICT;
CREATE UNIQUE INDEX webhooks_untold ON webhooks (order_id, url) WHERE ended_ms IS NULL;
";
/// From version 4 to 5: new names of tables and columns, and ids that begin with `pred_` instead of `ord_`. The columns of
/// JSON contain no ids. Foreign keys are checked at the commit, when both sides have their new ids.
const JOBS_AND_PURCHASES: &str = "
PRAGMA defer_foreign_keys = ON;
DROP INDEX orders_by_fingerprint;
DROP INDEX orders_by_key;
DROP INDEX orders_by_time;
DROP INDEX predictions_by_order;
DROP INDEX predictions_unsettled;
DROP INDEX webhooks_untold;
ALTER TABLE orders RENAME TO jobs;
ALTER TABLE jobs RENAME COLUMN forgotten TO evicted;
ALTER TABLE jobs RENAME COLUMN kept TO respond_async;
ALTER TABLE predictions RENAME TO purchases;
ALTER TABLE purchases RENAME COLUMN order_id TO job_id;
ALTER TABLE purchases RENAME COLUMN route TO api;
ALTER TABLE pictures RENAME COLUMN prediction_id TO purchase_id;
ALTER TABLE webhooks RENAME COLUMN order_id TO job_id;
UPDATE jobs SET id = 'pred_' || substr(id, 5) WHERE substr(id, 1, 4) = 'ord_';
UPDATE purchases SET id = 'pred_' || substr(id, 5) WHERE substr(id, 1, 4) = 'ord_';
UPDATE purchases SET job_id = 'pred_' || substr(job_id, 5) WHERE substr(job_id, 1, 4) = 'ord_';
UPDATE pictures SET purchase_id = 'pred_' || substr(purchase_id, 5) WHERE substr(purchase_id, 1, 4) = 'ord_';
UPDATE webhooks SET job_id = 'pred_' || substr(job_id, 5) WHERE substr(job_id, 1, 4) = 'ord_';
";
/// From version 5 to 6. Where several purchases have the same upstream id, the one that was accepted first keeps it. The
/// others have it in a column of its own, which takes no part in look-ups; those that were still polled end as unknown
/// outcomes, because the pictures under that id are not known to be theirs.
const REQUEST_FORMATS: &str = "
ALTER TABLE jobs ADD COLUMN inputs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE purchases ADD COLUMN format TEXT;
ALTER TABLE purchases ADD COLUMN repeated_upstream_id TEXT;
UPDATE purchases SET repeated_upstream_id = upstream_id, upstream_id = NULL
WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY upstream_id ORDER BY accepted_ms, id) AS place
                             FROM purchases WHERE upstream_id IS NOT NULL)
             WHERE place > 1);
UPDATE purchases SET state = 'unknown', ended_ms = accepted_ms, failure = json_object('kind', 'outcome_unknown',
    'message', 'the image service gave it the id of another purchase')
WHERE repeated_upstream_id IS NOT NULL AND state = 'accepted';
";

/// The step from each version to the next, from version 1 on.
const STEPS: [&[&str]; 5] =
    [&[ACCOUNTS], &[UPSTREAM_APIS], &[WEBHOOKS], &[JOBS_AND_PURCHASES, INDEXES], &[REQUEST_FORMATS, UPSTREAM_IDS]];

/// Opens or creates the database in `path`, checks it, and brings it to [`SCHEMA_VERSION`] in one transaction.
///
/// # Errors
///
/// [`JournalError`] when the file cannot be opened, is damaged, or was written by a newer version.
pub(super) fn open(path: &Path) -> Result<Connection, JournalError> {
    let storage = |error: rusqlite::Error| JournalError::Storage(error.to_string());
    let connection = Connection::open(path).map_err(storage)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // A statement is not prepared again for every value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(storage)?;
    // FULL: a commit has reached the disk when it returns, also in WAL mode. `fullfsync` makes that true on macOS, where
    // fsync alone leaves the bytes in the drive's cache; other systems ignore it.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = ON;
             PRAGMA busy_timeout = 30000;",
        )
        .map_err(storage)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(storage)?;
    if verdict != "ok" {
        return Err(JournalError::Unreadable(format!("{}: {verdict}", path.display())));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0)).map_err(storage)?;
    let steps = match (version, usize::try_from(version - 1)) {
        (0, _) => vec![SCHEMA, INDEXES, UPSTREAM_IDS],
        (SCHEMA_VERSION, _) => return Ok(connection),
        (1..SCHEMA_VERSION, Ok(done)) => STEPS[done..].concat(),
        (unknown, _) => {
            return Err(JournalError::Unreadable(format!(
                "{} has version {unknown}, this gateway supports versions up to {SCHEMA_VERSION}",
                path.display()
            )));
        }
    };
    let steps = steps.concat();
    connection
        .execute_batch(&format!("BEGIN; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"))
        .map_err(storage)?;
    Ok(connection)
}
