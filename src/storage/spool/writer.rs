//! A part that is arriving.
//!
//! Chunks are gathered, so that few writes are made and the buffers of the connection are released; when memory is used
//! up, each chunk is written as it is. A part in memory is hashed chunk by chunk as it arrives. Once it is in the file, hashing and
//! writing happen off the asynchronous threads, one write at a time, while the next chunks are gathered in a second buffer.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::error::SpoolError;
use super::file::UploadFile;
use super::memory::Buffer;
use super::part::{Content, Part};
use crate::model::picture::Structure;
use crate::model::{ByteSource, Digest, Picture};

/// Bytes of a part that are gathered before they are written to the file.
const WRITE_BYTES: usize = 256 * 1024;

/// A part that is arriving.
#[derive(Debug)]
pub(crate) struct PartWriter<'u> {
    upload: &'u Arc<UploadFile>,
    bytes: u64,
    bytes_max: u64,
    gathered: Buffer,
    /// Of `gathered`, the bytes that were hashed: all while the part is in memory.
    hashed: usize,
    /// Offset of the part in the file; `None` while the part is in memory.
    start: Option<u64>,
    /// `None` while a write uses it, and for text.
    hasher: Option<Box<blake3::Hasher>>,
    /// The write under way; returns hasher and buffer.
    writing: Option<JoinHandle<io::Result<Write>>>,
    /// The buffer of the last write, empty.
    free_buffer: Option<Buffer>,
}

/// Bytes to be hashed and written to the file.
#[derive(Debug)]
struct Write {
    upload: Arc<UploadFile>,
    offset: u64,
    hasher: Option<Box<blake3::Hasher>>,
    gathered: Buffer,
    /// Of `gathered`, the bytes that were hashed before.
    hashed: usize,
    chunk: Bytes,
}

impl Write {
    /// Hashes and writes the bytes. Blocks.
    fn run(mut self) -> io::Result<Self> {
        let hasher = self.hasher.as_deref_mut();
        hash_and_write(&self.upload, self.offset, hasher, (&self.gathered, self.hashed), &self.chunk)?;
        self.gathered.clear(WRITE_BYTES);
        self.chunk = Bytes::new();
        Ok(self)
    }
}

/// Writes gathered bytes and a chunk behind them to the file, and hashes them but for the `known` bytes that were hashed before.
/// Blocks.
fn hash_and_write(
    upload: &UploadFile,
    offset: u64,
    hasher: Option<&mut blake3::Hasher>,
    (gathered, known): (&Buffer, usize),
    chunk: &[u8],
) -> io::Result<()> {
    let gathered = gathered.bytes();
    if let Some(hasher) = hasher {
        hasher.update(&gathered[known..]).update(chunk);
    }
    let file = upload.file()?;
    file.write_all_at(gathered, offset)?;
    file.write_all_at(chunk, offset + gathered.len() as u64)
}

impl<'u> PartWriter<'u> {
    pub(super) fn new(upload: &'u Arc<UploadFile>, bytes_max: u64) -> Self {
        let gathered = Buffer::new(&upload.shared.memory);
        let hasher = Some(Box::default());
        Self { upload, bytes: 0, bytes_max, gathered, hashed: 0, start: None, hasher, writing: None, free_buffer: None }
    }

    /// Appends the next bytes, from asynchronous code.
    ///
    /// # Errors
    ///
    /// [`SpoolError`]; the writer cannot be used afterwards.
    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<(), SpoolError> {
        if self.gather(&chunk)? {
            return Ok(());
        }
        if self.start.is_none() {
            self.start_write(Bytes::new()).await?;
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let free = WRITE_BYTES.saturating_sub(self.gathered.bytes().len());
            let next = rest.split_to(rest.len().min(free));
            if !self.gathered.extend(&next, WRITE_BYTES) {
                self.start_write(next).await?;
            } else if self.gathered.bytes().len() >= WRITE_BYTES {
                self.start_write(Bytes::new()).await?;
            }
        }
        Ok(())
    }

    /// Starts a write of what was gathered and of a chunk that follows.
    async fn start_write(&mut self, chunk: Bytes) -> Result<(), SpoolError> {
        self.finish_write().await?;
        let memory = &self.upload.shared.memory;
        let next = self.free_buffer.take().unwrap_or_else(|| Buffer::new(memory));
        let gathered = std::mem::replace(&mut self.gathered, next);
        let write = self.next_write(gathered, chunk);
        self.writing = Some(tokio::task::spawn_blocking(move || write.run()));
        Ok(())
    }

