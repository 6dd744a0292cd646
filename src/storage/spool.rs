//! Uploads on their way in: hashed and measured as they arrive, small ones in memory, larger ones in unlinked files.
//!
//! Nothing here survives a restart, and nothing has a name in the file system: a part is gone when its last holder is.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::model::picture::{HEAD_BYTES, dimensions, read_full};
use crate::model::{Digest, Format, Picture, Source};

/// Where uploads go. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// A part stays in memory up to here, and is written to its file in pieces of this size beyond.
    memory_bytes: usize,
    bytes_max: u64,
    bytes: AtomicU64,
}

/// Why a part cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the part is larger than {bytes_max} bytes")]
    PartTooLarge { bytes_max: u64 },
    #[error("all uploads together exceed {bytes_max} bytes")]
    Full { bytes_max: u64 },
    #[error("the spool cannot be written: {0}")]
    Io(#[from] io::Error),
}

impl Spool {
    /// A spool in `directory`, which must exist. A part stays in memory up to `memory_bytes`; all parts together may
    /// take `bytes_max`.
    pub(crate) fn new(directory: PathBuf, memory_bytes: usize, bytes_max: u64) -> Self {
        Self { shared: Arc::new(Shared { directory, memory_bytes, bytes_max, bytes: AtomicU64::new(0) }) }
    }

    /// Begins a part of at most `bytes_max` bytes.
    pub(crate) fn part(&self, bytes_max: u64) -> PartWriter {
        PartWriter {
            hasher: blake3::Hasher::new(),
            buffer: Vec::new(),
            file: None,
            bytes_max,
            lease: Lease { shared: Arc::clone(&self.shared), bytes: 0 },
        }
    }

    /// Bytes of all parts alive, in memory and in files.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.shared.bytes_max
    }
}

/// The share of the spool that one part holds; gives it back when dropped.
#[derive(Debug)]
struct Lease {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Lease {
    fn grow(&mut self, by: u64) -> Result<(), SpoolError> {
        let bytes_max = self.shared.bytes_max;
        self.shared
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
                bytes.checked_add(by).filter(|&sum| sum <= bytes_max)
            })
            .map_err(|_| SpoolError::Full { bytes_max })?;
        self.bytes += by;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A part that is arriving.
#[derive(Debug)]
pub(crate) struct PartWriter {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    file: Option<File>,
    bytes_max: u64,
    lease: Lease,
}

impl PartWriter {
    /// Takes the next bytes, from asynchronous code.
    ///
    /// # Errors
    ///
    /// [`SpoolError`]; the part is then of no further use.
    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), SpoolError> {
        if self.take(chunk)? {
            let (buffer, file) = (std::mem::take(&mut self.buffer), self.file.take());
            let shared = Arc::clone(&self.lease.shared);
            let written = tokio::task::spawn_blocking(move || spill(&shared, file, buffer));
            (self.file, self.buffer) =
                written.await.map_err(io::Error::other)?.map(|(file, buffer)| (Some(file), buffer))?;
        }
        Ok(())
    }

