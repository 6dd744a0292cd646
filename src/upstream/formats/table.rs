//! What is known about formats, and which one the next submit takes.
//!
//! - `knowledge`: what is known. A method is unknown, proven, refused or suspect; a refusal counts for little until the
//!   purchase is accepted another way, because its pictures may have been at fault.
//! - `probes`: one purchase at a time tries what is unknown, and how often refused purchases may go on.
//! - `tries`: what one purchase has tried.
//! - `selection`: which methods come into question, the best first.
//! - `persistence`: to and from the state file.

use std::time::Instant;

use super::{
    FormatBasis, FormatOptions, FormatProblem, FormatRefusal, FormatSubject, InputKind, RequestFormat, StoredFormats,
    SubmitFormat,
};
use crate::config::FirstContact;
use crate::model::{Failure, ModelId, PurchaseId, Task, Timestamp};

mod knowledge;
mod persistence;
mod probes;
mod rows;
mod selection;
#[cfg(test)]
mod tests;
mod tries;

use knowledge::{Knowledge, Method, MethodState};
use probes::{Fallbacks, ProbePermission, Probes, Unknown};
pub(crate) use rows::FormatRow;
use selection::{candidates, remembered};
pub(crate) use tries::FormatTries;
use tries::{SUBMITS_MAX, Try, meaning};

/// The known formats of all accounts and models.
#[derive(Debug)]
pub(crate) struct FormatTable {
    mode: FirstContact,
    basis: FormatBasis,
    knowledge: Knowledge,
    probes: Probes,
    fallbacks: Fallbacks,
    changes: Changes,
}

/// Which format the next submit of a purchase takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FormatChoice {
    Submit(SubmitFormat),
    /// Another purchase is trying out a format; the answer is awaited until then at most.
    Wait {
        until: Instant,
    },
    /// No format is left: the first refusal, with what the operator can do.
    Exhausted(Failure),
}

/// What follows a refusal of a format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FormatVerdict {
    /// The purchase is submitted again, in another format.
    TryAnother,
    /// No other format may be tried: the first refusal, with what the operator can do.
    End(Failure),
}

/// A change of what is known, for the log, the metrics and the state file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FormatChange {
    pub(crate) subject: FormatSubject,
    pub(crate) format: RequestFormat,
    /// `proven`, `refused`, `suspect` or `unknown`.
    pub(crate) state: &'static str,
    /// The refusal's text, or why it is suspect or unknown; empty for a proven one.
    pub(crate) reason: String,
}

/// How the refusals of a purchase end, by what is remembered of them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum EndOfTries {
    /// Everything was refused, so the pictures may be at fault: nothing is remembered.
    AllRefused,
    /// A parameter of the client's was refused, or something is left that was not tried: methods that were refused are
    /// tried last by the next purchase.
    Early,
}

impl FormatChange {
    /// All states.
    pub(crate) const STATES: [&str; 4] = ["unknown", "proven", "refused", "suspect"];
}

impl FormatTable {
    /// Makes a table of what was stored, where that was gained with the same version, catalogue and upstream.
    pub(crate) fn new(mode: FirstContact, basis: FormatBasis, stored: StoredFormats) -> Self {
        let knowledge = persistence::knowledge(stored.if_gained_with(&basis));
        let (probes, fallbacks) = (Probes::default(), Fallbacks::default());
        Self { mode, basis, knowledge, probes, fallbacks, changes: Changes::default() }
    }

