//! A script: jobs, a clock that the test moves, and one method for each event, which returns the effects as text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::budget::Pushback;
use crate::config::OnUnknown;
use crate::engine::jobs::event::{AppendOutcome, Event, FetchFailure, Fetched, Now, Step, SubmitResult};
use crate::engine::jobs::rules::Rules;
use crate::engine::jobs::{CancelOutcome, EndedAtStart, Jobs, ListOutcome, NewJob, StartTimes, recover, refetched};
use crate::engine::reuse::ReusePolicy;
use crate::input_urls::InputUrlGuards;
use crate::model::{
    AccountId, ApiKind, Catalogue, Choices, ClientId, Digest, EventId, Failure, Fingerprint, Format, IdempotencyKey,
    JobId, PictureRequest, PurchaseId, RunningTime, Size, StoredPicture, Task, Timestamp, UpstreamId, Usage, Webhook,
};
use crate::polling::planner::PollPlanner;
use crate::storage::journal::{JobRecord, StoredJob, StoredPurchase, StoredState};
use crate::upstream::formats::{FormatOptions, FormatRefusal, FormatRules, FormatTable, InputMethod};
use crate::upstream::{Finished, Output, PollError, Polled, PurchaseHandle, SubmitError, Submitted};

/// One picture costs $0.5, a token in $1, and a token out $2.
const CATALOGUE: &str = r#"
default_model = "painter"

[[models]]
id = "painter"
created = 0
price = { input_usd_per_million_tokens = 1e6, output_usd_per_million_tokens = 2e6, estimate_usd_per_picture = 0.5 }

[models.parameters]
prompt_chars_max = 100
images_max = 1
image_bytes_max = 1
mask_bytes_max = 1
size = { auto = ["1024x1024"], values = ["1024x1024"] }
"#;

pub(super) const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// Time for which a submit is of use to a request.
pub(super) const STARTS_WITHIN: Duration = Duration::from_mins(1);

/// The deadline of an accepted purchase.
pub(super) const DEADLINE: Duration = Duration::from_mins(10);

/// Equal requests join.
pub(super) const SHARE: ReusePolicy = ReusePolicy { cache_allowed: true, is_retry: false, force_new: false };
/// Equal requests buy again.
pub(super) const BUY: ReusePolicy = ReusePolicy { cache_allowed: false, is_retry: false, force_new: true };

/// Jobs, and the time.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) jobs: Jobs,
    /// The job that events are about: the one that was listed last.
    pub(super) job: JobId,
    /// All jobs that were listed, in their order.
    pub(super) listed: Vec<JobId>,
    start: Instant,
    /// Time since the start.
    passed: Duration,
    /// Formats, and changes of what is known of them, are among the effects.
    pub(super) shows_formats: bool,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) client: &'static str,
    pub(super) prompt: &'static str,
    /// The number of pictures of each purchase.
    pub(super) purchases: Vec<u8>,
    /// The number of input pictures.
    pub(super) inputs: u8,
    pub(super) api_kind: ApiKind,
    /// The input methods that it can be sent with; where there is none, that of the API.
    pub(super) methods: &'static [InputMethod],
    pub(super) model: &'static str,
    pub(super) key: Option<&'static str>,
    pub(super) kept: bool,
    pub(super) webhook: bool,
    pub(super) policy: ReusePolicy,
    /// The number of ends before it looked for stored answers; `None`: it looked at this moment.
    pub(super) seen: Option<u64>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            client: "alice",
            prompt: "a fox",
            purchases: vec![1],
            inputs: 0,
            api_kind: ApiKind::Prediction,
            methods: &[],
            model: "painter",
            key: None,
            kept: false,
            webhook: false,
            policy: SHARE,
            seen: None,
        }
    }
}

