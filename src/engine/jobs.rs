//! The jobs that are under way: events in, effects out.
//!
//! No clock, no lock, no task and no I/O is in this module, so each decision about money can be tested in every order of
//! events. The driver owns [`Jobs`] behind its lock, carries out the effects and reports their results.
//!
//! Where each decision is made:
//! - which request joins which job: `engine/reuse.rs`, looked up in `table`;
//! - when the last byte of a submit may leave: `purchase/commit`; the byte is held in `upstream/exchange/last_byte.rs`;
//! - when a submit without an answer counts as accepted: `purchase/submit`;
//! - what waits for which record, and what follows when it is not written: `purchase/append`;
//! - what follows a submit, a poll or a fetch: `purchase/decisions`; when it is polled: `engine/polls.rs`;
//! - when a job is abandoned, and when it ends: `handle`;
//! - which failure it ends with: `job/outcome`; what it is after a restart: `job/recovered`.
//!
//! Known races, and their solutions; `tests/races` has each in both orders.
//!
//! Requests:
//! - *Two equal requests arrive at once.* The table is searched again before a job is listed; the second joins the first.
//! - *An equal job is listed and ends while a request looks for stored answers.* The request looks again before it lists.
//! - *A request joins, or keeps the job, while its last waiter leaves.* A job that is abandoned is off the list, and the
//!   request buys for itself.
//! - *A request with the key of an abandoned job arrives before that job has ended.* The key belongs to the new job; the
//!   end of the old one does not remove it.
//! - *The last waiter leaves while the budget grants a submit.* What comes first decides. A job that is abandoned is off
//!   the list and returns the grant unused; a purchase that is submitted is followed to its end, and so are the others of
//!   its job for as long as it is, or may be, bought.
//! - *The last waiter leaves while the budget does not grant a submit, or while the intent or an end is journalled.* The
//!   job ends once, with what came first.
//! - *The last waiter leaves while a refused submit is withdrawn.* The purchase counts as bought until the withdrawal is
//!   durable, and the job is then looked at again.
//! - *A client cancels while the budget grants a submit, or the upstream answers one.* As with the last waiter.
//! - *A client cancels while another of its requests joins.* A job with a waiter goes on; one that is cancelled is off the
//!   list.
//! - *A request joins while the end of a job is journalled.* It gets the outcome of the job.
//! - *A purchase of a job ends while another is granted, or ends.* They do not depend on each other; the job ends with the
//!   last.
//!
//! Times:
//! - *A request joins or keeps a job whose time to start is over, or extends it.* The time of the latest waiter counts.
//! - *The time to start is over while the budget grants a submit.* A submit that is too late is returned unused.
//! - *The time to start is over while a refused submit is withdrawn.* It is not queued again.
//! - *A pause ends while the last waiter leaves.* The purchase is dropped, from its pause or from the queue.
//! - *A slow submit is refused when it begins to count as accepted.* The purchase pauses whichever came first.
//! - *The deadline passes while a purchase is polled or its pictures are fetched.* The next answer decides, and pictures
//!   that came are delivered.
//! - *Two accounts refuse their keys.* The purchase ends with the second refusal, in either order.
//!
//! Formats; one purchase tries a format out, and another keeps its grant and waits:
//! - *A format that one purchase waits for is accepted.* The one that waits is submitted in it, with the grant it kept.
//! - *A format that one purchase waits for is refused.* The one that waits tries what is left. The one that was refused has
//!   returned its grant and is queued again, so it would be waited for in vain where all grants are kept.
//! - *A purchase that tries a format out is pushed back.* Kept grants are returned; the budget decides who is next.
//! - *A purchase that tries a format out ends without an answer.* The one that waits tries instead.
//! - *A format that one purchase waits for is presumed to be accepted.* Those that wait are submitted in it.
//! - *The last waiter leaves, or the gateway begins to stop, while a purchase waits for a format.* It ends, and returns its
//!   grant.
//! - *The time to start is over while a purchase waits for a format.* As while the budget grants a submit.
//! - *The time to wait for a format is over when the answer comes.* It is submitted once.
//!
//! The journal:
//! - *The intent cannot be written while a submit is uploaded or answered.* The purchase ends, and its last byte does not
//!   leave. One that the upstream has accepted all the same is followed to its end, without records.
//! - *The commit record cannot be written while the submit is answered.* The last byte does not leave. The purchase ends
//!   if the journal has failed; otherwise it is submitted again.
//! - *The commit record becomes durable while the submit is answered.* The record may be on disk, so the refused submit is
//!   withdrawn; nothing is sent for a submit that has ended.
//! - *The commit record becomes durable before the intent is known to be.* The last byte waits for both.
//! - *The commit record of an earlier submit becomes durable late.* It lets no byte of a later submit leave.
//! - *The journal fails while the budget grants a submit of another job.* A submit that is granted later is returned
//!   unused; one that was granted before breaks off at its own commit record. A record that is refused once stops nothing.
//!
//! Damaged pictures, which are fetched again:
//! - *Several requests find the same damaged result.* There is one refetch, which the others join.
//! - *A request arrives while the pictures of an equal one are fetched again.* The stored result decides whether it answers
//!   the request; a refetch is in no index, so no request joins one that it may not have.
//! - *The time of a refetch is over while its pictures arrive.* What comes first decides. Pictures that are stored later are
//!   found by the next request.
//! - *The gateway begins to stop, or a client cancels, while pictures are fetched again.* The refetch goes on; after a
//!   restart the next request begins another.
//!
//! The gateway begins to stop:
//! - *while a request arrives.* It may join; no new job is listed.
//! - *while the budget grants a submit.* What is submitted is followed to its end.
//! - *while a submit is refused or withdrawn, or a purchase pauses.* It is not queued again.
//! - *while the last waiter leaves, or the budget explains a delay.* The job ends once, with what came first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::reuse::ReusePolicy;
use crate::model::{ApiKind, ClientId, Failure, Fingerprint, IdempotencyKey, JobId, PurchaseId, Webhook};
use crate::storage::journal::{JobRecord, Record};
use crate::upstream::formats::{FormatOptions, FormatTable};

