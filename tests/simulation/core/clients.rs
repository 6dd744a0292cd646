//! The clients: their requests, which look for an answer as the engine does, and their webhooks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Variant;
use super::formats::api_kind_of;
use super::journal::{Journal, Report};
use super::live::{LiveJob, LivePurchase, Task};
use super::setting::Setting;
use super::world::{History, PurchaseHistory, World};
use crate::config::OnUnknown;
use crate::engine::jobs::event::Event;
use crate::engine::jobs::job::outcome::{FailureScope, stored_failure, stored_result, unresolved_unknown};
use crate::engine::jobs::{ListOutcome, NewJob, StartTimes};
use crate::engine::reuse::{ReusePolicy, ReuseWindows, StoredCandidate};
use crate::model::{EventId, Failure, Fingerprint, JobId, JobResult, Webhook};
use crate::storage::journal::{JobRecord, Record, StoredJob};
use crate::upstream::formats::FormatOptions;

/// How long results and unknown outcomes answer later requests; no life is as long.
const TTL: Duration = Duration::from_hours(24);

pub(super) type Outcome = Result<Arc<JobResult>, Failure>;

/// What clients ask for.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) fingerprint: Fingerprint,
    /// The formats that it can be written in.
    pub(super) formats: Arc<FormatOptions>,
    /// The number of pictures of each purchase.
    pub(super) pictures: Vec<u8>,
    /// One client wants it once: all its requests but the first are retries.
    pub(super) is_careful: bool,
    pub(super) requests: usize,
    /// Its careful client has pictures, or a failure that may have cost money.
    pub(super) is_answered: bool,
}

/// A request.
#[derive(Debug)]
pub(super) struct Client {
    prompt: usize,
    phase: Phase,
    policy: ReusePolicy,
    key: Option<usize>,
    webhook: bool,
    /// It fetches the result later.
    away: bool,
    start_by: Instant,
    pub(super) job: Option<JobId>,
    keeps_needed: bool,
    /// The number of jobs that had ended before it looked for stored answers.
    seen: u64,
    outcome: Option<Outcome>,
}

/// What a request does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Arrived,
    LookingByKey,
    Joining,
    Looking,
    Listing,
    /// It waits until its job is recorded, to subscribe its webhook.
    Recording,
    /// Its webhook is being journalled.
    Subscribing {
        subscription: usize,
    },
    Waiting,
    /// The delivery is being journalled.
    Delivering,
    Gone,
}

/// A webhook.
#[derive(Debug)]
pub(super) struct Subscription {
    /// The number of its job.
    pub(super) job: usize,
    position: u64,
    /// Its client knows that it is subscribed.
    acknowledged: bool,
    pub(super) notified: bool,
}

impl Subscription {
    /// Returns whether it is on the disk after a power cut.
    pub(super) fn survives(&mut self, journal: &Journal) -> bool {
        let survives = journal.is_durable(self.position);
        self.position = 0;
        survives
    }

    pub(super) fn is_broken(&self) -> bool {
        self.acknowledged && !self.notified
    }
}

impl World {
    /// Sends a request; with `patience`, the time in which a submit is of use to it.
    pub(super) fn request(&mut self, prompt: usize, patience: Duration) {
        let asked = &mut self.prompts[prompt];
        if !self.running || (asked.is_careful && asked.is_answered) {
            return;
        }
        asked.requests += 1;
        let (is_careful, requests) = (asked.is_careful, asked.requests);
        let is_retry = if is_careful { requests > 1 } else { self.random.one_in(3) };
        let fresh = !is_careful && self.random.one_in(4);
        let key = (!is_careful && self.random.one_in(3)).then(|| self.random.below(2));
        let policy =
            ReusePolicy { cache_allowed: self.cache_on && !fresh, is_retry, force_new: fresh || key.is_some() };
        let client = Client {
            prompt,
            phase: Phase::Arrived,
            policy,
            key,
            webhook: self.random.one_in(5),
            away: self.random.one_in(6),
            start_by: self.instant() + patience,
            job: None,
            keeps_needed: false,
            seen: 0,
            outcome: None,
        };
        let index = self.clients.len();
        self.note("request", [prompt, index], format_args!("{policy:?} key {key:?} away {}", client.away));
        self.clients.push(client);
        self.ready.push(Task::Client(index));
    }

