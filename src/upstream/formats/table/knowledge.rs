//! What is known, without what is going on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::stored::clipped;
use super::super::{AuthStyle, FormatOptions, FormatProblem, FormatRefusal, FormatSubject, InputMethod, RequestFormat};
use super::tries::FormatTries;
use crate::model::{AccountId, ModelId, PurchaseId, Task, Timestamp};

/// How long a refusal is believed.
const LAPSE: Duration = Duration::from_hours(7 * 24);
/// Refusals of a proven method in a row after which it is not proven any more.
const REFUSALS_IN_A_ROW: u8 = 3;

/// An input method, and whether the gateway fetches the client's addresses first.
pub(super) type Method = (InputMethod, bool);

/// All knowledge.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    pub(super) subjects: BTreeMap<FormatSubject, SubjectState>,
    pub(super) parameters: BTreeMap<(AccountId, ModelId, Task), Parameters>,
    pub(super) accounts: BTreeMap<AccountId, AuthState>,
}

impl Knowledge {
    pub(super) fn auth(&self, account: &AccountId) -> AuthState {
        self.accounts.get(account).copied().unwrap_or_default()
    }

    /// Notes what a refusal suggests of how the key of an account is sent, of which nothing is known for certain.
    /// `other`: the other style is left to try.
    pub(super) fn guess_auth(&mut self, account: &AccountId, sent: AuthStyle, refusal: &FormatRefusal, other: bool) {
        let style = match refusal {
            FormatRefusal::Auth if other => sent.other(),
            FormatRefusal::Auth => AuthStyle::default(),
            // The key was read before that.
            FormatRefusal::Inputs | FormatRefusal::Field(_) | FormatRefusal::Size => sent,
            FormatRefusal::Path | FormatRefusal::Unclear => return,
        };
        self.accounts.insert(account.clone(), AuthState { style, proven: false });
    }

    /// Returns whether a submit of a subject was accepted.
    pub(super) fn has_accepted(&self, subject: &FormatSubject) -> bool {
        self.subjects.get(subject).is_some_and(|state| !state.accepted.is_empty())
    }

    /// Returns whether a submit of the same account, model and task was accepted through the API of a method, so that its
    /// path is served.
    pub(super) fn is_served(&self, subject: &FormatSubject, method: InputMethod) -> bool {
        let is_of = |other: &FormatSubject| {
            (&other.account, &other.model, other.task) == (&subject.account, &subject.model, subject.task)
        };
        let has = |state: &SubjectState| state.accepted.iter().any(|other| other.api_kind() == method.api_kind());
        self.subjects.iter().any(|(other, state)| is_of(other) && has(state))
    }

    pub(super) fn method(&self, subject: &FormatSubject, method: Method) -> Option<&MethodState> {
        self.subjects.get(subject)?.methods.get(&method)
    }

    pub(super) fn subject(&mut self, subject: &FormatSubject) -> &mut SubjectState {
        self.subjects.entry(subject.clone()).or_default()
    }

    pub(super) fn parameters(&mut self, subject: &FormatSubject) -> &mut Parameters {
        let key = (subject.account.clone(), subject.model.clone(), subject.task);
        self.parameters.entry(key).or_default()
    }

    /// Forgets what a purchase was refused and nothing has confirmed. Returns the methods that are unknown again.
    pub(super) fn forget_refusals(
        &mut self,
        subject: &FormatSubject,
        tries: &FormatTries,
        by: PurchaseId,
    ) -> Vec<(FormatSubject, Method)> {
        let mut forgotten = Vec::new();
        let accounts: BTreeSet<&AccountId> = tries.iter().map(|one| &one.account).collect();
        for account in accounts {
            let subject = FormatSubject { account: account.clone(), ..subject.clone() };
            let own = tries.iter().filter(|one| one.account == *account && one.is_of_method());
            let methods = own.map(|one| (one.format.method, one.format.fetch_links)).collect();
            let unknown = self.subject(&subject).forget_refusals(by, &methods);
            forgotten.extend(unknown.into_iter().map(|method| (subject.clone(), method)));
            self.parameters(&subject).forget_refusals(by);
        }
        forgotten
    }
}

/// How the key of an account is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct AuthState {
    pub(super) style: AuthStyle,
    /// A submit was accepted with it.
    pub(super) proven: bool,
}

/// What is known about one kind of request.
#[derive(Debug, Default)]
pub(super) struct SubjectState {
    /// The methods in which a submit was ever accepted.
    pub(super) accepted: BTreeSet<InputMethod>,
    /// A method that is absent is unknown.
    pub(super) methods: BTreeMap<Method, MethodState>,
}

