use super::*;
use crate::model::{
    ApiKind, Choices, ClientId, Digest, Fingerprint, Format, ModelId, PurchaseId, Size, StoredPicture, Task, Timestamp,
};
use crate::storage::journal::JobRecord;
use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// An eviction over a journal in memory and pictures of 100 bytes.
struct Sweeper {
    eviction: Eviction,
    directory: tempfile::TempDir,
}

impl Sweeper {
    fn new(results_bytes_max: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let eviction = Eviction {
            journal: Arc::new(MemoryJournal::on(&Disk::default(), Duration::ZERO, SyncMode::Full)),
            results: Results::open(directory.path(), 0, 0).unwrap(),
            waiters: WaiterCounts::default(),
            settings: EvictionSettings { cache_ttl: DAY, results_ttl: 2 * DAY, results_bytes_max, interval: DAY },
        };
        Self { eviction, directory }
    }

    fn picture(&self, content: &str) -> std::path::PathBuf {
        self.directory.path().join(Digest::of(content.as_bytes()).to_string())
    }

    /// Stores a result with one picture of this content.
    async fn store(&self, number: u128, content: &str, delivered: bool, shareable: bool) -> JobId {
        let job = JobId::new(NOW, number);
        let record = JobRecord {
            id: job,
            client: ClientId("alice".into()),
            fingerprint: Fingerprint::from(Digest::of(b"request")),
            task: Task::Edit,
            model: ModelId::from("gpt-image-2"),
            size: Size { width: 1, height: 1 },
            choices: Choices::default(),
            n: 1,
            inputs: 1,
            shareable,
            idempotency_key: None,
            respond_async: false,
            created: NOW,
            prompt: None,
        };
        let purchase = PurchaseId { job, slot: 0 };
        let digest = Digest::of(content.as_bytes());
        let picture = StoredPicture { digest, bytes: 100, format: Format::Png, width: 1, height: 1 };
        std::fs::write(self.picture(content), content).unwrap();
        let mut records = vec![
            Record::Intent { job: record, api_kind: ApiKind::Prediction, purchases: vec![(purchase, 1)] },
            Record::Resolved {
                purchase,
                upstream: None,
                poll_url: None,
                pictures: vec![picture],
                contents: Vec::new(),
                usage: None,
                at: NOW,
            },
        ];
        records.extend(delivered.then_some(Record::Delivered { job, at: NOW }));
        for record in records {
            self.eviction.journal.append(record).await.unwrap();
        }
        job
    }

    /// Sweeps, and returns which of these jobs are evicted.
    async fn sweep(&self, jobs: &[JobId]) -> Vec<bool> {
        self.eviction.sweep().await.unwrap();
        let mut evicted = Vec::new();
        for job in jobs {
            evicted.push(self.eviction.journal.job(*job).await.unwrap().unwrap().evicted);
        }
        evicted
    }
}

#[tokio::test(start_paused = true)]
async fn results_stay_until_they_expire_by_the_running_time() {
    let sweeper = Sweeper::new(u64::MAX);
    let jobs = [
        sweeper.store(1, "a", true, true).await,
        sweeper.store(2, "b", false, true).await,
        sweeper.store(3, "c", false, false).await,
        sweeper.store(4, "d", true, false).await,
    ];
    tokio::time::advance(59 * MINUTE).await;
    assert_eq!(sweeper.sweep(&jobs).await, [false; 4]);
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(sweeper.sweep(&jobs).await, [false, false, false, true], "not for later requests, and delivered");
    assert!(!sweeper.picture("d").exists() && sweeper.picture("a").exists());
    tokio::time::advance(46 * HOUR + 58 * MINUTE).await;
    assert_eq!(sweeper.sweep(&jobs).await, [false, false, false, true]);
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(sweeper.sweep(&jobs).await, [true; 4]);
    assert!(["a", "b", "c", "d"].iter().all(|content| !sweeper.picture(content).exists()));
}

#[tokio::test(start_paused = true)]
async fn the_byte_limit_evicts_the_oldest_delivered_results() {
    let sweeper = Sweeper::new(300);
    let mut jobs = vec![sweeper.store(9, "a", false, true).await];
    for (number, shareable) in [(8, true), (7, false), (6, true)] {
        tokio::time::advance(MINUTE).await;
        jobs.push(sweeper.store(number, &number.to_string(), true, shareable).await);
    }
    assert_eq!(sweeper.sweep(&jobs).await, [false, true, false, false]);
    assert_eq!(sweeper.sweep(&jobs).await, [false, true, false, false], "within the limit now");
    let sweeper = Sweeper {
        eviction: Eviction {
            settings: EvictionSettings { results_bytes_max: 0, ..sweeper.eviction.settings },
            ..sweeper.eviction
        },
        ..sweeper
    };
    let being_received = sweeper.eviction.waiters.add(jobs[2]);
    assert_eq!(sweeper.sweep(&jobs).await, [false, true, false, true], "the unclaimed result is no cache");
    drop(being_received);
    assert_eq!(sweeper.sweep(&jobs).await, [false, true, true, true]);
}

#[tokio::test(start_paused = true)]
async fn more_results_than_a_page_are_evicted_in_one_sweep() {
    let sweeper = Sweeper::new(100);
    let mut jobs = Vec::new();
    for number in 0..2 * PAGE as u128 + 5 {
        jobs.push(sweeper.store(number, &number.to_string(), true, number % 3 == 0).await);
    }
    let evicted = sweeper.sweep(&jobs).await;
    assert_eq!(evicted.iter().filter(|evicted| **evicted).count(), jobs.len() - 1);
    assert_eq!(evicted.last(), Some(&false), "the newest stays");
}

#[tokio::test(start_paused = true)]
async fn a_file_stays_while_another_job_has_the_same_picture() {
    let sweeper = Sweeper::new(u64::MAX);
    let private = sweeper.store(1, "same", true, false).await;
    let unclaimed = sweeper.store(2, "same", false, true).await;
    tokio::time::advance(HOUR * 2).await;
    assert_eq!(sweeper.sweep(&[private, unclaimed]).await, [true, false]);
    assert!(sweeper.picture("same").exists());
    tokio::time::advance(DAY * 2).await;
    assert_eq!(sweeper.sweep(&[private, unclaimed]).await, [true, true]);
    assert!(!sweeper.picture("same").exists());
}
