//! Records, and the state that they add up to.

use std::collections::BTreeMap;

use futures_util::FutureExt;

use super::*;

pub(super) async fn records_add_up_and_survive_a_reopening(adapter: Adapter) {
    let job = job_record(1);
    let [one, two] = [0, 1].map(|slot| PurchaseId { job: job.id, slot });
    let upstream = UpstreamId::new("abc").unwrap();
    let records = [intent(job.clone(), &[1, 1]), committing(one), accepted(one, "abc"), committing(two)];
    write(&*adapter.journal, records).await;

    let adapter = adapter.reopened_after(HOUR).await;
    let journal = &*adapter.journal;
    let unfinished = journal.unfinished().await.unwrap();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].record, job);
    let accepted = StoredState::Accepted { upstream: upstream.clone(), poll_url: None, since: NOW };
    assert_eq!(unfinished[0].purchases[0].state, accepted);
    assert_eq!(unfinished[0].purchases[1].state, StoredState::Committing { since: NOW });
    let bought_at = |purchase: &StoredPurchase| (purchase.api_kind, purchase.format.clone());
    assert_eq!(bought_at(&unfinished[0].purchases[0]), (ApiKind::OpenAi, Some("multipart".to_owned())));

    let usage = Some(Usage { input_tokens: 1, output_tokens: 2, input_image_tokens: None });
    let failure = Failure::OutcomeUnknown { message: "cut".to_owned() };
    let resolved = Record::Resolved {
        purchase: one,
        upstream: None,
        poll_url: None,
        pictures: vec![picture()],
        contents: Vec::new(),
        usage,
        at: NOW,
    };
    write(journal, [resolved, Record::Failed { purchase: two, failure: failure.clone(), at: NOW }]).await;
    assert!(journal.unfinished().await.unwrap().is_empty());
    let found = journal.by_fingerprint(job.fingerprint, 5).await.unwrap().remove(0);
    assert_eq!(
        found.purchases[0].state,
        StoredState::Resolved { upstream: Some(upstream), poll_url: None, pictures: vec![picture()], usage, at: NOW }
    );
    assert_eq!(found.purchases[1].state, StoredState::Failed { upstream: None, failure, at: NOW });
    write(journal, [Record::Delivered { job: job.id, at: NOW }, Record::Evicted { job: job.id }]).await;
    let found = stored(journal, job.id).await;
    assert_eq!((found.delivered.map(|delivered| delivered.at), found.evicted), (Some(NOW), true));
    let key = |text| IdempotencyKey::new(text).unwrap();
    let by_key = journal.by_idempotency_key(job.client.clone(), key("key-1")).await.unwrap();
    assert_eq!(by_key.map(|stored| stored.record.id), Some(job.id));
    let of_another = journal.by_idempotency_key(ClientId("bob".into()), key("key-1")).await.unwrap();
    assert_eq!(of_another, None, "another client's key");
}

/// The wall clock may have gone back between two jobs, so that the later one has the smaller id.
pub(super) async fn jobs_are_returned_in_the_order_of_their_records(adapter: Adapter) {
    let journal = &*adapter.journal;
    let numbers = [5_u64, 1, 9, 3];
    let ahead = |number: u64| NOW.plus(HOUR * u32::try_from(number).unwrap());
    let ids = numbers.map(|number| JobId::new(ahead(number), 0));
    for (number, id) in numbers.into_iter().zip(ids) {
        let job = JobRecord { id, created: ahead(number), ..job_record(0) };
        journal.append(intent(job, &[1])).await.unwrap();
    }
    let listed = |jobs: Vec<StoredJob>| jobs.into_iter().map(|job| job.record.id).collect::<Vec<_>>();
    assert_eq!(listed(journal.unfinished().await.unwrap()), ids);
    let first = job_record(0);
    let key = first.idempotency_key.clone().unwrap();
    let newest = journal.by_idempotency_key(first.client, key).await.unwrap();
    assert_eq!(newest.map(|job| job.record.id), Some(ids[3]), "the last one, although another has a later time");
    let of_fingerprint = async || listed(journal.by_fingerprint(first.fingerprint, 2).await.unwrap());
    assert_eq!(of_fingerprint().await, [], "nothing to answer with");
    for id in ids {
        journal.append(resolved(PurchaseId { job: id, slot: 0 }, &[picture()])).await.unwrap();
    }
    assert_eq!(of_fingerprint().await, [ids[3], ids[2]]);
    journal.append(Record::Evicted { job: ids[2] }).await.unwrap();
    assert_eq!(of_fingerprint().await, [ids[3], ids[1]]);
}

