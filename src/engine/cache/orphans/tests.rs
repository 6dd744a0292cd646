use super::*;
use crate::config::{Config, Environment};
use crate::model::{
    AccountId, ApiKind, Choices, ClientId, Fingerprint, Format, JobId, ModelId, PurchaseId, Size, StoredPicture, Task,
    Timestamp,
};
use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};
use crate::storage::journal::{JobRecord, Record};
use crate::storage::results::memory::{MemoryPictures, PictureDisk};
use crate::storage::{MemoryState, Results};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// The default of `storage.results_ttl_s`.
const TTL: Duration = Duration::from_hours(24);

/// What outlives the gateways that use it.
struct World {
    pictures: PictureDisk,
    state: LearnedState,
}

impl World {
    fn new() -> Self {
        Self { pictures: PictureDisk::default(), state: LearnedState::new(Arc::new(MemoryState::default())) }
    }

    /// Runs a gateway on a journal for a time.
    async fn run(&self, journal: &Disk, time: Duration) {
        let environment = Environment::from([("GPTPROTO_API_KEY".to_owned(), "sk-test".to_owned())]);
        let config = Config::load(None, &environment).unwrap();
        let results = Results::new(Box::new(MemoryPictures::on(&self.pictures, true)), 0, 0);
        let journal = Arc::new(journal_on(journal));
        let retention = OrphanRetention::new(journal, results.orphans(), self.state.clone(), &config.storage);
        assert!(tokio::time::timeout(time, retention.run()).await.is_err(), "it runs forever");
    }
}

fn journal_on(disk: &Disk) -> MemoryJournal {
    MemoryJournal::on(disk, Duration::from_millis(1), SyncMode::Full)
}

/// Appends a job of two purchases to a journal: one has a picture, the other is under way.
async fn buy(disk: &Disk, number: u128, digest: Digest) -> JobId {
    let journal = journal_on(disk);
    let record = JobRecord {
        id: JobId::new(NOW, number),
        client: ClientId("alice".into()),
        fingerprint: Fingerprint::from(Digest::of(b"request")),
        task: Task::Generate,
        model: ModelId::from("gpt-image-2".to_owned()),
        size: Size { width: 1024, height: 1024 },
        choices: Choices::default(),
        n: 2,
        inputs: 0,
        shareable: true,
        idempotency_key: None,
        respond_async: false,
        created: NOW,
        prompt: None,
    };
    let job = record.id;
    let [one, two] = [0, 1].map(|slot| PurchaseId { job, slot });
    let picture = StoredPicture { digest, bytes: 3, format: Format::Png, width: 1, height: 1 };
    let (account, format) = (AccountId("default".into()), "multipart".to_owned());
    for record in [
        Record::Intent { job: record, api_kind: ApiKind::Prediction, purchases: vec![(one, 1), (two, 1)] },
        Record::Committing { purchase: one, account, api_kind: ApiKind::Prediction, format, at: NOW },
        Record::Resolved {
            purchase: one,
            upstream: None,
            poll_url: None,
            pictures: vec![picture],
            contents: Vec::new(),
            usage: None,
            at: NOW,
        },
    ] {
        journal.append(record).await.unwrap();
    }
    job
}

const PICTURE: (bool, bool) = (true, false);
const ORPHAN: (bool, bool) = (false, true);
const GONE: (bool, bool) = (false, false);

#[tokio::test(start_paused = true)]
async fn what_the_journal_does_not_know_is_kept_as_long_as_a_result_and_then_deleted() {
    let (world, journal) = (World::new(), Disk::default());
    let (known, evicted, unknown) =
        (world.pictures.put(b"one"), world.pictures.put(b"two"), world.pictures.put(b"six"));
    buy(&journal, 1, known).await;
    let job = buy(&journal, 2, evicted).await;
    journal_on(&journal).append(Record::Evicted { job }).await.unwrap();
    // Ten starts: what counts is the time for which gateways ran, less at most one interval at each of them.
    for hour in 0..10 {
        world.run(&journal, 2 * HOUR).await;
        assert_eq!(world.pictures.has(&unknown), ORPHAN, "after {hour} runs of two hours");
        assert_eq!(world.pictures.has(&evicted), ORPHAN);
        tokio::time::sleep(30 * TTL).await;
    }
    world.run(&journal, 10 * MINUTE).await;
    assert_eq!(world.pictures.has(&unknown), ORPHAN, "20 hours, whatever the time between two runs");
    world.run(&journal, 6 * HOUR).await;
    assert_eq!(world.pictures.has(&unknown), GONE);
    assert_eq!(world.pictures.has(&evicted), GONE);
    assert_eq!(world.pictures.has(&known), PICTURE);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_put_back_gets_its_pictures_back() {
    let (world, right, older) = (World::new(), Disk::default(), Disk::default());
    let digest = world.pictures.put(b"one");
    buy(&right, 1, digest).await;
    world.run(&older, TTL / 2).await;
    assert_eq!(world.pictures.has(&digest), ORPHAN);
    world.run(&right, MINUTE).await;
    assert_eq!(world.pictures.has(&digest), PICTURE);
    world.run(&right, 2 * TTL).await;
    assert_eq!(world.pictures.has(&digest), PICTURE);
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_for_the_whole_time_again_when_their_age_was_lost() {
    let (mut world, journal) = (World::new(), Disk::default());
    world.run(&journal, 2 * TTL).await;
    let digest = world.pictures.put(b"one");
    world.run(&journal, MINUTE).await;
    world.state = LearnedState::new(Arc::new(MemoryState::default()));
    world.run(&journal, TTL.saturating_sub(MINUTE)).await;
    assert_eq!(world.pictures.has(&digest), ORPHAN);
    world.run(&journal, HOUR).await;
    assert_eq!(world.pictures.has(&digest), GONE);
}

#[tokio::test(start_paused = true)]
async fn more_pictures_than_a_page_are_compared() {
    let (world, journal) = (World::new(), Disk::default());
    let bytes: &'static [u8] = Box::leak(vec![1; 3 * PAGE].into_boxed_slice());
    let digests: Vec<Digest> = (1..=2 * PAGE + 1).map(|length| world.pictures.put(&bytes[..length])).collect();
    for (number, digest) in (1..).zip(digests.iter().step_by(100)) {
        buy(&journal, number, *digest).await;
    }
    world.run(&journal, MINUTE).await;
    for (index, digest) in digests.iter().enumerate() {
        let expected = if index % 100 == 0 { PICTURE } else { ORPHAN };
        assert_eq!(world.pictures.has(digest), expected, "picture {index}");
    }
}
