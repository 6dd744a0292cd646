//! Pictures whose digest was computed from their file and found right, so that repeating an answer computes nothing.

use std::io;
use std::sync::Arc;

use moka::sync::Cache;
use tokio::sync::Semaphore;

use crate::model::picture::fill;
use crate::model::{ByteSource, Digest, StoredPicture};
use crate::storage::descriptors::blocking;
use crate::storage::results::traits::{OpenPicture, PictureStore, Version};

/// Pictures that are remembered; some 100 bytes each.
const REMEMBERED_MAX: u64 = 50_000;
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Checks files of pictures against their digests, and remembers which were right. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::storage::results) struct DigestChecker {
    right: Cache<Digest, Version>,
    /// Bounds the buffers, and the threads that compute.
    at_once: Arc<Semaphore>,
    #[cfg(test)]
    hashed: Arc<std::sync::atomic::AtomicUsize>,
}

impl DigestChecker {
    pub(in crate::storage::results) fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            right: Cache::new(REMEMBERED_MAX),
            at_once: Arc::new(Semaphore::new(threads)),
            #[cfg(test)]
            hashed: Arc::default(),
        }
    }

    /// Returns how many files were read whole.
    #[cfg(test)]
    pub(in crate::storage::results) fn hashed(&self) -> usize {
        self.hashed.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Checks the bytes of a picture, unless this version of its file was right before. The whole file is read, off the
    /// asynchronous threads.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the bytes are not those of the digest; those of the file.
    pub(in crate::storage::results) async fn check(&self, digest: Digest, picture: &OpenPicture) -> io::Result<()> {
        if self.right.get(&digest) == Some(picture.version) {
            return Ok(());
        }
        let _turn = self.at_once.acquire().await.map_err(io::Error::other)?;
        let source = Arc::clone(&picture.source);
        #[cfg(test)]
        self.hashed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let found = blocking(move || digest_of(&*source)).await?;
        if found != digest {
            return Err(other_bytes());
        }
        self.right.insert(digest, picture.version);
        Ok(())
    }
}

/// Computes the digest of bytes that are read in pieces. Blocks.
pub(in crate::storage::results) fn digest_of(source: &dyn ByteSource) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    while offset < source.size() {
        let count = fill(source, offset, &mut buffer)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a stored picture was cut while it was read"));
        }
        hasher.update(&buffer[..count]);
        offset += count as u64;
    }
    Ok(Digest::from(hasher.finalize()))
}

/// The error for a picture whose bytes are not those of its digest.
pub(in crate::storage::results) fn other_bytes() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a stored picture has other bytes")
}

/// What is wrong with a stored picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PictureDamage {
    #[error("there is no file")]
    Missing,
    #[error("{found} bytes instead of {recorded}")]
    Length { found: u64, recorded: u64 },
    #[error("other bytes")]
    OtherBytes,
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// Returns what is wrong with a stored picture; `None` when it is as recorded. The whole file is read. Blocks.
pub(crate) fn examine(store: &dyn PictureStore, picture: &StoredPicture) -> Option<PictureDamage> {
    let unreadable = |error: io::Error| Some(PictureDamage::Unreadable(error.to_string()));
    let opened = match store.open(&picture.digest) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(PictureDamage::Missing),
        Err(error) => return unreadable(error),
    };
    let found = opened.source.size();
    if found != picture.bytes {
        return Some(PictureDamage::Length { found, recorded: picture.bytes });
    }
    match digest_of(&*opened.source) {
        Ok(digest) if digest == picture.digest => None,
        Ok(_) => Some(PictureDamage::OtherBytes),
        Err(error) => unreadable(error),
    }
}
