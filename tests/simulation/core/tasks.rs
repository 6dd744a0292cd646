//! What happens when a task is chosen: the journal, the budget, the upstream and the clients report.

use std::time::Duration;

use super::Variant;
use super::damage::other_picture;
use super::driver::{name_of, purchase_of};
use super::journal::{Report, running};
use super::live::{FollowUp, LiveJob, LivePurchase, Submit, Task};
use super::upstream::{SubmitFate, answer, handle_of, refusal};
use super::world::World;
use crate::engine::jobs::event::{AppendOutcome, Event, FetchFailure, Fetched, Step};
use crate::engine::jobs::{EndedAtStart, recover};
use crate::model::{ApiKind, Digest, Failure, Format, PurchaseId, StoredPicture};
use crate::storage::journal::{PictureBytes, Record, StoredJob, StoredPurchase, StoredState};
use crate::upstream::{Finished, SubmitError, Submitted};

/// How often a record is appended again that was not written.
const APPENDED_AGAIN_MAX: usize = 5;

/// The time after which a submit without an answer counts as accepted.
const ACCEPTED_AFTER: Duration = Duration::from_secs(5);

impl World {
    pub(super) fn run(&mut self, task: Task) {
        match task {
            Task::Journalled { report: Report::Client(client), .. } | Task::Client(client) => self.run_client(client),
            Task::Journalled { report: Report::Step { step, formats }, outcome } => {
                let task = Task::Journalled { report: Report::Step { step, formats }, outcome };
                let waits = self.variant != Variant::FormatsStoredLate;
                if !waits || self.formats.hold(formats, task).is_some() {
                    self.journalled(step, outcome);
                }
            }
            Task::Granted { purchase, permit } => self.on_granted(purchase, permit),
            Task::NotGranted { purchase, failure } => {
                self.note("not granted", self.about(purchase), format_args!("{failure:?}"));
                self.handle(purchase.job, Event::NotGranted { purchase, failure });
            }
            Task::Upload(submit) => self.upload(submit),
            Task::Release { submit, send } => {
                if send || self.variant == Variant::LastByteAlways {
                    self.send_last_byte(submit);
                } else {
                    let message = "not journalled".to_owned();
                    self.on_submitted(submit, Err(SubmitError::NotSent { message }));
                }
            }
            Task::Break(submit) => self.break_off(submit),
            Task::Answer { submit, result } => {
                self.check_assumed(submit);
                self.on_submitted(submit, result);
            }
            Task::StartPoll { purchase, accepted, id } => {
                self.note("poll", self.about(purchase), format_args!("{id}"));
                let age = self.instant().saturating_duration_since(accepted);
                self.ready.push(Task::Poll { purchase, age, id });
            }
            Task::Poll { purchase, age, id } => {
                let Some((number, _)) = self.upstream.find(&id) else {
                    return self.violate(format!("{purchase} is polled as {id}"));
                };
                let result = self.upstream.poll(number, &mut self.random);
                self.note("polled", self.about(purchase), format_args!("{result:?}"));
                if let Some(live) = self.purchase(purchase) {
                    live.follow_up = FollowUp::Nothing;
                }
                self.handle(purchase.job, Event::Polled { purchase, age, result });
            }
            Task::Fetch { purchase, finished } => self.fetch(purchase, &finished),
        }
    }

