//! One purchase of a live job: its states, and the steps from one to the next.
//!
//! ```text
//!               ┌─────────── not sent, refused ────────────┐
//!               ▼                                          │
//!   Pausing ─▶ Queued ─ granted ─▶ Submitting ─ uploaded ─ COMMITTING ─ last byte
//!      ▲        │ ▲ no waiter, late,    │                                   │
//!      │        │ │ stopping            │ rejected, answer lost             │
//!      └────────┼─┴─ Withdrawing ◀──────┼───────── refused ─────────────────┤
//!               │   (WITHDRAWN or       │                                   │ accepted
//!               │    RESUBMITTED)       │                                   ▼
//!               ▼                       ▼                           Accepting (ACCEPTED)
//!   Ended ◀─ Ending (FAILED) ◀──────────┴── failed, deadline ── Polling ◀───┤
//!     ▲                                                           │ done    │ pictures, no id
//!     │                                                           ▼         ▼
//!     └───── Ending (RESOLVED) ◀───────────────────────────── fetched ◀── Collecting
//! ```
//!
//! Words in capitals are records of the journal. A step that a record guards is taken when the record is durable.
//!
//! - Until COMMITTING is appended, a submit that was not sent or was refused is queued again, after a pause if one is due.
//!   After that, WITHDRAWN is journalled first.
//! - A lost answer ends the purchase as an unknown outcome, which is a FAILED. With `on_unknown = "resubmit"` it is
//!   journalled as RESUBMITTED, and submitted again.
//! - An upstream may accept before the last byte: ACCEPTED then follows without COMMITTING.
//! - A purchase that has ended, and whose stored pictures are damaged, begins again at Polling (`job/refetched.rs`). It
//!   ends with a RESTORED where the upstream returns other bytes, and without a record otherwise.
//! - With the API kind `openai` the submit is everything: there is no id and no poll, and the answer to the last byte
//!   brings the pictures. COMMITTING, otherwise a moment, lasts until the picture is made. A connection that breaks in it,
//!   a stop whose grace ends in it and a crash in it have an unknown outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::event::{Effect, NextPoll, Now, RefetchResult, Step};
use super::rules::Rules;
use super::timers::Timers;
use crate::model::{AccountId, Failure, PurchaseId, PurchaseResult, StoredPicture, Timestamp, UpstreamId, Usage};
use crate::polling::latency::LatencyClass;
use crate::storage::journal::{JobRecord, PictureBytes, Record};
use crate::upstream::formats::{FormatOptions, FormatSubject, FormatTable, FormatTries, InputKind, RequestFormat};
use crate::upstream::{Finished, PurchaseHandle, blames_address};

mod append;
mod commit;
mod decisions;
mod end;
mod poll;
mod progress;
pub(super) mod refetch;
mod submit;

use decisions::PollState;
use refetch::Refetch;

/// One purchase of a live job.
#[derive(Debug)]
pub(super) struct Purchase {
    pub(super) state: State,
    /// The number of pictures it is to make.
    pub(super) pictures: u8,
    /// It was submitted again although the answer to a submit was lost, which may have been paid for.
    pub(super) answer_lost: bool,
    attempts: Attempts,
    /// The record that its state waits for.
    append: Append,
}

/// How far the record is that a purchase waits for.
#[derive(Debug, Default)]
struct Append {
    /// How often it was not written.
    failures: u32,
    /// When it is appended again; `None` while it is on its way.
    again_at: Option<Instant>,
    /// The purchase is polled already, and its acceptance is still to be journalled: the journal is away.
    acceptance_due: bool,
}

/// The submits of a purchase so far.
#[derive(Debug, Default)]
struct Attempts {
    /// Their number. A commit record names the submit that it belongs to.
    submits: u32,
    /// Their number, without those that the upstream pushed back.
    counted: u32,
    /// Accounts whose key the upstream refused; each once, however often it refused.
    refused_accounts: Vec<AccountId>,
    /// The formats that the upstream refused.
    formats: FormatTries,
    /// It was submitted again in another format.
    format_changed: bool,
}

