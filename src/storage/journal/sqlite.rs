//! The journal in an embedded SQLite database: WAL, `synchronous=FULL`, one connection on one thread.
//!
//! Group commit: the thread drains its queue into one transaction, commits once, and answers everybody. Reads run on
//! the same thread, between commits, so they never see what is not durable. A failed commit is final: what reached the
//! disk is uncertain, so nothing more is written until a restart has read back what is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use futures_util::future::BoxFuture;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Savepoint, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{Journal, JournalError, OrderRecord, Record, Shelved, StoredOrder, StoredPrediction, StoredState};
use crate::model::{
    ClientId, Digest, Failure, Fingerprint, Format, OrderId, PredictionId, StoredPicture, Task, Timestamp, UpstreamId,
    Usage,
};

/// Version of the tables below, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 1;
/// Records in one transaction at most, so that the first of them does not wait for a flood.
const GROUP_MAX: usize = 512;

const SCHEMA: &str = "
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
    created_ms   INTEGER NOT NULL,
    delivered_ms INTEGER,
    forgotten    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX orders_by_fingerprint ON orders (fingerprint, created_ms);

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
    usage        TEXT               -- JSON object
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

type Answer<T> = oneshot::Sender<Result<T, JournalError>>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

enum Command {
    Write(Box<Record>, Answer<()>),
    Read(Read),
}

/// Handle to the journal's thread. Cheap to clone; the thread ends with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct SqliteJournal {
    commands: mpsc::Sender<Command>,
    failed: Arc<AtomicBool>,
}

impl SqliteJournal {
    /// Opens or makes the journal in `path`, and checks that it is sound.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the file cannot be opened, is damaged, or was written by a newer version.
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        let connection = connect(path)?;
        let (commands, queue) = mpsc::channel();
        let failed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&failed);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(connection, &queue, &flag))
            .map_err(|error| JournalError::Storage(error.to_string()))?;
        Ok(Self { commands, failed })
    }

    fn read<T, F>(&self, read: F) -> BoxFuture<'static, Result<T, JournalError>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            let result = read(connection).map_err(|error| JournalError::Unreadable(error.to_string()));
            let _ = answer.send(result);
        });
        let sent = self.commands.send(Command::Read(read));
        Box::pin(async move {
            sent.map_err(|_| JournalError::Failed)?;
            answered.await.unwrap_or(Err(JournalError::Failed))
        })
    }
}

impl Journal for SqliteJournal {
    fn append(&self, record: Record) -> BoxFuture<'static, Result<(), JournalError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(Command::Write(Box::new(record), answer));
        Box::pin(async move {
            sent.map_err(|_| JournalError::Failed)?;
            answered.await.unwrap_or(Err(JournalError::Failed))
        })
    }

    fn unsettled(&self) -> BoxFuture<'static, Result<Vec<StoredOrder>, JournalError>> {
        self.read(|connection| {
            let sql = "SELECT DISTINCT order_id FROM predictions
                       WHERE state IN ('intent', 'committing', 'accepted') ORDER BY order_id";
            orders(connection, sql, ())
        })
    }

    fn newest(
        &self,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredOrder>, JournalError>> {
        self.read(move |connection| {
            let sql = "SELECT id FROM orders WHERE fingerprint = ?1 ORDER BY created_ms DESC, id DESC LIMIT ?2";
            orders(connection, sql, params![fingerprint.to_string(), limit])
        })
    }

    fn order(&self, id: OrderId) -> BoxFuture<'static, Result<Option<StoredOrder>, JournalError>> {
        self.read(move |connection| order(connection, &id.to_string()))
    }

    fn with_pictures(&self) -> BoxFuture<'static, Result<Vec<Shelved>, JournalError>> {
        self.read(|connection| {
            let sql = "SELECT id FROM orders WHERE forgotten = 0
                       AND EXISTS (SELECT 1 FROM predictions JOIN pictures ON prediction_id = predictions.id
                                   WHERE order_id = orders.id)
                       AND NOT EXISTS (SELECT 1 FROM predictions
                                       WHERE order_id = orders.id AND state IN ('intent', 'committing', 'accepted'))
                       ORDER BY created_ms, id";
            Ok(orders(connection, sql, ())?.into_iter().filter_map(shelved).collect())
        })
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

