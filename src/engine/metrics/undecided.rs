//! Purchases of unknown outcome about which the operator has not decided. The journal knows them, over every restart, and
//! decisions are written to it by other programs (`ledger resolve`) and by the administration, so it is read again and again.
//! What this process adds is counted at once.
//!
//! Race: a purchase ends while the journal is being read. What was read may be without it, so it is read once more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::model::{Catalogue, Usd};
use crate::storage::journal::UndecidedPurchases;
use crate::storage::{Journal, JournalError};

/// How often the journal is read: a decision shows within this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a read, in multiples of how long it took: a journal with very many such purchases has other work, too.
const PAUSE_FACTOR: u32 = 100;

/// How many there are, and what they may have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct UndecidedSum {
    pub(super) purchases: u64,
    pub(super) usd: f64,
}

/// The purchases that wait for a decision. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Undecided {
    known: Arc<Mutex<Known>>,
    purchases: Gauge,
    usd: Gauge<f64, std::sync::atomic::AtomicU64>,
}

#[derive(Debug, Default)]
struct Known {
    sum: UndecidedSum,
    /// Purchases that this process has added.
    added: u64,
}

impl Undecided {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Purchases of unknown outcome about which the operator has not decided, from the journal";
        registry.register("purchases_undecided", help, self.purchases.clone());
        let help = "US dollars that these purchases may have cost, by the prices of the catalogue";
        registry.register("undecided_usd", help, self.usd.clone());
    }

    pub(super) fn sum(&self) -> UndecidedSum {
        self.lock().sum
    }

    /// Counts a purchase that has ended with an unknown outcome, which is recorded.
    pub(super) fn add(&self, Usd(usd): Usd) {
        let mut known = self.lock();
        known.added += 1;
        let UndecidedSum { purchases, usd: before } = known.sum;
        self.set(&mut known, UndecidedSum { purchases: purchases + 1, usd: before + usd });
    }

    /// Reads the journal, again if a purchase is added meanwhile.
    ///
    /// # Errors
    ///
    /// [`JournalError`] when it cannot be read: what was known before stays.
    pub(crate) async fn read(&self, journal: &dyn Journal, catalogue: &Catalogue) -> Result<(), JournalError> {
        loop {
            let before = self.lock().added;
            let read = sum(&journal.undecided().await?, catalogue);
            if self.replace(before, read) {
                return Ok(());
            }
        }
    }

    /// Takes over what was read after `before` purchases were added; returns whether none was added meanwhile.
    fn replace(&self, before: u64, read: UndecidedSum) -> bool {
        let mut known = self.lock();
        let is_whole = known.added == before;
        if is_whole {
            self.set(&mut known, read);
        }
        is_whole
    }

    /// Reads the journal for as long as it is polled.
    pub(crate) async fn follow(self, journal: Arc<dyn Journal>, catalogue: Arc<Catalogue>) {
        let mut was_readable = true;
        loop {
            let began = Instant::now();
            let read = self.read(&*journal, &catalogue).await;
            if let Err(error) = &read
                && was_readable
            {
                tracing::warn!(%error, "purchases that wait for a decision cannot be counted; the last number stays");
            }
            was_readable = read.is_ok();
            tokio::time::sleep(INTERVAL.max(began.elapsed() * PAUSE_FACTOR)).await;
        }
    }

    fn set(&self, known: &mut Known, sum: UndecidedSum) {
        known.sum = sum;
        self.purchases.set(i64::try_from(sum.purchases).unwrap_or(i64::MAX));
        self.usd.set(sum.usd);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds up, by the prices of the catalogue; models that it no longer has are counted without a price.
fn sum(undecided: &[UndecidedPurchases], catalogue: &Catalogue) -> UndecidedSum {
    undecided.iter().fold(UndecidedSum::default(), |sum, alike| {
        let model = catalogue.find(&alike.model);
        let each = model.map(|model| model.price.estimate(usize::from(alike.pictures), alike.terms()));
        let count = f64::from(u32::try_from(alike.purchases).unwrap_or(u32::MAX));
        UndecidedSum {
            purchases: sum.purchases + alike.purchases,
            usd: sum.usd + each.map_or(0.0, |Usd(usd)| usd) * count,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};
    use crate::storage::journal::memory::{Disk, MemoryJournal, SyncMode};

    #[tokio::test]
    async fn the_journal_replaces_what_was_counted() {
        let catalogue = Config::load(None, &Environment::default()).unwrap().catalogue;
        let journal = MemoryJournal::on(&Disk::default(), Duration::ZERO, SyncMode::Full);
        let undecided = Undecided::default();
        undecided.add(Usd(0.5));
        assert_eq!(undecided.sum(), UndecidedSum { purchases: 1, usd: 0.5 });
        undecided.read(&journal, &catalogue).await.unwrap();
        assert_eq!((undecided.sum(), undecided.purchases.get()), (UndecidedSum::default(), 0));
    }

    #[test]
    fn what_ends_while_the_journal_is_read_is_not_lost() {
        let undecided = Undecided::default();
        let before = undecided.lock().added;
        undecided.add(Usd(0.5));
        assert!(!undecided.replace(before, UndecidedSum::default()), "it is read once more");
        assert_eq!(undecided.sum(), UndecidedSum { purchases: 1, usd: 0.5 });
        assert!(undecided.replace(before + 1, UndecidedSum { purchases: 1, usd: 0.4 }));
        assert_eq!(undecided.sum(), UndecidedSum { purchases: 1, usd: 0.4 });
    }
}
