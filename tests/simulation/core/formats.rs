//! Request formats: which of them the upstream accepts, what is stored of them, and what must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Variant;
use super::live::{LivePurchase, Submit, Task};
use super::random::Random;
use super::world::World;
use crate::config::FirstContact;
use crate::engine::jobs::event::{AppendOutcome, Step};
use crate::model::{ApiKind, Failure, ModelId, PurchaseId};
use crate::upstream::SubmitError;
use crate::upstream::formats::{
    AuthStyle, FormatBasis, FormatOptions, FormatRefusal, FormatTable, InputMethod, StoredFormats, SubmitFormat,
};

/// The methods that prompts are written in. They need not fit one request: the table does not look at it.
const METHODS: [InputMethod; 5] =
    [InputMethod::None, InputMethod::Multipart, InputMethod::OtherLinks, InputMethod::Unified, InputMethod::DataUris];
const FIELDS: [&str; 2] = ["background", "moderation"];
/// Submits of a purchase that may be refused for their format.
const REFUSED_MAX: usize = 3;
/// The longest time that a purchase waits for another one that tries out a format.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The time in which one purchase asks again where everything is known to be refused.
const HOUR: Duration = Duration::from_hours(1);

/// An account, whether the request is masked, and a method.
type Fact = (usize, bool, InputMethod);

/// What the upstream accepts, and what the gateway should know of it. Constant in a life, and outlives each gateway.
#[derive(Debug)]
pub(super) struct Formats {
    mode: FirstContact,
    methods: BTreeMap<InputMethod, MethodRefusal>,
    fields: BTreeSet<&'static str>,
    /// It reads keys without `Bearer` alone.
    raw_keys: bool,

    // The state file.
    stored: StoredFormats,
    /// Everything else comes first.
    slow: bool,
    /// Changes on their way to it.
    pending: VecDeque<StoredFormats>,
    /// The number of the last change, and of the last one that is stored.
    changes: u64,
    saved: u64,
    /// Reports of the journal that wait until a change is stored.
    held: Vec<(u64, Task)>,

