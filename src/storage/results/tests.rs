use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64_simd::STANDARD;
use bytes::Bytes;

use super::*;
use crate::model::picture::{InvalidPicture, read_full};
use crate::model::{
    ApiKind, Choices, ClientId, Digest, Fingerprint, Format, JobId, ModelId, PurchaseId, RunningTime, Size,
    StoredPicture, Task, Timestamp,
};
use crate::storage::Journal;
use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};
use crate::storage::journal::{JobRecord, PictureBytes, Record};

fn png() -> Bytes {
    let mut bytes = io::Cursor::new(Vec::new());
    image::RgbImage::new(30, 20).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

async fn store(results: &Results, bytes: Bytes) -> Result<StoredPicture, ResultsError> {
    let mut writer = results.write(1 << 20);
    for chunk in bytes.chunks(50) {
        writer.push(Bytes::copy_from_slice(chunk)).await?;
    }
    writer.finish().await
}

#[tokio::test]
async fn a_complete_picture_is_stored_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
    let picture = store(&results, png()).await.unwrap();
    assert_eq!((picture.format, picture.width, picture.height), (Format::Png, 30, 20));
    for in_memory in [1 << 20, 0] {
        let results = Results::open(directory.path(), 1 << 20, in_memory).unwrap();
        let source = results.read(&picture).await.unwrap();
        assert_eq!(read_full(&*source, 0, 1 << 20).unwrap(), png());
        let text = STANDARD.encode_to_string(png());
        assert_eq!(source.base64(), (in_memory > 0).then(|| Bytes::from(text)));
        for offset in 0..10 {
            for size in 0..10 {
                let found = read_full(&*source, offset, size).unwrap();
                assert_eq!(found, png()[usize::try_from(offset).unwrap()..][..size], "{size} at {offset}");
            }
        }
        let end = png().len() as u64;
        assert_eq!(read_full(&*source, end - 2, 10).unwrap(), png()[png().len() - 2..]);
        assert!(read_full(&*source, end + 5, 10).unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_incomplete_picture_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
    let cut = png().slice(..png().len() - 1);
    assert!(matches!(store(&results, cut).await, Err(ResultsError::InvalidPicture(InvalidPicture::Damaged(_)))));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// A name, and what is done to a file.
type Damage = (&'static str, fn(&Path));

/// Changes one byte of a stored picture.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[25] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_not_read_whatever_its_size() {
    for in_memory in [1 << 20, 0] {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20, in_memory).unwrap();
        let picture = store(&results, png()).await.unwrap();
        let path = directory.path().join(picture.digest.to_string());
        let damages: [Damage; 4] = [
            ("a byte", flip),
            ("cut", |path| fs::write(path, &png()[..20]).unwrap()),
            ("longer", |path| fs::write(path, [&png()[..], b"\n"].concat()).unwrap()),
            ("gone", |path| fs::remove_file(path).unwrap()),
        ];
        for (damage, make) in damages {
            fs::write(&path, png()).unwrap();
            // Reopened, because the first store has the picture in memory.
            let results = Results::open(directory.path(), 1 << 20, in_memory).unwrap();
            assert!(results.read(&picture).await.is_ok(), "{damage}");
            make(&path);
            let results = Results::open(directory.path(), 1 << 20, in_memory).unwrap();
            assert!(results.read(&picture).await.is_err(), "{damage}, memory for {in_memory} bytes");
        }
    }
}

#[tokio::test]
async fn a_file_that_was_right_is_hashed_once_until_it_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let picture = store(&results, png()).await.unwrap();
    for _ in 0..3 {
        results.read(&picture).await.unwrap();
    }
    assert_eq!(results.hashed(), 1);
    let path = directory.path().join(picture.digest.to_string());
    fs::write(&path, png()).unwrap();
    results.read(&picture).await.unwrap();
    assert_eq!(results.hashed(), 2, "the file was written again");
    flip(&path);
    for count in [3, 4] {
        assert!(results.read(&picture).await.is_err());
        assert_eq!(results.hashed(), count, "what was wrong is not remembered");
    }
}

#[tokio::test]
async fn a_file_that_is_changed_while_it_is_sent_ends_the_reading() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let picture = store(&results, png()).await.unwrap();
    let path = directory.path().join(picture.digest.to_string());
    for change in [flip as fn(&Path), |path| fs::write(path, &png()[..20]).unwrap()] {
        fs::write(&path, png()).unwrap();
        let source = results.read(&picture).await.unwrap();
        assert_eq!(read_full(&*source, 0, 10).unwrap(), png()[..10]);
        change(&path);
        assert!(read_full(&*source, 10, 30).is_err());
    }
    // An eviction, which removes only the name.
    fs::write(&path, png()).unwrap();
    let source = results.read(&picture).await.unwrap();
    results.on_recorded(&picture.digest);
    let journal = MemoryJournal::on(&Disk::default(), Duration::ZERO, SyncMode::Full);
    let removed = results.remove_unused(&journal, [picture.digest].into()).await.unwrap();
    assert!(matches!(removed, (1, None)));
    assert_eq!(read_full(&*source, 0, 1 << 20).unwrap(), png());
}