    /// Sends the requests of careful clients without an answer. Returns whether there was one.
    pub(super) fn retry_unanswered(&mut self) -> bool {
        let mut any = false;
        for prompt in 0..self.prompts.len() {
            let Prompt { is_careful, requests, is_answered, .. } = self.prompts[prompt];
            if is_careful && requests > 0 && !is_answered {
                self.request(prompt, Duration::from_mins(10));
                any = true;
            }
        }
        any
    }

    /// Takes the next step of a request.
    pub(super) fn run_client(&mut self, index: usize) {
        let phase = self.clients[index].phase;
        self.note("client", [self.clients[index].prompt, index], format_args!("{phase:?}"));
        match phase {
            Phase::Arrived => self.join_by_key(index),
            Phase::LookingByKey => self.look_by_key(index),
            Phase::Joining => {
                let Client { prompt, policy, start_by, .. } = self.clients[index];
                self.counts.events += 1;
                match self.jobs.join(self.prompts[prompt].fingerprint, policy, start_by) {
                    Some(record) => self.attach(index, record.id, true),
                    None => self.look(index, Phase::Looking),
                }
            }
            Phase::Looking => {
                if let Some((job, outcome)) = self.find(index) {
                    return self.refetch_or_find(index, job, outcome);
                }
                self.clients[index].phase = Phase::Listing;
                if self.random.one_in(3) {
                    // Another request comes between, and may have had its whole job meanwhile.
                    let pause = if self.random.one_in(4) { self.random.time(20_000) } else { Duration::ZERO };
                    self.after(pause, Task::Client(index));
                } else {
                    self.list(index);
                }
            }
            Phase::Listing => self.list(index),
            Phase::Recording => {
                let job = self.clients[index].job.expect("it subscribes to a job");
                let webhook = Setting::shared().webhook(index);
                let at = self.timestamp();
                let position = self.journal.append(Record::Subscribed { job, webhook, at });
                self.subscribe(job, Some(position));
                self.clients[index].phase = Phase::Subscribing { subscription: self.subscriptions.len() - 1 };
                self.notify_client(index);
            }
            Phase::Subscribing { subscription } => self.subscribed(index, subscription),
            Phase::Waiting => self.receive(index),
            Phase::Delivering => self.leave(index, "has its answer"),
            Phase::Gone => {}
        }
    }

    fn join_by_key(&mut self, index: usize) {
        self.clients[index].seen = self.jobs.table.ends();
        let Client { prompt, key, start_by, .. } = self.clients[index];
        let Some(key) = key else {
            self.clients[index].phase = Phase::Joining;
            return self.ready.push(Task::Client(index));
        };
        let Setting { record: JobRecord { client, .. }, keys, .. } = Setting::shared();
        self.counts.events += 1;
        match self.jobs.join_by_key(client, &keys[key], self.prompts[prompt].fingerprint, start_by) {
            Ok(Some(record)) => self.attach(index, record.id, true),
            Ok(None) => self.look(index, Phase::LookingByKey),
            Err(failure) => self.refuse(index, &failure),
        }
    }

    /// Looks something up in the journal, which answers in its turn.
    fn look(&mut self, index: usize, phase: Phase) {
        self.clients[index].phase = phase;
        if self.journal.notify_reader(Report::Client(index)).is_some() {
            self.ready.push(Task::Client(index));
        }
    }

    fn notify_client(&mut self, index: usize) {
        if self.journal.notify(Report::Client(index), 0).is_some() {
            self.ready.push(Task::Client(index));
        }
    }