    /// The submits of each purchase that were refused for their format.
    tries: BTreeMap<PurchaseId, Vec<Try>>,
    /// The submits of each purchase that were accepted.
    accepted: BTreeMap<PurchaseId, usize>,
    /// What this gateway was refused by a request that it then wrote another way.
    confirmed: BTreeMap<Fact, PurchaseId>,
    /// The same of all gateways, as far as the next one must know it.
    firm: BTreeSet<Fact>,
    /// The same of all gateways.
    ever: BTreeSet<Fact>,
    /// When a purchase last tried what is known to be refused, although everything is.
    asked: BTreeMap<(usize, bool), (Instant, PurchaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Try {
    account: usize,
    masked: bool,
    /// The method, if that was refused.
    method: Option<InputMethod>,
}

/// How a method is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MethodRefusal {
    Inputs,
    Path,
    Unclear,
}

/// Why the upstream does not accept the format of a submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentRefusal {
    Method(MethodRefusal),
    Field(&'static str),
    Auth,
    /// The key, which is known to be sent as it should be.
    Key,
}

impl SentRefusal {
    pub(super) fn error(self) -> SubmitError {
        let failure = Failure::InvalidRequest { message: "wrong image url".to_owned() };
        let refusal = match self {
            Self::Method(MethodRefusal::Inputs) => FormatRefusal::Inputs,
            Self::Method(MethodRefusal::Path) => FormatRefusal::Path,
            Self::Method(MethodRefusal::Unclear) => FormatRefusal::Unclear,
            Self::Field(name) => FormatRefusal::Field(name.to_owned()),
            Self::Auth => {
                let failure = Failure::KeyRefused { message: "no such key".to_owned() };
                return SubmitError::FormatRefused { refusal: FormatRefusal::Auth, failure };
            }
            Self::Key => {
                let reason = Failure::KeyRefused { message: "no such key".to_owned() };
                let pushback = crate::budget::Pushback::Key { reason };
                return SubmitError::Refused { pushback, message: String::new() };
            }
        };
        SubmitError::FormatRefused { refusal, failure }
    }
}

impl Formats {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut methods = BTreeMap::new();
        for method in METHODS {
            let is_unclear = |methods: &BTreeMap<_, _>| methods.values().any(|one| *one == MethodRefusal::Unclear);
            let refusal = match random.below(9) {
                0 => MethodRefusal::Inputs,
                1 => MethodRefusal::Path,
                // After two of these a purchase goes no further.
                2 if !is_unclear(&methods) => MethodRefusal::Unclear,
                _ => continue,
            };
            methods.insert(method, refusal);
        }
        Self {
            mode: if random.one_in(6) { FirstContact::Strict } else { FirstContact::Adapt },
            methods,
            fields: FIELDS.into_iter().filter(|_| random.one_in(6)).collect(),
            raw_keys: random.one_in(6),
            stored: StoredFormats::default(),
            slow: random.one_in(3),
            pending: VecDeque::new(),
            changes: 0,
            saved: 0,
            held: Vec::new(),
            tries: BTreeMap::new(),
            accepted: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            firm: BTreeSet::new(),
            ever: BTreeSet::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Returns what a gateway knows that starts.
    pub(super) fn table(&self) -> FormatTable {
        FormatTable::new(self.mode, FormatBasis::default(), self.stored.clone())
    }

    /// Draws the formats that a prompt can be written in.
    pub(super) fn options(model: &ModelId, random: &mut Random) -> Arc<FormatOptions> {
        let first = random.below(METHODS.len());
        let step = 1 + random.below(METHODS.len() - 1);
        let methods: Vec<InputMethod> =
            (0..=random.below(3)).map(|place| METHODS[(first + place * step) % METHODS.len()]).collect();
        let mut options = FormatOptions::clone(&FormatOptions::for_test(model.as_str(), &methods));
        options.masked = random.one_in(4);
        options.optional = FIELDS.into_iter().filter(|_| !random.one_in(8)).map(str::to_owned).collect();
        Arc::new(options)
    }

    /// Returns whether some format of a prompt is accepted, and the gateway may find it.
    pub(super) fn accepts(&self, options: &FormatOptions) -> bool {
        let accepts = |method: &(InputMethod, bool)| !self.methods.contains_key(&method.0);
        match self.mode {
            FirstContact::Strict => accepts(&options.methods[0]) && self.fields.is_empty() && !self.raw_keys,
            FirstContact::Adapt => {
                // A method that is refused without a reason, before anything was accepted, is tried again by each purchase.
                let is_unclear = |method: &&(InputMethod, bool)| {
                    self.methods.get(&method.0).is_some_and(|refusal| *refusal == MethodRefusal::Unclear)
                };
                let unclear = options.methods.iter().take_while(|method| !accepts(method)).filter(is_unclear).count();
                // After two refused parameters all are left out.
                let refused = unclear + self.fields.len().min(2);
                options.methods.iter().any(accepts)
                    && self.fields.iter().all(|field| options.optional.contains(*field))
                    && refused < REFUSED_MAX
            }
        }
    }

    /// Returns why the upstream refuses a submit for its format.
    pub(super) fn refusal(&self, sent: &SubmitFormat) -> Option<SentRefusal> {
        let SubmitFormat { format, accepted_before, may_change_auth } = sent;
        if self.raw_keys && format.auth == AuthStyle::Bearer {
            return Some(if *may_change_auth { SentRefusal::Auth } else { SentRefusal::Key });
        }
        let method = self.methods.get(&format.method).map(|&refusal| match refusal {
            // Where the path was served before, a page without it is no proof.
            MethodRefusal::Path if *accepted_before => MethodRefusal::Inputs,
            MethodRefusal::Inputs | MethodRefusal::Path | MethodRefusal::Unclear => refusal,
        });
        let field = self.fields.iter().find(|field| !format.omitted.contains(**field));
        method.map(SentRefusal::Method).or(field.map(|field| SentRefusal::Field(field)))
    }

    /// Returns the number of the last change of what is known.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns whether a change may be stored now. `idle`: nothing else is to be done.
    pub(super) fn can_be_stored(&self, idle: bool) -> bool {
        !self.pending.is_empty() && (idle || !self.slow)
    }

    /// Holds a report back that comes before a change is stored. Returns one that need not wait.
    pub(super) fn hold(&mut self, change: u64, task: Task) -> Option<Task> {
        if change <= self.saved {
            return Some(task);
        }
        self.held.push((change, task));
        None
    }

    fn change(&mut self, formats: StoredFormats) {
        self.changes += 1;
        self.pending.push_back(formats);
    }

    /// Cuts the power: what is not stored is lost.
    pub(super) fn cut_power(&mut self, variant: Variant) {
        if variant == Variant::FormatsNotStored {
            self.stored = StoredFormats::default();
        }
        self.pending.clear();
        self.held.clear();
        (self.changes, self.saved) = (0, 0);
        self.confirmed.clear();
        self.asked.clear();
    }

    fn is_known(&self, fact: Fact) -> bool {
        self.confirmed.contains_key(&fact) || self.firm.contains(&fact)
    }
}

impl LivePurchase {
    /// Whether it keeps a grant while another purchase tries out a format.
    fn keeps_grant(&self) -> bool {
        self.permit.is_some() && self.submission.is_some_and(|submission| submission.reservation.is_some())
    }
}

impl World {
    /// What is known of formats has changed.
    pub(super) fn formats_changed(&mut self) {
        self.note("formats changed", [0, 0], format_args!(""));
        let stored = self.jobs.formats.stored();
        self.formats.change(stored);
    }

