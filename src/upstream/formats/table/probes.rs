//! Who tries out what is unknown, who waits for it, and how often others may go on.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::{FormatRefusal, FormatSubject};
use super::knowledge::Knowledge;
use super::tries::FormatTries;
use crate::model::{AccountId, ModelId, PurchaseId};

/// The longest time that a purchase waits for another one that tries out a format.
const WAIT: Duration = Duration::from_secs(30);
/// A probe without an answer for this time is a probe no more, so that one whose end was not reported blocks no other.
const PROBE_MAX: Duration = Duration::from_mins(10);
/// Time in which one request is let through whose methods are all known to be refused, and in which fallbacks are counted.
const HOUR: Duration = Duration::from_hours(1);
/// Submits in another format within an hour, for an account and a model, until one is accepted.
const FALLBACKS_MAX: usize = 6;

/// The purchases that try out formats.
#[derive(Debug, Default)]
pub(super) struct Probes {
    subjects: BTreeMap<FormatSubject, Probe>,
    accounts: BTreeMap<AccountId, Probe>,
    /// Since when purchases wait.
    waiting: BTreeMap<PurchaseId, Instant>,
    /// The last purchases that were let through although everything is known to be refused.
    asking: BTreeMap<FormatSubject, Probe>,
    /// Those that wait need not wait for what has ended, or was presumed, since this was last taken.
    has_news: bool,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    purchase: PurchaseId,
    since: Instant,
    /// It was not refused in the time in which refusals come.
    presumed: bool,
}

impl Probe {
    fn new(purchase: PurchaseId, since: Instant) -> Self {
        Self { purchase, since, presumed: false }
    }
}

/// What a purchase must be the only one to try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Unknown {
    /// The method, or a parameter.
    pub(super) format: bool,
    /// How the key is sent.
    pub(super) auth: bool,
}

/// Whether a purchase may try what is unknown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ProbePermission {
    Probe,
    Wait {
        until: Instant,
    },
    /// It has waited long enough.
    PassThrough,
}

impl Probes {
    /// Returns whether a purchase may try what is unknown; if so, it is the only one until [`Self::release`].
    pub(super) fn permission(
        &mut self,
        subject: &FormatSubject,
        unknown: Unknown,
        purchase: PurchaseId,
        now: Instant,
    ) -> ProbePermission {
        let blocks =
            |probe: &&Probe| probe.purchase != purchase && now.saturating_duration_since(probe.since) < PROBE_MAX;
        let is_free = |probe: Option<&Probe>| probe.is_none_or(|probe| !blocks(&probe));
        let is_presumed = |probe: Option<&Probe>| probe.filter(blocks).is_none_or(|probe| probe.presumed);
        let free = (!unknown.format || is_free(self.subjects.get(subject)))
            && (!unknown.auth || is_free(self.accounts.get(&subject.account)));
        if free {
            let probe = Probe::new(purchase, now);
            if unknown.format {
                self.subjects.insert(subject.clone(), probe);
            }
            if unknown.auth {
                self.accounts.insert(subject.account.clone(), probe);
            }
            return ProbePermission::Probe;
        }
        if (!unknown.format || is_presumed(self.subjects.get(subject)))
            && (!unknown.auth || is_presumed(self.accounts.get(&subject.account)))
        {
            return ProbePermission::PassThrough;
        }
        let until = *self.waiting.entry(purchase).or_insert(now) + WAIT;
        if now < until { ProbePermission::Wait { until } } else { ProbePermission::PassThrough }
    }

    /// Notes that a purchase waits no more.
    pub(super) fn submits(&mut self, purchase: PurchaseId, now: Instant) {
        self.waiting.remove(&purchase);
        // Of purchases that were dropped without a word.
        self.waiting.retain(|_, since| now.saturating_duration_since(*since) < PROBE_MAX);
    }

    /// Notes that the probe of a purchase is presumed to be accepted, so that others need not wait for its answer.
    pub(super) fn presume(&mut self, purchase: PurchaseId) {
        let probes = self.subjects.values_mut().chain(self.accounts.values_mut());
        for probe in probes.filter(|probe| probe.purchase == purchase) {
            probe.presumed = true;
            self.has_news = true;
        }
    }