#[tokio::test]
async fn an_orphan_is_read_as_a_picture_again() {
    let directory = tempfile::tempdir().unwrap();
    let picture = store(&Results::open(directory.path(), 0, 0).unwrap(), png()).await.unwrap();
    for in_memory in [1 << 20, 0] {
        let results = Results::open(directory.path(), 1 << 20, in_memory).unwrap();
        assert_eq!(results.orphans().set_aside(vec![picture.digest], RunningTime::default()).await.unwrap(), 1);
        assert_eq!(results.orphans().count(), (1, picture.bytes));
        assert_eq!(read_full(&*results.read(&picture).await.unwrap(), 0, 1 << 20).unwrap(), png());
        assert!(results.orphans().all().await.unwrap().is_empty());
        assert_eq!(results.orphans().count(), (0, 0));
    }
}

#[tokio::test]
async fn what_was_written_since_the_start_is_not_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let picture = store(&results, png()).await.unwrap();
    let set_aside = async |results: &Results| {
        results.orphans().set_aside(vec![picture.digest], RunningTime::default()).await.unwrap()
    };
    assert_eq!(set_aside(&results).await, 0);
    let restarted = Results::open(directory.path(), 0, 0).unwrap();
    restarted.orphans().end_setting_aside();
    assert_eq!(set_aside(&restarted).await, 0, "nor when the comparison has ended");
    assert_eq!(set_aside(&Results::open(directory.path(), 0, 0).unwrap()).await, 1);
}

/// Prints what the check costs: `cargo test --lib cost_of_the_digest -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_the_digest() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let bytes = vec![7; 100 << 20];
    let digest = crate::model::Digest::of(&bytes);
    fs::write(directory.path().join(digest.to_string()), &bytes).unwrap();
    let (format, size) = (Format::Png, bytes.len() as u64);
    let picture = StoredPicture { digest, bytes: size, format, width: 1, height: 1 };
    for what in ["first", "remembered"] {
        let started = std::time::Instant::now();
        results.read(&picture).await.unwrap();
        let taken = started.elapsed();
        let (millis, rate) = (taken.as_secs_f64() * 1e3, 104.86 / taken.as_secs_f64());
        println!("{what} read of 100 MiB: {millis:.1} ms, {rate:.0} MB/s");
    }
}

