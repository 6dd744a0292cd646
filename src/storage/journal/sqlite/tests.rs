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

mod contents;
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

/// Otherwise a purchase could be paid for that a power cut removes from the journal.
#[tokio::test]
async fn commits_are_synced_again_after_one_that_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap();
    let level = async || {
        let read = |connection: &Connection| connection.query_row("PRAGMA synchronous", (), |row| row.get::<_, u8>(0));
        journal.thread.read(read).await.unwrap()
    };
    let full = 2;
    assert_eq!(level().await, full);
    journal.append(intent(job_record(1), &[1])).await.unwrap();
    for job in [job_record(1).id, job_record(9).id] {
        let delivered = journal.append_with(Record::Delivered { job, at: NOW }, Durability::WithNext).await;
        assert_eq!(delivered.is_ok(), job == job_record(1).id, "the second is of no job");
        assert_eq!(level().await, full);
    }
}

/// A condition with a temporary table costs more than the rest of a write.
#[test]
fn no_write_builds_a_temporary_table() {
    let directory = tempfile::tempdir().unwrap();
    let (connection, _) = schema::open(&directory.path().join("journal.sqlite")).unwrap();
    for write in [
        "INSERT INTO purchases (id, job_id, slot, pictures, state, api) VALUES (?1, ?2, ?3, ?4, 'intent', ?5)",
        "UPDATE purchases SET state = ?2, committed_ms = ?3 WHERE id = ?1",
        "UPDATE purchases SET state = ?2, ended_ms = ?3 WHERE id = ?1",
        "UPDATE purchases SET resolution = ?2 WHERE id = ?1",
        "INSERT INTO webhooks (id, job_id, url, created_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        "UPDATE webhooks SET ended = ?2, ended_ms = ?3 WHERE id = ?1",
        "UPDATE jobs SET delivered_ms = ifnull(delivered_ms, ?2) WHERE id = ?1",
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN {write}")).unwrap();
        let values = vec![rusqlite::types::Null; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(1)).unwrap();
        let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
        assert!(steps.len() > 10 && !steps.iter().any(|step| step == "OpenEphemeral"), "{write}: {steps:?}");
    }
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
