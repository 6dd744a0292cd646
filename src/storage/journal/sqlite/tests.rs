use rusqlite::Connection;

use super::ledger::Ledger;
use super::schema::SCHEMA_VERSION;
use super::*;
use crate::model::{
    AccountId, ApiKind, Choices, Digest, EventId, Failure, Format, ModelId, PurchaseId, Size, StoredPicture, Task,
    UpstreamId, Usage, Webhook,
};
use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};
use crate::storage::journal::record::{JobRecord, Resolution, WebhookEnd};
use crate::storage::journal::stored::{JobEnd, StoredPurchase, StoredState};

mod migration;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn job_record(number: u128) -> JobRecord {
    JobRecord {
        id: JobId::new(NOW, number),
        client: ClientId("alice".into()),
        fingerprint: Fingerprint::from(Digest::of(b"request")),
        task: Task::Edit,
        model: ModelId::from("gpt-image-2"),
        size: Size { width: 1024, height: 1024 },
        choices: Choices::from([("quality", "low")]),
        n: 2,
        inputs: 3,
        shareable: true,
        idempotency_key: IdempotencyKey::new("key-1"),
        respond_async: false,
        created: NOW,
    }
}

fn picture() -> StoredPicture {
    StoredPicture { digest: Digest::of(b"picture"), bytes: 7, format: Format::Png, width: 1024, height: 1024 }
}

fn committing(purchase: PurchaseId) -> Record {
    let (account, format) = (AccountId("default".into()), "multipart".to_owned());
    Record::Committing { purchase, account, api_kind: ApiKind::OpenAi, format, at: NOW }
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
        assert!(journal.append(intent).await.is_err(), "the same job twice");
        assert!(!journal.failed(), "a violated constraint is not a failed disk");
        journal.append(committing(one)).await.unwrap();
        journal
            .append(Record::Accepted { purchase: one, upstream: upstream.clone(), poll_url: None, at: NOW })
            .await
            .unwrap();
        journal.append(committing(two)).await.unwrap();
    }
    let journal = SqliteJournal::open(&path).unwrap();
    let unfinished = journal.unfinished().await.unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].record, job);
    assert_eq!(
        unfinished[0].purchases[0].state,
        StoredState::Accepted { upstream: upstream.clone(), poll_url: None, since: NOW }
    );
    assert_eq!(unfinished[0].purchases[1].state, StoredState::Committing { since: NOW });
    let bought_at = |purchase: &StoredPurchase| (purchase.api_kind, purchase.format.clone());
    assert_eq!(bought_at(&unfinished[0].purchases[0]), (ApiKind::OpenAi, Some("multipart".to_owned())));
    assert_eq!(journal.purchase_of_upstream_id(upstream.clone()).await.unwrap(), Some(one));
    assert_eq!(journal.purchase_of_upstream_id(UpstreamId::new("abcd").unwrap()).await.unwrap(), None);

    let usage = Some(Usage { input_tokens: 1, output_tokens: 2, input_image_tokens: None });
    let resolved = Record::Resolved { purchase: one, pictures: vec![picture()], usage, at: NOW };
    journal.append(resolved).await.unwrap();
    journal.append(Record::Failed { purchase: two, failure: failure.clone(), at: NOW }).await.unwrap();
    assert!(journal.unfinished().await.unwrap().is_empty());
    let found = journal.by_fingerprint(job.fingerprint, 5).await.unwrap().remove(0);
    assert_eq!(
        found.purchases[0].state,
        StoredState::Resolved { upstream: Some(upstream), poll_url: None, pictures: vec![picture()], usage, at: NOW }
    );
    assert_eq!(found.purchases[1].state, StoredState::Failed { upstream: None, failure, at: NOW });
    assert_eq!(journal.stored_results().await.unwrap().len(), 1);
    journal.append(Record::Delivered { job: job.id, at: NOW }).await.unwrap();
    journal.append(Record::Evicted { job: job.id }).await.unwrap();
    assert!(journal.stored_results().await.unwrap().is_empty());
    assert_eq!(journal.job(job.id).await.unwrap().unwrap().delivered, Some(NOW));
    let key = |text| IdempotencyKey::new(text).unwrap();
    let by_key = journal.by_idempotency_key(job.client.clone(), key("key-1")).await.unwrap();
    assert_eq!(by_key.map(|stored| stored.record.id), Some(job.id));
    assert_eq!(
        journal.by_idempotency_key(ClientId("bob".into()), key("key-1")).await.unwrap(),
        None,
        "another client's key"
    );
}