/// Two jobs have made the same picture. One of them is deleted while the other is about to be recorded.
#[tokio::test]
async fn a_picture_that_is_about_to_be_recorded_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let journal = MemoryJournal::on(&Disk::default(), Duration::ZERO, SyncMode::Full);
    let remove =
        async |picture: StoredPicture| results.remove_unused(&journal, [picture.digest].into()).await.unwrap().0;
    let picture = store(&results, png()).await.unwrap();
    assert_eq!(remove(picture).await, 0, "its record is not durable");
    store(&results, png()).await.unwrap();
    results.on_recorded(&picture.digest);
    assert_eq!(remove(picture).await, 0, "nor is that of the second");
    assert!(results.read(&picture).await.is_ok());
    // The journal is asked before the second is recorded, and the picture removed after it.
    let keeps = results.pictures.keeps();
    store(&results, png()).await.unwrap();
    results.on_recorded(&picture.digest);
    results.on_recorded(&picture.digest);
    assert!(!results.pictures.remove(&picture.digest, keeps).unwrap());
    assert!(results.read(&picture).await.is_ok());
    assert_eq!(remove(picture).await, 1);
    assert!(results.read(&picture).await.is_err());
}

#[tokio::test]
async fn temporary_files_are_removed_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("half.tmp"), b"half").unwrap();
    Results::open(directory.path(), 1, 1).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn large_and_small_pictures_are_stored_alike() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let mut bytes = io::Cursor::new(Vec::new());
    let noise = image::RgbImage::from_fn(500, 500, |x, y| {
        let [one, two, three, _] = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761).to_le_bytes();
        image::Rgb([one, two, three])
    });
    noise.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let large = Bytes::from(bytes.into_inner());
    assert!(large.len() > 300 * 1024, "more than is gathered in memory");
    for picture in [large, png()] {
        let mut writer = results.write(1 << 30);
        for chunk in picture.chunks(10_000) {
            writer.push(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let stored = writer.finish().await.unwrap();
        let source = results.read(&stored).await.unwrap();
        assert_eq!(read_full(&*source, 0, picture.len() + 1).unwrap(), picture);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
}

#[tokio::test]
async fn a_picture_above_the_limit_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let results = Results::open(directory.path(), 0, 0).unwrap();
    let mut writer = results.write(10);
    assert!(matches!(writer.push(png()).await, Err(ResultsError::TooLarge { bytes_max: 10 })));
}

/// Pictures of a folder, of which those up to a size are stored in a journal, on a disk of its own.
struct Recorded {
    directory: tempfile::TempDir,
    disk: Disk,
    journal: MemoryJournal,
    results: Results,
}

impl Recorded {
    fn up_to(bytes_max: u64) -> Self {
        let (directory, disk) = (tempfile::tempdir().unwrap(), Disk::default());
        let journal = MemoryJournal::on(&disk, std::time::Duration::ZERO, SyncMode::Full);
        let results = Results::open(directory.path(), 0, 0).unwrap();
        let results = results.recording_in(Arc::new(journal.clone()), bytes_max);
        Self { directory, disk, journal, results }
    }

    async fn store(&self, bytes: Bytes) -> Result<(StoredPicture, Option<PictureBytes>), ResultsError> {
        let mut writer = self.results.write(1 << 20);
        writer.push(bytes).await?;
        writer.finish_for_record().await
    }

    /// Journals a job with this picture; returns its id.
    async fn resolve(&self, number: u128, picture: StoredPicture, content: Option<PictureBytes>) -> JobId {
        let (at, contents) = (Timestamp::from_millis(1_790_000_000_000), content.into_iter().collect());
        let job = JobRecord {
            id: JobId::new(at, number),
            client: ClientId("alice".into()),
            fingerprint: Fingerprint::from(Digest::of(b"request")),
            task: Task::Edit,
            model: ModelId::from("gpt-image-2"),
            size: Size { width: 1024, height: 1024 },
            choices: Choices::default(),
            n: 1,
            inputs: 1,
            shareable: true,
            idempotency_key: None,
            respond_async: false,
            created: at,
            prompt: None,
        };
        let (id, purchase) = (job.id, PurchaseId { job: job.id, slot: 0 });
        let intent = Record::Intent { job, api_kind: ApiKind::Prediction, purchases: vec![(purchase, 1)] };
        let (upstream, poll_url, pictures, usage) = (None, None, vec![picture], None);
        let resolved = Record::Resolved { purchase, upstream, poll_url, pictures, contents, usage, at };
        for record in [intent, resolved] {
            self.journal.append(record).await.unwrap();
        }
        self.results.on_recorded(&picture.digest);
        id
    }

    async fn read(&self, picture: &StoredPicture) -> io::Result<Vec<u8>> {
        read_full(&*self.results.read(picture).await?, 0, 1 << 20)
    }

    fn files(&self) -> usize {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().len() == 64).count()
    }
}

