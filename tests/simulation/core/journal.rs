//! A journal whose records become durable in their order, at random times.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::jobs::event::Step;
use crate::model::{JobId, PurchaseId};
use crate::storage::journal::memory::{apply, has_ended};
use crate::storage::journal::{Record, StoredJob, StoredState};

/// The journal, on a disk that keeps what is durable.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The jobs that the durable records add up to.
    pub(super) stored: BTreeMap<JobId, StoredJob>,
    /// The number of records that were appended; those of a gateway that lost them do not count.
    pub(super) appended: u64,
    /// The number of records that are durable.
    pub(super) durable: u64,
    /// Records that are not durable yet.
    pending: VecDeque<Record>,
    /// What is notified when the journal has got to a position, in the order of the positions.
    waiting: VecDeque<(u64, Report)>,
    /// The disk has failed: nothing more becomes durable.
    pub(super) failed: bool,
}

/// What is notified of the journal's progress.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    /// The jobs.
    Step(Step),
    /// A client that looks something up, or appends a record of its own.
    Client(usize),
}

impl Journal {
    /// Appends a record; returns its position, which is never reached when the disk has failed.
    pub(super) fn append(&mut self, record: Record) -> u64 {
        if self.failed {
            return u64::MAX;
        }
        self.appended += 1;
        self.pending.push_back(record);
        self.appended
    }

    /// Notifies once all that was appended so far is durable. Returns the report if that is so already, or never will.
    pub(super) fn notify(&mut self, report: Report) -> Option<Report> {
        if self.failed || self.pending.is_empty() {
            return Some(report);
        }
        self.waiting.push_back((self.appended, report));
        None
    }

    /// Whether a record can become durable.
    pub(super) fn can_sync(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns the number of records that are not durable.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Makes the next records durable.
    pub(super) fn sync(&mut self, records: usize, mut notify: impl FnMut(Report)) {
        self.write(records);
        while self.waiting.front().is_some_and(|&(position, _)| position <= self.durable) {
            notify(self.waiting.pop_front().expect("there is a first").1);
        }
    }

    /// Fails for good. The first records of those that are pending may have reached the disk; nothing says so.
    pub(super) fn fail(&mut self, survivors: usize, mut notify: impl FnMut(Report)) {
        self.write(survivors);
        self.lose();
        self.failed = true;
        self.waiting.drain(..).for_each(|(_, report)| notify(report));
    }

    /// Cuts the power: what is not durable is lost. The next gateway has a disk that works.
    pub(super) fn cut_power(&mut self) {
        self.lose();
        self.waiting.clear();
        self.failed = false;
    }

    fn write(&mut self, records: usize) {
        for record in self.pending.drain(..records) {
            self.durable += 1;
            apply(&mut self.stored, &record);
        }
    }

    fn lose(&mut self) {
        self.pending.clear();
        self.appended = self.durable;
    }

    /// Returns the durable state of a purchase.
    pub(super) fn state(&self, purchase: PurchaseId) -> Option<&StoredState> {
        let stored = self.stored.get(&purchase.job)?;
        stored.purchases.get(usize::from(purchase.slot)).map(|purchase| &purchase.state)
    }

    /// Returns the jobs that have not ended.
    pub(super) fn unfinished(&self) -> Vec<StoredJob> {
        let unfinished = |stored: &&StoredJob| stored.purchases.iter().any(|purchase| !has_ended(&purchase.state));
        self.stored.values().filter(unfinished).cloned().collect()
    }
}