    /// Stores what is known after one of the changes, and reports what has waited for that.
    pub(super) fn store_formats(&mut self) {
        let changes = 1 + self.random.below(self.formats.pending.len());
        self.note("formats stored", [changes, 0], format_args!(""));
        let formats = &mut self.formats;
        if let Some(stored) = formats.pending.drain(..changes).next_back() {
            formats.stored = stored;
        }
        formats.saved += u64::try_from(changes).unwrap();
        let saved = formats.saved;
        let settled = formats.held.extract_if(.., |(change, _)| *change <= saved);
        self.ready.extend(settled.map(|(_, task)| task));
    }

    /// A known refusal is not asked for again where there is another way; and one purchase an hour asks where there is
    /// none.
    pub(super) fn check_format(&mut self, purchase: PurchaseId, account: usize, sent: &SubmitFormat) {
        if self.formats.mode == FirstContact::Strict {
            return;
        }
        let prompt = &self.prompts[self.histories[self.number(purchase.job)].prompt];
        let (options, formats) = (&prompt.formats, &self.formats);
        let method = sent.format.method;
        let is_altered = sent.format.omitted.iter().any(|field| !options.optional.contains(field));
        let masked = options.masked;
        let is_tried = |method: InputMethod| {
            let tries = formats.tries.get(&purchase).into_iter().flatten();
            tries.into_iter().any(|one| (one.account, one.method) == (account, Some(method)))
        };
        let is_repeated = is_tried(method);
        let is_known = formats.is_known((account, masked, method));
        let is_open =
            |&&(other, _): &&(InputMethod, bool)| !formats.ever.contains(&(account, masked, other)) && !is_tried(other);
        let open = options.methods.iter().find(is_open).map(|(method, _)| *method);
        let now = self.instant();
        self.check(!is_altered, || format!("{purchase} lacks a field that its client asked for: {sent:?}"));
        self.check(!is_repeated, || format!("{purchase} was refused with {method:?} before"));
        if !is_known {
            return;
        }
        self.note("asks again", self.about(purchase), format_args!("{method:?}"));
        self.check(open.is_none(), || format!("{purchase} sends {method:?}, known to be refused, and has {open:?}"));
        let before = self.formats.asked.get(&(account, masked)).copied();
        let is_early = before.is_some_and(|(at, by)| by != purchase && now - at < HOUR);
        self.check(!is_early, || format!("{purchase} sends {method:?}, known to be refused, within an hour"));
        self.formats.asked.insert((account, masked), (now, purchase));
    }