pub(super) mod event;
mod handle;
pub(super) mod job;
mod purchase;
pub(super) mod rules;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod view;

pub(crate) use event::JobStage;
use event::{Effect, Now, ProgressChange, Step};
pub(super) use job::recovered::{EndedAtStart, RecoveredJob, recover};
pub(super) use job::refetched::refetched;
use job::{Job, Listing};
pub(super) use job::{OpenPurchase, StartTimes};
use purchase::{Intent, Purchase, State};
use rules::Rules;
use table::Table;
use timers::Timers;
pub(super) use view::{CancelOutcome, Counts, LiveView, PaymentStatus};

/// The jobs that are under way.
#[derive(Debug)]
pub(super) struct Jobs {
    rules: Rules,
    /// The live jobs; the driver only reads them.
    pub(super) table: Table,
    timers: Timers,
    /// The request formats that the upstream is known to accept.
    pub(super) formats: FormatTable,
    /// The purchases that wait until another one has tried out a format.
    awaiting_format: BTreeSet<PurchaseId>,
    /// Why nothing is submitted any more: the gateway stops, or the journal has failed.
    closed: Option<Failure>,
}

/// A job to be listed.
#[derive(Debug)]
pub(super) struct NewJob {
    pub(super) record: Arc<JobRecord>,
    pub(super) api_kind: ApiKind,
    /// The formats that its submits can be written in.
    pub(super) formats: Arc<FormatOptions>,
    /// The number of pictures of each purchase.
    pub(super) pictures: Vec<u8>,
    /// The address that is notified when it ends.
    pub(super) webhook: Option<Webhook>,
    pub(super) times: StartTimes,
}

/// The result of listing a job.
#[derive(Debug)]
pub(super) enum ListOutcome {
    /// Its purchases are queued once these effects are carried out.
    New(Vec<Effect>),
    /// A live job was joined instead.
    Joined(Arc<JobRecord>),
    /// An equal job has ended since the request looked for stored answers, so it has to look again.
    LookAgain(Box<NewJob>),
}

impl Jobs {
    pub(super) fn new(rules: Rules, formats: FormatTable) -> Self {
        Self {
            rules,
            table: Table::default(),
            timers: Timers::default(),
            formats,
            awaiting_format: BTreeSet::new(),
            closed: None,
        }
    }

    /// Joins the live job of a client's idempotency key.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`] when that job is for another request.
    pub(super) fn join_by_key(
        &mut self,
        client: &ClientId,
        key: &IdempotencyKey,
        fingerprint: Fingerprint,
        start_by: Instant,
    ) -> Result<Option<Arc<JobRecord>>, Failure> {
        let job = self.table.keyed(client, key, fingerprint)?;
        Ok(job.and_then(|job| join_listed(self, job, start_by)))
    }

    /// Joins a live job that serves the request, where the policy allows it.
    pub(super) fn join(
        &mut self,
        fingerprint: Fingerprint,
        policy: ReusePolicy,
        start_by: Instant,
    ) -> Option<Arc<JobRecord>> {
        let job = self.table.joinable(fingerprint, policy)?;
        join_listed(self, job, start_by)
    }