#[tokio::test]
async fn a_small_picture_is_stored_with_its_record_and_removed_with_it() {
    let recorded = Recorded::up_to(1000);
    let (picture, content) = recorded.store(png()).await.unwrap();
    assert_eq!((picture.digest, recorded.files()), (Digest::of(&png()), 0));
    assert_eq!(recorded.read(&picture).await.unwrap(), png(), "before its record is durable");
    let job = recorded.resolve(1, picture, content).await;
    assert_eq!(recorded.read(&picture).await.unwrap(), png());
    recorded.journal.append(Record::Evicted { job }).await.unwrap();
    assert_eq!(recorded.read(&picture).await.unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_picture_that_is_too_large_or_finds_the_journal_away_is_a_file() {
    let recorded = Recorded::up_to(png().len() as u64 - 1);
    let (picture, content) = recorded.store(png()).await.unwrap();
    assert!(content.is_none() && recorded.files() == 1);
    assert_eq!(recorded.read(&picture).await.unwrap(), png());

    let recorded = Recorded::up_to(1000);
    recorded.journal.set_away(true);
    let (picture, content) = recorded.store(png()).await.unwrap();
    assert!(content.is_none() && recorded.files() == 1);
    assert_eq!(recorded.read(&picture).await.unwrap(), png());
}

#[tokio::test]
async fn pictures_on_their_way_to_the_journal_take_bounded_memory() {
    let recorded = Recorded::up_to(u64::MAX);
    // Noise behind the picture, which every decoder takes.
    let large: Bytes = [&png()[..], &vec![7; 200_000][..]].concat().into();
    let mut contents = Vec::new();
    while recorded.files() == 0 {
        contents.extend(recorded.store(large.clone()).await.unwrap().1);
        assert!(contents.len() < 100, "16 MB");
    }
    assert!(contents.len() > 50);
    contents.pop();
    assert!(recorded.store(large).await.unwrap().1.is_some(), "there is room again");
}

#[tokio::test]
async fn an_incomplete_small_picture_is_refused() {
    let recorded = Recorded::up_to(1000);
    let cut = png().slice(..png().len() - 1);
    assert!(matches!(recorded.store(cut).await, Err(ResultsError::InvalidPicture(InvalidPicture::Damaged(_)))));
    assert_eq!(recorded.files(), 0);
}

#[tokio::test]
async fn of_a_picture_damaged_in_the_journal_another_copy_or_a_file_is_read() {
    let recorded = Recorded::up_to(1000);
    let (picture, content) = recorded.store(png()).await.unwrap();
    recorded.resolve(1, picture, content).await;
    assert!(recorded.disk.damage(&picture.digest));
    assert_eq!(recorded.read(&picture).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    let (picture, content) = recorded.store(png()).await.unwrap();
    recorded.resolve(2, picture, content).await;
    assert_eq!(recorded.read(&picture).await.unwrap(), png(), "the copy of the second job");
    assert!(recorded.disk.damage(&picture.digest));
    assert!(recorded.read(&picture).await.is_err());
    store(&recorded.results, png()).await.unwrap();
    assert_eq!(recorded.read(&picture).await.unwrap(), png(), "fetched again, as a file");
}
