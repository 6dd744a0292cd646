//! The store of bought pictures. Two jobs with equal bytes share one file.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use super::orphans::OrphanStore;
use super::shared::SharedPictures;
use super::sources::checked::{DigestChecker, other_bytes};
use super::sources::read_cache::ReadCache;
use super::sources::recorded::RecordedPictures;
use super::traits::{OpenPicture, PictureStore};
use super::writer::PictureWriter;
use crate::model::picture::read_full;
use crate::model::{ByteSource, Digest, StoredPicture};
use crate::storage::descriptors::{blocking, blocking_with_descriptor};
use crate::storage::{Journal, JournalError};

/// The store of bought pictures. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    pub(super) pictures: Arc<SharedPictures>,
    memory: ReadCache,
    checker: DigestChecker,
    /// `None` where every picture is a file.
    recorded: Option<RecordedPictures>,
}

impl Results {
    /// Returns the store of pictures in `store`, with a read cache of `memory_bytes_max` bytes for pictures of at most
    /// `memory_picture_bytes_max` bytes.
    pub(crate) fn new(store: Box<dyn PictureStore>, memory_bytes_max: u64, memory_picture_bytes_max: u64) -> Self {
        Self {
            pictures: Arc::new(SharedPictures::new(store)),
            memory: ReadCache::new(memory_bytes_max, memory_picture_bytes_max),
            checker: DigestChecker::new(),
            recorded: None,
        }
    }

    /// Returns the store with pictures of at most `bytes_max` bytes in this journal, with their records.
    pub(crate) fn recording_in(self, journal: Arc<dyn Journal>, bytes_max: u64) -> Self {
        Self { recorded: Some(RecordedPictures::new(journal, bytes_max)), ..self }
    }

    /// Opens the pictures of a folder, with their orphans in a folder beside it.
    #[cfg(test)]
    pub(crate) fn open(
        folder: &std::path::Path,
        memory_bytes_max: u64,
        memory_picture_bytes_max: u64,
    ) -> io::Result<Self> {
        let orphans = folder.with_extension("orphans");
        std::fs::create_dir_all(&orphans)?;
        let store = super::directory::PictureDirectory::open(folder, &orphans)?;
        Ok(Self::new(Box::new(store), memory_bytes_max, memory_picture_bytes_max))
    }

    /// Returns whether a sync has failed since the start. Pictures are still stored and read, but may not survive, so no
    /// record may say that they are stored.
    pub(crate) fn failed(&self) -> bool {
        self.pictures.store.failed()
    }

    /// Begins a picture of at most `bytes_max` bytes.
    pub(crate) fn write(&self, bytes_max: u64) -> PictureWriter {
        PictureWriter::new(Arc::clone(&self.pictures), self.memory.clone(), self.recorded.clone(), bytes_max)
    }

    /// Notes that the record with this picture is durable.
    pub(crate) fn on_recorded(&self, digest: &Digest) {
        self.pictures.on_recorded(digest);
        if let Some(recorded) = &self.recorded {
            recorded.on_durable(digest);
        }
    }

    /// Returns the bytes of a stored picture, from memory if they are cached there. They are those of its digest; reading
    /// them fails if the file is changed later. An orphan is made a picture again. A picture whose bytes in the journal are
    /// damaged may have been fetched again, and be a file since.
    ///
    /// # Errors
    ///
    /// When neither the journal nor a file has the picture, or its bytes have changed.
    pub(crate) async fn read(&self, picture: &StoredPicture) -> io::Result<Arc<dyn ByteSource>> {
        if let Some(cached) = self.memory.get(picture) {
            return Ok(Arc::new(cached));
        }
        if let Some(recorded) = &self.recorded
            && let Some(bytes) = recorded.read(picture).await
        {
            return Ok(if self.memory.accepts(picture.bytes) {
                Arc::new(self.memory.insert(picture.digest, &bytes))
            } else {
                Arc::new(bytes)
            });
        }
        if !self.memory.accepts(picture.bytes) {
            let opened = self.open_file(picture).await?;
            self.checker.check(picture.digest, &opened).await?;
            return Ok(opened.source);
        }
        let (pictures, memory, picture) = (Arc::clone(&self.pictures), self.memory.clone(), *picture);
        // Without a descriptor an intact picture would be taken for a damaged one.
        blocking_with_descriptor(move || {
            let opened = open(&pictures, &picture)?;
            let size = usize::try_from(picture.bytes).map_err(io::Error::other)?;
            let bytes = read_full(&*opened.source, 0, size)?;
            if Digest::of(&bytes) != picture.digest {
                return Err(other_bytes());
            }
            Ok(Arc::new(memory.insert(picture.digest, &bytes)) as Arc<dyn ByteSource>)
        })
        .await
    }

    async fn open_file(&self, picture: &StoredPicture) -> io::Result<OpenPicture> {
        let (pictures, picture) = (Arc::clone(&self.pictures), *picture);
        blocking_with_descriptor(move || open(&pictures, &picture)).await
    }

    /// Removes those of these pictures from memory and from the disk that belong to no job of the journal, also not to one
    /// that is about to be recorded. Returns how many it has removed, and the error of the last one that the store has
    /// refused to remove.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when the journal cannot be read.
    pub(crate) async fn remove_unused(
        &self,
        journal: &dyn Journal,
        digests: HashSet<Digest>,
    ) -> Result<(usize, Option<io::Error>), JournalError> {
        // Before the journal is asked: what is kept from now on may be in a record that the answer does not show.
        let keeps = self.pictures.keeps();
        let used = journal.stored_digests(digests.iter().copied().collect()).await?;
        let unused: Vec<Digest> = digests.difference(&used).copied().collect();
        for digest in &unused {
            self.memory.remove(digest);
        }
        let pictures = Arc::clone(&self.pictures);
        let remove = move || {
            let (mut removed, mut refused) = (0, None);
            for digest in &unused {
                match pictures.remove(digest, keeps) {
                    Ok(is_removed) => removed += usize::from(is_removed),
                    Err(error) => refused = Some(error),
                }
            }
            Ok((removed, refused))
        };
        Ok(blocking(remove).await.unwrap_or_else(|error| (0, Some(error))))
    }

    /// Returns the orphans, and what makes pictures orphans.
    pub(crate) fn orphans(&self) -> OrphanStore {
        OrphanStore::new(Arc::clone(&self.pictures))
    }

    /// Returns how many files were read whole to check their digest.
    #[cfg(test)]
    pub(super) fn hashed(&self) -> usize {
        self.checker.hashed()
    }

    /// Returns the bytes of pictures in memory, approximately.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }
}

/// Opens a picture of the recorded length, if need be from the orphans. Blocks.
fn open(pictures: &SharedPictures, picture: &StoredPicture) -> io::Result<OpenPicture> {
    let opened = match pictures.store.open(&picture.digest) {
        // The journal that knows it is back.
        Err(error) if error.kind() == io::ErrorKind::NotFound && pictures.store.bring_back(&picture.digest)? => {
            pictures.store.open(&picture.digest)?
        }
        opened => opened?,
    };
    if opened.source.size() != picture.bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored picture has another length"));
    }
    Ok(opened)
}
