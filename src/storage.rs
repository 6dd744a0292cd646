//! What survives a restart: the journal of purchases, the pictures that were bought, and learned state; and, for the life
//! of a request, its uploads. Records and bytes, no policy. Declares and exports only.

pub(crate) mod clients;
mod descriptors;
pub(crate) mod journal;
mod open;
pub(crate) mod results;
pub(crate) mod spool;
mod state;

pub(crate) use journal::{Journal, JournalError};
pub(crate) use open::directory::{DataDirectory, DataDirectoryError, DirectoryState};
pub(crate) use open::disk_space::DiskSpace;
pub(crate) use open::{
    Storage, StorageError, StorageLock, check_journal, journal_file, open, open_state, stored_pictures,
};
pub(crate) use results::{PictureStore, Results};
#[cfg(test)]
pub(crate) use state::MemoryState;
pub(crate) use state::{LearnedState, SigningKey};