impl Request {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let request = PictureRequest {
            task: Task::Generate,
            model: self.model.into(),
            prompt: self.prompt.to_owned(),
            inputs: Vec::new(),
            mask: None,
            n: self.purchases.iter().sum(),
            size: Size { width: 1024, height: 1024 },
            choices: Choices::default(),
            explicit: std::collections::BTreeSet::new(),
            api_kind: self.api_kind,
        };
        Fingerprint::of(&self.client(), &request)
    }

    pub(super) fn client(&self) -> ClientId {
        ClientId(self.client.into())
    }

    pub(super) fn key(&self) -> Option<IdempotencyKey> {
        self.key.and_then(IdempotencyKey::new)
    }

    pub(super) fn record(&self, id: JobId) -> JobRecord {
        JobRecord {
            id,
            client: self.client(),
            fingerprint: self.fingerprint(),
            task: Task::Generate,
            model: self.model.into(),
            size: Size { width: 1024, height: 1024 },
            choices: Choices::default(),
            n: self.purchases.iter().sum(),
            inputs: self.inputs,
            shareable: true,
            idempotency_key: self.key(),
            respond_async: self.kept,
            created: START,
            prompt: None,
        }
    }
}

pub(super) fn rules() -> Rules {
    Rules {
        catalogue: Arc::new(toml::from_str::<Catalogue>(CATALOGUE).unwrap()),
        planner: PollPlanner {
            min_interval: Duration::from_secs(2),
            max_interval: Duration::from_secs(20),
            first_poll: Duration::from_secs(10),
            poll_cost: Duration::from_secs(1),
        },
        submit_attempts_max: 3,
        on_unknown: OnUnknown::Hold,
        deadline: DEADLINE,
        refetch_time: Duration::from_secs(30),
        formats: FormatRules::for_test(),
    }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn account(name: &str) -> AccountId {
    AccountId(name.into())
}

pub(super) fn handle(slot: u8) -> PurchaseHandle {
    PurchaseHandle {
        id: UpstreamId::new(&format!("up{slot}")).unwrap(),
        poll_url: None,
        api_kind: ApiKind::Prediction,
        input_url_guards: InputUrlGuards::default(),
    }
}

/// Outputs with a usage of $8.
pub(super) fn finished(outputs: usize) -> Finished {
    let outputs = (0..outputs).map(|output| Output::Url(format!("https://pictures.test/{output}")));
    Finished { outputs: outputs.collect(), usage: Some(usage()) }
}

pub(super) fn usage() -> Usage {
    Usage { input_tokens: 2, output_tokens: 3, input_image_tokens: None }
}

pub(super) fn pictures(number: usize) -> Vec<StoredPicture> {
    let picture = |one: usize| StoredPicture {
        digest: Digest::of(one.to_string().as_bytes()),
        bytes: 100,
        format: Format::Png,
        width: 1024,
        height: 1024,
    };
    (0..number).map(picture).collect()
}

pub(super) fn moderated() -> Failure {
    Failure::Moderated { message: "no".to_owned(), bought: false }
}

fn text(text: &str) -> String {
    text.to_owned()
}

/// The start of a script.
impl Script {
    /// No job yet.
    pub(super) fn new(rules: Rules) -> Self {
        // Ahead of the clock, so that times before the start exist.
        let start = Instant::now() + DEADLINE * 2;
        let jobs = Jobs::new(rules, FormatTable::strict());
        Self {
            jobs,
            job: JobId::new(START, 0),
            listed: Vec::new(),
            start,
            passed: Duration::ZERO,
            shows_formats: false,
        }
    }

    /// A job with one waiter, of this number of purchases with one picture each.
    pub(super) fn of(purchases: usize) -> Self {
        Self::of_request(&Request { purchases: vec![1; purchases], ..Request::default() })
    }

    pub(super) fn of_request(request: &Request) -> Self {
        Self::of_rules(rules(), request)
    }

    pub(super) fn of_rules(rules: Rules, request: &Request) -> Self {
        let mut script = Self::new(rules);
        script.list_recorded(request);
        script
    }

    /// A job whose intent is on the way to the disk.
    pub(super) fn unrecorded(purchases: usize) -> Self {
        let mut script = Self::new(rules());
        script.list(&Request { purchases: vec![1; purchases], ..Request::default() });
        script
    }

    /// A job of one purchase at the API kind `openai`, whose last byte has left.
    pub(super) fn openai() -> Self {
        let mut script = Self::of_request(&Request { api_kind: ApiKind::OpenAi, ..Request::default() });
        script.submit(0);
        script
    }

    /// A job of one purchase with one waiter, whose submit was refused and is being withdrawn.
    pub(super) fn withdrawing() -> Self {
        let mut script = Self::of(1);
        script.submit(0);
        assert_eq!(script.refused(0), "journal withdrawn 0");
        script
    }

    /// A job of one purchase that the upstream works on, with one waiter.
    pub(super) fn polling() -> Self {
        let mut script = Self::of(1);
        script.poll_on(0);
        script
    }
}

/// What requests do.
impl Script {
    pub(super) fn list(&mut self, request: &Request) -> String {
        let id = JobId::new(START, self.listed.len() as u128);
        let webhook = Webhook { id: EventId::new(START, 1), url: "https://alice.test/".parse().unwrap() };
        let new = NewJob {
            record: Arc::new(request.record(id)),
            api_kind: request.api_kind,
            formats: match request.methods {
                [] => FormatOptions::only(request.model, request.api_kind),
                methods => FormatOptions::for_test(request.model, methods),
            },
            pictures: request.purchases.clone(),
            webhook: request.webhook.then_some(webhook),
            times: StartTimes {
                start_by: self.instant() + STARTS_WITHIN,
                expected_start: self.instant() + STARTS_WITHIN / 3,
            },
        };
        let seen = request.seen.unwrap_or_else(|| self.jobs.table.ends());
        match self.jobs.list_or_join(new, request.policy, seen) {
            Ok(ListOutcome::LookAgain(_)) => text("look again"),
            Ok(ListOutcome::New(effects)) => {
                self.listed.push(id);
                self.job = id;
                self.text(&effects)
            }
            Ok(ListOutcome::Joined(record)) => format!("joined {}", self.number(record.id)),
            Err(failure) => format!("refused {}", failure.name()),
        }
    }

    /// Lists a job, and its intent becomes durable.
    pub(super) fn list_recorded(&mut self, request: &Request) {
        self.list(request);
        self.intent(AppendOutcome::Durable);
    }

    /// An equal request arrives.
    pub(super) fn join(&mut self) -> String {
        self.join_as(&Request::default())
    }

    pub(super) fn join_as(&mut self, request: &Request) -> String {
        let joined = self.jobs.join(request.fingerprint(), request.policy, self.instant() + STARTS_WITHIN);
        joined.map_or_else(|| text("none"), |record| format!("joined {}", self.number(record.id)))
    }

    /// A request with an idempotency key arrives.
    pub(super) fn join_by_key(&mut self, request: &Request) -> String {
        let key = request.key().unwrap();
        let start_by = self.instant() + STARTS_WITHIN;
        match self.jobs.join_by_key(&request.client(), &key, request.fingerprint(), start_by) {
            Ok(joined) => joined.map_or_else(|| text("none"), |record| format!("joined {}", self.number(record.id))),
            Err(failure) => format!("refused {}", failure.name()),
        }
    }

    pub(super) fn cancel(&mut self) -> (Option<CancelOutcome>, String) {
        self.cancel_as("alice")
    }

    pub(super) fn cancel_as(&mut self, client: &str) -> (Option<CancelOutcome>, String) {
        let cancelled = self.jobs.cancel(&ClientId(client.into()), self.job, self.now());
        match cancelled {
            Some((outcome, effects)) => (Some(outcome), self.text(&effects)),
            None => (None, String::new()),
        }
    }

    pub(super) fn keep(&mut self) {
        self.jobs.keep(self.job, self.instant() + STARTS_WITHIN);
    }

    pub(super) fn waiter_left(&mut self) -> String {
        self.event(Event::WaiterLeft { job: self.job })
    }
}

/// Running time and wall time are one here.
fn running(at: Timestamp) -> RunningTime {
    RunningTime::from_millis(u64::try_from(at.millis()).unwrap())
}

/// A start of the gateway.
impl Script {
    /// Recovers a job from the states of its purchases, of one picture each. Returns the effects, the purchases that end
    /// with the start, and those that were adopted with the account that the journal names.
    pub(super) fn recover(
        &mut self,
        request: &Request,
        states: Vec<StoredState>,
        bought_by: Option<&str>,
    ) -> (String, Vec<EndedAtStart>, Vec<String>) {
        let id = JobId::new(START, self.listed.len() as u128);
        let purchases = (0..).zip(states).map(|(slot, state)| StoredPurchase {
            id: PurchaseId { job: id, slot },
            pictures: 1,
            api_kind: request.api_kind,
            format: None,
            account: bought_by.map(account),
            lost_answers: 0,
            resolution: None,
            accepted: if let StoredState::Accepted { since, .. } = &state { Some(running(*since)) } else { None },
            ended: None,
            state,
        });
        let purchases = purchases.collect();
        let stored =
            StoredJob { record: request.record(id), purchases, delivered: None, evicted: false, deleted: false };
        let mut adopted = Vec::new();
        let adopt = |purchase: PurchaseId, name: Option<&AccountId>| {
            let name = name.map_or_else(|| text("any"), ToString::to_string);
            adopted.push(format!("{} {name}", purchase.slot));
            account(&name)
        };
        let rules = self.jobs.rules.clone();
        let (recovered, ended) = recover(stored, &rules, self.now(), running(self.now().timestamp), adopt);
        assert_eq!(recovered.purchases(), usize::from(request.record(id).n));
        assert_eq!(recovered.polled().count(), adopted.len());
        let effects = self.jobs.restore(recovered, self.now());
        self.listed.push(id);
        self.job = id;
        (self.text(&effects), ended, adopted)
    }
}

/// Damaged pictures.
impl Script {
    /// A request finds a stored job whose purchases ended in these states, with damaged pictures in these slots.
    pub(super) fn refetch(&mut self, request: &Request, states: Vec<StoredState>, damaged: &[u8]) -> String {
        let id = JobId::new(START, 1000);
        if !self.listed.contains(&id) {
            self.listed.push(id);
        }
        self.job = id;
        let purchases = (0..).zip(states).zip(&request.purchases).map(|((slot, state), &pictures)| StoredPurchase {
            id: PurchaseId { job: id, slot },
            pictures,
            state,
            api_kind: request.api_kind,
            format: None,
            account: Some(account("b")),
            lost_answers: 0,
            resolution: None,
            accepted: None,
            ended: None,
        });
        let purchases = purchases.collect();
        let stored =
            StoredJob { record: request.record(id), purchases, delivered: None, evicted: false, deleted: false };
        let damaged: Vec<PurchaseId> = damaged.iter().map(|&slot| self.purchase(slot)).collect();
        let rules = self.jobs.rules.clone();
        match refetched(stored, &damaged, &rules, self.now()) {
            Ok(job) => match self.jobs.refetch(job, self.now()) {
                (record, None) => format!("joined {}", self.number(record.id)),
                (_, Some(effects)) => self.text(&effects),
            },
            Err(failure) => format!("refused {}", failure.name()),
        }
    }
}

/// Time.
impl Script {
    pub(super) fn wait(&mut self, time: Duration) {
        self.passed += time;
    }

    pub(super) fn now(&self) -> Now {
        Now { instant: self.instant(), timestamp: START.plus(self.passed), spread: 0.0 }
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + self.passed
    }

    pub(super) fn time_passed(&mut self) -> String {
        self.event(Event::TimePassed)
    }

    /// Returns the time until the next time-out.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.jobs.next_timeout().map(|at| at.saturating_duration_since(self.instant()))
    }

    pub(super) fn draining(&mut self) -> String {
        self.event(Event::Draining)
    }
}

