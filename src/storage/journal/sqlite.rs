//! The journal in an embedded SQLite database: WAL, `synchronous=FULL`, one connection on one thread.
//!
//! Group commit: the thread drains its queue into one transaction, commits once, and answers everybody. Reads run on
//! the same thread, between commits, so they never see what is not durable. A failed commit is final: what reached the
//! disk is uncertain, so nothing more is written until a restart has read back what is there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use futures_util::future::BoxFuture;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::{Journal, JournalError, PendingWebhook, Record, StoredJob, StoredResult, UsedQuota};
use crate::model::{ClientId, Fingerprint, IdempotencyKey, JobId, Timestamp};

mod ledger;
mod rows;

pub(crate) use ledger::{JobFilter, Ledger, LedgerError, PurchaseTimes};
use rows::{SCHEMA, STEPS, WEBHOOKS, job, jobs, spent_since, untold, write};

/// Version of the tables below, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 4;
/// Records in one transaction at most, so that the first of them does not wait for a flood.
const GROUP_MAX: usize = 512;
/// Statements that stay prepared.
const STATEMENTS_MAX: usize = 64;

type Answer<T> = oneshot::Sender<Result<T, JournalError>>;
type Read = Box<dyn FnOnce(&Connection) + Send>;

enum Command {
    Write(Box<Record>, Answer<()>),
    Read(Read),
    Close(oneshot::Sender<()>),
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

    /// Writes what was appended before, folds the write-ahead log into the database and closes it. What is appended
    /// from then on fails.
    pub(crate) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        // A thread that is gone has closed it.
        if self.commands.send(Command::Close(answer)).is_ok() {
            let _ = answered.await;
        }
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

    fn unsettled(&self) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>> {
        self.read(|connection| {
            let sql = "SELECT DISTINCT order_id FROM predictions
                       WHERE state IN ('intent', 'committing', 'accepted') ORDER BY order_id";
            jobs(connection, sql, ())
        })
    }

    fn newest(
        &self,
        fingerprint: Fingerprint,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<StoredJob>, JournalError>> {
        self.read(move |connection| {
            let sql = "SELECT id FROM orders WHERE fingerprint = ?1 AND EXISTS (
                           SELECT 1 FROM predictions WHERE order_id = orders.id
                           AND ((state = 'resolved' AND NOT forgotten) OR state = 'unknown'))
                       ORDER BY created_ms DESC, id DESC LIMIT ?2";
            jobs(connection, sql, params![fingerprint.to_string(), limit])
        })
    }

    fn by_key(
        &self,
        client: ClientId,
        key: IdempotencyKey,
    ) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>> {
        self.read(move |connection| {
            let sql = "SELECT id FROM orders WHERE client = ?1 AND idempotency_key = ?2
                       ORDER BY created_ms DESC, id DESC LIMIT 1";
            Ok(jobs(connection, sql, params![&*client.0, key.as_str()])?.pop())
        })
    }

    fn job(&self, id: JobId) -> BoxFuture<'static, Result<Option<StoredJob>, JournalError>> {
        self.read(move |connection| job(connection, &id.to_string()))
    }

    fn with_pictures(&self) -> BoxFuture<'static, Result<Vec<StoredResult>, JournalError>> {
        self.read(|connection| {
            let sql = "SELECT id FROM orders WHERE forgotten = 0
                       AND EXISTS (SELECT 1 FROM predictions JOIN pictures ON prediction_id = predictions.id
                                   WHERE order_id = orders.id)
                       AND NOT EXISTS (SELECT 1 FROM predictions
                                       WHERE order_id = orders.id AND state IN ('intent', 'committing', 'accepted'))
                       ORDER BY created_ms, id";
            Ok(jobs(connection, sql, ())?.into_iter().filter_map(StoredJob::shelved).collect())
        })
    }

    fn spent_since(&self, since: Timestamp) -> BoxFuture<'static, Result<Vec<UsedQuota>, JournalError>> {
        self.read(move |connection| spent_since(connection, since))
    }

    fn untold(&self, job: Option<JobId>) -> BoxFuture<'static, Result<Vec<PendingWebhook>, JournalError>> {
        self.read(move |connection| untold(connection, job))
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