    fn journalled(&mut self, step: Step, outcome: AppendOutcome) {
        let purchase = purchase_of(step);
        // The driver asks the journal when the report reaches it.
        let not_written = outcome == AppendOutcome::NotWritten;
        let outcome = if not_written && self.journal.failed { AppendOutcome::Failed } else { outcome };
        self.note("journalled", self.about(purchase), format_args!("{}(_) {outcome:?}", name_of(step)));
        let is_durable = outcome == AppendOutcome::Durable;
        let mut failures = 0;
        if let Some(live) = self.purchase(purchase).filter(|live| not_written && live.append.0 == Some(step)) {
            live.append.1 += 1;
            failures = live.append.1;
        }
        // All other records that are not written are appended again, or are not needed.
        let is_given_up = failures > APPENDED_AGAIN_MAX;
        let is_intent = matches!(step, Step::Intent(_));
        let is_lost = outcome == AppendOutcome::Failed || is_given_up || (!is_durable && is_intent);
        self.unlogged |= is_lost;
        if let Some(live) = self.job(purchase.job) {
            live.unlogged |= is_lost;
        }
        let mut is_repeated = false;
        if let (Step::Withdrawal(_), Some(live)) = (step, self.purchase(purchase)) {
            live.withdrawing &= outcome == AppendOutcome::NotWritten;
            is_repeated = live.resubmitting && is_durable;
            live.resubmitting &= outcome == AppendOutcome::NotWritten;
        }
        if is_repeated {
            self.counts.resubmits += 1;
            let [job, slot] = self.about(purchase);
            self.histories[job].purchases[slot].resubmits += 1;
            if let Some(live) = self.purchase(purchase) {
                live.bought = true;
            }
        }
        let has_learned = self.note_firm(step, outcome);
        let before = self.counts.lost_answers;
        self.handle(purchase.job, Event::Journalled { step, outcome });
        let counted = self.counts.lost_answers - before;
        self.check(counted == usize::from(is_repeated), || format!("{purchase} has {counted} lost answers"));
        if let (Step::Intent(job), false) = (step, is_durable) {
            let is_queued = self.budget.has_queued(job);
            self.check(!is_queued, || format!("{job} is not in the journal, and waits for the budget"));
        }
        if has_learned && self.random.one_in(6) {
            self.cut_power();
        }
    }

    /// Breaks a submit off that waits for its last byte, unless that may leave.
    fn break_off(&mut self, submit: Submit) {
        let gated = self.purchase(submit.purchase).map(|live| &mut live.gated);
        let gated = gated.and_then(|gated| gated.take_if(|gated| gated.number == submit.number));
        if let Some(submit) = gated {
            let message = "the connection broke".to_owned();
            let is_refused = self.random.one_in(2);
            let error = if is_refused { refusal(&mut self.random) } else { SubmitError::NotSent { message } };
            self.on_submitted(submit, Err(error));
        }
    }

    /// A submit without an answer for long counts as accepted.
    fn check_assumed(&mut self, submit: Submit) {
        let Submit { purchase, .. } = submit;
        let (now, next) = (self.instant(), self.jobs.next_timeout());
        let Some(live) = self.purchase(purchase) else { return };
        let is_long = live.sent.is_some_and(|sent| now - sent >= ACCEPTED_AFTER);
        let is_assumed = live.permit.as_ref().is_none_or(|permit| permit.acknowledged);
        let is_due = next.is_some_and(|next| next <= now);
        let holds = submit.kind() != ApiKind::OpenAi || !is_long || is_assumed || is_due;
        self.check(holds, || format!("the submit of {purchase} delays others for as long as its answer takes"));
    }

    /// Grants, or refuses, a submit to one of those that wait.
    pub(super) fn grant(&mut self) {
        let (purchase, permit) = self.budget.grant(&mut self.random);
        self.note("grant", self.about(purchase), format_args!(""));
        let task = if !self.upstream.calm && self.random.one_in(24) {
            self.budget.release(&permit);
            let message = "no channel".to_owned();
            Task::NotGranted { purchase, failure: Failure::ModelUnavailable { message } }
        } else {
            Task::Granted { purchase, permit }
        };
        self.ready.push(task);
    }

    pub(super) fn time_out(&mut self) {
        self.note("time-out", [0, 0], format_args!(""));
        self.handle_all(Event::TimePassed);
        let next = self.jobs.next_timeout();
        self.check(next.is_none_or(|next| next > self.instant()), || "a time-out stays due".to_owned());
        self.check_waits();
        for index in 0..self.live.len() {
            if let Some(job) = self.live.get(index).map(|live| live.record.id) {
                self.check_needed(job);
            }
        }
    }