/// The budget.
impl Script {
    pub(super) fn granted(&mut self, slot: u8) -> String {
        self.granted_by(slot, "a")
    }

    pub(super) fn granted_by(&mut self, slot: u8, name: &str) -> String {
        self.event(Event::Granted { purchase: self.purchase(slot), account: account(name) })
    }

    /// The budget explains why a purchase has to wait.
    pub(super) fn not_granted(&mut self, slot: u8) -> String {
        let failure = Failure::Overloaded { retry_after: seconds(1) };
        self.event(Event::NotGranted { purchase: self.purchase(slot), failure })
    }
}

/// The journal.
impl Script {
    pub(super) fn intent(&mut self, outcome: AppendOutcome) -> String {
        self.journalled(Step::Intent(self.job), outcome)
    }

    pub(super) fn commit(&mut self, slot: u8, submit: u32, outcome: AppendOutcome) -> String {
        self.journalled(Step::Commit { purchase: self.purchase(slot), submit }, outcome)
    }

    pub(super) fn withdrawal(&mut self, slot: u8, outcome: AppendOutcome) -> String {
        self.journalled(Step::Withdrawal(self.purchase(slot)), outcome)
    }

    pub(super) fn acceptance(&mut self, slot: u8, outcome: AppendOutcome) -> String {
        self.journalled(Step::Acceptance(self.purchase(slot)), outcome)
    }

