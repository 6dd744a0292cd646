//! Events that the jobs handle, and effects that they return.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{
    AccountId, Failure, JobId, JobResult, PurchaseId, PurchaseResult, StoredPicture, Timestamp, UpstreamId, Usage, Usd,
};
use crate::polling::latency::LatencyClass;
use crate::storage::journal::{JobRecord, PictureBytes, Record};
use crate::upstream::formats::{FormatChange, SubmitFormat};
use crate::upstream::{Finished, PollError, Polled, PurchaseHandle, SubmitError, Submitted};

/// The circumstances of an event: the time on both clocks, and one random number.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Now {
    /// The time on the monotonic clock: for waits.
    pub(in crate::engine) instant: Instant,
    /// The time on the wall clock: for records.
    pub(in crate::engine) timestamp: Timestamp,
    /// From 0 to 1, at random: spreads pauses, so that purchases that failed together are not tried together.
    pub(in crate::engine) spread: f64,
}

/// What has happened. Each is reported once.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Event {
    /// The records of a step were written, or could not be.
    Journalled { step: Step, outcome: AppendOutcome },
    /// The budget permits a submit with this account.
    Granted { purchase: PurchaseId, account: AccountId },
    /// The budget will not permit a submit: the failure says why.
    NotGranted { purchase: PurchaseId, failure: Failure },
    /// All of a submit but its last byte was sent.
    Uploaded { purchase: PurchaseId },
    /// A submit has ended.
    Submitted { purchase: PurchaseId, result: SubmitResult },
    /// A poll that started at the age `age` of the purchase was answered, or failed.
    Polled { purchase: PurchaseId, age: Duration, result: Result<Polled, PollError> },
    /// A round of fetching has ended.
    Fetched { purchase: PurchaseId, fetched: Fetched },
    /// A request no longer waits for a job that it kept needed.
    WaiterLeft { job: JobId },
    /// The time of [`Jobs::next_timeout`](super::Jobs::next_timeout) has come.
    TimePassed,
    /// The gateway begins to stop: nothing more is bought.
    Draining,
}

/// A step in the life of a job that is taken once its records are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Step {
    /// The job, and the webhook that is notified of its end.
    Intent(JobId),
    /// The last byte of this submit may leave.
    Commit { purchase: PurchaseId, submit: u32 },
    /// A submit had no effect, or its outcome is not waited for.
    Withdrawal(PurchaseId),
    /// The upstream has taken the purchase under an id.
    Acceptance(PurchaseId),
    /// The purchase has ended.
    End(PurchaseId),
}

/// Whether records were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum AppendOutcome {
    /// They are durable.
    Durable,
    /// They are not written; later ones may be.
    NotWritten,
    /// They are not written, and none will be until the disk has space again, or another program unlocks the journal.
    Away,
    /// It is not known whether they are written; the journal accepts no others until a restart.
    Failed,
}

/// How a submit ended.
#[derive(Clone, Debug)]
pub(in crate::engine) struct SubmitResult {
    pub(in crate::engine) result: Result<Submitted, SubmitError>,
    /// When the submit is refused for its key: the accounts that may still be used. Otherwise not looked at.
    pub(in crate::engine) usable_accounts: Vec<AccountId>,
}

/// The result of a round of fetching.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Fetched {
    /// The pictures that are stored, in the order of the outputs.
    pub(in crate::engine) pictures: Vec<StoredPicture>,
    /// The bytes of those that have no file: they are stored with the record of the end.
    pub(in crate::engine) contents: Vec<PictureBytes>,
    /// Why the last output that failed is not stored; one that another round may store comes before an invalid one.
    pub(in crate::engine) trouble: Option<FetchFailure>,
    pub(in crate::engine) usage: Option<Usage>,
    /// The pictures that have a file are certainly on disk.
    pub(in crate::engine) durable: bool,
}

/// Why an output could not be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) enum FetchFailure {
    /// The address, the transfer, or the bytes that were downloaded.
    Upstream(String),
    /// The bytes, which were part of an answer: they stay as they are.
    Invalid(String),
    /// The disk.
    Storage(String),
}

impl std::fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Upstream(problem) | Self::Invalid(problem) | Self::Storage(problem)) = self;
        f.write_str(problem)
    }
}

