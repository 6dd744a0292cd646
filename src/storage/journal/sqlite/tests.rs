//! What concerns SQLite alone: its file, its errors, its schema. The rest is in the contract of all journals.

use rusqlite::Connection;

use super::schema::SCHEMA_VERSION;
use super::*;
use crate::model::{
    AccountId, ApiKind, Digest, EventId, Failure, Format, PurchaseId, StoredPicture, UpstreamId, Usage, Webhook,
};
use crate::storage::journal::contract::records::{every_state, quota_used, used_by};
use crate::storage::journal::contract::{NOW, intent, job_record};
use crate::storage::journal::ledger::Ledger;
use crate::storage::journal::record::{JobRecord, Resolution};
use crate::storage::journal::stored::{StoredPurchase, StoredState};

mod migration;
mod standing;

#[tokio::test]
async fn a_purchase_that_the_operator_found_lost_uses_no_quota() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let journal = SqliteJournal::open(&path).unwrap();
    let purchases = every_state(&journal).await;
    let ledger = ledger::SqliteLedger::open(&path).unwrap();
    ledger.resolve(purchases[6], Resolution::Lost, NOW).unwrap();
    ledger.resolve(purchases[7], Resolution::Bought, NOW).unwrap();
    assert_eq!(quota_used(&journal).await, used_by(&[2, 4, 5, 7]));
}

/// `cargo test --release --lib the_quota_of_a_large_month -- --ignored --nocapture` prints how long the read takes.
#[tokio::test]
#[ignore = "writes 400,000 jobs"]
async fn the_quota_of_a_large_month_is_read_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let journal = SqliteJournal::open(&path).unwrap();
    let jobs = "WITH RECURSIVE count (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM count WHERE i < 400000)
         INSERT INTO jobs SELECT printf('pred_%026d', i), 'alice', 'fingerprint of the job ' || i, 'image-edit',
             'gpt-image-2', '1024x1024', '{}', 1, 1, NULL, i, NULL, 0, 0, 0, NULL, NULL, 0 FROM count";
    let purchases = "INSERT INTO purchases (id, job_id, slot, pictures, state, ended_ms, usage)
         SELECT id || '.0', id, 0, 1, 'resolved', created_ms, '{\"input_tokens\":1,\"output_tokens\":2}' FROM jobs";
    let pictures = "INSERT INTO pictures SELECT id || '.0', 0, 'the digest of ' || id, 1, 'png', 1, 1 FROM jobs";
    let mut connection = Connection::open(&path).unwrap();
    let transaction = connection.transaction().unwrap();
    for sql in [jobs, purchases, pictures] {
        transaction.execute(sql, ()).unwrap();
    }
    transaction.commit().unwrap();

    let began = std::time::Instant::now();
    let used = journal.quota_used_since(Timestamp::from_millis(300_001)).await.unwrap();
    let took = began.elapsed();
    println!("{} of 400,000 purchases read in {} ms", used.len(), took.as_millis());
    assert_eq!(used.len(), 100_000);
    // An unoptimised SQLite is several times slower.
    let seconds = if cfg!(debug_assertions) { 5 } else { 1 };
    assert!(took.as_secs() < seconds, "{took:?}");
}

#[tokio::test]
async fn a_closed_journal_is_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let journal = SqliteJournal::open(&path).unwrap();
    journal.append(intent(job_record(1), &[1])).await.unwrap();
    let log = directory.path().join("journal.sqlite-wal");
    assert!(log.exists());
    journal.close().await;
    assert!(!log.exists());
}

#[test]
fn a_damaged_or_newer_journal_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    std::fs::write(&path, b"this is not a database, and longer than the header of one").unwrap();
    assert!(SqliteJournal::open(&path).is_err());

    let newer = directory.path().join("newer.sqlite");
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(SqliteJournal::open(&newer).unwrap_err().to_string().contains("99"));
}