    /// Returns the format of the next submit of a purchase through an account. A format of which nothing is known is tried
    /// by one purchase at a time; the others wait for its answer.
    pub(crate) fn choose(
        &mut self,
        subject: &FormatSubject,
        options: &FormatOptions,
        tries: &FormatTries,
        purchase: PurchaseId,
        now: Instant,
        at: Timestamp,
    ) -> FormatChoice {
        if self.mode == FirstContact::Strict {
            let format = options.first();
            let accepted_before = self.knowledge.is_served(subject, format.method);
            return FormatChoice::Submit(SubmitFormat { format, accepted_before, may_change_auth: false });
        }
        for method in self.knowledge.subject(subject).lapse(at) {
            self.changes.push(subject, documented(method), "unknown", "what was known is too old");
        }
        self.fallbacks.forget_old(now);
        self.probes.release(purchase, Some(subject));
        if !self.fallbacks.may_follow(&self.knowledge, subject, tries, purchase) {
            return self.exhausted(subject, options, tries, purchase, EndOfTries::Early);
        }
        let asks = self.probes.is_asking(subject, purchase);
        let mut left = candidates(&self.knowledge, subject, options, tries, asks);
        if left.is_empty() && tries.last().is_none() && self.probes.ask_again(subject, purchase, now) {
            left = candidates(&self.knowledge, subject, options, tries, true);
        }
        let Some(&(mut method)) = left.first() else {
            return self.exhausted(subject, options, tries, purchase, EndOfTries::AllRefused);
        };
        let auth = self.knowledge.auth(&subject.account);
        let is_proven =
            |&method: &Method| matches!(self.knowledge.method(subject, method), Some(MethodState::Proven { .. }));
        let is_unknown = matches!(self.knowledge.method(subject, method), Some(MethodState::Refused(_)) | None);
        let proven = left.iter().copied().find(is_proven).filter(|_| auth.proven);
        let lapsed = self.knowledge.parameters(subject).any_lapsed(options, at);
        let unknown = Unknown { format: is_unknown || lapsed, auth: !auth.proven };
        let permission = self.probes.permission(subject, unknown, purchase, now);
        match (permission, proven) {
            // Something that works is there meanwhile.
            (ProbePermission::Wait { .. } | ProbePermission::PassThrough, Some(proven)) => method = proven,
            (ProbePermission::Probe | ProbePermission::PassThrough, _) => {}
            (ProbePermission::Wait { .. }, None) if !is_unknown && auth.proven => {}
            (ProbePermission::Wait { until }, None) => return FormatChoice::Wait { until },
        }
        self.probes.submits(purchase, now);
        if tries.last().is_some() {
            self.fallbacks.count(subject, tries, purchase, now);
        }
        let asks_again = (lapsed && permission == ProbePermission::Probe).then_some(purchase);
        let applied = self.knowledge.parameters(subject).apply(options, asks_again, at);
        let is_refused = !auth.proven && tries.has_auth(&subject.account, auth.style);
        let style = if is_refused { auth.style.other() } else { auth.style };
        let format = RequestFormat {
            method: method.0,
            fetch_links: method.1,
            auth: style,
            omitted: applied.omitted,
            size: options.other_size.filter(|_| applied.size),
        };
        FormatChoice::Submit(SubmitFormat {
            format,
            accepted_before: self.knowledge.is_served(subject, method.0),
            may_change_auth: !auth.proven && !tries.has_auth(&subject.account, style.other()),
        })
    }

    /// Notes that a submit was accepted in a format, which confirms the refusals of its purchase before.
    pub(crate) fn accepted(
        &mut self,
        subject: &FormatSubject,
        format: &RequestFormat,
        tries: &FormatTries,
        purchase: PurchaseId,
        at: Timestamp,
    ) {
        let method = (format.method, format.fetch_links);
        let auth = self.knowledge.accounts.entry(subject.account.clone()).or_default();
        let had = std::mem::replace(auth, knowledge::AuthState { style: format.auth, proven: true });
        let mut is_news = had != *auth;
        is_news |= self.knowledge.subject(subject).accept(method, at);
        is_news |= self.knowledge.parameters(subject).accept(format, purchase);
        for one in tries.iter().filter(|one| one.is_of_method()) {
            let refused = (one.format.method, one.format.fetch_links);
            if one.account != subject.account || refused != method {
                let subject = FormatSubject { account: one.account.clone(), ..subject.clone() };
                is_news |= self.knowledge.subject(&subject).confirm(refused, one.failure.text(), purchase, at);
            }
        }
        if is_news {
            self.changes.push(subject, format.clone(), "proven", "");
        }
        self.fallbacks.clear(subject);
        self.probes.release(purchase, None);
    }