    /// Appends the next bytes, from code that may block.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) fn write_blocking(&mut self, chunk: &[u8]) -> Result<(), SpoolError> {
        if self.gather(chunk)? {
            return Ok(());
        }
        let offset = self.extend_file(self.gathered.bytes().len() + chunk.len());
        let gathered = (&self.gathered, std::mem::take(&mut self.hashed));
        hash_and_write(self.upload, offset, self.hasher.as_deref_mut(), gathered, chunk)?;
        self.gathered.clear(WRITE_BYTES);
        Ok(())
    }

    /// Ends a picture; returns its properties and its bytes. Reads it back from the file if it is there.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) async fn finish(mut self) -> Result<(Picture, Arc<dyn ByteSource>), SpoolError> {
        self.finish_write().await?;
        let rest = self.end();
        if rest.is_in_memory() {
            return Ok(rest.picture()?);
        }
        let ended = tokio::task::spawn_blocking(move || rest.picture());
        Ok(ended.await.map_err(io::Error::other)??)
    }

    /// As [`PartWriter::finish`], from code that may block.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) fn finish_blocking(self) -> Result<(Picture, Arc<dyn ByteSource>), SpoolError> {
        Ok(self.end().picture()?)
    }

    /// Counts a chunk, and gathers it if memory allows; returns whether it was gathered.
    fn gather(&mut self, chunk: &[u8]) -> Result<bool, SpoolError> {
        let by = chunk.len() as u64;
        if self.bytes + by > self.bytes_max {
            return Err(SpoolError::PartTooLarge { bytes_max: self.bytes_max });
        }
        self.upload.share.grow(by)?;
        self.bytes += by;
        if self.start.is_some() {
            return Ok(self.gathered.extend(chunk, WRITE_BYTES));
        }
        let is_gathered = self.gathered.extend(chunk, self.upload.shared.part_memory_bytes);
        if let Some(hasher) = self.hasher.as_deref_mut().filter(|_| is_gathered) {
            hasher.update(chunk);
            self.hashed += chunk.len();
        }
        Ok(is_gathered)
    }

    /// Reserves the next `bytes` of the file for the part; returns their offset.
    fn extend_file(&mut self, bytes: usize) -> u64 {
        let offset = self.upload.extend(bytes as u64);
        self.start.get_or_insert(offset);
        offset
    }

    fn next_write(&mut self, gathered: Buffer, chunk: Bytes) -> Write {
        let offset = self.extend_file(gathered.bytes().len() + chunk.len());
        let (upload, hashed) = (Arc::clone(self.upload), std::mem::take(&mut self.hashed));
        Write { upload, offset, hasher: self.hasher.take(), gathered, hashed, chunk }
    }

    /// Waits for the write that is under way, if any.
    async fn finish_write(&mut self) -> Result<(), SpoolError> {
        if let Some(writing) = self.writing.take() {
            let written = writing.await.map_err(io::Error::other)??;
            self.hasher = written.hasher;
            self.free_buffer = Some(written.gathered);
        }
        Ok(())
    }

    /// Ends the part when no write is under way.
    fn end(mut self) -> Rest {
        let empty = Buffer::new(&self.upload.shared.memory);
        let mut gathered = std::mem::replace(&mut self.gathered, empty);
        let start = self.start;
        let write = if start.is_some() {
            self.next_write(gathered, Bytes::new())
        } else {
            gathered.shrink();
            let upload = Arc::clone(self.upload);
            Write { upload, offset: 0, hasher: self.hasher.take(), gathered, hashed: self.hashed, chunk: Bytes::new() }
        };
        Rest { bytes: self.bytes, start, write }
    }
}

/// A part that is not hashed.
#[derive(Debug)]
pub(crate) struct TextWriter<'u>(PartWriter<'u>);

impl<'u> TextWriter<'u> {
    pub(super) fn new(upload: &'u Arc<UploadFile>, bytes_max: u64) -> Self {
        Self(PartWriter { hasher: None, ..PartWriter::new(upload, bytes_max) })
    }

    /// Appends the next bytes.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<(), SpoolError> {
        self.0.write(chunk).await
    }

    /// Ends the part.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) async fn finish(mut self) -> Result<Arc<dyn ByteSource>, SpoolError> {
        self.0.finish_write().await?;
        let rest = self.0.end();
        let (part, _) = if rest.is_in_memory() {
            rest.part()?
        } else {
            tokio::task::spawn_blocking(move || rest.part()).await.map_err(io::Error::other)??
        };
        Ok(Arc::new(part))
    }
}

/// A complete part whose last bytes are still to be hashed and written if the others were.
#[derive(Debug)]
struct Rest {
    bytes: u64,
    start: Option<u64>,
    write: Write,
}

impl Rest {
    fn is_in_memory(&self) -> bool {
        self.start.is_none()
    }

    /// Returns the part and its hasher. Blocks unless the part is in memory.
    fn part(self) -> io::Result<(Part, Option<Box<blake3::Hasher>>)> {
        let Self { bytes, start, write } = self;
        let Some(start) = start else {
            let Write { upload, hasher, gathered, .. } = write;
            return Ok((Part { upload, content: Content::Memory(Bytes::from_owner(gathered)), bytes }, hasher));
        };
        let Write { upload, hasher, .. } = write.run()?;
        Ok((Part { upload, content: Content::File { start }, bytes }, hasher))
    }

    /// Returns the properties and the bytes of a picture. Blocks unless the part is in memory.
    fn picture(self) -> io::Result<(Picture, Arc<dyn ByteSource>)> {
        let (part, hasher) = self.part()?;
        let digest = Digest::from(hasher.unwrap_or_default().finalize());
        let structure = Structure::of(&part)?;
        Ok((Picture { digest, bytes: part.bytes, structure }, Arc::new(part)))
    }
}