/// What is known about a method.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MethodState {
    /// `refusals`: in a row since it was last accepted.
    Proven {
        at: Timestamp,
        refusals: u8,
    },
    Refused(Refused),
    /// Accepted, and maybe without its pictures being looked at.
    Suspect {
        at: Timestamp,
        why: String,
    },
}

impl MethodState {
    /// Returns the name in the state file and on the status page.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Proven { .. } => "proven",
            Self::Refused(_) => "refused",
            Self::Suspect { .. } => "suspect",
        }
    }
}

/// A refusal that is remembered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) at: Timestamp,
    pub(super) text: String,
    pub(super) count: u32,
    /// The request was accepted another way, so that it was no fault of its pictures.
    pub(super) confirmed: bool,
    /// The purchase that may confirm it; `None` after a restart.
    pub(super) by: Option<PurchaseId>,
}

/// Parameters that are refused, with the sizes of the first table as one.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub(super) omitted: BTreeMap<String, Refused>,
    pub(super) size: Option<Refused>,
}

impl Refused {
    pub(super) fn new(text: &str, by: PurchaseId, at: Timestamp) -> Self {
        Self { at, text: clipped(text), count: 1, confirmed: false, by: Some(by) }
    }

    pub(super) fn again(&mut self, text: &str, by: PurchaseId, at: Timestamp) {
        self.count = self.count.saturating_add(1);
        if !self.confirmed {
            *self = Self { count: self.count, ..Self::new(text, by, at) };
        }
    }

    fn confirm(&mut self) {
        (self.confirmed, self.by) = (true, None);
    }

    /// Returns whether the refusal is too old. One from the future, as after a clock was set back, is of now.
    fn has_lapsed(&mut self, now: Timestamp) -> bool {
        lapsed(&mut self.at, now)
    }
}

fn lapsed(at: &mut Timestamp, now: Timestamp) -> bool {
    *at = (*at).min(now);
    now.since(*at) >= LAPSE
}

impl SubjectState {
    /// Makes refusals and suspicions unknown that are too old. Returns their methods.
    pub(super) fn lapse(&mut self, now: Timestamp) -> Vec<Method> {
        let lapsed_methods = self.methods.extract_if(.., |_, state| match state {
            MethodState::Refused(refused) => refused.has_lapsed(now),
            MethodState::Suspect { at, .. } => lapsed(at, now),
            MethodState::Proven { .. } => false,
        });
        lapsed_methods.map(|(method, _)| method).collect()
    }

    /// Notes an acceptance. Returns whether the method was not proven before.
    pub(super) fn accept(&mut self, method: Method, at: Timestamp) -> bool {
        self.accepted.insert(method.0);
        match self.methods.get_mut(&method) {
            Some(MethodState::Proven { refusals, .. }) => {
                *refusals = 0;
                false
            }
            // That it is accepted is not in question.
            Some(MethodState::Suspect { .. }) => false,
            Some(MethodState::Refused(_)) | None => {
                self.methods.insert(method, MethodState::Proven { at, refusals: 0 });
                true
            }
        }
    }

    /// Notes the refusal of a proven method. Returns whether it is still proven: a few refusals are the fault of pictures.
    pub(super) fn refuse_proven(&mut self, method: Method) -> bool {
        let Some(MethodState::Proven { refusals, .. }) = self.methods.get_mut(&method) else { return false };
        *refusals += 1;
        let still_proven = *refusals < REFUSALS_IN_A_ROW;
        if !still_proven {
            self.methods.remove(&method);
        }
        still_proven
    }

    /// Notes a refusal that is to be confirmed. Returns whether it is news.
    pub(super) fn refuse(&mut self, method: Method, text: &str, by: PurchaseId, at: Timestamp) -> bool {
        match self.methods.get_mut(&method) {
            Some(MethodState::Refused(refused)) => {
                refused.again(text, by, at);
                false
            }
            Some(MethodState::Proven { .. } | MethodState::Suspect { .. }) | None => {
                self.methods.insert(method, MethodState::Refused(Refused::new(text, by, at)));
                true
            }
        }
    }

    /// Confirms a refusal, unless the method was accepted since. Returns whether it was not confirmed before.
    pub(super) fn confirm(&mut self, method: Method, text: &str, by: PurchaseId, at: Timestamp) -> bool {
        let state = self.methods.entry(method).or_insert_with(|| MethodState::Refused(Refused::new(text, by, at)));
        let MethodState::Refused(refused) = state else { return false };
        let is_news = !refused.confirmed;
        refused.confirm();
        is_news
    }

    /// Forgets the unconfirmed refusals by a purchase among these methods. Returns the forgotten ones.
    pub(super) fn forget_refusals(&mut self, by: PurchaseId, methods: &BTreeSet<Method>) -> Vec<Method> {
        let is_its = |method: &Method, state: &mut MethodState| match state {
            MethodState::Refused(refused) => !refused.confirmed && refused.by == Some(by) && methods.contains(method),
            MethodState::Proven { .. } | MethodState::Suspect { .. } => false,
        };
        self.methods.extract_if(.., is_its).map(|(method, _)| method).collect()
    }