fn shelved(order: StoredOrder) -> Option<Shelved> {
    let mut pictures = Vec::new();
    let mut resolved = None;
    for prediction in order.predictions {
        if let StoredState::Resolved { pictures: more, at, .. } = prediction.state {
            pictures.extend(more);
            resolved = resolved.max(Some(at));
        }
    }
    Some(Shelved {
        order: order.record.id,
        pictures,
        resolved: resolved?,
        delivered: order.delivered,
        shareable: order.record.shareable,
    })
}

fn connect(path: &Path) -> Result<Connection, JournalError> {
    let storage = |error: rusqlite::Error| JournalError::Storage(error.to_string());
    let connection = Connection::open(path).map_err(storage)?;
    // FULL: a commit has reached the disk when it returns, also in WAL mode.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;",
        )
        .map_err(storage)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(storage)?;
    if verdict != "ok" {
        return Err(JournalError::Unreadable(format!("{}: {verdict}", path.display())));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0)).map_err(storage)?;
    match version {
        0 => connection
            .execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"))
            .map_err(storage)?,
        SCHEMA_VERSION => {}
        newer => {
            return Err(JournalError::Unreadable(format!(
                "{} has version {newer}, this gateway knows {SCHEMA_VERSION}",
                path.display()
            )));
        }
    }
    Ok(connection)
}

/// The journal's thread.
fn run(mut connection: Connection, queue: &mpsc::Receiver<Command>, failed: &AtomicBool) {
    while let Ok(first) = queue.recv() {
        let mut writes = Vec::new();
        let mut reads = Vec::new();
        let mut take = |command| match command {
            Command::Write(record, answer) => writes.push((record, answer)),
            Command::Read(read) => reads.push(read),
        };
        take(first);
        for command in queue.try_iter().take(GROUP_MAX) {
            take(command);
        }
        if !writes.is_empty() {
            commit(&mut connection, writes, failed);
        }
        // After the commit: whoever wrote before asking sees what was written, and it is durable.
        for read in reads {
            read(&connection);
        }
    }
}

fn commit(connection: &mut Connection, writes: Vec<(Box<Record>, Answer<()>)>, failed: &AtomicBool) {
    if failed.load(Ordering::Relaxed) {
        for (_, answer) in writes {
            let _ = answer.send(Err(JournalError::Failed));
        }
        return;
    }
    let (answers, results) = match group(connection, writes) {
        Ok(done) => done,
        Err((answers, error)) => {
            failed.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the journal failed; nothing is bought until a restart");
            let count = answers.len();
            (answers, vec![Err(JournalError::Storage(error.to_string())); count])
        }
    };
    for (answer, result) in answers.into_iter().zip(results) {
        let _ = answer.send(result);
    }
}

type Answers = Vec<Answer<()>>;
/// Each record's own result, in their order.
type Results = Vec<Result<(), JournalError>>;

/// Writes all records in one transaction. A record that breaks a rule of the tables fails alone.
fn group(
    connection: &mut Connection,
    writes: Vec<(Box<Record>, Answer<()>)>,
) -> Result<(Answers, Results), (Answers, rusqlite::Error)> {
    let (records, answers): (Vec<_>, Answers) = writes.into_iter().unzip();
    let mut attempt = || {
        let mut transaction = connection.transaction()?;
        let mut results = Vec::with_capacity(records.len());
        for record in &records {
            let mut savepoint = transaction.savepoint()?;
            let result = match write(&mut savepoint, record) {
                Ok(()) => {
                    savepoint.commit()?;
                    Ok(())
                }
                Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
                    Err(JournalError::Storage(error.to_string()))
                }
                Err(error) => return Err(error),
            };
            results.push(result);
        }
        transaction.commit()?;
        Ok(results)
    };
    match attempt() {
        Ok(results) => Ok((answers, results)),
        Err(error) => Err((answers, error)),
    }
}

