//! The tables, their versions, and how a database of an older version becomes one of the current version.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::thread::check::BackgroundCheck;
use super::usage;
use crate::model::RunningTime;
use crate::storage::journal::traits::JournalError;

/// Version of the tables below, in `PRAGMA user_version`.
pub(in crate::storage) const SCHEMA_VERSION: i64 = 11;
/// The first version that adds up what was used of quotas.
const QUOTA_VERSION: i64 = 7;
/// Prepared statements that are cached: more than the adapter has.
const STATEMENTS_MAX: usize = 64;

/// Each write evaluates the conditions of constraints and partial indexes. An `IN` with three values or more builds a
/// temporary table every time, so they consist of `=` and `OR`.
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
    inputs       INTEGER NOT NULL DEFAULT 0, -- number of input pictures, without the mask
    delivered_running_ms INTEGER,
    stored_running_ms INTEGER,      -- when its last picture was stored
    stored_bytes INTEGER NOT NULL DEFAULT 0, -- of its pictures, until they are evicted
    deleted      INTEGER NOT NULL DEFAULT 0 -- its client has deleted it, and is not shown it any more
) STRICT;

CREATE TABLE purchases (
    id           TEXT PRIMARY KEY,
    job_id       TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    slot         INTEGER NOT NULL,
    pictures     INTEGER NOT NULL,  -- number requested
    state        TEXT NOT NULL CHECK (CASE WHEN ended_ms IS NULL
                     THEN state = 'intent' OR state = 'committing' OR state = 'accepted'
                     ELSE state = 'resolved' OR state = 'failed' OR state = 'unknown' END),
    upstream_id  TEXT,
    poll_url     TEXT,
    committed_ms INTEGER,
    accepted_ms  INTEGER,
    ended_ms     INTEGER,
    failure      TEXT,              -- JSON object
    usage        TEXT,              -- JSON object
    lost_answers INTEGER NOT NULL DEFAULT 0, -- submits of unknown outcome that were repeated
    resolution   TEXT CHECK (resolution = 'lost' OR resolution = 'bought' OR resolution = 'resubmit'), -- the operator's decision about an unknown outcome
    resolved_ms  INTEGER,           -- when the operator decided
    account      TEXT,              -- the account that bought it
    api          TEXT NOT NULL DEFAULT 'prediction', -- the upstream API that it was bought at
    format       TEXT,              -- the request format of the last committed submit
    repeated_upstream_id TEXT,      -- an id that an older purchase has; from versions without the unique index only
    accepted_running_ms INTEGER,
    ended_running_ms INTEGER
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
    ended_ms   INTEGER,
    ended      TEXT CHECK (ended = 'delivered' OR ended = 'gone' OR ended = 'given_up' OR ended = 'forbidden'),
    due_running_ms INTEGER          -- the next try is not before
) STRICT;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('running_ms', 0), ('stored_bytes', 0);
";

/// From version 7 on.
const USED_QUOTA: &str = "CREATE TABLE used_quota (           -- by ended purchases
    day           INTEGER NOT NULL, -- of the job, in days since the Unix epoch
    client        TEXT NOT NULL,
    model         TEXT NOT NULL,
    metered       INTEGER NOT NULL, -- the upstream reported tokens
    pictures      INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    PRIMARY KEY (day, client, model, metered)
) STRICT, WITHOUT ROWID;
";

/// From version 5 on.
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

/// From version 7 on. Jobs of a fingerprint are read in the order of their rows: the wall clock may have gone back.
const RESULT_INDEXES: &str = "
DROP INDEX jobs_by_fingerprint;
CREATE INDEX jobs_by_fingerprint ON jobs (fingerprint);
CREATE INDEX jobs_unclaimed ON jobs (shareable, stored_running_ms, id) WHERE stored_bytes > 0 AND delivered_ms IS NULL;
CREATE INDEX jobs_delivered ON jobs (shareable, stored_running_ms, id) WHERE stored_bytes > 0 AND delivered_ms IS NOT NULL;
CREATE INDEX pictures_by_digest ON pictures (digest);
";

/// From version 8 on. Rows are found by an index that has no bytes: a search among rows with bytes would read those of each that it
/// passes. No foreign key removes them: where they are damaged, their removal fails, and nothing else may fail with it.
const CONTENTS: &str = "
CREATE TABLE contents (             -- the bytes of small pictures, which have no file
    purchase_id TEXT NOT NULL,
    position    INTEGER NOT NULL,
    bytes       BLOB NOT NULL,
    PRIMARY KEY (purchase_id, position)
) STRICT;
";

