//! One part: arriving, and then arrived.
//!
//! Chunks are gathered, so that few writes are made and what they came in is free again; where there is no memory to gather
//! them in, each is written as it is. Hashing and writing happen off the asynchronous threads, one job at a time, while the
//! next chunks are gathered in a second buffer.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::space::Buffer;
use super::{SpoolError, Spooled, Upload};
use crate::model::picture::{Header, header};
use crate::model::{ByteSource, Digest, Picture};

/// How much of a part is gathered before it is written to the file.
const WRITE_BYTES: usize = 256 * 1024;

/// A part that is arriving.
#[derive(Debug)]
pub(crate) struct PartWriter<'u> {
    upload: &'u mut Upload,
    bytes: u64,
    bytes_max: u64,
    gathered: Buffer,
    /// Where the part begins in the file; none while it is in memory.
    start: Option<u64>,
    /// Absent while it is away with a write, and for text.
    hasher: Option<Box<blake3::Hasher>>,
    /// Brings hasher and buffer back.
    writing: Option<JoinHandle<io::Result<Job>>>,
    spare: Option<Buffer>,
}

/// Bytes on their way into the file.
#[derive(Debug)]
struct Job {
    spooled: Arc<Spooled>,
    offset: u64,
    hasher: Option<Box<blake3::Hasher>>,
    gathered: Buffer,
    chunk: Bytes,
}

impl Job {
    /// Hashes and writes. Blocks.
    fn run(mut self) -> io::Result<Self> {
        let gathered = self.gathered.bytes().len() as u64;
        put(&self.spooled, self.offset, self.hasher.as_deref_mut(), self.gathered.bytes())?;
        put(&self.spooled, self.offset + gathered, self.hasher.as_deref_mut(), &self.chunk)?;
        self.gathered.clear();
        self.chunk = Bytes::new();
        Ok(self)
    }
}

fn put(spooled: &Spooled, offset: u64, hasher: Option<&mut blake3::Hasher>, bytes: &[u8]) -> io::Result<()> {
    if let Some(hasher) = hasher {
        hasher.update(bytes);
    }
    spooled.file()?.write_all_at(bytes, offset)
}

impl<'u> PartWriter<'u> {
    pub(super) fn new(upload: &'u mut Upload, bytes_max: u64) -> Self {
        let gathered = Buffer::new(&upload.spooled.shared.memory);
        let hasher = Some(Box::default());
        Self { upload, bytes: 0, bytes_max, gathered, start: None, hasher, writing: None, spare: None }
    }

    /// Takes the next bytes, from asynchronous code.
    ///
    /// # Errors
    ///
    /// [`SpoolError`]; the part is then of no further use.
    pub(crate) async fn write(&mut self, chunk: Bytes) -> Result<(), SpoolError> {
        if self.gather(&chunk)? {
            return Ok(());
        }
        if self.start.is_none() {
            self.put_away(Bytes::new()).await?;
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = WRITE_BYTES.saturating_sub(self.gathered.bytes().len());
            let next = rest.split_to(rest.len().min(room));
            if !self.gathered.extend(&next, WRITE_BYTES) {
                self.put_away(next).await?;
            } else if self.gathered.bytes().len() >= WRITE_BYTES {
                self.put_away(Bytes::new()).await?;
            }
        }
        Ok(())
    }

    /// Begins to write what was gathered, and a chunk behind it.
    async fn put_away(&mut self, chunk: Bytes) -> Result<(), SpoolError> {
        self.landed().await?;
        let memory = &self.upload.spooled.shared.memory;
        let next = self.spare.take().unwrap_or_else(|| Buffer::new(memory));
        let gathered = std::mem::replace(&mut self.gathered, next);
        let job = self.job(gathered, chunk);
        self.writing = Some(tokio::task::spawn_blocking(move || job.run()));
        Ok(())
    }

