//! How predictions are asked for. The only holder of the upstream key, and the only builder of HTTP clients.
//!
//! The upstream has three faces ([`ApiKind`]); each has a file that knows its bodies and its answers. What they share (clients,
//! the last byte held back, bounds, time-outs, what an answer means for the purchase) is in [`exchange`] and `classify`.
//!
//! Upstream answers are hostile input: bounded before they are parsed, parsed tolerantly, and never trusted with an
//! address to send the key to.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::budget::{Poll, Pushback, Reservation, Submit};
use crate::input_urls::InputUrlGuards;
use crate::model::{AccountId, ApiKind, Failure, PictureRequest, Timestamp, UpstreamId, Usage};

mod classify;
mod client;
mod exchange;
mod gate;
mod gptproto;
mod inputs;
mod openai;
mod prediction;
mod retry_after;
mod unified;
mod wire;

pub(crate) use gptproto::GptProto;
#[cfg(fuzzing)]
pub(crate) use wire::fuzz;

/// The face of the upstream that the engine sees.
pub(crate) trait Upstream: Send + Sync + fmt::Debug {
    /// Starts a prediction of `pictures` pictures. It is paid for from the moment the last byte of the request leaves,
    /// and that byte is held back until `commit` says that the journal knows.
    fn submit<'a>(
        &'a self,
        reservation: Reservation<Submit>,
        request: &'a PictureRequest,
        pictures: u8,
        commit: Commit,
    ) -> BoxFuture<'a, Result<Submitted, SubmitError>>;

    /// Asks once how a prediction stands, with the key that bought it.
    fn poll<'a>(
        &'a self,
        reservation: Reservation<Poll>,
        handle: &'a PurchaseHandle,
    ) -> BoxFuture<'a, Result<Polled, PollError>>;

    /// Opens one output. Never with the key.
    fn fetch(&self, output: Output)
    -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>>;

    /// Asks for the list of models, which costs nothing, to learn whether an account's key is good.
    fn check_key<'a>(&'a self, account: &'a AccountId) -> BoxFuture<'a, KeyCheck>;
}

/// Called when all but the last byte of a submit has left; returns whether the last byte may follow.
pub(crate) type Commit = Box<dyn FnOnce() -> BoxFuture<'static, bool> + Send>;

/// What is needed to ask for a prediction later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PurchaseHandle {
    pub(crate) id: UpstreamId,
    /// The address the upstream gave for its result; used only on the configured origin.
    pub(crate) poll_url: Option<String>,
    /// The face it was bought at, and is asked for at.
    pub(crate) api_kind: ApiKind,
    /// Its input pictures, where they are lent by address: for as long as somebody holds the handle.
    pub(crate) input_url_guards: InputUrlGuards,
}

/// The answer to a submit that was taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Submitted {
    Accepted(PurchaseHandle),
    /// Done at once, as some channels answer.
    Finished {
        handle: Option<PurchaseHandle>,
        finished: Finished,
    },
}

/// Pictures are ready to be fetched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finished {
    pub(crate) outputs: Vec<Output>,
    pub(crate) usage: Option<Usage>,
}

/// One output of a prediction, as the upstream put it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Output {
    Address(String),
    Bytes(Bytes),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(_) => f.write_str("Address"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// The answer to a poll.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Polled {
    /// Waiting, working, or a word nobody knows.
    Working,
    Finished(Finished),
    /// It said that it is done, and showed nothing.
    Empty,
    Failed(Failure),
}

/// Why a submit brought no prediction, by what may be done next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SubmitError {
    /// The upstream never held a complete request: try again freely.
    NotSent { message: String },
    /// Nothing was bought: try again after a pause, or with another key.
    Refused { pushback: Pushback, message: String },
    /// Final; nothing was bought.
    Rejected(Failure),
    /// Maybe bought. Never resend.
    Unknown { message: String },
}

/// Why a poll brought nothing. None of these ends a prediction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PollError {
    Refused { retry_after: Option<Duration> },
    Trouble { message: String },
}

/// Why an output could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// An address that is not fetched: private, not https, or not an address.
    #[error("the result's address is not one to fetch: {0}")]
    Forbidden(String),
    #[error("the result could not be fetched: {0}")]
    Trouble(String),
}

/// What asking for the models told about the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyCheck {
    /// With the time by the upstream's clock, where it said so.
    Good {
        upstream_time: Option<Timestamp>,
    },
    Refused(String),
    /// The upstream could not be asked; that says nothing about the key.
    Unclear(String),
}
