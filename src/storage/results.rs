//! Pictures that were bought: content-addressed files, and a read cache of small ones in memory, there as the base64 that
//! answers are made of: a picture that is asked for again costs no more than writing it.
//!
//! A picture is written to a temporary file, checked to be whole, synced, renamed to its digest, and its directory
//! synced, before the journal says that it is there. Two orders with equal bytes share one file.
//!
//! Many pictures may be on their way at once. What arrives is gathered in memory up to [`GATHERED_BYTES`] before it is
//! written, so that a small picture meets the disk once, off the asynchronous threads; and one sync of the directory
//! stands for all renames before it.
//!
//! A picture is paid for. When its file cannot be opened because the process, or the machine, has no descriptor left in that
//! moment, the write waits for one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64_simd::STANDARD;
use bytes::Bytes;
use moka::sync::Cache;
use tempfile::NamedTempFile;

use crate::model::picture::{InvalidPicture, check_whole};
use crate::model::{ByteSource, Digest, StoredPicture};
use crate::storage::is_out_of_descriptors;

/// The store of bought pictures. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    directory: Arc<Path>,
    /// Pictures as base64.
    memory: Cache<Digest, Bytes>,
    memory_picture_bytes_max: u64,
    renames: Arc<Renames>,
    /// A sync has failed: what is written may not survive.
    failed: Arc<AtomicBool>,
}

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

/// Bytes that an allocation of the cache costs besides the picture.
const ENTRY_OVERHEAD_BYTES: u32 = 200;
/// Bytes of a picture that are gathered before they are written.
const GATHERED_BYTES: usize = 256 * 1024;

impl Results {
    /// The store in `directory`, which must exist, with a read cache of `memory_bytes_max` for pictures of at most
    /// `memory_picture_bytes_max` bytes. Leftovers of writes that a crash cut short are removed.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read or written.
    pub(crate) fn open(directory: &Path, memory_bytes_max: u64, memory_picture_bytes_max: u64) -> io::Result<Self> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path)?;
            }
        }
        let memory = Cache::builder()
            .max_capacity(memory_bytes_max)
            .weigher(|_, text: &Bytes| {
                u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_add(ENTRY_OVERHEAD_BYTES)
            })
            .build();
        let renames = Arc::new(Renames::in_directory(directory)?);
        Ok(Self { directory: directory.into(), memory, memory_picture_bytes_max, renames, failed: Arc::default() })
    }

    /// Whether a sync has failed since the start. Pictures are still stored and read, but may not survive; no record may
    /// say that they are there.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Begins a picture of at most `bytes_max` bytes.
    pub(crate) fn write(&self, bytes_max: u64) -> PictureWriter {
        let hasher = blake3::Hasher::new();
        PictureWriter { store: self.clone(), gathered: Vec::new(), file: None, hasher, bytes: 0, bytes_max }
    }

    /// The bytes of a stored picture, from memory where they fit there.
    ///
    /// # Errors
    ///
    /// When the file is gone, or is no longer what was stored.
    pub(crate) async fn read(&self, picture: &StoredPicture) -> io::Result<Arc<dyn ByteSource>> {
        if let Some(text) = self.memory.get(&picture.digest) {
            return Ok(Arc::new(Encoded { text, bytes: picture.bytes }));
        }
        let (path, picture, in_memory) =
            (self.path(&picture.digest), *picture, picture.bytes <= self.memory_picture_bytes_max);
        let store = self.clone();
        blocking(move || {
            let file = File::open(path)?;
            if file.metadata()?.len() != picture.bytes {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored picture has another length"));
            }
            let stored = StoredFile { file, bytes: picture.bytes };
            if !in_memory {
                return Ok(Arc::new(stored) as Arc<dyn ByteSource>);
            }
            let size = usize::try_from(picture.bytes).map_err(io::Error::other)?;
            let bytes = crate::model::picture::read_full(&stored, 0, size)?;
            if Digest::of(&bytes) != picture.digest {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored picture has other bytes"));
            }
            Ok(Arc::new(store.remember(picture.digest, &bytes)) as Arc<dyn ByteSource>)
        })
        .await
    }

    /// Keeps a picture in memory.
    fn remember(&self, digest: Digest, bytes: &[u8]) -> Encoded {
        let text = Bytes::from(STANDARD.encode_type::<Vec<u8>>(bytes));
        self.memory.insert(digest, text.clone());
        Encoded { text, bytes: bytes.len() as u64 }
    }

    /// Removes a picture's file. One that is gone already is fine.
    ///
    /// # Errors
    ///
    /// Whatever the file system reports.
    pub(crate) async fn remove(&self, digest: Digest) -> io::Result<()> {
        self.memory.invalidate(&digest);
        let path = self.path(&digest);
        blocking(move || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    /// Removes the files of pictures that are not `known`; returns how many there were.
    ///
    /// # Errors
    ///
    /// Whatever the file system reports.
    pub(crate) async fn remove_unknown(&self, known: HashSet<Digest>) -> io::Result<usize> {
        let directory = Arc::clone(&self.directory);
        blocking(move || {
            let mut removed = 0;
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let digest = entry.file_name().to_str().and_then(Digest::from_hex);
                if digest.is_some_and(|digest| !known.contains(&digest)) {
                    fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Bytes of pictures held in memory, about.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.weighted_size()
    }

    /// File names are digests only; nothing a client or the upstream says reaches the file system.
    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.to_string())
    }
}

/// A picture that is being stored. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct PictureWriter {
    store: Results,
    /// Bytes that are not in the file yet.
    gathered: Vec<u8>,
    /// Made when the first bytes are written. Absent too while a write is under way.
    file: Option<NamedTempFile>,
    hasher: blake3::Hasher,
    bytes: u64,
    bytes_max: u64,
}

impl PictureWriter {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`ResultsError`]; the picture is then of no further use.
    pub(crate) async fn push(&mut self, chunk: Bytes) -> Result<(), ResultsError> {
        self.bytes += chunk.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(ResultsError::TooLarge { bytes_max: self.bytes_max });
        }
        self.hasher.update(&chunk);
        self.gathered.extend_from_slice(&chunk);
        if self.gathered.len() >= GATHERED_BYTES {
            let (file, gathered) = (self.file.take(), std::mem::take(&mut self.gathered));
            let directory = Arc::clone(&self.store.directory);
            let written = blocking(move || append(&directory, file, gathered)).await?;
            (self.file, self.gathered) = (Some(written.0), written.1);
        }
        Ok(())
    }

    /// Checks that the picture is whole and makes it durable.
    ///
    /// # Errors
    ///
    /// [`ResultsError::InvalidPicture`] for anything that is not a whole PNG, JPEG or WebP.
    pub(crate) async fn finish(self) -> Result<StoredPicture, ResultsError> {
        let Self { store, gathered, file, hasher, bytes, .. } = self;
        if file.is_none() && bytes > gathered.len() as u64 {
            return Err(io::Error::other("an earlier write was cut short").into());
        }
        let digest = Digest::from(hasher.finalize());
        let checked = blocking(move || match file {
            None => {
                let picture = Bytes::from(gathered);
                let checked = check_whole(&picture)?;
                if checked.is_ok() {
                    let mut file = temporary(&store.directory)?;
                    file.write_all(&picture)?;
                    store.keep(file, digest)?;
                    if bytes <= store.memory_picture_bytes_max {
                        // Somebody waits for it.
                        store.remember(digest, &picture);
                    }
                }
                Ok(checked)
            }
            Some(file) => {
                let (file, _) = append(&store.directory, Some(file), gathered)?;
                let again = with_a_descriptor(|| file.reopen())?;
                let checked = check_whole(&StoredFile { file: again, bytes })?;
                if checked.is_ok() {
                    store.keep(file, digest)?;
                }
                Ok(checked)
            }
        })
        .await?;
        let (format, (width, height)) = checked?;
        Ok(StoredPicture { digest, bytes, format, width, height })
    }
}

