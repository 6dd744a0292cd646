//! What every store of pictures offers: bytes under their digest, and a place apart for pictures that the journal does not
//! know, the *orphans*.

use std::fmt;
use std::io;
use std::sync::Arc;

use tempfile::NamedTempFile;

use crate::model::{ByteSource, Digest, RunningTime};

/// A store of pictures. Object-safe, so that what reads and writes pictures does not depend on an adapter. Every method but
/// `failed` blocks.
pub(crate) trait PictureStore: Send + Sync + fmt::Debug {
    /// Creates a temporary file for the bytes of a picture. Dropping it leaves nothing.
    ///
    /// # Errors
    ///
    /// When the file cannot be created.
    fn create_temporary(&self) -> io::Result<NamedTempFile>;

    /// Keeps a finished file under its digest, in place of one that is there. The picture is durable afterwards, unless
    /// `failed` says so; it can be read in any case.
    ///
    /// # Errors
    ///
    /// When the picture cannot be stored.
    fn keep(&self, file: NamedTempFile, digest: Digest) -> io::Result<()>;

    /// Marks the store durably: there are pictures that the journal alone has. A mark that may not be durable makes the store
    /// `failed`.
    ///
    /// # Errors
    ///
    /// When the mark cannot be made.
    fn mark_recorded(&self) -> io::Result<()>;

    /// Opens a picture.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is none; those of the store.
    fn open(&self, digest: &Digest) -> io::Result<OpenPicture>;

    /// Removes a picture if it exists.
    ///
    /// # Errors
    ///
    /// When the store refuses.
    fn remove(&self, digest: &Digest) -> io::Result<()>;

    /// Lists the pictures, in no particular order. One that is added or removed meanwhile may be listed or not.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn list(&self) -> io::Result<Listing<Digest>>;

    /// Makes a picture an orphan, with the time at which it became one. Returns its size; `None` when there is no such
    /// picture.
    ///
    /// # Errors
    ///
    /// When the store refuses; the picture is then where it was.
    fn set_aside(&self, digest: &Digest, at: RunningTime) -> io::Result<Option<u64>>;

    /// Makes an orphan a picture again. Returns whether that happened: not when there is no such orphan, nor when a picture
    /// is there under its digest.
    ///
    /// # Errors
    ///
    /// When the store refuses; the orphan is then where it was.
    fn bring_back(&self, digest: &Digest) -> io::Result<bool>;

    /// Lists the orphans, as `list` does the pictures.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn orphans(&self) -> io::Result<Listing<Orphan>>;

    /// Changes the time at which a picture became an orphan.
    ///
    /// # Errors
    ///
    /// When the store refuses.
    fn date_orphan(&self, digest: &Digest, at: RunningTime) -> io::Result<()>;

    /// Removes an orphan if it exists.
    ///
    /// # Errors
    ///
    /// When the store refuses.
    fn remove_orphan(&self, digest: &Digest) -> io::Result<()>;

    /// Returns whether a picture may not have become durable since the start. No record may then say that one is stored.
    fn failed(&self) -> bool;
}

/// Entries of a store, read while they are asked for.
pub(crate) type Listing<T> = Box<dyn Iterator<Item = io::Result<T>> + Send>;

/// A picture that is open for reading.
#[derive(Debug)]
pub(crate) struct OpenPicture {
    /// Reading fails when the picture was changed after it was opened.
    pub(crate) source: Arc<dyn ByteSource>,
    pub(crate) version: Version,
}

/// Which file a picture was read from, and in which state: bytes that were checked are the same as long as this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(super) file: (u64, u64),
    pub(super) bytes: u64,
    pub(super) modified: (i64, i64),
    pub(super) changed: (i64, i64),
}

/// A picture that the journal does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    /// When it became one.
    pub(crate) since: RunningTime,
}
