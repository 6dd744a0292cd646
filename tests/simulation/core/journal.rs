//! A journal whose records become durable in their order, at random times.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::jobs::event::{AppendOutcome, Step};
use crate::model::{JobId, PurchaseId, RunningTime, Timestamp};
use crate::storage::journal::memory::{apply, has_ended};
use crate::storage::journal::{Record, StoredJob, StoredState};

/// The journal, on a disk that keeps what is durable.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// The jobs that the durable records add up to.
    pub(super) stored: BTreeMap<JobId, StoredJob>,
    /// The position of the last record that was appended.
    pub(super) appended: u64,
    /// The position of the last record that is durable or refused.
    written: u64,
    /// The positions of refused records.
    refused: Vec<u64>,
    /// Records that are not written yet.
    pending: VecDeque<Record>,
    /// The position of the last record that does not wait for another one.
    due: u64,
    /// What is notified when the journal has got to a position, in the order of the positions.
    waiting: VecDeque<Waiting>,
    /// The disk has failed: nothing more becomes durable.
    pub(super) failed: bool,
}

/// What is notified of the journal's progress.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    /// The jobs.
    Step {
        step: Step,
        /// The number of the change of formats that must be stored before.
        formats: u64,
    },
    /// A client that looks something up, or appends a record of its own.
    Client(usize),
}

/// A report that waits for the records of some positions.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    after: u64,
    last: u64,
    report: Report,
}

impl Journal {
    /// Appends a record; returns its position, which is never reached when the disk has failed.
    pub(super) fn append(&mut self, record: Record) -> u64 {
        if self.failed {
            return u64::MAX;
        }
        self.append_waiting(record);
        self.due = self.appended;
        self.appended
    }

    /// Appends a record that waits for another one, and that reads do not wait for.
    pub(super) fn append_waiting(&mut self, record: Record) -> u64 {
        if self.failed {
            return u64::MAX;
        }
        self.appended += 1;
        self.pending.push_back(record);
        self.appended
    }

    /// Notifies a reader once the records that are due are written. Returns the outcome if they are already.
    pub(super) fn notify_reader(&mut self, report: Report) -> Option<AppendOutcome> {
        if self.failed {
            return Some(AppendOutcome::Failed);
        }
        let last = self.due;
        if last <= self.written {
            return Some(AppendOutcome::Durable);
        }
        let place = self.waiting.partition_point(|waiting| waiting.last <= last);
        self.waiting.insert(place, Waiting { after: last, last, report });
        None
    }

    /// Notifies once the last `records` that were appended, and all before them, are written. Returns the outcome if it
    /// is known already.
    pub(super) fn notify(&mut self, report: Report, records: usize) -> Option<AppendOutcome> {
        if self.failed {
            return Some(AppendOutcome::Failed);
        }
        if self.pending.is_empty() {
            return Some(AppendOutcome::Durable);
        }
        let after = self.appended - u64::try_from(records).unwrap();
        self.waiting.push_back(Waiting { after, last: self.appended, report });
        None
    }

    /// Returns the number of records that are not written.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_durable(&self, position: u64) -> bool {
        position <= self.written && !self.refused.contains(&position)
    }

    /// Makes the next records durable.
    pub(super) fn sync(&mut self, records: usize, notify: impl FnMut(Report, AppendOutcome)) {
        self.write(records);
        self.notify_written(notify);
    }

    /// Refuses the next records, as when another program has locked the journal for a moment.
    pub(super) fn refuse(&mut self, records: usize, notify: impl FnMut(Report, AppendOutcome)) {
        for _ in self.pending.drain(..records) {
            self.written += 1;
            self.refused.push(self.written);
        }
        self.notify_written(notify);
    }

    /// Fails for good. The first records of those that are pending may have reached the disk; nothing says so.
    pub(super) fn fail(&mut self, survivors: usize, mut notify: impl FnMut(Report, AppendOutcome)) {
        self.write(survivors);
        self.lose();
        self.failed = true;
        self.waiting.drain(..).for_each(|waiting| notify(waiting.report, AppendOutcome::Failed));
    }

    /// Cuts the power: what is not durable is lost. The next gateway has a disk that works.
    pub(super) fn cut_power(&mut self) {
        self.lose();
        self.waiting.clear();
        self.failed = false;
    }

    fn notify_written(&mut self, mut notify: impl FnMut(Report, AppendOutcome)) {
        while let Some(&Waiting { after, last, report }) = self.waiting.front()
            && last <= self.written
        {
            self.waiting.pop_front();
            let is_refused = self.refused.iter().any(|&position| after < position && position <= last);
            notify(report, if is_refused { AppendOutcome::NotWritten } else { AppendOutcome::Durable });
        }
    }

    fn write(&mut self, records: usize) {
        for record in self.pending.drain(..records) {
            self.written += 1;
            // Like the tables, whose constraints refuse what has no job.
            if job_of(&record).is_none_or(|job| self.stored.contains_key(&job)) {
                apply(&mut self.stored, &record, stamp(&record));
            } else {
                self.refused.push(self.written);
            }
        }
    }

    fn lose(&mut self) {
        self.pending.clear();
        (self.appended, self.due) = (self.written, self.written);
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

/// Returns the running time of a moment: here it is the wall time.
pub(super) fn running(at: Timestamp) -> RunningTime {
    RunningTime::from_millis(u64::try_from(at.millis()).unwrap())
}

/// Returns when a record was written, where its stamp is read.
fn stamp(record: &Record) -> RunningTime {
    if let Record::Accepted { at, .. } = record { running(*at) } else { RunningTime::default() }
}

/// Returns the job that a record needs.
fn job_of(record: &Record) -> Option<JobId> {
    match record {
        Record::Committing { purchase, .. }
        | Record::Withdrawn { purchase }
        | Record::Resubmitted { purchase }
        | Record::Accepted { purchase, .. }
        | Record::Resolved { purchase, .. }
        | Record::Restored { purchase, .. }
        | Record::Failed { purchase, .. } => Some(purchase.job),
        Record::Delivered { job, .. }
        | Record::Evicted { job }
        | Record::Deleted { job }
        | Record::PromptExpired { job }
        | Record::Subscribed { job, .. } => Some(*job),
        Record::Intent { .. } | Record::WebhookTried { .. } | Record::WebhookEnded { .. } => None,
    }
}
