//! The mark of a folder whose pictures are partly in the journal: without the journal, such a folder looks empty.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

/// No digest, so no picture has this name.
const NAME: &str = "in-journal";

/// An empty file in the folder of the pictures.
#[derive(Debug)]
pub(super) struct JournalMark {
    path: PathBuf,
}

impl JournalMark {
    pub(super) fn of(pictures: &Path) -> Self {
        Self { path: pictures.join(NAME) }
    }

    /// Makes the mark, which is durable once its folder is synced.
    pub(super) fn set(&self) -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(false).open(&self.path).map(drop)
    }

    pub(super) fn is_there(&self) -> io::Result<bool> {
        self.path.try_exists()
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        super::remove_if_there(&self.path)
    }
}