#[tokio::test]
async fn restored_pictures_take_the_place_of_those_before_and_change_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap();
    let memory = MemoryJournal::on(&Disk::default(), std::time::Duration::ZERO, SyncMode::Full);
    let other = |text: &[u8]| StoredPicture { digest: Digest::of(text), bytes: 9, ..picture() };
    for journal in [&sqlite as &dyn Journal, &memory] {
        let job = job_record(1);
        let [one, two] = [0, 1].map(|slot| PurchaseId { job: job.id, slot });
        let purchases = vec![(one, 2), (two, 1)];
        journal.append(Record::Intent { job: job.clone(), api_kind: ApiKind::Unified, purchases }).await.unwrap();
        journal.append(committing(one)).await.unwrap();
        let (upstream, poll_url) = (UpstreamId::new("abc").unwrap(), Some("/tasks/abc".to_owned()));
        journal.append(Record::Accepted { purchase: one, upstream, poll_url, at: NOW }).await.unwrap();
        let usage = Some(Usage { input_tokens: 1, output_tokens: 2, input_image_tokens: None });
        let pictures = vec![picture(), other(b"two")];
        journal.append(Record::Resolved { purchase: one, pictures, usage, at: NOW }).await.unwrap();
        journal.append(Record::Delivered { job: job.id, at: NOW }).await.unwrap();
        let before = journal.job(job.id).await.unwrap().unwrap();

        let restored = vec![other(b"three"), other(b"two")];
        journal.append(Record::Restored { purchase: one, pictures: restored.clone() }).await.unwrap();
        let mut expected = before;
        let StoredState::Resolved { pictures, poll_url, .. } = &mut expected.purchases[0].state else { panic!() };
        assert_eq!(poll_url.as_deref(), Some("/tasks/abc"), "the address is kept after the end");
        *pictures = restored;
        assert_eq!(journal.job(job.id).await.unwrap(), Some(expected));
    }
    let unresolved = PurchaseId { job: job_record(1).id, slot: 1 };
    assert!(sqlite.append(Record::Restored { purchase: unresolved, pictures: vec![picture()] }).await.is_err());
    assert!(!sqlite.failed());
}

#[tokio::test]
async fn the_journal_has_no_upstream_id_twice() {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap();
    let job = job_record(1);
    let purchases @ [one, two] = [0, 1].map(|slot| PurchaseId { job: job.id, slot });
    let purchases_of_one = purchases.map(|id| (id, 1)).into();
    journal.append(Record::Intent { job, api_kind: ApiKind::OpenAi, purchases: purchases_of_one }).await.unwrap();
    let accepted = |purchase, name: &str| {
        let upstream = UpstreamId::new(name).unwrap();
        journal.append(Record::Accepted { purchase, upstream, poll_url: None, at: NOW })
    };
    for purchase in purchases {
        journal.append(committing(purchase)).await.unwrap();
    }
    accepted(one, "abc").await.unwrap();
    assert!(accepted(two, "abc").await.is_err());
    assert!(!journal.failed());
    let of = |name| journal.purchase_of_upstream_id(UpstreamId::new(name).unwrap());
    assert_eq!(of("abc").await.unwrap(), Some(one));
    let stored = journal.job(one.job).await.unwrap().unwrap();
    assert_eq!(stored.purchases[1].state, StoredState::Committing { since: NOW });
    // An id of its own is accepted, and ids are kept after the end.
    accepted(two, "def").await.unwrap();
    let failure = Failure::TaskFailed { message: "no".to_owned() };
    journal.append(Record::Failed { purchase: two, failure, at: NOW }).await.unwrap();
    assert_eq!(of("def").await.unwrap(), Some(two));
}

#[tokio::test]
async fn the_journal_in_memory_finds_upstream_ids_and_formats_as_sqlite_does() {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap();
    let memory = MemoryJournal::on(&Disk::default(), std::time::Duration::ZERO, SyncMode::Full);
    let job = job_record(1);
    let purchase = PurchaseId { job: job.id, slot: 0 };
    let upstream = UpstreamId::new("abc").unwrap();
    let raw = |api_kind, format: &str| Record::Committing {
        purchase,
        account: AccountId("default".into()),
        api_kind,
        format: format.to_owned(),
        at: NOW,
    };
    let records = [
        Record::Intent { job, api_kind: ApiKind::Unified, purchases: vec![(purchase, 1)] },
        raw(ApiKind::OpenAi, "multipart"),
        Record::Withdrawn { purchase },
        raw(ApiKind::Prediction, "links, raw key"),
        Record::Accepted { purchase, upstream: upstream.clone(), poll_url: None, at: NOW },
        Record::Resolved { purchase, pictures: vec![picture()], usage: None, at: NOW },
    ];
    let mut formats = Vec::new();
    for record in records {
        for journal in [&sqlite as &dyn Journal, &memory] {
            journal.append(record.clone()).await.unwrap();
        }
        let stored = sqlite.job(purchase.job).await.unwrap();
        assert_eq!(stored, memory.job(purchase.job).await.unwrap());
        let known = sqlite.purchase_of_upstream_id(upstream.clone()).await.unwrap();
        assert_eq!(known, memory.purchase_of_upstream_id(upstream.clone()).await.unwrap());
        let format = stored.unwrap().purchases.remove(0);
        formats.push((format.api_kind, format.format, known.is_some()));
    }
    let (first, last) = (Some("multipart".to_owned()), Some("links, raw key".to_owned()));
    let expected = [
        (ApiKind::Unified, None, false),
        (ApiKind::OpenAi, first.clone(), false),
        (ApiKind::OpenAi, first, false),
        (ApiKind::Prediction, last.clone(), false),
        (ApiKind::Prediction, last.clone(), true),
        (ApiKind::Prediction, last, true),
    ];
    assert_eq!(formats, expected);
}

