//! Pictures in memory, whose disk can lose what was not synced, and lose or damage single pictures. Compiled for tests only.

use std::collections::HashMap;
use std::io::{self, Read, Seek};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::traits::{Listing, OpenPicture, Orphan, PictureStore, Version};
use crate::model::{Digest, RunningTime};

/// The pictures on a disk. Outlives the gateways that write to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PictureDisk {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    pictures: HashMap<Digest, Stored>,
    orphans: HashMap<Digest, (Bytes, RunningTime)>,
    writes: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    bytes: Bytes,
    synced: bool,
    /// The number of the write that made it.
    write: u64,
}

impl PictureDisk {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a synced picture there.
    pub(crate) fn put(&self, bytes: &'static [u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut contents = self.lock();
        contents.writes += 1;
        let stored = Stored { bytes: Bytes::from_static(bytes), synced: true, write: contents.writes };
        contents.pictures.insert(digest, stored);
        digest
    }

    /// Returns whether there is such a picture, and whether there is such an orphan.
    pub(crate) fn has(&self, digest: &Digest) -> (bool, bool) {
        let contents = self.lock();
        (contents.pictures.contains_key(digest), contents.orphans.contains_key(digest))
    }

    /// Loses the pictures that were not synced, as a power cut does.
    pub(crate) fn cut_power(&self) {
        self.lock().pictures.retain(|_, stored| stored.synced);
    }

    /// Loses a picture; returns whether there was one.
    pub(crate) fn lose(&self, digest: &Digest) -> bool {
        self.lock().pictures.remove(digest).is_some()
    }

    /// Changes a byte in the middle of a picture; returns whether there was one.
    pub(crate) fn damage(&self, digest: &Digest) -> bool {
        let mut contents = self.lock();
        contents.writes += 1;
        let write = contents.writes;
        let Some(stored) = contents.pictures.get_mut(digest) else { return false };
        let mut bytes = stored.bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        (stored.bytes, stored.write) = (bytes.into(), write);
        true
    }
}

/// One gateway's view of a disk with pictures.
#[derive(Debug)]
pub(crate) struct MemoryPictures {
    disk: PictureDisk,
    /// Whether a picture is synced when it is kept.
    syncs: bool,
    failed: AtomicBool,
}

impl MemoryPictures {
    pub(crate) fn on(disk: &PictureDisk, syncs: bool) -> Self {
        Self { disk: disk.clone(), syncs, failed: AtomicBool::new(false) }
    }

    /// Makes every sync from now on fail.
    pub(crate) fn break_disk(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl PictureStore for MemoryPictures {
    fn create_temporary(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new()
    }

    fn keep(&self, mut file: NamedTempFile, digest: Digest) -> io::Result<()> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        let mut contents = self.disk.lock();
        contents.writes += 1;
        let synced = self.syncs && !self.failed();
        let stored = Stored { bytes: bytes.into(), synced, write: contents.writes };
        contents.pictures.insert(digest, stored);
        Ok(())
    }

    fn mark_recorded(&self) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, digest: &Digest) -> io::Result<OpenPicture> {
        let stored = self.disk.lock().pictures.get(digest).cloned().ok_or_else(not_found)?;
        let bytes = stored.bytes.len() as u64;
        let version = Version { file: (0, stored.write), bytes, modified: (0, 0), changed: (0, 0) };
        Ok(OpenPicture { source: Arc::new(stored.bytes), version })
    }

    fn remove(&self, digest: &Digest) -> io::Result<()> {
        self.disk.lock().pictures.remove(digest);
        Ok(())
    }

    fn list(&self) -> io::Result<Listing<Digest>> {
        let mut digests: Vec<Digest> = self.disk.lock().pictures.keys().copied().collect();
        digests.sort_by_key(|digest| *digest.as_bytes());
        Ok(Box::new(digests.into_iter().map(Ok)))
    }

    fn set_aside(&self, digest: &Digest, at: RunningTime) -> io::Result<Option<u64>> {
        let mut contents = self.disk.lock();
        let Some(stored) = contents.pictures.remove(digest) else { return Ok(None) };
        let bytes = stored.bytes.len() as u64;
        contents.orphans.insert(*digest, (stored.bytes, at));
        Ok(Some(bytes))
    }

    fn bring_back(&self, digest: &Digest) -> io::Result<bool> {
        let mut contents = self.disk.lock();
        if contents.pictures.contains_key(digest) {
            return Ok(false);
        }
        let Some((bytes, _)) = contents.orphans.remove(digest) else { return Ok(false) };
        contents.writes += 1;
        let stored = Stored { bytes, synced: true, write: contents.writes };
        contents.pictures.insert(*digest, stored);
        Ok(true)
    }

    fn orphans(&self) -> io::Result<Listing<Orphan>> {
        let contents = self.disk.lock();
        let orphans = contents.orphans.iter().map(|(digest, (bytes, since))| Orphan {
            digest: *digest,
            bytes: bytes.len() as u64,
            since: *since,
        });
        let mut orphans: Vec<Orphan> = orphans.collect();
        orphans.sort_by_key(|orphan| *orphan.digest.as_bytes());
        Ok(Box::new(orphans.into_iter().map(Ok)))
    }

    fn date_orphan(&self, digest: &Digest, at: RunningTime) -> io::Result<()> {
        let mut contents = self.disk.lock();
        contents.orphans.get_mut(digest).ok_or_else(not_found)?.1 = at;
        Ok(())
    }

    fn remove_orphan(&self, digest: &Digest) -> io::Result<()> {
        self.disk.lock().orphans.remove(digest);
        Ok(())
    }

    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}
