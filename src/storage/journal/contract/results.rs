//! Running time, and stored results by their age.

use bytes::Bytes;

use super::*;
use crate::storage::journal::content::PictureBytes;
use crate::storage::journal::stored::{ResultPage, StoredResult};

pub(super) async fn running_time_goes_on_after_a_restart_and_does_not_count_the_time_between(adapter: Adapter) {
    let job = job_record(1).id;
    adapter.journal.append(intent(job_record(1), &[1])).await.unwrap();
    let began = adapter.journal.running_time();
    adapter.pass(HOUR).await;
    let delivered = Record::Delivered { job, at: NOW };
    adapter.journal.append(delivered).await.unwrap();
    let before = adapter.journal.running_time();
    assert_eq!(before.since(began), HOUR);
    let adapter = adapter.reopened_after(HOUR * 24 * 365).await;
    assert_eq!(adapter.journal.running_time(), before);
    assert_eq!(stored(&*adapter.journal, job).await.delivered.map(|delivered| delivered.running), Some(before));
    adapter.pass(HOUR).await;
    assert_eq!(adapter.journal.running_time().since(before), HOUR);
}

pub(super) async fn steps_have_the_running_time_at_which_they_were_written(adapter: Adapter) {
    let journal = &*adapter.journal;
    let job = job_record(1);
    let id = job.id;
    let [one, two] = [0, 1].map(|slot| PurchaseId { job: id, slot });
    write(journal, [intent(job, &[1, 1]), committing(one), committing(two)]).await;
    let mut times = Vec::new();
    let records = [
        accepted(one, "abc"),
        resolved(one, &[picture()]),
        failed(two),
        Record::Delivered { job: id, at: NOW },
        Record::Delivered { job: id, at: NOW },
    ];
    for record in records {
        adapter.pass(HOUR).await;
        times.push(journal.running_time());
        journal.append(record).await.unwrap();
    }
    let stored = stored(journal, id).await;
    let of = |slot: usize| (stored.purchases[slot].accepted, stored.purchases[slot].ended);
    assert_eq!(of(0), (Some(times[0]), Some(times[1])));
    assert_eq!(of(1), (None, Some(times[2])));
    assert_eq!(stored.ended(), Some(times[2]), "the last end");
    assert_eq!(stored.delivered.map(|delivered| delivered.running), Some(times[3]), "the first delivery");
}

/// Writes a job with pictures of this content, of which each has 7 bytes.
async fn result(journal: &dyn Journal, number: u128, shareable: bool, delivered: bool, contents: &[&[u8]]) -> JobId {
    let job = JobRecord { shareable, idempotency_key: None, ..job_record(number) };
    let id = job.id;
    let pictures: Vec<_> =
        contents.iter().map(|content| StoredPicture { digest: Digest::of(content), ..picture() }).collect();
    write(journal, [intent(job, &[2]), resolved(PurchaseId { job: id, slot: 0 }, &pictures)]).await;
    if delivered {
        journal.append(Record::Delivered { job: id, at: NOW }).await.unwrap();
    }
    id
}

pub(super) async fn results_are_read_in_pages_by_kind_and_age(adapter: Adapter) {
    let journal = &*adapter.journal;
    let mut shared = Vec::new();
    // The first two at one time; ids in falling order, as after a clock that went back.
    for number in [9, 8, 7, 6] {
        shared.push(result(journal, number, true, false, &[b"picture"]).await);
        if number != 9 {
            adapter.pass(HOUR).await;
        }
    }
    let private = result(journal, 1, false, false, &[b"picture"]).await;
    let delivered = result(journal, 2, true, true, &[b"one", b"two"]).await;
    // One that is under way, and one that has brought nothing.
    write(journal, [intent(job_record(3), &[1, 1])]).await;
    write(journal, [resolved(PurchaseId { job: job_record(3).id, slot: 0 }, &[picture()])]).await;
    write(journal, [intent(job_record(4), &[1]), failed(PurchaseId { job: job_record(4).id, slot: 0 })]).await;

    let all = ResultPage { delivered: false, shareable: true, stored_before: RunningTime::MAX, after: None, limit: 9 };
    let read = async |page| journal.stored_results(page).await.unwrap();
    let ids = |page: &[StoredResult]| page.iter().map(|result| result.job).collect::<Vec<_>>();
    let sorted = vec![shared[1], shared[0], shared[2], shared[3]];
    assert_eq!(ids(&read(all).await), sorted, "by time, then by id");
    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let page = read(ResultPage { after, limit: 1, ..all }).await;
        let Some(last) = page.last() else { break };
        after = Some((last.stored, last.job));
        paged.extend(ids(&page));
    }
    assert_eq!(paged, sorted);
    let third = read(all).await[2].stored;
    assert_eq!(ids(&read(ResultPage { stored_before: third, ..all }).await), sorted[..2]);
    assert_eq!(ids(&read(ResultPage { shareable: false, ..all }).await), [private]);
    let of_delivered = read(ResultPage { delivered: true, ..all }).await;
    assert_eq!(ids(&of_delivered), [delivered]);
    assert_eq!((of_delivered[0].pictures.len(), of_delivered[0].bytes()), (2, 14));

    write(journal, [Record::Evicted { job: shared[0] }, Record::Delivered { job: shared[1], at: NOW }]).await;
    assert_eq!(ids(&read(all).await), sorted[2..]);
    assert_eq!(ids(&read(ResultPage { delivered: true, ..all }).await), [shared[1], delivered]);
}