/// Records that are appended before the first of them is written may share one transaction.
pub(super) async fn a_record_that_breaks_a_rule_fails_alone(adapter: Adapter) {
    let journal = &*adapter.journal;
    let absent = PurchaseId { job: job_record(9).id, slot: 0 };
    let job = job_record(1);
    let purchase = PurchaseId { job: job.id, slot: 0 };
    let appended = [
        journal.append(Record::Withdrawn { purchase: absent }),
        journal.append(intent(job.clone(), &[1])),
        journal.append(intent(job.clone(), &[1])),
        journal.append(committing(purchase)),
        journal.append(Record::Delivered { job: absent.job, at: NOW }),
        journal.append(accepted(purchase, "abc")),
    ];
    let mut written = Vec::new();
    for one in appended {
        written.push(one.await.is_ok());
    }
    assert_eq!(written, [false, true, false, true, false, true]);
    assert_eq!(journal.standing(), Standing::Fine, "a broken rule is not a failed disk");
    assert_eq!(stored(journal, job.id).await.purchases[0].state.upstream(), UpstreamId::new("abc").as_ref());
}

pub(super) async fn a_record_that_may_wait_is_written_with_the_next_one_before_it(adapter: Adapter) {
    let (journal, job) = (&*adapter.journal, job_record(1));
    let purchase = PurchaseId { job: job.id, slot: 0 };
    let waiting = journal.append_with(intent(job, &[1]), Durability::Within(HOUR));
    assert_eq!(journal.unfinished().await.unwrap(), [], "it is not durable, so it is not seen");
    // Of a job that the journal would not know otherwise.
    journal.append(committing(purchase)).await.unwrap();
    waiting.now_or_never().expect("it is durable by now").unwrap();
    let states = journal.unfinished().await.unwrap().remove(0).purchases;
    assert_eq!(states[0].state, StoredState::Committing { since: NOW });
}

pub(super) async fn a_record_that_may_wait_is_written_after_its_time_and_when_the_journal_closes(adapter: Adapter) {
    let job = job_record(1);
    adapter.journal.append_with(intent(job.clone(), &[1]), Durability::Within(Duration::from_millis(5))).await.unwrap();
    let waiting = adapter.journal.append_with(Record::Delivered { job: job.id, at: NOW }, Durability::Within(HOUR));
    assert_eq!(stored(&*adapter.journal, job.id).await.delivered, None);
    let adapter = adapter.reopened_after(Duration::ZERO).await;
    waiting.await.unwrap();
    assert_eq!(stored(&*adapter.journal, job.id).await.delivered.unwrap().at, NOW);
}

pub(super) async fn a_record_without_a_sync_is_seen_once_it_is_written_and_is_durable_with_the_next(adapter: Adapter) {
    let (journal, job) = (&*adapter.journal, job_record(1));
    write(journal, [intent(job.clone(), &[1])]).await;
    let delivered = journal.append_with(Record::Delivered { job: job.id, at: NOW }, Durability::WithNext);
    assert_eq!(stored(journal, job.id).await.delivered, None);
    delivered.await.unwrap();
    assert_eq!(stored(journal, job.id).await.delivered.unwrap().at, NOW);
    write(journal, [committing(PurchaseId { job: job.id, slot: 0 })]).await;
    let adapter = adapter.reopened_after(Duration::ZERO).await;
    assert_eq!(stored(&*adapter.journal, job.id).await.delivered.unwrap().at, NOW);
}