    fn look_by_key(&mut self, index: usize) {
        let Client { prompt, key, .. } = self.clients[index];
        let key = &Setting::shared().keys[key.expect("it has a key")];
        let stored = self.journal.stored.values().rfind(|job| job.record.idempotency_key.as_ref() == Some(key));
        let found = stored.map(|stored| {
            if stored.record.fingerprint != self.prompts[prompt].fingerprint {
                return Err(Failure::KeyReused);
            }
            let failure = stored_failure(stored, FailureScope::Unresolved).map(|(failure, _)| failure);
            let failure = failure.filter(Failure::may_have_been_bought).map(Err);
            let outcome = stored_result(stored).map(|result| Ok(Arc::new(result))).or(failure);
            Ok(outcome.map(|outcome| (stored.record.id, outcome)))
        });
        match found {
            Some(Err(failure)) => self.refuse(index, &failure),
            Some(Ok(Some((job, outcome)))) => self.refetch_or_find(index, job, outcome),
            Some(Ok(None)) | None => {
                self.clients[index].phase = Phase::Joining;
                self.ready.push(Task::Client(index));
            }
        }
    }

    /// Finds a stored answer, as the cache of results does.
    fn find(&self, index: usize) -> Option<(JobId, Outcome)> {
        let Client { prompt, policy, .. } = self.clients[index];
        let fingerprint = self.prompts[prompt].fingerprint;
        let newest = || self.journal.stored.values().rev().filter(|stored| stored.record.fingerprint == fingerprint);
        if policy.is_retry && !policy.cache_allowed {
            let mut undelivered = newest().filter(|stored| stored.delivered.is_none());
            if let Some(found) = undelivered.find_map(|stored| self.reuse(stored, policy)) {
                return Some(found);
            }
        }
        newest().find_map(|stored| self.reuse(stored, policy).or_else(|| self.held_by_unknown(stored, policy)))
    }

    fn reuse(&self, stored: &StoredJob, policy: ReusePolicy) -> Option<(JobId, Outcome)> {
        let job = stored.record.id;
        let result = stored_result(stored)?;
        let has_waiters = self.clients.iter().any(|client| client.job == Some(job) && client.phase != Phase::Gone);
        let candidate = StoredCandidate {
            age: self.timestamp().since(result.resolved),
            delivered: stored.delivered.map(|delivered| self.timestamp().since(delivered.at)),
            in_delivery: stored.record.respond_async || has_waiters,
            shareable: stored.record.shareable && result.is_as_requested(),
            inputs_unseen: result.inputs_unseen,
            unknown_for: self.unknown(stored).map(|(_, unknown_for)| unknown_for),
        };
        let is_shared = policy.cache_allowed && candidate.shareable;
        let is_claimed = has_waiters && !is_shared && !policy.is_retry && candidate.unknown_for.is_none();
        let windows = ReuseWindows { cache_ttl: TTL, claim: TTL, unknown_hold: TTL };
        let reused = policy.may_reuse(candidate, windows) && !is_claimed && self.may_answer(stored, policy);
        reused.then(|| (job, Ok(Arc::new(result))))
    }

    fn held_by_unknown(&self, stored: &StoredJob, policy: ReusePolicy) -> Option<(JobId, Outcome)> {
        let (failure, unknown_for) = self.unknown(stored)?;
        policy.is_held(unknown_for, TTL).then_some((stored.record.id, Err(failure)))
    }

    /// No life is as long as an unknown outcome is held.
    fn unknown(&self, stored: &StoredJob) -> Option<(Failure, Duration)> {
        let (failure, _) = unresolved_unknown(stored).filter(|_| self.rules.on_unknown == OnUnknown::Hold)?;
        Some((failure.clone(), Duration::ZERO))
    }