    /// Notes the answer to a submit of a purchase that has not ended.
    pub(super) fn format_answered(&mut self, submit: Submit, error: Option<&SubmitError>) {
        let purchase = submit.purchase;
        let Submit { account, method, .. } = submit;
        let masked = self.prompts[self.histories[self.number(purchase.job)].prompt].formats.masked;
        let formats = &mut self.formats;
        let tries = formats.tries.entry(purchase).or_default();
        if let Some(SubmitError::FormatRefused { refusal, .. }) = error {
            let is_of_method = !matches!(refusal, FormatRefusal::Auth | FormatRefusal::Field(_) | FormatRefusal::Size);
            tries.push(Try { account, masked, method: is_of_method.then_some(method) });
            let refused = tries.len();
            self.counts.refused_formats += 1;
            self.check(refused <= REFUSED_MAX, || format!("{purchase} is refused {refused} times for its format"));
        } else if error.is_none() {
            let refused = tries.iter().filter_map(|one| Some((one.account, one.masked, one.method?)));
            let refused: Vec<Fact> = refused.collect();
            for fact in refused {
                formats.ever.insert(fact);
                formats.confirmed.insert(fact, purchase);
            }
            let accepted = formats.accepted.entry(purchase).or_default();
            *accepted += 1;
            let accepted = *accepted;
            self.check(accepted <= 1, || format!("{purchase} is accepted {accepted} times"));
        }
    }

    /// What was learned from an answer is stored before the step that follows from it. Returns whether there is anything.
    pub(super) fn note_firm(&mut self, step: Step, outcome: AppendOutcome) -> bool {
        let (Step::Acceptance(purchase) | Step::End(purchase), AppendOutcome::Durable) = (step, outcome) else {
            return false;
        };
        let Formats { confirmed, firm, .. } = &mut self.formats;
        let facts = confirmed.iter().filter(|(_, by)| **by == purchase);
        facts.filter(|(fact, _)| firm.insert(**fact)).count() > 0
    }

    /// A purchase that is refused for its format is not bought twice for a lost answer.
    pub(super) fn check_resubmit(&mut self, purchase: PurchaseId) {
        let has_tried = self.formats.tries.get(&purchase).is_some_and(|tries| !tries.is_empty());
        self.check(!has_tried, || {
            format!("{purchase} has changed its format, and is submitted again for a lost answer")
        });
    }

    /// Notes since when a purchase keeps its grant.
    pub(super) fn note_kept(&mut self, purchase: PurchaseId) {
        let now = self.instant();
        let Some(live) = self.purchase(purchase) else { return };
        live.kept_since = live.keeps_grant().then_some(now);
        if live.kept_since.is_some() {
            self.counts.kept_grants += 1;
            self.note("keeps its grant", self.about(purchase), format_args!(""));
        }
    }

    /// A grant is kept only while a submit through the account can say something.
    pub(super) fn check_kept(&mut self) {
        let all = || self.live.iter().flat_map(|live| &live.purchases);
        let is_tried = |account: usize| {
            all().any(|one| one.submitting && !one.ending && !one.has_ended && one.submits_with == Some(account))
        };
        let mut kept = all().filter(|one| one.keeps_grant()).filter_map(|one| one.permit.as_ref());
        let idle = kept.find(|permit| !is_tried(permit.account)).map(|permit| permit.account);
        self.check(idle.is_none(), || format!("a grant of account {idle:?} is kept, and no submit is under way"));
    }

    /// After a time-out no purchase has waited longer than it may.
    pub(super) fn check_waits(&mut self) {
        let now = self.instant();
        let is_long = |one: &LivePurchase| one.keeps_grant() && one.kept_since.is_some_and(|at| now - at >= WAIT_MAX);
        let waits = self.live.iter().flat_map(|live| &live.purchases).any(is_long);
        self.check(!waits, || "a purchase waits on for a format after its time".to_owned());
    }
}

/// Returns the API of a prompt whose preferred format is accepted.
pub(super) fn api_kind_of(options: &FormatOptions) -> ApiKind {
    options.first().method.api_kind()
}
