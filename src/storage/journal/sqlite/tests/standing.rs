//! A journal that cannot be written, for a while or for good.

use std::time::{Duration, Instant};

use super::*;
use crate::model::JobId;

fn open(directory: &tempfile::TempDir) -> SqliteJournal {
    SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap()
}

/// Sets how many pages the database may have, which SQLite treats as it does a full disk.
async fn limit_pages(journal: &SqliteJournal, pages: i64) {
    journal
        .thread
        .read(move |connection| connection.query_row(&format!("PRAGMA max_page_count = {pages}"), (), |_| Ok(())))
        .await
        .unwrap();
}

async fn until(journal: &SqliteJournal, standing: Standing) {
    let began = Instant::now();
    while journal.standing() != standing {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}, not {standing:?}", journal.standing());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_whole_group_and_the_journal_comes_back_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory);
    journal.append(intent(job_record(1), &[1])).await.unwrap();
    limit_pages(&journal, 1).await;
    // Enough for several pages, in one group or several: none of those that are refused may leave anything.
    let mut large = job_record(2);
    large.model = crate::model::ModelId::from("m".repeat(100_000));
    let numbers = [2, 3, 4];
    let appended =
        numbers.map(|number| journal.append(intent(JobRecord { id: job_record(number).id, ..large.clone() }, &[1])));
    for one in appended {
        let error = one.await.unwrap_err();
        assert!(matches!(error, JournalError::Away), "{error}");
    }
    assert_eq!(journal.standing(), Standing::Away);
    assert!(journal.append(intent(job_record(5), &[1])).await.is_err(), "nothing is tried before the next second");

    limit_pages(&journal, 1_000_000).await;
    until(&journal, Standing::Fine).await;
    journal.append(intent(job_record(6), &[1])).await.unwrap();
    journal.close().await;
    let jobs: Vec<JobId> = open(&directory).unfinished().await.unwrap().iter().map(|job| job.record.id).collect();
    assert_eq!(jobs, [job_record(1).id, job_record(6).id]);
}

#[tokio::test]
async fn a_lock_of_another_program_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory);
    let mut other = Connection::open(directory.path().join("journal.sqlite")).unwrap();
    let transaction = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let appended = journal.append(intent(job_record(1), &[1]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(transaction);
    appended.await.unwrap();
    assert_eq!(journal.standing(), Standing::Fine);
}

#[tokio::test]
async fn a_second_gateway_is_refused_whatever_else_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let journal = open(&directory);
    let _ = std::fs::remove_file(directory.path().join("lock"));
    assert!(matches!(SqliteJournal::open(&path), Err(JournalError::InUse(_))));
    journal.close().await;
    open(&directory);
}

#[test]
fn a_gateway_of_an_older_version_keeps_its_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let lock = std::fs::File::create(directory.path().join("lock")).unwrap();
    lock.try_lock().unwrap();
    assert!(matches!(SqliteJournal::open(&path), Err(JournalError::InUse(_))));
    drop(lock);
    SqliteJournal::open(&path).unwrap();
    assert!(!directory.path().join("lock").exists());
}

/// Removes or replaces one of the journal's files while it is open, and returns what the journal says to that.
async fn after(change: impl FnOnce(&std::path::Path)) -> (Standing, bool) {
    let directory = tempfile::tempdir().unwrap();
    let journal = open(&directory);
    journal.append(intent(job_record(1), &[1])).await.unwrap();
    change(directory.path());
    until(&journal, Standing::Failed).await;
    let refused = journal.append(intent(job_record(2), &[1])).await.is_err();
    journal.close().await;
    (journal.standing(), refused)
}

#[tokio::test]
async fn a_journal_that_is_removed_or_replaced_has_failed() {
    let removed = |name: &'static str| move |directory: &Path| std::fs::remove_file(directory.join(name)).unwrap();
    let replaced = |directory: &Path| {
        let path = directory.join("journal.sqlite");
        std::fs::copy(&path, directory.join("copy")).unwrap();
        std::fs::rename(directory.join("copy"), &path).unwrap();
    };
    let (journal, log, other) =
        tokio::join!(after(removed("journal.sqlite")), after(removed("journal.sqlite-wal")), after(replaced));
    assert_eq!([journal, log, other], [(Standing::Failed, true); 3]);
}
