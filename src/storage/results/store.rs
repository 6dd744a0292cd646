//! The store of bought pictures. Two jobs with equal bytes share one file.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::files::Files;
use super::memory::MemoryCache;
use super::writer::PictureWriter;
use crate::model::picture::read_full;
use crate::model::{ByteSource, Digest, StoredPicture};
use crate::storage::descriptors::blocking;

/// The store of bought pictures. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    files: Arc<Files>,
    memory: MemoryCache,
}

impl Results {
    /// Opens the store in `directory`, which must exist, with a read cache of `memory_bytes_max` bytes for pictures of at
    /// most `memory_picture_bytes_max` bytes. Removes temporary files that a crash left. Blocks.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read or written.
    pub(crate) fn open(directory: &Path, memory_bytes_max: u64, memory_picture_bytes_max: u64) -> io::Result<Self> {
        let memory = MemoryCache::new(memory_bytes_max, memory_picture_bytes_max);
        Ok(Self { files: Arc::new(Files::open(directory)?), memory })
    }

    /// Returns whether a sync has failed since the start. Pictures are still stored and read, but may not survive, so no
    /// record may say that they are stored.
    pub(crate) fn failed(&self) -> bool {
        self.files.failed()
    }

    /// Begins a picture of at most `bytes_max` bytes.
    pub(crate) fn write(&self, bytes_max: u64) -> PictureWriter {
        PictureWriter::new(Arc::clone(&self.files), self.memory.clone(), bytes_max)
    }

    /// Returns the bytes of a stored picture, from memory if they are cached there.
    ///
    /// # Errors
    ///
    /// When the file is gone or has changed.
    pub(crate) async fn read(&self, picture: &StoredPicture) -> io::Result<Arc<dyn ByteSource>> {
        if let Some(cached) = self.memory.get(picture) {
            return Ok(Arc::new(cached));
        }
        let (files, memory, picture) = (Arc::clone(&self.files), self.memory.clone(), *picture);
        blocking(move || {
            let file = files.open_picture(&picture.digest, picture.bytes)?;
            if !memory.accepts(picture.bytes) {
                return Ok(Arc::new(file) as Arc<dyn ByteSource>);
            }
            let size = usize::try_from(picture.bytes).map_err(io::Error::other)?;
            let bytes = read_full(&file, 0, size)?;
            if Digest::of(&bytes) != picture.digest {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored picture has other bytes"));
            }
            Ok(Arc::new(memory.insert(picture.digest, &bytes)) as Arc<dyn ByteSource>)
        })
        .await
    }

    /// Removes a picture if it exists.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub(crate) async fn remove(&self, digest: Digest) -> io::Result<()> {
        self.memory.remove(&digest);
        let files = Arc::clone(&self.files);
        blocking(move || files.remove(&digest)).await
    }

    /// Removes the pictures that are not `known`; returns their number.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub(crate) async fn remove_unknown(&self, known: HashSet<Digest>) -> io::Result<usize> {
        let files = Arc::clone(&self.files);
        blocking(move || files.remove_unknown(&known)).await
    }

    /// Returns the bytes of pictures in memory, approximately.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }
}