    /// Ends an upload: all but the last byte was sent, or the upstream answered before, or the connection broke.
    fn upload(&mut self, submit: Submit) {
        let purchase = submit.purchase;
        let trouble = if self.upstream.calm { 99 } else { self.random.below(100) };
        match trouble {
            0..8 => {
                let message = "no route".to_owned();
                return self.on_submitted(submit, Err(SubmitError::NotSent { message }));
            }
            8..12 => {
                let refused = Err(refusal(&mut self.random));
                return self.on_submitted(submit, refused);
            }
            12 if submit.refusal.is_none() => {
                let submitted = self.buy_early(submit);
                return self.on_submitted(submit, Ok(submitted));
            }
            13..20 => {
                if let Some(refusal) = submit.refusal {
                    return self.on_submitted(submit, Err(refusal.error()));
                }
            }
            _ => {}
        }
        let Some(live) = self.purchase(purchase) else {
            let message = "not journalled".to_owned();
            return self.on_submitted(submit, Err(SubmitError::NotSent { message }));
        };
        // A submit that still waited is broken off.
        let before = live.gated.replace(submit);
        self.ready.extend(before.map(|submit| Task::Release { submit, send: false }));
        self.note("uploaded", self.about(purchase), format_args!(""));
        self.handle(purchase.job, Event::Uploaded { purchase });
        let waits_in_vain = self.purchase(purchase).is_some_and(|live| live.has_ended && live.gated.is_some());
        self.check(!waits_in_vain, || format!("{purchase} has ended, and its submit waits for its last byte"));
        if !self.upstream.calm && self.random.one_in(12) {
            self.ready.push(Task::Break(submit));
        }
        if self.variant == Variant::LastByteBeforeCommit
            && let Some(submit) = self.purchase(purchase).and_then(|live| live.gated.take())
        {
            self.send_last_byte(submit);
        }
    }

    /// Accepts before the last byte, as no upstream should.
    fn buy_early(&mut self, submit: Submit) -> Submitted {
        let [job, slot] = self.about(submit.purchase);
        let number = self.upstream.buy((job, slot, submit.account), true, &mut self.random);
        self.upstream.bought[number].early = true;
        Submitted::Accepted(handle_of(number, ApiKind::Prediction))
    }

    /// Sends the last byte: from now on a crash of the gateway takes nothing back.
    fn send_last_byte(&mut self, submit: Submit) {
        let purchase = submit.purchase;
        let [job, slot] = self.about(purchase);
        if !self.upstream.calm && self.random.one_in(30) {
            // The exchange has ended while the journal was written.
            let message = "the connection broke".to_owned();
            return self.on_submitted(submit, Err(SubmitError::NotSent { message }));
        }
        let is_durable = self.journal.is_durable(submit.commit);
        self.check(is_durable, || format!("the last byte of {purchase} leaves without a durable commit record"));
        let has_ended = self.purchase(purchase).is_none_or(|live| live.has_ended);
        self.check(!has_ended, || format!("the last byte of {purchase} leaves after its end"));
        let dropped = self.histories[job].dropped;
        self.check(!dropped, || format!("the last byte of {purchase} leaves, and no client needs it"));
        let kind = submit.kind();
        let fate = self.upstream.fate(kind, &mut self.random);
        if let Some(refusal) = submit.refusal
            && !matches!(fate, SubmitFate::RequestLost | SubmitFate::AnswerLost)
        {
            self.note("last byte", [job, slot], format_args!("format refused: {refusal:?}"));
            let seconds = if self.random.one_in(8) { 8 } else { 1 };
            let pause = self.random.time(seconds * 1000);
            return self.after(pause, Task::Answer { submit, result: Err(refusal.error()) });
        }
        let fate = if submit.refusal.is_some() { SubmitFate::RequestLost } else { fate };
        self.note("last byte", [job, slot], format_args!("{fate:?}"));
        let mut number = None;
        if fate.is_bought() {
            self.counts.purchases += 1;
            let has_id = fate != SubmitFate::Finished { has_id: false };
            number = Some(self.upstream.buy((job, slot, submit.account), has_id, &mut self.random));
            let history = &mut self.histories[job].purchases[slot];
            history.bought += 1;
            let is_once = history.bought <= 1 + history.resubmits;
            self.check(is_once, || format!("{purchase} is bought twice"));
        }
        let result = answer(fate, number, kind, &mut self.random);
        let seconds = if kind == ApiKind::OpenAi { 12 } else { 1 };
        let pause = self.random.time(seconds * 1000);
        self.after(pause, Task::Answer { submit, result });
    }

