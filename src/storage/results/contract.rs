//! What holds of every store of pictures, tried on each adapter.

use std::io::{self, Write};
use std::path::Path;

use super::directory::PictureDirectory;
use super::memory::{MemoryPictures, PictureDisk};
use super::traits::PictureStore;
use crate::model::picture::read_full;
use crate::model::{Digest, RunningTime};

const SOON: RunningTime = RunningTime::from_millis(10_000);
const LATER: RunningTime = RunningTime::from_millis(86_400_123);

/// Runs a test on every adapter.
fn on_each(test: impl Fn(&dyn PictureStore)) {
    let directory = tempfile::tempdir().unwrap();
    test(&folder(directory.path()));
    test(&MemoryPictures::on(&PictureDisk::default(), true));
}

fn folder(path: &Path) -> PictureDirectory {
    let (pictures, orphans) = (path.join("results"), path.join("orphans"));
    std::fs::create_dir_all(&pictures).unwrap();
    std::fs::create_dir_all(&orphans).unwrap();
    PictureDirectory::open(&pictures, &orphans).unwrap()
}

fn keep(store: &dyn PictureStore, bytes: &[u8]) -> Digest {
    let mut file = store.create_temporary().unwrap();
    file.write_all(bytes).unwrap();
    let digest = Digest::of(bytes);
    store.keep(file, digest).unwrap();
    digest
}

fn bytes_of(store: &dyn PictureStore, digest: &Digest) -> io::Result<Vec<u8>> {
    let opened = store.open(digest)?;
    read_full(&*opened.source, 0, 1 << 20)
}

fn is_missing(store: &dyn PictureStore, digest: &Digest) -> bool {
    store.open(digest).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn pictures(store: &dyn PictureStore) -> Vec<Digest> {
    let mut found: Vec<Digest> = store.list().unwrap().map(Result::unwrap).collect();
    found.sort_by_key(|digest| *digest.as_bytes());
    found
}

fn orphans(store: &dyn PictureStore) -> Vec<(Digest, u64, RunningTime)> {
    store.orphans().unwrap().map(Result::unwrap).map(|orphan| (orphan.digest, orphan.bytes, orphan.since)).collect()
}

#[test]
fn a_picture_is_kept_read_listed_and_removed() {
    on_each(|store| {
        let (first, second) = (keep(store, b"one"), keep(store, b"other"));
        assert_eq!(bytes_of(store, &first).unwrap(), b"one");
        assert_eq!(store.open(&second).unwrap().source.size(), 5);
        let mut expected = vec![first, second];
        expected.sort_by_key(|digest| *digest.as_bytes());
        assert_eq!(pictures(store), expected);
        store.remove(&first).unwrap();
        store.remove(&first).unwrap();
        assert!(is_missing(store, &first));
        assert_eq!(pictures(store), [second]);
        assert!(!store.failed());
    });
}

#[test]
fn an_unfinished_picture_is_no_picture() {
    on_each(|store| {
        let mut file = store.create_temporary().unwrap();
        file.write_all(b"half").unwrap();
        assert!(pictures(store).is_empty());
        drop(file);
        assert!(pictures(store).is_empty());
    });
}

#[test]
fn a_picture_that_is_kept_again_is_another_version() {
    on_each(|store| {
        let digest = keep(store, b"one");
        let (before, again) = (store.open(&digest).unwrap(), store.open(&digest).unwrap());
        assert_eq!(before.version, again.version);
        keep(store, b"one");
        assert_ne!(before.version, store.open(&digest).unwrap().version);
        assert_eq!(read_full(&*before.source, 0, 10).unwrap(), b"one", "the one that was open can still be read");
        store.remove(&digest).unwrap();
        assert_eq!(read_full(&*before.source, 0, 10).unwrap(), b"one", "and after its removal");
    });
}

#[test]
fn an_orphan_is_no_picture_and_can_be_brought_back() {
    on_each(|store| {
        let (first, second) = (keep(store, b"one"), keep(store, b"other"));
        assert_eq!(store.set_aside(&first, SOON).unwrap(), Some(3));
        assert_eq!(store.set_aside(&first, LATER).unwrap(), None, "it is no picture any more");
        assert!(is_missing(store, &first));
        assert_eq!(pictures(store), [second]);
        assert_eq!(orphans(store), [(first, 3, SOON)]);
        store.date_orphan(&first, LATER).unwrap();
        assert_eq!(orphans(store), [(first, 3, LATER)]);
        assert!(store.bring_back(&first).unwrap());
        assert!(!store.bring_back(&first).unwrap(), "it is no orphan any more");
        assert!(orphans(store).is_empty());
        assert_eq!(bytes_of(store, &first).unwrap(), b"one");
    });
}

#[test]
fn an_orphan_replaces_no_picture() {
    on_each(|store| {
        let digest = keep(store, b"one");
        store.set_aside(&digest, SOON).unwrap();
        keep(store, b"one");
        let version = store.open(&digest).unwrap().version;
        assert!(!store.bring_back(&digest).unwrap());
        assert_eq!(store.open(&digest).unwrap().version, version);
        assert_eq!(orphans(store).len(), 1);
        store.remove_orphan(&digest).unwrap();
        store.remove_orphan(&digest).unwrap();
        assert!(orphans(store).is_empty());
        assert_eq!(bytes_of(store, &digest).unwrap(), b"one");
    });
}

#[test]
fn other_files_of_the_folders_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = folder(directory.path());
    for folder in ["results", "orphans"] {
        std::fs::write(directory.path().join(folder).join("README"), "no picture").unwrap();
    }
    assert!(pictures(&store).is_empty() && orphans(&store).is_empty());
}

#[test]
fn a_disk_in_memory_loses_what_was_not_synced_and_what_it_should() {
    let disk = PictureDisk::default();
    let (synced, unsynced) = (MemoryPictures::on(&disk, true), MemoryPictures::on(&disk, false));
    let (first, second) = (keep(&synced, b"one"), keep(&unsynced, b"other"));
    let broken = MemoryPictures::on(&disk, true);
    broken.break_disk();
    let third = keep(&broken, b"third");
    assert!(broken.failed());
    disk.cut_power();
    assert!(is_missing(&synced, &second) && is_missing(&synced, &third));
    let version = synced.open(&first).unwrap().version;
    assert!(disk.damage(&first));
    assert_ne!(bytes_of(&synced, &first).unwrap(), b"one");
    assert_ne!(synced.open(&first).unwrap().version, version);
    assert!(disk.lose(&first) && !disk.lose(&first) && !disk.damage(&first));
    assert!(is_missing(&synced, &first));
}
