//! A part that has arrived, in memory or in the file of its upload.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::file::UploadFile;
use crate::model::ByteSource;

/// A part that has arrived.
#[derive(Debug)]
pub(super) struct Part {
    /// Holds the space of the part, also when its bytes are in memory.
    pub(super) upload: Arc<UploadFile>,
    pub(super) content: Content,
    pub(super) bytes: u64,
}

#[derive(Debug)]
pub(super) enum Content {
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
                // Other parts follow in the file.
                let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
                let wanted = buffer.len().min(left);
                self.upload.file()?.read_at(&mut buffer[..wanted], start + offset)
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