/// The state of a purchase.
#[derive(Debug)]
pub(super) enum State {
    /// It waits for the budget.
    Queued,
    /// Its turn did not come in time, and the budget is asked why.
    Late,
    /// It waits before it is queued again.
    Pausing {
        until: Instant,
    },
    /// The budget has granted a submit with this account, and another purchase is trying out the format.
    AwaitingFormat {
        account: AccountId,
    },
    /// A submit is under way.
    Submitting(Submit),
    /// It is submitted again after the pause, once that is journalled: a submit had no effect, or its answer is `lost`.
    Withdrawing {
        pause: Duration,
        lost: bool,
    },
    /// The upstream has taken it, which is being journalled; with its pictures where these came at once.
    Accepting {
        accepted: Box<Accepted>,
        finished: Option<Finished>,
    },
    /// The upstream works on it, or its pictures are being fetched.
    Polling(Box<Accepted>),
    /// Its pictures came with the answer to its submit, without an id.
    Collecting(Box<Immediate>),
    /// Its end is being journalled.
    Ending(PendingEnd),
    Ended(PurchaseEnd),
}

/// A submit that is under way.
#[derive(Debug)]
pub(super) struct Submit {
    pub(super) sent: SentFormat,
    pub(super) since: Instant,
    pub(super) last_byte: LastByte,
}

/// The format that a submit was written in, and what its answer says something about.
#[derive(Clone, Debug)]
pub(super) struct SentFormat {
    pub(super) subject: FormatSubject,
    pub(super) format: RequestFormat,
}

impl SentFormat {
    /// Returns the failure of a purchase that was sent in this format: a task that failed because the upstream could not
    /// fetch a picture from an address of the client is the client's to mend.
    fn explain(&self, failure: Failure) -> Failure {
        let passed_on = self.subject.inputs == InputKind::Links && !self.format.fetch_links;
        if let Failure::TaskFailed { message } = &failure
            && passed_on
            && blames_address(message)
        {
            return Failure::LinkNotFetched { message: message.clone(), bought: true };
        }
        failure
    }
}

/// What is known of the record of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// It is on the way to the disk.
    Appended,
    Durable,
    /// It is not written, so nothing else of the job is.
    NotWritten,
}

/// Where the last byte of a submit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastByte {
    /// Held back, and the journal knows nothing of the submit.
    Held,
    /// Held back until the commit record is durable.
    AwaitsCommit,
    /// Held back, because the intent is not known to be durable.
    AwaitsIntent,
    /// Released `at` this time. `assume_at`: when the submit counts as accepted, should it have no answer.
    Released { at: Instant, assume_at: Option<Instant> },
}

/// A purchase that the upstream has taken under an id.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) poll: PollState,
    /// The account that bought it.
    pub(super) account: AccountId,
    /// When the upstream accepted it.
    pub(super) at: Instant,
    /// The class of purchases that take about as long.
    pub(super) class: Arc<LatencyClass>,
    /// The age at which a poll last found it working; `None` before.
    pub(super) working_at: Option<Duration>,
    /// It was accepted before the gateway started.
    pub(super) resumed: bool,
    /// A poll has found it done, or the answer to its submit said that it is.
    pub(super) found_done: bool,
    /// Polls and fetches in a row that failed.
    pub(super) troubles: u32,
    /// How it was submitted; `None` for a purchase from before the start.
    pub(super) sent: Option<SentFormat>,
    /// It has ended before, and its stored pictures are fetched again.
    pub(super) refetch: Option<Refetch>,
}

/// Pictures that came with the answer to a submit.
#[derive(Debug)]
pub(super) struct Immediate {
    finished: Finished,
    sent: SentFormat,
    /// When it was submitted.
    since: Instant,
    answered: Instant,
    rounds: u32,
}