    pub(super) fn end(&mut self, slot: u8, outcome: AppendOutcome) -> String {
        self.journalled(Step::End(self.purchase(slot)), outcome)
    }

    fn journalled(&mut self, step: Step, outcome: AppendOutcome) -> String {
        self.event(Event::Journalled { step, outcome })
    }
}

/// The upstream's answers to submits.
impl Script {
    pub(super) fn uploaded(&mut self, slot: u8) -> String {
        self.event(Event::Uploaded { purchase: self.purchase(slot) })
    }

    pub(super) fn accepted(&mut self, slot: u8) -> String {
        self.submitted(slot, Ok(Submitted::Accepted(handle(slot))), &[])
    }

    /// The pictures come with the answer.
    pub(super) fn finished_at_once(&mut self, slot: u8, with_id: bool) -> String {
        let handle = with_id.then(|| handle(slot));
        self.submitted(slot, Ok(Submitted::Finished { handle, finished: finished(1) }), &[])
    }

    /// The connection breaks before the last byte.
    pub(super) fn not_sent(&mut self, slot: u8) -> String {
        self.submitted(slot, Err(SubmitError::NotSent { message: text("no route") }), &[])
    }

    pub(super) fn lost(&mut self, slot: u8) -> String {
        self.submitted(slot, Err(SubmitError::Unknown { message: text("cut") }), &[])
    }