fn connect(path: &Path) -> Result<Connection, JournalError> {
    let storage = |error: rusqlite::Error| JournalError::Storage(error.to_string());
    let connection = Connection::open(path).map_err(storage)?;
    // Every statement of `rows.rs` stays prepared; the library's own limit is fewer than there are.
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // And is not prepared anew for every value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(storage)?;
    // FULL: a commit has reached the disk when it returns, also in WAL mode.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 30000;",
        )
        .map_err(storage)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(storage)?;
    if verdict != "ok" {
        return Err(JournalError::Unreadable(format!("{}: {verdict}", path.display())));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", (), |row| row.get(0)).map_err(storage)?;
    let change = |tables: &[&str]| {
        let (tables, version) = (tables.concat(), format!("PRAGMA user_version = {SCHEMA_VERSION}"));
        connection.execute_batch(&format!("BEGIN; {tables} {version}; COMMIT;")).map_err(storage)
    };
    match (version, usize::try_from(version - 1)) {
        (0, _) => change(&[SCHEMA, WEBHOOKS])?,
        (SCHEMA_VERSION, _) => {}
        (1..SCHEMA_VERSION, Ok(taken)) => change(&STEPS[taken..].concat())?,
        (unknown, _) => {
            return Err(JournalError::Unreadable(format!(
                "{} has version {unknown}, this gateway knows {SCHEMA_VERSION}",
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
        let mut closing = None;
        let mut take = |command| match command {
            Command::Write(record, answer) => writes.push((record, answer)),
            Command::Read(read) => reads.push(read),
            Command::Close(answer) => closing = Some(answer),
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
        if let Some(answer) = closing {
            drop(connection);
            let _ = answer.send(());
            return;
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
        Err((answers, error)) if is_locked(&error) => {
            // Somebody else writes, such as a backup; nothing of this group has been.
            tracing::error!(%error, "the journal is locked by another program");
            let count = answers.len();
            (answers, vec![Err(JournalError::Storage(error.to_string())); count])
        }
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

fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
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
    let written = match all(connection, &records) {
        // Some record does, which is a bug. What was written of this transaction is gone; once more, each for itself.
        Err(error) if breaks_a_rule(&error) => each(connection, &records),
        result => result,
    };
    match written {
        Ok(results) => Ok((answers, results)),
        Err(error) => Err((answers, error)),
    }
}

fn all(connection: &mut Connection, records: &[Box<Record>]) -> rusqlite::Result<Results> {
    let transaction = begin(connection)?;
    for record in records {
        write(&transaction, record)?;
    }
    transaction.commit()?;
    Ok(records.iter().map(|_| Ok(())).collect())
}

fn each(connection: &mut Connection, records: &[Box<Record>]) -> rusqlite::Result<Results> {
    let mut transaction = begin(connection)?;
    let mut results = Vec::with_capacity(records.len());
    for record in records {
        let savepoint = transaction.savepoint()?;
        let result = match write(&savepoint, record) {
            Ok(()) => {
                savepoint.commit()?;
                Ok(())
            }
            Err(error) if breaks_a_rule(&error) => Err(JournalError::Storage(error.to_string())),
            Err(error) => return Err(error),
        };
        results.push(result);
    }
    transaction.commit()?;
    Ok(results)
}

/// Immediate: a lock of somebody else is met here, before anything is written, and not at the commit.
fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn breaks_a_rule(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::memory::{Disk, Durability, MemoryJournal};
    use super::super::{JobEnd, JobRecord, Resolution, StoredState, WebhookEnd};
    use super::*;
    use crate::model::{
        AccountId, ApiKind, Digest, EventId, Failure, Format, PurchaseId, Size, StoredPicture, Task, Timestamp,
        UpstreamId, Usage, Webhook,
    };

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn job_record(number: u128) -> JobRecord {
        JobRecord {
            id: JobId::new(NOW, number),
            client: ClientId("alice".into()),
            fingerprint: Fingerprint::from(Digest::of(b"wish")),
            task: Task::Edit,
            model: "gpt-image-2".to_owned(),
            size: Size { width: 1024, height: 1024 },
            choices: BTreeMap::from([("quality".to_owned(), "low".to_owned())]),
            n: 2,
            shareable: true,
            idempotency_key: IdempotencyKey::new("key-1"),
            kept: false,
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
        let job = job_record(1);
        let [one, two] = [0, 1].map(|slot| PurchaseId { job: job.id, slot });
        let upstream = UpstreamId::new("abc").unwrap();
        let failure = Failure::OutcomeUnknown { message: "cut".to_owned() };
        {
            let journal = SqliteJournal::open(&path).unwrap();
            let intent =
                Record::Intent { job: job.clone(), api_kind: ApiKind::Unified, purchases: vec![(one, 1), (two, 1)] };
            journal.append(intent.clone()).await.unwrap();
            assert!(journal.append(intent).await.is_err(), "the same order twice");
            assert!(!journal.failed(), "a broken rule is not a broken disk");
            journal
                .append(Record::Committing { purchase: one, account: AccountId("default".into()), at: NOW })
                .await
                .unwrap();
            journal
                .append(Record::Accepted { purchase: one, upstream: upstream.clone(), poll_url: None, at: NOW })
                .await
                .unwrap();
            journal
                .append(Record::Committing { purchase: two, account: AccountId("default".into()), at: NOW })
                .await
                .unwrap();
        }
        let journal = SqliteJournal::open(&path).unwrap();
        let unsettled = journal.unsettled().await.unwrap();
        assert_eq!(unsettled.len(), 1);
        assert_eq!(unsettled[0].record, job);
        assert_eq!(
            unsettled[0].purchases[0].state,
            StoredState::Accepted { upstream: upstream.clone(), poll_url: None, since: NOW }
        );
        assert_eq!(unsettled[0].purchases[1].state, StoredState::Committing { since: NOW });
        assert_eq!(unsettled[0].purchases[0].api_kind, ApiKind::Unified);

        let usage = Some(Usage { input_tokens: 1, output_tokens: 2, input_image_tokens: None });
        let resolved = Record::Resolved { purchase: one, pictures: vec![picture()], usage, at: NOW };
        journal.append(resolved).await.unwrap();
        journal.append(Record::Failed { purchase: two, failure: failure.clone(), at: NOW }).await.unwrap();
        assert!(journal.unsettled().await.unwrap().is_empty());
        let found = journal.newest(job.fingerprint, 5).await.unwrap().remove(0);
        assert_eq!(
            found.purchases[0].state,
            StoredState::Resolved { upstream: Some(upstream), pictures: vec![picture()], usage, at: NOW }
        );
        assert_eq!(found.purchases[1].state, StoredState::Failed { upstream: None, failure, at: NOW });
        assert_eq!(journal.with_pictures().await.unwrap().len(), 1);
        journal.append(Record::Delivered { job: job.id, at: NOW }).await.unwrap();
        journal.append(Record::Forgotten { job: job.id }).await.unwrap();
        assert!(journal.with_pictures().await.unwrap().is_empty());
        assert_eq!(journal.job(job.id).await.unwrap().unwrap().delivered, Some(NOW));
        let key = |text| IdempotencyKey::new(text).unwrap();
        let by_key = journal.by_key(job.client.clone(), key("key-1")).await.unwrap();
        assert_eq!(by_key.map(|stored| stored.record.id), Some(job.id));
        assert_eq!(journal.by_key(ClientId("bob".into()), key("key-1")).await.unwrap(), None, "another client's key");
    }

    /// How a prediction of a test goes on.
    type Ending = Box<dyn Fn(PurchaseId) -> Option<Record>>;

    /// Jobs in every state there is, the first of them made before `NOW`.
    async fn every_state(journal: &dyn Journal) -> Vec<PurchaseId> {
        let upstream = || UpstreamId::new("abc").unwrap();
        let usage = Some(Usage { input_tokens: 10, output_tokens: 20, input_image_tokens: None });
        let message = || "no".to_owned();
        let failed = |failure: Failure| -> Ending {
            Box::new(move |purchase| Some(Record::Failed { purchase, failure: failure.clone(), at: NOW }))
        };
        let endings: Vec<Ending> = vec![
            failed(Failure::TaskFailed { message: message() }), // 0: too early
            Box::new(|_| None),                                 // 1: an intent
            Box::new(|purchase| Some(Record::Committing { purchase, account: AccountId("default".into()), at: NOW })), // 2
            Box::new(move |purchase| {
                Some(Record::Accepted { purchase, upstream: upstream(), poll_url: None, at: NOW }) // 3
            }),
            // 4: one picture of the two that were wanted
            Box::new(move |purchase| Some(Record::Resolved { purchase, pictures: vec![picture()], usage, at: NOW })),
            failed(Failure::TaskFailed { message: message() }), // 5
            failed(Failure::OutcomeUnknown { message: message() }), // 6
            failed(Failure::OutcomeUnknown { message: message() }), // 7
            failed(Failure::Abandoned),                         // 8
            failed(Failure::Moderated { message: message(), bought: false }), // 9
        ];
        let mut purchases = Vec::new();
        for (number, ending) in (0_u8..).zip(endings) {
            let mut job = job_record(u128::from(number));
            job.model = format!("model-{number}");
            job.idempotency_key = None;
            job.created = Timestamp::from_millis(NOW.millis() - i64::from(number == 0));
            let purchase = PurchaseId { job: job.id, slot: 0 };
            journal
                .append(Record::Intent { job, api_kind: ApiKind::Prediction, purchases: vec![(purchase, 2)] })
                .await
                .unwrap();
            if let Some(record) = ending(purchase) {
                journal.append(record).await.unwrap();
            }
            purchases.push(purchase);
        }
        // Swept pictures were paid for all the same.
        journal.append(Record::Forgotten { job: purchases[4].job }).await.unwrap();
        purchases
    }

    /// Models and pictures of what was spent since `NOW`.
    async fn spent(journal: &dyn Journal) -> Vec<(String, usize)> {
        let mut spent = journal.spent_since(NOW).await.unwrap();
        spent.sort_by(|one, two| one.model.cmp(&two.model));
        for one in &spent {
            assert_eq!(one.client, ClientId("alice".into()));
            assert_eq!(one.ordered, NOW);
            assert_eq!(one.usage.map(|usage| usage.output_tokens), (one.model == "model-4").then_some(20));
        }
        spent.into_iter().map(|spent| (spent.model, spent.pictures)).collect()
    }

    #[tokio::test]
    async fn what_was_or_may_have_been_bought_is_spent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        let journal = SqliteJournal::open(&path).unwrap();
        let purchases = every_state(&journal).await;
        let named = |numbers: &[usize]| -> Vec<(String, usize)> {
            numbers.iter().map(|&number| (format!("model-{number}"), if number == 4 { 1 } else { 2 })).collect()
        };
        assert_eq!(spent(&journal).await, named(&[2, 4, 5, 6, 7]));
        let memory = MemoryJournal::on(&Disk::default(), std::time::Duration::ZERO, Durability::Kept);
        every_state(&memory).await;
        assert_eq!(spent(&memory).await, named(&[2, 4, 5, 6, 7]), "the journal of the simulation says the same");

        let ledger = Ledger::open(&path).unwrap();
        ledger.resolve(purchases[6], Resolution::Lost, NOW).unwrap();
        ledger.resolve(purchases[7], Resolution::Bought, NOW).unwrap();
        assert_eq!(spent(&journal).await, named(&[2, 4, 5, 7]), "what was never bought is given back");
    }

    /// `cargo test --release --lib a_large_month -- --ignored --nocapture` prints how long the read takes.
    #[tokio::test]
    #[ignore = "writes 400,000 orders"]
    async fn a_large_month_is_summed_in_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        let journal = SqliteJournal::open(&path).unwrap();
        let jobs = "WITH RECURSIVE count (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM count WHERE i < 400000)
             INSERT INTO orders SELECT printf('pred_%026d', i), 'alice', 'fingerprint of the order ' || i, 'image-edit',
                 'gpt-image-2', '1024x1024', '{}', 1, 1, NULL, i, NULL, 0, 0 FROM count";
        let purchases = "INSERT INTO predictions (id, order_id, slot, pictures, state, ended_ms, usage)
             SELECT id || '.0', id, 0, 1, 'resolved', created_ms, '{\"input_tokens\":1,\"output_tokens\":2}' FROM orders";
        let pictures = "INSERT INTO pictures SELECT id || '.0', 0, 'the digest of ' || id, 1, 'png', 1, 1 FROM orders";
        let mut connection = Connection::open(&path).unwrap();
        let transaction = connection.transaction().unwrap();
        for sql in [jobs, purchases, pictures] {
            transaction.execute(sql, ()).unwrap();
        }
        transaction.commit().unwrap();

        let began = std::time::Instant::now();
        let spent = journal.spent_since(Timestamp::from_millis(300_001)).await.unwrap();
        let took = began.elapsed();
        println!("{} of 400,000 predictions read in {} ms", spent.len(), took.as_millis());
        assert_eq!(spent.len(), 100_000);
        // Without optimisation SQLite itself is several times slower.
        let seconds = if cfg!(debug_assertions) { 5 } else { 1 };
        assert!(took.as_secs() < seconds, "{took:?}");
    }

    #[tokio::test]
    async fn a_closed_journal_is_one_file_and_takes_nothing_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        let journal = SqliteJournal::open(&path).unwrap();
        let job = job_record(1);
        let purchase = PurchaseId { job: job.id, slot: 0 };
        journal
            .append(Record::Intent { job, api_kind: ApiKind::Prediction, purchases: vec![(purchase, 1)] })
            .await
            .unwrap();
        let other_handle = journal.clone();
        journal.close().await;
        journal.close().await;
        assert!(!directory.path().join("journal.sqlite-wal").exists());
        assert!(
            other_handle
                .append(Record::Committing { purchase, account: AccountId("default".into()), at: NOW })
                .await
                .is_err()
        );
        let reopened = SqliteJournal::open(&path).unwrap();
        assert_eq!(reopened.unsettled().await.unwrap()[0].purchases[0].state, StoredState::Intent);
    }

    fn webhook(number: u128, url: &str) -> Webhook {
        Webhook { id: EventId::new(NOW, number), url: url.parse().unwrap() }
    }

    /// Two webhooks of one order, one of them asked for twice, and what is left of them step by step.
    async fn tell(journal: &dyn Journal) -> Vec<Vec<(u128, u32)>> {
        let job = job_record(1);
        let id = job.id;
        let purchase = PurchaseId { job: id, slot: 0 };
        let left = async || -> Vec<(u128, u32)> {
            let untold = journal.untold(None).await.unwrap();
            let one = |one: &PendingWebhook| {
                assert_eq!((one.job, one.end), (id, JobEnd { completed: true, at: NOW }));
                let number = (0..9).find(|&number| EventId::new(NOW, number) == one.webhook.id).unwrap();
                (number, one.tries)
            };
            untold.iter().map(one).collect()
        };
        journal
            .append(Record::Intent { job, api_kind: ApiKind::Prediction, purchases: vec![(purchase, 1)] })
            .await
            .unwrap();
        let subscribed = |webhook| Record::Subscribed { job: id, webhook, at: NOW };
        for (number, url) in [(1, "https://one.test/?a"), (2, "https://two.test/"), (3, "https://one.test/?a")] {
            journal.append(subscribed(webhook(number, url))).await.unwrap();
        }
        let mut seen = vec![left().await];
        let resolved = Record::Resolved { purchase, pictures: vec![picture()], usage: None, at: NOW };
        journal.append(resolved).await.unwrap();
        seen.push(left().await);
        journal.append(Record::WebhookTried { webhook: EventId::new(NOW, 1), tries: 3, due: NOW }).await.unwrap();
        seen.push(left().await);
        let end = WebhookEnd::Delivered;
        journal.append(Record::WebhookEnded { webhook: EventId::new(NOW, 1), end, at: NOW }).await.unwrap();
        seen.push(left().await);
        // What was told once may be asked for again.
        journal.append(subscribed(webhook(4, "https://one.test/?a"))).await.unwrap();
        seen.push(left().await);
        let other = JobId::new(NOW, 99);
        assert_eq!(journal.untold(Some(other)).await.unwrap(), []);
        assert_eq!(journal.untold(Some(id)).await.unwrap().len(), 2);
        seen
    }

    #[tokio::test]
    async fn whoever_wants_to_be_told_is_known_until_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        let expected = vec![vec![], vec![(1, 0), (2, 0)], vec![(1, 3), (2, 0)], vec![(2, 0)], vec![(2, 0), (4, 0)]];
        let journal = SqliteJournal::open(&path).unwrap();
        assert_eq!(tell(&journal).await, expected);
        let memory = MemoryJournal::on(&Disk::default(), std::time::Duration::ZERO, Durability::Kept);
        assert_eq!(tell(&memory).await, expected, "the journal of the simulation says the same");

        journal.close().await;
        let journal = SqliteJournal::open(&path).unwrap();
        let untold = journal.untold(None).await.unwrap();
        assert_eq!(untold[0].webhook, webhook(2, "https://two.test/"));
        let nobody = Record::Subscribed { job: JobId::new(NOW, 99), webhook: webhook(5, "https://x.test/"), at: NOW };
        assert!(journal.append(nobody).await.is_err(), "an order that the journal does not know");
        assert!(!journal.failed());
    }

    #[tokio::test]
    async fn a_journal_of_version_three_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.sqlite");
        let journal = SqliteJournal::open(&path).unwrap();
        let job = job_record(1);
        let purchase = PurchaseId { job: job.id, slot: 0 };
        journal
            .append(Record::Intent { job: job.clone(), api_kind: ApiKind::Prediction, purchases: vec![(purchase, 1)] })
            .await
            .unwrap();
        journal.close().await;
        let downgrade = "DROP TABLE webhooks; ALTER TABLE orders DROP COLUMN kept; PRAGMA user_version = 3;";
        Connection::open(&path).unwrap().execute_batch(downgrade).unwrap();

        let journal = SqliteJournal::open(&path).unwrap();
        assert_eq!(journal.job(job.id).await.unwrap().unwrap().record, job);
        let subscribed = Record::Subscribed { job: job.id, webhook: webhook(1, "https://one.test/"), at: NOW };
        journal.append(subscribed).await.unwrap();
    }

    #[tokio::test]
    async fn a_record_for_nothing_fails() {
        let directory = tempfile::tempdir().unwrap();
        let journal = SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap();
        let nobody = PurchaseId { job: job_record(9).id, slot: 0 };
        assert!(journal.append(Record::Withdrawn { purchase: nobody }).await.is_err());
    }

    #[tokio::test]
    async fn older_journals_are_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        for version in 1..SCHEMA_VERSION {
            let path = directory.path().join(format!("version-{version}.sqlite"));
            let job = job_record(1);
            let purchase = PurchaseId { job: job.id, slot: 0 };
            let journal = SqliteJournal::open(&path).unwrap();
            let intent = Record::Intent { job, api_kind: ApiKind::OpenAi, purchases: vec![(purchase, 1)] };
            journal.append(intent).await.unwrap();
            journal.close().await;
            // What a gateway of that version would have left.
            let undone = [
                "ALTER TABLE predictions DROP COLUMN account",
                "ALTER TABLE predictions DROP COLUMN route",
                "ALTER TABLE orders DROP COLUMN kept; DROP TABLE webhooks",
            ];
            let connection = Connection::open(&path).unwrap();
            for later in &undone[usize::try_from(version - 1).unwrap()..] {
                connection.execute_batch(later).unwrap();
            }
            connection.execute_batch(&format!("PRAGMA user_version = {version}")).unwrap();
            drop(connection);

            let journal = SqliteJournal::open(&path).unwrap();
            let stored = journal.unsettled().await.unwrap().remove(0).purchases.remove(0);
            let api_kind = if version < 3 { ApiKind::Prediction } else { ApiKind::OpenAi };
            assert_eq!((stored.api_kind, stored.account), (api_kind, None), "version {version}");
            assert!(journal.untold(None).await.unwrap().is_empty());
            journal.append(Record::Withdrawn { purchase }).await.unwrap();
        }
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
