//! Databases of older versions.

use std::time::Duration;

use super::*;
use crate::model::{Clock, SystemClock};

/// The tables of version 4, as its gateway created them.
const VERSION_4: &str = "
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

/// What took version 4 to version 5, as its gateway did.
const FORWARD: &str = "
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
UPDATE jobs SET id = replace(id, 'ord_', 'pred_');
UPDATE purchases SET id = replace(id, 'ord_', 'pred_'), job_id = replace(job_id, 'ord_', 'pred_');
UPDATE pictures SET purchase_id = replace(purchase_id, 'ord_', 'pred_');
UPDATE webhooks SET job_id = replace(job_id, 'ord_', 'pred_');
CREATE INDEX jobs_by_fingerprint ON jobs (fingerprint, created_ms);
CREATE INDEX jobs_by_key ON jobs (client, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX jobs_by_time ON jobs (created_ms);
CREATE INDEX purchases_by_job ON purchases (job_id, slot);
CREATE INDEX purchases_unfinished ON purchases (state) WHERE state IN ('intent', 'committing', 'accepted');
CREATE UNIQUE INDEX webhooks_pending ON webhooks (job_id, url) WHERE ended_ms IS NULL;
";

/// What took version 5 to version 6, as its gateway did where no upstream id is there twice.
const FORMATS: &str = "
ALTER TABLE jobs ADD COLUMN inputs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE purchases ADD COLUMN format TEXT;
ALTER TABLE purchases ADD COLUMN repeated_upstream_id TEXT;
CREATE UNIQUE INDEX purchases_by_upstream_id ON purchases (upstream_id) WHERE upstream_id IS NOT NULL;
";

/// What took version 6 to version 7, as its gateway did, but for the stamps of running time and the sums of these rows.
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
INSERT INTO meta VALUES ('running_ms', 60000), ('stored_bytes', 0);
DROP INDEX jobs_by_fingerprint;
CREATE INDEX jobs_by_fingerprint ON jobs (fingerprint);
CREATE INDEX jobs_unclaimed ON jobs (shareable, stored_running_ms, id) WHERE stored_bytes > 0 AND delivered_ms IS NULL;
CREATE INDEX jobs_delivered ON jobs (shareable, stored_running_ms, id) WHERE stored_bytes > 0 AND delivered_ms IS NOT NULL;
CREATE INDEX pictures_by_digest ON pictures (digest);
CREATE TABLE used_quota (
    day           INTEGER NOT NULL,
    client        TEXT NOT NULL,
    model         TEXT NOT NULL,
    metered       INTEGER NOT NULL,
    pictures      INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    PRIMARY KEY (day, client, model, metered)
) STRICT, WITHOUT ROWID;
";

/// What takes version 4 back to version 3, version 3 to 2, and 2 to 1.
const BACK: [&str; 3] = [
    "DROP TABLE webhooks; ALTER TABLE orders DROP COLUMN kept;",
    "ALTER TABLE predictions DROP COLUMN route;",
    "ALTER TABLE predictions DROP COLUMN account;",
];

/// One job in each state, with ids as version 4 wrote them: `ord_` and a ULID of the digits `n`.
const ROWS: &str = r#"
INSERT INTO orders VALUES
    ('ord_00000000000000000000000001', 'alice', '$print', 'image-edit', 'gpt-image-2', '1024x1024', '{"quality":"low"}',
     2, 1, 'key-1', 1790000000000, 1790000000700, 0, 1),
    ('ord_00000000000000000000000002', 'bob', '$print', 'text-to-image', 'gpt-image-1', '1536x1024', '{}',
     1, 0, NULL, 1790000001000, NULL, 1, 0),
    ('ord_00000000000000000000000003', 'bob', '$print', 'image-edit', 'gpt-image-1', '1536x1024', '{}',
     3, 0, NULL, 1790000002000, NULL, 0, 0);
INSERT INTO predictions (id, order_id, slot, pictures, state, upstream_id, poll_url, committed_ms, accepted_ms, ended_ms,
                         failure, usage, lost_answers, resolution, resolved_ms, account, route) VALUES
    ('ord_00000000000000000000000001.0', 'ord_00000000000000000000000001', 0, 1, 'resolved', 'abc', NULL, 1, 2, 1790000000500,
     NULL, '{"input_tokens":10,"output_tokens":20,"input_image_tokens":null}', 1, NULL, NULL, 'default', 'openai'),
    ('ord_00000000000000000000000001.1', 'ord_00000000000000000000000001', 1, 1, 'unknown', NULL, NULL, 1, NULL, 1790000000600,
     '{"kind":"outcome_unknown","message":"the word_list of ord_ is cut"}', NULL, 0, 'bought', 1790000000800, 'default', 'openai'),
    ('ord_00000000000000000000000002.0', 'ord_00000000000000000000000002', 0, 1, 'failed', NULL, NULL, NULL, NULL, 1790000001500,
     '{"kind":"over_limit","limit":"usd_per_day","retry_after":{"secs":60,"nanos":0}}', NULL, 0, NULL, NULL, NULL, 'openai'),
    ('ord_00000000000000000000000003.0', 'ord_00000000000000000000000003', 0, 1, 'intent', NULL, NULL, NULL, NULL, NULL,
     NULL, NULL, 0, NULL, NULL, NULL, 'openai'),
    ('ord_00000000000000000000000003.1', 'ord_00000000000000000000000003', 1, 1, 'committing', NULL, NULL, 1790000002500, NULL, NULL,
     NULL, NULL, 0, NULL, NULL, 'default', 'openai'),
    ('ord_00000000000000000000000003.2', 'ord_00000000000000000000000003', 2, 1, 'accepted', 'def', 'https://up.test/def', 1,
     1790000002600, NULL, NULL, NULL, 0, NULL, NULL, 'default', 'openai');
INSERT INTO pictures VALUES ('ord_00000000000000000000000001.0', 0, '$print', 7, 'png', 1024, 768);
INSERT INTO webhooks VALUES
    ('evt_00000000000000000000000001', 'ord_00000000000000000000000001', 'https://one.test/', 1790000000000, 3, 1790000000900, NULL, NULL),
    ('evt_00000000000000000000000002', 'ord_00000000000000000000000001', 'https://two.test/', 1790000000000, 1, NULL, 1, 'gone');
"#;

/// From version 7 to 8, as its gateway did it.
const CONTENTS: &str = "
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
DROP INDEX purchases_unfinished;
CREATE INDEX purchases_unfinished ON purchases (job_id) WHERE ended_ms IS NULL;
CREATE TABLE contents (             -- the bytes of small pictures, which have no file
    purchase_id TEXT NOT NULL,
    position    INTEGER NOT NULL,
    bytes       BLOB NOT NULL,
    PRIMARY KEY (purchase_id, position)
) STRICT;
";

/// From version 8 to 9, as its gateway did it.
const DELETED: &str = "
ALTER TABLE jobs ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_by_client ON jobs (client) WHERE deleted = 0;
CREATE TABLE prompts (              -- only with storage.keep_prompts, until the result is evicted
    job_id TEXT PRIMARY KEY,
    prompt TEXT NOT NULL,
    kept_running_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX prompts_by_time ON prompts (kept_running_ms);
";

/// From version 9 to 10, as its gateway did it.
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

/// Leaves a database of `version` in `path`.
fn create(path: &Path, version: usize) -> Connection {
    let rows = ROWS.replace("$print", &Digest::of(b"request").to_string());
    let steps = match version {
        1..=4 => BACK[..4 - version].concat(),
        5 => format!("BEGIN; {FORWARD} COMMIT;"),
        6 => format!("BEGIN; {FORWARD} {FORMATS} COMMIT;"),
        7 => format!("BEGIN; {FORWARD} {FORMATS} {RUNNING_TIME} COMMIT;"),
        8 => format!("BEGIN; {FORWARD} {FORMATS} {RUNNING_TIME} {CONTENTS} COMMIT;"),
        9 => format!("BEGIN; {FORWARD} {FORMATS} {RUNNING_TIME} {CONTENTS} {DELETED} COMMIT;"),
        _ => format!("BEGIN; {FORWARD} {FORMATS} {RUNNING_TIME} {CONTENTS} {DELETED} {CLIENTS} COMMIT;"),
    };
    let connection = Connection::open(path).unwrap();
    let script = format!("{VERSION_4} {rows} {steps} PRAGMA user_version = {version};");
    connection.execute_batch(&format!("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; {script}")).unwrap();
    connection
}

fn id(number: u8) -> JobId {
    format!("pred_{number:026}").parse().unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(NOW.millis() + millis)
}

#[tokio::test]
async fn every_row_of_version_four_is_read_back_under_new_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    drop(create(&path, 4));
    let journal = SqliteJournal::open(&path).unwrap();

    let first = journal.job(id(1)).await.unwrap().unwrap();
    let record = JobRecord { id: id(1), respond_async: true, inputs: 0, ..job_record(1) };
    let delivered = first.delivered.unwrap();
    assert_eq!((&first.record, delivered.at, first.evicted), (&record, at(700), false));
    let picture =
        StoredPicture { digest: Digest::of(b"request"), bytes: 7, format: Format::Png, width: 1024, height: 768 };
    // What was not delivered begins with age 0.
    let start = first.purchases[1].ended.unwrap();
    assert!(journal.running_time().since(start) < Duration::from_mins(1));
    let purchase = |slot, state| StoredPurchase {
        id: PurchaseId { job: id(1), slot },
        pictures: 1,
        state,
        api_kind: ApiKind::OpenAi,
        format: None,
        account: Some(AccountId("default".into())),
        lost_answers: u32::from(slot == 0),
        resolution: (slot == 1).then_some(Resolution::Bought),
        accepted: (slot == 0).then_some(start),
        ended: Some(if slot == 0 { first.purchases[0].ended.unwrap() } else { start }),
    };
    let resolved = StoredState::Resolved {
        upstream: UpstreamId::new("abc"),
        poll_url: None,
        pictures: vec![picture],
        usage: Some(Usage { input_tokens: 10, output_tokens: 20, input_image_tokens: None }),
        at: at(500),
    };
    let unknown = StoredState::Failed {
        upstream: None,
        failure: Failure::OutcomeUnknown { message: "the word_list of ord_ is cut".to_owned() },
        at: at(600),
    };
    assert_eq!(first.purchases, [purchase(0, resolved), purchase(1, unknown)]);

    let second = journal.job(id(2)).await.unwrap().unwrap();
    assert!(second.evicted && !second.record.respond_async && !second.record.shareable);
    let limit = Failure::LimitExceeded {
        limit: crate::model::Limit::UsdPerDay,
        retry_after: std::time::Duration::from_mins(1),
    };
    let failed = StoredState::Failed { upstream: None, failure: limit, at: at(1500) };
    assert_eq!(second.purchases[0].state, failed);

    let unfinished = journal.unfinished().await.unwrap();
    assert_eq!(unfinished.iter().map(|job| job.record.id).collect::<Vec<_>>(), [id(3)]);
    let accepted = StoredState::Accepted {
        upstream: UpstreamId::new("def").unwrap(),
        poll_url: Some("https://up.test/def".to_owned()),
        since: at(2600),
    };
    let states: Vec<_> = unfinished[0].purchases.iter().map(|purchase| purchase.state.clone()).collect();
    assert_eq!(states, [StoredState::Intent, StoredState::Committing { since: at(2500) }, accepted]);

    let pending = journal.pending_webhooks(None).await.unwrap();
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].job, pending[0].tries, pending[0].due), (id(1), 3, None));
    let key = IdempotencyKey::new("key-1").unwrap();
    let by_key = journal.by_idempotency_key(ClientId("alice".into()), key).await.unwrap().unwrap();
    assert_eq!(by_key, first);
    let print = Fingerprint::from(Digest::of(b"request"));
    assert_eq!(journal.by_fingerprint(print, 9).await.unwrap(), [first]);
    assert_eq!(stored_results(&journal, true).await, [id(1)]);
    assert_eq!(stored_results(&journal, false).await, []);
    assert_eq!(journal.stored_bytes().await.unwrap(), 7);
    assert_eq!(journal.quota_used_since(NOW).await.unwrap().len(), 3);

    // New records find the migrated rows.
    let purchase = PurchaseId { job: id(3), slot: 2 };
    journal
        .append(Record::Resolved {
            purchase,
            upstream: None,
            poll_url: None,
            pictures: vec![picture],
            contents: Vec::new(),
            usage: None,
            at: NOW,
        })
        .await
        .unwrap();
    journal.append(Record::Evicted { job: id(1) }).await.unwrap();
    let webhook = Webhook { id: EventId::new(NOW, 7), url: "https://one.test/".parse().unwrap() };
    journal.append(Record::Subscribed { job: id(1), webhook, at: NOW }).await.unwrap();
    assert_eq!(journal.pending_webhooks(Some(id(1))).await.unwrap().len(), 1, "the unique index is there");
    journal.close().await;
    assert_eq!(objects(&path), objects_of_a_new_database());
}