    pub(super) fn rejected(&mut self, slot: u8) -> String {
        self.submitted(slot, Err(SubmitError::Rejected(moderated())), &[])
    }

    /// 429.
    pub(super) fn refused(&mut self, slot: u8) -> String {
        self.pushed_back(slot, Pushback::Account { retry_after: None }, &[])
    }

    /// The input method is refused.
    pub(super) fn format_refused(&mut self, slot: u8) -> String {
        let failure = Failure::InvalidRequest { message: text("wrong image url") };
        self.submitted(slot, Err(SubmitError::FormatRefused { refusal: FormatRefusal::Inputs, failure }), &[])
    }

    /// The account's key is refused, and these accounts may still be used.
    pub(super) fn key_refused(&mut self, slot: u8, usable: &[&str]) -> String {
        self.pushed_back(slot, Pushback::Key { reason: Failure::KeyRefused { message: text("401") } }, usable)
    }

    pub(super) fn pushed_back(&mut self, slot: u8, pushback: Pushback, usable: &[&str]) -> String {
        self.submitted(slot, Err(SubmitError::Refused { pushback, message: text("refused") }), usable)
    }

    pub(super) fn answered(&mut self, slot: u8, result: Result<Submitted, SubmitError>) -> String {
        self.submitted(slot, result, &[])
    }

