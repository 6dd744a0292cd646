//! The read cache of small pictures, as the base64 that answers are made of: a repeated picture costs only its writing.

use std::io;

use base64_simd::STANDARD;
use bytes::Bytes;
use moka::sync::Cache;

use crate::model::{ByteSource, Digest, StoredPicture};

/// Bytes that an entry costs in addition to its picture.
const ENTRY_OVERHEAD_BYTES: u32 = 200;

/// Pictures as base64, bounded by bytes. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::storage::results) struct ReadCache {
    pictures: Cache<Digest, Bytes>,
    picture_bytes_max: u64,
}

impl ReadCache {
    /// A cache of at most `bytes_max` bytes, for pictures of at most `picture_bytes_max` bytes.
    pub(in crate::storage::results) fn new(bytes_max: u64, picture_bytes_max: u64) -> Self {
        let pictures = Cache::builder()
            .max_capacity(bytes_max)
            .weigher(|_, text: &Bytes| {
                u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_add(ENTRY_OVERHEAD_BYTES)
            })
            .build();
        Self { pictures, picture_bytes_max }
    }

    /// Returns whether a picture of this size is cached at all.
    pub(in crate::storage::results) fn accepts(&self, bytes: u64) -> bool {
        bytes <= self.picture_bytes_max
    }

    pub(in crate::storage::results) fn get(&self, picture: &StoredPicture) -> Option<EncodedPicture> {
        Some(EncodedPicture { text: self.pictures.get(&picture.digest)?, bytes: picture.bytes })
    }

    pub(in crate::storage::results) fn insert(&self, digest: Digest, bytes: &[u8]) -> EncodedPicture {
        let text = Bytes::from(STANDARD.encode_type::<Vec<u8>>(bytes));
        self.pictures.insert(digest, text.clone());
        EncodedPicture { text, bytes: bytes.len() as u64 }
    }

    pub(in crate::storage::results) fn remove(&self, digest: &Digest) {
        self.pictures.invalidate(digest);
    }

    /// Returns the bytes in the cache, approximately.
    pub(in crate::storage::results) fn bytes(&self) -> u64 {
        self.pictures.weighted_size()
    }
}

/// A picture in memory, as base64.
#[derive(Debug)]
pub(in crate::storage::results) struct EncodedPicture {
    text: Bytes,
    bytes: u64,
}

impl ByteSource for EncodedPicture {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = (buffer.len() as u64).min(self.bytes.saturating_sub(offset));
        // Four characters encode three bytes.
        let (first, end) = (offset / 3, (offset + wanted).div_ceil(3));
        let range = |group: u64| usize::try_from(group * 4).map_err(io::Error::other);
        let characters = self.text.get(range(first)?..range(end)?).unwrap_or_default();
        let decoded = STANDARD.decode_to_vec(characters).map_err(io::Error::other)?;
        let skipped = usize::try_from(offset % 3).map_err(io::Error::other)?;
        let found = decoded.get(skipped..).unwrap_or_default();
        let count = found.len().min(buffer.len());
        buffer[..count].copy_from_slice(&found[..count]);
        Ok(count)
    }

    fn base64(&self) -> Option<Bytes> {
        Some(self.text.clone())
    }
}