/// A purchase whose end is being journalled.
#[derive(Clone, Debug)]
pub(super) struct PendingEnd {
    pub(super) end: PurchaseEnd,
    /// The bytes of its pictures that have no file.
    contents: Vec<PictureBytes>,
    upstream: Option<UpstreamId>,
    /// Where the purchase is polled, if the upstream named an address.
    poll_url: Option<String>,
    /// When it was accepted, or submitted where that brought the pictures.
    since: Instant,
    /// Pictures that may not be on disk are not journalled: a restart fetches them again.
    recordable: bool,
    accounting: Accounting,
}

/// How the end of a purchase is accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accounting {
    Due,
    /// Its outcome is unknown by an earlier submit alone, whose lost answer is counted already.
    CountedAsLost,
    /// It was accounted for when it ended; its stored pictures were fetched again, with this result.
    Refetched(RefetchResult),
}

/// How a purchase ended.
#[derive(Clone, Debug)]
pub(in crate::engine) enum PurchaseEnd {
    Pictures {
        upstream: Option<UpstreamId>,
        pictures: Vec<StoredPicture>,
        usage: Option<Usage>,
        at: Timestamp,
    },
    Failure(Failure),
    /// Stored pictures are damaged and could not be fetched again. The journal is unchanged.
    NotRestored(Failure),
}

/// What a step of a purchase may look at, and where it puts its effects.
pub(super) struct Context<'a> {
    pub(super) purchase: PurchaseId,
    pub(super) job: JobContext<'a>,
    pub(super) rules: &'a Rules,
    /// Why nothing may be submitted any more.
    pub(super) closed: Option<&'a Failure>,
    pub(super) now: Now,
    pub(super) timers: &'a mut Timers,
    /// The request formats that the upstream is known to accept.
    pub(super) formats: &'a mut FormatTable,
    pub(super) effects: &'a mut Vec<Effect>,
}

/// What a step of a purchase may look at of its job.
#[derive(Clone, Copy)]
pub(super) struct JobContext<'a> {
    pub(super) record: &'a Arc<JobRecord>,
    /// The formats that a submit can be written in; `None` for a job from before the start, which is not submitted again.
    pub(super) formats: Option<&'a Arc<FormatOptions>>,
    /// Until when a submit is of use to a waiter.
    pub(super) start_by: Instant,
    pub(super) intent: Intent,
}

impl Context<'_> {
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn append(&mut self, record: Record, step: Step) {
        self.effects.push(Effect::Append { records: vec![record], step });
    }

    fn fetch(&mut self, finished: Finished, pause: Duration, resumable: bool) {
        self.effects.push(Effect::Fetch { purchase: self.purchase, finished, pause, resumable });
    }

    /// Keeps the outputs that were asked for, the first ones. What is beyond them is reported if it is `new`.
    fn keep_asked(&mut self, finished: &mut Finished, asked: u8, new: bool) {
        let surplus = finished.outputs.len().saturating_sub(usize::from(asked));
        finished.outputs.truncate(usize::from(asked));
        if surplus > 0 && new {
            self.push(Effect::ReportSurplus { purchase: self.purchase, asked, surplus });
        }
    }

    /// Whether a submit would be of no use any more.
    fn is_late(&self) -> bool {
        self.job.start_by <= self.now.instant
    }

    /// Whether the deadline of a purchase has passed that was accepted at this time.
    fn is_expired(&self, accepted: Instant) -> bool {
        self.now.instant.saturating_duration_since(accepted) >= self.rules.deadline
    }
}

impl Purchase {
    pub(super) fn new(state: State, pictures: u8) -> Self {
        let (attempts, append) = (Attempts::default(), Append::default());
        Self { state, pictures, answer_lost: false, attempts, append }
    }
}

impl Accepted {
    pub(super) fn new(handle: PurchaseHandle, account: AccountId, class: Arc<LatencyClass>, at: Instant) -> Self {
        Self {
            poll: PollState::new(handle),
            account,
            at,
            class,
            working_at: None,
            resumed: false,
            found_done: false,
            troubles: 0,
            sent: None,
            refetch: None,
        }
    }