fn write(to: &mut Savepoint<'_>, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::Intent { order, predictions } => {
            to.prepare_cached(
                "INSERT INTO orders (id, client, fingerprint, task, model, size, choices, n, shareable, created_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute(params![
                order.id.to_string(),
                &*order.client.0,
                order.fingerprint.to_string(),
                order.task.name(),
                order.model,
                order.size.to_string(),
                json(&order.choices),
                order.n,
                order.shareable,
                order.created.millis(),
            ])?;
            for (prediction, pictures) in predictions {
                to.prepare_cached(
                    "INSERT INTO predictions (id, order_id, slot, pictures, state) VALUES (?1, ?2, ?3, ?4, 'intent')",
                )?
                .execute(params![
                    prediction.to_string(),
                    order.id.to_string(),
                    prediction.slot,
                    pictures
                ])?;
            }
            Ok(())
        }
        Record::Committing { prediction, at } => change(
            to,
            "UPDATE predictions SET state = 'committing', committed_ms = ?2 WHERE id = ?1",
            params![prediction.to_string(), at.millis()],
        ),
        Record::Withdrawn { prediction } => change(
            to,
            "UPDATE predictions SET state = 'intent', committed_ms = NULL WHERE id = ?1",
            params![prediction.to_string()],
        ),
        Record::Accepted { prediction, upstream, poll_url, at } => change(
            to,
            "UPDATE predictions SET state = 'accepted', upstream_id = ?2, poll_url = ?3, accepted_ms = ?4 WHERE id = ?1",
            params![prediction.to_string(), upstream.as_str(), poll_url, at.millis()],
        ),
        Record::Resolved { prediction, pictures, usage, at } => {
            let id = prediction.to_string();
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
        Record::Failed { prediction, failure, at } => {
            let state = if matches!(failure, Failure::OutcomeUnknown { .. }) { "unknown" } else { "failed" };
            change(
                to,
                "UPDATE predictions SET state = ?2, failure = ?3, ended_ms = ?4 WHERE id = ?1",
                params![prediction.to_string(), state, json(failure), at.millis()],
            )
        }
        Record::Delivered { order, at } => change(
            to,
            "UPDATE orders SET delivered_ms = ifnull(delivered_ms, ?2) WHERE id = ?1",
            params![order.to_string(), at.millis()],
        ),
        Record::Forgotten { order } => {
            change(to, "UPDATE orders SET forgotten = 1 WHERE id = ?1", params![order.to_string()])
        }
    }
}

/// An update that must hit exactly one row: a record for something the journal does not know is a bug.
fn change(to: &Savepoint<'_>, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
    match to.prepare_cached(sql)?.execute(values)? {
        1 => Ok(()),
        _ => Err(rusqlite::Error::QueryReturnedNoRows),
    }
}

