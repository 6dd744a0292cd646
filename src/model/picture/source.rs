//! Random access to bytes in memory or in a file.

use std::fmt;
use std::io;

use bytes::Bytes;

/// Random-access bytes, in memory or in a file. Reads may block for as long as a disk takes.
pub(crate) trait ByteSource: Send + Sync + fmt::Debug {
    /// Returns the total length in bytes.
    fn size(&self) -> u64;

    /// Reads into `buffer` from `offset`; returns the number of bytes read, 0 only at the end.
    ///
    /// # Errors
    ///
    /// Those of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Returns the bytes if they are in memory.
    fn in_memory(&self) -> Option<Bytes> {
        None
    }

    /// Returns the bytes as standard base64 with padding, if that is in memory.
    fn base64(&self) -> Option<Bytes> {
        None
    }
}

impl ByteSource for Bytes {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).map_or(self.len(), |offset| offset.min(self.len()));
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }

    fn in_memory(&self) -> Option<Bytes> {
        Some(self.clone())
    }
}

/// Reads `size` bytes at `offset`, fewer only at the end.
///
/// # Errors
///
/// As [`ByteSource::read_at`].
pub(crate) fn read_full(source: &dyn ByteSource, offset: u64, size: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; size];
    let filled = fill(source, offset, &mut buffer)?;
    buffer.truncate(filled);
    Ok(buffer)
}

/// Reads all bytes, without a copy where they are in memory.
///
/// # Errors
///
/// As [`ByteSource::read_at`].
pub(crate) fn read_whole(source: &dyn ByteSource) -> io::Result<Bytes> {
    match source.in_memory() {
        Some(bytes) => Ok(bytes),
        None => read_full(source, 0, usize::try_from(source.size()).map_err(io::Error::other)?).map(Bytes::from),
    }
}

/// Fills `buffer` from `offset`; returns the number of bytes filled, fewer than its length only at the end.
///
/// # Errors
///
/// As [`ByteSource::read_at`].
pub(crate) fn fill(source: &dyn ByteSource, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