    /// Takes the next bytes, from code that may block.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) fn write_blocking(&mut self, chunk: &[u8]) -> Result<(), SpoolError> {
        if self.take(chunk)? {
            let (file, buffer) = spill(&self.lease.shared, self.file.take(), std::mem::take(&mut self.buffer))?;
            (self.file, self.buffer) = (Some(file), buffer);
        }
        Ok(())
    }

    /// Ends the part: what it is, and the bytes themselves. Reads the head back where it went to a file.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) async fn finish(self) -> Result<(Picture, Arc<dyn Source>), SpoolError> {
        if self.file.is_none() {
            return self.finish_blocking();
        }
        tokio::task::spawn_blocking(move || self.finish_blocking()).await.map_err(io::Error::other)?
    }

    /// As [`PartWriter::finish`], from code that may block.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) fn finish_blocking(self) -> Result<(Picture, Arc<dyn Source>), SpoolError> {
        let digest = Digest::from(self.hasher.finalize());
        let bytes = self.lease.bytes;
        let (content, head) = match self.file {
            None => {
                let content = Bytes::from(self.buffer);
                let head = content.slice(..content.len().min(HEAD_BYTES));
                (Content::Memory(content), head)
            }
            Some(mut file) => {
                file.write_all(&self.buffer)?;
                let content = Content::File(file);
                let part = FileBytes { content: &content, bytes };
                let head = read_full(&part, 0, HEAD_BYTES.min(usize::try_from(bytes).unwrap_or(HEAD_BYTES)))?;
                (content, Bytes::from(head))
            }
        };
        let picture = Picture { digest, bytes, format: Format::sniff(&head), dimensions: dimensions(&head) };
        Ok((picture, Arc::new(Part { content, lease: self.lease })))
    }

    /// Accounts for a chunk; says whether the buffer is due to be written out.
    fn take(&mut self, chunk: &[u8]) -> Result<bool, SpoolError> {
        let by = chunk.len() as u64;
        if self.lease.bytes + by > self.bytes_max {
            return Err(SpoolError::PartTooLarge { bytes_max: self.bytes_max });
        }
        self.lease.grow(by)?;
        self.hasher.update(chunk);
        self.buffer.extend_from_slice(chunk);
        Ok(self.buffer.len() > self.lease.shared.memory_bytes)
    }
}

/// Writes the buffer to the part's file, made now if there is none, and gives the buffer back empty.
fn spill(shared: &Shared, file: Option<File>, mut buffer: Vec<u8>) -> io::Result<(File, Vec<u8>)> {
    let mut file = file.map_or_else(|| tempfile::tempfile_in(&shared.directory), Ok)?;
    file.write_all(&buffer)?;
    buffer.clear();
    Ok((file, buffer))
}

/// A part that has arrived.
#[derive(Debug)]
struct Part {
    content: Content,
    lease: Lease,
}

#[derive(Debug)]
enum Content {
    Memory(Bytes),
    File(File),
}

impl Source for Part {
    fn size(&self) -> u64 {
        self.lease.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileBytes { content: &self.content, bytes: self.lease.bytes }.read_at(buffer, offset)
    }

    fn in_memory(&self) -> Option<Bytes> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes.clone()),
            Content::File(_) => None,
        }
    }
}

/// Content with its length, before and after it becomes a part.
#[derive(Debug)]
struct FileBytes<'a> {
    content: &'a Content,
    bytes: u64,
}

impl Source for FileBytes<'_> {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.content {
            Content::Memory(bytes) => bytes.read_at(buffer, offset),
            Content::File(file) => file.read_at(buffer, offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(bytes_max: u64) -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(directory.path().to_owned(), 1000, bytes_max);
        (directory, spool)
    }

    #[tokio::test]
    async fn small_and_large_parts_read_back_the_same() {
        let (directory, spool) = spool(1 << 20);
        for size in [0, 1, 999, 1000, 1001, 50_000] {
            let bytes: Vec<u8> = (0..size).map(|i: u32| i.to_le_bytes()[0]).collect();
            let mut writer = spool.part(1 << 20);
            for chunk in bytes.chunks(700) {
                writer.write(chunk).await.unwrap();
            }
            let (picture, source) = writer.finish().await.unwrap();
            assert_eq!(picture.digest, Digest::of(&bytes));
            assert_eq!(source.size(), u64::from(size));
            assert_eq!(source.in_memory().is_some(), size <= 1000);
            assert_eq!(read_full(&*source, 0, bytes.len()).unwrap(), bytes);
            assert_eq!(spool.bytes(), u64::from(size));
        }
        assert_eq!(spool.bytes(), 0, "a part gives its bytes back");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no part has a name");
    }

    #[tokio::test]
    async fn limits_hold_while_bytes_arrive() {
        let (_directory, spool) = spool(3000);
        let mut writer = spool.part(1500);
        writer.write(&[0; 1500]).await.unwrap();
        assert!(matches!(writer.write(&[0]).await, Err(SpoolError::PartTooLarge { bytes_max: 1500 })));
        let mut other = spool.part(10_000);
        other.write(&[0; 1500]).await.unwrap();
        assert!(matches!(other.write(&[0]).await, Err(SpoolError::Full { bytes_max: 3000 })));
        drop(writer);
        other.write(&[0; 1500]).await.unwrap();
    }
}