/// Returns the jobs with stored results, delivered or not.
async fn stored_results(journal: &SqliteJournal, delivered: bool) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for shareable in [false, true] {
        let page = ResultPage { delivered, shareable, stored_before: RunningTime::MAX, after: None, limit: 99 };
        jobs.extend(journal.stored_results(page).await.unwrap().into_iter().map(|result| result.job));
    }
    jobs
}

/// Paid pictures that were not received must not end early because of a wrong clock; delivered ones are cache.
#[tokio::test]
async fn of_stored_results_the_delivered_ones_keep_their_age() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let connection = create(&path, 5);
    let millis = |before: Duration| SystemClock.now().millis() - i64::try_from(before.as_millis()).unwrap();
    let (old, older, ahead) = (Duration::from_hours(24), Duration::from_hours(48), Duration::from_hours(1));
    connection
        .execute_batch(&format!(
            "UPDATE purchases SET ended_ms = {old} WHERE id LIKE '%1._';
             UPDATE jobs SET delivered_ms = {old} WHERE delivered_ms IS NOT NULL;
             INSERT INTO jobs (id, client, fingerprint, task, model, size, choices, n, shareable, created_ms, delivered_ms) VALUES
                 ('pred_00000000000000000000000004', 'c', 'f', 'image-edit', 'm', '1x1', '{{}}', 1, 1, 1, NULL),
                 ('pred_00000000000000000000000005', 'c', 'f', 'image-edit', 'm', '1x1', '{{}}', 1, 0, 1, {older}),
                 ('pred_00000000000000000000000006', 'c', 'f', 'image-edit', 'm', '1x1', '{{}}', 1, 1, 1, {later});
             INSERT INTO purchases (id, job_id, slot, pictures, state, ended_ms) VALUES
                 ('pred_00000000000000000000000004.0', 'pred_00000000000000000000000004', 0, 1, 'resolved', {older}),
                 ('pred_00000000000000000000000005.0', 'pred_00000000000000000000000005', 0, 1, 'resolved', {older}),
                 ('pred_00000000000000000000000006.0', 'pred_00000000000000000000000006', 0, 1, 'resolved', {later});
             INSERT INTO pictures SELECT id, 0, 'd', 10, 'png', 1, 1 FROM purchases WHERE id LIKE '%4.0' OR id LIKE '%5.0' OR id LIKE '%6.0';",
            old = millis(old),
            older = millis(older),
            later = SystemClock.now().plus(ahead).millis(),
        ))
        .unwrap();
    drop(connection);

    let journal = SqliteJournal::open(&path).unwrap();
    let sql =
        "SELECT id, stored_running_ms, ifnull(delivered_running_ms, -1) FROM jobs WHERE stored_bytes > 0 ORDER BY id";
    let ages = journal.thread.read(|connection| {
        let now = schema::running_time(connection).unwrap();
        let age = |at: Option<u64>| at.map(|at| now.since(RunningTime::from_millis(at)));
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map((), |row| {
            Ok((age(Some(row.get(1)?)), age(row.get::<_, Option<i64>>(2)?.and_then(|at| u64::try_from(at).ok()))))
        });
        rows?.collect::<rusqlite::Result<Vec<_>>>()
    });
    let ages = ages.await.unwrap();
    let about = |age: Option<Duration>, expected: Duration| age.unwrap().abs_diff(expected) < Duration::from_mins(1);
    assert!(about(ages[0].0, old) && about(ages[0].1, old), "{ages:?}");
    assert_eq!(ages[1], (Some(Duration::ZERO), None), "unclaimed");
    assert!(about(ages[2].0, older) && about(ages[2].1, older), "{ages:?}");
    assert_eq!(ages[3], (Some(Duration::ZERO), Some(Duration::ZERO)), "by a clock that was ahead");
    assert_eq!(journal.stored_bytes().await.unwrap(), 37);
    assert_eq!(journal.stored_digests(vec![Digest::of(b"request")]).await.unwrap().len(), 1);
}

