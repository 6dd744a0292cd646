//! Forward reading of a byte source, in few reads.

use std::io;

use bytes::Bytes;

use super::source::{ByteSource, fill};

/// Bytes that are read at once from a source that is not in memory.
pub(crate) const WINDOW_BYTES: usize = 64 * 1024;

/// The part of a source that is looked at. It moves forward only, so that every byte is read at most once, but for a few
/// at the edges.
#[derive(Debug)]
pub(super) struct Window<'s> {
    source: &'s dyn ByteSource,
    size: u64,
    /// Offset of `held` in the source.
    start: u64,
    held: Held,
}

#[derive(Debug)]
enum Held {
    /// All of the source, which is in memory.
    All(Bytes),
    Read(Vec<u8>),
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::All(bytes) => bytes,
            Self::Read(bytes) => bytes,
        }
    }
}

impl<'s> Window<'s> {
    pub(super) fn new(source: &'s dyn ByteSource) -> Self {
        let held = source.in_memory().map_or_else(|| Held::Read(Vec::new()), Held::All);
        Self { source, size: source.size(), start: 0, held }
    }

    /// Returns the length of the source.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the `count` bytes at an offset, fewer only at the end of the source. `count` is at most [`WINDOW_BYTES`].
    ///
    /// # Errors
    ///
    /// As [`ByteSource::read_at`].
    pub(super) fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        self.load(at, count)?;
        let held = self.from(at);
        Ok(&held[..held.len().min(count)])
    }

    /// Returns at least one and at most `max` bytes at an offset; none only at the end of the source.
    ///
    /// # Errors
    ///
    /// As [`ByteSource::read_at`].
    pub(super) fn next(&mut self, at: u64, max: u64) -> io::Result<&[u8]> {
        self.load(at, 1)?;
        let held = self.from(at);
        let count = usize::try_from(max).map_or(held.len(), |max| max.min(held.len()));
        Ok(&held[..count])
    }

    /// Reads the source from `at`, unless `count` bytes from there are held.
    fn load(&mut self, at: u64, count: usize) -> io::Result<()> {
        let wanted = (at + count as u64).min(self.size);
        let is_held = at >= self.start && wanted <= self.start + self.held.bytes().len() as u64;
        if let Held::Read(buffer) = &mut self.held
            && !is_held
        {
            let rest = usize::try_from(self.size.saturating_sub(at)).unwrap_or(WINDOW_BYTES);
            buffer.resize(rest.min(WINDOW_BYTES), 0);
            let filled = fill(self.source, at, buffer)?;
            buffer.truncate(filled);
            self.start = at;
        }
        Ok(())
    }

    fn from(&self, at: u64) -> &[u8] {
        let skipped = at.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.held.bytes().get(skipped..)).unwrap_or_default()
    }
}