    /// Notes that a format was refused, with nothing bought, and decides what follows.
    #[expect(clippy::too_many_arguments, reason = "the circumstances of one refusal")]
    pub(crate) fn refused(
        &mut self,
        subject: &FormatSubject,
        options: &FormatOptions,
        format: &RequestFormat,
        refusal: FormatRefusal,
        failure: Failure,
        tries: &mut FormatTries,
        purchase: PurchaseId,
        at: Timestamp,
    ) -> FormatVerdict {
        let refusal = meaning(refusal);
        let account = subject.account.clone();
        tries.push(Try { account, format: format.clone(), refusal: refusal.clone(), failure: failure.clone() });
        if self.mode == FirstContact::Strict {
            return FormatVerdict::End(failure);
        }
        let (method, text) = ((format.method, format.fetch_links), failure.text());
        let auth = self.knowledge.auth(&subject.account);
        let other_auth = !auth.proven && !tries.has_auth(&subject.account, format.auth.other());
        if !auth.proven {
            self.knowledge.guess_auth(&subject.account, format.auth, &refusal, other_auth);
        }
        // What is left to try; or nothing, because the request is at fault.
        let same_method = match &refusal {
            FormatRefusal::Auth => other_auth,
            FormatRefusal::Field(name) => {
                let may_omit = options.optional.contains(name) && !format.omitted.contains(name);
                if may_omit {
                    self.knowledge.parameters(subject).omit(name, text, purchase, at);
                }
                may_omit
            }
            FormatRefusal::Size => {
                let has_other = options.other_size.is_some() && format.size.is_none();
                if has_other {
                    self.knowledge.parameters(subject).replace_size(text, purchase, at);
                }
                has_other
            }
            FormatRefusal::Inputs | FormatRefusal::Path | FormatRefusal::Unclear => false,
        };
        if same_method && tries.parameters() >= 2 {
            // The model has another table, of which these are two differences. There may be more than may be tried.
            for name in options.of_table() {
                self.knowledge.parameters(subject).omit(name, text, purchase, at);
            }
            if options.other_size.is_some() {
                self.knowledge.parameters(subject).replace_size(text, purchase, at);
            }
        }
        let other_method = match &refusal {
            FormatRefusal::Auth | FormatRefusal::Field(_) | FormatRefusal::Size => false,
            FormatRefusal::Inputs | FormatRefusal::Path => !self.knowledge.subject(subject).refuse_proven(method),
            FormatRefusal::Unclear => {
                let state = self.knowledge.method(subject, method);
                !matches!(state, Some(MethodState::Proven { .. } | MethodState::Suspect { .. })) && tries.unclear() < 2
            }
        };
        let is_news = other_method && self.knowledge.subject(subject).refuse(method, text, purchase, at);
        if is_news || same_method {
            self.changes.push(subject, format.clone(), "refused", text);
        }
        let asks = self.probes.is_asking(subject, purchase);
        let goes_on =
            same_method || other_method && !candidates(&self.knowledge, subject, options, tries, asks).is_empty();
        let in_limits =
            tries.len() < SUBMITS_MAX && self.fallbacks.may_follow(&self.knowledge, subject, tries, purchase);
        if goes_on && in_limits {
            // It waits for its next turn; one that has its turn may go on in its place.
            self.probes.release(purchase, None);
            return FormatVerdict::TryAnother;
        }
        let is_parameter = matches!(refusal, FormatRefusal::Field(_) | FormatRefusal::Size);
        let end = if goes_on || is_parameter { EndOfTries::Early } else { EndOfTries::AllRefused };
        let is_clients_picture = !other_method && matches!(refusal, FormatRefusal::Inputs | FormatRefusal::Path);
        // The client can do something about these itself.
        let failure =
            if is_parameter || is_clients_picture { failure } else { explained(tries, options).unwrap_or(failure) };
        self.end(subject, tries, purchase, end);
        FormatVerdict::End(failure)
    }

    /// Notes that pictures were not looked at, or a task failed for the way in which they were sent.
    pub(crate) fn suspect(
        &mut self,
        subject: &FormatSubject,
        format: &RequestFormat,
        problem: FormatProblem<'_>,
        at: Timestamp,
    ) {
        if subject.inputs == InputKind::None {
            return;
        }
        let method = (format.method, format.fetch_links);
        if let Some(state) = self.knowledge.subject(subject).suspect(method, problem, at) {
            self.changes.push(subject, format.clone(), state, problem.text());
        }
    }