    /// Lists a new job, or joins one that was listed meanwhile.
    fn list(&mut self, index: usize) {
        let Client { prompt, policy, key, webhook, away, start_by, seen, .. } = self.clients[index];
        let seen = if self.variant == Variant::LooksOnce { u64::MAX } else { seen };
        let asked = &self.prompts[prompt];
        let number = self.histories.len();
        let created = self.timestamp();
        let setting = Setting::shared();
        let record = Arc::new(JobRecord {
            id: JobId::new(created, u128::try_from(number).unwrap()),
            fingerprint: asked.fingerprint,
            n: asked.pictures.iter().sum(),
            shareable: !self.random.one_in(4) || asked.is_careful,
            idempotency_key: key.map(|key| setting.keys[key].clone()),
            respond_async: away,
            created,
            ..setting.record.clone()
        });
        let job = record.id;
        let (purchases, formats) = (asked.pictures.len(), Arc::clone(&asked.formats));
        let kind = api_kind_of(&formats);
        let new = NewJob {
            record: Arc::clone(&record),
            api_kind: kind,
            formats,
            pictures: asked.pictures.clone(),
            webhook: webhook.then(|| setting.webhook(index)),
            times: StartTimes { start_by, expected_start: self.instant() },
        };
        self.counts.events += 1;
        let effects = match self.jobs.list_or_join(new, policy, seen) {
            Ok(ListOutcome::New(effects)) => effects,
            Ok(ListOutcome::Joined(record)) => return self.attach(index, record.id, true),
            Ok(ListOutcome::LookAgain(_)) => {
                self.note("looks again", [prompt, index], format_args!(""));
                self.clients[index].seen = self.jobs.table.ends();
                return self.look(index, if key.is_some() { Phase::LookingByKey } else { Phase::Looking });
            }
            Err(failure) => return self.refuse(index, &failure),
        };
        self.note("list", [number, purchases], format_args!("prompt {prompt} {kind:?}"));
        self.check_new(prompt, policy);
        self.histories.push(History {
            id: job,
            prompt,
            dropped: false,
            purchases: [PurchaseHistory::default(); 3],
            outcome: None,
        });
        self.live.push(LiveJob {
            record,
            number,
            purchases: (0..purchases).map(|_| LivePurchase::queued()).collect(),
            needed: 0,
            kept: away,
            start_by,
            recorded: false,
            dropped: false,
            unlogged: false,
            refetched: false,
        });
        // Attached first, since an effect may end the job at once.
        self.attach(index, job, false);
        self.carry_out(effects);
    }

    /// Waits for a live job.
    pub(super) fn attach(&mut self, index: usize, job: JobId, joined: bool) {
        let client = &mut self.clients[index];
        (client.job, client.keeps_needed, client.phase) = (Some(job), true, Phase::Waiting);
        let (start_by, keeps, subscribes) = (client.start_by, joined && client.away, joined && client.webhook);
        let Some(live) = self.job(job) else {
            return self.violate(format!("a client joins {job}, which is not live"));
        };
        live.needed += 1;
        live.kept |= keeps;
        live.start_by = live.start_by.max(start_by);
        let (recorded, dropped) = (live.recorded, live.dropped);
        self.check(!dropped, || format!("a client joins {job}, which is dropped"));
        if keeps {
            self.counts.events += 1;
            self.jobs.keep(job, start_by);
        }
        if subscribes {
            self.clients[index].phase = Phase::Recording;
            if recorded {
                self.ready.push(Task::Client(index));
            }
        }
    }

    /// Gets the answer of a job that has ended.
    pub(super) fn found(&mut self, index: usize, job: JobId, outcome: Outcome) {
        self.note("found", [self.number(job), index], format_args!("{:?}", outcome.is_ok()));
        let client = &mut self.clients[index];
        (client.job, client.outcome) = (Some(job), Some(outcome));
        client.phase = if client.webhook { Phase::Recording } else { Phase::Waiting };
        self.ready.push(Task::Client(index));
    }

    /// Hands the outcome of its job to a request.
    pub(super) fn wake_with(&mut self, index: usize, outcome: Outcome) {
        let client = &mut self.clients[index];
        client.outcome = Some(outcome);
        if matches!(client.phase, Phase::Waiting | Phase::Recording) {
            self.ready.push(Task::Client(index));
        }
    }

