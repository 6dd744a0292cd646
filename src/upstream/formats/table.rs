//! What is known about formats, and which one the next submit takes.

use std::time::Instant;

use super::{FormatBasis, FormatOptions, FormatRefusal, FormatSubject, RequestFormat, StoredFormats, SubmitFormat};
use crate::config::FirstContact;
use crate::model::{Failure, PurchaseId, Timestamp};

/// The known formats of all accounts and models.
#[derive(Debug)]
pub(crate) struct FormatTable {
    _mode: FirstContact,
    changes: Vec<FormatChange>,
}

/// What a purchase has tried.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FormatTries {
    refused: Vec<(RequestFormat, FormatRefusal, Failure)>,
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
    /// The refusal's text, or why it is suspect; empty for a proven one.
    pub(crate) reason: String,
}

impl FormatChange {
    /// All states.
    pub(crate) const STATES: [&str; 4] = ["unknown", "proven", "refused", "suspect"];
}

impl FormatTable {
    /// Makes a table of what was stored, where that was gained with the same version, catalogue and upstream.
    pub(crate) fn new(mode: FirstContact, _basis: FormatBasis, _stored: StoredFormats) -> Self {
        Self { _mode: mode, changes: Vec::new() }
    }

    /// Returns the format of the next submit of a purchase through an account. A format of which nothing is known is tried
    /// by one purchase at a time; the others wait for its answer.
    pub(crate) fn choose(
        &mut self,
        _subject: &FormatSubject,
        options: &FormatOptions,
        _tries: &FormatTries,
        _purchase: PurchaseId,
        _now: Instant,
        _at: Timestamp,
    ) -> FormatChoice {
        let format = options.first();
        FormatChoice::Submit(SubmitFormat { format, accepted_before: true, may_change_auth: false })
    }

    /// Notes that a submit was accepted in a format, which confirms the refusals of its purchase before.
    pub(crate) fn accepted(
        &mut self,
        _subject: &FormatSubject,
        _format: &RequestFormat,
        _tries: &FormatTries,
        _purchase: PurchaseId,
        _at: Timestamp,
    ) {
    }

    /// Notes that a format was refused, with nothing bought, and decides what follows.
    #[expect(clippy::too_many_arguments, reason = "the circumstances of one refusal")]
    pub(crate) fn refused(
        &mut self,
        _subject: &FormatSubject,
        _options: &FormatOptions,
        format: &RequestFormat,
        refusal: FormatRefusal,
        failure: Failure,
        tries: &mut FormatTries,
        _purchase: PurchaseId,
        _at: Timestamp,
    ) -> FormatVerdict {
        tries.refused.push((format.clone(), refusal, failure.clone()));
        FormatVerdict::End(failure)
    }

    /// Notes that pictures were not looked at, or a task failed for the way in which they were sent.
    pub(crate) fn suspect(&mut self, _subject: &FormatSubject, _format: &RequestFormat, _why: &str, _at: Timestamp) {}

    /// Notes that the submit of a purchase that tries out a format was not refused in the time in which refusals come, so
    /// that other purchases need not wait for its answer.
    pub(crate) fn presumed(&mut self, _subject: &FormatSubject, _purchase: PurchaseId) {}

    /// Notes that a submit of a purchase says nothing about its format, or that its answer is not awaited any more.
    pub(crate) fn no_verdict(&mut self, _purchase: PurchaseId) {}

    /// Takes what has changed since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<FormatChange> {
        std::mem::take(&mut self.changes)
    }

    /// Returns what is to survive a restart.
    pub(crate) fn stored(&self) -> StoredFormats {
        StoredFormats::default()
    }
}