    fn fetch(&mut self, purchase: PurchaseId, finished: &Finished) {
        let trouble = if self.upstream.calm { None } else { Some(self.random.below(8)) };
        let missing = usize::from(trouble.is_some_and(|trouble| trouble < 2));
        let pictures = finished.outputs.len() - missing.min(finished.outputs.len());
        let trouble = match trouble {
            Some(0) => Some(FetchFailure::Upstream("404".to_owned())),
            Some(1) => Some(FetchFailure::Storage("the disk is full".to_owned())),
            _ => None,
        };
        let mut pictures = vec![picture(); pictures];
        let is_refetched = self.live.iter().any(|live| live.record.id == purchase.job && live.refetched);
        if is_refetched && self.random.one_in(3) {
            for one in &mut pictures {
                *one = other_picture(one);
            }
        }
        if !self.results_failed {
            self.damage.repair(purchase, &pictures);
        }
        // Small pictures have no file; those that take the place of damaged ones have.
        let contents =
            if !is_refetched && self.random.one_in(2) { pictures.iter().map(content).collect() } else { Vec::new() };
        if let Some(live) = self.purchase(purchase) {
            live.without_file = contents.iter().map(PictureBytes::digest).collect();
        }
        let fetched = Fetched { pictures, contents, trouble, usage: finished.usage, durable: !self.results_failed };
        self.on_fetched(purchase, fetched);
    }

    /// Starts a gateway on what the disk holds, unless the power is cut again before it runs.
    pub(super) fn start(&mut self) {
        self.running = true;
        self.note("start", [0, 0], format_args!(""));
        for stored in self.journal.unfinished() {
            if !self.resume(stored) {
                return self.cut_power();
            }
        }
        for subscription in &mut self.subscriptions {
            let id = self.histories[subscription.job].id;
            subscription.notified |= self.journal.stored.get(&id).is_some_and(|stored| stored.end().is_some());
        }
    }

    /// Resumes a job. Returns whether the power stayed on.
    fn resume(&mut self, stored: StoredJob) -> bool {
        let now = self.now();
        let number = self.number(stored.record.id);
        let may_be_bought = |one: &StoredPurchase| {
            matches!(one.state, StoredState::Committing { .. })
                || (one.state == StoredState::Intent && one.lost_answers > 0)
        };
        let before: Vec<bool> = stored.purchases.iter().map(may_be_bought).collect();
        let mut purchases: Vec<LivePurchase> = Vec::new();
        purchases.resize_with(stored.purchases.len(), LivePurchase::default);
        let budget = &mut self.budget;
        let adopt = |purchase: PurchaseId, account: Option<&_>| {
            let permit = budget.adopt(account);
            let account = budget.accounts[permit.account].id.clone();
            let one = &mut purchases[usize::from(purchase.slot)];
            (one.permit, one.bought) = (Some(permit), true);
            account
        };
        let (recovered, ended) = recover(stored, &self.rules, now, running(now.timestamp), adopt);
        for EndedAtStart { purchase, failure, .. } in ended {
            let is_unknown = matches!(failure, Failure::OutcomeUnknown { .. });
            let may_have_left = before[usize::from(purchase.slot)];
            self.check(is_unknown == may_have_left, || format!("{purchase} ends at the start with {failure:?}"));
            self.note("ended at start", self.about(purchase), format_args!("{failure:?}"));
            self.journal.append(Record::Failed { purchase, failure, at: self.timestamp() });
            if !self.upstream.calm && self.random.one_in(12) {
                return false;
            }
            self.sync_all();
        }
        let record = std::sync::Arc::new(recovered.record.clone());
        let is_polled = |one: &LivePurchase| one.permit.is_some();
        if !purchases.iter().any(is_polled) {
            return true;
        }
        for one in &mut purchases {
            one.has_ended = !is_polled(one);
        }
        self.live.push(LiveJob {
            kept: record.respond_async,
            start_by: self.instant(),
            record,
            number,
            purchases,
            needed: 0,
            recorded: true,
            dropped: false,
            unlogged: false,
            refetched: false,
        });
        self.counts.events += 1;
        let now = self.now();
        let effects = self.jobs.restore(recovered, now);
        self.carry_out(effects);
        true
    }
}

/// Returns the bytes of a picture that has no file.
fn content(picture: &StoredPicture) -> PictureBytes {
    PictureBytes::new(picture.digest, bytes::Bytes::from_static(b"picture"), None)
}

fn picture() -> StoredPicture {
    static DIGEST: std::sync::LazyLock<Digest> = std::sync::LazyLock::new(|| Digest::of(b"picture"));
    StoredPicture { digest: *DIGEST, bytes: 7, format: Format::Png, width: 1, height: 1 }
}