pub(super) async fn stored_bytes_and_digests_are_those_of_pictures_that_were_not_evicted(adapter: Adapter) {
    let one = result(&*adapter.journal, 1, true, true, &[b"one", b"both"]).await;
    let two = result(&*adapter.journal, 2, true, false, &[b"two", b"both"]).await;
    let adapter = adapter.reopened_after(HOUR).await;
    let journal = &*adapter.journal;
    let contents: [&[u8]; 4] = [b"one", b"both", b"two", b"none"];
    let digests = contents.map(Digest::of);
    let known = async || {
        let known = journal.stored_digests(digests.to_vec()).await.unwrap();
        digests.map(|digest| known.contains(&digest))
    };
    assert_eq!((journal.stored_bytes().await.unwrap(), known().await), (28, [true, true, true, false]));
    journal.append(Record::Evicted { job: one }).await.unwrap();
    assert_eq!((journal.stored_bytes().await.unwrap(), known().await), (14, [false, true, true, false]));
    journal.append(Record::Evicted { job: one }).await.unwrap();
    assert_eq!(journal.stored_bytes().await.unwrap(), 14, "evicted twice");
    journal.append(Record::Evicted { job: two }).await.unwrap();
    assert_eq!((journal.stored_bytes().await.unwrap(), known().await), (0, [false; 4]));
}

pub(super) async fn small_pictures_are_stored_with_their_records_until_these_are_evicted(adapter: Adapter) {
    let bytes = Bytes::from_static(b"picture");
    let digest = Digest::of(&bytes);
    let purchases = [1, 2].map(|number| PurchaseId { job: job_record(number).id, slot: 0 });
    let content = || PictureBytes::new(digest, bytes.clone(), None);
    for (number, contents) in [(1, vec![content()]), (2, vec![content()])] {
        let (job, purchase) = (job_record(number), PurchaseId { job: job_record(number).id, slot: 0 });
        let (upstream, poll_url, pictures, usage) = (None, None, vec![picture(), picture()], None);
        let resolved = Record::Resolved { purchase, upstream, poll_url, pictures, contents, usage, at: NOW };
        write(&*adapter.journal, [intent(job, &[2]), resolved]).await;
    }
    let copies = async |adapter: &Adapter| adapter.journal.picture_copies(digest).await.unwrap().len();
    assert_eq!(adapter.journal.picture_copies(Digest::of(b"other")).await.unwrap(), Vec::<Bytes>::new());

    let adapter = adapter.reopened_after(HOUR).await;
    assert_eq!(copies(&adapter).await, 4, "of two pictures of two jobs");
    assert!(adapter.journal.picture_copies(digest).await.unwrap().iter().all(|copy| *copy == bytes));
    write(&*adapter.journal, [Record::Evicted { job: purchases[0].job }]).await;
    assert_eq!(copies(&adapter).await, 2, "each job has its own");
    let restored = Record::Restored { purchase: purchases[1], pictures: vec![picture()] };
    write(&*adapter.journal, [restored]).await;
    assert_eq!(copies(&adapter).await, 0, "what takes its place is a file");
}

pub(super) async fn a_refused_record_stores_no_picture(adapter: Adapter) {
    let (bytes, purchase) = (Bytes::from_static(b"picture"), PurchaseId { job: job_record(1).id, slot: 0 });
    let contents = vec![PictureBytes::new(Digest::of(&bytes), bytes.clone(), None)];
    let (upstream, poll_url, pictures, usage) = (None, None, vec![picture()], None);
    let resolved = Record::Resolved { purchase, upstream, poll_url, pictures, contents, usage, at: NOW };
    adapter.journal.append(resolved).await.unwrap_err();
    assert_eq!(adapter.journal.picture_copies(Digest::of(&bytes)).await.unwrap(), Vec::<Bytes>::new());
}
