//! The journal: every purchase is recorded before the step that the record guards. Declares and exports only.

#[cfg(test)]
pub(crate) mod memory;
mod record;
mod sqlite;
mod stored;
mod traits;

pub(crate) use record::{JobRecord, Record, Resolution, WebhookEnd};
pub(crate) use sqlite::SqliteJournal;
pub(crate) use sqlite::ledger::{JobFilter, Ledger, LedgerError, PurchaseTimes};
#[cfg(test)]
pub(crate) use stored::JobEnd;
pub(crate) use stored::{PendingWebhook, StoredJob, StoredPurchase, StoredResult, StoredState};
pub(crate) use traits::{Journal, JournalError};