    /// Takes whether a probe has ended or was presumed to be accepted since the last call.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Ends the roles of a purchase, except those for a subject that it is about to try.
    pub(super) fn release(&mut self, purchase: PurchaseId, except: Option<&FormatSubject>) {
        let before = self.subjects.len() + self.accounts.len();
        self.subjects.retain(|subject, probe| probe.purchase != purchase || Some(subject) == except);
        self.accounts.retain(|account, probe| {
            probe.purchase != purchase || except.is_some_and(|subject| subject.account == *account)
        });
        self.has_news |= self.subjects.len() + self.accounts.len() < before;
        if except.is_none() {
            self.waiting.remove(&purchase);
        }
    }

    /// Returns whether a purchase was let through to ask again for what is known to be refused.
    pub(super) fn is_asking(&self, subject: &FormatSubject, purchase: PurchaseId) -> bool {
        self.asking.get(subject).is_some_and(|probe| probe.purchase == purchase)
    }

    /// Lets one purchase an hour through to ask again. Returns whether it is this one.
    pub(super) fn ask_again(&mut self, subject: &FormatSubject, purchase: PurchaseId, now: Instant) -> bool {
        let is_recent = |probe: &Probe| now.saturating_duration_since(probe.since) < HOUR;
        if self.asking.get(subject).is_some_and(is_recent) {
            return self.is_asking(subject, purchase);
        }
        self.asking.insert(subject.clone(), Probe::new(purchase, now));
        true
    }

    #[cfg(test)]
    pub(super) fn waits(&self) -> usize {
        self.waiting.len()
    }
}

/// Submits in another format than the first, of the last hour.
#[derive(Debug, Default)]
pub(super) struct Fallbacks {
    submits: BTreeMap<(AccountId, ModelId), VecDeque<Fallback>>,
}

#[derive(Clone, Copy, Debug)]
struct Fallback {
    purchase: PurchaseId,
    /// The refusals before it.
    refusals: usize,
    at: Instant,
}

impl Fallbacks {
    /// Returns whether a purchase may be submitted in another format after its last refusal. Where its method is known to
    /// work, a parameter that is left out is no fallback.
    pub(super) fn may_follow(
        &self,
        knowledge: &Knowledge,
        subject: &FormatSubject,
        tries: &FormatTries,
        purchase: PurchaseId,
    ) -> bool {
        let Some(last) = tries.last() else { return true };
        let is_small = matches!(last.refusal, FormatRefusal::Field(_) | FormatRefusal::Size);
        let Some(submits) = self.submits.get(&key(subject)) else { return true };
        (is_small && knowledge.has_accepted(subject))
            || submits.len() < FALLBACKS_MAX
            || submits.iter().any(|one| one.is(purchase, tries.len()))
    }

    /// Counts a submit after a refusal once, although the budget may push it back.
    pub(super) fn count(&mut self, subject: &FormatSubject, tries: &FormatTries, purchase: PurchaseId, now: Instant) {
        let submits = self.submits.entry(key(subject)).or_default();
        if !submits.iter().any(|one| one.is(purchase, tries.len())) {
            submits.push_back(Fallback { purchase, refusals: tries.len(), at: now });
        }
    }

    /// Forgets those of an hour ago.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.submits.retain(|_, submits| {
            submits.retain(|submit| now.saturating_duration_since(submit.at) < HOUR);
            !submits.is_empty()
        });
    }

    /// Forgets those of an account and a model, after an acceptance.
    pub(super) fn clear(&mut self, subject: &FormatSubject) {
        self.submits.remove(&key(subject));
    }
}

impl Fallback {
    fn is(&self, purchase: PurchaseId, refusals: usize) -> bool {
        (self.purchase, self.refusals) == (purchase, refusals)
    }
}

fn key(subject: &FormatSubject) -> (AccountId, ModelId) {
    (subject.account.clone(), subject.model.clone())
}