/// The names of all tables and indexes, and the columns of the tables.
fn objects(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT type || ' ' || name || ' ' || tbl_name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'
               UNION SELECT m.name || '.' || c.name || ' ' || c.type || c.pk FROM sqlite_schema m, pragma_table_info(m.name) c
               WHERE m.type = 'table' ORDER BY 1";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// The conditions of the tables' constraints, in their order, with one space for each gap.
fn conditions(connection: &Connection) -> Vec<String> {
    let sql = "SELECT group_concat(sql, ' ') FROM (SELECT sql FROM sqlite_schema WHERE type = 'table' ORDER BY name)";
    let sql: String = connection.query_row(sql, (), |row| row.get(0)).unwrap();
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let text = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    let condition = |rest: &str| {
        let mut depth = 0;
        let end = rest.find(|one| {
            depth += i32::from(one == '(') - i32::from(one == ')');
            depth == 0 && one == ')'
        });
        rest[..end.unwrap()].to_owned()
    };
    text.split("CHECK ").skip(1).map(condition).collect()
}

fn conditions_of_a_new_database() -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let (connection, _) = schema::open(&directory.path().join("journal.sqlite")).unwrap();
    let conditions = conditions(&connection);
    assert_eq!(conditions.len(), 3, "{conditions:?}");
    conditions
}