    /// Notes a suspicion; a second task that failed refuses the method. Returns the new state where it has changed.
    pub(super) fn suspect(
        &mut self,
        method: Method,
        problem: FormatProblem<'_>,
        at: Timestamp,
    ) -> Option<&'static str> {
        let why = clipped(problem.text());
        let state = match self.methods.get(&method) {
            Some(MethodState::Refused(_)) => return None,
            Some(MethodState::Suspect { .. }) if problem == FormatProblem::InputsUnseen => return None,
            Some(MethodState::Suspect { .. }) => {
                MethodState::Refused(Refused { at, text: why, count: 1, confirmed: true, by: None })
            }
            Some(MethodState::Proven { .. }) | None => MethodState::Suspect { at, why },
        };
        let name = state.name();
        self.methods.insert(method, state);
        Some(name)
    }

    /// Notes that a purchase was delivered. That ends the suspicion by a task that failed, whose own pictures were at
    /// fault, and where its pictures were `seen` any other. Returns whether the method was suspect.
    pub(super) fn deliver(&mut self, method: Method, seen: bool, at: Timestamp) -> bool {
        let Some(MethodState::Suspect { why, .. }) = self.methods.get(&method) else { return false };
        if !seen && *why == FormatProblem::InputsUnseen.text() {
            return false;
        }
        self.methods.insert(method, MethodState::Proven { at, refusals: 0 });
        true
    }
}

impl Parameters {
    /// Returns what a format leaves out of a request. `asks_again`: the purchase sends what was refused too long ago.
    pub(super) fn apply(
        &mut self,
        options: &FormatOptions,
        asks_again: Option<PurchaseId>,
        now: Timestamp,
    ) -> ParameterChanges {
        let is_sent = |refused: &mut Refused| {
            let is_sent = asks_again.is_some() && refused.has_lapsed(now);
            if is_sent {
                refused.by = asks_again;
            }
            is_sent
        };
        let omitted = self.omitted.iter_mut().filter(|(name, _)| options.optional.contains(*name));
        let omitted = omitted.filter_map(|(name, refused)| (!is_sent(refused)).then(|| name.clone())).collect();
        let size = self.size.as_mut().filter(|_| options.other_size.is_some());
        ParameterChanges { omitted, size: size.is_some_and(|refused| !is_sent(refused)) }
    }

    /// Returns whether a refusal is too old that concerns a request.
    pub(super) fn any_lapsed(&mut self, options: &FormatOptions, now: Timestamp) -> bool {
        let size = self.size.iter_mut().filter(|_| options.other_size.is_some());
        let omitted = self.omitted.iter_mut().filter(|(name, _)| options.optional.contains(*name));
        omitted.map(|(_, refused)| refused).chain(size).any(|refused| refused.has_lapsed(now))
    }

    /// Notes that a parameter is refused.
    pub(super) fn omit(&mut self, name: &str, text: &str, by: PurchaseId, at: Timestamp) {
        self.omitted.insert(name.to_owned(), Refused::new(text, by, at));
    }

    /// Notes that a size is refused that the other table has another one for.
    pub(super) fn replace_size(&mut self, text: &str, by: PurchaseId, at: Timestamp) {
        self.size = Some(Refused::new(text, by, at));
    }

    /// Notes an acceptance: what was left out is confirmed, and what the purchase asked again is not refused any more.
    /// Returns whether anything has changed.
    pub(super) fn accept(&mut self, format: &RequestFormat, by: PurchaseId) -> bool {
        let mut changed = false;
        let mut keep = |refused: &mut Refused, left_out: bool| {
            let is_sent = !left_out && refused.by == Some(by);
            changed |= is_sent || (left_out && !refused.confirmed);
            if left_out {
                refused.confirm();
            }
            !is_sent
        };
        self.omitted.retain(|name, refused| keep(refused, format.omitted.contains(name)));
        self.size.take_if(|refused| !keep(refused, format.size.is_some()));
        changed
    }

    /// Forgets the unconfirmed refusals by a purchase.
    pub(super) fn forget_refusals(&mut self, by: PurchaseId) {
        let is_its = |refused: &Refused| !refused.confirmed && refused.by == Some(by);
        self.omitted.retain(|_, refused| !is_its(refused));
        self.size.take_if(|refused| is_its(refused));
    }
}

/// What a format leaves out, and whether it has the other size.
#[derive(Debug, Default)]
pub(super) struct ParameterChanges {
    pub(super) omitted: BTreeSet<String>,
    pub(super) size: bool,
}