    fn submitted(&mut self, slot: u8, result: Result<Submitted, SubmitError>, usable: &[&str]) -> String {
        let usable_accounts = usable.iter().map(|name| account(name)).collect();
        let result = SubmitResult { result, usable_accounts };
        self.event(Event::Submitted { purchase: self.purchase(slot), result })
    }
}

/// Polls and pictures.
impl Script {
    /// A poll that started when the purchase was this old finds it working.
    pub(super) fn working(&mut self, slot: u8, age: Duration) -> String {
        self.polled(slot, age, Ok(Polled::Working))
    }

    pub(super) fn done(&mut self, slot: u8) -> String {
        self.polled(slot, seconds(0), Ok(Polled::Finished(finished(1))))
    }

    pub(super) fn poll_failed(&mut self, slot: u8) -> String {
        self.polled(slot, seconds(0), Err(PollError::Trouble { message: text("HTML") }))
    }

    pub(super) fn polled(&mut self, slot: u8, age: Duration, result: Result<Polled, PollError>) -> String {
        self.event(Event::Polled { purchase: self.purchase(slot), age, result })
    }

    pub(super) fn fetched(&mut self, slot: u8, stored: usize) -> String {
        self.fetched_as(slot, stored, None, true)
    }

    /// Some outputs are stored, and the last one could not be fetched.
    pub(super) fn fetch_failed(&mut self, slot: u8, stored: usize) -> String {
        self.fetched_as(slot, stored, Some(FetchFailure::Upstream(text("gone"))), true)
    }

    pub(super) fn fetched_as(
        &mut self,
        slot: u8,
        stored: usize,
        trouble: Option<FetchFailure>,
        durable: bool,
    ) -> String {
        let fetched =
            Fetched { pictures: pictures(stored), contents: Vec::new(), trouble, usage: Some(usage()), durable };
        self.event(Event::Fetched { purchase: self.purchase(slot), fetched })
    }
}

/// Several events at once, on the way to a state.
impl Script {
    /// Submits, and sends the last byte.
    pub(super) fn submit(&mut self, slot: u8) {
        let number = self.upload(slot);
        assert_eq!(self.commit(slot, number, AppendOutcome::Durable), format!("send {slot}"));
    }

    /// Submits all but the last byte. Returns the number of the submit.
    pub(super) fn upload(&mut self, slot: u8) -> u32 {
        self.granted(slot);
        self.commit_number(slot)
    }

    /// Uploads all but the last byte. Returns the number of the submit.
    pub(super) fn commit_number(&mut self, slot: u8) -> u32 {
        let uploaded = self.uploaded(slot);
        let (_, number) = uploaded.split_once('#').expect("a commit record");
        number.parse().expect("the number of a submit")
    }

    /// Goes on until the upstream works on the purchase.
    pub(super) fn poll_on(&mut self, slot: u8) {
        self.submit(slot);
        self.accepted(slot);
        self.acceptance(slot, AppendOutcome::Durable);
    }

    /// Goes on until the pictures are being journalled.
    pub(super) fn resolve(&mut self, slot: u8) {
        self.poll_on(slot);
        self.done(slot);
        self.fetched(slot, 1);
    }

    /// Takes steps of the first job.
    pub(super) fn first<T>(&mut self, steps: impl FnOnce(&mut Self) -> T) -> T {
        let present = std::mem::replace(&mut self.job, self.listed[0]);
        let done = steps(self);
        self.job = present;
        done
    }

    pub(super) fn purchase(&self, slot: u8) -> PurchaseId {
        PurchaseId { job: self.job, slot }
    }

    pub(super) fn event(&mut self, event: Event) -> String {
        let effects = self.jobs.handle(event, self.now());
        self.text(&effects)
    }
}