impl Results {
    /// Makes a whole picture durable, under its digest. Blocks.
    fn keep(&self, file: NamedTempFile, digest: Digest) -> io::Result<()> {
        let synced = file.as_file().sync_all();
        file.persist(self.path(&digest))?;
        // The rename itself must survive: without this the file could be gone after a power cut.
        if let Err(error) = synced.and_then(|()| self.renames.sync()) {
            // Asking again would only hear that all is well. The bytes can still be read and delivered.
            self.failed.store(true, Ordering::Relaxed);
            tracing::error!(%error, "a picture could not be synced; nothing is bought until a restart");
        }
        Ok(())
    }
}

/// Syncs of one directory, after renames in it. A sync that begins after a rename covers it, whoever asked for it.
#[derive(Debug)]
struct Renames {
    directory: File,
    /// Renames so far.
    made: AtomicU64,
    /// Renames that have been synced, or why no more are.
    synced: Mutex<Result<u64, io::ErrorKind>>,
}

impl Renames {
    fn in_directory(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: File::open(path)?, made: AtomicU64::new(0), synced: Mutex::new(Ok(0)) })
    }

    /// Makes a rename that has just been made durable. Blocks.
    fn sync(&self) -> io::Result<()> {
        let own = self.made.fetch_add(1, Ordering::AcqRel) + 1;
        // Whoever waits here for a sync that began too early finds, most often, that the next one was enough.
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        match *synced {
            Ok(through) if through >= own => Ok(()),
            Ok(_) => {
                let through = self.made.load(Ordering::Acquire);
                let result = self.directory.sync_all();
                *synced = result.as_ref().map(|()| through).map_err(io::Error::kind);
                result
            }
            Err(kind) => Err(kind.into()),
        }
    }
}

fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    with_a_descriptor(|| tempfile::Builder::new().suffix(".tmp").tempfile_in(directory))
}

/// How long a write waits for a descriptor, and how often it looks.
const DESCRIPTOR_WAIT: Duration = Duration::from_mins(1);
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(50);

/// Opens a file, as soon as there is a descriptor for it. Blocks.
fn with_a_descriptor<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match open() {
            Err(error) if is_out_of_descriptors(&error) && began.elapsed() < DESCRIPTOR_WAIT => {
                std::thread::sleep(DESCRIPTOR_PAUSE);
            }
            result => return result,
        }
    }
}

/// Writes what was gathered to the file, made now if there is none, and gives the buffer back empty.
fn append(
    directory: &Path,
    file: Option<NamedTempFile>,
    mut gathered: Vec<u8>,
) -> io::Result<(NamedTempFile, Vec<u8>)> {
    let mut file = file.map_or_else(|| temporary(directory), Ok)?;
    file.write_all(&gathered)?;
    gathered.clear();
    Ok((file, gathered))
}

/// A stored picture in memory.
#[derive(Debug)]
struct Encoded {
    text: Bytes,
    bytes: u64,
}

impl ByteSource for Encoded {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = (buffer.len() as u64).min(self.bytes.saturating_sub(offset));
        // Four letters hold three bytes.
        let (first, end) = (offset / 3, (offset + wanted).div_ceil(3));
        let range = |group: u64| usize::try_from(group * 4).map_err(io::Error::other);
        let letters = self.text.get(range(first)?..range(end)?).unwrap_or_default();
        let decoded = STANDARD.decode_to_vec(letters).map_err(io::Error::other)?;
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

/// A stored picture that stays in its file.
#[derive(Debug)]
struct StoredFile {
    file: File,
    bytes: u64,
}

impl ByteSource for StoredFile {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

async fn blocking<T, F>(work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::model::Format;
    use crate::model::picture::read_full;

    fn png() -> Bytes {
        let mut bytes = io::Cursor::new(Vec::new());
        image::RgbImage::new(30, 20).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner().into()
    }

    async fn store(results: &Results, bytes: Bytes) -> Result<StoredPicture, ResultsError> {
        let mut writer = results.write(1 << 20);
        for chunk in bytes.chunks(50) {
            writer.push(Bytes::copy_from_slice(chunk)).await?;
        }
        writer.finish().await
    }

    #[tokio::test]
    async fn a_whole_picture_is_kept_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
        let picture = store(&results, png()).await.unwrap();
        assert_eq!((picture.format, picture.width, picture.height), (Format::Png, 30, 20));
        for in_memory in [1 << 20, 0] {
            let results = Results::open(directory.path(), 1 << 20, in_memory).unwrap();
            let source = results.read(&picture).await.unwrap();
            assert_eq!(read_full(&*source, 0, 1 << 20).unwrap(), png());
            let text = STANDARD.encode_to_string(png());
            assert_eq!(source.base64(), (in_memory > 0).then(|| Bytes::from(text)));
            for offset in 0..10 {
                for size in 0..10 {
                    let found = read_full(&*source, offset, size).unwrap();
                    assert_eq!(found, png()[usize::try_from(offset).unwrap()..][..size], "{size} at {offset}");
                }
            }
            let end = png().len() as u64;
            assert_eq!(read_full(&*source, end - 2, 10).unwrap(), png()[png().len() - 2..]);
            assert!(read_full(&*source, end + 5, 10).unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_cut_picture_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
        let cut = png().slice(..png().len() - 1);
        assert!(matches!(store(&results, cut).await, Err(ResultsError::InvalidPicture(InvalidPicture::CutShort))));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_changed_file_is_not_delivered() {
        let directory = tempfile::tempdir().unwrap();
        let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
        let picture = store(&results, png()).await.unwrap();
        let path = directory.path().join(picture.digest.to_string());
        let mut bytes = fs::read(&path).unwrap();
        bytes[25] ^= 1;
        fs::write(&path, bytes).unwrap();
        // After a restart: before, it is in memory.
        let results = Results::open(directory.path(), 1 << 20, 1 << 20).unwrap();
        assert!(results.read(&picture).await.is_err());
    }

    #[tokio::test]
    async fn leftovers_are_removed_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("half.tmp"), b"half").unwrap();
        Results::open(directory.path(), 1, 1).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_write_waits_for_a_descriptor_and_for_nothing_else() {
        let tries = std::cell::Cell::new(0);
        let outcome = |error: Errno| {
            tries.set(0);
            with_a_descriptor(|| {
                tries.set(tries.get() + 1);
                if tries.get() < 3 { Err(io::Error::from(error)) } else { Ok(()) }
            })
        };
        assert!(outcome(Errno::MFILE).is_ok());
        assert_eq!(tries.get(), 3);
        assert!(outcome(Errno::NOSPC).is_err());
        assert_eq!(tries.get(), 1);
    }
}
