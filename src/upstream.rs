//! The calls to the upstream. This module alone holds the upstream keys.
//!
//! The upstream has three APIs ([`ApiKind`]); each has a file in `apis` for its bodies and answers. What they share is in
//! [`exchange`] (HTTP clients, the last byte that is held back, bounds, timeouts) and [`answer`] (ids, states, outputs, usage
//! and errors; what an answer means for the purchase is in its files `submit` and `poll`).
//!
//! Answers of the upstream are hostile input: bounded before they are parsed, parsed tolerantly, and a URL in them never
//! receives the key unless it is on the configured origin.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::budget::{Poll, Pushback, Reservation, Submit};
use crate::input_urls::InputUrlGuards;
use crate::model::{ApiKind, Failure, PictureRequest, UpstreamId, Usage};

mod answer;
mod apis;
mod client;
mod exchange;
pub(crate) mod formats;
mod gptproto;
mod inputs;

#[cfg(fuzzing)]
pub(crate) use apis::fuzz;
pub(crate) use exchange::{EdgeRefusal, ExchangeKind, ExchangeObserver, Observation, QueryAnswer};
use formats::{FormatRefusal, SubmitFormat};
pub(crate) use gptproto::GptProto;

/// The upstream, as the engine uses it.
pub(crate) trait Upstream: Send + Sync + fmt::Debug {
    /// Starts a prediction of `pictures` pictures. It is paid for as soon as the last byte of the request is sent. That byte
    /// is held back until `commit` reports that the journal has recorded the purchase.
    fn submit<'a>(
        &'a self,
        reservation: Reservation<Submit>,
        request: &'a PictureRequest,
        pictures: u8,
        format: &'a SubmitFormat,
        commit: Commit,
    ) -> BoxFuture<'a, Result<Submitted, SubmitError>>;

    /// Asks once for the state of a prediction, with the key that bought it.
    fn poll<'a>(
        &'a self,
        reservation: Reservation<Poll>,
        handle: &'a PurchaseHandle,
    ) -> BoxFuture<'a, Result<Polled, PollError>>;

    /// Opens one output, without the key.
    fn fetch(&self, output: Output)
    -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>>;

    /// Opens a picture that a client gave as an address, without the key, whatever answers.
    fn fetch_link<'a>(
        &'a self,
        address: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError>>;
}

/// Called when all but the last byte of a submit was sent; returns whether the last byte may be sent.
pub(crate) type Commit = Box<dyn FnOnce() -> BoxFuture<'static, bool> + Send>;

/// What is needed to poll a prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PurchaseHandle {
    pub(crate) id: UpstreamId,
    /// The URL that the upstream gave for its result; used only on the configured origin.
    pub(crate) poll_url: Option<String>,
    /// The API that it was bought through and is polled through.
    pub(crate) api_kind: ApiKind,
    /// Keep its input pictures published, where they were sent as URLs.
    pub(crate) input_url_guards: InputUrlGuards,
}

/// The result of a submit that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Submitted {
    Accepted(PurchaseHandle),
    /// Finished at once, as some channels answer.
    Finished {
        handle: Option<PurchaseHandle>,
        finished: Finished,
    },
}

/// A finished prediction, whose pictures can be fetched.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finished {
    pub(crate) outputs: Vec<Output>,
    pub(crate) usage: Option<Usage>,
}

/// One output of a prediction.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Output {
    Url(String),
    Bytes(Bytes),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(_) => f.write_str("Url"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// The answer to a poll.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Polled {
    /// Waiting, working, or an unknown status.
    Working,
    Finished(Finished),
    /// Finished, without any output.
    Empty,
    Failed(Failure),
}

/// Why a submit started no prediction, by what may be done next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SubmitError {
    /// The upstream never received a complete request: retry freely.
    NotSent { message: String },
    /// Nothing was bought: retry after a pause, or with another key.
    Refused { pushback: Pushback, message: String },
    /// Final; nothing was bought, unless the failure says so.
    Rejected(Failure),
    /// The format of the submit is refused; nothing was bought, and another format may be accepted.
    FormatRefused { refusal: FormatRefusal, failure: Failure },
    /// Maybe bought: never send it again.
    Unknown { message: String },
}

/// Why a poll failed. None of these ends a prediction, but for the same moderation several times running.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PollError {
    Refused {
        retry_after: Option<Duration>,
    },
    /// The answer is unusable, or there is none.
    Trouble {
        message: String,
    },
    /// The answer is about another prediction, of this id.
    OtherPrediction {
        id: String,
    },
    /// A refusal, without the status of a task, that speaks of content policy.
    Moderated {
        message: String,
    },
}

impl fmt::Display for PollError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { .. } => f.write_str("the upstream refuses polls for a while (429)"),
            Self::Trouble { message } | Self::Moderated { message } => f.write_str(message),
            Self::OtherPrediction { id } => write!(f, "the answer is about another prediction, {id}"),
        }
    }
}

impl Polled {
    /// Returns the reason of a failed task that blames the way in which its input pictures were sent.
    pub(crate) fn blamed_inputs(&self) -> Option<&str> {
        let Self::Failed(Failure::TaskFailed { message }) = self else { return None };
        answer::error_text::blames_inputs(message).then_some(message)
    }
}

/// Returns whether the reason of a failed task is that a picture could not be fetched from its address.
pub(crate) fn blames_address(reason: &str) -> bool {
    answer::error_text::blames_address(reason)
}

/// Why an output could not be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// The URL is private, not https, or not a URL.
    #[error("the result's URL is not allowed: {0}")]
    Forbidden(String),
    #[error("the result could not be fetched: {0}")]
    Trouble(String),
}
