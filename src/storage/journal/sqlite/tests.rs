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