pub(super) async fn an_upstream_id_belongs_to_one_purchase(adapter: Adapter) {
    let journal = &*adapter.journal;
    let job = job_record(1);
    let [one, two] = [0, 1].map(|slot| PurchaseId { job: job.id, slot });
    write(journal, [intent(job, &[1, 1]), committing(one), committing(two), accepted(one, "abc")]).await;
    assert!(journal.append(accepted(two, "abc")).await.is_err());
    assert_eq!(journal.standing(), Standing::Fine);
    let of = |name| journal.purchase_of_upstream_id(UpstreamId::new(name).unwrap());
    assert_eq!((of("abc").await.unwrap(), of("abcd").await.unwrap()), (Some(one), None));
    assert_eq!(stored(journal, one.job).await.purchases[1].state, StoredState::Committing { since: NOW });
    // An id of its own is accepted, and ids are kept after the end.
    write(journal, [accepted(two, "def"), failed(two)]).await;
    assert_eq!(of("def").await.unwrap(), Some(two));
}

/// The acceptance of a purchase is not written, and its end is.
pub(super) async fn an_end_brings_the_upstream_id_that_was_not_written(adapter: Adapter) {
    let journal = &*adapter.journal;
    let job = job_record(1);
    let [one, two, three] = [0, 1, 2].map(|slot| PurchaseId { job: job.id, slot });
    let resolved = |purchase, upstream: &str| Record::Resolved {
        purchase,
        upstream: UpstreamId::new(upstream),
        poll_url: Some(format!("/tasks/{upstream}")),
        pictures: vec![picture()],
        contents: Vec::new(),
        usage: None,
        at: NOW,
    };
    let records = [committing(one), committing(two), committing(three), accepted(two, "def")];
    write(journal, [intent(job.clone(), &[1, 1, 1])].into_iter().chain(records)).await;
    // The third one has the id of the first: its pictures are journalled all the same.
    write(journal, [resolved(one, "abc"), resolved(two, "other"), resolved(three, "abc")]).await;
    let adapter = adapter.reopened_after(HOUR).await;
    let journal = &*adapter.journal;
    let found = stored(journal, job.id).await.purchases.into_iter().map(|purchase| {
        let StoredState::Resolved { upstream, poll_url, pictures, .. } = purchase.state else { panic!("{purchase:?}") };
        (upstream.map(|id| id.to_string()), poll_url, pictures.len())
    });
    let expected = [
        (Some("abc".to_owned()), Some("/tasks/abc".to_owned()), 1),
        (Some("def".to_owned()), None, 1),
        (None, None, 1),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    let of = |name| journal.purchase_of_upstream_id(UpstreamId::new(name).unwrap());
    assert_eq!((of("abc").await.unwrap(), of("other").await.unwrap()), (Some(one), None));
    let another = job_record(2);
    let purchase = PurchaseId { job: another.id, slot: 0 };
    write(journal, [intent(another, &[1]), committing(purchase)]).await;
    assert!(journal.append(accepted(purchase, "abc")).await.is_err(), "the id belongs to another purchase");
}

pub(super) async fn the_last_committed_format_is_the_one_of_the_purchase(adapter: Adapter) {
    let journal = &*adapter.journal;
    let job = job_record(1);
    let purchase = PurchaseId { job: job.id, slot: 0 };
    let raw = |api_kind, format: &str| Record::Committing {
        purchase,
        account: AccountId("default".into()),
        api_kind,
        format: format.to_owned(),
        at: NOW,
    };
    let records = [
        intent(job, &[1]),
        raw(ApiKind::OpenAi, "multipart"),
        Record::Withdrawn { purchase },
        raw(ApiKind::Prediction, "links, raw key"),
        accepted(purchase, "abc"),
        resolved(purchase, &[picture()]),
    ];
    let mut formats = Vec::new();
    for record in records {
        journal.append(record).await.unwrap();
        let purchase = stored(journal, purchase.job).await.purchases.remove(0);
        formats.push((purchase.api_kind, purchase.format));
    }
    let (first, last) = (Some("multipart".to_owned()), Some("links, raw key".to_owned()));
    let expected = [
        (ApiKind::Unified, None),
        (ApiKind::OpenAi, first.clone()),
        (ApiKind::OpenAi, first),
        (ApiKind::Prediction, last.clone()),
        (ApiKind::Prediction, last.clone()),
        (ApiKind::Prediction, last),
    ];
    assert_eq!(formats, expected);
}

/// Returns the record that follows the intent of a purchase, if one does.
type NextRecord = Box<dyn Fn(PurchaseId) -> Option<Record>>;

/// The first instant of the day of [`NOW`].
const TODAY: Timestamp = Timestamp::from_millis(NOW.millis() - NOW.millis() % (24 * 60 * 60 * 1000));

/// Jobs in every state there is, the first of them made on the day before `NOW`.
pub(in crate::storage::journal) async fn every_state(journal: &dyn Journal) -> Vec<PurchaseId> {
    let usage = Some(Usage { input_tokens: 10, output_tokens: 20, input_image_tokens: None });
    let message = || "no".to_owned();
    let failed = |failure: Failure| -> NextRecord {
        Box::new(move |purchase| Some(Record::Failed { purchase, failure: failure.clone(), at: NOW }))
    };
    let following: Vec<NextRecord> = vec![
        failed(Failure::TaskFailed { message: message() }),   // 0: too early
        Box::new(|_| None),                                   // 1: an intent
        Box::new(|purchase| Some(committing(purchase))),      // 2
        Box::new(|purchase| Some(accepted(purchase, "abc"))), // 3
        // 4: one picture of the two requested
        Box::new(move |purchase| {
            Some(Record::Resolved {
                purchase,
                upstream: None,
                poll_url: None,
                pictures: vec![picture()],
                contents: Vec::new(),
                usage,
                at: NOW,
            })
        }),
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
        if number == 0 {
            job.created = Timestamp::from_millis(TODAY.millis() - 1);
        }
        let purchase = PurchaseId { job: job.id, slot: 0 };
        write(journal, [intent(job, &[2])].into_iter().chain(next(purchase))).await;
        purchases.push(purchase);
    }
    // Evicted pictures were paid for as well.
    journal.append(Record::Evicted { job: purchases[4].job }).await.unwrap();
    purchases
}

/// Returns model and number of pictures of what counts since the day of `NOW`.
pub(in crate::storage::journal) async fn quota_used(journal: &dyn Journal) -> Vec<(String, usize)> {
    // At any time of that day.
    let used = journal.quota_used_since(NOW).await.unwrap();
    let mut pictures: BTreeMap<String, usize> = BTreeMap::new();
    for one in used.into_iter().filter(|used| used.pictures > 0) {
        assert_eq!(one.client, ClientId("alice".into()));
        assert!(TODAY <= one.created && one.created <= NOW);
        assert_eq!(one.usage.map(|usage| usage.output_tokens), (one.model.as_str() == "model-4").then_some(20));
        *pictures.entry(one.model.to_string()).or_default() += one.pictures;
    }
    pictures.into_iter().collect()
}

/// Returns what is expected of [`quota_used`] when the jobs of these numbers count.
pub(in crate::storage::journal) fn used_by(numbers: &[usize]) -> Vec<(String, usize)> {
    numbers.iter().map(|&number| (format!("model-{number}"), if number == 4 { 1 } else { 2 })).collect()
}

pub(super) async fn purchases_that_were_or_may_have_been_bought_use_quota(adapter: Adapter) {
    every_state(&*adapter.journal).await;
    assert_eq!(quota_used(&*adapter.journal).await, used_by(&[2, 4, 5, 6, 7]));
}

pub(super) async fn equal_purchases_of_a_day_are_added_up(adapter: Adapter) {
    let usage = Usage { input_tokens: 10, output_tokens: 20, input_image_tokens: Some(5) };
    for (number, usage) in [(1, Some(usage)), (2, Some(usage)), (3, None), (4, None)] {
        let job = JobRecord { idempotency_key: None, ..job_record(number) };
        let purchase = PurchaseId { job: job.id, slot: 0 };
        let resolved = Record::Resolved {
            purchase,
            upstream: None,
            poll_url: None,
            pictures: vec![picture(); 2],
            contents: Vec::new(),
            usage,
            at: NOW,
        };
        write(&*adapter.journal, [intent(job, &[2]), resolved]).await;
    }
    let adapter = adapter.reopened_after(HOUR).await;
    let used = adapter.journal.quota_used_since(NOW).await.unwrap();
    let (mut pictures, mut tokens) = ((0, 0), (0, 0));
    for one in used {
        let Some(usage) = one.usage else {
            pictures.1 += one.pictures;
            continue;
        };
        pictures.0 += one.pictures;
        tokens = (tokens.0 + usage.input_tokens, tokens.1 + usage.output_tokens);
    }
    assert_eq!((pictures, tokens), ((4, 4), (20, 40)));
    let tomorrow = NOW.plus(HOUR * 24);
    assert_eq!(adapter.journal.quota_used_since(tomorrow).await.unwrap(), []);
}

pub(super) async fn unknown_outcomes_are_counted_by_what_their_price_depends_on(adapter: Adapter) {
    let (unknown, lost) =
        (Failure::OutcomeUnknown { message: "cut".to_owned() }, Failure::TaskFailed { message: "no".to_owned() });
    for (number, model, failure) in
        [(1, "gpt-image-2", &unknown), (2, "gpt-image-2", &unknown), (3, "other", &unknown), (4, "other", &lost)]
    {
        let job = JobRecord { idempotency_key: None, model: ModelId::from(model), ..job_record(number) };
        let purchase = PurchaseId { job: job.id, slot: 0 };
        let failed = Record::Failed { purchase, failure: failure.clone(), at: NOW };
        write(&*adapter.journal, [intent(job, &[3, 1]), committing(purchase), failed]).await;
    }
    let adapter = adapter.reopened_after(HOUR).await;
    let mut undecided = adapter.journal.undecided().await.unwrap();
    undecided.sort_by_key(|alike| alike.model.as_str().to_owned());
    let JobRecord { size, choices, inputs, .. } = job_record(1);
    let alike = |purchases, model: &str| {
        let (model, choices) = (ModelId::from(model), choices.clone());
        UndecidedPurchases { purchases, model, pictures: 3, size, choices, inputs }
    };
    assert_eq!(undecided, [alike(2, "gpt-image-2"), alike(1, "other")]);
}

pub(super) async fn a_closed_journal_refuses_records(adapter: Adapter) {
    let job = job_record(1);
    let purchase = PurchaseId { job: job.id, slot: 0 };
    // Not awaited: the close writes what was appended before.
    let appended = adapter.journal.append(intent(job, &[1]));
    let journal = Arc::clone(&adapter.journal);
    let closing = journal.close();
    appended.await.unwrap();
    closing.await;
    journal.close().await;
    assert!(journal.append(committing(purchase)).await.is_err());
    drop(journal);
    let adapter = adapter.reopened_after(Duration::ZERO).await;
    assert_eq!(stored(&*adapter.journal, purchase.job).await.purchases[0].state, StoredState::Intent);
}

pub(super) async fn restored_pictures_replace_those_before_and_change_nothing_else(adapter: Adapter) {
    let journal = &*adapter.journal;
    let other = |text: &[u8], bytes: u64| StoredPicture { digest: Digest::of(text), bytes, ..picture() };
    let job = job_record(1);
    let [one, two] = [0, 1].map(|slot| PurchaseId { job: job.id, slot });
    let (upstream, poll_url) = (UpstreamId::new("abc").unwrap(), Some("/tasks/abc".to_owned()));
    let accepted = Record::Accepted { purchase: one, upstream, poll_url, at: NOW };
    let resolved = resolved(one, &[picture(), other(b"two", 5)]);
    let delivered = Record::Delivered { job: job.id, at: NOW };
    write(journal, [intent(job.clone(), &[2, 1]), committing(one), accepted, resolved, delivered]).await;
    let mut expected = stored(journal, job.id).await;
    assert_eq!(journal.stored_bytes().await.unwrap(), 12);

    let restored = vec![other(b"three", 9), other(b"two", 5)];
    adapter.pass(HOUR).await;
    write(journal, [Record::Restored { purchase: one, pictures: restored.clone() }]).await;
    let StoredState::Resolved { pictures, poll_url, .. } = &mut expected.purchases[0].state else { panic!() };
    assert_eq!(poll_url.as_deref(), Some("/tasks/abc"), "the address is kept after the end");
    *pictures = restored;
    assert_eq!(stored(journal, job.id).await, expected);
    assert_eq!(journal.stored_bytes().await.unwrap(), 14);
    write(journal, [Record::Evicted { job: job.id }]).await;
    write(journal, [Record::Restored { purchase: one, pictures: vec![picture()] }]).await;
    assert_eq!(journal.stored_bytes().await.unwrap(), 0, "an evicted job takes no space");

    let unresolved = Record::Restored { purchase: two, pictures: vec![picture()] };
    assert!(journal.append(unresolved).await.is_err());
    assert_eq!(journal.standing(), Standing::Fine);
}