/// Returns the record that follows the intent of a purchase, if one does.
type NextRecord = Box<dyn Fn(PurchaseId) -> Option<Record>>;

/// Jobs in every state there is, the first of them made before `NOW`.
async fn every_state(journal: &dyn Journal) -> Vec<PurchaseId> {
    let upstream = || UpstreamId::new("abc").unwrap();
    let usage = Some(Usage { input_tokens: 10, output_tokens: 20, input_image_tokens: None });
    let message = || "no".to_owned();
    let failed = |failure: Failure| -> NextRecord {
        Box::new(move |purchase| Some(Record::Failed { purchase, failure: failure.clone(), at: NOW }))
    };
    let following: Vec<NextRecord> = vec![
        failed(Failure::TaskFailed { message: message() }), // 0: too early
        Box::new(|_| None),                                 // 1: an intent
        Box::new(|purchase| Some(committing(purchase))),    // 2
        Box::new(move |purchase| {
            Some(Record::Accepted { purchase, upstream: upstream(), poll_url: None, at: NOW }) // 3
        }),
        // 4: one picture of the two requested
        Box::new(move |purchase| Some(Record::Resolved { purchase, pictures: vec![picture()], usage, at: NOW })),
        failed(Failure::TaskFailed { message: message() }),     // 5
        failed(Failure::OutcomeUnknown { message: message() }), // 6
        failed(Failure::OutcomeUnknown { message: message() }), // 7
        failed(Failure::Abandoned),                             // 8
        failed(Failure::Moderated { message: message(), bought: false }), // 9
    ];
    let mut purchases = Vec::new();
    for (number, next) in (0_u8..).zip(following) {
        let mut job = job_record(u128::from(number));
        job.model = ModelId::from(format!("model-{number}"));
        job.idempotency_key = None;
        job.created = Timestamp::from_millis(NOW.millis() - i64::from(number == 0));
        let purchase = PurchaseId { job: job.id, slot: 0 };
        journal
            .append(Record::Intent { job, api_kind: ApiKind::Prediction, purchases: vec![(purchase, 2)] })
            .await
            .unwrap();
        if let Some(record) = next(purchase) {
            journal.append(record).await.unwrap();
        }
        purchases.push(purchase);
    }
    // Evicted pictures were paid for as well.
    journal.append(Record::Evicted { job: purchases[4].job }).await.unwrap();
    purchases
}

/// Returns model and number of pictures of each purchase that counts since `NOW`.
async fn quota_used(journal: &dyn Journal) -> Vec<(String, usize)> {
    let mut used = journal.quota_used_since(NOW).await.unwrap();
    used.sort_by(|one, two| one.model.cmp(&two.model));
    for one in &used {
        assert_eq!(one.client, ClientId("alice".into()));
        assert_eq!(one.created, NOW);
        assert_eq!(one.usage.map(|usage| usage.output_tokens), (one.model.as_str() == "model-4").then_some(20));
    }
    used.into_iter().map(|used| (used.model.to_string(), used.pictures)).collect()
}

#[tokio::test]
async fn purchases_that_were_or_may_have_been_bought_use_quota() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let journal = SqliteJournal::open(&path).unwrap();
    let purchases = every_state(&journal).await;
    let named = |numbers: &[usize]| -> Vec<(String, usize)> {
        numbers.iter().map(|&number| (format!("model-{number}"), if number == 4 { 1 } else { 2 })).collect()
    };
    assert_eq!(quota_used(&journal).await, named(&[2, 4, 5, 6, 7]));
    let memory = MemoryJournal::on(&Disk::default(), std::time::Duration::ZERO, SyncMode::Full);
    every_state(&memory).await;
    assert_eq!(quota_used(&memory).await, named(&[2, 4, 5, 6, 7]), "the journal of the simulation agrees");

    let ledger = Ledger::open(&path).unwrap();
    ledger.resolve(purchases[6], Resolution::Lost, NOW).unwrap();
    ledger.resolve(purchases[7], Resolution::Bought, NOW).unwrap();
    assert_eq!(quota_used(&journal).await, named(&[2, 4, 5, 7]), "a lost purchase does not count");
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
             'gpt-image-2', '1024x1024', '{}', 1, 1, NULL, i, NULL, 0, 0 FROM count";
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
async fn a_closed_journal_is_one_file_and_refuses_records() {
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
    assert!(other_handle.append(committing(purchase)).await.is_err());
    let reopened = SqliteJournal::open(&path).unwrap();
    assert_eq!(reopened.unfinished().await.unwrap()[0].purchases[0].state, StoredState::Intent);
}

