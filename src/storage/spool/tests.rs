use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::space::PAGE_BYTES;
use super::*;
use crate::model::picture::read_full;
use crate::model::{ByteSource, Digest};

const LIMITS: SpoolLimits = SpoolLimits {
    part_memory_bytes: 1000,
    memory_bytes_max: 1 << 20,
    bytes_max: 1 << 20,
    wait: Duration::from_secs(5),
    waiters_max: 2,
};

fn spool(limits: SpoolLimits) -> (TempDir, Spool) {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::new(directory.path().to_owned(), limits);
    (directory, spool)
}

fn content(size: usize, seed: usize) -> Vec<u8> {
    (seed..seed + size).map(|i| (i * 7 / 3).to_le_bytes()[0]).collect()
}

async fn part(upload: &mut Upload, bytes: &[u8], chunk: usize) -> Arc<dyn ByteSource> {
    let mut writer = upload.picture(u64::MAX);
    for chunk in bytes.chunks(chunk) {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    let (picture, source) = writer.finish().await.unwrap();
    assert_eq!((picture.digest, picture.bytes), (Digest::of(bytes), bytes.len() as u64));
    source
}

fn all(source: &Arc<dyn ByteSource>) -> Vec<u8> {
    let size = usize::try_from(source.size()).unwrap();
    // More than there is: other parts follow in the file.
    read_full(&**source, 0, size + 100).unwrap()
}

/// Asserts the number of open files of a spool. They have no name; Linux reports the directory they were created in.
#[cfg(target_os = "linux")]
fn assert_descriptors(directory: &TempDir, expected: usize) {
    let parent = directory.path().to_str().unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let count = open
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|to| to.to_str().unwrap().starts_with(parent))
        .count();
    assert_eq!(count, expected, "descriptors");
}

/// Elsewhere the directory of an open file is not known.
#[cfg(not(target_os = "linux"))]
fn assert_descriptors(_: &TempDir, _: usize) {}

#[tokio::test]
async fn parts_of_every_size_read_back_the_same_from_one_file() {
    let sizes = [0, 1, 999, 1000, 1001, 50_000, 128 * 1024, 128 * 1024 + 1, 300_000, 3];
    for chunk in [1, 700, 60_000, usize::MAX] {
        let (directory, spool) = spool(LIMITS);
        let mut upload = spool.upload(None).await.unwrap();
        let mut parts = Vec::new();
        for (seed, size) in sizes.into_iter().enumerate().filter(|&(_, size)| chunk > 1 || size < 2000) {
            let bytes = content(size, seed);
            let source = part(&mut upload, &bytes, chunk).await;
            assert_eq!(source.in_memory().is_some(), size <= 1000, "{size} by {chunk}");
            parts.push((bytes, source));
        }
        for (bytes, source) in &parts {
            assert_eq!(&all(source), bytes, "{} by {chunk}", bytes.len());
        }
        assert_descriptors(&directory, 1);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no part has a name");
        let held: usize = parts.iter().map(|(bytes, _)| bytes.len()).sum();
        drop(upload);
        let SpoolStatus { bytes, reserved, memory_bytes, .. } = spool.status();
        assert_eq!(bytes, held as u64);
        assert_eq!(reserved, (held as u64).next_multiple_of(PAGE_BYTES));
        assert!(memory_bytes <= 4 * 1000, "{memory_bytes}: buffers are released");
        drop(parts);
        let SpoolStatus { bytes, reserved, memory_bytes, .. } = spool.status();
        assert_eq!((bytes, reserved, memory_bytes), (0, 0, 0), "everything is released");
        assert_descriptors(&directory, 0);
    }
}