fn orders(connection: &Connection, ids: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<StoredOrder>> {
    let mut statement = connection.prepare_cached(ids)?;
    let ids: Vec<String> = statement.query_map(values, |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    ids.iter().filter_map(|id| order(connection, id).transpose()).collect()
}

fn order(connection: &Connection, id: &str) -> rusqlite::Result<Option<StoredOrder>> {
    let header = connection
        .prepare_cached(
            "SELECT id, client, fingerprint, task, model, size, choices, n, shareable, created_ms, delivered_ms, forgotten
             FROM orders WHERE id = ?1",
        )?
        .query_row([id], |row| {
            let record = OrderRecord {
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
            };
            Ok((record, row.get::<_, Option<i64>>(10)?.map(Timestamp::from_millis), row.get(11)?))
        })
        .optional()?;
    let Some((record, delivered, forgotten)) = header else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(
        "SELECT id, pictures, state, upstream_id, poll_url, committed_ms, accepted_ms, ended_ms, failure, usage
         FROM predictions WHERE order_id = ?1 ORDER BY slot",
    )?;
    let predictions =
        statement.query_map([id], |row| prediction(connection, row))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Some(StoredOrder { record, predictions, delivered, forgotten }))
}

fn prediction(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<StoredPrediction> {
    let id: PredictionId = parsed(row, 0, |text| text.parse().ok())?;
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
    Ok(StoredPrediction { id, pictures: row.get(1)?, state })
}

fn pictures(connection: &Connection, prediction: PredictionId) -> rusqlite::Result<Vec<StoredPicture>> {
    connection
        .prepare_cached(
            "SELECT digest, bytes, format, width, height FROM pictures WHERE prediction_id = ?1 ORDER BY position",
        )?
        .query_map([prediction.to_string()], |row| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Size;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn order_record(number: u128) -> OrderRecord {
        OrderRecord {
            id: OrderId::new(NOW, number),
            client: ClientId("alice".into()),
            fingerprint: Fingerprint::from(Digest::of(b"wish")),
            task: Task::Edit,
            model: "gpt-image-2".to_owned(),
            size: Size { width: 1024, height: 1024 },
            choices: BTreeMap::from([("quality".to_owned(), "low".to_owned())]),
            n: 2,
            shareable: true,
            created: NOW,
        }
    }

    fn picture() -> StoredPicture {
        StoredPicture { digest: Digest::of(b"picture"), bytes: 7, format: Format::Png, width: 1024, height: 1024 }
    }

    #[tokio::test]
    async fn records_add_up_and_survive_a_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        let order = order_record(1);
        let [one, two] = [0, 1].map(|slot| PredictionId { order: order.id, slot });
        let upstream = UpstreamId::new("abc").unwrap();
        let failure = Failure::OutcomeUnknown { message: "cut".to_owned() };
        {
            let journal = SqliteJournal::open(&path).unwrap();
            let intent = Record::Intent { order: order.clone(), predictions: vec![(one, 1), (two, 1)] };
            journal.append(intent.clone()).await.unwrap();
            assert!(journal.append(intent).await.is_err(), "the same order twice");
            assert!(!journal.failed(), "a broken rule is not a broken disk");
            journal.append(Record::Committing { prediction: one, at: NOW }).await.unwrap();
            journal
                .append(Record::Accepted { prediction: one, upstream: upstream.clone(), poll_url: None, at: NOW })
                .await
                .unwrap();
            journal.append(Record::Committing { prediction: two, at: NOW }).await.unwrap();
        }
        let journal = SqliteJournal::open(&path).unwrap();
        let unsettled = journal.unsettled().await.unwrap();
        assert_eq!(unsettled.len(), 1);
        assert_eq!(unsettled[0].record, order);
        assert_eq!(
            unsettled[0].predictions[0].state,
            StoredState::Accepted { upstream: upstream.clone(), poll_url: None, since: NOW }
        );
        assert_eq!(unsettled[0].predictions[1].state, StoredState::Committing { since: NOW });

        let usage = Some(Usage { input_tokens: 1, output_tokens: 2, input_image_tokens: None });
        let resolved = Record::Resolved { prediction: one, pictures: vec![picture()], usage, at: NOW };
        journal.append(resolved).await.unwrap();
        journal.append(Record::Failed { prediction: two, failure: failure.clone(), at: NOW }).await.unwrap();
        assert!(journal.unsettled().await.unwrap().is_empty());
        let found = journal.newest(order.fingerprint, 5).await.unwrap().remove(0);
        assert_eq!(
            found.predictions[0].state,
            StoredState::Resolved { upstream: Some(upstream), pictures: vec![picture()], usage, at: NOW }
        );
        assert_eq!(found.predictions[1].state, StoredState::Failed { upstream: None, failure, at: NOW });
        assert_eq!(journal.with_pictures().await.unwrap().len(), 1);
        journal.append(Record::Delivered { order: order.id, at: NOW }).await.unwrap();
        journal.append(Record::Forgotten { order: order.id }).await.unwrap();
        assert!(journal.with_pictures().await.unwrap().is_empty());
        assert_eq!(journal.order(order.id).await.unwrap().unwrap().delivered, Some(NOW));
    }

    #[tokio::test]
    async fn a_record_for_nothing_fails() {
        let directory = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap();
        let nobody = PredictionId { order: order_record(9).id, slot: 0 };
        assert!(journal.append(Record::Withdrawn { prediction: nobody }).await.is_err());
    }

    #[test]
    fn a_damaged_or_newer_journal_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        std::fs::write(&path, b"this is not a database, not at all, whatever its name says").unwrap();
        assert!(SqliteJournal::open(&path).is_err());

        let newer = directory.path().join("newer.sqlite");
        Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(SqliteJournal::open(&newer).unwrap_err().to_string().contains("99"));
    }
}