fn webhook(number: u128, url: &str) -> Webhook {
    Webhook { id: EventId::new(NOW, number), url: url.parse().unwrap() }
}

/// Subscribes two webhooks of one job, one of them twice, and returns which are pending after each step.
async fn webhook_steps(journal: &dyn Journal) -> Vec<Vec<(u128, u32)>> {
    let job = job_record(1);
    let id = job.id;
    let purchase = PurchaseId { job: id, slot: 0 };
    let pending = async || -> Vec<(u128, u32)> {
        let webhooks = journal.pending_webhooks(None).await.unwrap();
        let one = |one: &PendingWebhook| {
            assert_eq!((one.job, one.end), (id, JobEnd { completed: true, at: NOW }));
            let number = (0..9).find(|&number| EventId::new(NOW, number) == one.webhook.id).unwrap();
            (number, one.tries)
        };
        webhooks.iter().map(one).collect()
    };
    journal
        .append(Record::Intent { job, api_kind: ApiKind::Prediction, purchases: vec![(purchase, 1)] })
        .await
        .unwrap();
    let subscribed = |webhook| Record::Subscribed { job: id, webhook, at: NOW };
    for (number, url) in [(1, "https://one.test/?a"), (2, "https://two.test/"), (3, "https://one.test/?a")] {
        journal.append(subscribed(webhook(number, url))).await.unwrap();
    }
    let mut seen = vec![pending().await];
    let resolved = Record::Resolved { purchase, pictures: vec![picture()], usage: None, at: NOW };
    journal.append(resolved).await.unwrap();
    seen.push(pending().await);
    journal.append(Record::WebhookTried { webhook: EventId::new(NOW, 1), tries: 3, due: NOW }).await.unwrap();
    seen.push(pending().await);
    let end = WebhookEnd::Delivered;
    journal.append(Record::WebhookEnded { webhook: EventId::new(NOW, 1), end, at: NOW }).await.unwrap();
    seen.push(pending().await);
    // A delivered webhook may be subscribed again.
    journal.append(subscribed(webhook(4, "https://one.test/?a"))).await.unwrap();
    seen.push(pending().await);
    let other = JobId::new(NOW, 99);
    assert_eq!(journal.pending_webhooks(Some(other)).await.unwrap(), []);
    assert_eq!(journal.pending_webhooks(Some(id)).await.unwrap().len(), 2);
    seen
}

#[tokio::test]
async fn webhooks_are_pending_until_they_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let expected = vec![vec![], vec![(1, 0), (2, 0)], vec![(1, 3), (2, 0)], vec![(2, 0)], vec![(2, 0), (4, 0)]];
    let journal = SqliteJournal::open(&path).unwrap();
    assert_eq!(webhook_steps(&journal).await, expected);
    let memory = MemoryJournal::on(&Disk::default(), std::time::Duration::ZERO, SyncMode::Full);
    assert_eq!(webhook_steps(&memory).await, expected, "the journal of the simulation agrees");

    journal.close().await;
    let journal = SqliteJournal::open(&path).unwrap();
    let webhooks = journal.pending_webhooks(None).await.unwrap();
    assert_eq!(webhooks[0].webhook, webhook(2, "https://two.test/"));
    let absent = Record::Subscribed { job: JobId::new(NOW, 99), webhook: webhook(5, "https://x.test/"), at: NOW };
    assert!(journal.append(absent).await.is_err(), "a job that the journal does not know");
    assert!(!journal.failed());
}

#[tokio::test]
async fn a_record_for_an_unknown_purchase_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&directory.path().join("journal.sqlite")).unwrap();
    let absent = PurchaseId { job: job_record(9).id, slot: 0 };
    // Both are in the queue before the first is written, so they are written together.
    let job = job_record(1);
    let purchases = vec![(PurchaseId { job: job.id, slot: 0 }, 1)];
    let unknown = journal.append(Record::Withdrawn { purchase: absent });
    let known = journal.append(Record::Intent { job, api_kind: ApiKind::Prediction, purchases });
    assert!(unknown.await.is_err());
    known.await.unwrap();
    assert!(!journal.failed());
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