#[tokio::test]
async fn blocking_writes_store_the_same_bytes() {
    let (_directory, spool) = spool(LIMITS);
    let mut upload = spool.upload(None).await.unwrap();
    for size in [0, 1000, 1001, 300_000] {
        let bytes = content(size, size);
        let mut writer = upload.picture(u64::MAX);
        for chunk in bytes.chunks(50_000) {
            writer.write_blocking(chunk).unwrap();
        }
        let (picture, source) = writer.finish_blocking().unwrap();
        assert_eq!((picture.digest, all(&source)), (Digest::of(&bytes), bytes));
    }
    let mut writer = upload.text(u64::MAX);
    writer.write(Bytes::from(vec![b'x'; 5000])).await.unwrap();
    assert_eq!(all(&writer.finish().await.unwrap()), vec![b'x'; 5000]);
}

#[tokio::test]
async fn a_part_in_memory_is_hashed_as_it_arrives_and_once() {
    let (directory, spool) = spool(LIMITS);
    let mut upload = spool.upload(None).await.unwrap();
    // The part outgrows its memory with the last chunk: what was hashed is written and not hashed again.
    for size in [1000, 1001, 1300] {
        let bytes = content(size, size);
        let mut writer = upload.picture(u64::MAX);
        for chunk in bytes.chunks(300) {
            writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        let (picture, source) = writer.finish().await.unwrap();
        assert_eq!((picture.digest, all(&source)), (Digest::of(&bytes), bytes.clone()), "{size}");
        let mut writer = upload.picture(u64::MAX);
        bytes.chunks(300).for_each(|chunk| writer.write_blocking(chunk).unwrap());
        let (picture, source) = writer.finish_blocking().unwrap();
        assert_eq!((picture.digest, all(&source)), (Digest::of(&bytes), bytes), "{size}");
    }
    assert_descriptors(&directory, 1);
}

#[tokio::test]
async fn a_large_buffer_is_released_once_its_part_is_in_the_file() {
    let limits = SpoolLimits { part_memory_bytes: 1 << 21, memory_bytes_max: 1 << 23, bytes_max: 1 << 24, ..LIMITS };
    let (_directory, spool) = spool(limits);
    let mut upload = spool.upload(None).await.unwrap();
    let mut writer = upload.picture(u64::MAX);
    for _ in 0..40 {
        writer.write(Bytes::from(vec![7; 1 << 17])).await.unwrap();
    }
    let held = spool.status().memory_bytes;
    assert!(held <= 1 << 20, "two buffers of one write each: {held}");
    let (picture, _) = writer.finish().await.unwrap();
    assert_eq!(picture.digest, Digest::of(&vec![7; 40 << 17]));
}

#[tokio::test]
async fn parts_beyond_the_memory_limit_go_to_the_file() {
    let (directory, spool) = spool(SpoolLimits { memory_bytes_max: 3000, ..LIMITS });
    let mut uploads = Vec::new();
    for seed in 0..20 {
        let mut upload = spool.upload(None).await.unwrap();
        let bytes = content(900, seed);
        let source = part(&mut upload, &bytes, 300).await;
        assert_eq!(all(&source), bytes);
        assert!(spool.status().memory_bytes <= 3000);
        uploads.push(source);
    }
    assert_eq!(uploads.iter().filter(|source| source.in_memory().is_some()).count(), 3);
    assert_descriptors(&directory, 17);
}

#[tokio::test]
async fn limits_hold_while_bytes_arrive() {
    let (_directory, spool) = spool(SpoolLimits { bytes_max: 100 * PAGE_BYTES, ..LIMITS });
    let mut one = spool.upload(None).await.unwrap();
    let mut writer = one.picture(1500);
    writer.write(Bytes::from(vec![0; 1500])).await.unwrap();
    let refused = writer.write(Bytes::from_static(b"x")).await;
    assert!(matches!(refused, Err(SpoolError::PartTooLarge { bytes_max: 1500 })));
    drop(writer);
    let mut other = spool.upload(None).await.unwrap();
    let mut writer = other.picture(u64::MAX);
    let page = || Bytes::from(vec![0; usize::try_from(PAGE_BYTES).unwrap()]);
    let mut pages = 0;
    let refused = loop {
        match writer.write(page()).await {
            Ok(()) => pages += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SpoolError::Full { .. }), "{refused}");
    assert!((36..100).contains(&pages), "{pages}: the other upload has reserved some in advance");
    drop(one);
    writer.write(page()).await.unwrap();
    assert_eq!(spool.status().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn uploads_of_known_length_wait_for_space_in_turn() {
    let (_directory, spool) = spool(SpoolLimits { bytes_max: 100 * PAGE_BYTES, ..LIMITS });
    assert!(matches!(spool.upload(Some(101 * PAGE_BYTES)).await, Err(SpoolError::NeverFits { .. })));
    let first = spool.upload(Some(60 * PAGE_BYTES)).await.unwrap();
    assert_eq!(spool.status().reserved, 60 * PAGE_BYTES, "before a byte of it is there");
    let mut large = std::pin::pin!(spool.upload(Some(90 * PAGE_BYTES)));
    assert!(futures_util::poll!(&mut large).is_pending());
    let mut small = std::pin::pin!(spool.upload(Some(10 * PAGE_BYTES)));
    assert!(futures_util::poll!(&mut small).is_pending());
    assert_eq!(spool.status().waiting, 2, "a small upload does not overtake a large one");
    assert!(matches!(spool.upload(Some(50 * PAGE_BYTES)).await, Err(SpoolError::Full { .. })), "two may wait");
    drop(first);
    assert!(futures_util::poll!(&mut small).is_ready(), "there is space for both");
    drop(large.await.unwrap());

    let mut greedy = spool.upload(Some(60 * PAGE_BYTES)).await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(matches!(spool.upload(Some(50 * PAGE_BYTES)).await, Err(SpoolError::Full { .. })));
    assert_eq!(began.elapsed(), LIMITS.wait);
    let source = part(&mut greedy, b"small after all", 100).await;
    drop(greedy);
    assert_eq!(spool.status().reserved, PAGE_BYTES, "unused space is released");
    drop(spool.upload(Some(99 * PAGE_BYTES)).await.unwrap());
    drop(source);
    let SpoolStatus { reserved, waiting, refused, .. } = spool.status();
    assert_eq!((reserved, waiting, refused), (0, 0, 2));
}

#[tokio::test]
async fn a_cancelled_wait_reserves_nothing() {
    let (_directory, spool) = spool(SpoolLimits { bytes_max: 100 * PAGE_BYTES, ..LIMITS });
    let first = spool.upload(Some(60 * PAGE_BYTES)).await.unwrap();
    {
        let waiting = std::pin::pin!(spool.upload(Some(90 * PAGE_BYTES)));
        assert!(futures_util::poll!(waiting).is_pending());
    }
    assert_eq!((spool.status().waiting, spool.status().reserved), (0, 60 * PAGE_BYTES));
    drop(first);
    drop(spool.upload(Some(100 * PAGE_BYTES)).await.unwrap());
}

#[tokio::test]
async fn the_two_halves_of_a_split_upload_are_released_separately() {
    let (directory, spool) = spool(LIMITS);
    let mut upload = spool.upload(Some(30 * PAGE_BYTES)).await.unwrap();
    let mut body = upload.split(10 * PAGE_BYTES);
    let mut writer = body.text(u64::MAX);
    writer.write(Bytes::from(vec![1; 2000])).await.unwrap();
    let text = writer.finish().await.unwrap();
    drop(body);
    assert_eq!(spool.status().reserved, 21 * PAGE_BYTES);
    let picture = part(&mut upload, &content(2000, 1), 500).await;
    assert_descriptors(&directory, 2);
    drop(text);
    assert_eq!(spool.status().reserved, 20 * PAGE_BYTES);
    assert_descriptors(&directory, 1);
    drop(upload);
    assert_eq!(spool.status().reserved, PAGE_BYTES);
    drop(picture);
    assert_eq!(spool.status().reserved, 0);
}
