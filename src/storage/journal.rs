//! The journal: every purchase is recorded before the step that the record guards. Declares, exports and opens only.

use std::path::Path;
use std::sync::Arc;

mod content;
#[cfg(test)]
mod contract;
mod ledger;
#[cfg(test)]
pub(crate) mod memory;
mod record;
mod sqlite;
mod stored;
mod traits;

pub(crate) use content::PictureBytes;
pub(crate) use ledger::{JobFilter, Ledger, LedgerError, PurchaseTimes};
pub(crate) use record::{JobRecord, Record, Resolution, WebhookEnd};
pub(super) use sqlite::schema::SCHEMA_VERSION;
#[cfg(test)]
pub(crate) use stored::JobEnd;
pub(crate) use stored::{
    PendingWebhook, ResultPage, StoredJob, StoredPurchase, StoredResult, StoredState, UndecidedPurchases, UsedQuota,
};
pub(crate) use traits::{Durability, Journal, JournalError, Standing};

/// Opens or creates the journal in `path`, and locks it.
///
/// # Errors
///
/// [`JournalError`] when the file is in use by another gateway, cannot be opened, is damaged, or was written by a newer
/// version.
pub(crate) fn open(path: &Path) -> Result<Arc<dyn Journal>, JournalError> {
    Ok(Arc::new(sqlite::SqliteJournal::open(path)?))
}

/// Returns whether a gateway has the journal in `path` open. Not for a process that has it open itself.
pub(crate) fn is_open(path: &Path) -> bool {
    sqlite::thread::file::is_locked(path)
}

/// Opens the ledger in `path`, which must exist. A gateway may have it open as its journal.
///
/// # Errors
///
/// [`LedgerError`].
pub(crate) fn open_ledger(path: &Path) -> Result<Box<dyn Ledger>, LedgerError> {
    Ok(Box::new(sqlite::ledger::SqliteLedger::open(path)?))
}