/// What is to be done. The effects of one event are carried out in their order.
#[derive(Clone, Debug)]
pub(in crate::engine) enum Effect {
    /// Append records, in this order; [`Event::Journalled`] reports whether they are durable.
    Append { records: Vec<Record>, step: Step },
    /// Wait for the budget; [`Event::Granted`] or [`Event::NotGranted`] answers.
    Enqueue { purchase: PurchaseId },
    /// Ask the budget why a purchase has not had its turn in time; [`Event::NotGranted`] answers.
    ExplainDelay { purchase: PurchaseId },
    /// Submit, with all but the last byte; [`Event::Uploaded`] and [`Event::Submitted`] answer.
    Submit { purchase: PurchaseId, pictures: u8, attempt: u32, format: Box<SubmitFormat> },
    /// Send the last byte of a submit, or break the submit off.
    SendLastByte { purchase: PurchaseId, send: bool },
    /// The submit has no answer yet and was not refused: the budget counts it as accepted.
    AssumeAccepted { purchase: PurchaseId, class: Arc<LatencyClass>, age: Duration },
    /// The purchase is submitted no more: leave the queue, and release its inputs.
    EndSubmits { purchase: PurchaseId },
    /// The upstream is done with the purchase, or never took it: release its slot in flight.
    ReleaseInFlight { purchase: PurchaseId },
    /// Poll at the best time; [`Event::Polled`] answers.
    PlanPoll { purchase: PurchaseId, poll: NextPoll },
    /// Learn how long the upstream takes.
    Learn(Completion),
    /// Fetch and store the outputs after a pause; [`Event::Fetched`] answers. `resumable`: a restart would fetch them again.
    Fetch { purchase: PurchaseId, finished: Finished, pause: Duration, resumable: bool },
    /// Show the waiters a change.
    Publish { job: JobId, change: ProgressChange },
    /// The upstream gave a purchase the id of another one, which an operator has to know.
    ReportIdConflict { purchase: PurchaseId, upstream: UpstreamId, other: PurchaseId },
    /// The upstream made more outputs than were asked of a purchase, and they are not fetched: log and count them.
    ReportSurplus { purchase: PurchaseId, asked: u8, surplus: usize },
    /// What is known of request formats has changed: log and count the changes, and store what is known.
    FormatsChanged(Vec<FormatChange>),
    /// Count a lost answer whose purchase is submitted again, and what it may have cost.
    CountLostAnswer { usd: Usd },
    /// Account for a purchase that has ended.
    EndPurchase(Box<EndedPurchase>),
    /// The stored pictures of a purchase were fetched again, or could not be: log and count that.
    EndRefetch { purchase: PurchaseId, upstream: Option<UpstreamId>, result: RefetchResult },
    /// Answer the waiters of a job that has ended, and store its outcome for later requests.
    /// `refetched`: it has ended before, and its stored pictures were fetched again.
    EndJob {
        record: Arc<JobRecord>,
        outcome: Result<Arc<JobResult>, Failure>,
        refetched: bool,
        /// A request waits for it.
        attended: bool,
    },
}

/// The result of fetching the stored pictures of a purchase again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum RefetchResult {
    /// They have the bytes that were stored.
    Restored,
    /// They have other bytes.
    Replaced,
    /// They cannot be had.
    Lost,
}

/// The stage of a live job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum JobStage {
    /// It waits for the budget.
    #[default]
    Queued,
    /// A submit of it is under way.
    Submitting,
    /// The upstream works on it.
    Processing,
}

/// A change that waiters of a job are shown.
#[derive(Clone, Debug)]
pub(in crate::engine) enum ProgressChange {
    Stage(JobStage),
    /// The job is in the journal.
    Recorded,
    /// The upstream's id of one of its purchases.
    Upstream(UpstreamId),
    Result(PurchaseResult),
}

/// What a purchase is polled with, and what the time of the poll is computed from.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::engine) struct NextPoll {
    pub(in crate::engine) handle: PurchaseHandle,
    pub(in crate::engine) account: AccountId,
    /// The class of purchases that take about as long.
    pub(in crate::engine) class: Arc<LatencyClass>,
    /// When the upstream accepted it.
    pub(in crate::engine) accepted: Instant,
    /// The age at which a poll last found it working; zero before.
    pub(in crate::engine) working_at: Duration,
    /// Polls and fetches in a row that failed.
    pub(in crate::engine) troubles: u32,
    /// As soon as the budget allows: it may have been done for long.
    pub(in crate::engine) soon: bool,
}

/// A purchase that was found done for the first time: it ended after it was last found working, and by now. One without polls was
/// answered when it ended.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Completion {
    pub(in crate::engine) class: Arc<LatencyClass>,
    pub(in crate::engine) working_at: Duration,
    pub(in crate::engine) took: Duration,
    pub(in crate::engine) polls: u32,
}

/// A purchase that has ended, for the quota, the metrics and the log.
#[derive(Clone, Debug)]
pub(in crate::engine) struct EndedPurchase {
    pub(in crate::engine) purchase: PurchaseId,
    pub(in crate::engine) record: Arc<JobRecord>,
    pub(in crate::engine) upstream: Option<UpstreamId>,
    /// The number of pictures, or the failure.
    pub(in crate::engine) result: Result<usize, Failure>,
    /// Its pictures were made without looking at the input pictures.
    pub(in crate::engine) inputs_unseen: bool,
    /// Time from its acceptance, or from its submit where that brought the pictures.
    pub(in crate::engine) took: Duration,
    /// What it cost; for a failure, what it may have cost. `None`: the catalogue has no price.
    pub(in crate::engine) usd: Option<Usd>,
    /// Its outcome is unknown by an earlier submit alone, whose lost answer is counted already.
    pub(in crate::engine) counted: bool,
    /// What is charged to the client's quota: pictures and money.
    pub(in crate::engine) charge: (usize, Usd),
}
