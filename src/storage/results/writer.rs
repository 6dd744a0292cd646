//! A picture on its way from the upstream to the disk.
//!
//! It is checked to be complete, synced, renamed to its digest, and the directory synced, before the journal records it. A small
//! one is checked, and its bytes go to the journal in the same commit as its record.
//!
//! Many pictures may arrive at once. The first [`GATHERED_BYTES`] of a picture are gathered in memory, so that a small
//! picture is written in one step, off the asynchronous threads. A picture is paid for: when no file descriptor is left,
//! the write waits for one.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::NamedTempFile;

use super::shared::SharedPictures;
use super::sources::read_cache::ReadCache;
use super::sources::recorded::RecordedPictures;
use crate::model::picture::{InvalidPicture, check_complete};
use crate::model::{ByteSource, Digest, StoredPicture};
use crate::storage::descriptors::{blocking, blocking_with_descriptor};
use crate::storage::journal::PictureBytes;

/// Bytes of a picture that are gathered before they are written.
const GATHERED_BYTES: usize = 256 * 1024;

/// Why a picture was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultsError {
    #[error(transparent)]
    InvalidPicture(#[from] InvalidPicture),
    #[error("the picture is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("the picture cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// A picture that is being stored. Dropping it leaves no file.
#[derive(Debug)]
pub(crate) struct PictureWriter {
    pictures: Arc<SharedPictures>,
    memory: ReadCache,
    recorded: Option<RecordedPictures>,
    /// Bytes that are not in the file yet.
    gathered: Vec<u8>,
    /// `None` until the first bytes are written, and while a write is under way.
    file: Option<NamedTempFile>,
    hasher: blake3::Hasher,
    bytes: u64,
    bytes_max: u64,
}

impl PictureWriter {
    pub(super) fn new(
        pictures: Arc<SharedPictures>,
        memory: ReadCache,
        recorded: Option<RecordedPictures>,
        bytes_max: u64,
    ) -> Self {
        let hasher = blake3::Hasher::new();
        Self { pictures, memory, recorded, gathered: Vec::new(), file: None, hasher, bytes: 0, bytes_max }
    }

    /// Appends the next bytes.
    ///
    /// # Errors
    ///
    /// [`ResultsError`]; the writer cannot be used afterwards.
    pub(crate) async fn push(&mut self, chunk: Bytes) -> Result<(), ResultsError> {
        let is_first_write = self.bytes == self.gathered.len() as u64;
        self.bytes += chunk.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(ResultsError::TooLarge { bytes_max: self.bytes_max });
        }
        self.hasher.update(&chunk);
        self.gathered.extend_from_slice(&chunk);
        if self.gathered.len() >= GATHERED_BYTES {
            let file = match self.file.take() {
                Some(file) => file,
                None if is_first_write => {
                    let pictures = Arc::clone(&self.pictures);
                    blocking_with_descriptor(move || pictures.store.create_temporary()).await?
                }
                None => return Err(interrupted().into()),
            };
            let gathered = std::mem::take(&mut self.gathered);
            let written = blocking(move || append(file, gathered)).await?;
            (self.file, self.gathered) = (Some(written.0), written.1);
        }
        Ok(())
    }

    /// Checks that the picture is complete, and returns a small one with its bytes: its record will make it durable. Any
    /// other is made durable as a file.
    ///
    /// # Errors
    ///
    /// As `finish`.
    pub(crate) async fn finish_for_record(mut self) -> Result<(StoredPicture, Option<PictureBytes>), ResultsError> {
        let is_gathered = self.file.is_none() && self.bytes == self.gathered.len() as u64;
        if is_gathered && let Some(recorded) = self.recorded.as_ref().filter(|recorded| recorded.accepts(self.bytes)) {
            // Without what it has grown by: it may wait for its commit.
            self.gathered.shrink_to_fit();
            let (picture, digest) = (Bytes::from(std::mem::take(&mut self.gathered)), self.hasher.finalize().into());
            // On this thread: it is small.
            let (format, (width, height)) = check_complete(&picture)??;
            if let Some(content) = recorded.take(digest, &picture) {
                if !recorded.is_marked() {
                    let pictures = Arc::clone(&self.pictures);
                    blocking_with_descriptor(move || pictures.store.mark_recorded()).await?;
                    recorded.set_marked();
                }
                if self.memory.accepts(self.bytes) {
                    // A waiter is likely to read it at once.
                    self.memory.insert(digest, &picture);
                }
                return Ok((StoredPicture { digest, bytes: self.bytes, format, width, height }, Some(content)));
            }
            self.gathered = picture.into();
        }
        self.finish().await.map(|stored| (stored, None))
    }

    /// Checks that the picture is complete and makes it durable as a file.
    ///
    /// # Errors
    ///
    /// [`ResultsError::InvalidPicture`] for anything that is not a complete PNG, JPEG or WebP of a size that models make.
    pub(crate) async fn finish(self) -> Result<StoredPicture, ResultsError> {
        let Self { pictures, memory, gathered, file, hasher, bytes, .. } = self;
        if file.is_none() && bytes > gathered.len() as u64 {
            return Err(interrupted().into());
        }
        let digest = Digest::from(hasher.finalize());
        let checked = if let Some(file) = file {
            blocking(move || {
                let (file, _) = append(file, gathered)?;
                let checked = check_complete(&TemporaryBytes { file: file.as_file(), bytes })?;
                if checked.is_ok() {
                    pictures.keep(file, digest)?;
                }
                Ok(checked)
            })
            .await?
        } else {
            let picture = Bytes::from(gathered);
            blocking_with_descriptor(move || {
                let checked = check_complete(&picture)?;
                if checked.is_ok() {
                    let mut file = pictures.store.create_temporary()?;
                    file.write_all(&picture)?;
                    pictures.keep(file, digest)?;
                    if memory.accepts(bytes) {
                        // A waiter is likely to read it at once.
                        memory.insert(digest, &picture);
                    }
                }
                Ok(checked)
            })
            .await?
        };
        let (format, (width, height)) = checked?;
        Ok(StoredPicture { digest, bytes, format, width, height })
    }
}

/// A write was cancelled while it was under way, so the file is gone.
fn interrupted() -> io::Error {
    io::Error::other("an earlier write was interrupted")
}

/// Appends what was gathered to the file, and returns the buffer empty.
fn append(mut file: NamedTempFile, mut gathered: Vec<u8>) -> io::Result<(NamedTempFile, Vec<u8>)> {
    file.write_all(&gathered)?;
    gathered.clear();
    Ok((file, gathered))
}

/// The bytes of a file that is not finished.
#[derive(Debug)]
struct TemporaryBytes<'a> {
    file: &'a File,
    bytes: u64,
}

impl ByteSource for TemporaryBytes<'_> {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}