/// From version 9 on. A client's jobs are listed in the order of their rows, behind any of them.
const CLIENT_JOBS: &str = "
CREATE INDEX jobs_by_client ON jobs (client) WHERE deleted = 0;
CREATE TABLE prompts (              -- only with storage.keep_prompts, until the result is evicted
    job_id TEXT PRIMARY KEY,
    prompt TEXT NOT NULL,
    kept_running_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX prompts_by_time ON prompts (kept_running_ms);
";

/// From version 10 on: clients and keys of run time, and decisions of the operator (`storage/clients.rs`).
const CLIENTS: &str = "
CREATE TABLE clients (
    name   TEXT PRIMARY KEY,
    weight REAL,
    limits TEXT NOT NULL,           -- JSON object: those that it has of its own
    models TEXT                     -- JSON array of ids; NULL: all of them
) STRICT;
CREATE TABLE client_keys (
    id            TEXT PRIMARY KEY,
    client        TEXT NOT NULL REFERENCES clients (name),
    prefix        TEXT NOT NULL,    -- its first characters
    digest        TEXT NOT NULL UNIQUE,
    created_ms    INTEGER NOT NULL,
    expires_ms    INTEGER,
    grace_ends_ms INTEGER,          -- it was rotated, and is valid until then
    revoked_ms    INTEGER,
    last_used_ms  INTEGER
) STRICT;
CREATE TABLE paused_accounts (
    account   TEXT PRIMARY KEY,
    paused_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE operator_commands (    -- of the command line, for a gateway that runs
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    command    TEXT NOT NULL,
    subject    TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    ended_ms   INTEGER,
    outcome    TEXT
) STRICT;
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms   INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    change  TEXT NOT NULL           -- JSON object
) STRICT;
CREATE INDEX client_keys_by_client ON client_keys (client);
INSERT INTO meta VALUES ('clients_revision', 0);
";

/// From version 11 on: what the operator has to decide about, which is counted once a second.
const UNDECIDED_INDEX: &str =
    "CREATE INDEX purchases_undecided ON purchases (job_id) WHERE state = 'unknown' AND resolution IS NULL;";
/// From version 11 on: the names of the configuration of the gateway that runs or ran last, for the command line.
const CONFIGURED: &str = "
CREATE TABLE configured_names (
    kind TEXT NOT NULL,             -- client or account
    name TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
";

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

/// From version 6 to 7: running time, which begins with the age of the oldest delivered result, by the wall clock of this
/// moment. Delivered results keep that age. Unclaimed ones begin with age 0, because a wrong clock must not end what was paid
/// for and never received; so do unknown outcomes.
const RUNNING_TIME: &str = "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE jobs ADD COLUMN delivered_running_ms INTEGER;
ALTER TABLE jobs ADD COLUMN stored_running_ms INTEGER;
ALTER TABLE jobs ADD COLUMN stored_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE purchases ADD COLUMN accepted_running_ms INTEGER;
ALTER TABLE purchases ADD COLUMN ended_running_ms INTEGER;
ALTER TABLE webhooks ADD COLUMN due_running_ms INTEGER;
ALTER TABLE webhooks DROP COLUMN due_ms;
CREATE TEMP TABLE now AS SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS ms;
INSERT INTO meta SELECT 'running_ms', max(0, ifnull(
    (SELECT ms FROM now) - (SELECT min(ended_ms) FROM purchases JOIN jobs ON jobs.id = job_id
                            WHERE delivered_ms IS NOT NULL AND evicted = 0 AND state = 'resolved'), 0));
CREATE TEMP VIEW start AS SELECT value AS ms FROM meta WHERE key = 'running_ms';
UPDATE purchases SET
    accepted_running_ms = (SELECT ms FROM start) WHERE accepted_ms IS NOT NULL;
UPDATE purchases SET
    ended_running_ms = (SELECT ms FROM start) WHERE ended_ms IS NOT NULL;
UPDATE purchases SET
    ended_running_ms = max(0, ended_running_ms - max(0, (SELECT ms FROM now) - ended_ms))
WHERE state = 'resolved' AND job_id IN (SELECT id FROM jobs WHERE delivered_ms IS NOT NULL);
UPDATE jobs SET
    delivered_running_ms = max(0, (SELECT ms FROM start) - max(0, (SELECT ms FROM now) - delivered_ms))
WHERE delivered_ms IS NOT NULL;
UPDATE jobs SET
    stored_running_ms = (SELECT max(ended_running_ms) FROM purchases WHERE job_id = jobs.id AND state = 'resolved'),
    stored_bytes = (SELECT ifnull(sum(bytes), 0) FROM purchases JOIN pictures ON purchase_id = purchases.id
                    WHERE job_id = jobs.id)
WHERE evicted = 0;
INSERT INTO meta SELECT 'stored_bytes', ifnull(sum(stored_bytes), 0) FROM jobs;
DROP TABLE now;
DROP VIEW start;
";

/// From version 7 to 8: conditions without temporary tables. The texts of the constraints change and no row does, for which
/// SQLite documents this way. A purchase has an end time exactly when it has ended; rows that contradict this were never
/// written by a gateway.
const CONDITIONS: &str = "
UPDATE purchases SET ended_ms = coalesce(accepted_ms, committed_ms, 0)
WHERE ended_ms IS NULL AND state IN ('resolved', 'failed', 'unknown');
UPDATE purchases SET ended_ms = NULL WHERE ended_ms IS NOT NULL AND state IN ('intent', 'committing', 'accepted');
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(sql,
    'CHECK (state IN (''intent'', ''committing'', ''accepted'', ''resolved'', ''failed'', ''unknown''))',
    'CHECK (CASE WHEN ended_ms IS NULL
                     THEN state = ''intent'' OR state = ''committing'' OR state = ''accepted''
                     ELSE state = ''resolved'' OR state = ''failed'' OR state = ''unknown'' END)'),
    'CHECK (resolution IN (''lost'', ''bought'', ''resubmit''))',
    'CHECK (resolution = ''lost'' OR resolution = ''bought'' OR resolution = ''resubmit'')')
WHERE type = 'table' AND name = 'purchases';
UPDATE sqlite_schema SET sql = replace(sql,
    'CHECK (ended IN (''delivered'', ''gone'', ''given_up'', ''forbidden''))',
    'CHECK (ended = ''delivered'' OR ended = ''gone'' OR ended = ''given_up'' OR ended = ''forbidden'')')
WHERE type = 'table' AND name = 'webhooks';
PRAGMA writable_schema = RESET;
";

/// From version 8 on. The key and the condition change with the end alone, so that the steps before it leave the index as it is.
const UNFINISHED_INDEX: &str = "
DROP INDEX purchases_unfinished;
CREATE INDEX purchases_unfinished ON purchases (job_id) WHERE ended_ms IS NULL;
";

/// From version 8 to 9.
const DELETED: &str = "ALTER TABLE jobs ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;";

/// The step from each version to the next, from version 1 on.
const STEPS: [&[&str]; 10] = [
    &[ACCOUNTS],
    &[UPSTREAM_APIS],
    &[WEBHOOKS],
    &[JOBS_AND_PURCHASES, INDEXES],
    &[REQUEST_FORMATS, UPSTREAM_IDS],
    &[RUNNING_TIME, RESULT_INDEXES, USED_QUOTA],
    &[CONDITIONS, UNFINISHED_INDEX, CONTENTS],
    &[DELETED, CLIENT_JOBS],
    &[CLIENTS],
    &[UNDECIDED_INDEX, CONFIGURED],
];

/// Opens or creates the database in `path`, begins its check, and brings it to [`SCHEMA_VERSION`] in one transaction.
///
/// # Errors
///
/// [`JournalError`] when the file cannot be opened, is damaged, or was written by a newer version.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<BackgroundCheck>), JournalError> {
    let storage = |error: rusqlite::Error| JournalError::Storage(error.to_string());
    let connection = Connection::open(path).map_err(storage)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // A statement is not prepared again for every value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(storage)?;
    // FULL: a commit has reached the disk when it returns, also in WAL mode. `fullfsync` makes that true on macOS, where
    // fsync alone leaves the bytes in the drive's cache; other systems ignore it.
    // The free pages of a new database can be given back (`Writer`). A log that grew in the time of a long read is cut again.
    // What is deleted is overwritten, but for evicted pictures: prompts and pictures are gone when their client deletes them.
    connection
        .execute_batch(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON;
             PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA busy_timeout = 30000; PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(storage)?;
    let check = BackgroundCheck::begin(path, &connection)?;
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0)).map_err(storage)?;
    let steps = match (version, usize::try_from(version - 1)) {
        (0, _) => {
            vec![
                SCHEMA,
                INDEXES,
                UPSTREAM_IDS,
                RESULT_INDEXES,
                USED_QUOTA,
                UNFINISHED_INDEX,
                CONTENTS,
                CLIENT_JOBS,
                CLIENTS,
                UNDECIDED_INDEX,
                CONFIGURED,
            ]
        }
        (SCHEMA_VERSION, _) => return Ok((connection, check)),
        (1..SCHEMA_VERSION, Ok(done)) => STEPS[done..].concat(),
        (unknown, _) => {
            return Err(JournalError::Unreadable(format!(
                "{} has version {unknown}, this gateway supports versions up to {SCHEMA_VERSION}",
                path.display()
            )));
        }
    };
    let steps = steps.concat();
    let migrate = || -> rusqlite::Result<()> {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(&steps)?;
        if version < QUOTA_VERSION {
            usage::add_up(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    };
    migrate().map_err(storage)?;
    if version > 0 && check.is_none() {
        // A small one becomes as a new one. A large one would take long: `config/README.md` says how.
        connection.execute_batch("VACUUM").map_err(storage)?;
    }
    Ok((connection, check))
}

/// Returns the running time that was stored last.
///
/// # Errors
///
/// [`JournalError::Storage`] when it cannot be read.
pub(super) fn running_time(connection: &Connection) -> Result<RunningTime, JournalError> {
    let sql = "SELECT max(value, 0) FROM meta WHERE key = 'running_ms'";
    let stored = connection.query_row(sql, (), |row| row.get(0));
    stored.map(RunningTime::from_millis).map_err(|error| JournalError::Storage(error.to_string()))
}