    /// Lists a job with one waiter, or joins a live one that serves the request. `seen`: the number of ends before the
    /// request looked for stored answers.
    ///
    /// # Errors
    ///
    /// [`Failure::KeyReused`], and the reason why nothing is bought any more.
    pub(super) fn list_or_join(&mut self, new: NewJob, policy: ReusePolicy, seen: u64) -> Result<ListOutcome, Failure> {
        let record = &new.record;
        let by_key = match &record.idempotency_key {
            Some(key) => self.table.keyed(&record.client, key, record.fingerprint)?,
            None => None,
        };
        let live = by_key.or_else(|| self.table.joinable(record.fingerprint, policy));
        if let Some(joined) = live.and_then(|job| join_listed(self, job, new.times.start_by)) {
            return Ok(ListOutcome::Joined(joined));
        }
        if let Some(failure) = &self.closed {
            return Err(failure.clone());
        }
        if self.table.has_ended_since(record.fingerprint, seen) {
            return Ok(ListOutcome::LookAgain(Box::new(new)));
        }
        let NewJob { record, api_kind, formats, pictures, webhook, times } = new;
        let job = record.id;
        let ids = (0..).zip(&pictures).map(|(slot, &pictures)| (PurchaseId { job, slot }, pictures));
        let purchases: Vec<(PurchaseId, u8)> = ids.collect();
        let enqueue = purchases.iter().map(|&(purchase, _)| Effect::Enqueue { purchase });
        // The upload may begin while the intent is being synced. That buys nothing: the last byte waits for both.
        let intent = Record::Intent { job: JobRecord::clone(&record), api_kind, purchases: purchases.clone() };
        let subscribed = webhook.map(|webhook| Record::Subscribed { job, webhook, at: record.created });
        let records = std::iter::once(intent).chain(subscribed).collect();
        let mut effects = vec![Effect::Append { records, step: Step::Intent(job) }];
        effects.extend(enqueue);
        self.timers.set(times.start_by, job);
        self.table.list(Job {
            kept: record.respond_async,
            record,
            formats: Some(formats),
            intent: Intent::Appended,
            purchases: pictures.into_iter().map(|pictures| Purchase::new(State::Queued, pictures)).collect(),
            upstream: Vec::new(),
            needed: 1,
            times,
            listing: Listing::Joinable,
            stage: JobStage::default(),
        });
        Ok(ListOutcome::New(effects))
    }

    /// Lists a job of which a purchase is still, or again, polled. The purchases of any other job have ended, or end at the start.
    pub(super) fn restore(&mut self, recovered: RecoveredJob, now: Now) -> Vec<Effect> {
        let RecoveredJob { record, purchases, listing } = recovered;
        let job = record.id;
        // They may have ended while the gateway was down.
        let polls = (0..).zip(&purchases).filter_map(|(slot, Purchase { state, .. })| {
            let poll = state.polled()?.next_poll(true);
            Some(Effect::PlanPoll { purchase: PurchaseId { job, slot }, poll })
        });
        let polls: Vec<Effect> = polls.collect();
        if polls.is_empty() {
            return polls;
        }
        let published = purchases.iter().flat_map(|Purchase { state, .. }| {
            let upstream = state.upstream().cloned().map(ProgressChange::Upstream);
            let result = state.end().and_then(|end| end.result(record.inputs)).map(ProgressChange::Result);
            upstream.into_iter().chain(result)
        });
        let ends = purchases.iter().filter_map(|Purchase { state, .. }| Some(state.polled()?.refetch.as_ref()?.until));
        for until in ends {
            self.timers.set(until, job);
        }
        let changes: Vec<ProgressChange> = std::iter::once(ProgressChange::Recorded).chain(published).collect();
        let polled = (0..).zip(&purchases).filter_map(|(slot, Purchase { state, .. })| {
            let accepted = state.polled()?;
            Some((PurchaseId { job, slot }, accepted.poll.handle.id.clone()))
        });
        // The journal has no id twice.
        let upstream = polled.filter(|(purchase, id)| self.table.add_upstream(id, *purchase).is_ok()).map(|(_, id)| id);
        let upstream = upstream.collect();
        let mut job_of = Job {
            kept: record.respond_async,
            record: Arc::new(record),
            formats: None,
            intent: Intent::Durable,
            purchases,
            upstream,
            needed: 0,
            times: StartTimes { start_by: now.instant, expected_start: now.instant },
            listing,
            stage: JobStage::default(),
        };
        let stage = job_of.new_stage().map(ProgressChange::Stage);
        self.table.list(job_of);
        let publish = changes.into_iter().chain(stage).map(|change| Effect::Publish { job, change });
        publish.chain(polls).collect()
    }

    /// Lists a job with one waiter whose stored pictures are fetched again, or joins it if it is live already. Returns the
    /// effects of listing it.
    pub(super) fn refetch(&mut self, refetched: RecoveredJob, now: Now) -> (Arc<JobRecord>, Option<Vec<Effect>>) {
        let job = refetched.record.id;
        if let Some(record) = join_listed(self, job, now.instant) {
            return (record, None);
        }
        let record = Arc::new(refetched.record.clone());
        let effects = self.restore(refetched, now);
        if let Some(live) = self.table.live.get_mut(&job) {
            live.needed = 1;
        }
        (record, Some(effects))
    }

    /// Returns when [`Event::TimePassed`] is due, at the earliest.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }
}

/// Adds a waiter to a listed job.
fn join_listed(jobs: &mut Jobs, job: JobId, start_by: Instant) -> Option<Arc<JobRecord>> {
    let live = jobs.table.live.get_mut(&job)?;
    if let Some(later) = live.join(start_by) {
        jobs.timers.set(later, job);
    }
    Some(Arc::clone(&live.record))
}