    /// Takes the next bytes, from code that may block.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) fn write_blocking(&mut self, chunk: &[u8]) -> Result<(), SpoolError> {
        if self.gather(chunk)? {
            return Ok(());
        }
        let offset = self.place(self.gathered.bytes().len() + chunk.len());
        let (spooled, gathered) = (&self.upload.spooled, self.gathered.bytes());
        put(spooled, offset, self.hasher.as_deref_mut(), gathered)?;
        put(spooled, offset + gathered.len() as u64, self.hasher.as_deref_mut(), chunk)?;
        self.gathered.clear();
        Ok(())
    }

    /// Ends a picture: what it is, and the bytes themselves. Reads the head back where it went to a file.
    ///
    /// # Errors
    ///
    /// As [`PartWriter::write`].
    pub(crate) async fn finish(mut self) -> Result<(Picture, Arc<dyn ByteSource>), SpoolError> {
        self.landed().await?;
        let ending = self.end();
        if ending.is_in_memory() {
            return Ok(ending.picture()?);
        }
        let ended = tokio::task::spawn_blocking(move || ending.picture());
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

    /// Accounts for a chunk; says whether it could be kept in memory for the time being.
    fn gather(&mut self, chunk: &[u8]) -> Result<bool, SpoolError> {
        let by = chunk.len() as u64;
        if self.bytes + by > self.bytes_max {
            return Err(SpoolError::PartTooLarge { bytes_max: self.bytes_max });
        }
        let spooled = &self.upload.spooled;
        spooled.share.grow(by)?;
        self.bytes += by;
        let most = if self.start.is_some() { WRITE_BYTES } else { spooled.shared.part_memory_bytes };
        Ok(self.gathered.extend(chunk, most))
    }

    /// Where in the file the next `bytes` of the part go.
    fn place(&mut self, bytes: usize) -> u64 {
        let offset = self.upload.spooled.extend(bytes as u64);
        self.start.get_or_insert(offset);
        offset
    }

    fn job(&mut self, gathered: Buffer, chunk: Bytes) -> Job {
        let offset = self.place(gathered.bytes().len() + chunk.len());
        Job { spooled: Arc::clone(&self.upload.spooled), offset, hasher: self.hasher.take(), gathered, chunk }
    }

    /// Waits for the write that is under way.
    async fn landed(&mut self) -> Result<(), SpoolError> {
        if let Some(writing) = self.writing.take() {
            let job = writing.await.map_err(io::Error::other)??;
            self.hasher = job.hasher;
            self.spare = Some(job.gathered);
        }
        Ok(())
    }

    /// Nothing is being written.
    fn end(mut self) -> Ending {
        let nothing = Buffer::new(&self.upload.spooled.shared.memory);
        let mut rest = std::mem::replace(&mut self.gathered, nothing);
        let start = self.start;
        let rest = if start.is_some() {
            self.job(rest, Bytes::new())
        } else {
            rest.shrink();
            let spooled = Arc::clone(&self.upload.spooled);
            Job { spooled, offset: 0, hasher: self.hasher.take(), gathered: rest, chunk: Bytes::new() }
        };
        Ending { bytes: self.bytes, start, rest }
    }
}

/// A part whose bytes are never hashed.
#[derive(Debug)]
pub(crate) struct TextWriter<'u>(PartWriter<'u>);

impl<'u> TextWriter<'u> {
    pub(super) fn new(upload: &'u mut Upload, bytes_max: u64) -> Self {
        Self(PartWriter { hasher: None, ..PartWriter::new(upload, bytes_max) })
    }

    /// As [`PartWriter::write`].
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
        self.0.landed().await?;
        let ending = self.0.end();
        let (part, _) = if ending.is_in_memory() {
            ending.part()?
        } else {
            tokio::task::spawn_blocking(move || ending.part()).await.map_err(io::Error::other)??
        };
        Ok(Arc::new(part))
    }
}

/// A part of which the last bytes are still to be hashed, and written where the others went.
#[derive(Debug)]
struct Ending {
    bytes: u64,
    start: Option<u64>,
    rest: Job,
}

impl Ending {
    fn is_in_memory(&self) -> bool {
        self.start.is_none()
    }

    /// Blocks, where it is not in memory.
    fn part(self) -> io::Result<(Part, Option<Box<blake3::Hasher>>)> {
        let Self { bytes, start, rest } = self;
        let Some(start) = start else {
            let Job { spooled, mut hasher, gathered, .. } = rest;
            if let Some(hasher) = &mut hasher {
                hasher.update(gathered.bytes());
            }
            return Ok((Part { spooled, content: Content::Memory(Bytes::from_owner(gathered)), bytes }, hasher));
        };
        let Job { spooled, hasher, .. } = rest.run()?;
        Ok((Part { spooled, content: Content::File { start }, bytes }, hasher))
    }

    /// Blocks, where it is not in memory.
    fn picture(self) -> io::Result<(Picture, Arc<dyn ByteSource>)> {
        let (part, hasher) = self.part()?;
        let digest = Digest::from(hasher.unwrap_or_default().finalize());
        let Header { format, dimensions, frames } = header(&part)?;
        Ok((Picture { digest, bytes: part.bytes, format, dimensions, frames }, Arc::new(part)))
    }
}

/// A part that has arrived.
#[derive(Debug)]
struct Part {
    /// With the file, and the share that it takes.
    spooled: Arc<Spooled>,
    content: Content,
    bytes: u64,
}

#[derive(Debug)]
enum Content {
    Memory(Bytes),
    File { start: u64 },
}

impl ByteSource for Part {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.content {
            Content::Memory(bytes) => bytes.read_at(buffer, offset),
            Content::File { start } => {
                // Behind it there are other parts.
                let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
                let most = buffer.len().min(left);
                self.spooled.file()?.read_at(&mut buffer[..most], start + offset)
            }
        }
    }

    fn in_memory(&self) -> Option<Bytes> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes.clone()),
            Content::File { .. } => None,
        }
    }
}