    /// Lets requests go on that waited for the record of their job.
    pub(super) fn wake_recorded(&mut self, job: JobId) {
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            if client.job == Some(job) && client.phase == Phase::Recording && client.outcome.is_none() {
                self.ready.push(Task::Client(index));
            }
        }
        let (number, journal) = (self.number(job), &self.journal);
        for subscription in self.subscriptions.iter_mut().filter(|subscription| subscription.job == number) {
            subscription.acknowledged |= journal.is_durable(subscription.position);
        }
    }

    /// Notes a webhook whose record was appended last, unless its position is given.
    pub(super) fn subscribe(&mut self, job: JobId, position: Option<u64>) {
        let next = if self.journal.failed { u64::MAX } else { self.journal.appended + 1 };
        let position = position.unwrap_or(next);
        let job = self.number(job);
        self.subscriptions.push(Subscription { job, position, acknowledged: false, notified: false });
    }

    fn subscribed(&mut self, index: usize, subscription: usize) {
        let one = &mut self.subscriptions[subscription];
        if !self.journal.is_durable(one.position) {
            return self.refuse(index, &Failure::JournalUnavailable);
        }
        one.acknowledged = true;
        let client = &mut self.clients[index];
        client.phase = Phase::Waiting;
        if client.outcome.is_some() {
            let job = client.job.expect("it subscribed to a job");
            self.ready.push(Task::Client(index));
            self.notify_webhooks(job);
        }
    }

    /// Notifies the webhooks of a job that are in the journal, if its end is.
    pub(super) fn notify_webhooks(&mut self, job: JobId) {
        let has_ended = self.journal.stored.get(&job).is_some_and(|stored| stored.end().is_some());
        let (number, journal) = (self.number(job), &self.journal);
        for subscription in self.subscriptions.iter_mut().filter(|subscription| subscription.job == number) {
            subscription.notified |= has_ended && journal.is_durable(subscription.position);
        }
    }

    /// Receives the answer, if the connection is still there.
    fn receive(&mut self, index: usize) {
        let Some(outcome) = self.clients[index].outcome.clone() else { return };
        if !self.upstream.calm && self.random.one_in(8) {
            return self.leave(index, "is not there any more");
        }
        let prompt = self.clients[index].prompt;
        self.note("receives", [prompt, index], format_args!("{:?}", outcome.as_ref().map(|_| "pictures")));
        match outcome {
            Ok(result) => {
                self.prompts[prompt].is_answered = true;
                let at = self.timestamp();
                self.journal.append_waiting(Record::Delivered { job: result.job, at });
                self.clients[index].phase = Phase::Delivering;
                self.notify_client(index);
            }
            Err(failure) => {
                let asked = &mut self.prompts[prompt];
                // Where no format is accepted, a refusal is the answer.
                let is_answer = failure.may_have_been_bought() || !self.formats.accepts(&asked.formats);
                asked.is_answered |= is_answer;
                self.leave(index, "has its failure");
            }
        }
    }

    fn refuse(&mut self, index: usize, failure: &Failure) {
        self.note("refused", [self.clients[index].prompt, index], format_args!("{failure:?}"));
        self.leave(index, "was refused");
    }

    /// Ends a request.
    pub(super) fn leave(&mut self, index: usize, why: &str) {
        let client = &mut self.clients[index];
        if std::mem::replace(&mut client.phase, Phase::Gone) == Phase::Gone {
            return;
        }
        let (prompt, keeps_needed) = (client.prompt, client.keeps_needed);
        let job = client.job.filter(|_| keeps_needed);
        self.note("leaves", [prompt, index], format_args!("{why}"));
        if let Some(job) = job {
            if let Some(live) = self.job(job) {
                // It may have waited for the same job before that was fetched again.
                live.needed = if live.refetched { live.needed.saturating_sub(1) } else { live.needed - 1 };
            }
            self.handle(job, Event::WaiterLeft { job });
        }
    }

    /// Returns the number of requests that have no answer.
    pub(super) fn waiting_clients(&self) -> usize {
        self.clients.iter().filter(|client| client.phase != Phase::Gone).count()
    }
}

impl Setting {
    pub(super) fn webhook(&self, number: usize) -> Webhook {
        let id = EventId::new(super::world::WALL, u128::try_from(number).unwrap());
        Webhook { id, url: self.url.clone() }
    }
}