fn objects_of_a_new_database() -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    drop(schema::open(&path).unwrap());
    objects(&path)
}

#[tokio::test]
async fn databases_of_all_older_versions_are_migrated() {
    let directory = tempfile::tempdir().unwrap();
    for version in 1..usize::try_from(SCHEMA_VERSION).unwrap() {
        let path = directory.path().join(format!("version-{version}.sqlite"));
        drop(create(&path, version));
        let journal = SqliteJournal::open(&path).unwrap();
        let purchase = journal.unfinished().await.unwrap().remove(0).purchases.remove(2);
        let api_kind = if version < 3 { ApiKind::Prediction } else { ApiKind::OpenAi };
        let account = (version > 1).then(|| AccountId("default".into()));
        assert_eq!((purchase.api_kind, purchase.account), (api_kind, account), "version {version}");
        assert_eq!(journal.pending_webhooks(None).await.unwrap().len(), usize::from(version > 3));
        journal.append(Record::Withdrawn { purchase: purchase.id }).await.unwrap();
        journal.close().await;
        assert_eq!(objects(&path), objects_of_a_new_database(), "version {version}");
        let connection = Connection::open(&path).unwrap();
        let sql = "SELECT count(*) FROM sqlite_schema WHERE sql LIKE '% IN (%'";
        assert_eq!(connection.query_row::<u8, _, _>(sql, (), |row| row.get(0)).unwrap(), 0, "version {version}");
        let given_back: u8 = connection.query_row("PRAGMA auto_vacuum", (), |row| row.get(0)).unwrap();
        assert_eq!(given_back, 2, "version {version}: free pages can be given back");
        assert_eq!(conditions(&connection), conditions_of_a_new_database(), "version {version}");
        for refused in ["state = 'bought'", "ended_ms = 1", "state = 'resolved'", "resolution = 'maybe'"] {
            let refused = connection.execute(&format!("UPDATE purchases SET {refused} WHERE state = 'intent'"), ());
            assert!(refused.is_err(), "version {version}");
        }
    }
}