    /// Notes that a purchase was delivered; `seen`: by its tokens its pictures were looked at.
    pub(crate) fn delivered(&mut self, subject: &FormatSubject, format: &RequestFormat, seen: bool, at: Timestamp) {
        if self.knowledge.subject(subject).deliver((format.method, format.fetch_links), seen, at) {
            self.changes.push(subject, format.clone(), "proven", "");
        }
    }

    /// Notes that the submit of a purchase was not refused in the time in which refusals come, so that other purchases need
    /// not wait for its answer.
    pub(crate) fn presumed(&mut self, purchase: PurchaseId) {
        self.probes.presume(purchase);
    }

    /// Takes whether purchases that wait may go on: what they wait for has been answered, or is not awaited any more.
    pub(crate) fn take_news(&mut self) -> bool {
        self.probes.take_news()
    }

    /// Notes that a submit of a purchase says nothing about its format, or that its answer is not awaited any more.
    pub(crate) fn no_verdict(&mut self, purchase: PurchaseId) {
        self.probes.release(purchase, None);
    }

    /// Returns whether a parameter is left out for a model, through any account, because it is refused.
    pub(crate) fn omits(&self, model: &ModelId, task: Task, name: &str) -> bool {
        self.mode == FirstContact::Adapt
            && self.knowledge.parameters.iter().any(|((_, of, for_task), parameters)| {
                of == model && *for_task == task && parameters.omitted.contains_key(name)
            })
    }

    /// Takes what has changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<FormatChange> {
        std::mem::take(&mut self.changes.0)
    }

    /// Returns what is known, for the status page.
    pub(crate) fn rows(&self) -> Vec<FormatRow> {
        rows::of(&self.knowledge)
    }

    /// Returns what is to survive a restart.
    pub(crate) fn stored(&self) -> StoredFormats {
        persistence::stored(&self.knowledge, self.basis.clone())
    }

    /// Ends a purchase for which no format is left.
    fn exhausted(
        &mut self,
        subject: &FormatSubject,
        options: &FormatOptions,
        tries: &FormatTries,
        purchase: PurchaseId,
        end: EndOfTries,
    ) -> FormatChoice {
        let failure = explained(tries, options)
            .unwrap_or_else(|| with_hint(remembered(&self.knowledge, subject, options), options));
        self.end(subject, tries, purchase, end);
        FormatChoice::Exhausted(failure)
    }

    /// Ends the tries of a purchase that was not accepted.
    fn end(&mut self, subject: &FormatSubject, tries: &FormatTries, purchase: PurchaseId, end: EndOfTries) {
        if end == EndOfTries::AllRefused {
            for (subject, method) in self.knowledge.forget_refusals(subject, tries, purchase) {
                self.changes.push(
                    &subject,
                    documented(method),
                    "unknown",
                    "the request was not accepted another way either",
                );
            }
        }
        self.probes.release(purchase, None);
    }
}

/// What has changed since it was last taken.
#[derive(Debug, Default)]
struct Changes(Vec<FormatChange>);

impl Changes {
    fn push(&mut self, subject: &FormatSubject, format: RequestFormat, state: &'static str, reason: &str) {
        let (subject, reason) = (subject.clone(), super::stored::clipped(reason));
        self.0.push(FormatChange { subject, format, state, reason });
    }
}

fn documented((method, fetch_links): Method) -> RequestFormat {
    RequestFormat { fetch_links, ..RequestFormat::documented(method) }
}

/// Returns the first refusal of a purchase, with what the operator can do.
fn explained(tries: &FormatTries, options: &FormatOptions) -> Option<Failure> {
    let first = tries.iter().next()?;
    Some(if first.is_of_method() { with_hint(first.failure.clone(), options) } else { first.failure.clone() })
}

/// Adds what the operator can do to a refusal.
fn with_hint(failure: Failure, options: &FormatOptions) -> Failure {
    let Failure::InvalidRequest { message } = &failure else { return failure };
    if !options.lacks_public_url {
        return failure;
    }
    let message = message.trim_end().trim_end_matches('.');
    let hint = "The operator of the gateway can set server.public_url, so that pictures are sent as links.";
    Failure::InvalidRequest { message: format!("{message}. {hint}") }
}
