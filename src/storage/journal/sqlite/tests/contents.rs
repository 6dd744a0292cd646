//! The bytes of pictures in the database: damaged pages of them, and the space that they take.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::storage::journal::content::PictureBytes;
use crate::storage::journal::traits::Standing;

/// Journals a job with a picture of these bytes, all the same.
async fn store(journal: &SqliteJournal, number: u128, byte: u8, len: usize) -> Digest {
    let (job, bytes) = (job_record(number), Bytes::from(vec![byte; len]));
    let (digest, purchase) = (Digest::of(&bytes), PurchaseId { job: job.id, slot: 0 });
    let picture = StoredPicture { digest, bytes: len as u64, format: Format::Png, width: 1, height: 1 };
    let contents = vec![PictureBytes::new(digest, bytes, None)];
    let (upstream, poll_url, pictures, usage) = (None, None, vec![picture], None);
    journal.append(intent(job, &[1])).await.unwrap();
    let resolved = Record::Resolved { purchase, upstream, poll_url, pictures, contents, usage, at: NOW };
    journal.append(resolved).await.unwrap();
    digest
}

/// Breaks the chain of the pages that have nothing but this byte.
fn break_chain(path: &Path, byte: u8) {
    let mut file = std::fs::read(path).unwrap();
    let mut pages = file.chunks_exact_mut(4096).filter(|page| page[4..].iter().all(|one| *one == byte));
    let page = pages.next().expect("a page of the picture");
    page[..4].fill(0xff);
    std::fs::write(path, file).unwrap();
}

#[tokio::test]
async fn damaged_pages_of_one_picture_harm_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let journal = SqliteJournal::open(&path).unwrap();
    let (broken, intact) = (store(&journal, 1, 7, 50_000).await, store(&journal, 2, 8, 50_000).await);
    journal.close().await;
    // Otherwise SQLite finds the pages of a chain by another way when it deletes them; a large database of an older version has none.
    Connection::open(&path).unwrap().execute_batch("PRAGMA auto_vacuum = NONE; VACUUM").unwrap();
    break_chain(&path, 7);

    // The start does not refuse it, nor do an eviction and a replacement of what is damaged stop buying.
    let journal = SqliteJournal::open(&path).unwrap();
    assert!(journal.picture_copies(broken).await.is_err(), "not cut");
    assert_eq!(journal.picture_copies(intact).await.unwrap().len(), 1);
    let pictures = vec![crate::storage::journal::contract::picture()];
    journal
        .append(Record::Restored { purchase: PurchaseId { job: job_record(1).id, slot: 0 }, pictures })
        .await
        .unwrap();
    journal.append(Record::Evicted { job: job_record(1).id }).await.unwrap();
    store(&journal, 3, 9, 50_000).await;
    journal.append(Record::Evicted { job: job_record(2).id }).await.unwrap();
    assert_eq!(journal.standing(), Standing::Fine);
    assert_eq!(journal.picture_copies(intact).await.unwrap(), Vec::<Bytes>::new());
    journal.close().await;
    SqliteJournal::open(&path).unwrap();
}

#[tokio::test]
async fn free_pages_are_given_back_and_some_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap();
    let pages = async |of: &'static str| {
        let read = move |connection: &Connection| connection.query_row(&format!("PRAGMA {of}"), (), |row| row.get(0));
        journal.thread.read(read).await.unwrap()
    };
    for number in 0..72 {
        store(&journal, number, 1, 250_000).await;
    }
    let full: u64 = pages("page_count").await;
    for number in 0..72 {
        journal.append(Record::Evicted { job: job_record(number).id }).await.unwrap();
    }
    assert!(pages("freelist_count").await > 4096);
    let began = Instant::now();
    while pages("freelist_count").await >= 4096 {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing is given back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let kept = pages("freelist_count").await;
    assert!(kept > 3000 && pages("page_count").await < full, "{kept}");
}