/// Rows that no gateway wrote, and that the present tables forbid.
#[tokio::test]
async fn ends_without_a_time_get_one_and_times_without_an_end_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    create(&path, 6)
        .execute_batch(
            "UPDATE purchases SET ended_ms = 7 WHERE state = 'committing';
             UPDATE purchases SET ended_ms = NULL WHERE state = 'resolved';",
        )
        .unwrap();
    let journal = SqliteJournal::open(&path).unwrap();
    let unfinished = journal.unfinished().await.unwrap().remove(0);
    assert_eq!(unfinished.purchases[1].state, StoredState::Committing { since: at(2500) });
    let first = journal.job(id(1)).await.unwrap().unwrap();
    assert!(matches!(first.purchases[0].state, StoredState::Resolved { at, .. } if at.millis() == 2));
}

#[tokio::test]
async fn of_purchases_with_one_upstream_id_the_first_accepted_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let connection = create(&path, 5);
    // Of "abc" there are three: the resolved one of the fixture, accepted at 2; one that was resolved; one that is polled.
    connection
        .execute_batch(
            "INSERT INTO purchases (id, job_id, slot, pictures, state, upstream_id, poll_url, committed_ms, accepted_ms,
                                    ended_ms, api) VALUES
                 ('pred_00000000000000000000000001.2', 'pred_00000000000000000000000001', 2, 1, 'resolved', 'abc', NULL,
                  2, 3, 1790000000500, 'openai'),
                 ('pred_00000000000000000000000002.1', 'pred_00000000000000000000000002', 1, 1, 'accepted', 'abc',
                  'https://up.test/abc', 1, 1790000002700, NULL, 'openai');",
        )
        .unwrap();
    drop(connection);

    let journal = SqliteJournal::open(&path).unwrap();
    let of = |name| journal.purchase_of_upstream_id(UpstreamId::new(name).unwrap());
    assert_eq!(of("abc").await.unwrap(), Some(PurchaseId { job: id(1), slot: 0 }));
    assert_eq!(of("def").await.unwrap(), Some(PurchaseId { job: id(3), slot: 2 }), "unique before");
    let first = journal.job(id(1)).await.unwrap().unwrap();
    let upstream: Vec<_> = first.purchases.iter().map(|purchase| purchase.state.upstream().cloned()).collect();
    assert_eq!(upstream, [UpstreamId::new("abc"), None, None]);
    assert!(matches!(first.purchases[2].state, StoredState::Resolved { at: time, .. } if time == at(500)));

    // The one that was polled would have delivered the pictures of the first to another client.
    let second = journal.job(id(2)).await.unwrap().unwrap();
    let message = "the image service gave it the id of another purchase".to_owned();
    let failure = Failure::OutcomeUnknown { message };
    assert_eq!(second.purchases[1].state, StoredState::Failed { upstream: None, failure, at: at(2700) });
    let unfinished = journal.unfinished().await.unwrap();
    assert_eq!(unfinished.iter().map(|job| job.record.id).collect::<Vec<_>>(), [id(3)]);
    journal.close().await;

    assert_eq!(objects(&path), objects_of_a_new_database());
    let kept =
        "SELECT group_concat(id || ' ' || repeated_upstream_id) FROM purchases WHERE repeated_upstream_id IS NOT NULL";
    let kept: String = Connection::open(&path).unwrap().query_row(kept, (), |row| row.get(0)).unwrap();
    assert_eq!(kept, "pred_00000000000000000000000001.2 abc,pred_00000000000000000000000002.1 abc");
}