    /// Returns what the time of the next poll is computed from.
    pub(super) fn next_poll(&self, soon: bool) -> NextPoll {
        NextPoll {
            handle: self.poll.handle.clone(),
            account: self.account.clone(),
            class: self.class.clone(),
            accepted: self.at,
            working_at: self.working_at.unwrap_or_default(),
            troubles: self.troubles,
            soon,
        }
    }
}

impl State {
    /// Whether the purchase is, or may be, bought.
    pub(super) fn is_bought(&self) -> bool {
        match self {
            Self::Queued | Self::Late | Self::Pausing { .. } | Self::AwaitingFormat { .. } => false,
            Self::Submitting(_)
            | Self::Withdrawing { .. }
            | Self::Accepting { .. }
            | Self::Polling(_)
            | Self::Collecting(_) => true,
            Self::Ending(PendingEnd { end, .. }) | Self::Ended(end) => end.is_bought(),
        }
    }

    /// Whether the answer to a submit is still to come, or to be journalled.
    pub(super) fn is_submitting(&self) -> bool {
        match self {
            Self::Submitting(_) | Self::Withdrawing { .. } | Self::Accepting { .. } | Self::Collecting(_) => true,
            // Until this end is durable, the journal shows a submit without an answer.
            Self::Ending(PendingEnd { end, upstream: None, .. }) => end.is_bought(),
            Self::Queued
            | Self::Late
            | Self::Pausing { .. }
            | Self::AwaitingFormat { .. }
            | Self::Polling(_)
            | Self::Ending(_)
            | Self::Ended(_) => false,
        }
    }

    /// Whether it waits for its turn, so that nothing is lost by ending it.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Self::Queued | Self::Late | Self::Pausing { .. } | Self::AwaitingFormat { .. })
    }

    /// Whether the upstream has taken it.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, Self::Accepting { .. } | Self::Polling(_) | Self::Collecting(_))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// Returns the purchase that is polled, or whose pictures are fetched.
    pub(super) fn polled(&self) -> Option<&Accepted> {
        if let Self::Polling(accepted) = self { Some(accepted) } else { None }
    }

    /// Returns the end that is journalled, or being journalled.
    pub(super) fn end(&self) -> Option<&PurchaseEnd> {
        if let Self::Ending(PendingEnd { end, .. }) | Self::Ended(end) = self { Some(end) } else { None }
    }

    /// Returns the upstream's id, once it is journalled.
    pub(super) fn upstream(&self) -> Option<&UpstreamId> {
        if let Self::Polling(accepted) = self {
            Some(&accepted.poll.handle.id)
        } else if let Self::Ending(PendingEnd { upstream, .. }) | Self::Ended(PurchaseEnd::Pictures { upstream, .. }) =
            self
        {
            upstream.as_ref()
        } else {
            None
        }
    }
}

impl PurchaseEnd {
    pub(super) fn is_bought(&self) -> bool {
        match self {
            Self::Pictures { .. } | Self::NotRestored(_) => true,
            Self::Failure(failure) => failure.may_have_been_bought(),
        }
    }

    /// Whether it has pictures that were made without looking at any of its input pictures, of this number.
    pub(super) fn missed_inputs(&self, inputs: u8) -> bool {
        matches!(self, Self::Pictures { usage: Some(usage), .. } if usage.missed_inputs(inputs))
    }

    /// Returns its pictures; `inputs` is the number of its input pictures.
    pub(super) fn result(&self, inputs: u8) -> Option<PurchaseResult> {
        match self {
            Self::Pictures { pictures, usage, at, .. } => {
                let inputs_unseen = self.missed_inputs(inputs);
                Some(PurchaseResult { pictures: pictures.clone(), usage: *usage, inputs_unseen, resolved: *at })
            }
            Self::Failure(_) | Self::NotRestored(_) => None,
        }
    }
}
